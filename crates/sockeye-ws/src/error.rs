//! The errors of this crate: what a peer did wrong on the wire, and what our own caller did wrong.
//! Knows nothing of how they are found; the opening handshake has its own in `handshake`.

use crate::close::{CloseCode, REASON_BYTES_MAX};

/// What the peer sent that RFC 6455, or one of the [`Limits`](crate::Limits), does not allow.
///
/// A protocol error ends the connection: a close frame with [`close_code`](Self::close_code) is
/// queued, what else arrived is discarded, and [`Closed`](crate::Closed) carries the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit is set although no extension that gives it a meaning was negotiated.
    #[error("a reserved bit is set and no extension was negotiated")]
    ReservedBits,
    /// An opcode that RFC 6455 leaves for later versions (3–7, 11–15).
    #[error("reserved opcode {0}")]
    ReservedOpcode(u8),
    /// A continuation frame while no fragmented message is under way.
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// A text or binary frame inside a fragmented message.
    #[error("new message inside a fragmented message")]
    UnfinishedMessage,
    /// A control frame without the FIN bit.
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A control frame that declares more than 125 bytes.
    #[error("control frame longer than 125 bytes")]
    ControlTooLong,
    /// A frame from a client that is not masked.
    #[error("frame from a client is not masked")]
    Unmasked,
    /// A frame from a server that is masked.
    #[error("frame from a server is masked")]
    Masked,
    /// A declared length above 2^53 − 1 bytes.
    #[error("declared payload length is above 2^53 - 1")]
    LengthOverflow,
    /// A message longer than [`Limits::message_bytes_max`](crate::Limits::message_bytes_max) (in
    /// parts [`Limits::streamed_bytes_max`](crate::Limits::streamed_bytes_max)), or one that is
    /// compressed and longer before it is inflated than any compressor makes it.
    #[error("message is longer than the limit")]
    MessageTooLong,
    /// More frames in a message than [`Limits::fragments_max`](crate::Limits::fragments_max).
    #[error("message has more fragments than the limit")]
    TooManyFragments,
    /// More pings than [`Limits::pending_pongs_max`](crate::Limits::pending_pongs_max) before the
    /// answers could leave.
    #[error("more unanswered pings than the limit")]
    TooManyPings,
    /// A text message that is not UTF-8.
    #[error("text message is not UTF-8")]
    InvalidText,
    /// A compressed message that is not DEFLATE data, or ends in the middle of it.
    #[error("compressed message cannot be inflated")]
    InvalidDeflate,
    /// A close frame with a payload of one byte, which is half a status code.
    #[error("close frame with a payload of one byte")]
    CloseTooShort,
    /// A close frame with a status code that may not be sent.
    #[error("close frame with the status code {0}, which may not be sent")]
    InvalidCloseCode(u16),
    /// A close frame whose reason is not UTF-8.
    #[error("close reason is not UTF-8")]
    InvalidCloseReason,
}

impl ProtocolError {
    /// The status code that tells the peer about it (RFC 6455 §7.4.1): 1002, 1007, 1008 or 1009.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidText | Self::InvalidDeflate | Self::InvalidCloseReason => {
                CloseCode::INVALID_PAYLOAD
            }
            Self::LengthOverflow | Self::MessageTooLong => CloseCode::TOO_BIG,
            Self::TooManyFragments | Self::TooManyPings => CloseCode::POLICY,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// Why a message could not be encoded for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The closing handshake has begun: after a close frame nothing may follow.
    #[error("the connection is closing or closed")]
    Closing,
    /// A ping or pong with more than 125 bytes.
    #[error("a control frame holds at most 125 bytes")]
    ControlTooLong,
    /// A message between the fragments of another.
    #[error("a message whose fragments are being sent has not ended")]
    UnfinishedMessage,
    /// A fragment of text in a binary message, or the other way round.
    #[error("the fragments of a message are all text or all binary")]
    OtherKind,
    /// A fragment of a control frame.
    #[error("a control frame cannot be fragmented")]
    ControlFragment,
}

/// Why a closing handshake could not be started as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// A status code that may not appear in a close frame.
    #[error("status code {0} may not be sent")]
    Code(CloseCode),
    /// A reason of more than 123 bytes.
    #[error("a close reason holds at most {REASON_BYTES_MAX} bytes")]
    ReasonTooLong,
    /// A reason without a status code, which the frame has no place for.
    #[error("a close reason needs a status code")]
    ReasonWithoutCode,
}
