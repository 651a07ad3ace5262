//! Messages `{type, data?, uid, nsp}` with numbered types: what the sharded and the streams adapter
//! have in common. Does not know how they are carried.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sockeye::cluster::{
    BroadcastOptions, ClusterBody, ClusterEvent, ClusterMessage, NodeId, RequestId,
};
use sockeye::{OwnedArgs, RoomName};

use super::fields::{self, Names, OptionsForm, OptionsRead, OptionsWritten, Room, SocketRead};
use super::{Text, UnwritableError, WireError, msgpack, raw};

/// The types.
pub(super) mod kind {
    pub(crate) const INITIAL_HEARTBEAT: u64 = 1;
    pub(crate) const HEARTBEAT: u64 = 2;
    pub(crate) const BROADCAST: u64 = 3;
    pub(crate) const JOIN: u64 = 4;
    pub(crate) const LEAVE: u64 = 5;
    pub(crate) const DISCONNECT: u64 = 6;
    pub(crate) const FETCH: u64 = 7;
    pub(crate) const FETCH_RESPONSE: u64 = 8;
    pub(crate) const SERVER_SIDE_EMIT: u64 = 9;
    pub(crate) const SERVER_SIDE_EMIT_RESPONSE: u64 = 10;
    pub(crate) const CLIENT_COUNT: u64 = 11;
    pub(crate) const ACK: u64 = 12;
    pub(crate) const LEAVING: u64 = 13;
    /// Ours: no adapter of Node's has it, and each passes over a type that it does not know.
    pub(crate) const FORWARD: u64 = 100;
}

/// The type of an event's packet.
const EVENT: u64 = 2;

/// A message's type and data, with the binary data beside it.
pub(super) struct Body<'a> {
    pub(super) kind: u64,
    pub(super) data: Option<DataWritten<'a>>,
    pub(super) attachments: Vec<Cow<'a, [u8]>>,
}

#[derive(Serialize)]
struct Written<'a> {
    r#type: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a DataWritten<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    nsp: &'a str,
}

/// `data` of every type; what a type has not is left out. In Node's order, which is one for all
/// types but a few.
#[derive(Default, Serialize)]
pub(super) struct DataWritten<'a> {
    /// Of a server-side event it is in front.
    #[serde(rename = "requestId", skip_serializing_if = "Option::is_none")]
    first_request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<PacketWritten<'a>>,
    /// Of a broadcast that asks for acknowledgements.
    #[serde(rename = "requestId", skip_serializing_if = "Option::is_none")]
    middle_request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opts: Option<OptionsWritten<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<Names<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<bool>,
    /// Of a request for sockets it is the last.
    #[serde(rename = "requestId", skip_serializing_if = "Option::is_none")]
    last_request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sockets: Option<Vec<fields::SocketWritten<'a>>>,
    #[serde(rename = "clientCount", skip_serializing_if = "Option::is_none")]
    client_count: Option<usize>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PacketWritten<'a> {
    /// For clients.
    Event { r#type: u64, data: &'a RawValue },
    /// For servers, or an argument.
    Bare(Box<RawValue>),
}

