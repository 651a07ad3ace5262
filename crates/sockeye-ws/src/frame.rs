//! Frame headers (RFC 6455 §5.2): 2 to 14 bytes, written and read.
//! Knows nothing of roles, messages or limits; `connection` decides what a header may say and when.

use crate::error::ProtocolError;
use crate::mask::{self, MaskingKey};

/// The longest header: two bytes, eight of length, four of masking key.
pub const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest payload that is accepted at all: 2^53 − 1 bytes, the largest integer every peer
/// written in JavaScript can count to.
pub const PAYLOAD_BYTES_MAX: u64 = (1 << 53) - 1;

/// RSV1 among [`Header::rsv`]: with permessage-deflate, the message is compressed (RFC 7692 §6).
pub(crate) const RSV1: u8 = 0x4;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the message under way.
    Continuation = 0x0,
    /// A text message or its first fragment.
    Text = 0x1,
    /// A binary message or its first fragment.
    Binary = 0x2,
    /// The peer sends nothing after this.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping, or is a one-sided heartbeat.
    Pong = 0xA,
}

impl Opcode {
    /// Whether frames of this kind may stand between the fragments of a message.
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    fn from_nibble(nibble: u8) -> Result<Self, ProtocolError> {
        match nibble {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xA => Ok(Self::Pong),
            reserved => Err(ProtocolError::ReservedOpcode(reserved)),
        }
    }
}

/// Appends the header of an unmasked, unfragmented frame: what a server puts before a payload.
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    Header { fin: true, rsv: 0, opcode, mask: None, payload_len: payload_len as u64 }.encode(out);
}

/// Appends a whole unfragmented frame; the payload is masked in `out`, never where it came from.
#[inline]
pub(crate) fn write_frame(
    out: &mut Vec<u8>,
    opcode: Opcode,
    payload: &[u8],
    mask: Option<MaskingKey>,
) {
    let payload_len = payload.len() as u64;
    write_payload(out, Header { fin: true, rsv: 0, opcode, mask, payload_len }, payload);
}

/// Appends a frame with this header and payload, masked as the header says.
#[inline]
pub(crate) fn write_payload(out: &mut Vec<u8>, header: Header, payload: &[u8]) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    header.encode(out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = header.mask {
        mask::apply(key, 0, &mut out[start..]);
    }
}

/// A whole frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// The reserved bits RSV1 (value 4), RSV2 (2) and RSV3 (1).
    pub rsv: u8,
    /// What the frame is for.
    pub opcode: Opcode,
    /// The key the payload is masked with.
    pub mask: Option<MaskingKey>,
    /// How many bytes of payload follow the header.
    pub payload_len: u64,
}

impl Header {
    /// Appends the header with the shortest form of the length (RFC 6455 §5.2).
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let first = u8::from(self.fin) << 7 | (self.rsv & 0x7) << 4 | self.opcode as u8;
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        if self.payload_len < u64::from(LENGTH_16) {
            out.extend_from_slice(&[first, masked | self.payload_len as u8]);
        } else if let Ok(length) = u16::try_from(self.payload_len) {
            let [high, low] = length.to_be_bytes();
            out.extend_from_slice(&[first, masked | LENGTH_16, high, low]);
        } else {
            out.extend_from_slice(&[first, masked | LENGTH_64]);
            out.extend_from_slice(&self.payload_len.to_be_bytes());
        }
        if let Some(key) = self.mask {
            out.extend_from_slice(&key);
        }
    }

    /// Reads the header that `bytes` begins with, and how long it is. `None`: more bytes needed.
    ///
    /// Lengths that are not in their shortest form are accepted, as every common peer does.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::ReservedOpcode`] as soon as the first two bytes are there,
    /// [`ProtocolError::LengthOverflow`] when the length is above [`PAYLOAD_BYTES_MAX`].
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let &[first, second, ..] = bytes else { return Ok(None) };
        let start = Start::decode(first, second)?;
        let header_len = start.header_len();
        match bytes.get(2..header_len) {
            Some(rest) => Ok(Some((start.complete(rest)?, header_len))),
            None => Ok(None),
        }
    }
}

/// The first two bytes of a header: enough to tell whether the frame is allowed at all, so that a
/// bad one fails before the rest of its header has arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) fin: bool,
    pub(crate) rsv: u8,
    pub(crate) opcode: Opcode,
    pub(crate) masked: bool,
    /// The length itself up to 125, else how many bytes hold it.
    length_field: u8,
}

impl Start {
    #[inline]
    pub(crate) fn decode(first: u8, second: u8) -> Result<Self, ProtocolError> {
        Ok(Self {
            fin: first & FIN != 0,
            rsv: first >> 4 & 0x7,
            opcode: Opcode::from_nibble(first & 0xF)?,
            masked: second & MASKED != 0,
            length_field: second & !MASKED,
        })
    }

    /// Whether the length is in the one form that a control frame may use.
    pub(crate) fn fits_control(self) -> bool {
        self.length_field < LENGTH_16
    }

    /// The length of the whole header, these two bytes included.
    #[inline]
    pub(crate) fn header_len(self) -> usize {
        let length = match self.length_field {
            LENGTH_16 => 2,
            LENGTH_64 => 8,
            _ => 0,
        };
        2 + length + if self.masked { 4 } else { 0 }
    }

