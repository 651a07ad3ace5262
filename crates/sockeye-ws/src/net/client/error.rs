//! Why a client has no connection: the URL, the way there, or the server's answer.
//! Does not find it out; that is `connect`.

use std::io;

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderMap;

use crate::handshake::client::ResponseError;
use crate::handshake::{BuildError, UrlError};

/// Why a client could not connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is none that can be connected to.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A subprotocol or a header cannot be sent.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The stream could not be had, or failed before the handshake was done.
    #[error("could not connect: {0}")]
    Io(#[from] io::Error),
    /// TLS could not be set up; among others: the server's certificate is not trusted.
    #[error("TLS has failed: {0}")]
    Tls(#[source] io::Error),
    /// The URL, or a redirect, asks for TLS and there is no configuration for it: a feature is
    /// missing, or `Client::tls`. It is found before a connection to that server is opened.
    #[error("the URL asks for TLS, which is not configured")]
    TlsMissing,
    /// The proxy did not open a way to the server.
    #[error("the proxy {0}")]
    Proxy(ProxyError),
    /// All of it took longer than [`handshake_timeout`](super::Client::handshake_timeout).
    #[error("connecting took too long")]
    Timeout,
    /// The server ended the stream before its answer was complete.
    #[error("the server ended the stream before it answered")]
    Left,
    /// The server answered with another status than 101.
    #[error("the server answered with status {} instead of 101", .0.status)]
    Unexpected(Box<UnexpectedResponse>),
    /// More redirects than [`redirects_max`](super::Client::redirects_max), which was not 0.
    #[error("the server redirects more often than the limit")]
    TooManyRedirects,
    /// A redirect to a URL that cannot be connected to.
    #[error("the server redirects to where there is no way: {0}")]
    Redirect(#[source] UrlError),
    /// The server's 101 is not what RFC 6455 asks for.
    #[error(transparent)]
    Response(#[from] ResponseError),
}

/// A response that is no 101: most often the server's reason for refusing.
#[derive(Clone, Debug)]
pub struct UnexpectedResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as far as it arrived within [`body_timeout`](super::Client::body_timeout) and
    /// fits [`body_bytes_max`](super::Client::body_bytes_max).
    pub body: Bytes,
}

/// What went wrong with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The proxy's URL is not `http://host:port`.
    #[error("has an invalid URL")]
    Url,
    /// Another status than 2xx; 407 asks for credentials.
    #[error("answered with status {0}")]
    Status(u16),
    /// No answer, or none that is HTTP.
    #[error("gave no valid answer")]
    Answer,
}
