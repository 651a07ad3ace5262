//! One side of an established connection as a deterministic state machine (RFC 6455 §5–§7).
//! Knows nothing of the opening handshake, of sockets, clocks or randomness.

use std::borrow::Cow;
use std::mem;
use std::time::{Duration, Instant};

use crate::assembly::Assembly;
use crate::close::{self, CloseCode};
use crate::error::{CloseError, ProtocolError, SendError};
use crate::frame::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, Opcode, Start};
use crate::mask::{self, MaskingKey};
use crate::utf8;

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

/// A message or a control frame to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping of at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong nobody asked for, of at most 125 bytes. Pings are answered without it.
    Pong(&'a [u8]),
}

impl<'a> Message<'a> {
    fn parts(self) -> (Opcode, &'a [u8]) {
        match self {
            Self::Text(text) => (Opcode::Text, text.as_bytes()),
            Self::Binary(bytes) => (Opcode::Binary, bytes),
            Self::Ping(bytes) => (Opcode::Ping, bytes),
            Self::Pong(bytes) => (Opcode::Pong, bytes),
        }
    }
}

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

/// What the next byte of input belongs to.
#[derive(Clone, Copy, Debug)]
enum Reader {
    /// A frame header, of which `len` bytes are here.
    Header { bytes: [u8; HEADER_BYTES_MAX], len: u8 },
    /// The payload of a frame.
    Payload(Frame),
}

impl Reader {
    const START: Self = Self::Header { bytes: [0; HEADER_BYTES_MAX], len: 0 };
}

/// A frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    /// All zero for a frame that is not masked.
    key: MaskingKey,
    /// How far into the key the next byte of payload is.
    phase: u8,
    remaining: u64,
}

