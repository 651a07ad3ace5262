//! One side of an established connection as a deterministic state machine (RFC 6455 §5–§7).
//! Knows nothing of the opening handshake, of sockets, clocks or randomness.

mod compression;
mod parts;
mod reader;
mod room;
mod sender;
mod types;

use std::mem;
use std::time::Instant;

use crate::assembly::Assembly;
use crate::close::{self, CloseCode};
use crate::deadline;
use crate::deflate::Agreed;
use crate::error::{CloseError, ProtocolError};
use crate::frame::{CONTROL_BYTES_MAX, Header, Opcode, write_frame};
use crate::mask::MaskingKey;
use compression::Compression;
use reader::Reader;
use sender::Fragmented;
use types::Input;

pub use room::{READ_BYTES_MAX, READ_START};
pub use types::{Closed, Event, Events, Limits, MessageRef, Part, PartEvent, PartEvents, Role};

/// Where the closing handshake stands. (CONNECTING is the opening handshake, before this machine.)
///
/// ```text
///          close(): Close queued                peer's Close: clean
///   Open ───────────────────────► Closing ───────────────────────────► Closed
///    │                               │   timeout, EOF, protocol error     ▲
///    │                               └────────────────────────────────────┤
///    │  peer's Close: echo queued, clean                                  │
///    ├────────────────────────────────────────────────────────────────────┤
///    │  protocol error: Close with its code queued                        │
///    ├────────────────────────────────────────────────────────────────────┤
///    │  EOF                                                               │
///    └────────────────────────────────────────────────────────────────────┘
/// ```
#[derive(Debug)]
enum State {
    Open,
    /// Our close frame is queued or sent; the peer's may still be preceded by messages.
    Closing {
        deadline: Instant,
    },
    Closed(Box<Closed>),
}

/// The machine. See the [crate's documentation](crate) for how to drive it.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    limits: Limits,
    state: State,
    reader: Reader,
    /// The message under way, when it does not come whole in one read.
    assembly: Option<Box<Assembly>>,
    /// How many frames the message under way has had.
    fragments: u32,
    /// Whether the input is read for parts of messages.
    in_parts: bool,
    /// The payload of a control frame that does not come whole in one read.
    control: Vec<u8>,
    /// Control frames of our own that wait to be taken, unmasked.
    transmit: Vec<u8>,
    /// How many of them are pongs.
    pending_pongs: u32,
    /// The message of our own whose fragments are being sent.
    fragmented: Option<Fragmented>,
    /// What was agreed about compression, and the contexts that live as long as the connection.
    deflate: Option<Box<Compression>>,
}

