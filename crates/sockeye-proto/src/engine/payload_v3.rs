//! A long-polling body of revision 3: packets with their lengths before them, as text or binary.
//! Does not know who sends it; its size is bounded by whoever reads the body.
//!
//! ```text
//! text    6:4hello 6:b4AQID           (without the space) lengths in UTF-16 code units
//! binary  00 06 FF "4hello"           text: its length in bytes, a digit in each byte
//!         01 04 FF 04 01 02 03        binary: the type is a byte of it
//! ```

use std::borrow::Cow;

use super::packet::{MESSAGE_V3, Packet};
use super::payload::PayloadError;

/// How many digits a length may have: more than any body.
const DIGITS_MAX: usize = 10;
/// What stands behind a length in a binary payload.
const LENGTH_END: u8 = 0xFF;
const TEXT: u8 = 0;
const BINARY: u8 = 1;

/// The packets of a textual body, in order. The first error is the end of it: the packets before
/// are good. An empty body is an error; an empty packet (`0:`) is none and passed over.
pub fn decode(body: &[u8]) -> impl Iterator<Item = Result<Packet<'_>, PayloadError>> {
    // A body that is not UTF-8 has no lengths in UTF-16.
    let text = simdutf8::basic::from_utf8(body).map_err(|_| PayloadError::Utf8);
    let mut rest = text.and_then(|text| match text {
        "" => Err(PayloadError::Length),
        text => Ok(text),
    });
    std::iter::from_fn(move || {
        let packet = match &mut rest {
            Ok(rest) => next_text(rest),
            Err(error) => Some(Err(*error)),
        };
        if !matches!(packet, Some(Ok(_))) {
            rest = Ok("");
        }
        packet
    })
}

/// The packets of a binary body (`application/octet-stream`), as [`decode`].
pub fn decode_binary(mut body: &[u8]) -> impl Iterator<Item = Result<Packet<'_>, PayloadError>> {
    let mut is_empty = body.is_empty();
    std::iter::from_fn(move || {
        if std::mem::take(&mut is_empty) {
            return Some(Err(PayloadError::Length));
        }
        let packet = next_binary(&mut body);
        if !matches!(packet, Some(Ok(_))) {
            body = &[];
        }
        packet
    })
}

/// Appends a packet's text (of which so much as `b4…` is base64) to a textual body.
pub fn encode(text: &str, out: &mut Vec<u8>) {
    let units = if text.is_ascii() { text.len() } else { text.encode_utf16().count() };
    out.extend_from_slice(itoa::Buffer::new().format(units).as_bytes());
    out.push(b':');
    out.extend_from_slice(text.as_bytes());
}

/// Appends a packet's text to a binary body.
pub fn encode_text_in_binary(text: &str, out: &mut Vec<u8>) {
    encode_binary_header(TEXT, text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a binary message to a binary body.
pub fn encode_binary(data: &[u8], out: &mut Vec<u8>) {
    encode_binary_header(BINARY, 1 + data.len(), out);
    out.push(MESSAGE_V3);
    out.extend_from_slice(data);
}

fn encode_binary_header(kind: u8, len: usize, out: &mut Vec<u8>) {
    out.push(kind);
    let mut digits = itoa::Buffer::new();
    out.extend(digits.format(len).bytes().map(|digit| digit - b'0'));
    out.push(LENGTH_END);
}

fn next_text<'a>(rest: &mut &'a str) -> Option<Result<Packet<'a>, PayloadError>> {
    loop {
        if rest.is_empty() {
            return None;
        }
        let Some((piece, behind)) = split_text(rest) else {
            return Some(Err(PayloadError::Length));
        };
        *rest = behind;
        if !piece.is_empty() {
            return Some(Packet::from_text_v3(piece).map_err(PayloadError::from));
        }
    }
}

/// The first packet's text, and what is behind it.
fn split_text(text: &str) -> Option<(&str, &str)> {
    // The official server reads a length as JavaScript reads numbers (`1e1`, `0x6`); no client
    // writes one so.
    let colon = text.bytes().take(DIGITS_MAX + 1).position(|byte| byte == b':')?;
    let units = length(text[..colon].bytes().map(|digit| digit.wrapping_sub(b'0')))?;
    let text = &text[colon + 1..];
    // As many bytes are as many units where all of them are ASCII.
    if text.as_bytes().get(..units).is_some_and(<[u8]>::is_ascii) {
        return text.split_at_checked(units);
    }
    let (mut at, mut counted) = (0, 0);
    for char in text.chars() {
        if counted >= units {
            break;
        }
        counted += char.len_utf16();
        at += char.len_utf8();
    }
    // Neither too few, nor a half of a surrogate pair.
    (counted == units).then(|| text.split_at(at))
}

