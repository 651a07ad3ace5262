//! What goes in and out of the machine: role, limits, events, messages.
//! Knows nothing of how the machine gets from one to the other.

use std::borrow::Cow;
use std::mem;
use std::time::{Duration, Instant};

use super::Connection;
use crate::close::CloseCode;
use crate::error::ProtocolError;
use crate::frame::Opcode;

/// Which side of the connection this is. A client masks what it sends, a server does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The side that sent the opening handshake's request.
    Client,
    /// The side that answered it.
    Server,
}

/// What a peer may make us hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bounds a message, in bytes of payload over all its fragments. A longer one is refused with
    /// 1009 as soon as its length is declared. Default: 100 MiB.
    pub message_bytes_max: usize,
    /// The same for a message that is handed out in parts
    /// ([`Connection::handle_input_in_parts`]), of which nothing is held. Default: 1 GiB.
    pub streamed_bytes_max: u64,
    /// Bounds the frames a message may come in, empty ones included. One more is refused with
    /// 1008. Default: 16,384.
    pub fragments_max: u32,
    /// Bounds the pings that are answered before [`Connection::poll_transmit`] takes the answers.
    /// One more is refused with 1008. Default: 60.
    pub pending_pongs_max: u32,
    /// Bounds the wait for the peer's close frame after ours. When it is over the connection
    /// counts as lost (1006). Default: 30 seconds.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 100 << 20,
            streamed_bytes_max: 1 << 30,
            fragments_max: 16_384,
            pending_pongs_max: 60,
            close_timeout: Duration::from_secs(30),
        }
    }
}

/// What arrived. Borrowed from the input where it came whole in it, owned (moved, not copied)
/// where it came in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message.
    Text(Cow<'a, str>),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
    /// A ping; its pong is queued already.
    Ping(Cow<'a, [u8]>),
    /// A pong, asked for or not.
    Pong(Cow<'a, [u8]>),
    /// The connection has ended: the last event. What [`Connection::poll_transmit`] still has must
    /// be sent, then the server closes the TCP connection; a client may wait a moment for the
    /// server to do so (RFC 6455 §7.1.1).
    Closed(Closed),
}

impl Event<'_> {
    /// The event without its hold on the input; copies what was borrowed.
    pub fn into_owned(self) -> Event<'static> {
        match self {
            Self::Text(text) => Event::Text(Cow::Owned(text.into_owned())),
            Self::Binary(bytes) => Event::Binary(Cow::Owned(bytes.into_owned())),
            Self::Ping(bytes) => Event::Ping(Cow::Owned(bytes.into_owned())),
            Self::Pong(bytes) => Event::Pong(Cow::Owned(bytes.into_owned())),
            Self::Closed(closed) => Event::Closed(closed),
        }
    }
}

/// A part of a message: as much as has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// Of a text whole characters. Empty at most in the only or the last part.
    pub data: T,
    /// Whether the message begins with it.
    pub first: bool,
    /// Whether the message ends with it.
    pub last: bool,
}

