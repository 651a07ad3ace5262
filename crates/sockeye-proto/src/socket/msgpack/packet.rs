//! A packet as one MessagePack map `{type, data, nsp, id?}`, as `socket.io-msgpack-parser` has it.
//! Does not know namespaces or acknowledgements that wait.

use std::borrow::Cow;

use super::read::{self, Reader};
use super::{ReadLimits, write_json, write_map_len, write_str, write_uint};
use crate::engine::Message;
use crate::socket::emit::EncodeError;
use crate::socket::multiplexer::MultiplexerLimits;
use crate::socket::packet::Violation;
use crate::socket::parser::{Packet, PacketKind, PacketParser};

/// See [`Parser::MessagePack`](crate::socket::Parser).
#[derive(Clone, Copy, Debug)]
pub(in crate::socket) struct MessagePack;

impl PacketParser for MessagePack {
    fn decode(
        &self,
        message: Message<'_>,
        limits: MultiplexerLimits,
    ) -> Result<Packet<'static>, Violation> {
        match message {
            Message::Binary(message) => read_packet(&message, limits),
            Message::Text(_) => Err(Violation::WrongParser),
        }
    }

    fn encode(&self, packet: &Packet<'_>) -> Result<Message<'static>, EncodeError> {
        let Packet { kind, namespace, id, json, attachments } = packet;
        let binary: usize = attachments.iter().map(|data| data.len() + 5).sum();
        let mut out = Vec::with_capacity(json.len() + namespace.len() + binary + 40);
        let len = 2 + u32::from(!json.is_empty()) + u32::from(id.is_some());
        write_map_len(&mut out, len);
        write_str(&mut out, "type");
        write_uint(&mut out, *kind as u64);
        if !json.is_empty() {
            write_str(&mut out, "data");
            write_json(&mut out, json, attachments)?;
        }
        if let Some(id) = id {
            write_str(&mut out, "id");
            write_uint(&mut out, *id);
        }
        write_str(&mut out, "nsp");
        write_str(&mut out, namespace);
        Ok(Message::Binary(Cow::Owned(out)))
    }
}

fn read_packet(message: &[u8], limits: MultiplexerLimits) -> Result<Packet<'static>, Violation> {
    let MultiplexerLimits { depth_max, attachments_max, .. } = limits;
    let mut reader = Reader::new(message, ReadLimits { depth_max, attachments_max });
    let (mut kind, mut namespace, mut id, mut json) = (None, None, None, None);
    let mut attachments = Vec::new();
    for _ in 0..reader.map_len()? {
        // A key that comes twice would mean one thing to us and another to whoever looks on.
        let is_first = match reader.str()? {
            "type" => kind.replace(read_kind(&mut reader)?).is_none(),
            "nsp" => namespace.replace(reader.str()?).is_none(),
            _ if reader.take_undefined() => true,
            "id" => id.replace(read_id(&mut reader)?).is_none(),
            "data" => {
                let mut data = Vec::with_capacity(message.len() + message.len() / 4);
                reader.value(&mut data, &mut attachments)?;
                json.replace(data).is_none()
            }
            // Such as the `options` that clients send along.
            _ => {
                reader.value(&mut Vec::new(), &mut Vec::new())?;
                true
            }
        };
        if !is_first {
            return Err(Violation::InvalidPayload);
        }
    }
    if !reader.is_empty() {
        return Err(Violation::InvalidPayload);
    }
    let kind = kind.ok_or(Violation::UnknownType)?;
    let namespace = namespace.ok_or(Violation::InvalidNamespace)?;
    if json.is_none() && matches!(kind, PacketKind::Event | PacketKind::Ack) {
        return Err(Violation::InvalidPayload);
    }
    Ok(Packet {
        kind,
        namespace: Cow::Owned(namespace.to_owned()),
        id,
        json: Cow::Owned(json.map(read::into_text).unwrap_or_default()),
        attachments: attachments.into_iter().map(|data| Cow::Owned(data.into())).collect(),
    })
}

