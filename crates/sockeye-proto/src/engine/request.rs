//! The query of an Engine.IO request, and whether the request is one that can be served.
//! Does not know HTTP bodies, cross-origin rules or how a session is looked up.

use std::borrow::Cow;

use super::Transport;
use crate::ids::SessionId;

/// The pairs of a query, percent-decoded.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}

/// What the protocol reads in a query. Of several values with one name the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query<'a> {
    /// `transport`
    pub transport: Option<Cow<'a, str>>,
    /// `EIO`: the protocol's revision.
    pub eio: Option<Cow<'a, str>>,
    /// `sid`; an empty one is none.
    pub sid: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    /// Reads a query, without its `?`.
    pub fn parse(query: &'a str) -> Self {
        let mut read = Self::default();
        for (name, value) in query_pairs(query) {
            match &*name {
                "transport" => read.transport = Some(value),
                "EIO" => read.eio = Some(value),
                "sid" => read.sid = Some(value).filter(|sid| !sid.is_empty()),
                _ => {}
            }
        }
        read
    }
}

/// What [`verify`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The request's query.
    pub query: &'a Query<'a>,
    /// Its method, in capitals.
    pub method: &'a str,
    /// Its `Origin` header, if there is one.
    pub origin: Option<&'a [u8]>,
    /// Whether it asks to become a WebSocket.
    pub is_upgrade: bool,
    /// The transports that are allowed.
    pub transports: &'a [Transport],
}

/// What [`verify`] needs to know of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// What carries it now.
    pub transport: Transport,
}

/// A request that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It opens a session.
    Handshake(Transport),
    /// It belongs to a session; over [`Transport::WebSocket`] it is an upgrade.
    Session(SessionId, Transport),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The transport is missing, unknown or not allowed.
    #[error("Transport unknown")]
    TransportUnknown,
    /// There is no such session.
    #[error("Session ID unknown")]
    SessionUnknown,
    /// A session is opened by GET.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// The request does not fit: the origin has control characters, the transport is not the
    /// session's, a WebSocket is asked for by a plain GET, a revision differs.
    #[error("Bad request")]
    BadRequest,
    /// The server does not want this client.
    #[error("Forbidden")]
    Forbidden,
    /// A revision other than 4.
    #[error("Unsupported protocol version")]
    UnsupportedProtocol,
}

impl RequestError {
    /// The official number.
    pub fn code(self) -> u8 {
        match self {
            Self::TransportUnknown => 0,
            Self::SessionUnknown => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden => 4,
            Self::UnsupportedProtocol => 5,
        }
    }

    /// The HTTP status: 403 for a refused client, except where a WebSocket was asked for.
    pub fn status(self, is_upgrade: bool) -> u16 {
        if self == Self::Forbidden && !is_upgrade { 403 } else { 400 }
    }

    /// The body: `{"code":…,"message":…}`. The code is a number.
    pub fn body(self) -> String {
        format!("{{\"code\":{},\"message\":\"{self}\"}}", self.code())
    }
}

