//! The query of an Engine.IO request, and whether the request is one that can be served.
//! Does not know HTTP bodies, cross-origin rules or how a session is looked up.

use std::borrow::Cow;

use super::Transport;
use crate::ids::SessionId;

/// The pairs of a query, percent-decoded (`application/x-www-form-urlencoded`).
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    pieces(query).map(|pair| {
        // What the protocol says itself needs no decoding.
        if is_encoded(pair) {
            let mut decoded = form_urlencoded::parse(pair.as_bytes());
            return decoded.next().expect("what is not empty is a pair");
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (Cow::Borrowed(name), Cow::Borrowed(value))
    })
}

/// What stands between ampersands, unless that is nothing.
fn pieces(query: &str) -> impl Iterator<Item = &str> {
    let mut rest = query;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = memchr::memchr(b'&', rest.as_bytes()).unwrap_or(rest.len());
            let piece = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or("");
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    })
}

fn is_encoded(text: &str) -> bool {
    memchr::memchr2(b'%', b'+', text.as_bytes()).is_some()
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
    /// `b64`: a client of revision 3 takes no binary data.
    pub b64: bool,
}

impl<'a> Query<'a> {
    /// Reads a query, without its `?`.
    pub fn parse(query: &'a str) -> Self {
        let mut read = Self::default();
        if is_encoded(query) {
            for (name, value) in query_pairs(query) {
                read.add(&name, value);
            }
            return read;
        }
        // Every request has one: what most of them hold is known by its beginning.
        for pair in pieces(query) {
            if let Some(sid) = pair.strip_prefix("sid=") {
                read.add("sid", Cow::Borrowed(sid));
            } else if let Some(transport) = pair.strip_prefix("transport=") {
                read.add("transport", Cow::Borrowed(transport));
            } else if let Some(eio) = pair.strip_prefix("EIO=") {
                read.add("EIO", Cow::Borrowed(eio));
            } else {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                read.add(name, Cow::Borrowed(value));
            }
        }
        read
    }

    #[inline(always)]
    fn add(&mut self, name: &str, value: Cow<'a, str>) {
        match name {
            "transport" => self.transport = Some(value),
            "EIO" => self.eio = Some(value),
            "b64" => self.b64 = !value.is_empty(),
            "sid" => self.sid = Some(value).filter(|sid| !sid.is_empty()),
            _ => {}
        }
    }
}

/// A revision of the Engine.IO protocol, as a client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Revision {
    /// `EIO=3`, and everything else that is not 4.
    V3,
    /// `EIO=4`.
    V4,
}

impl Revision {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }
}

impl Query<'_> {
    /// The revision that the client speaks.
    pub fn revision(&self) -> Revision {
        if self.eio.as_deref() == Some("4") { Revision::V4 } else { Revision::V3 }
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
    /// What it was opened with.
    pub revision: Revision,
}

/// A request that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It wants to open a session. Whether the server speaks the client's revision is asked after
    /// the application, as the official server does.
    Handshake(Transport, Revision),
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
    /// The request does not fit.
    #[error("Bad request")]
    BadRequest(BadRequest),
    /// The server does not want this client.
    #[error("Forbidden")]
    Forbidden,
    /// A revision other than 4.
    #[error("Unsupported protocol version")]
    UnsupportedProtocol,
}

/// What does not fit in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// The origin has control characters.
    InvalidOrigin,
    /// The transport is not the session's, which is this one.
    TransportMismatch(Transport),
    /// The revision is not the session's, which is this one.
    ProtocolMismatch(Revision),
    /// A WebSocket is asked for by a plain GET, or by a handshake that RFC 6455 does not allow.
    TransportHandshake,
    /// No id could be made for the session.
    IdGeneration,
}

impl BadRequest {
    /// The official name.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidOrigin => "INVALID_ORIGIN",
            Self::TransportMismatch(_) => "TRANSPORT_MISMATCH",
            Self::ProtocolMismatch(_) => "PROTOCOL_MISMATCH",
            Self::TransportHandshake => "TRANSPORT_HANDSHAKE_ERROR",
            Self::IdGeneration => "ID_GENERATION_ERROR",
        }
    }
}

