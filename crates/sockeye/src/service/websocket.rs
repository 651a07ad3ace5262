//! WebSocket requests: the opening handshake's answer, and what becomes of the stream behind it.
//! Does not know frames or packets.

use http::header::{self, HeaderValue};
use http::{StatusCode, request};
use sockeye_proto::SessionId;
use sockeye_proto::engine::RequestError;
use sockeye_ws::handshake::accept_key;

use super::{Answer, Checked, busy, plain, refuse};
use crate::connection::{Command, Connection, Opening, Transport};

/// Opens a session over WebSocket.
pub(super) fn open(mut checked: Checked) -> Answer {
    let Some((answer, upgrade)) = switch(&mut checked.parts) else {
        return refuse(RequestError::BadRequest, true);
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
    let Some((answer, upgrade)) = switch(&mut checked.parts) else {
        return refuse(RequestError::BadRequest, true);
    };
    let limits = checked.server.config().websocket_limits();
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            peer.command(Command::Upgrade(Box::new(Transport::new(upgraded, limits))));
        }
    });
    answer
}

/// The 101, if the request is a good one (RFC 6455 §4.2.1).
fn switch(parts: &mut request::Parts) -> Option<(Answer, hyper::upgrade::OnUpgrade)> {
    let version = parts.headers.get(header::SEC_WEBSOCKET_VERSION)?;
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    // 16 bytes in base64.
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let (text, padding) = key.split_at_checked(22)?;
    if !matches!(version.as_bytes(), b"13" | b"8") || padding != b"==" || !text.iter().all(is_key) {
        return None;
    }
    let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>()?;
    let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_bytes(&accept_key(key)).ok()?;
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Some((answer, upgrade))
}
