//! What a request gets that is not let in, and why a connection did not come about.
//! Does not decide it; that is `checks` and the application.

use std::io;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::handshake::BuildError;
use crate::handshake::server::HandshakeError;

/// The answer to a request that is not let in.
#[derive(Clone, Debug)]
pub struct Refusal(Box<Answer>);

#[derive(Clone, Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Refusal {
    /// A refusal with this status, whose body is the status's usual phrase.
    pub fn new(status: StatusCode) -> Self {
        let phrase = status.canonical_reason().unwrap_or("refused");
        let body = Bytes::from_static(phrase.as_bytes());
        Self(Box::new(Answer { status, headers: HeaderMap::new(), body }))
    }

    /// 401: who the client is was not said, or not proven.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED)
    }

    /// 403: the client may not.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN)
    }

    /// Adds a header, such as `WWW-Authenticate` or `Retry-After`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// The body: a plain text that says why, unless a `Content-Type` is set.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.0.body = body.into();
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The response, after which the connection is closed.
    pub fn into_response(self) -> Response<Bytes> {
        let Answer { status, mut headers, body } = *self.0;
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.entry(CONTENT_TYPE).or_insert(text);
        headers.entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// The response as it travels.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let (parts, body) = self.into_response().into_parts();
        let phrase = parts.status.canonical_reason().unwrap_or_default();
        let mut out = format!("HTTP/1.1 {} {phrase}\r\n", parts.status.as_u16()).into_bytes();
        for (name, value) in &parts.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        out.extend_from_slice(&body);
        out
    }
}

impl From<HandshakeError> for Refusal {
    fn from(error: HandshakeError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut refusal = Self::new(status).body(error.to_string());
        if let Some((name, value)) = error.header() {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
            refusal = refusal.header(name, HeaderValue::from_static(value));
        }
        if matches!(error, HandshakeError::UpgradeRequired) {
            // RFC 9110 §7.8: who sends Upgrade also names it in Connection.
            refusal = refusal.header(CONNECTION, HeaderValue::from_static("close, Upgrade"));
        }
        refusal
    }
}

/// Why a request did not become a connection. Where the client could be told, it has been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The request is no WebSocket handshake, or not a valid one.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The path, the origin, the application's own check, or the server's closing.
    #[error("refused with status {}: {}", .0.0.status, String::from_utf8_lossy(&.0.0.body))]
    Refused(Refusal),
    /// The application chose a subprotocol or headers that cannot be sent; the client got a 500.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The handshake took longer than its time.
    #[error("the handshake took too long")]
    Timeout,
    /// The stream ended before the request did.
    #[error("the client left before its request was complete")]
    Left,
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
}

impl From<Refusal> for AcceptError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl AcceptError {
    /// What the client gets; `None` where there is nobody who could get anything.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Handshake(error) => Some((*error).into()),
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::Build(_) => Some(
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR).body("the handshake has failed"),
            ),
            Self::Timeout => Some(Refusal::new(StatusCode::REQUEST_TIMEOUT).body(self.to_string())),
            Self::Left | Self::Io(_) => None,
        }
    }
}
