//! The reading half of the machine: input cut into frames, frames put together to messages.
//! Does not know how a connection closes; what breaks a rule is returned as an error.

use std::borrow::Cow;
use std::mem;

use super::{Connection, Event, Role};
use crate::assembly::Assembly;
use crate::error::ProtocolError;
use crate::frame::{HEADER_BYTES_MAX, Header, Opcode, RSV1, Single, Start};
use crate::mask::{self, MaskingKey};
use crate::utf8;

/// What the next byte of input belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    /// A frame header, of which `len` bytes are here.
    Header { bytes: [u8; HEADER_BYTES_MAX], len: u8 },
    /// The payload of a frame.
    Payload(Frame),
}

impl Reader {
    pub(super) const START: Self = Self::Header { bytes: [0; HEADER_BYTES_MAX], len: 0 };
}

/// A frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    /// Whether it begins a compressed message.
    pub(super) compressed: bool,
    /// All zero for a frame that is not masked.
    key: MaskingKey,
    /// How far into the key the next byte of payload is.
    phase: u8,
    pub(super) remaining: u64,
}

impl Connection {
    /// Reads frames until one completes an event or `input` is used up.
    #[inline]
    pub(super) fn read_event<'i>(
        &mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        if let Some((opcode, payload)) = self.single_frame(input) {
            return message(opcode, payload).map(Some);
        }
        if self.is_message_in_parts()
            && let skipped @ Some(_) = self.skip_parts(input)?
        {
            return Ok(skipped);
        }
        while let Some(frame) = self.next_frame(input)? {
            let event = if frame.opcode.is_control() {
                self.read_control(frame, input)?
            } else {
                self.read_data(frame, input)?
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// The kind and the payload of what most input begins with: a message that is one frame, not
    /// compressed, all of it here and within the limits. Anything else, allowed or not, is for the
    /// rest of this file, which says the same of such a frame in three times the instructions.
    #[inline(always)]
    fn single_frame<'i>(&self, input: &mut &'i mut [u8]) -> Option<(Opcode, &'i [u8])> {
        if !matches!(self.reader, Reader::Header { len: 0, .. }) || self.assembly.is_some() {
            return None;
        }
        let frame = Single::decode(input, self.role == Role::Server)?;
        if frame.payload_len > self.limits.message_bytes_max || self.limits.fragments_max == 0 {
            return None;
        }
        let whole = advance(input, frame.header_len + frame.payload_len);
        let payload = &mut whole[frame.header_len..];
        mask::apply(frame.key, 0, payload);
        Some((frame.opcode, payload))
    }

    /// Reads what `input` holds of a text, binary or continuation frame. `None` also when it holds
    /// it whole, but the message goes on.
    #[inline]
    fn read_data<'i>(
        &mut self,
        mut frame: Frame,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        let payload = frame.take_payload(input);
        self.reader = frame.reader();
        if frame.remaining == 0 {
            return self.finish_data(&frame, payload);
        }
        if !payload.is_empty() {
            self.assemble(&frame, payload)?;
        }
        Ok(None)
    }

