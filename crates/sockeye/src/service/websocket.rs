//! WebSocket requests: the opening handshake's answer, and what becomes of the stream behind it.
//! Does not know frames or packets.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use sockeye_proto::engine::Revision;
use sockeye_ws::deflate::Options as PerMessageDeflate;
use sockeye_ws::handshake::{self, HttpVersion};

use super::answering::Checked;
use super::opening::Admitted;
use super::refusal::Refused;
use super::{Answer, plain};
use crate::connection::{Command, Connection, Opening, Peer, Transport};
use crate::outbox::Encoding;

/// Opens a session over WebSocket.
pub(super) fn open(checked: &mut Checked, admitted: Admitted) -> Result<Answer, Refused> {
    let Admitted { place, id, revision } = admitted;
    let Switch { answer, upgrade, encoding } = switch(checked, revision)?;
    let mut handshake = checked.handshake();
    let limit = checked.config().handshake_timeout;
    tokio::spawn(async move {
        let Some(upgraded) = within(limit, upgrade).await else { return };
        let limits = place.server().config().websocket_limits();
        let transport = Transport::new(upgraded, limits, encoding);
        handshake.complete(transport.address());
        let (handshake, transport) = (Arc::new(handshake), Some(Box::new(transport)));
        // An own id that another session has taken since: this one is dropped.
        let opening = Opening { place, id, handshake, transport, encoding };
        if let Some((_, connection)) = Connection::open(opening) {
            // A task of its own, so that the memory of this larger one goes.
            tokio::spawn(connection);
        }
    });
    Ok(answer)
}

/// A session of long-polling wants to go on over WebSocket.
pub(super) fn upgrade(checked: &mut Checked, peer: Arc<Peer>) -> Result<Answer, Refused> {
    let Switch { answer, upgrade, encoding } = switch(checked, peer.outbox().revision())?;
    let limits = checked.config().websocket_limits();
    let limit = checked.config().handshake_timeout;
    tokio::spawn(async move {
        if let Some(upgraded) = within(limit, upgrade).await {
            let transport = Transport::new(upgraded, limits, encoding);
            peer.command(Command::Upgrade(Box::new(transport)));
        }
    });
    Ok(answer)
}

/// The stream behind the 101; `None` if the client has gone before the answer reached it, or has
/// not taken it in time.
async fn within(limit: Duration, upgrade: OnUpgrade) -> Option<Upgraded> {
    tokio::time::timeout(limit, upgrade).await.ok()?.ok()
}

/// What becomes of a WebSocket handshake.
struct Switch {
    /// The 101.
    answer: Answer,
    upgrade: OnUpgrade,
    encoding: Encoding,
}

fn switch(checked: &mut Checked, revision: Revision) -> Result<Switch, Refused> {
    let mut encoding = checked.encoding(revision);
    let deflate = checked.config().per_message_deflate.map(|options| match revision {
        Revision::V4 => options,
        // Their forms are made once for all of them, and a context would want others.
        Revision::V3 => PerMessageDeflate { server_no_context_takeover: true, ..options },
    });
    let parts = &mut checked.parts;
    let version = match parts.version {
        http::Version::HTTP_11 => HttpVersion::Http11,
        _ => HttpVersion::Http10,
    };
    let values = |name| parts.headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let accept = handshake::server::verify(parts.method.as_str(), version, values);
    let mut accept = accept.map_err(Refused::Handshake)?;
    let agreed = deflate.and_then(|options| accept.negotiate_deflate(&options));
    let key = accept.key;
    let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(Refused::NotUpgradable)?;
    let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_bytes(&key).expect("base64 is a header's value");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(agreed) = &agreed {
        let value = HeaderValue::try_from(agreed.to_string()).expect("visible ASCII");
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value);
        encoding = match encoding {
            Encoding::V3 { base64, .. } => Encoding::V3 { base64, agreed: Some(*agreed) },
            Encoding::Plain | Encoding::Deflate(_) => Encoding::Deflate(*agreed),
        };
    }
    Ok(Switch { answer, upgrade, encoding })
}