impl<'a> Body<'a> {
    /// Takes a message apart.
    pub(super) fn of(body: &'a ClusterBody) -> Result<Self, UnwritableError> {
        let options = |options| Some(OptionsWritten { options, form: OptionsForm::Adapter });
        let mut data = DataWritten::default();
        let mut attachments = Vec::new();
        let kind = match body {
            ClusterBody::InitialHeartbeat => return Ok(Self::bare(kind::INITIAL_HEARTBEAT)),
            ClusterBody::Heartbeat => return Ok(Self::bare(kind::HEARTBEAT)),
            ClusterBody::Leave => return Ok(Self::bare(kind::LEAVING)),
            ClusterBody::Broadcast { event, options: own, request } => {
                let list = raw(event.json())?;
                data.packet = Some(PacketWritten::Event { r#type: EVENT, data: list });
                data.middle_request = request.as_ref().map(RequestId::as_str);
                data.opts = options(own);
                attachments = event.attachments().map(Cow::Borrowed).collect();
                kind::BROADCAST
            }
            ClusterBody::SocketsJoin { options: own, rooms } => {
                (data.opts, data.rooms) = (options(own), Some(Names(rooms)));
                kind::JOIN
            }
            ClusterBody::SocketsLeave { options: own, rooms } => {
                (data.opts, data.rooms) = (options(own), Some(Names(rooms)));
                kind::LEAVE
            }
            ClusterBody::DisconnectSockets { options: own, close } => {
                (data.opts, data.close) = (options(own), Some(*close));
                kind::DISCONNECT
            }
            ClusterBody::FetchSockets { request, options: own } => {
                (data.opts, data.last_request) = (options(own), Some(request.as_str()));
                kind::FETCH
            }
            ClusterBody::FetchSocketsResponse { request, sockets } => {
                let mut own = Vec::new();
                data.first_request = Some(request.as_str());
                data.sockets = Some(fields::sockets(sockets, &mut own)?);
                attachments = own.into_iter().map(|data| Cow::Owned(data.into())).collect();
                kind::FETCH_RESPONSE
            }
            ClusterBody::ServerSideEmit { event, request } => {
                data.first_request = request.as_ref().map(RequestId::as_str);
                data.packet = Some(bare(format!("[{}]", event.raw()))?);
                attachments = borrowed(event);
                kind::SERVER_SIDE_EMIT
            }
            ClusterBody::ServerSideEmitResponse { request, answer } => {
                data.first_request = Some(request.as_str());
                data.packet = argument(answer)?;
                attachments = borrowed(answer);
                kind::SERVER_SIDE_EMIT_RESPONSE
            }
            ClusterBody::BroadcastClientCount { request, count } => {
                data.first_request = Some(request.as_str());
                data.client_count = Some(*count);
                kind::CLIENT_COUNT
            }
            ClusterBody::BroadcastAck { request, answer, .. } => {
                data.first_request = Some(request.as_str());
                data.packet = argument(answer)?;
                attachments = borrowed(answer);
                kind::ACK
            }
            ClusterBody::Forward(forward) => {
                data.packet = Some(bare(fields::BINARY.to_owned())?);
                attachments = vec![Cow::Owned(forward.encode().into())];
                kind::FORWARD
            }
            _ => return Err(UnwritableError::Kind),
        };
        Ok(Self { kind, data: Some(data), attachments })
    }

    fn bare(kind: u64) -> Self {
        Self { kind, data: None, attachments: Vec::new() }
    }

    /// The whole message: JSON, or MessagePack where it must be or where there is binary data.
    pub(super) fn write(
        &self,
        message: &ClusterMessage,
        always_msgpack: bool,
    ) -> Result<Vec<u8>, UnwritableError> {
        let written = Written {
            r#type: self.kind,
            data: self.data.as_ref(),
            uid: message.sender.as_ref().map(NodeId::as_str),
            nsp: &message.namespace,
        };
        if always_msgpack || !self.attachments.is_empty() {
            Ok(msgpack(&serde_json::to_string(&written)?, &self.attachments)?)
        } else {
            Ok(serde_json::to_vec(&written)?)
        }
    }
}

fn borrowed(args: &OwnedArgs) -> Vec<Cow<'_, [u8]>> {
    args.attachments().iter().map(|data| Cow::Borrowed(&data[..])).collect()
}

fn bare(json: String) -> Result<PacketWritten<'static>, serde_json::Error> {
    RawValue::from_string(json).map(PacketWritten::Bare)
}

/// An argument, if there is one: Node's `undefined` is left out.
fn argument(answer: &OwnedArgs) -> Result<Option<PacketWritten<'static>>, serde_json::Error> {
    let json = answer.raw();
    if json.is_empty() { Ok(None) } else { bare(json.to_owned()).map(Some) }
}

#[derive(Deserialize)]
struct Read<'a> {
    r#type: u64,
    #[serde(borrow, default)]
    data: Option<DataRead<'a>>,
    #[serde(default)]
    uid: Option<String>,
    nsp: String,
}

#[derive(Deserialize)]
pub(super) struct DataRead<'a> {
    #[serde(borrow, default, deserialize_with = "fields::present")]
    packet: Option<&'a RawValue>,
    #[serde(rename = "requestId", default)]
    request: Option<String>,
    #[serde(default)]
    opts: Option<OptionsRead>,
    #[serde(default)]
    rooms: Option<Vec<Room>>,
    #[serde(default)]
    close: Option<bool>,
    #[serde(borrow, default)]
    sockets: Option<Vec<SocketRead<'a>>>,
    #[serde(rename = "clientCount", default)]
    client_count: Option<usize>,
}

