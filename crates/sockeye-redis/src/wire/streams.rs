//! The streams adapter's messages: entries of a stream for what must be kept, and of pub/sub for
//! questions and answers. Does not know connections.
//!
//! Node writes what is for a namespace with a negative hash to a stream that no server reads,
//! where there are several streams ([`stream_of`]). The same is done here, for its servers and
//! ours to agree; and those streams are read, too ([`stream_names`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sockeye::cluster::{ClusterBody, ClusterMessage, NodeId};

use super::numbered::{self, Body};
use super::{LIMITS, Publication, Text, UnwritableError, WireError};
use sockeye_proto::socket::msgpack::to_json;

/// An entry of a stream, its fields in Node's order: `uid`, `nsp`, `type`, `data`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The sender.
    pub uid: String,
    /// The namespace.
    pub nsp: String,
    /// The type's digits.
    pub kind: String,
    /// JSON, or base64 of MessagePack.
    pub data: Option<String>,
}

/// Whether a message goes through pub/sub, being of no use later: questions and answers.
pub fn is_ephemeral(body: &ClusterBody) -> bool {
    !matches!(
        body,
        ClusterBody::Broadcast { request: None, .. }
            | ClusterBody::SocketsJoin { .. }
            | ClusterBody::SocketsLeave { .. }
            | ClusterBody::DisconnectSockets { .. }
            | ClusterBody::InitialHeartbeat
            | ClusterBody::Heartbeat
            | ClusterBody::Leave
    )
}

/// Writes an entry.
///
/// # Errors
/// A message that only the classic adapter has.
pub fn encode_entry(message: &ClusterMessage) -> Result<Entry, UnwritableError> {
    let Body { kind, data, attachments } = Body::of(&message.body)?;
    let data = data.map(|data| serde_json::to_string(&data)).transpose()?;
    let data = match data {
        Some(json) if !attachments.is_empty() => {
            Some(STANDARD.encode(super::msgpack(&json, &attachments)?))
        }
        data => data,
    };
    Ok(Entry {
        uid: message.sender.as_ref().map(NodeId::to_string).unwrap_or_default(),
        nsp: message.namespace.to_string(),
        kind: kind.to_string(),
        data,
    })
}

/// Reads an entry.
///
/// # Errors
/// It is none of a streams adapter.
pub fn decode_entry(entry: &Entry) -> Result<ClusterMessage, WireError> {
    let kind = entry.kind.parse().map_err(|_| WireError::Missing("a type"))?;
    let text = entry.data.as_deref().filter(|data| !data.is_empty()).map(read_data).transpose()?;
    let data = text.as_ref().map(Text::parse).transpose()?;
    let attachments = text.as_ref().map_or(&[][..], |text| &text.attachments);
    let body = numbered::read_body(kind, data, &entry.nsp, attachments)?;
    let sender = (!entry.uid.is_empty()).then(|| NodeId::new(&*entry.uid));
    Ok(ClusterMessage { sender, namespace: entry.nsp.as_str().into(), body })
}

fn read_data(data: &str) -> Result<Text<'_>, WireError> {
    if data.starts_with('{') {
        return Ok(Text { json: data.into(), attachments: Vec::new() });
    }
    let bytes = STANDARD.decode(data).map_err(|_| WireError::Missing("data"))?;
    let (json, attachments) = to_json(&bytes, LIMITS).map_err(WireError::MessagePack)?;
    Ok(Text { json: json.into(), attachments })
}

/// Writes what goes through pub/sub: always MessagePack; for all nodes, or for one.
///
/// # Errors
/// A message that only the classic adapter has.
pub fn encode(
    message: &ClusterMessage,
    to: Option<&NodeId>,
    prefix: &str,
) -> Result<Publication, UnwritableError> {
    let payload = Body::of(&message.body)?.write(message, true)?;
    let common = common_channel(prefix, &message.namespace);
    let channel = to.map_or(common.clone(), |to| format!("{common}{to}#"));
    Ok(Publication { channel, payload })
}

/// The channel that every node hears; one's own has its id and a `#` behind it.
pub fn common_channel(prefix: &str, namespace: &str) -> String {
    format!("{prefix}#{namespace}#")
}

/// Reads what came by pub/sub.
///
/// # Errors
/// It is no message of a streams adapter.
pub fn decode(payload: &[u8]) -> Result<ClusterMessage, WireError> {
    numbered::read(&Text::read_msgpack(payload)?)
}

/// The stream that a namespace is written to, of `count`.
pub fn stream_of(name: &str, count: u32, namespace: &str) -> String {
    if count <= 1 {
        return name.to_owned();
    }
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(unit.into());
    let hash = namespace.encode_utf16().fold(0, add);
    format!("{name}-{}", i64::from(hash) % i64::from(count))
}

/// All streams that anything is written to: those that Node reads, and those that it only writes.
pub fn stream_names(name: &str, count: u32) -> Vec<String> {
    if count <= 1 {
        return vec![name.to_owned()];
    }
    let last = i64::from(count) - 1;
    (-last..=last).map(|number| format!("{name}-{number}")).collect()
}
