//! Sessions of connection state recovery as the streams adapter keeps them: base64 of MessagePack
//! `{sid, pid, rooms, data}`, and what is ours behind that. Does not know where.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sockeye::cluster::{ClusterSession, RecoveryId};
use sockeye::{OwnedArgs, SocketId};
use sockeye_proto::socket::msgpack::to_json;

use super::fields::{self, Names, Room};
use super::{LIMITS, UnwritableError, WireError, raw};

#[derive(Serialize)]
struct Written<'a> {
    sid: &'a str,
    pid: &'a str,
    rooms: Names<'a>,
    data: &'a RawValue,
    /// Node's servers pass it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    sockeye: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Read<'a> {
    sid: &'a str,
    pid: &'a str,
    rooms: Vec<Room>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    sockeye: Option<Box<RawValue>>,
}

/// Writes a session.
///
/// # Errors
/// Its data cannot be written.
pub fn encode_session(session: &ClusterSession) -> Result<String, UnwritableError> {
    let ClusterSession { socket, id, rooms, data, more } = session;
    let written = Written {
        sid: socket.as_str(),
        pid: id.as_str(),
        rooms: Names(rooms),
        data: raw(data.raw())?,
        sockeye: more.as_deref(),
    };
    let json = serde_json::to_string(&written)?;
    Ok(STANDARD.encode(super::msgpack(&json, data.attachments())?))
}

/// Reads a session.
///
/// # Errors
/// It is none.
pub fn decode_session(text: &str) -> Result<ClusterSession, WireError> {
    let bytes = STANDARD.decode(text).map_err(|_| WireError::Missing("a session"))?;
    let (json, attachments) = to_json(&bytes, LIMITS).map_err(WireError::MessagePack)?;
    let Read { sid, pid, rooms, data, sockeye } = serde_json::from_str(&json)?;
    Ok(ClusterSession {
        socket: SocketId::parse(sid).ok_or(WireError::Missing("the id of a socket"))?,
        id: RecoveryId::parse(pid).ok_or(WireError::Missing("a private id"))?,
        rooms: fields::names(rooms),
        data: data.map_or_else(OwnedArgs::default, |data| fields::one(data, &attachments)),
        more: sockeye,
    })
}