/// Checks a request, in the order of the official server.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn verify(
    request: &RequestView<'_>,
    session: impl FnOnce(&SessionId) -> Option<SessionView>,
) -> Result<Verified, RequestError> {
    let query = request.query;
    let transport = query.transport.as_deref().and_then(Transport::parse);
    let transport = transport.filter(|transport| request.transports.contains(transport));
    let transport = transport.ok_or(RequestError::TransportUnknown)?;
    let is_control = |byte: &u8| *byte < 0x20 || *byte == 0x7f;
    if request.origin.is_some_and(|origin| origin.iter().any(is_control)) {
        return Err(RequestError::BadRequest);
    }
    // Anything but "4" counts as the older revision.
    let is_current = query.eio.as_deref() == Some("4");
    if let Some(sid) = query.sid.as_deref() {
        let id = SessionId::parse(sid).ok_or(RequestError::SessionUnknown)?;
        let session = session(&id).ok_or(RequestError::SessionUnknown)?;
        let fits = if request.is_upgrade {
            transport == Transport::WebSocket
        } else {
            transport == session.transport && transport == Transport::Polling
        };
        // A session's revision is fixed when it opens.
        if !fits || !is_current {
            return Err(RequestError::BadRequest);
        }
        return Ok(Verified::Session(id, transport));
    }
    if request.method != "GET" {
        return Err(RequestError::BadHandshakeMethod);
    }
    if request.is_upgrade != (transport == Transport::WebSocket) {
        return Err(RequestError::BadRequest);
    }
    if !is_current {
        return Err(RequestError::UnsupportedProtocol);
    }
    Ok(Verified::Handshake(transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[Transport] = &[Transport::Polling, Transport::WebSocket];

    fn check(method: &str, query: &str, is_upgrade: bool) -> Result<Verified, u8> {
        let query = Query::parse(query);
        let origin = None;
        let view = RequestView { query: &query, method, origin, is_upgrade, transports: BOTH };
        let session = SessionView { transport: Transport::Polling };
        let known = SessionId::from_entropy([0; 15]);
        verify(&view, |id| (*id == known).then_some(session)).map_err(RequestError::code)
    }

    #[test]
    fn requests_and_codes() {
        const SID: &str = "AAAAAAAAAAAAAAAAAAAA";
        let polling = Ok(Verified::Handshake(Transport::Polling));
        let id = SessionId::from_entropy([0; 15]);
        for (method, query, is_upgrade, expected) in [
            ("GET", "EIO=4&transport=polling".into(), false, polling),
            ("GET", "EIO=4&transport=polling&sid=".into(), false, polling),
            ("GET", "EIO=3&EIO=4&transport=polling".into(), false, polling),
            (
                "GET",
                "EIO=4&transport=websocket".into(),
                true,
                Ok(Verified::Handshake(Transport::WebSocket)),
            ),
            ("GET", "EIO=4".into(), false, Err(0)),
            ("GET", "EIO=4&transport=__proto__".into(), false, Err(0)),
            // CVE-2023-31125
            ("GET", "EIO=4&transport=tobi".into(), true, Err(0)),
            ("GET", "EIO=4&transport=webtransport".into(), false, Err(0)),
            ("GET", "EIO=4&transport=polling&sid=__proto__".into(), false, Err(1)),
            ("GET", "EIO=4&transport=polling&sid=unknownunknownunknow".into(), false, Err(1)),
            ("POST", "EIO=4&transport=polling".into(), false, Err(2)),
            ("OPTIONS", "EIO=4&transport=polling".into(), false, Err(2)),
            ("GET", "EIO=4&transport=websocket".into(), false, Err(3)),
            ("GET", "transport=polling".into(), false, Err(5)),
            ("GET", "EIO=abc&transport=polling".into(), false, Err(5)),
            (
                "POST",
                format!("EIO=4&transport=polling&sid={SID}"),
                false,
                Ok(Verified::Session(id, Transport::Polling)),
            ),
            (
                "GET",
                format!("EIO=4&transport=websocket&sid={SID}"),
                true,
                Ok(Verified::Session(id, Transport::WebSocket)),
            ),
            ("GET", format!("EIO=4&transport=websocket&sid={SID}"), false, Err(3)),
            ("GET", format!("EIO=3&transport=polling&sid={SID}"), false, Err(3)),
        ] {
            assert_eq!(check(method, &query, is_upgrade), expected, "{method} {query}");
        }
    }

    #[test]
    fn h02_codes_are_numbers_and_only_a_refusal_is_403() {
        assert_eq!(
            RequestError::SessionUnknown.body(),
            r#"{"code":1,"message":"Session ID unknown"}"#
        );
        assert_eq!(RequestError::Forbidden.status(false), 403);
        assert_eq!(RequestError::Forbidden.status(true), 400);
        assert_eq!(RequestError::UnsupportedProtocol.status(false), 400);
    }
}
