//! Packets as parsers other than JSON see them: taken apart, and put together from a message.
//! Does not know the parsers.

use std::borrow::Cow;
use std::sync::Arc;

use sockeye_ws::frame::{Opcode, write_header};

use super::{EncodedPacket, HEADER_BYTES_MAX, Inner, finish, new_buffer};
use crate::engine::Message;
use crate::socket::packet;
use crate::socket::parser::{Packet, PacketKind};

impl EncodedPacket {
    /// The parts of a Socket.IO packet that is encoded as JSON; `None` for all others.
    pub(in crate::socket) fn parts(&self) -> Option<Packet<'_>> {
        if !self.0.is_json {
            return None;
        }
        let parts = packet::split(self.text(), usize::MAX).ok()?;
        Some(Packet {
            kind: PacketKind::of_digit(parts.kind)?,
            namespace: Cow::Borrowed(parts.namespace),
            id: parts.id,
            json: Cow::Borrowed(parts.json),
            attachments: self.attachments().map(Cow::Borrowed).collect(),
        })
    }

    /// This packet as an Engine.IO message of any content.
    pub(in crate::socket) fn foreign(&self, message: Message<'_>) -> Self {
        let mut packet = match message {
            Message::Text(text) => {
                let mut buffer = new_buffer();
                buffer.push(b'4');
                buffer.extend_from_slice(text.as_bytes());
                finish(buffer, &[], false)
            }
            Message::Binary(data) => {
                let mut buffer = Vec::with_capacity(HEADER_BYTES_MAX + data.len());
                write_header(&mut buffer, Opcode::Binary, data.len());
                let start = buffer.len();
                buffer.extend_from_slice(&data);
                let attachments = std::iter::once(start..buffer.len()).collect();
                Self(Arc::new(Inner::new(buffer, 0..0, attachments, false)))
            }
        };
        let inner = Arc::make_mut(&mut packet.0);
        (inner.compress, inner.for_many) = (self.0.compress, self.0.for_many);
        packet
    }
}