#[derive(Deserialize)]
struct PacketRead<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Reads a whole message.
pub(super) fn read(text: &Text<'_>) -> Result<ClusterMessage, WireError> {
    let message = read_wanted(text, |_, _| true)?;
    Ok(message.expect("all are wanted"))
}

/// As [`read`], but a broadcast that asks nothing and that `wants` does not want, by its sender
/// and its rooms, is not read further: `None`.
pub(super) fn read_wanted(
    text: &Text<'_>,
    wants: impl FnOnce(&str, &[RoomName]) -> bool,
) -> Result<Option<ClusterMessage>, WireError> {
    let Read { r#type, mut data, uid, nsp } = text.parse()?;
    if r#type == kind::BROADCAST
        && let Some(data) = data.as_mut().filter(|data| data.request.is_none())
        && let Some(options) = data.opts.take()
    {
        let rooms = fields::names(options.rooms);
        if !wants(uid.as_deref().unwrap_or_default(), &rooms) {
            return Ok(None);
        }
        let rooms = rooms.into_iter().map(Room).collect();
        data.opts = Some(OptionsRead { rooms, ..options });
    }
    let namespace: Arc<str> = nsp.into();
    let body = read_body(r#type, data, &namespace, &text.attachments)?;
    Ok(Some(ClusterMessage { sender: uid.map(NodeId::new), namespace, body }))
}

/// Reads the data of a message of that type.
pub(super) fn read_body(
    kind: u64,
    data: Option<DataRead<'_>>,
    namespace: &str,
    attachments: &[Bytes],
) -> Result<ClusterBody, WireError> {
    match kind {
        kind::INITIAL_HEARTBEAT => return Ok(ClusterBody::InitialHeartbeat),
        kind::HEARTBEAT => return Ok(ClusterBody::Heartbeat),
        kind::LEAVING => return Ok(ClusterBody::Leave),
        kind::FORWARD => return fields::forward(attachments),
        kind::BROADCAST..=kind::ACK => {}
        other => return Err(WireError::UnknownType(other)),
    }
    let data = data.ok_or(WireError::Missing("data"))?;
    let request = data.request.map(RequestId::new);
    let asked = request.clone().ok_or(WireError::Missing("a request id"));
    // Without any, nobody in particular would be everybody.
    let options = data.opts.map(BroadcastOptions::from).ok_or(WireError::Missing("options"));
    let rooms = data.rooms.map(fields::names).ok_or(WireError::Missing("rooms"));
    let answer = || data.packet.map_or_else(OwnedArgs::default, |p| fields::one(p, attachments));
    Ok(match kind {
        kind::BROADCAST => {
            let packet = data.packet.ok_or(WireError::Missing("a packet"))?;
            let packet: PacketRead<'_> = serde_json::from_str(packet.get())?;
            let event = ClusterEvent::new(namespace, packet.data, attachments);
            let event = event.map_err(WireError::Event)?;
            ClusterBody::Broadcast { event, options: options?, request }
        }
        kind::JOIN => ClusterBody::SocketsJoin { options: options?, rooms: rooms? },
        kind::LEAVE => ClusterBody::SocketsLeave { options: options?, rooms: rooms? },
        kind::DISCONNECT => {
            let close = data.close.unwrap_or(false);
            ClusterBody::DisconnectSockets { options: options?, close }
        }
        kind::FETCH => ClusterBody::FetchSockets { request: asked?, options: options? },
        kind::FETCH_RESPONSE => {
            let sockets = data.sockets.ok_or(WireError::Missing("sockets"))?;
            let details = sockets.into_iter().map(|socket| socket.into_details(attachments));
            let sockets = details.collect::<Result<_, _>>()?;
            ClusterBody::FetchSocketsResponse { request: asked?, sockets }
        }
        kind::SERVER_SIDE_EMIT => {
            let packet = data.packet.ok_or(WireError::Missing("a packet"))?;
            ClusterBody::ServerSideEmit { event: fields::list(packet, attachments)?, request }
        }
        kind::SERVER_SIDE_EMIT_RESPONSE => {
            ClusterBody::ServerSideEmitResponse { request: asked?, answer: answer() }
        }
        kind::CLIENT_COUNT => {
            let count = data.client_count.ok_or(WireError::Missing("a client count"))?;
            ClusterBody::BroadcastClientCount { request: asked?, count }
        }
        _ => ClusterBody::BroadcastAck { request: asked?, socket: None, answer: answer() },
    })
}