/// The machine. See the [crate's documentation](crate) for how to drive it.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    limits: Limits,
    state: State,
    reader: Reader,
    /// The message under way, when it does not come whole in one read.
    assembly: Option<Assembly>,
    /// How many frames the message under way has had.
    fragments: u32,
    /// The payload of a control frame that does not come whole in one read.
    control: Vec<u8>,
    /// Control frames of our own that wait to be taken, unmasked.
    transmit: Vec<u8>,
    /// How many of them are pongs.
    pending_pongs: u32,
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
            control: Vec::new(),
            transmit: Vec::new(),
            pending_pongs: 0,
        }
    }

    /// Reads what one read from the peer returned; the events come out of the iterator.
    ///
    /// All of `input` is consumed, and overwritten where it is masked: what is incomplete is kept
    /// inside, so one read buffer can serve all connections. `now` is what the deadline of the
    /// closing handshake is held against, so that a peer that never stops sending cannot outlive
    /// it.
    #[inline]
    pub fn handle_input<'c, 'i>(&'c mut self, input: &'i mut [u8], now: Instant) -> Events<'c, 'i> {
        Events { connection: self, input, now }
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
            self.state = State::Closing { deadline: now + self.limits.close_timeout };
        }
        Ok(())
    }

    /// Appends a message to `out` as one frame. For servers.
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`] once the closing handshake has begun, [`SendError::ControlTooLong`]
    /// for a ping or pong above 125 bytes.
    ///
    /// # Panics
    ///
    /// For a client, whose frames are masked.
    pub fn encode(&self, out: &mut Vec<u8>, message: Message<'_>) -> Result<(), SendError> {
        assert_eq!(self.role, Role::Server, "a client's frames are masked");
        self.encode_with(out, message, None)
    }

    /// [`encode`](Self::encode) for clients: `key` is random and fresh. The message itself stays
    /// as it is; its copy in `out` is masked.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    ///
    /// # Panics
    ///
    /// For a server, whose frames are not masked.
    pub fn encode_masked(
        &self,
        out: &mut Vec<u8>,
        message: Message<'_>,
        key: MaskingKey,
    ) -> Result<(), SendError> {
        assert_eq!(self.role, Role::Client, "a server's frames are not masked");
        self.encode_with(out, message, Some(key))
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

    fn encode_with(
        &self,
        out: &mut Vec<u8>,
        message: Message<'_>,
        key: Option<MaskingKey>,
    ) -> Result<(), SendError> {
        if !self.is_open() {
            return Err(SendError::Closing);
        }
        let (opcode, payload) = message.parts();
        if opcode.is_control() && payload.len() > CONTROL_BYTES_MAX {
            return Err(SendError::ControlTooLong);
        }
        write_frame(out, opcode, payload, key);
        Ok(())
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

    /// Enters `Closed` and frees what a message under way held.
    fn end(&mut self, closed: Closed) -> Closed {
        self.reader = Reader::START;
        self.assembly = None;
        self.control = Vec::new();
        self.state = State::Closed(Box::new(closed.clone()));
        closed
    }

    /// Reads frames until one completes an event or `input` is used up.
    #[inline]
    fn read_event<'i>(
        &mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        while let Some(mut frame) = self.read_header(input)? {
            let payload = frame.take_payload(input);
            if frame.remaining > 0 {
                self.keep(&frame, payload)?;
                self.reader = Reader::Payload(frame);
                return Ok(None);
            }
            self.reader = Reader::START;
            let event = if frame.opcode.is_control() {
                Some(self.finish_control(frame.opcode, payload)?)
            } else {
                self.finish_data(&frame, payload)?
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// The frame whose payload comes next in `input`; `None` when its header is not here yet.
    #[inline]
    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, ProtocolError> {
        let (mut bytes, mut len) = match self.reader {
            Reader::Payload(frame) => return Ok((!input.is_empty()).then_some(frame)),
            Reader::Header { bytes, len } => (bytes, usize::from(len)),
        };
        if len == 0
            && let &mut [first, second, ref rest @ ..] = &mut **input
        {
            let start = self.admit(first, second)?;
            if let Some(rest) = rest.get(..start.header_len() - 2) {
                let header = start.complete(rest)?;
                advance(input, start.header_len());
                return self.begin(header).map(Some);
            }
        }
        // The header ends beyond this input: collect it byte by byte.
        loop {
            if let [first, second, rest @ ..] = &bytes[..len] {
                let start = self.admit(*first, *second)?;
                if len == start.header_len() {
                    let header = start.complete(rest)?;
                    return self.begin(header).map(Some);
                }
            }
            let Some(&byte) = input.first() else {
                self.reader = Reader::Header { bytes, len: len as u8 };
                return Ok(None);
            };
            advance(input, 1);
            bytes[len] = byte;
            len += 1;
        }
    }

    /// Whether a frame that begins with these two bytes is allowed here and now.
    #[inline]
    fn admit(&self, first: u8, second: u8) -> Result<Start, ProtocolError> {
        let start = Start::decode(first, second)?;
        // RFC 6455 §5.2: reserved bits "MUST be 0 unless an extension is negotiated that defines
        // meanings for non-zero values". permessage-deflate will allow RSV1 here, on the first
        // frame of a message.
        if start.rsv != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        // RFC 6455 §5.1: "The server MUST close the connection upon receiving a frame that is not
        // masked." "A client MUST close a connection if it detects a masked frame."
        match self.role {
            Role::Server if !start.masked => return Err(ProtocolError::Unmasked),
            Role::Client if start.masked => return Err(ProtocolError::Masked),
            _ => {}
        }
        if start.opcode.is_control() {
            // RFC 6455 §5.5: "All control frames MUST have a payload length of 125 bytes or less
            // and MUST NOT be fragmented."
            if !start.fin {
                return Err(ProtocolError::FragmentedControl);
            }
            if !start.fits_control() {
                return Err(ProtocolError::ControlTooLong);
            }
        } else {
            // RFC 6455 §5.4: "The fragments of one message MUST NOT be interleaved between the
            // fragments of another message".
            match (start.opcode, &self.assembly) {
                (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
                (Opcode::Text | Opcode::Binary, Some(_)) => {
                    return Err(ProtocolError::UnfinishedMessage);
                }
                _ => {}
            }
        }
        Ok(start)
    }

    /// Holds a complete header against the limits.
    #[inline]
    fn begin(&mut self, header: Header) -> Result<Frame, ProtocolError> {
        if !header.opcode.is_control() {
            let arrived = self.assembly.as_ref().map_or(0, Assembly::len);
            if header.payload_len > self.limits.message_bytes_max.saturating_sub(arrived) as u64 {
                return Err(ProtocolError::MessageTooLong);
            }
            let before = if header.opcode == Opcode::Continuation { self.fragments } else { 0 };
            if before >= self.limits.fragments_max {
                return Err(ProtocolError::TooManyFragments);
            }
            self.fragments = before + 1;
        }
        Ok(Frame {
            fin: header.fin,
            opcode: header.opcode,
            key: header.mask.unwrap_or_default(),
            phase: 0,
            remaining: header.payload_len,
        })
    }

    /// Keeps a part of a frame's payload whose rest has not arrived.
    fn keep(&mut self, frame: &Frame, part: &[u8]) -> Result<(), ProtocolError> {
        if part.is_empty() {
            return Ok(());
        }
        if frame.opcode.is_control() {
            self.control.extend_from_slice(part);
            return Ok(());
        }
        self.assembly(frame.opcode).push(part, frame.remaining)
    }

    /// The message under way, begun if `opcode` begins one.
    fn assembly(&mut self, opcode: Opcode) -> &mut Assembly {
        self.assembly.get_or_insert_with(|| match opcode {
            Opcode::Text => Assembly::text(),
            _ => Assembly::binary(),
        })
    }

    /// A text, binary or continuation frame is complete with `part`.
    #[inline]
    fn finish_data<'i>(
        &mut self,
        frame: &Frame,
        part: &'i [u8],
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        if frame.fin && self.assembly.is_none() {
            return match frame.opcode {
                Opcode::Text => match utf8::validate(part) {
                    Ok(text) => Ok(Some(Event::Text(Cow::Borrowed(text)))),
                    Err(_) => Err(ProtocolError::InvalidText),
                },
                _ => Ok(Some(Event::Binary(Cow::Borrowed(part)))),
            };
        }
        self.assembly(frame.opcode).push(part, 0)?;
        if !frame.fin {
            return Ok(None);
        }
        self.assembly.take().map(Assembly::finish).transpose()
    }

    /// A control frame is complete with `part`.
    fn finish_control<'i>(
        &mut self,
        opcode: Opcode,
        part: &'i [u8],
    ) -> Result<Event<'i>, ProtocolError> {
        let payload = if self.control.is_empty() {
            Cow::Borrowed(part)
        } else {
            let mut payload = mem::take(&mut self.control);
            payload.extend_from_slice(part);
            Cow::Owned(payload)
        };
        match opcode {
            Opcode::Ping => {
                self.queue_pong(&payload)?;
                Ok(Event::Ping(payload))
            }
            Opcode::Pong => Ok(Event::Pong(payload)),
            _ => self.handle_close(&payload).map(Event::Closed),
        }
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

impl Frame {
    /// Takes from `input` what it holds of the payload, unmasked.
    #[inline]
    fn take_payload<'i>(&mut self, input: &mut &'i mut [u8]) -> &'i [u8] {
        let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len());
        let payload = advance(input, len);
        mask::apply(self.key, usize::from(self.phase), payload);
        self.phase = ((usize::from(self.phase) + len) % 4) as u8;
        self.remaining -= len as u64;
        payload
    }
}

/// Reads the events of one [`Connection::handle_input`].
///
/// Dropped early it reads the rest of the input without handing out its events. To stop in the
/// middle and go on later, keep what [`into_rest`](Self::into_rest) returns.
#[derive(Debug)]
#[must_use = "the events are read by iterating"]
pub struct Events<'c, 'i> {
    connection: &'c mut Connection,
    input: &'i mut [u8],
    now: Instant,
}

impl<'i> Events<'_, 'i> {
    /// Stops reading: the input whose events were not handed out, to be given to the next
    /// [`Connection::handle_input`] before anything that arrives later.
    pub fn into_rest(mut self) -> &'i mut [u8] {
        mem::take(&mut self.input)
    }
}

impl<'i> Iterator for Events<'_, 'i> {
    type Item = Event<'i>;

    #[inline]
    fn next(&mut self) -> Option<Event<'i>> {
        if let Some(closed) = self.connection.handle_timeout(self.now) {
            return Some(Event::Closed(closed));
        }
        if self.connection.is_closed() {
            // RFC 6455 §1.4: after a close frame "any further data received" is discarded; so it
            // is after an error (§7.1.7).
            self.input = &mut [];
            return None;
        }
        match self.connection.read_event(&mut self.input) {
            Ok(event) => event,
            Err(error) => Some(Event::Closed(self.connection.fail(error))),
        }
    }
}

impl Drop for Events<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        if !self.input.is_empty() {
            self.for_each(drop);
        }
    }
}

/// Splits the first `len` bytes off `input`.
#[inline]
fn advance<'i>(input: &mut &'i mut [u8], len: usize) -> &'i mut [u8] {
    let (taken, rest) = mem::take(input).split_at_mut(len);
    *input = rest;
    taken
}

fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<MaskingKey>) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    Header { fin: true, rsv: 0, opcode, mask, payload_len: payload.len() as u64 }.encode(out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        mask::apply(key, 0, &mut out[start..]);
    }
}
