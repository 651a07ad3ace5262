//! A long-polling body: packets with the record separator between.
//! Does not know who sends it; its size is bounded by whoever reads the body.

use super::packet::{Packet, PacketError};

/// Stands between two packets.
pub const SEPARATOR: u8 = 0x1e;

/// A piece of the payload is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It is not UTF-8.
    #[error("the payload is not UTF-8")]
    Utf8,
    /// It is no packet.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// In revision 3, a length that is no number, or that nothing of that length follows.
    #[error("a packet's length is invalid")]
    Length,
}

/// The packets of a body, in order. The first error is the end of it: the packets before are good.
/// An empty body is an error, as an empty packet is.
///
/// The bytes are split before they are read as UTF-8: the separator is no part of a longer
/// sequence.
pub fn decode(body: &[u8]) -> impl Iterator<Item = Result<Packet<'_>, PayloadError>> {
    let mut failed = false;
    body.split(|&byte| byte == SEPARATOR).map_while(move |piece| {
        if failed {
            return None;
        }
        let packet = read(piece);
        failed = packet.is_err();
        Some(packet)
    })
}

fn read(piece: &[u8]) -> Result<Packet<'_>, PayloadError> {
    let text = simdutf8::basic::from_utf8(piece).map_err(|_| PayloadError::Utf8)?;
    Ok(Packet::from_text(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Message;

    fn text(text: &str) -> Result<Packet<'_>, PayloadError> {
        Ok(Packet::Message(Message::Text(text.into())))
    }

    #[test]
    fn packets_are_separated() {
        let packets: Vec<_> = decode("4a\u{1e}bAQI=\u{1e}4é€".as_bytes()).collect();
        let binary = Ok(Packet::from_binary(vec![1, 2].into()));
        assert_eq!(packets, [text("a"), binary, text("é€")]);
    }

    #[test]
    fn h10_good_packets_before_a_bad_one_are_handed_out() {
        let packets: Vec<_> = decode(b"4a\x1exyz\x1e4never").collect();
        assert_eq!(packets, [text("a"), Err(PayloadError::Packet(PacketError::UnknownType))]);
        let packets: Vec<_> = decode(b"4a\x1e4\xff").collect();
        assert_eq!(packets, [text("a"), Err(PayloadError::Utf8)]);
    }

    #[test]
    fn h11_an_empty_body_is_an_error() {
        let packets: Vec<_> = decode(b"").collect();
        assert_eq!(packets, [Err(PayloadError::Packet(PacketError::UnknownType))]);
    }
}
