//! The options of a server, with their units and defaults.
//! Does not apply them; that is `checks`.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use http::Request;
use http::header::HeaderMap;

use super::{Refusal, Server};
use crate::connection::Limits;
use crate::deflate;
use crate::handshake::head::HeadLimits;
use crate::net::{KeepAlive, Options};

/// What an asynchronous check returns.
pub type VerifyFuture<'r> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'r>>;

type Origin = dyn Fn(Option<&str>) -> bool + Send + Sync;
type Verify = dyn for<'r> Fn(&'r Request<()>) -> VerifyFuture<'r> + Send + Sync;
type ChooseProtocol = dyn Fn(&[&str], &Request<()>) -> Option<String> + Send + Sync;
type ResponseHeaders = dyn Fn(&Request<()>, &mut HeaderMap) + Send + Sync;

pub(super) struct Config {
    pub(super) path: Option<String>,
    pub(super) origin: Option<Box<Origin>>,
    pub(super) verify: Option<Box<Verify>>,
    pub(super) protocols: Vec<String>,
    pub(super) choose_protocol: Option<Box<ChooseProtocol>>,
    pub(super) response_headers: Option<Box<ResponseHeaders>>,
    pub(super) handshake_timeout: Duration,
    pub(super) refusal_timeout: Duration,
    pub(super) head_limits: HeadLimits,
    pub(super) deflate: Option<deflate::Options>,
    pub(super) limits: Limits,
    pub(super) options: Options,
}

/// The options of a [`Server`].
#[must_use = "a builder does nothing until it builds"]
#[derive(Debug)]
pub struct ServerBuilder(Config);

impl Default for ServerBuilder {
    fn default() -> Self {
        Self(Config {
            path: None,
            origin: None,
            verify: None,
            protocols: Vec::new(),
            choose_protocol: None,
            response_headers: None,
            handshake_timeout: Duration::from_secs(10),
            refusal_timeout: Duration::from_secs(1),
            head_limits: HeadLimits::default(),
            deflate: None,
            limits: Limits::default(),
            options: Options::default(),
        })
    }
}

impl ServerBuilder {
    /// The server.
    pub fn build(self) -> Server {
        Server::from_config(self.0)
    }

    /// Serves this path only, compared byte by byte without the query; others get 400. Default:
    /// all paths.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.0.path = Some(path.into());
        self
    }

    /// Lets pages of these origins in only, such as `https://example.com`; others get 403.
    /// Browsers name the origin of the page in every handshake, and no page can change it: without
    /// this check any page can connect with the cookies of its visitor. Requests without an origin,
    /// which browsers do not send, are let in. Default: all origins.
    pub fn origins<O: Into<String>>(self, origins: impl IntoIterator<Item = O>) -> Self {
        let origins: Vec<String> = origins.into_iter().map(Into::into).collect();
        let allows = move |origin: &str| origins.iter().any(|own| own.eq_ignore_ascii_case(origin));
        self.origin_check(move |origin| origin.is_none_or(&allows))
    }

    /// Lets those in of whose origin this returns true, `None` being a request without one; others
    /// get 403. Replaces [`origins`](Self::origins).
    pub fn origin_check(
        mut self,
        allows: impl Fn(Option<&str>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.0.origin = Some(Box::new(allows));
        self
    }

    /// Looks at each valid request and refuses it with a status, headers and a body of its own, or
    /// lets it in. Default: all are let in.
    pub fn verify(
        self,
        verify: impl Fn(&Request<()>) -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.verify_async(move |request| {
            let verdict = verify(request);
            Box::pin(async { verdict })
        })
    }

    /// [`verify`](Self::verify) that may wait, for a database for instance; the time counts to
    /// [`handshake_timeout`](Self::handshake_timeout).
    ///
    /// ```
    /// # use sockeye_ws::net::{Refusal, Server};
    /// # async fn is_known(token: &[u8]) -> bool { !token.is_empty() }
    /// let server = Server::builder().verify_async(|request| {
    ///     Box::pin(async {
    ///         let token = request.headers().get("authorization");
    ///         let token = token.ok_or_else(Refusal::unauthorized)?;
    ///         let is_known = is_known(token.as_bytes()).await;
    ///         if is_known { Ok(()) } else { Err(Refusal::forbidden().body("unknown token")) }
    ///     })
    /// });
    /// # server.build();
    /// ```
    pub fn verify_async(
        mut self,
        verify: impl for<'r> Fn(&'r Request<()>) -> VerifyFuture<'r> + Send + Sync + 'static,
    ) -> Self {
        self.0.verify = Some(Box::new(verify));
        self
    }

    /// Names the subprotocols that are spoken here. Of those a client offers, the first that is
    /// among them is chosen; if none is, the response names none, and most clients give up then.
    /// Default: none.
    ///
    /// (Node's `ws` chooses the client's first, whatever it is; a server should not claim to speak
    /// what it has never heard of.)
    pub fn protocols<P: Into<String>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.0.protocols = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Chooses among the subprotocols that a client offers, the preferred one first. What is chosen
    /// must be one of them; else the client gets a 500. Replaces [`protocols`](Self::protocols).
    pub fn choose_protocol(
        mut self,
        choose: impl Fn(&[&str], &Request<()>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.0.choose_protocol = Some(Box::new(choose));
        self
    }

    /// Adds headers to the 101 response. Those of the handshake itself cannot be set: the client
    /// gets a 500 then. Default: none.
    pub fn response_headers(
        mut self,
        add: impl Fn(&Request<()>, &mut HeaderMap) + Send + Sync + 'static,
    ) -> Self {
        self.0.response_headers = Some(Box::new(add));
        self
    }

    /// Bounds the handshake, from the first byte awaited to the last one written; then the client
    /// gets 408. Of a request that hyper serves it bounds the checks; reading it and writing the
    /// answer are bounded by hyper's own options. Default: 10 seconds.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.0.handshake_timeout = timeout;
        self
    }

    /// Bounds how long a refusal may take to leave and its client to end the stream; then the
    /// stream is closed, and who has not taken the refusal does without. Not for requests that
    /// hyper serves. Default: 1 second.
    pub fn refusal_timeout(mut self, timeout: Duration) -> Self {
        self.0.refusal_timeout = timeout;
        self
    }

    /// Bounds the head of a request; a larger one gets 431. Not for requests that hyper serves.
    /// Default: 16 KiB, 100 headers.
    pub fn head_limits(mut self, limits: HeadLimits) -> Self {
        self.0.head_limits = limits;
        self
    }

    /// Compresses messages (permessage-deflate) to and from clients that offer it in a way that
    /// these options can meet; others are served uncompressed. Default: none.
    pub fn deflate(mut self, options: deflate::Options) -> Self {
        self.0.deflate = Some(options);
        self
    }

    /// Bounds what a peer may make a connection hold. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// Bounds what waits to be sent on a connection, in bytes
    /// ([`Options::write_buffer_bytes_max`]). Default: 128 KiB.
    pub fn write_buffer_bytes_max(mut self, bytes_max: usize) -> Self {
        self.0.options.write_buffer_bytes_max = bytes_max;
        self
    }

    /// Pings peers that are silent, and gives those up that stay so. Default: none.
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.0.options.keep_alive = Some(keep_alive);
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("path", &self.path)
            .field("protocols", &self.protocols)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("refusal_timeout", &self.refusal_timeout)
            .field("head_limits", &self.head_limits)
            .field("deflate", &self.deflate)
            .field("limits", &self.limits)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
