//! Frame headers (RFC 6455 §5.2): 2 to 14 bytes, written and read.
//! Knows nothing of roles, messages or limits; `connection` decides what a header may say and when.

use crate::error::ProtocolError;
use crate::mask::MaskingKey;

/// The longest header: two bytes, eight of length, four of masking key.
pub const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest payload that is accepted at all: 2^53 − 1 bytes, the largest integer every peer
/// written in JavaScript can count to.
pub const PAYLOAD_BYTES_MAX: u64 = (1 << 53) - 1;

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
