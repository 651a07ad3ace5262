//! One Engine.IO packet, from a WebSocket message or a piece of a long-polling payload.
//! Does not know which packets are legal when; the session does.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Serialize;

use super::Transport;
use crate::ids::SessionId;

/// Standard base64; padding is not insisted on.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// In revision 3, what a binary message begins with.
pub(crate) const MESSAGE_V3: u8 = 4;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: the server opens the session; its JSON.
    Open(Cow<'a, str>),
    /// `1`: the session ends.
    Close,
    /// `2`: a heartbeat of the server, or the client's `probe`.
    Ping(Cow<'a, str>),
    /// `3`: the answer.
    Pong(Cow<'a, str>),
    /// `4` (or a binary message): what the session is for.
    Message(Message<'a>),
    /// `5`: the probing transport takes over.
    Upgrade,
    /// `6`: nothing; it ends a long-polling GET.
    Noop,
}

/// A message's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// Binary data.
    Binary(Cow<'a, [u8]>),
}

/// The text is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// It does not begin with a packet type.
    #[error("unknown packet type")]
    UnknownType,
    /// A binary packet in text that is not base64.
    #[error("invalid base64")]
    Base64,
}

impl<'a> Packet<'a> {
    /// Reads a text. `b` begins a binary message in base64, also over WebSocket.
    ///
    /// # Errors
    /// It is no packet.
    #[inline]
    pub fn from_text(text: &'a str) -> Result<Self, PacketError> {
        let Some(&kind) = text.as_bytes().first() else { return Err(PacketError::UnknownType) };
        // The type is ASCII where it is one.
        let data = || Cow::Borrowed(&text[1..]);
        match kind {
            b'4' => Ok(Self::Message(Message::Text(data()))),
            b'0' => Ok(Self::Open(data())),
            b'1' => Ok(Self::Close),
            b'2' => Ok(Self::Ping(data())),
            b'3' => Ok(Self::Pong(data())),
            b'5' => Ok(Self::Upgrade),
            b'6' => Ok(Self::Noop),
            b'b' => {
                let data = BASE64.decode(&text[1..]).map_err(|_| PacketError::Base64)?;
                Ok(Self::Message(Message::Binary(Cow::Owned(data))))
            }
            _ => Err(PacketError::UnknownType),
        }
    }

    /// A binary WebSocket message is a binary message.
    pub fn from_binary(data: Cow<'a, [u8]>) -> Self {
        Self::Message(Message::Binary(data))
    }

    /// Reads a text of revision 3, where the type stands before the base64, too: `b4…`.
    ///
    /// # Errors
    /// It is no packet. (Only messages are binary.)
    pub fn from_text_v3(text: &'a str) -> Result<Self, PacketError> {
        match text.strip_prefix('b') {
            Some(binary) => {
                let base64 = binary.strip_prefix('4').ok_or(PacketError::UnknownType)?;
                let data = BASE64.decode(base64).map_err(|_| PacketError::Base64)?;
                Ok(Self::Message(Message::Binary(Cow::Owned(data))))
            }
            None => Self::from_text(text),
        }
    }

    /// Reads a binary WebSocket message of revision 3, which begins with the type as a number.
    ///
    /// # Errors
    /// It is no message, which is all that is binary.
    pub fn from_binary_v3(data: Cow<'a, [u8]>) -> Result<Self, PacketError> {
        if data.first() != Some(&MESSAGE_V3) {
            return Err(PacketError::UnknownType);
        }
        Ok(Self::from_binary(match data {
            Cow::Borrowed(data) => Cow::Borrowed(&data[1..]),
            Cow::Owned(mut data) => {
                data.remove(0);
                Cow::Owned(data)
            }
        }))
    }

    /// Appends the packet as text; binary messages as `b` and base64.
    pub fn encode_text(&self, out: &mut Vec<u8>) {
        let (kind, data) = match self {
            Self::Open(json) => (b'0', json.as_ref()),
            Self::Close => (b'1', ""),
            Self::Ping(data) => (b'2', data.as_ref()),
            Self::Pong(data) => (b'3', data.as_ref()),
            Self::Message(Message::Text(text)) => (b'4', text.as_ref()),
            Self::Upgrade => (b'5', ""),
            Self::Noop => (b'6', ""),
            Self::Message(Message::Binary(data)) => {
                out.push(b'b');
                out.extend_from_slice(BASE64.encode(data).as_bytes());
                return;
            }
        };
        out.push(kind);
        out.extend_from_slice(data.as_bytes());
    }
}

/// What the server tells a client first.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// The session's id.
    pub sid: &'a SessionId,
    /// The transports it may upgrade to.
    pub upgrades: &'a [Transport],
    /// See [`Timing::ping_interval`](super::Timing::ping_interval).
    pub ping_interval: Duration,
    /// See [`Timing::ping_timeout`](super::Timing::ping_timeout).
    pub ping_timeout: Duration,
    /// The bytes of one message or payload that the server accepts.
    pub max_payload: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OpenWire<'a> {
    sid: &'a str,
    upgrades: Vec<&'static str>,
    ping_interval: u128,
    ping_timeout: u128,
    max_payload: usize,
}

impl Open<'_> {
    /// The open packet.
    pub fn to_packet(&self) -> Packet<'static> {
        let wire = OpenWire {
            sid: self.sid.as_str(),
            upgrades: self.upgrades.iter().map(|transport| transport.as_str()).collect(),
            ping_interval: self.ping_interval.as_millis(),
            ping_timeout: self.ping_timeout.as_millis(),
            max_payload: self.max_payload,
        };
        let json = serde_json::to_string(&wire).expect("text and numbers can be written as JSON");
        Packet::Open(json.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_packets() {
        let binary = |data: &'static [u8]| Packet::from_binary(data.into());
        for (text, packet) in [
            ("1", Packet::Close),
            ("2", Packet::Ping("".into())),
            ("2probe", Packet::Ping("probe".into())),
            ("3probe", Packet::Pong("probe".into())),
            ("4hé", Packet::Message(Message::Text("hé".into()))),
            ("4", Packet::Message(Message::Text("".into()))),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
            ("bAQI=", binary(&[1, 2])),
            // H 31: an empty buffer is `b` and nothing.
            ("b", binary(&[])),
        ] {
            assert_eq!(Packet::from_text(text), Ok(packet.clone()), "{text}");
            let mut encoded = Vec::new();
            packet.encode_text(&mut encoded);
            assert_eq!(encoded, text.as_bytes());
        }
        for text in ["", "7", "a", " 4", "é"] {
            assert_eq!(Packet::from_text(text), Err(PacketError::UnknownType), "{text}");
        }
        assert_eq!(Packet::from_text("b%%"), Err(PacketError::Base64));
    }

    #[test]
    fn a6_in_revision_3_binary_messages_have_their_type() {
        let binary = |data: &'static [u8]| Ok(Packet::from_binary(data.into()));
        assert_eq!(Packet::from_text_v3("b4AQI="), binary(&[1, 2]));
        assert_eq!(Packet::from_text_v3("b4"), binary(&[]));
        assert_eq!(Packet::from_text_v3("2probe"), Ok(Packet::Ping("probe".into())));
        for text in ["bAQI=", "b2AQI=", "b", "", "é"] {
            assert_eq!(Packet::from_text_v3(text), Err(PacketError::UnknownType), "{text}");
        }
        assert_eq!(Packet::from_text_v3("b4%"), Err(PacketError::Base64));
        assert_eq!(Packet::from_binary_v3((&[4, 1, 2][..]).into()), binary(&[1, 2]));
        assert_eq!(Packet::from_binary_v3(vec![4].into()), binary(&[]));
        for data in [&[][..], &[2], b"4"] {
            assert_eq!(Packet::from_binary_v3(data.into()), Err(PacketError::UnknownType));
        }
    }

    #[test]
    fn the_open_packet_counts_in_milliseconds() {
        let sid = SessionId::from_entropy([0; 15]);
        let open = Open {
            sid: &sid,
            upgrades: &[Transport::WebSocket],
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_millis(20_000),
            max_payload: 1_000_000,
        };
        let expected = concat!(
            r#"{"sid":"AAAAAAAAAAAAAAAAAAAA","upgrades":["websocket"],"#,
            r#""pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
        assert_eq!(open.to_packet(), Packet::Open(expected.into()));
    }
}
