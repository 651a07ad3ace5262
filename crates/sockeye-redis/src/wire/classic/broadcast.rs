//! Broadcasts, the messages that there are many of: written without JSON in between, and read so
//! far only as somebody wants them. Does not know requests.

use serde_json::value::RawValue;
use sockeye::RoomName;
use sockeye::cluster::{
    BroadcastFlags, BroadcastOptions, ClusterBody, ClusterEvent, ClusterMessage, NodeId, Violation,
};
use sockeye_proto::socket::msgpack::{
    ValueReader, to_json, write_array_len, write_json, write_map_len, write_str, write_uint,
};

use super::{Channels, EVENT, Writer};
use crate::wire::fields::{FlagsWritten, OptionsRead, Room};
use crate::wire::{LIMITS, Publication, UnwritableError, WireError, raw};

/// What stands around the event, the names of rooms apart.
const BYTES_AROUND: usize = 128;

/// `[sender, {type, data, nsp}, {rooms, except, flags}]`.
pub(super) fn encode(
    sender: &str,
    event: &ClusterEvent,
    options: &BroadcastOptions,
    channels: &Channels,
    writer: Writer,
) -> Result<Publication, UnwritableError> {
    let attachments: Vec<_> = event.attachments().collect();
    let binary: usize = attachments.iter().map(|data| data.len()).sum();
    let mut out = Vec::with_capacity(event.json().len() + binary + BYTES_AROUND);
    write_array_len(&mut out, 3);
    write_str(&mut out, sender);
    write_map_len(&mut out, 3);
    write_str(&mut out, "type");
    write_uint(&mut out, EVENT);
    write_str(&mut out, "data");
    write_json(&mut out, event.json(), &attachments)?;
    write_str(&mut out, "nsp");
    write_str(&mut out, &channels.namespace);
    let BroadcastOptions { rooms, except, flags } = options;
    write_map_len(&mut out, 3);
    write_names(&mut out, "rooms", rooms);
    // An emitter has them the other way round.
    if writer == Writer::Emitter {
        write_flags(&mut out, flags)?;
        write_names(&mut out, "except", except);
    } else {
        write_names(&mut out, "except", except);
        write_flags(&mut out, flags)?;
    }
    let channel = match &rooms[..] {
        [room] => format!("{}{room}#", channels.broadcast),
        _ => channels.broadcast.clone(),
    };
    Ok(Publication { channel, payload: out })
}

fn write_names(out: &mut Vec<u8>, key: &str, rooms: &[RoomName]) {
    write_str(out, key);
    write_array_len(out, u32::try_from(rooms.len()).expect("memory holds fewer rooms"));
    rooms.iter().for_each(|room| write_str(out, room));
}

fn write_flags(out: &mut Vec<u8>, flags: &BroadcastFlags) -> Result<(), UnwritableError> {
    write_str(out, "flags");
    if *flags == BroadcastFlags::default() {
        write_map_len(out, 0);
        return Ok(());
    }
    let json = serde_json::to_string(&FlagsWritten(flags))?;
    Ok(write_json::<&[u8]>(out, &json, &[])?)
}

/// Reads a broadcast that is wanted. What has always been MessagePack is read as nothing else.
pub(super) fn decode(
    payload: &[u8],
    channels: &Channels,
    wants: impl FnOnce(&str, &[RoomName]) -> bool,
) -> Result<Option<ClusterMessage>, WireError> {
    let mut parts = ValueReader::new(payload);
    if parts.array_len().map_err(WireError::MessagePack)? != 3 {
        return Err(WireError::Missing("three parts"));
    }
    let mut part = || parts.value().map_err(WireError::MessagePack);
    let (sender, packet, options) = (part()?, part()?, part()?);
    if !parts.is_empty() {
        return Err(WireError::MessagePack(Violation::InvalidPayload));
    }
    let sender = text(sender)?;
    let options = BroadcastOptions::from(read_options(options)?);
    if !wants(sender, &options.rooms) {
        return Ok(None);
    }
    let event = read_event(packet, channels)?;
    let body = ClusterBody::Broadcast { event, options, request: None };
    let sender = Some(NodeId::new(sender));
    Ok(Some(ClusterMessage { sender, namespace: channels.namespace.clone(), body }))
}

fn read_event(packet: &[u8], channels: &Channels) -> Result<ClusterEvent, WireError> {
    let (mut data, mut namespace) = (None, "/");
    for_each_entry(packet, |key, value| {
        match key {
            "data" => data = Some(value),
            "nsp" => namespace = text(value)?,
            _ => {}
        }
        Ok(())
    })?;
    if namespace != &*channels.namespace {
        return Err(WireError::Namespace);
    }
    let data = data.ok_or(WireError::Missing("data"))?;
    let (json, attachments) = to_json(data, LIMITS).map_err(WireError::MessagePack)?;
    let list: &RawValue = raw(&json)?;
    ClusterEvent::new(&channels.namespace, list, &attachments).map_err(WireError::Event)
}

fn read_options(options: &[u8]) -> Result<OptionsRead, WireError> {
    let mut read = OptionsRead::default();
    for_each_entry(options, |key, value| {
        match key {
            "rooms" => read.rooms = read_names(value)?,
            "except" => read.except = read_names(value)?,
            // Nearly always there are none.
            "flags" if value != [0x80] => {
                let (json, _) = to_json(value, LIMITS).map_err(WireError::MessagePack)?;
                read.flags = serde_json::from_str(&json)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(read)
}

fn read_names(names: &[u8]) -> Result<Vec<Room>, WireError> {
    let mut parts = ValueReader::new(names);
    let len = parts.array_len().map_err(WireError::MessagePack)?;
    // Each takes a byte at least: no room is made for what is not there.
    let mut rooms = Vec::with_capacity(len.min(names.len()));
    while !parts.is_empty() {
        let name = parts.value().map_err(WireError::MessagePack)?;
        rooms.push(match ValueReader::new(name).text() {
            Ok(name) => Room(name.into()),
            // A number, as Node's `Map`s may have it.
            Err(_) => {
                let (json, _) = to_json(name, LIMITS).map_err(WireError::MessagePack)?;
                serde_json::from_str(&json)?
            }
        });
    }
    Ok(rooms)
}

fn text(value: &[u8]) -> Result<&str, WireError> {
    ValueReader::new(value).text().map_err(WireError::MessagePack)
}

/// Keys that are no text are nothing that is looked for.
fn for_each_entry<'a>(
    map: &'a [u8],
    mut each: impl FnMut(&str, &'a [u8]) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut parts = ValueReader::new(map);
    for _ in 0..parts.map_len().map_err(WireError::MessagePack)? {
        let key = parts.value().map_err(WireError::MessagePack)?;
        let value = parts.value().map_err(WireError::MessagePack)?;
        if let Ok(key) = text(key) {
            each(key, value)?;
        }
    }
    Ok(())
}