fn read_kind(reader: &mut Reader<'_>) -> Result<PacketKind, Violation> {
    match reader.integer() {
        Ok(0) => Ok(PacketKind::Connect),
        Ok(1) => Ok(PacketKind::Disconnect),
        Ok(2) => Ok(PacketKind::Event),
        Ok(3) => Ok(PacketKind::Ack),
        Ok(4) => Ok(PacketKind::ConnectError),
        _ => Err(Violation::UnknownType),
    }
}

fn read_id(reader: &mut Reader<'_>) -> Result<u64, Violation> {
    match reader.integer()? {
        id if id < 0 => Err(Violation::InvalidPayload),
        id => u64::try_from(id).map_err(|_| Violation::IdTooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(message: &[u8]) -> Result<Packet<'static>, Violation> {
        MessagePack.decode(Message::Binary(message.into()), MultiplexerLimits::default())
    }

    fn packet(kind: PacketKind, id: Option<u64>, json: &'static str) -> Packet<'static> {
        Packet { kind, namespace: "/".into(), id, json: json.into(), attachments: Vec::new() }
    }

    #[test]
    fn packets_of_the_official_client() {
        // As the package `socket.io-msgpack-parser` 3.0.2 writes them.
        for (message, expected) in [
            (
                &b"\x83\xa4type\x00\xa4data\xd4\x00\x00\xa3nsp\xa1/"[..],
                packet(PacketKind::Connect, None, ""),
            ),
            (
                b"\x83\xa4type\x00\xa4data\x81\xa1t\x01\xa3nsp\xa1/",
                packet(PacketKind::Connect, None, r#"{"t":1}"#),
            ),
            (
                b"\x85\xa4type\x02\xa4data\x91\xa1e\xa7options\x81\xa8compress\xc3\
                  \xa2id\x07\xa3nsp\xa1/",
                packet(PacketKind::Event, Some(7), r#"["e"]"#),
            ),
            (
                b"\x84\xa4type\x03\xa2id\xcd\x01\x00\xa4data\x90\xa3nsp\xa1/",
                packet(PacketKind::Ack, Some(256), "[]"),
            ),
            (b"\x82\xa4type\x01\xa3nsp\xa1/", packet(PacketKind::Disconnect, None, "")),
        ] {
            assert_eq!(decode(message), Ok(expected), "{message:x?}");
            for end in 0..message.len() {
                assert!(decode(&message[..end]).is_err(), "{message:x?}");
            }
        }
    }

    #[test]
    fn what_is_no_packet() {
        for (message, violation) in [
            (&b"\xc0"[..], Violation::InvalidPayload),
            (b"\x80", Violation::UnknownType),
            (b"\x82\xa4type\x05\xa3nsp\xa1/", Violation::UnknownType),
            (b"\x82\xa4type\xa10\xa3nsp\xa1/", Violation::UnknownType),
            (b"\x82\xa4type\xff\xa3nsp\xa1/", Violation::UnknownType),
            (b"\x81\xa4type\x01", Violation::InvalidNamespace),
            (b"\x82\xa4type\x01\xa3nsp\x01", Violation::InvalidPayload),
            (b"\x82\xa4type\x02\xa3nsp\xa1/", Violation::InvalidPayload),
            (b"\x83\xa4type\x03\xa3nsp\xa1/\xa2id\x01", Violation::InvalidPayload),
            (b"\x83\xa4type\x01\xa4type\x01\xa3nsp\xa1/", Violation::InvalidPayload),
            (b"\x83\xa4type\x01\xa2id\xff\xa3nsp\xa1/", Violation::InvalidPayload),
            (b"\x83\xa4type\x01\xa2id\xc0\xa3nsp\xa1/", Violation::InvalidPayload),
            (b"\x82\xa4type\x01\xa3nsp\xa1/\xc0", Violation::InvalidPayload),
            (b"\x81\x01\x01", Violation::InvalidPayload),
        ] {
            assert_eq!(decode(message), Err(violation), "{message:x?}");
        }
        let text = MessagePack.decode(Message::Text("0".into()), MultiplexerLimits::default());
        assert_eq!(text, Err(Violation::WrongParser));
    }
}