    /// Reads what `input` holds of a control frame.
    pub(super) fn read_control<'i>(
        &mut self,
        mut frame: Frame,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        let payload = frame.take_payload(input);
        self.reader = frame.reader();
        if frame.remaining == 0 {
            return self.finish_control(frame.opcode, payload).map(Some);
        }
        self.control.extend_from_slice(payload);
        Ok(None)
    }

    /// The frame whose payload comes next in `input`; `None` when its header is not here yet.
    #[inline]
    pub(super) fn next_frame(
        &mut self,
        input: &mut &mut [u8],
    ) -> Result<Option<Frame>, ProtocolError> {
        match self.reader {
            Reader::Payload(frame) => Ok((!input.is_empty()).then_some(frame)),
            Reader::Header { len: 0, .. } => {
                if let &mut [first, second, ref rest @ ..] = &mut **input {
                    let start = self.admit(first, second)?;
                    if let Some(rest) = rest.get(..start.header_len() - 2) {
                        let header = start.complete(rest)?;
                        advance(input, start.header_len());
                        return self.begin(header).map(Some);
                    }
                }
                self.collect_header([0; HEADER_BYTES_MAX], 0, input)
            }
            Reader::Header { bytes, len } => self.collect_header(bytes, len.into(), input),
        }
    }

    /// Goes on with a header that ends beyond this input or began before it, byte by byte.
    #[cold]
    fn collect_header(
        &mut self,
        mut bytes: [u8; HEADER_BYTES_MAX],
        mut len: usize,
        input: &mut &mut [u8],
    ) -> Result<Option<Frame>, ProtocolError> {
        loop {
            if let [first, second, rest @ ..] = &bytes[..len] {
                let start = self.admit(*first, *second)?;
                if len == start.header_len() {
                    let header = start.complete(rest)?;
                    return self.begin(header).map(Some);
                }
                // The length is judged as soon as it is here; a peer that declares too much need
                // not be waited for until it has sent a masking key too.
                if start.masked && len + size_of::<MaskingKey>() == start.header_len() {
                    self.check_length(&start.complete(&bytes[2..start.header_len()])?)?;
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

    /// Whether a frame that begins with these two bytes is allowed here and now. (Inlined always: a
    /// call costs as much as what it does, and there is one for each frame.)
    #[inline(always)]
    fn admit(&self, first: u8, second: u8) -> Result<Start, ProtocolError> {
        let start = Start::decode(first, second)?;
        // RFC 6455 §5.2: reserved bits "MUST be 0 unless an extension is negotiated that defines
        // meanings for non-zero values". RFC 7692 §6: RSV1 marks a compressed message, on its first
        // frame and on no other.
        if start.rsv != 0 {
            let begins_message = matches!(start.opcode, Opcode::Text | Opcode::Binary);
            if start.rsv != RSV1 || !begins_message || self.deflate.is_none() {
                return Err(ProtocolError::ReservedBits);
            }
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
            let is_continuation = start.opcode == Opcode::Continuation;
            match self.assembly {
                None if is_continuation => return Err(ProtocolError::UnexpectedContinuation),
                Some(_) if !is_continuation => return Err(ProtocolError::UnfinishedMessage),
                _ => {}
            }
        }
        Ok(start)
    }

    /// Holds the length of a frame, and with it the message's, against the limit.
    #[inline]
    fn check_length(&self, header: &Header) -> Result<(), ProtocolError> {
        let (arrived, compressed_len) = match &self.assembly {
            Some(assembly) => (assembly.len(), assembly.compressed_len()),
            None => (0, (header.rsv == RSV1).then_some(0)),
        };
        let room = match compressed_len {
            Some(arrived) => {
                let fragments =
                    if header.opcode == Opcode::Continuation { self.fragments } else { 0 };
                compressed_bytes_max(self.bytes_max(), fragments).saturating_sub(arrived)
            }
            None => self.bytes_max().saturating_sub(arrived),
        };
        if !header.opcode.is_control() && header.payload_len > room {
            return Err(ProtocolError::MessageTooLong);
        }
        Ok(())
    }

    /// Holds a complete header against the limits.
    #[inline(always)]
    fn begin(&mut self, header: Header) -> Result<Frame, ProtocolError> {
        if !header.opcode.is_control() {
            self.check_length(&header)?;
            let before = if header.opcode == Opcode::Continuation { self.fragments } else { 0 };
            if before >= self.limits.fragments_max && !self.reads_parts() {
                return Err(ProtocolError::TooManyFragments);
            }
            self.fragments = before.saturating_add(1);
        }
        Ok(Frame {
            fin: header.fin,
            opcode: header.opcode,
            compressed: header.rsv == RSV1,
            key: header.mask.unwrap_or_default(),
            phase: 0,
            remaining: header.payload_len,
        })
    }

    /// How long the message under way, or the next one, may be.
    #[inline]
    pub(super) fn bytes_max(&self) -> u64 {
        if self.reads_parts() {
            self.limits.streamed_bytes_max
        } else {
            self.limits.message_bytes_max as u64
        }
    }

    /// Whether nothing is held of the message under way, or the next one.
    #[inline]
    fn reads_parts(&self) -> bool {
        self.in_parts || self.is_message_in_parts()
    }

    /// Puts a part of a frame's payload to the message under way.
    fn assemble(&mut self, frame: &Frame, part: &[u8]) -> Result<(), ProtocolError> {
        let bytes_max = self.bytes_max();
        let assembly = self.assembly(frame);
        // Its length was held against the limit of how messages were read then.
        if assembly.exceeds(bytes_max, part.len() as u64 + frame.remaining) {
            return Err(ProtocolError::MessageTooLong);
        }
        assembly.push(part, frame.message_remaining(), bytes_max)?;
        if frame.ends_message() { Ok(()) } else { assembly.check() }
    }

    /// The message under way, which the frame may begin.
    pub(super) fn assembly(&mut self, frame: &Frame) -> &mut Assembly {
        let Self { assembly, deflate, .. } = self;
        assembly.get_or_insert_with(|| {
            let deflate = deflate.as_mut().filter(|_| frame.compressed);
            let inflating = deflate.map(|deflate| deflate.begin_inflating());
            Box::new(Assembly::new(frame.opcode == Opcode::Text, inflating))
        })
    }

    /// A text, binary or continuation frame is complete with `part`.
    #[inline]
    fn finish_data<'i>(
        &mut self,
        frame: &Frame,
        part: &'i [u8],
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        if frame.fin && self.assembly.is_none() && !frame.compressed {
            return message(frame.opcode, part).map(Some);
        }
        self.assemble(frame, part)?;
        if frame.fin { self.finish_message().map(Some) } else { Ok(None) }
    }

    /// The message under way is complete.
    pub(super) fn finish_message(&mut self) -> Result<Event<'static>, ProtocolError> {
        let assembly = self.assembly.take().expect("a message is under way");
        let (event, context) = assembly.finish()?;
        if let Some(deflate) = &mut self.deflate {
            deflate.keep_context(context);
        }
        Ok(event)
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
}

impl Frame {
    /// What the message still has to come, if this is its last frame.
    fn message_remaining(&self) -> Option<u64> {
        self.fin.then_some(self.remaining)
    }

    /// Whether nothing of its message is still to come.
    pub(super) fn ends_message(&self) -> bool {
        self.fin && self.remaining == 0
    }

    /// What the next byte of input belongs to.
    #[inline]
    pub(super) fn reader(self) -> Reader {
        if self.remaining == 0 { Reader::START } else { Reader::Payload(self) }
    }

    /// Takes from `input` what it holds of the payload, unmasked.
    #[inline]
    fn take_payload<'i>(&mut self, input: &mut &'i mut [u8]) -> &'i [u8] {
        self.take_payload_part(input, usize::MAX)
    }

    /// The same, but at most so many bytes.
    #[inline]
    pub(super) fn take_payload_part<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        len_max: usize,
    ) -> &'i [u8] {
        let payload = advance(input, self.payload_len(input, len_max));
        self.unmask(payload);
        self.count(payload.len());
        payload
    }

    /// How much of the payload `input` holds.
    #[inline]
    pub(super) fn payload_len(&self, input: &[u8], len_max: usize) -> usize {
        usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len()).min(len_max)
    }

    /// Unmasks the next bytes of the payload, or masks them again.
    #[inline]
    pub(super) fn unmask(&self, payload: &mut [u8]) {
        mask::apply(self.key, usize::from(self.phase), payload);
    }

    /// Goes on behind the next bytes of the payload.
    #[inline]
    pub(super) fn count(&mut self, len: usize) {
        self.phase = ((usize::from(self.phase) + len) % 4) as u8;
        self.remaining -= len as u64;
    }
}

/// A message that lies whole in the input.
#[inline]
fn message(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    match opcode {
        Opcode::Text => match utf8::validate(payload) {
            Ok(text) => Ok(Event::Text(Cow::Borrowed(text))),
            Err(_) => Err(ProtocolError::InvalidText),
        },
        _ => Ok(Event::Binary(Cow::Borrowed(payload))),
    }
}

/// How long a message of at most `bytes_max` bytes can be compressed. Compressors make what they
/// cannot shorten longer by an eighth at most, and by seven bytes for each time they are flushed.
/// What is longer only keeps us busy, with blocks that hold nothing.
fn compressed_bytes_max(bytes_max: u64, fragments: u32) -> u64 {
    bytes_max.saturating_add(bytes_max / 4).saturating_add(1024 + 8 * u64::from(fragments))
}

/// Splits the first `len` bytes off `input`.
#[inline]
pub(super) fn advance<'i>(input: &mut &'i mut [u8], len: usize) -> &'i mut [u8] {
    let (taken, rest) = mem::take(input).split_at_mut(len);
    *input = rest;
    taken
}
