//! What a long-polling GET is answered with. Does not know requests.

use bytes::Bytes;
use sockeye_proto::engine::Revision;
use sockeye_proto::engine::payload::SEPARATOR;
use sockeye_proto::socket::EncodedPacket;

use super::encoding::Encoder;

/// What a GET is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) body: Bytes,
    /// Whether it holds a packet that was not told to stay as it is.
    pub(crate) may_be_compressed: bool,
    /// Engine.IO 3: it is no text.
    pub(crate) is_binary: bool,
}

impl Payload {
    /// Of a packet that says nothing.
    pub(crate) fn noop(revision: Revision) -> Self {
        let body = Bytes::from_static(match revision {
            Revision::V4 => b"6",
            Revision::V3 => b"1:6",
        });
        Self { body, may_be_compressed: true, is_binary: false }
    }

    pub(super) fn of(packets: &[EncodedPacket], encoder: Option<&Encoder>) -> Self {
        // Of revision 4 to the byte: what were left over would cost a second allocation. In
        // revision 3 each packet has its length before it.
        let between = if matches!(encoder, Some(Encoder::V3 { .. })) { 8 } else { 1 };
        let len = packets.iter().map(|packet| packet.payload_len() + between).sum::<usize>();
        let mut body = Vec::with_capacity(len.saturating_sub(1));
        let mut is_binary = false;
        if let Some(Encoder::V3 { base64, .. }) = encoder {
            is_binary = !base64 && packets.iter().any(EncodedPacket::is_binary);
            for packet in packets {
                if is_binary {
                    packet.write_binary_payload_v3(&mut body);
                } else {
                    packet.write_payload_v3(&mut body);
                }
            }
        } else {
            for packet in packets {
                if !body.is_empty() {
                    body.push(SEPARATOR);
                }
                packet.write_payload(&mut body);
            }
        }
        let may_be_compressed = packets.iter().any(EncodedPacket::may_be_compressed);
        Self { body: body.into(), may_be_compressed, is_binary }
    }
}
