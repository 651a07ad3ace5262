//! A packet as clients of Engine.IO 3 take it: a binary message begins with its type, and
//! long-polling puts lengths before packets. Does not know which client takes what.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sockeye_ws::MessageRef;
use sockeye_ws::deflate::Agreed;
use sockeye_ws::frame::{Opcode, write_header};

use super::EncodedPacket;
use super::deflated::{compress, form_for};
use crate::engine::{MESSAGE_V3, payload_v3};

impl EncodedPacket {
    /// All WebSocket frames of it for a client of Engine.IO 3, which takes attachments as binary
    /// messages or only in base64. They are made once for all that take the same.
    pub fn wire_v3(&self, base64: bool) -> &[u8] {
        if self.0.attachments.is_empty() {
            return self.wire();
        }
        self.0.forms().v3[usize::from(base64)].get_or_init(|| {
            let text = &self.0.wire[self.0.text.clone()];
            let mut wire = Vec::with_capacity(self.wire().len() + self.attachments().count());
            // What a foreign parser has encoded may be binary data alone.
            if !text.is_empty() {
                write_header(&mut wire, Opcode::Text, text.len());
                wire.extend_from_slice(text);
            }
            for attachment in self.attachments() {
                if base64 {
                    let text = base64_text(attachment);
                    write_header(&mut wire, Opcode::Text, text.len());
                    wire.extend_from_slice(text.as_bytes());
                } else {
                    write_header(&mut wire, Opcode::Binary, 1 + attachment.len());
                    wire.push(MESSAGE_V3);
                    wire.extend_from_slice(attachment);
                }
            }
            wire.into_boxed_slice()
        })
    }

    /// As [`wire_v3`](Self::wire_v3), for a client that has `agreed` to permessage-deflate without
    /// a context of the server's: compressed as [`wire_for`](Self::wire_for) has it.
    pub fn wire_v3_for(&self, base64: bool, agreed: Option<&Agreed>) -> &[u8] {
        if self.0.attachments.is_empty() {
            return self.wire_for(agreed);
        }
        let compressed = agreed.filter(|_| self.0.compress).and_then(|agreed| {
            let len = |data: &[u8]| if base64 { base64_len(data) } else { 1 + data.len() };
            let longest = self.attachments().map(len).fold(self.0.text.len(), usize::max);
            let forms =
                || &**self.0.forms().v3_deflated[usize::from(base64)].get_or_init(Box::default);
            form_for(agreed, longest, forms, || self.compress_v3(base64, agreed))
        });
        compressed.unwrap_or_else(|| self.wire_v3(base64))
    }

    fn compress_v3(&self, base64: bool, agreed: &Agreed) -> Option<Box<[u8]>> {
        let text = Some(MessageRef::Text(self.engine_text())).filter(|_| !self.0.text.is_empty());
        if base64 {
            let texts: Vec<_> = self.attachments().map(base64_text).collect();
            return compress(
                agreed,
                text.into_iter().chain(texts.iter().map(|t| MessageRef::Text(t))),
            );
        }
        let typed: Vec<_> = self.attachments().map(|data| [&[MESSAGE_V3], data].concat()).collect();
        compress(agreed, text.into_iter().chain(typed.iter().map(|data| MessageRef::Binary(data))))
    }

    /// Whether it has attachments, for which a payload must be binary.
    pub fn is_binary(&self) -> bool {
        !self.0.attachments.is_empty()
    }

    /// Appends the long-polling form of Engine.IO 3 to a textual payload.
    pub fn write_payload_v3(&self, out: &mut Vec<u8>) {
        if !self.engine_text().is_empty() {
            payload_v3::encode(self.engine_text(), out);
        }
        self.attachments().for_each(|data| payload_v3::encode(&base64_text(data), out));
    }

    /// Appends the long-polling form of Engine.IO 3 to a binary payload.
    pub fn write_binary_payload_v3(&self, out: &mut Vec<u8>) {
        if !self.engine_text().is_empty() {
            payload_v3::encode_text_in_binary(self.engine_text(), out);
        }
        self.attachments().for_each(|data| payload_v3::encode_binary(data, out));
    }