/// What arrived, where messages are handed out in parts. Control frames that stand between the
/// fragments of a message come between its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartEvent<'a> {
    /// A part of a text message.
    Text(Part<Cow<'a, str>>),
    /// A part of a binary message.
    Binary(Part<Cow<'a, [u8]>>),
    /// As [`Event::Ping`].
    Ping(Cow<'a, [u8]>),
    /// As [`Event::Pong`].
    Pong(Cow<'a, [u8]>),
    /// As [`Event::Closed`].
    Closed(Closed),
}

impl<'a> PartEvent<'a> {
    /// The event without its hold on the input; copies what was borrowed.
    pub fn into_owned(self) -> PartEvent<'static> {
        let owned = |bytes: Cow<'_, [u8]>| Cow::Owned(bytes.into_owned());
        match self {
            Self::Text(Part { data, first, last }) => {
                PartEvent::Text(Part { data: Cow::Owned(data.into_owned()), first, last })
            }
            Self::Binary(Part { data, first, last }) => {
                PartEvent::Binary(Part { data: owned(data), first, last })
            }
            Self::Ping(payload) => PartEvent::Ping(owned(payload)),
            Self::Pong(payload) => PartEvent::Pong(owned(payload)),
            Self::Closed(closed) => PartEvent::Closed(closed),
        }
    }

    /// A control frame between the parts.
    pub(super) fn control(event: Event<'a>) -> Option<Self> {
        match event {
            Event::Ping(payload) => Some(Self::Ping(payload)),
            Event::Pong(payload) => Some(Self::Pong(payload)),
            Event::Closed(closed) => Some(Self::Closed(closed)),
            Event::Text(_) | Event::Binary(_) => None,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The status code of the peer's close frame; 1005 if it carried none, 1006 if none came; after
    /// a protocol error the code that was sent because of it.
    pub code: CloseCode,
    /// The reason in the peer's close frame.
    pub reason: String,
    /// Whether both sides sent a close frame.
    pub clean: bool,
    /// What the peer did wrong.
    pub error: Option<ProtocolError>,
}

/// A message or a control frame for the machine to encode, borrowed from whoever has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageRef<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping of at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong nobody asked for, of at most 125 bytes. Pings are answered without it.
    Pong(&'a [u8]),
}

impl<'a> MessageRef<'a> {
    pub(crate) fn parts(self) -> (Opcode, &'a [u8]) {
        match self {
            Self::Text(text) => (Opcode::Text, text.as_bytes()),
            Self::Binary(bytes) => (Opcode::Binary, bytes),
            Self::Ping(bytes) => (Opcode::Ping, bytes),
            Self::Pong(bytes) => (Opcode::Pong, bytes),
        }
    }
}

/// Reads the events of one [`Connection::handle_input`].
///
/// Dropped early it reads the rest of the input without handing out its events. To stop in the
/// middle and go on later, keep what [`into_rest`](Self::into_rest) returns.
#[derive(Debug)]
#[must_use = "the events are read by iterating"]
pub struct Events<'c, 'i>(pub(super) Input<'c, 'i>);

/// Reads the events of one [`Connection::handle_input_in_parts`], in every other way like
/// [`Events`].
#[derive(Debug)]
#[must_use = "the events are read by iterating"]
pub struct PartEvents<'c, 'i>(pub(super) Input<'c, 'i>);

impl<'i> Events<'_, 'i> {
    /// Stops reading: the input whose events were not handed out, to be given to the next
    /// [`Connection::handle_input`] before anything that arrives later.
    pub fn into_rest(mut self) -> &'i mut [u8] {
        mem::take(&mut self.0.input)
    }
}

impl<'i> PartEvents<'_, 'i> {
    /// Stops reading, as [`Events::into_rest`].
    pub fn into_rest(mut self) -> &'i mut [u8] {
        mem::take(&mut self.0.input)
    }
}

impl<'i> Iterator for Events<'_, 'i> {
    type Item = Event<'i>;

    #[inline]
    fn next(&mut self) -> Option<Event<'i>> {
        self.0.next(Connection::read_event, Event::Closed)
    }
}

impl<'i> Iterator for PartEvents<'_, 'i> {
    type Item = PartEvent<'i>;

    fn next(&mut self) -> Option<PartEvent<'i>> {
        self.0.next(Connection::read_part, PartEvent::Closed)
    }
}

impl Drop for Events<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        if !self.0.input.is_empty() {
            self.for_each(drop);
        }
    }
}

impl Drop for PartEvents<'_, '_> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// What one read returned, as far as it has not been looked at.
#[derive(Debug)]
pub(super) struct Input<'c, 'i> {
    pub(super) connection: &'c mut Connection,
    pub(super) input: &'i mut [u8],
    pub(super) now: Instant,
}

impl<'i> Input<'_, 'i> {
    #[inline]
    fn next<T>(
        &mut self,
        read: impl FnOnce(&mut Connection, &mut &'i mut [u8]) -> Result<Option<T>, ProtocolError>,
        ended: impl FnOnce(Closed) -> T,
    ) -> Option<T> {
        if self.input.is_empty() {
            return None;
        }
        if let Some(closed) = self.connection.handle_timeout(self.now) {
            return Some(ended(closed));
        }
        if self.connection.is_closed() {
            // RFC 6455 §1.4: after a close frame "any further data received" is discarded; so it
            // is after an error (§7.1.7).
            self.input = &mut [];
            return None;
        }
        match read(self.connection, &mut self.input) {
            Ok(event) => event,
            Err(error) => Some(ended(self.connection.fail(error))),
        }
    }
}
