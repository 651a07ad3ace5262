//! Status codes and payloads of close frames (RFC 6455 §5.5.1, §7.4).
//! Does not know when a close frame is sent; that is `connection`.

use std::fmt;

use crate::error::{CloseError, ProtocolError};
use crate::frame::CONTROL_BYTES_MAX;

/// The longest reason in bytes: a control frame's 125 without the two of the status code.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Why a connection was closed, as a number (RFC 6455 §7.4).
///
/// Any number can be held; [`is_sendable`](Self::is_sendable) tells whether it may appear in a
/// close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The server shuts down or the page was left.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The kind of data cannot be accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// Reported when the close frame carried no status code. Never sent.
    pub const NO_STATUS: Self = Self(1005);
    /// Reported when the connection ended without a close frame. Never sent.
    pub const ABNORMAL: Self = Self(1006);
    /// The data do not fit the type of the message: text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// The peer broke a rule for which there is no better code.
    pub const POLICY: Self = Self(1008);
    /// A message was too long.
    pub const TOO_BIG: Self = Self(1009);
    /// The server did not negotiate an extension that the client needs.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// The server met an unexpected condition.
    pub const INTERNAL: Self = Self(1011);
    /// The server restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// The server is overloaded.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// A gateway got an invalid answer from the server behind it.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// Reported when TLS could not be set up. Never sent.
    pub const TLS_HANDSHAKE: Self = Self(1015);

    /// Whether the code may stand in a close frame, sent or received: 1000–1003, 1007–1014 (the
    /// registered ones that are not reserved for reporting) and 3000–4999 (libraries and
    /// applications).
    pub fn is_sendable(self) -> bool {
        // RFC 6455 §7.4.1 reserves 1004 and forbids 1005, 1006 and 1015 in a frame; §7.4.2 leaves
        // 0–999 unused and 1016–2999 to later versions of the protocol.
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

/// Whether a close frame can carry this.
pub(crate) fn check(code: Option<CloseCode>, reason: &str) -> Result<(), CloseError> {
    match code {
        Some(code) if !code.is_sendable() => Err(CloseError::Code(code)),
        Some(_) if reason.len() > REASON_BYTES_MAX => Err(CloseError::ReasonTooLong),
        None if !reason.is_empty() => Err(CloseError::ReasonWithoutCode),
        _ => Ok(()),
    }
}

/// Reads the payload of a close frame. An empty one carries no code.
pub(crate) fn decode(payload: &[u8]) -> Result<(Option<CloseCode>, &str), ProtocolError> {
    // RFC 6455 §5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte
    // unsigned integer (in network byte order)".
    match payload {
        [] => Ok((None, "")),
        [_] => Err(ProtocolError::CloseTooShort),
        [high, low, reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([*high, *low]));
            if !code.is_sendable() {
                return Err(ProtocolError::InvalidCloseCode(code.0));
            }
            // RFC 6455 §8.1: a byte stream that should be UTF-8 and is not fails the connection.
            let reason = str::from_utf8(reason).map_err(|_| ProtocolError::InvalidCloseReason)?;
            Ok((Some(code), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_stand_in_a_close_frame() {
        let allowed = [1000..=1003, 1007..=1014, 3000..=4999];
        for code in 0..=u16::MAX {
            let expected = allowed.iter().any(|range| range.contains(&code));
            assert_eq!(CloseCode(code).is_sendable(), expected, "{code}");
            let decoded = decode(&code.to_be_bytes()).map(|(code, _)| code);
            if expected {
                assert_eq!(decoded, Ok(Some(CloseCode(code))));
                assert_eq!(check(Some(CloseCode(code)), ""), Ok(()));
            } else {
                assert_eq!(decoded, Err(ProtocolError::InvalidCloseCode(code)));
                assert_eq!(check(Some(code.into()), ""), Err(CloseError::Code(CloseCode(code))));
            }
        }
    }

    #[test]
    fn payloads() {
        assert_eq!(decode(b""), Ok((None, "")));
        assert_eq!(decode(b"\x03"), Err(ProtocolError::CloseTooShort));
        assert_eq!(decode(b"\x03\xE8"), Ok((Some(CloseCode::NORMAL), "")));
        assert_eq!(decode(b"\x03\xE9bye"), Ok((Some(CloseCode::GOING_AWAY), "bye")));
        assert_eq!(decode(b"\x03\xE8\xFF"), Err(ProtocolError::InvalidCloseReason));
    }

    #[test]
    fn a_reason_has_at_most_123_bytes_and_needs_a_code() {
        let longest = "x".repeat(123);
        assert_eq!(check(Some(CloseCode::NORMAL), &longest), Ok(()));
        let longer = longest + "x";
        assert_eq!(check(Some(CloseCode::NORMAL), &longer), Err(CloseError::ReasonTooLong));
        assert_eq!(check(None, "why"), Err(CloseError::ReasonWithoutCode));
    }
}
