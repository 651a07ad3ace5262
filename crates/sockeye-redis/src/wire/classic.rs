//! The classic adapter's messages (`createAdapter`), and its emitter's: three kinds of channels for
//! each namespace, broadcasts as MessagePack, requests and answers as JSON.
//! Does not know connections.
//!
//! Older adapters (up to version 7) ask to join, leave and disconnect one socket by `sid`, and wait
//! for the answer of the server that has it; newer ones, and ours, name any number and wait for
//! nothing.

mod answers;
mod broadcast;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sockeye::cluster::{
    BroadcastOptions, ClusterBody, ClusterEvent, ClusterMessage, NodeId, RequestId, SocketChange,
};
use sockeye::{RoomName, SocketId};

use super::fields::{self, BINARY, Names, OptionsForm, OptionsRead, OptionsWritten, Room};
use super::{Publication, Text, UnwritableError, WireError, msgpack, raw};

/// The types of requests and answers.
mod kind {
    pub(super) const LIST_SOCKETS: u64 = 0;
    pub(super) const LIST_ROOMS: u64 = 1;
    pub(super) const JOIN: u64 = 2;
    pub(super) const LEAVE: u64 = 3;
    pub(super) const DISCONNECT: u64 = 4;
    pub(super) const FETCH: u64 = 5;
    pub(super) const SERVER_SIDE_EMIT: u64 = 6;
    pub(super) const BROADCAST: u64 = 7;
    pub(super) const CLIENT_COUNT: u64 = 8;
    pub(super) const ACK: u64 = 9;
    /// Ours: to all it is a request, which Node's adapter passes over; to one node it goes by the
    /// channel of that node's answers.
    pub(super) const FORWARD: u64 = 100;
}

/// The type of an event's packet.
const EVENT: u64 = 2;

/// The channels of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    namespace: Arc<str>,
    broadcast: String,
    request: String,
    response: String,
}

impl Channels {
    /// Those under a key, Node's option of that name; its default is `socket.io`.
    pub fn new(key: &str, namespace: &Arc<str>) -> Self {
        Self {
            namespace: namespace.clone(),
            broadcast: format!("{key}#{namespace}#"),
            request: format!("{key}-request#{namespace}#"),
            response: format!("{key}-response#{namespace}#"),
        }
    }

    /// Whose they are.
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// The pattern of the channels of broadcasts; whatever glob characters the namespace has
    /// stand for themselves. (Node does not escape them.)
    pub fn pattern(&self) -> String {
        let mut pattern = String::with_capacity(self.broadcast.len() + 1);
        for character in self.broadcast.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push('*');
        pattern
    }

    /// Where requests come, which as many nodes hear as there are.
    pub fn request(&self) -> &str {
        &self.request
    }

    /// Where answers come that all hear.
    pub fn response(&self) -> &str {
        &self.response
    }

    /// Where answers come that one node hears.
    pub fn response_to(&self, node: &NodeId) -> String {
        format!("{}{node}#", self.response)
    }

    /// The room of a broadcast's channel (none: the whole namespace's), or `None` for what is no
    /// such channel.
    pub fn room<'c>(&self, channel: &'c str) -> Option<Option<&'c str>> {
        let room = channel.strip_prefix(&*self.broadcast)?;
        Some(if room.is_empty() { None } else { Some(room.strip_suffix('#')?) })
    }
}

/// Who writes, as far as the bytes depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A server's adapter. With `specific`, answers go to the channel of the node that asked:
    /// Node's `publishOnSpecificResponseChannel`.
    Adapter {
        /// Whether they do.
        specific: bool,
    },
    /// A process without sockets.
    Emitter,
}

#[derive(Serialize)]
struct PacketWritten<'a> {
    r#type: u64,
    data: &'a RawValue,
    nsp: &'a str,
}

#[derive(Serialize)]
struct RequestWritten<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(rename = "requestId", skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    r#type: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<PacketWritten<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opts: Option<OptionsWritten<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<Names<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
}

#[derive(Serialize)]
struct ForwardWritten<'a> {
    uid: Option<&'a str>,
    r#type: u64,
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct ForwardRead {
    uid: Option<String>,
    r#type: Option<u64>,
}

