//! Upgrades of requests that hyper serves: the answer, and the stream that hyper hands over.
//! Does not know which requests are let in, nor what runs hyper.

use std::fmt;
use std::mem;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::checks::Admitted;
use super::{AcceptError, Refusal, Server};
use crate::handshake::head::{HeadLimits, HeadReader};
use crate::net::head::header_map;
use crate::net::{AnyStream, Options, WebSocket, trace};

/// A connection that begins once hyper has sent the response: to be awaited in a task of its own,
/// after the response was returned.
#[must_use = "the connection begins when it is awaited"]
pub struct Upgrade {
    on_upgrade: OnUpgrade,
    admitted: Admitted,
    options: Options,
}

impl Server {
    /// Checks a request that hyper has read, and makes the response to it. With a 101 comes what
    /// the connection is had from; any other response is a refusal that says why.
    ///
    /// hyper must serve its connections with upgrades enabled (axum does); else the answer is 501.
    /// The size of the request and the time until it is here are hyper's to bound, the time that
    /// the checks take is the [server's](super::ServerBuilder::handshake_timeout). Small messages
    /// leave at once (`TCP_NODELAY`).
    pub async fn upgrade<B>(&self, request: &mut Request<B>) -> (Response<Bytes>, Option<Upgrade>) {
        let mut bare = Request::new(());
        *bare.method_mut() = request.method().clone();
        *bare.uri_mut() = request.uri().clone();
        *bare.version_mut() = request.version();
        *bare.headers_mut() = mem::take(request.headers_mut());
        *bare.extensions_mut() = mem::take(request.extensions_mut());
        let upgraded = self.upgrade_bare(&mut bare).await;
        *request.headers_mut() = mem::take(bare.headers_mut());
        *request.extensions_mut() = mem::take(bare.extensions_mut());
        match upgraded {
            Ok((response, upgrade)) => (response, Some(upgrade)),
            Err(error) => {
                trace::refused(&error);
                let refusal =
                    error.refusal().unwrap_or_else(|| Refusal::new(StatusCode::BAD_REQUEST));
                (refusal.into_response(), None)
            }
        }
    }

    async fn upgrade_bare(
        &self,
        request: &mut Request<()>,
    ) -> Result<(Response<Bytes>, Upgrade), AcceptError> {
        let admitting = timeout(self.config().handshake_timeout, self.admit(request));
        let admitted = admitting.await.unwrap_or(Err(AcceptError::Timeout))?;
        let Some(on_upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
            let why = "this server cannot upgrade connections";
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED).body(why).into());
        };
        trace::accepted(admitted.protocol.as_deref());
        let response = response(&admitted.response);
        Ok((response, Upgrade { on_upgrade, admitted, options: self.config().options }))
    }
}

/// The 101 in the types of the `http` crate.
fn response(bytes: &[u8]) -> Response<Bytes> {
    let limits = HeadLimits { bytes_max: usize::MAX, headers_max: bytes.len() };
    let mut reader = HeadReader::new(limits);
    let head = reader.push(bytes).and_then(|_| reader.response());
    let headers = head.and_then(|head| header_map(&head.headers));
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers.expect("our own response is HTTP");
    response
}

impl IntoFuture for Upgrade {
    type Output = Result<WebSocket<AnyStream>, hyper::Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Errors
    ///
    /// The client went away before the response reached it.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { on_upgrade, admitted, options } = self;
            let (stream, early) = take_back(on_upgrade.await?);
            let protocol = admitted.protocol.as_deref();
            let websocket =
                WebSocket::from_connection(stream, admitted.connection, early, &options);
            Ok(websocket.with_protocol(protocol))
        })
    }
}

/// The bare TCP stream where it is one, so that neither hyper's buffers nor a virtual call stay in
/// the way; and what came behind the request.
fn take_back(upgraded: Upgraded) -> (AnyStream, Vec<u8>) {
    type Tcp = TokioIo<TcpStream>;

    let (tcp, early) = match auto::upgrade::downcast::<Tcp>(upgraded) {
        Ok(parts) => (parts.io.into_inner(), parts.read_buf),
        // Served by hyper's http1 connection itself, without hyper-util's.
        Err(upgraded) => match upgraded.downcast::<Tcp>() {
            Ok(parts) => (parts.io.into_inner(), parts.read_buf),
            Err(upgraded) => return (AnyStream::boxed(TokioIo::new(upgraded)), Vec::new()),
        },
    };
    // A socket that is gone already shows when it is read.
    let _ = tcp.set_nodelay(true);
    // Copied: even an empty buffer of hyper's owns 8 KiB.
    (tcp.into(), early.to_vec())
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upgrade").field("admitted", &self.admitted).finish_non_exhaustive()
    }
}
