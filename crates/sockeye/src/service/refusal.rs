//! Requests that are not served: what the client is told, and what the application is.
//! Does not know what was wrong with which request; whoever found it says so.

use std::borrow::Cow;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use sockeye_proto::engine::{BadRequest, Query, RequestError, Revision};
use sockeye_ws::handshake::server::HandshakeError;

use super::{Answer, plain};
use crate::hooks::{ConnectionError, ConnectionErrorContext, Refusal};

/// After how many seconds a client may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Why a request is not served.
pub(super) enum Refused {
    /// It breaks a rule of Engine.IO.
    Request(RequestError),
    /// A page of another origin made it.
    CrossOrigin,
    /// The application does not want this client.
    Refusal(Refusal),
    /// The client speaks another revision.
    Revision(Revision),
    /// No id could be made for its session.
    Id(String),
    /// It breaks a rule of RFC 6455.
    Handshake(HandshakeError),
    /// Whatever serves the requests cannot hand their streams over.
    NotUpgradable,
    /// A limit is reached, or the server is ending.
    Unavailable(StatusCode, &'static str),
}

impl From<RequestError> for Refused {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl Refused {
    /// Engine.IO's error, where it has one for this.
    fn error(&self) -> Option<RequestError> {
        Some(match self {
            Self::Request(error) => *error,
            Self::CrossOrigin | Self::Refusal(_) => RequestError::Forbidden,
            Self::Revision(_) => RequestError::UnsupportedProtocol,
            Self::Id(_) => RequestError::BadRequest(BadRequest::IdGeneration),
            Self::Handshake(_) | Self::NotUpgradable | Self::Unavailable(..) => return None,
        })
    }

    /// One of a few words, for those who count.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Request(RequestError::BadRequest(error)) => error.name(),
            Self::Request(error) => error.name(),
            Self::CrossOrigin => "CROSS_ORIGIN",
            Self::Refusal(_) => RequestError::Forbidden.name(),
            Self::Revision(_) => RequestError::UnsupportedProtocol.name(),
            Self::Id(_) => BadRequest::IdGeneration.name(),
            Self::Handshake(_) | Self::NotUpgradable => BadRequest::TransportHandshake.name(),
            Self::Unavailable(_, why) => why,
        }
    }

    fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Refusal(Refusal { message: Some(message) }) => message.clone().into(),
            Self::Handshake(error) => error.to_string().into(),
            Self::NotUpgradable => "this server cannot upgrade connections".into(),
            Self::Unavailable(_, why) => (*why).into(),
            _ => self.error().map_or_else(String::new, |error| error.to_string()).into(),
        }
    }

    fn status(&self, is_upgrade: bool) -> StatusCode {
        let status = match self {
            Self::Unavailable(status, _) => return *status,
            Self::NotUpgradable => return StatusCode::NOT_IMPLEMENTED,
            Self::Handshake(error) => error.status(),
            _ => self.error().map_or(400, |error| error.status(is_upgrade)),
        };
        StatusCode::from_u16(status).expect("a status of HTTP")
    }

    /// Tells the application.
    pub(super) fn report(&self, hook: &dyn Fn(&ConnectionError<'_>), request: &Parts) {
        let code = match self {
            // Node's code for a WebSocket handshake that fails.
            Self::Handshake(_) => Some(3),
            _ => self.error().map(RequestError::code),
        };
        let query = Query::parse(request.uri.query().unwrap_or(""));
        let context = self.context(request, query);
        hook(&ConnectionError { request, code, message: &self.message(), context });
    }

    fn context<'a>(&'a self, request: &'a Parts, query: Query<'a>) -> ConnectionErrorContext<'a> {
        use ConnectionErrorContext as Context;
        let origin = request.headers.get(header::ORIGIN).map_or(&b""[..], HeaderValue::as_bytes);
        let protocol = query.revision().number();
        match self {
            Self::CrossOrigin => Context::CrossOrigin { origin },
            Self::Refusal(_) => Context::Refused,
            Self::Revision(revision) => Context::Protocol { protocol: revision.number() },
            Self::Id(error) => Context::IdGeneration { error },
            Self::Handshake(error) => {
                Context::TransportHandshake { error: Some(error.to_string()) }
            }
            Self::NotUpgradable | Self::Unavailable(..) => Context::Unavailable,
            Self::Request(error) => match *error {
                RequestError::TransportUnknown => Context::Transport { transport: query.transport },
                RequestError::SessionUnknown => {
                    Context::Session { sid: query.sid.unwrap_or_default() }
                }
                RequestError::BadHandshakeMethod => {
                    Context::Method { method: request.method.as_str() }
                }
                RequestError::BadRequest(BadRequest::InvalidOrigin) => {
                    Context::InvalidOrigin { origin }
                }
                RequestError::BadRequest(BadRequest::TransportMismatch(previous)) => {
                    let transport = query.transport.unwrap_or_default();
                    Context::TransportMismatch { transport, previous }
                }
                RequestError::BadRequest(BadRequest::ProtocolMismatch(previous)) => {
                    Context::ProtocolMismatch { protocol, previous: previous.number() }
                }
                RequestError::BadRequest(_) => Context::TransportHandshake { error: None },
                RequestError::Forbidden => Context::Refused,
                RequestError::UnsupportedProtocol => Context::Protocol { protocol },
            },
        }
    }

    /// The response: JSON with the code, or for an upgrade the bare message, which closes the
    /// connection.
    pub(super) fn answer(&self, is_upgrade: bool) -> Answer {
        let message = self.message();
        let body = match self.error() {
            Some(error) if !is_upgrade => error.body(&message),
            _ => message.into_owned(),
        };
        let mut answer = plain(self.status(is_upgrade), body);
        // Node says text/html for a bare message; but it may be the application's, which need not
        // be free of markup.
        let is_json = self.error().is_some() && !is_upgrade;
        let kind = if is_json { "application/json" } else { "text/plain; charset=UTF-8" };
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if is_upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.write_headers(headers);
        answer
    }

    fn write_headers(&self, headers: &mut HeaderMap) {
        match self {
            Self::Unavailable(..) => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            Self::Handshake(error) => {
                if let Some((name, value)) = error.header() {
                    let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            _ => {}
        }
    }
}