impl Connection {
    /// A connection whose opening handshake is done.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            limits,
            state: State::Open,
            reader: Reader::START,
            assembly: None,
            fragments: 0,
            in_parts: false,
            control: Vec::new(),
            transmit: Vec::new(),
            pending_pongs: 0,
            fragmented: None,
            deflate: None,
        }
    }

    /// Compresses messages, and takes compressed ones, as the opening handshake agreed
    /// ([`server`](crate::handshake::server::Accept::negotiate_deflate),
    /// [`client`](crate::handshake::client::Response::deflate)). `None` changes nothing.
    ///
    /// Between messages the connection then holds some 60 bytes more, and where a side keeps a
    /// context what [`Options`](crate::deflate::Options) say about it. With a context of our own,
    /// all that was encoded must be sent, in that order: what follows may refer to it.
    #[must_use]
    pub fn with_deflate(mut self, agreed: Option<Agreed>) -> Self {
        self.deflate = agreed.map(|agreed| Box::new(Compression::new(agreed, self.role)));
        self
    }

    /// What was agreed about compression, if it was; `None` also once the connection has ended.
    pub fn deflate(&self) -> Option<&Agreed> {
        self.deflate.as_ref().map(|compression| compression.agreed())
    }

    /// Reads what one read from the peer returned; the events come out of the iterator.
    ///
    /// All of `input` is consumed, and overwritten where it is masked: what is incomplete is kept
    /// inside, so one read buffer can serve all connections. `now` is what the deadline of the
    /// closing handshake is held against, so that a peer that never stops sending cannot outlive
    /// it.
    #[inline]
    pub fn handle_input<'c, 'i>(&'c mut self, input: &'i mut [u8], now: Instant) -> Events<'c, 'i> {
        self.in_parts = false;
        Events(Input { connection: self, input, now })
    }

    /// [`handle_input`](Self::handle_input) that hands out messages in parts, as they arrive:
    /// nothing is kept of them, however long they are, but the beginning of a character.
    ///
    /// A part of a message that is not compressed borrows from `input`; others have about 64 KiB at
    /// most. A message that had begun before comes out with all that has been kept of it. The other
    /// way round, `handle_input` passes over what is left of a message that has come out in parts;
    /// where it has passed over some of it, no part of that message comes any more.
    ///
    /// [`Limits::streamed_bytes_max`] bounds these messages, and no other limit does.
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use sockeye_ws::{Connection, Limits, PartEvent, Role};
    ///
    /// // What two reads returned: a text of two fragments, the second cut off.
    /// let reads = [&b"\x01\x05Hello\x80\x07, wo"[..], b"rld"];
    /// let mut client = Connection::new(Role::Client, Limits::default());
    /// let mut parts = Vec::new();
    /// for read in reads {
    ///     for event in client.handle_input_in_parts(&mut read.to_vec(), Instant::now()) {
    ///         let PartEvent::Text(part) = event else { unreachable!() };
    ///         parts.push((part.data.into_owned(), part.first, part.last));
    ///     }
    /// }
    /// assert_eq!(
    ///     parts,
    ///     [
    ///         ("Hello".to_owned(), true, false),
    ///         (", wo".to_owned(), false, false),
    ///         ("rld".to_owned(), false, true),
    ///     ]
    /// );
    /// ```
    pub fn handle_input_in_parts<'c, 'i>(
        &'c mut self,
        input: &'i mut [u8],
        now: Instant,
    ) -> PartEvents<'c, 'i> {
        self.in_parts = true;
        PartEvents(Input { connection: self, input, now })
    }

    /// The peer ended the TCP connection. Returns how the connection ended, if it had not before.
    pub fn handle_eof(&mut self) -> Option<Closed> {
        // RFC 6455 §7.1.5: without a close frame "the WebSocket Connection Close Code is
        // considered to be 1006".
        self.lose()
    }

    /// Time has passed. Returns how the connection ended, if it did so by this.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Closed> {
        match self.state {
            State::Closing { deadline } if now >= deadline => self.lose(),
            _ => None,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Closing { deadline } => Some(deadline),
            _ => None,
        }
    }

    /// Takes the frames the machine itself wants sent, pongs and the close frame, in order. For
    /// servers.
    ///
    /// A driver that cannot write leaves them here; [`Limits::pending_pongs_max`] bounds them.
    ///
    /// # Panics
    ///
    /// For a client, whose frames need masking keys.
    #[inline]
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        assert_eq!(self.role, Role::Server, "a client's frames are masked");
        self.take_transmit()
    }

    /// [`poll_transmit`](Self::poll_transmit) for clients: `next_key` yields a fresh random masking
    /// key for each frame.
    ///
    /// # Panics
    ///
    /// For a server, whose frames are not masked.
    pub fn poll_transmit_masked(
        &mut self,
        mut next_key: impl FnMut() -> MaskingKey,
    ) -> Option<Vec<u8>> {
        assert_eq!(self.role, Role::Client, "a server's frames are not masked");
        let frames = self.take_transmit()?;
        let mut masked = Vec::with_capacity(frames.len() * 2);
        let mut rest = &frames[..];
        while let Ok(Some((header, header_len))) = Header::decode(rest) {
            let (payload, next) = rest[header_len..].split_at(header.payload_len as usize);
            write_frame(&mut masked, header.opcode, payload, Some(next_key()));
            rest = next;
        }
        Some(masked)
    }

    /// Starts the closing handshake: queues a close frame and gives the peer
    /// [`Limits::close_timeout`] to answer it. Does nothing when the connection is closing already.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when a close frame cannot carry the code or the reason.
    pub fn close(
        &mut self,
        code: Option<CloseCode>,
        reason: &str,
        now: Instant,
    ) -> Result<(), CloseError> {
        close::check(code, reason)?;
        if self.is_open() {
            self.queue_close(code, reason);
            let deadline = deadline::after(now, self.limits.close_timeout);
            self.state = State::Closing { deadline };
        }
        Ok(())
    }

    /// Which side this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What the peer is held to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether messages can be sent: no close frame has gone either way.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether the connection has ended and only [`poll_transmit`](Self::poll_transmit) may still
    /// have something.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<&Closed> {
        match &self.state {
            State::Closed(closed) => Some(closed),
            _ => None,
        }
    }

    fn take_transmit(&mut self) -> Option<Vec<u8>> {
        self.pending_pongs = 0;
        (!self.transmit.is_empty()).then(|| mem::take(&mut self.transmit))
    }

    fn queue_close(&mut self, code: Option<CloseCode>, reason: &str) {
        let mut payload = Vec::with_capacity(CONTROL_BYTES_MAX);
        if let Some(code) = code {
            payload.extend_from_slice(&code.0.to_be_bytes());
            payload.extend_from_slice(reason.as_bytes());
        }
        write_frame(&mut self.transmit, Opcode::Close, &payload, None);
    }

    fn lose(&mut self) -> Option<Closed> {
        let closed =
            Closed { code: CloseCode::ABNORMAL, reason: String::new(), clean: false, error: None };
        (!self.is_closed()).then(|| self.end(closed))
    }

    /// The peer broke the protocol.
    fn fail(&mut self, error: ProtocolError) -> Closed {
        let code = error.close_code();
        if self.is_open() {
            self.queue_close(Some(code), "");
        }
        self.end(Closed { code, reason: String::new(), clean: false, error: Some(error) })
    }

    /// Enters `Closed` and frees what a message under way and the contexts held.
    fn end(&mut self, closed: Closed) -> Closed {
        self.reader = Reader::START;
        self.assembly = None;
        self.deflate = None;
        self.control = Vec::new();
        self.state = State::Closed(Box::new(closed.clone()));
        closed
    }

    fn queue_pong(&mut self, payload: &[u8]) -> Result<(), ProtocolError> {
        // Nothing follows our close frame: the peer may be gone when it has read that.
        if !self.is_open() {
            return Ok(());
        }
        if self.pending_pongs >= self.limits.pending_pongs_max {
            return Err(ProtocolError::TooManyPings);
        }
        self.pending_pongs += 1;
        write_frame(&mut self.transmit, Opcode::Pong, payload, None);
        Ok(())
    }

    fn handle_close(&mut self, payload: &[u8]) -> Result<Closed, ProtocolError> {
        let (code, reason) = close::decode(payload)?;
        // RFC 6455 §5.5.1: "If an endpoint receives a Close frame and did not previously send a
        // Close frame, the endpoint MUST send a Close frame in response", which "typically echos
        // the status code it received".
        if self.is_open() {
            self.queue_close(code, "");
        }
        Ok(self.end(Closed {
            code: code.unwrap_or(CloseCode::NO_STATUS),
            reason: reason.to_owned(),
            clean: true,
            error: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Connection {
        Connection::new(Role::Server, Limits::default())
    }

    /// A masked frame with a zero key.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    }

    fn heap_bytes(connection: &Connection) -> usize {
        let assembly = connection.assembly.as_ref().map_or(0, |assembly| assembly.len() as usize);
        connection.transmit.capacity() + connection.control.capacity() + assembly
    }

    #[test]
    fn is_small() {
        assert!(size_of::<Connection>() < 160, "{} bytes", size_of::<Connection>());
        assert!(size_of::<Compression>() <= 64, "{} bytes", size_of::<Compression>());
    }

    #[test]
    fn holds_no_heap_while_idle() {
        let now = Instant::now();
        let mut connection = server();
        let frames = [
            frame(0x01, b"frag"),
            frame(0x89, b"ping"),
            frame(0x80, b"ment"),
            frame(0x82, b"binary"),
        ];
        for chunk in frames.concat().chunks_mut(3) {
            connection.handle_input(chunk, now).for_each(drop);
        }
        assert!(connection.poll_transmit().is_some());
        assert_eq!(heap_bytes(&connection), 0);
    }

    #[test]
    fn frees_a_message_under_way_when_it_closes() {
        let now = Instant::now();
        let mut connection = server();
        connection.handle_input(&mut frame(0x02, &[7; 100]), now).for_each(drop);
        connection.handle_input(&mut frame(0x89, &[7; 100])[..50], now).for_each(drop);
        assert!(heap_bytes(&connection) > 100);
        connection.handle_eof();
        assert_eq!(heap_bytes(&connection), 0);
    }

    #[test]
    fn what_comes_whole_is_borrowed_and_what_comes_in_parts_is_owned() {
        use std::borrow::Cow;

        let now = Instant::now();
        let mut connection = server();
        let mut input = [frame(0x81, b"one"), frame(0x82, b"two"), frame(0x81, b"three")].concat();
        let (first, second) = input.split_at_mut(25);

        let events: Vec<_> = connection.handle_input(first, now).collect();
        assert!(
            matches!(
                events[..],
                [Event::Text(Cow::Borrowed("one")), Event::Binary(Cow::Borrowed(b"two"))]
            ),
            "{events:?}"
        );
        let events: Vec<_> = connection.handle_input(second, now).collect();
        assert!(matches!(&events[..], [Event::Text(Cow::Owned(text))] if text == "three"));
    }

    #[test]
    fn a_server_that_stops_reading_goes_on_with_the_rest() {
        let now = Instant::now();
        let mut connection = server();
        let mut input = [frame(0x81, b"one"), frame(0x81, b"two")].concat();

        let mut events = connection.handle_input(&mut input, now);
        assert_eq!(events.next(), Some(Event::Text("one".into())));
        let rest = events.into_rest();
        assert_eq!(connection.handle_input(rest, now).next(), Some(Event::Text("two".into())));
    }

    #[test]
    fn events_dropped_early_leave_the_machine_in_step() {
        let now = Instant::now();
        let mut connection = server();
        let mut input = [frame(0x81, b"one"), frame(0x89, b"two"), frame(0x81, b"three")].concat();
        let len = input.len() - 2;

        assert!(connection.handle_input(&mut input[..len], now).next().is_some());
        assert_eq!(connection.poll_transmit().as_deref(), Some(&b"\x8A\x03two"[..]));
        let mut rest = connection.handle_input(&mut input[len..], now);
        assert_eq!(rest.next(), Some(Event::Text("three".into())));
    }

    #[test]
    #[should_panic(expected = "a client's frames are masked")]
    fn a_client_cannot_send_unmasked() {
        let mut connection = Connection::new(Role::Client, Limits::default());
        let _ = connection.encode(&mut Vec::new(), MessageRef::Text("plain"));
    }
}
