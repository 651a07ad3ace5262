//! The parts that all of Node's messages are made of, as they stand in JSON.
//! Does not know the messages.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use sockeye::cluster::{BroadcastFlags, BroadcastOptions, ClusterBody, Forward, SocketDetails};
use sockeye::{OwnedArgs, RoomName, SocketId};
use sockeye_proto::socket::msgpack::{append_json, inline_json, write_json};

use super::{LIMITS, UnwritableError, WireError};

/// The name of a room: text, or a number, which is another key in Node's maps and the same here.
pub(super) struct Room(pub(super) RoomName);

impl<'de> Deserialize<'de> for Room {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RoomVisitor)
    }
}

struct RoomVisitor;

impl Visitor<'_> for RoomVisitor {
    type Value = Room;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a room")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Room, E> {
        Ok(Room(name.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Room, E> {
        Ok(Room(number.to_string().into()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Room, E> {
        Ok(Room(number.to_string().into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Room, E> {
        Ok(Room(number.to_string().into()))
    }
}

pub(super) fn names(rooms: Vec<Room>) -> Vec<RoomName> {
    rooms.into_iter().map(|Room(name)| name).collect()
}

/// JSON that is there, be it `null`: `undefined` is what is left out.
pub(super) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// `opts`, as it comes. What is missing is empty.
#[derive(Default, serde::Deserialize)]
pub(super) struct OptionsRead {
    #[serde(default)]
    pub(super) rooms: Vec<Room>,
    #[serde(default)]
    pub(super) except: Vec<Room>,
    #[serde(default)]
    pub(super) flags: Option<FlagsRead>,
}

#[derive(Default, serde::Deserialize)]
pub(super) struct FlagsRead {
    #[serde(default)]
    volatile: Option<bool>,
    #[serde(default)]
    compress: Option<bool>,
    #[serde(default)]
    timeout: Option<f64>,
    #[serde(default)]
    conflate: Option<String>,
    #[serde(default)]
    direct: Option<bool>,
}

impl From<OptionsRead> for BroadcastOptions {
    fn from(read: OptionsRead) -> Self {
        let flags = read.flags.unwrap_or_default();
        let timeout = flags.timeout.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
        Self {
            rooms: names(read.rooms),
            except: names(read.except),
            flags: BroadcastFlags {
                volatile: flags.volatile.unwrap_or(false),
                compress: flags.compress.unwrap_or(true),
                timeout,
                conflate: flags.conflate.map(Arc::from),
                direct: flags.direct.unwrap_or(false),
            },
        }
    }
}

/// `opts`, as it leaves.
pub(super) struct OptionsWritten<'a> {
    pub(super) options: &'a BroadcastOptions,
    pub(super) form: OptionsForm,
}

/// Where the flags stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OptionsForm {
    /// `{rooms, except, flags}`.
    Adapter,
    /// `{rooms, flags, except}`: an emitter's.
    Emitter,
    /// `{rooms, except}`: a request's that sends nothing to clients.
    Plain,
}

impl Serialize for OptionsWritten<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let BroadcastOptions { rooms, except, flags } = self.options;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("rooms", &Names(rooms))?;
        if self.form == OptionsForm::Emitter {
            map.serialize_entry("flags", &FlagsWritten(flags))?;
        }
        map.serialize_entry("except", &Names(except))?;
        if self.form == OptionsForm::Adapter {
            map.serialize_entry("flags", &FlagsWritten(flags))?;
        }
        map.end()
    }
}

pub(super) struct FlagsWritten<'a>(pub(super) &'a BroadcastFlags);

impl Serialize for FlagsWritten<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let BroadcastFlags { volatile, compress, timeout, conflate, direct } = self.0;
        let mut map = serializer.serialize_map(None)?;
        if *volatile {
            map.serialize_entry("volatile", &true)?;
        }
        if !compress {
            map.serialize_entry("compress", &false)?;
        }
        if let Some(timeout) = timeout {
            let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            map.serialize_entry("timeout", &ms)?;
        }
        if let Some(conflate) = conflate {
            map.serialize_entry("conflate", &**conflate)?;
        }
        if *direct {
            map.serialize_entry("direct", &true)?;
        }
        map.end()
    }
}

/// Names of rooms, which `serde` does not write by itself.
pub(super) struct Names<'a>(pub(super) &'a [RoomName]);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|name| &**name))
    }
}

