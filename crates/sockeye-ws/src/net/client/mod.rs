//! A WebSocket client: what is asked for, of whom, and by which way.
//! Does not do it; that is `connect`.

mod connect;
mod error;
mod proxy;
mod response;
#[cfg(feature = "rustls")]
mod tls;

use std::time::Duration;

use crate::connection::Limits;
use crate::deflate;
use crate::handshake::head::HeadLimits;
use crate::handshake::{Url, UrlError};
use crate::net::{AnyStream, KeepAlive, Options, WebSocket};

pub use error::{ConnectError, ProxyError, UnexpectedResponse};

/// Connects to a `ws:` or `wss:` URL with all options at their defaults.
///
/// # Errors
///
/// [`ConnectError`] says what is wrong.
///
/// # Cancel safety
///
/// Dropped, it leaves nothing behind but a closed stream.
pub async fn connect(url: &str) -> Result<WebSocket<AnyStream>, ConnectError> {
    Client::new(url).connect().await
}

/// A client of one server, with its options; it connects as often as it is told to.
#[derive(Clone, Debug)]
#[must_use = "a client does nothing until it connects"]
pub struct Client {
    url: Result<Url, UrlError>,
    origin: Option<String>,
    protocols: Vec<String>,
    headers: Vec<(String, String)>,
    handshake_timeout: Duration,
    redirects_max: u32,
    proxy: Option<Result<Url, UrlError>>,
    #[cfg(feature = "rustls")]
    tls: Option<tls::Config>,
    head_limits: HeadLimits,
    body_bytes_max: usize,
    body_timeout: Duration,
    deflate: Option<deflate::Options>,
    limits: Limits,
    options: Options,
}

impl Client {
    /// A client of this URL: `ws:`, `wss:`, or `http:` and `https:`, which mean the same. User and
    /// password in it, percent-encoded, become an `Authorization` header. What is wrong with the
    /// URL is told when it connects.
    pub fn new(url: &str) -> Self {
        Self {
            url: Url::parse(url),
            origin: None,
            protocols: Vec::new(),
            headers: Vec::new(),
            handshake_timeout: Duration::from_secs(30),
            redirects_max: 0,
            proxy: None,
            #[cfg(feature = "rustls")]
            tls: None,
            head_limits: HeadLimits::default(),
            body_bytes_max: 64 << 10,
            body_timeout: Duration::from_secs(2),
            deflate: None,
            limits: Limits::default(),
            options: Options::default(),
        }
    }

    /// Names an origin, as a browser does. Default: none.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Offers a subprotocol; the preferred one first. The server must then choose one of those
    /// offered, else connecting fails. Default: none.
    pub fn protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocols.push(protocol.into());
        self
    }

    /// Adds a header to the request. An `Authorization` replaces the one of the URL; that and
    /// `Cookie` go to no other server that a redirect names. Default: none.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Bounds all that [`connect`](Self::connect) does: the name looked up, connections, TLS,
    /// requests and answers, redirects. Default: 30 seconds.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Bounds the redirects (301, 302, 303, 307, 308) that are followed. With 0 a redirect is an
    /// [unexpected response](ConnectError::Unexpected). Default: 0.
    pub fn redirects_max(mut self, redirects_max: u32) -> Self {
        self.redirects_max = redirects_max;
        self
    }

    /// Connects through an HTTP proxy, by `CONNECT`: `http://user:password@host:port`. What the
    /// environment says of proxies is not looked at. Default: none.
    pub fn proxy(mut self, url: &str) -> Self {
        self.proxy = Some(Url::parse(url));
        self
    }

    /// Uses this configuration for `wss:`, with roots, client certificates and a provider of its
    /// own. Default: with the feature `aws-lc-rs` or `ring`, the operating system's roots; with
    /// `rustls` alone there is none.
    #[cfg(feature = "rustls")]
    pub fn tls(mut self, config: std::sync::Arc<tokio_rustls::rustls::ClientConfig>) -> Self {
        self.tls = Some(tls::Config(config));
        self
    }

    /// Bounds the head of a response. Default: 16 KiB, 100 headers.
    pub fn head_limits(mut self, limits: HeadLimits) -> Self {
        self.head_limits = limits;
        self
    }

    /// Bounds the body that is kept of an [unexpected response](ConnectError::Unexpected), in
    /// bytes; what is longer is cut off. Default: 64 KiB.
    pub fn body_bytes_max(mut self, bytes_max: usize) -> Self {
        self.body_bytes_max = bytes_max;
        self
    }

    /// Bounds how long the body of an [unexpected response](ConnectError::Unexpected), or of a
    /// redirect, is waited for; what has arrived by then is kept. It is a part of
    /// [`handshake_timeout`](Self::handshake_timeout), and useful where it is shorter. Default:
    /// 2 seconds.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// Offers to compress messages (permessage-deflate). Whether the server accepts that or not,
    /// the connection is had. Default: none. (Node's `ws` offers it unless told otherwise.)
    pub fn deflate(mut self, options: deflate::Options) -> Self {
        self.deflate = Some(options);
        self
    }

    /// Bounds what the server may make a connection hold. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Bounds what waits to be sent on a connection, in bytes
    /// ([`Options::write_buffer_bytes_max`]). Default: 128 KiB.
    pub fn write_buffer_bytes_max(mut self, bytes_max: usize) -> Self {
        self.options.write_buffer_bytes_max = bytes_max;
        self
    }

    /// Pings the server when it is silent, and gives it up if it stays so. Default: none.
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.options.keep_alive = Some(keep_alive);
        self
    }
}
