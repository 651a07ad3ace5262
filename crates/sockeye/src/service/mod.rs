//! The tower layer and service: which requests are the server's, and what of them is answered
//! here. Does not know packets; a session's requests go to its connection's task.

mod polling;
mod websocket;

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use http_body::Body;
use http_body_util::{Either, Full};
use sockeye_proto::engine::Transport;
use sockeye_proto::engine::{Query, RequestError, RequestView, SessionView, Verified, verify};
use tower_layer::Layer;
use tower_service::Service;

use crate::cors::Verdict;
use crate::handshake::Handshake;
use crate::server::Server;

/// The peer's address, as a request extension: insert it where nothing else tells the service
/// ([`Handshake::address`]).
#[derive(Clone, Copy, Debug)]
pub struct PeerAddr(pub SocketAddr);

/// Puts the server in front of another service; made by [`Server::layer`].
#[derive(Clone, Debug)]
pub struct SocketIoLayer {
    server: Server,
}

impl SocketIoLayer {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

impl<S> Layer<S> for SocketIoLayer {
    type Service = SocketIoService<S>;

    fn layer(&self, inner: S) -> SocketIoService<S> {
        SocketIoService::new(inner, self.server.clone())
    }
}

/// Answers Socket.IO's requests and hands the others on; made by [`Server::layer`] and
/// [`Server::service`].
#[derive(Clone, Debug)]
pub struct SocketIoService<S> {
    inner: S,
    server: Server,
}

impl<S> SocketIoService<S> {
    pub(crate) fn new(inner: S, server: Server) -> Self {
        Self { inner, server }
    }
}

type OwnBody = Full<Bytes>;
type Answer = Response<OwnBody>;

impl<S, B, R> Service<Request<B>> for SocketIoService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Either<OwnBody, R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_below(request.uri().path(), &self.server.config().path) {
            ResponseFuture::Own(Box::pin(answer(self.server.clone(), request)))
        } else {
            ResponseFuture::Inner(Box::pin(self.inner.call(request)))
        }
    }
}

/// The future of [`SocketIoService`].
pub enum ResponseFuture<F> {
    #[doc(hidden)]
    Own(Pin<Box<dyn Future<Output = Answer> + Send>>),
    #[doc(hidden)]
    Inner(Pin<Box<F>>),
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture")
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Either<OwnBody, R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Own(answer) => {
                answer.as_mut().poll(cx).map(|answer| Ok(answer.map(Either::Left)))
            }
            Self::Inner(inner) => {
                inner.as_mut().poll(cx).map_ok(|response| response.map(Either::Right))
            }
        }
    }
}

/// What stands behind [`Server::service`]: 404 for everything.
#[derive(Clone, Copy, Debug)]
pub struct NotFound;

impl<B> Service<Request<B>> for NotFound {
    type Response = Response<OwnBody>;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(plain(StatusCode::NOT_FOUND, "")))
    }
}

/// `path` ends with a slash; the request's may leave that one out.
fn is_below(request: &str, path: &str) -> bool {
    request.starts_with(path) || path.strip_suffix('/') == Some(request)
}

/// A request that has been checked.
struct Checked {
    server: Server,
    parts: request::Parts,
    is_cross_origin: bool,
}

impl Checked {
    fn handshake(&self, address: Option<SocketAddr>) -> Arc<Handshake> {
        let address = address.or_else(|| peer_address(&self.parts));
        Arc::new(Handshake::new(&self.parts, address, self.is_cross_origin))
    }
}

async fn answer<B>(server: Server, request: Request<B>) -> Answer
where
    B: Body + Send + Unpin,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    let cors = server.config().cors.clone();
    match cors.check(&parts.headers) {
        // Checked on every request, also where a session is named: a page of another origin must
        // not speak for a session whose id has leaked.
        Verdict::Denied => refuse(RequestError::Forbidden, is_upgrade(&parts.headers)),
        Verdict::SameOrigin => dispatch(server, parts, body, false).await,
        Verdict::Allowed(origin) => {
            let mut answer = if parts.method == Method::OPTIONS {
                let mut answer = plain(StatusCode::NO_CONTENT, "");
                cors.write_preflight_headers(&parts.headers, answer.headers_mut());
                answer
            } else {
                dispatch(server, parts, body, true).await
            };
            cors.write_headers(&origin, answer.headers_mut());
            answer
        }
    }
}

async fn dispatch<B>(server: Server, parts: request::Parts, body: B, cross: bool) -> Answer
where
    B: Body + Send + Unpin,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let is_upgrade = is_upgrade(&parts.headers);
    let verified = {
        let query = Query::parse(parts.uri.query().unwrap_or(""));
        let view = RequestView {
            query: &query,
            method: parts.method.as_str(),
            origin: parts.headers.get(header::ORIGIN).map(HeaderValue::as_bytes),
            is_upgrade,
            transports: &server.config().transports,
        };
        verify(&view, |id| {
            let polling = server.session(id)?.outbox().is_polling();
            let transport = if polling { Transport::Polling } else { Transport::WebSocket };
            Some(SessionView { transport })
        })
    };
    let checked = Checked { server, parts, is_cross_origin: cross };
    match verified {
        Err(error) => refuse(error, is_upgrade),
        Ok(Verified::Handshake(_)) if checked.server.is_shutting_down() => busy("shutting down"),
        Ok(Verified::Handshake(_)) if !checked.server.has_room() => busy("too many connections"),
        Ok(Verified::Handshake(Transport::Polling)) => polling::open(checked).await,
        Ok(Verified::Handshake(Transport::WebSocket)) => websocket::open(checked),
        Ok(Verified::Session(id, Transport::WebSocket)) => websocket::upgrade(checked, &id),
        Ok(Verified::Session(id, Transport::Polling)) => {
            let Some(peer) = checked.server.session(&id) else {
                return refuse(RequestError::SessionUnknown, false);
            };
            match checked.parts.method {
                Method::GET => polling::get(&peer).await,
                Method::POST => polling::post(&checked, &peer, body).await,
                // Node's answer to a method that a session does not have.
                _ => plain(StatusCode::INTERNAL_SERVER_ERROR, ""),
            }
        }
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn peer_address(parts: &request::Parts) -> Option<SocketAddr> {
    let own = parts.extensions.get::<PeerAddr>().map(|address| address.0);
    #[cfg(feature = "axum")]
    let own = own.or_else(|| {
        let info = parts.extensions.get::<axum::extract::ConnectInfo<SocketAddr>>();
        info.map(|info| info.0)
    });
    own
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

fn busy(why: &'static str) -> Answer {
    let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, why);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}

fn refuse(error: RequestError, is_upgrade: bool) -> Answer {
    let status = StatusCode::from_u16(error.status(is_upgrade)).expect("a status of the protocol");
    let (kind, body) = if is_upgrade {
        ("text/html", error.to_string())
    } else {
        ("application/json", error.body())
    };
    let mut answer = plain(status, body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if is_upgrade {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
