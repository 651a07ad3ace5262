//! How packets become messages: the official JSON, MessagePack, or an application's own encoding.
//! Does not know when a packet is legal; [`Multiplexer`] does.

use std::borrow::Cow;
use std::sync::Arc;
use std::{fmt, mem};

use super::EncodedPacket;
use super::emit::EncodeError;
use super::msgpack::MessagePack;
use super::multiplexer::{Incoming, Multiplexer, MultiplexerLimits};
use super::packet::{Violation, kind};
use crate::engine::Message;

/// How packets are encoded: what Node calls a parser. Server and clients must have the same.
#[derive(Clone, Debug, Default)]
pub enum Parser {
    /// JSON, and an attachment for each binary value: what clients speak by themselves.
    #[default]
    Json,
    /// One binary message per packet: MessagePack, with binary data inline. Clients have the
    /// package `socket.io-msgpack-parser` as their `parser`.
    ///
    /// Handlers see what they see with JSON. What only MessagePack has comes as JavaScript's
    /// `JSON.stringify` would write it: a `Date` as ISO text, `undefined` left out of objects and
    /// `null` elsewhere, as are numbers that are not finite. Binary data counts as attachments do
    /// ([`MultiplexerLimits::attachments_max`]); Node does not limit it. Binary data in what a
    /// client gives to identify itself is refused.
    MessagePack,
    /// One of the application's own.
    Custom(Arc<dyn PacketParser>),
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PacketKind {
    /// A client wants to join a namespace, or has been let in.
    Connect = 0,
    /// A namespace is left.
    Disconnect = 1,
    /// An event.
    Event = 2,
    /// The answer to an event.
    Ack = 3,
    /// A client is refused.
    ConnectError = 4,
}

/// A whole packet, as a [`PacketParser`] reads and writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub kind: PacketKind,
    /// The namespace, with its slash.
    pub namespace: Cow<'a, str>,
    /// The acknowledgement that an event asks for, or an answer answers.
    pub id: Option<u64>,
    /// Its JSON: an object or nothing (connect), nothing (disconnect), a list that begins with the
    /// event's name (event), a list (ack), an object (connect error). Where binary data stood is a
    /// placeholder, `{"_placeholder":true,"num":n}`.
    pub json: Cow<'a, str>,
    /// The binary data.
    pub attachments: Vec<Cow<'a, [u8]>>,
}

/// An encoding of packets that is neither of the built-in ones: one message per packet.
///
/// It is pure: it holds no state of a connection, so one serves all of them.
///
/// ```
/// use sockeye_proto::engine::Message;
/// use sockeye_proto::socket::{
///     EncodeError, MultiplexerLimits, Packet, PacketKind, PacketParser, Violation,
/// };
///
/// /// Only events without binary data: their JSON behind the namespace and a line feed.
/// #[derive(Debug)]
/// struct Lines;
///
/// impl PacketParser for Lines {
///     fn decode(
///         &self,
///         message: Message<'_>,
///         _: MultiplexerLimits,
///     ) -> Result<Packet<'static>, Violation> {
///         let Message::Text(text) = message else { return Err(Violation::WrongParser) };
///         let (namespace, json) = text.split_once('\n').ok_or(Violation::InvalidPayload)?;
///         let kind = if json.is_empty() { PacketKind::Connect } else { PacketKind::Event };
///         Ok(Packet {
///             kind,
///             namespace: namespace.to_owned().into(),
///             id: None,
///             json: json.to_owned().into(),
///             attachments: Vec::new(),
///         })
///     }
///
///     fn encode(&self, packet: &Packet<'_>) -> Result<Message<'static>, EncodeError> {
///         Ok(Message::Text(format!("{}\n{}", packet.namespace, packet.json).into()))
///     }
/// }
/// ```
pub trait PacketParser: fmt::Debug + Send + Sync {
    /// Reads one message of a client. What it gives is checked as if it had come as JSON (that it
    /// is valid, its depth, placeholders, reserved names); but it must itself make nothing that
    /// is larger than the message allows, whatever the message says.
    ///
    /// # Errors
    /// The message is no packet; the connection is closed.
    fn decode(
        &self,
        message: Message<'_>,
        limits: MultiplexerLimits,
    ) -> Result<Packet<'static>, Violation>;

    /// Writes one packet, once for all of its receivers.
    ///
    /// # Errors
    /// It cannot be written.
    fn encode(&self, packet: &Packet<'_>) -> Result<Message<'static>, EncodeError>;
}

impl Parser {
    /// A message came: what [`Multiplexer::handle_text`] and
    /// [`handle_binary`](Multiplexer::handle_binary) are for JSON. An attachment that is owned is
    /// moved out of `message`.
    ///
    /// # Errors
    /// The client broke the protocol; the connection must be closed.
    pub fn handle<'a>(
        &self,
        multiplexer: &'a mut Multiplexer,
        message: &'a mut Message<'_>,
    ) -> Result<Option<Incoming<'a>>, Violation> {
        if let Some(parser) = self.custom() {
            let borrowed = match message {
                Message::Text(text) => Message::Text(Cow::Borrowed(text)),
                Message::Binary(data) => Message::Binary(Cow::Borrowed(data)),
            };
            let packet = parser.decode(borrowed, multiplexer.limits())?;
            return multiplexer.handle_packet(packet);
        }
        match message {
            Message::Text(text) => multiplexer.handle_text(text),
            Message::Binary(data) => {
                let mut data = mem::take(data).into_owned();
                // What grew as it came may have room for as much again, which nobody counts.
                data.shrink_to_fit();
                multiplexer.handle_binary(data.into())
            }
        }
    }

    /// Encodes a packet for those who have this parser. What is no packet of Socket.IO, or has
    /// been encoded already, stays as it is; so does everything with [`Parser::Json`], which costs
    /// nothing then.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn encode(&self, packet: EncodedPacket) -> Result<EncodedPacket, EncodeError> {
        let Some(parser) = self.custom() else { return Ok(packet) };
        let Some(parts) = packet.parts() else { return Ok(packet) };
        Ok(packet.foreign(parser.encode(&parts)?))
    }

    fn custom(&self) -> Option<&dyn PacketParser> {
        match self {
            Self::Json => None,
            Self::MessagePack => Some(&MessagePack),
            Self::Custom(parser) => Some(&**parser),
        }
    }
}

impl PacketKind {
    /// The kind of a JSON packet's digit, binary or not.
    pub(super) fn of_digit(digit: u8) -> Option<Self> {
        Some(match digit {
            kind::CONNECT => Self::Connect,
            kind::DISCONNECT => Self::Disconnect,
            kind::EVENT | kind::BINARY_EVENT => Self::Event,
            kind::ACK | kind::BINARY_ACK => Self::Ack,
            kind::CONNECT_ERROR => Self::ConnectError,
            _ => return None,
        })
    }

    pub(super) fn digit(self) -> u8 {
        kind::CONNECT + self as u8
    }
}
