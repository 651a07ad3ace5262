//! Engine.IO requests: what is served has all that it needs, what is refused lacks what the code
//! says, and no request that names a session opens another. The query is read naively here.

#![no_main]

use std::cell::Cell;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sockeye_proto::SessionId;
use sockeye_proto::engine::{
    BadRequest, Query, RequestError, RequestView, Revision, SessionView, Transport, Verified,
    query_pairs, verify,
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    method: Method,
    is_upgrade: bool,
    allows_polling: bool,
    allows_websocket: bool,
    /// What carries the session, whatever its id; `None`: there is none.
    session: Option<bool>,
    /// The session was opened with the older revision.
    is_older: bool,
    origin: Option<[u8; 4]>,
    query: &'a str,
}

#[derive(Arbitrary, Debug)]
enum Method {
    Get,
    Post,
    Other,
}

fuzz_target!(|input: Input<'_>| {
    let pairs = pairs(input.query);
    let read =
        query_pairs(input.query).map(|(name, value)| (name.into_owned(), value.into_owned()));
    assert_eq!(read.collect::<Vec<_>>(), pairs);

    let last = |name| pairs.iter().rev().find(|(own, _)| own == name).map(|(_, value)| &value[..]);
    // Of several values the last counts, as for Node; an empty one is none.
    let named = last("sid").filter(|sid| !sid.is_empty());
    let query = Query::parse(input.query);
    assert_eq!(query.transport.as_deref(), last("transport"));
    assert_eq!(query.eio.as_deref(), last("EIO"));
    assert_eq!(query.sid.as_deref(), named);

    let transport_of = |is_websocket| match is_websocket {
        true => Transport::WebSocket,
        false => Transport::Polling,
    };
    let session = input.session.map(|is| SessionView {
        transport: transport_of(is),
        revision: if input.is_older { Revision::V3 } else { Revision::V4 },
    });
    let allowed = [(input.allows_polling, false), (input.allows_websocket, true)];
    let transports: Vec<_> =
        allowed.iter().filter(|(allows, _)| *allows).map(|(_, is)| transport_of(*is)).collect();
    let request = RequestView {
        query: &query,
        method: ["GET", "POST", "OPTIONS"][input.method as usize],
        origin: input.origin.as_ref().map(|origin| &origin[..]),
        is_upgrade: input.is_upgrade,
        transports: &transports,
    };
    let asked = Cell::new(None);
    let verified = verify(&request, |id| {
        asked.set(Some(*id));
        session
    });
    check(&request, named, session, asked.get(), verified);
});

fn check(
    request: &RequestView<'_>,
    named: Option<&str>,
    session: Option<SessionView>,
    asked: Option<SessionId>,
    verified: Result<Verified, RequestError>,
) {
    let transport = request.query.transport.as_deref().and_then(Transport::parse);
    let transport = transport.filter(|transport| request.transports.contains(transport));
    let is_current = request.query.eio.as_deref() == Some("4");
    let revision = if is_current { Revision::V4 } else { Revision::V3 };
    let origin = request.origin.unwrap_or_default();
    let has_control = origin.iter().any(u8::is_ascii_control);
    let fits = request.is_upgrade == (transport == Some(Transport::WebSocket));
    assert!(asked.is_none_or(|id| named == Some(id.as_str())), "only the named one is looked up");
    match verified {
        Ok(verified) => {
            assert!(fits && !has_control);
            match verified {
                Verified::Handshake(own, spoken) => {
                    assert_eq!((Some(own), request.method, named), (transport, "GET", None));
                    assert_eq!(spoken, revision);
                }
                Verified::Session(id, own) => {
                    assert_eq!((Some(own), Some(id.as_str())), (transport, named));
                    let session = session.expect("it is known");
                    let polls = session.transport == Transport::Polling;
                    assert!(own == Transport::WebSocket || polls);
                    assert_eq!(session.revision, revision);
                }
            }
        }
        Err(error) => {
            assert!(match error {
                RequestError::TransportUnknown => transport.is_none(),
                RequestError::SessionUnknown => {
                    named.is_some() && (asked.is_none() || session.is_none())
                }
                RequestError::BadHandshakeMethod => named.is_none() && request.method != "GET",
                RequestError::BadRequest(BadRequest::InvalidOrigin) => has_control,
                RequestError::BadRequest(BadRequest::TransportMismatch(own)) => {
                    let polls_websocket = !request.is_upgrade && own == Transport::WebSocket;
                    session.is_some_and(|s| s.transport == own) && (!fits || polls_websocket)
                }
                RequestError::BadRequest(BadRequest::ProtocolMismatch(own)) => {
                    session.is_some_and(|s| s.revision == own) && own != revision
                }
                RequestError::BadRequest(BadRequest::TransportHandshake) => {
                    named.is_none() && !fits
                }
                // Found behind this.
                RequestError::BadRequest(BadRequest::IdGeneration)
                | RequestError::UnsupportedProtocol
                | RequestError::Forbidden => false,
            });
            let body = error.body(&error.to_string());
            let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(body["code"], error.code());
        }
    }
}

/// `application/x-www-form-urlencoded`, as the URL standard reads it.
fn pairs(query: &str) -> Vec<(String, String)> {
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    let pairs = pieces.map(|piece| piece.split_once('=').unwrap_or((piece, "")));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::new();
    while let [first, ..] = rest {
        let digit = |at: usize| rest.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let (byte, len) = match (first, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => ((high << 4 | low) as u8, 3),
            (b'+', ..) => (b' ', 1),
            _ => (*first, 1),
        };
        decoded.push(byte);
        rest = &rest[len..];
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