fn next_binary<'a>(body: &mut &'a [u8]) -> Option<Result<Packet<'a>, PayloadError>> {
    let (&kind, rest) = body.split_first()?;
    let Some((piece, behind)) = split_binary(rest) else {
        return Some(Err(PayloadError::Length));
    };
    *body = behind;
    let packet = match kind {
        TEXT => match simdutf8::basic::from_utf8(piece) {
            Ok(text) => Packet::from_text_v3(text),
            Err(_) => return Some(Err(PayloadError::Utf8)),
        },
        BINARY => Packet::from_binary_v3(Cow::Borrowed(piece)),
        _ => return Some(Err(PayloadError::Length)),
    };
    Some(packet.map_err(PayloadError::from))
}

/// The bytes that belong to a length, and what is behind them.
fn split_binary(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = rest.iter().take(DIGITS_MAX + 1).position(|&byte| byte == LENGTH_END)?;
    let len = length(rest[..end].iter().copied())?;
    rest[end + 1..].split_at_checked(len)
}

/// A number from its digits, of which there must be some.
fn length(digits: impl ExactSizeIterator<Item = u8>) -> Option<usize> {
    if digits.len() == 0 {
        return None;
    }
    let add = |number: usize, digit: u8| {
        let digit = usize::from(digit);
        (digit <= 9).then(|| number.checked_mul(10)?.checked_add(digit)).flatten()
    };
    digits.into_iter().try_fold(0_usize, add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Message, PacketError};

    fn text(text: &str) -> Result<Packet<'_>, PayloadError> {
        Ok(Packet::Message(Message::Text(text.into())))
    }

    fn binary(data: &[u8]) -> Result<Packet<'_>, PayloadError> {
        Ok(Packet::from_binary(data.into()))
    }

    #[test]
    fn a6_lengths_stand_before_packets() {
        let packets: Vec<_> = decode(b"6:4hello1:26:b4AQID0:2:4x").collect();
        let expected = [text("hello"), Ok(Packet::Ping("".into())), binary(&[1, 2, 3]), text("x")];
        assert_eq!(packets, expected);
    }

    #[test]
    fn h30_lengths_count_utf_16_units() {
        let packets: Vec<_> = decode("2:4é3:4😀2:4€".as_bytes()).collect();
        assert_eq!(packets, [text("é"), text("😀"), text("€")]);
        let mut body = Vec::new();
        for message in ["4é", "4😀", "4€"] {
            encode(message, &mut body);
        }
        assert_eq!(body, "2:4é3:4😀2:4€".as_bytes());
        // A half of the pair.
        assert_eq!(decode("2:4😀".as_bytes()).collect::<Vec<_>>(), [Err(PayloadError::Length)]);
    }

    #[test]
    fn a6_a_binary_payload_counts_bytes() {
        let mut body = Vec::new();
        encode_text_in_binary("4é€", &mut body);
        encode_binary(&[7; 11], &mut body);
        let expected =
            [&[0, 6, 0xFF][..], "4é€".as_bytes(), &[1, 1, 2, 0xFF, 4], &[7; 11]].concat();
        assert_eq!(body, expected);
        assert_eq!(decode_binary(&body).collect::<Vec<_>>(), [text("é€"), binary(&[7; 11])]);
    }

    #[test]
    fn good_packets_before_a_bad_one_are_handed_out() {
        let unknown = Err(PayloadError::Packet(PacketError::UnknownType));
        for (body, error) in [
            ("2:4a3:xyz2:4b", unknown.clone()),
            ("2:4ax:4b", Err(PayloadError::Length)),
            ("2:4a9:4b", Err(PayloadError::Length)),
            ("2:4a:4b", Err(PayloadError::Length)),
            ("2:4a-1:4b", Err(PayloadError::Length)),
            ("2:4a99999999999:4b", Err(PayloadError::Length)),
            ("2:4a12", Err(PayloadError::Length)),
        ] {
            assert_eq!(decode(body.as_bytes()).collect::<Vec<_>>(), [text("a"), error], "{body}");
        }
        assert_eq!(decode(b"").collect::<Vec<_>>(), [Err(PayloadError::Length)]);
        assert_eq!(decode(b"1:\xFF").collect::<Vec<_>>(), [Err(PayloadError::Utf8)]);
        assert_eq!(decode_binary(b"").collect::<Vec<_>>(), [Err(PayloadError::Length)]);
        let good = [0, 2, 0xFF, b'4', b'a'];
        for (bad, error) in [
            (&[2, 1, 0xFF, b'4'][..], Err(PayloadError::Length)),
            (&[0, 0xFF], Err(PayloadError::Length)),
            (&[0, 10, 0xFF], Err(PayloadError::Length)),
            (&[0, 9, 0xFF, b'4'], Err(PayloadError::Length)),
            (&[0, 1], Err(PayloadError::Length)),
            (&[0, 2, 0xFF, b'4', 0xFF], Err(PayloadError::Utf8)),
            (&[0, 0, 0xFF], unknown.clone()),
            (&[1, 1, 0xFF, 2], unknown),
        ] {
            let body = [&good, bad, &good].concat();
            assert_eq!(decode_binary(&body).collect::<Vec<_>>(), [text("a"), error], "{bad:?}");
        }
    }
}