    /// The Engine.IO packet's text.
    fn engine_text(&self) -> &str {
        std::str::from_utf8(&self.0.wire[self.0.text.clone()]).expect("a packet's text is UTF-8")
    }
}

fn base64_len(data: &[u8]) -> usize {
    2 + data.len().div_ceil(3) * 4
}

fn base64_text(data: &[u8]) -> String {
    let mut text = String::from("b4");
    STANDARD.encode_string(data, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use sockeye_ws::deflate::Options;
    use sockeye_ws::{Connection, Limits, Role};

    use super::*;
    use crate::engine::payload_v3::{decode, decode_binary};
    use crate::engine::{Message, Packet};
    use crate::socket::Binary;

    fn packet() -> EncodedPacket {
        let args = ("é😀", Binary::from(vec![1, 2]), Binary::from(Vec::new()));
        EncodedPacket::event("/", None, "e", &args).expect("JSON")
    }

    #[test]
    fn a6_binary_messages_have_their_type_over_websocket() {
        let packet = packet();
        let text_len = 2 + packet.text().len() + 1;
        assert_eq!(packet.wire_v3(false)[..text_len], packet.wire()[..text_len]);
        assert_eq!(packet.wire_v3(false)[text_len..], [0x82, 3, 4, 1, 2, 0x82, 1, 4]);
        assert_eq!(packet.wire_v3(true)[text_len..], *b"\x81\x06b4AQI=\x81\x02b4");
        let text = EncodedPacket::event("/", None, "e", &1).expect("JSON");
        assert_eq!(text.wire_v3(false).as_ptr(), text.wire().as_ptr());
    }

    #[test]
    fn a6_whoever_agreed_gets_the_same_compressed() {
        let (text, data) = ("é".repeat(2000), vec![7; 3000]);
        let args = (&text, Binary::from(data.clone()), Binary::from(vec![1]));
        let packet = EncodedPacket::event("/", None, "e", &args).expect("JSON");
        let agreed = super::super::deflated::agreed(&Options::default());
        for base64 in [false, true] {
            let form = packet.wire_v3_for(base64, Some(&agreed));
            assert!(form.len() < packet.wire().len() / 10, "{} bytes", form.len());
            assert_eq!(form.as_ptr(), packet.wire_v3_for(base64, Some(&agreed)).as_ptr());
            let mut client =
                Connection::new(Role::Client, Limits::default()).with_deflate(Some(agreed));
            let read = |wire: &[u8], client: &mut Connection| -> Vec<_> {
                let mut wire = wire.to_vec();
                let events = client.handle_input(&mut wire, Instant::now());
                events.map(|event| format!("{event:?}")).collect()
            };
            let plain = read(packet.wire_v3(base64), &mut client);
            assert_eq!(plain.len(), 3);
            assert_eq!(read(form, &mut client), plain);
            let told = packet.clone().without_compression();
            assert_eq!(told.wire_v3_for(base64, Some(&agreed)), packet.wire_v3(base64));
            assert_eq!(packet.wire_v3_for(base64, None), packet.wire_v3(base64));
        }
        // Without attachments it is what clients of today get.
        let packet = EncodedPacket::event("/", None, "e", &text).expect("JSON");
        let form = packet.wire_for(Some(&agreed)).as_ptr();
        assert_eq!(packet.wire_v3_for(false, Some(&agreed)).as_ptr(), form);
    }

    #[test]
    fn a6_payloads_carry_the_same() {
        let packet = packet();
        let text = format!("4{}", packet.text());
        let expected = [
            Packet::Message(Message::Text(packet.text().into())),
            Packet::from_binary(vec![1, 2].into()),
            Packet::from_binary(vec![].into()),
        ];
        let (mut body, mut binary) = (Vec::new(), Vec::new());
        packet.write_payload_v3(&mut body);
        packet.write_binary_payload_v3(&mut binary);
        let units = text.encode_utf16().count();
        assert_eq!(body, format!("{units}:{text}6:b4AQI=2:b4").into_bytes());
        assert_eq!(decode(&body).collect::<Result<Vec<_>, _>>().as_deref(), Ok(&expected[..]));
        let read = decode_binary(&binary).collect::<Result<Vec<_>, _>>();
        assert_eq!(read.as_deref(), Ok(&expected[..]));
    }
}