impl RequestError {
    /// The name of its code in Node's `Server.errors`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TransportUnknown => "UNKNOWN_TRANSPORT",
            Self::SessionUnknown => "UNKNOWN_SID",
            Self::BadHandshakeMethod => "BAD_HANDSHAKE_METHOD",
            Self::BadRequest(_) => "BAD_REQUEST",
            Self::Forbidden => "FORBIDDEN",
            Self::UnsupportedProtocol => "UNSUPPORTED_PROTOCOL_VERSION",
        }
    }

    /// The official number.
    pub fn code(self) -> u8 {
        match self {
            Self::TransportUnknown => 0,
            Self::SessionUnknown => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest(_) => 3,
            Self::Forbidden => 4,
            Self::UnsupportedProtocol => 5,
        }
    }

    /// The HTTP status: 403 for a refused client, except where a WebSocket was asked for.
    pub fn status(self, is_upgrade: bool) -> u16 {
        if self == Self::Forbidden && !is_upgrade { 403 } else { 400 }
    }

    /// The body: `{"code":…,"message":…}`. The code is a number; the message is the error's own
    /// where there is no better one.
    pub fn body(self, message: &str) -> String {
        let message = serde_json::to_string(message).expect("text can be written as JSON");
        format!("{{\"code\":{},\"message\":{message}}}", self.code())
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
        return Err(RequestError::BadRequest(BadRequest::InvalidOrigin));
    }
    let revision = query.revision();
    if let Some(sid) = query.sid.as_deref() {
        let id = SessionId::parse(sid).ok_or(RequestError::SessionUnknown)?;
        let session = session(&id).ok_or(RequestError::SessionUnknown)?;
        let mismatch = BadRequest::TransportMismatch(session.transport);
        let fits = if request.is_upgrade {
            transport == Transport::WebSocket
        } else {
            transport == session.transport && transport == Transport::Polling
        };
        if !fits {
            return Err(RequestError::BadRequest(mismatch));
        }
        // A session's revision is fixed when it opens.
        if revision != session.revision {
            return Err(RequestError::BadRequest(BadRequest::ProtocolMismatch(session.revision)));
        }
        return Ok(Verified::Session(id, transport));
    }
    if request.method != "GET" {
        return Err(RequestError::BadHandshakeMethod);
    }
    if request.is_upgrade != (transport == Transport::WebSocket) {
        return Err(RequestError::BadRequest(BadRequest::TransportHandshake));
    }
    Ok(Verified::Handshake(transport, revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[Transport] = &[Transport::Polling, Transport::WebSocket];

    fn check(method: &str, query: &str, is_upgrade: bool) -> Result<Verified, RequestError> {
        let query = Query::parse(query);
        let origin = None;
        let view = RequestView { query: &query, method, origin, is_upgrade, transports: BOTH };
        let session = SessionView { transport: Transport::Polling, revision: Revision::V4 };
        let known = SessionId::from_entropy([0; 15]);
        verify(&view, |id| (*id == known).then_some(session))
    }

    #[test]
    fn pairs_are_read_as_forms_are() {
        for query in [
            "",
            "&",
            "a",
            "a=",
            "=",
            "=b",
            "a=b=c&&d",
            "EIO=4&transport=polling&t=x%20y+z&sid=",
            "%61=%62&a+b=c&%=%zz&%ff=%c3%a9",
            "\u{e9}=\u{20ac}&x=%",
        ] {
            let pairs: Vec<_> = query_pairs(query).collect();
            let expected: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
            assert_eq!(pairs, expected, "{query}");
        }
    }

    #[test]
    fn requests_and_codes() {
        const SID: &str = "AAAAAAAAAAAAAAAAAAAA";
        let polling = Ok(Verified::Handshake(Transport::Polling, Revision::V4));
        let older = Ok(Verified::Handshake(Transport::Polling, Revision::V3));
        let id = SessionId::from_entropy([0; 15]);
        for (method, query, is_upgrade, expected) in [
            ("GET", "EIO=4&transport=polling".into(), false, polling),
            ("GET", "EIO=4&transport=polling&sid=".into(), false, polling),
            ("GET", "EIO=3&EIO=4&transport=polling".into(), false, polling),
            (
                "GET",
                "EIO=4&transport=websocket".into(),
                true,
                Ok(Verified::Handshake(Transport::WebSocket, Revision::V4)),
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
            ("GET", "transport=polling".into(), false, older),
            ("GET", "EIO=abc&transport=polling".into(), false, older),
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
            let verified = check(method, &query, is_upgrade).map_err(RequestError::code);
            assert_eq!(verified, expected, "{method} {query}");
        }
    }

    #[test]
    fn what_does_not_fit_has_a_name() {
        const SID: &str = "AAAAAAAAAAAAAAAAAAAA";
        let polling = BadRequest::TransportMismatch(Transport::Polling);
        for (query, is_upgrade, expected, name) in [
            (
                "EIO=4&transport=websocket",
                false,
                BadRequest::TransportHandshake,
                "TRANSPORT_HANDSHAKE_ERROR",
            ),
            (&format!("EIO=4&transport=websocket&sid={SID}"), false, polling, "TRANSPORT_MISMATCH"),
            (&format!("EIO=4&transport=polling&sid={SID}"), true, polling, "TRANSPORT_MISMATCH"),
            (
                &format!("EIO=3&transport=polling&sid={SID}"),
                false,
                BadRequest::ProtocolMismatch(Revision::V4),
                "PROTOCOL_MISMATCH",
            ),
        ] {
            let refused = check("GET", query, is_upgrade);
            assert_eq!(refused, Err(RequestError::BadRequest(expected)), "{query}");
            assert_eq!(expected.name(), name);
        }
    }

    #[test]
    fn h02_codes_are_numbers_and_only_a_refusal_is_403() {
        assert_eq!(
            RequestError::SessionUnknown.body(&RequestError::SessionUnknown.to_string()),
            r#"{"code":1,"message":"Session ID unknown"}"#
        );
        let own = RequestError::Forbidden.body("not \"you\"");
        assert_eq!(own, r#"{"code":4,"message":"not \"you\""}"#);
        assert_eq!(RequestError::Forbidden.status(false), 403);
        assert_eq!(RequestError::Forbidden.status(true), 400);
        assert_eq!(RequestError::UnsupportedProtocol.status(false), 400);
    }
}