    /// Reads what follows the first two bytes; `rest` holds exactly that.
    #[inline]
    pub(crate) fn complete(self, rest: &[u8]) -> Result<Header, ProtocolError> {
        debug_assert_eq!(rest.len() + 2, self.header_len());
        let (length, key) = if self.masked {
            let (length, key) = rest.split_last_chunk().expect("a masked header ends in its key");
            (length, Some(*key))
        } else {
            (rest, None)
        };
        let payload_len = match self.length_field {
            LENGTH_16 | LENGTH_64 => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        if payload_len > PAYLOAD_BYTES_MAX {
            return Err(ProtocolError::LengthOverflow);
        }
        Ok(Header { fin: self.fin, rsv: self.rsv, opcode: self.opcode, mask: key, payload_len })
    }
}

/// A message of one frame without extensions, all of it here, with a length of 16 bits at most: as
/// nearly all are. For what it is not, [`Start`] has the steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Single {
    pub(crate) opcode: Opcode,
    /// All zero for a frame that is not masked.
    pub(crate) key: MaskingKey,
    pub(crate) header_len: usize,
    pub(crate) payload_len: usize,
}

impl Single {
    /// Reads what `bytes` begin with, which must be masked or must not.
    #[inline(always)]
    pub(crate) fn decode(bytes: &[u8], masked: bool) -> Option<Self> {
        const TEXT: u8 = FIN | Opcode::Text as u8;
        const BINARY: u8 = FIN | Opcode::Binary as u8;

        let &[first, second, ref rest @ ..] = bytes else { return None };
        let opcode = match first {
            TEXT => Opcode::Text,
            BINARY => Opcode::Binary,
            _ => return None,
        };
        if (second & MASKED != 0) != masked {
            return None;
        }
        let (payload_len, rest) = match (second & !MASKED, rest) {
            (LENGTH_64, _) => return None,
            (LENGTH_16, &[high, low, ref rest @ ..]) => {
                (u16::from_be_bytes([high, low]).into(), rest)
            }
            (LENGTH_16, _) => return None,
            (length, rest) => (usize::from(length), rest),
        };
        let (key, rest) = match masked {
            true => rest.split_first_chunk()?,
            false => (&[0; 4], rest),
        };
        let header_len = bytes.len() - rest.len();
        let is_whole = rest.len() >= payload_len;
        is_whole.then_some(Self { opcode, key: *key, header_len, payload_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: MaskingKey = [0x37, 0xFA, 0x21, 0x3D];

    fn header(opcode: Opcode, payload_len: u64) -> Header {
        Header { fin: true, rsv: 0, opcode, mask: None, payload_len }
    }

    #[test]
    fn headers_of_the_examples_in_rfc_6455_section_5_7() {
        let masked = |header: Header| Header { mask: Some(KEY), ..header };
        let cases: [(&[u8], Header); 7] = [
            (&[0x81, 0x05], header(Opcode::Text, 5)),
            (&[0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D], masked(header(Opcode::Text, 5))),
            (&[0x01, 0x03], Header { fin: false, ..header(Opcode::Text, 3) }),
            (&[0x80, 0x02], header(Opcode::Continuation, 2)),
            (&[0x89, 0x05], header(Opcode::Ping, 5)),
            (&[0x82, 0x7E, 0x01, 0x00], header(Opcode::Binary, 256)),
            (&[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0], header(Opcode::Binary, 65_536)),
        ];
        for (bytes, header) in cases {
            let mut out = Vec::new();
            header.encode(&mut out);
            assert_eq!(out, bytes, "{header:?}");
            assert_eq!(Header::decode(bytes), Ok(Some((header, bytes.len()))));
        }
    }

    #[test]
    fn lengths_change_their_form_at_125_126_65535_and_65536() {
        let header_lens = [(0, 2), (125, 2), (126, 4), (127, 4), (65_535, 4), (65_536, 10)];
        for (payload_len, header_len) in header_lens {
            let mut out = Vec::new();
            write_header(&mut out, Opcode::Text, payload_len);
            assert_eq!(out.len(), header_len, "{payload_len}");
            let (header, len) = Header::decode(&out).unwrap().unwrap();
            assert_eq!((header.payload_len, len), (payload_len as u64, header_len));
        }
    }

    #[test]
    fn a_part_of_a_header_is_no_header_yet() {
        let mut out = Vec::new();
        let whole = Header { mask: Some(KEY), ..header(Opcode::Binary, PAYLOAD_BYTES_MAX) };
        whole.encode(&mut out);
        assert_eq!(out.len(), HEADER_BYTES_MAX);
        for len in 0..out.len() {
            assert_eq!(Header::decode(&out[..len]), Ok(None), "{len} bytes");
        }
        assert_eq!(Header::decode(&out), Ok(Some((whole, HEADER_BYTES_MAX))));
    }

    #[test]
    fn lengths_not_in_their_shortest_form_are_read() {
        let cases: [&[u8]; 3] =
            [&[0x81, 0x05], &[0x81, 0x7E, 0, 5], &[0x81, 0x7F, 0, 0, 0, 0, 0, 0, 0, 5]];
        for bytes in cases {
            let (header, len) = Header::decode(bytes).unwrap().unwrap();
            assert_eq!((header.payload_len, len), (5, bytes.len()));
        }
    }

    #[test]
    fn lengths_above_2_to_the_53_are_refused() {
        for length in [PAYLOAD_BYTES_MAX + 1, 1 << 63, u64::MAX] {
            let mut bytes = vec![0x82, 0x7F];
            bytes.extend_from_slice(&length.to_be_bytes());
            assert_eq!(Header::decode(&bytes), Err(ProtocolError::LengthOverflow), "{length}");
        }
    }

    #[test]
    fn reserved_opcodes_fail_with_two_bytes() {
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            let bytes = [0x80 | opcode, 0xFF];
            assert_eq!(Header::decode(&bytes), Err(ProtocolError::ReservedOpcode(opcode)));
        }
    }
}