/// Writes a message for its channel; an answer for the node that asked, where the writer knows it.
///
/// # Errors
/// A heartbeat, which this encoding has not.
pub fn encode(
    message: &ClusterMessage,
    to: Option<&NodeId>,
    channels: &Channels,
    writer: Writer,
) -> Result<Publication, UnwritableError> {
    let sender = message.sender.as_ref().map(NodeId::as_str);
    if let ClusterBody::Broadcast { event, options, request: None } = &message.body {
        return broadcast::encode(sender.unwrap_or_default(), event, options, channels, writer);
    }
    if answers::is_answer(&message.body) {
        let payload = answers::encode(&message.body)?;
        // Node sends the answers to server-side events to all, whatever the option says.
        let for_all = matches!(message.body, ClusterBody::ServerSideEmitResponse { .. });
        let channel = match to {
            Some(to) if writer == (Writer::Adapter { specific: true }) && !for_all => {
                channels.response_to(to)
            }
            _ => channels.response.clone(),
        };
        return Ok(Publication { channel, payload });
    }
    if let ClusterBody::Forward(forward) = &message.body {
        let written = ForwardWritten { uid: sender, r#type: kind::FORWARD, data: raw(BINARY)? };
        let payload = msgpack(&serde_json::to_string(&written)?, &[forward.encode()])?;
        let channel = to.map_or(channels.request.clone(), |to| channels.response_to(to));
        return Ok(Publication { channel, payload });
    }
    let payload = encode_request(sender, &message.body, channels, writer)?;
    Ok(Publication { channel: channels.request.clone(), payload })
}

fn encode_request(
    sender: Option<&str>,
    body: &ClusterBody,
    channels: &Channels,
    writer: Writer,
) -> Result<Vec<u8>, UnwritableError> {
    // An emitter says who it is only with events.
    let uid = sender.filter(|_| writer != Writer::Emitter);
    let plain = |options| Some(OptionsWritten { options, form: OptionsForm::Plain });
    let mut written = RequestWritten {
        uid,
        request: None,
        r#type: 0,
        packet: None,
        opts: None,
        rooms: None,
        close: None,
        data: None,
        sid: None,
        room: None,
    };
    match body {
        ClusterBody::SocketsJoin { options, rooms } => {
            written = RequestWritten {
                r#type: kind::JOIN,
                opts: plain(options),
                rooms: Some(Names(rooms)),
                ..written
            };
        }
        ClusterBody::SocketsLeave { options, rooms } => {
            written = RequestWritten {
                r#type: kind::LEAVE,
                opts: plain(options),
                rooms: Some(Names(rooms)),
                ..written
            };
        }
        ClusterBody::DisconnectSockets { options, close } => {
            written = RequestWritten {
                r#type: kind::DISCONNECT,
                opts: plain(options),
                close: Some(*close),
                ..written
            };
        }
        ClusterBody::FetchSockets { request, options } => {
            written = RequestWritten {
                r#type: kind::FETCH,
                request: Some(request.as_str()),
                opts: plain(options),
                ..written
            };
        }
        ClusterBody::ListRooms { request } => {
            written.r#type = kind::LIST_ROOMS;
            written.request = Some(request.as_str());
        }
        ClusterBody::ListSockets { request, rooms } => {
            written.r#type = kind::LIST_SOCKETS;
            written.request = Some(request.as_str());
            written.rooms = Some(Names(rooms));
        }
        ClusterBody::ChangeSocket { request, socket, change } => {
            written.request = Some(request.as_str());
            written.sid = Some(socket.as_str());
            match change {
                SocketChange::Join(room) => {
                    (written.r#type, written.room) = (kind::JOIN, Some(&**room))
                }
                SocketChange::Leave(room) => {
                    (written.r#type, written.room) = (kind::LEAVE, Some(&**room));
                }
                SocketChange::Disconnect { close } => {
                    (written.r#type, written.close) = (kind::DISCONNECT, Some(*close));
                }
            }
        }
        ClusterBody::ServerSideEmit { event, request } => {
            let data = fields::inline(&format!("[{}]", event.raw()), event.attachments())?;
            let written = RequestWritten {
                uid: sender,
                r#type: kind::SERVER_SIDE_EMIT,
                request: request.as_ref().map(RequestId::as_str),
                data: Some(raw(&data)?),
                ..written
            };
            return Ok(serde_json::to_vec(&written)?);
        }
        ClusterBody::Broadcast { event, options, request } => {
            let data = raw(event.json())?;
            let packet = PacketWritten { r#type: EVENT, data, nsp: &channels.namespace };
            let written = RequestWritten {
                r#type: kind::BROADCAST,
                request: request.as_ref().map(RequestId::as_str),
                packet: Some(packet),
                opts: Some(OptionsWritten { options, form: OptionsForm::Adapter }),
                ..written
            };
            let attachments: Vec<_> = event.attachments().collect();
            return Ok(msgpack(&serde_json::to_string(&written)?, &attachments)?);
        }
        _ => return Err(UnwritableError::Kind),
    }
    Ok(serde_json::to_vec(&written)?)
}

#[derive(Deserialize)]
struct PacketRead<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    nsp: Option<String>,
}

#[derive(Deserialize)]
struct RequestRead<'a> {
    #[serde(default)]
    uid: Option<String>,
    #[serde(rename = "requestId", default)]
    request: Option<String>,
    r#type: u64,
    #[serde(borrow, default)]
    packet: Option<PacketRead<'a>>,
    #[serde(default)]
    opts: Option<OptionsRead>,
    #[serde(default)]
    rooms: Option<Vec<Room>>,
    #[serde(default)]
    close: Option<bool>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    sid: Option<String>,
    #[serde(default)]
    room: Option<Room>,
}

/// Reads what came on one of the channels.
///
/// # Errors
/// It is no message of a classic adapter or emitter.
pub fn decode(
    channel: &str,
    payload: &[u8],
    channels: &Channels,
) -> Result<ClusterMessage, WireError> {
    let message = decode_wanted(channel, payload, channels, |_, _| true)?;
    Ok(message.expect("all are wanted"))
}

/// As [`decode`], but a broadcast that `wants` does not want, by its sender and its rooms, is not
/// read further: `None`. The rest of it may be broken.
///
/// # Errors
/// As [`decode`].
pub fn decode_wanted(
    channel: &str,
    payload: &[u8],
    channels: &Channels,
    wants: impl FnOnce(&str, &[RoomName]) -> bool,
) -> Result<Option<ClusterMessage>, WireError> {
    if channels.room(channel).is_some() {
        return broadcast::decode(payload, channels, wants);
    }
    let text = Text::read(payload)?;
    let (sender, body) = if let Some(forward) = decode_forward(&text)? {
        forward
    } else if channel.starts_with(&*channels.response) {
        (None, answers::decode(&text)?)
    } else if channel == channels.request {
        decode_request(&text, channels)?
    } else {
        return Err(WireError::Channel);
    };
    let sender = sender.map(NodeId::new);
    Ok(Some(ClusterMessage { sender, namespace: channels.namespace.clone(), body }))
}

/// What has one piece of binary data may be ours.
fn decode_forward(text: &Text<'_>) -> Result<Option<(Option<String>, ClusterBody)>, WireError> {
    if text.attachments.len() != 1 {
        return Ok(None);
    }
    let ForwardRead { uid, r#type } = text.parse()?;
    if r#type != Some(kind::FORWARD) {
        return Ok(None);
    }
    Ok(Some((uid, fields::forward(&text.attachments)?)))
}

impl PacketRead<'_> {
    fn event(&self, channels: &Channels, attachments: &[Bytes]) -> Result<ClusterEvent, WireError> {
        if self.nsp.as_deref().unwrap_or("/") != &*channels.namespace {
            return Err(WireError::Namespace);
        }
        ClusterEvent::new(&channels.namespace, self.data, attachments).map_err(WireError::Event)
    }
}

fn decode_request(
    text: &Text<'_>,
    channels: &Channels,
) -> Result<(Option<String>, ClusterBody), WireError> {
    let read: RequestRead<'_> = text.parse()?;
    let request = read.request.map(RequestId::new);
    let asked = request.clone().ok_or(WireError::Missing("a request id"));
    let one = |sid: String| BroadcastOptions { rooms: vec![sid.into()], ..Default::default() };
    if read.opts.is_none()
        && let (Some(request), Some(sid)) = (&request, &read.sid)
        && let Some(change) = older_change(read.r#type, read.room.as_ref(), read.close)
    {
        let socket = SocketId::parse(sid).ok_or(WireError::Missing("the id of a socket"))?;
        let request = request.clone();
        return Ok((read.uid, ClusterBody::ChangeSocket { request, socket, change }));
    }
    let options = read.opts.map(BroadcastOptions::from).or_else(|| read.sid.map(one));
    // Without any, nobody in particular would be everybody.
    let options = options.ok_or(WireError::Missing("options"));
    let rooms = read.rooms.unwrap_or_else(|| read.room.into_iter().collect());
    let rooms = fields::names(rooms);
    let body = match read.r#type {
        kind::LIST_SOCKETS => ClusterBody::ListSockets { request: asked?, rooms },
        kind::LIST_ROOMS => ClusterBody::ListRooms { request: asked? },
        kind::JOIN => ClusterBody::SocketsJoin { options: options?, rooms },
        kind::LEAVE => ClusterBody::SocketsLeave { options: options?, rooms },
        kind::DISCONNECT => {
            ClusterBody::DisconnectSockets { options: options?, close: read.close.unwrap_or(false) }
        }
        kind::FETCH => ClusterBody::FetchSockets { request: asked?, options: options? },
        kind::SERVER_SIDE_EMIT => {
            let data = read.data.ok_or(WireError::Missing("data"))?;
            let event = fields::list(data, &text.attachments)?;
            ClusterBody::ServerSideEmit { event, request }
        }
        kind::BROADCAST => {
            let packet = read.packet.ok_or(WireError::Missing("a packet"))?;
            let event = packet.event(channels, &text.attachments)?;
            ClusterBody::Broadcast { event, options: options?, request: Some(asked?) }
        }
        other => return Err(WireError::UnknownType(other)),
    };
    Ok((read.uid, body))
}

/// The older forms name one socket, and one room.
fn older_change(kind: u64, room: Option<&Room>, close: Option<bool>) -> Option<SocketChange> {
    match (kind, room) {
        (kind::JOIN, Some(Room(room))) => Some(SocketChange::Join(room.clone())),
        (kind::LEAVE, Some(Room(room))) => Some(SocketChange::Leave(room.clone())),
        (kind::DISCONNECT, _) => Some(SocketChange::Disconnect { close: close.unwrap_or(false) }),
        _ => None,
    }
}