/// One socket of an answer, as it comes.
#[derive(serde::Deserialize)]
pub(super) struct SocketRead<'a> {
    id: String,
    #[serde(borrow)]
    handshake: &'a RawValue,
    rooms: Vec<Room>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
}

impl SocketRead<'_> {
    pub(super) fn into_details(self, attachments: &[Bytes]) -> Result<SocketDetails, WireError> {
        let id = SocketId::parse(&self.id).ok_or(WireError::Missing("the id of a socket"))?;
        let data = self.data.map_or_else(OwnedArgs::default, |data| one(data, attachments));
        let handshake = self.handshake.to_owned();
        Ok(SocketDetails { id, handshake, rooms: names(self.rooms), data })
    }
}

/// One argument of a message that came; it shares the message's attachments if it has any.
pub(super) fn one(json: &RawValue, attachments: &[Bytes]) -> OwnedArgs {
    let has_any = !attachments.is_empty() && json.get().contains("\"_placeholder\":true");
    OwnedArgs::one(json, if has_any { attachments.to_vec() } else { Vec::new() })
}

/// Stands for binary data that is all there is.
pub(super) const BINARY: &str = r#"{"_placeholder":true,"num":0}"#;

/// What our nodes say to each other of clients' requests: binary data and nothing else.
pub(super) fn forward(attachments: &[Bytes]) -> Result<ClusterBody, WireError> {
    let forward = attachments.first().and_then(Forward::decode);
    forward.map(ClusterBody::Forward).ok_or(WireError::Missing("a forwarded request"))
}

/// One socket of an answer, as it leaves.
#[derive(serde::Serialize)]
pub(super) struct SocketWritten<'a> {
    id: &'a str,
    handshake: &'a RawValue,
    rooms: Names<'a>,
    data: Box<RawValue>,
}

/// The sockets of an answer; their binary data is numbered anew, one behind the other.
pub(super) fn sockets<'a>(
    sockets: &'a [SocketDetails],
    attachments: &mut Vec<Bytes>,
) -> Result<Vec<SocketWritten<'a>>, UnwritableError> {
    let mut written = Vec::with_capacity(sockets.len());
    for SocketDetails { id, handshake, rooms, data } in sockets {
        let json = match data.raw() {
            "" => "{}".to_owned(),
            json if data.attachments().is_empty() => json.to_owned(),
            json => renumbered(json, data.attachments(), attachments)?,
        };
        let data = RawValue::from_string(json)?;
        written.push(SocketWritten { id: id.as_str(), handshake, rooms: Names(rooms), data });
    }
    Ok(written)
}

/// As [`sockets`], for JSON.
pub(super) fn sockets_inline(
    sockets: &[SocketDetails],
) -> Result<Vec<SocketWritten<'_>>, UnwritableError> {
    let mut written = Vec::with_capacity(sockets.len());
    for SocketDetails { id, handshake, rooms, data } in sockets {
        let data = RawValue::from_string(match data.raw() {
            "" => "{}".to_owned(),
            json => inline(json, data.attachments())?,
        })?;
        written.push(SocketWritten { id: id.as_str(), handshake, rooms: Names(rooms), data });
    }
    Ok(written)
}

fn renumbered(
    json: &str,
    own: &[Bytes],
    attachments: &mut Vec<Bytes>,
) -> Result<String, UnwritableError> {
    let (mut message, mut out) = (Vec::new(), Vec::new());
    write_json(&mut message, json, own)?;
    append_json(&message, LIMITS, &mut out, attachments)
        .map_err(serde::ser::Error::custom)
        .map_err(UnwritableError::Json)?;
    Ok(String::from_utf8(out).expect("JSON is UTF-8"))
}

/// JSON in which binary data stands as Node's `JSON.stringify` writes it.
pub(super) fn inline<A: AsRef<[u8]>>(
    json: &str,
    attachments: &[A],
) -> Result<String, UnwritableError> {
    if attachments.is_empty() {
        return Ok(json.to_owned());
    }
    Ok(inline_json(json, attachments)?)
}

/// A list of arguments that came, such as a server-side event.
pub(super) fn list(json: &RawValue, attachments: &[Bytes]) -> Result<OwnedArgs, WireError> {
    let list = OwnedArgs::list(json, attachments.to_vec());
    list.filter(|list| !list.raw().is_empty()).ok_or(WireError::Missing("the name of an event"))
}
