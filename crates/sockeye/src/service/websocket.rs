//! WebSocket requests: the opening handshake's answer, and what becomes of the stream behind it.
//! Does not know frames or packets.

use http::header::{self, HeaderName, HeaderValue};
use http::{StatusCode, request};
use hyper::upgrade::OnUpgrade;
use sockeye_proto::SessionId;
use sockeye_proto::engine::RequestError;
use sockeye_ws::handshake::server::HandshakeError;
use sockeye_ws::handshake::{self, HttpVersion};

use super::{Answer, Checked, busy, plain, refuse};
use crate::connection::{Command, Connection, Opening, Transport};

/// Opens a session over WebSocket.
pub(super) fn open(mut checked: Checked) -> Answer {
    let (answer, upgrade) = match switch(&mut checked.parts) {
        Ok(switched) => switched,
        Err(refusal) => return *refusal,
    };
    let server = checked.server.clone();
    let Ok(id) = server.new_session_id() else { return busy("no randomness") };
    let handshake_of = move |transport: &Transport| checked.handshake(transport.address());
    tokio::spawn(async move {
        // Failed, the client has gone before the answer reached it.
        let Ok(upgraded) = upgrade.await else { return };
        let transport = Transport::new(upgraded, server.config().websocket_limits());
        let handshake = handshake_of(&transport);
        let transport = Some(Box::new(transport));
        let (_, connection) = Connection::open(Opening { server, id, handshake, transport });
        // A task of its own, so that the memory of this larger one goes.
        tokio::spawn(connection);
    });
    answer
}

/// A session of long-polling wants to go on over WebSocket.
pub(super) fn upgrade(mut checked: Checked, id: &SessionId) -> Answer {
    let Some(peer) = checked.server.session(id) else {
        return refuse(RequestError::SessionUnknown, true);
    };
    let (answer, upgrade) = match switch(&mut checked.parts) {
        Ok(switched) => switched,
        Err(refusal) => return *refusal,
    };
    let limits = checked.server.config().websocket_limits();
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            peer.command(Command::Upgrade(Box::new(Transport::new(upgraded, limits))));
        }
    });
    answer
}

/// The 101, if the request is a WebSocket handshake; else the answer that says what it lacks.
fn switch(parts: &mut request::Parts) -> Result<(Answer, OnUpgrade), Box<Answer>> {
    let version = match parts.version {
        http::Version::HTTP_11 => HttpVersion::Http11,
        _ => HttpVersion::Http10,
    };
    let values = |name| parts.headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let accept = handshake::server::verify(parts.method.as_str(), version, values);
    let key = accept.map_err(|error| Box::new(refuse_handshake(error)))?.key;
    let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        // Whatever serves the requests cannot hand their streams over.
        let why = "this server cannot upgrade connections";
        return Err(Box::new(plain(StatusCode::NOT_IMPLEMENTED, why)));
    };
    let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_bytes(&key).expect("base64 is a header's value");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok((answer, upgrade))
}

fn refuse_handshake(error: HandshakeError) -> Answer {
    let status = StatusCode::from_u16(error.status()).expect("a status of HTTP");
    let mut answer = plain(status, error.to_string());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if let Some((name, value)) = error.header() {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}
