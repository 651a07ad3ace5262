//! What has been read of a connection and not handed out, and the buffer that reads go through.
//! Does not decide what a message means for the connection; that is `driver`.
//!
//! Reads go to a buffer that all connections of a thread share, or, where a large message is under
//! way, into that message. A connection owns unread bytes only while more than one message came
//! with one read and the application has not taken them all.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::message::{CloseFrame, Message, MessagePart};
use super::timer::now_for;
use crate::close::CloseCode;
use crate::connection::{Closed, Connection, Event, Part, PartEvent, READ_BYTES_MAX, READ_START};

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(Box::default());
}

/// Runs `read` with the thread's buffer. A stream that reads another WebSocket meanwhile finds it
/// taken and gets a new one.
pub(super) fn with_scratch<R>(read: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut scratch = SCRATCH.take();
    if scratch.is_empty() {
        scratch = vec![0; READ_START + READ_BYTES_MAX].into_boxed_slice();
    }
    let result = read(&mut scratch[READ_START..]);
    SCRATCH.set(scratch);
    result
}

/// What an event of the machine is to the driver.
#[derive(Debug)]
pub(super) enum Received<M> {
    Message(M),
    Closed(Closed),
}

/// How messages are wanted: whole or in parts. (Each way has code of its own, in which nothing is
/// turned from one form into the other.)
pub(super) trait Wanted: From<Message> {
    /// Whether a message comes out before it is complete.
    const IN_PARTS: bool;

    /// The first event of `input`, and what stands behind it.
    fn first<'i>(
        machine: &mut Connection,
        input: &'i mut [u8],
    ) -> (Option<Received<Self>>, &'i mut [u8]);

    /// The message, or the part of one.
    fn message(&self) -> &Message;
}

/// What a read brought.
#[derive(Debug)]
pub(super) enum Read<M> {
    /// An event; more of them may wait.
    Received(Received<M>),
    /// Bytes, but no event yet.
    Part,
    /// The peer ended its side.
    End,
}

/// Bytes that were read and whose messages nobody has asked for yet.
#[derive(Debug)]
pub(super) struct Incoming {
    unread: Vec<u8>,
    /// Where in `unread` the next frame begins.
    from: usize,
}

impl Incoming {
    /// `early` came with the opening handshake.
    pub(super) fn new(early: Vec<u8>) -> Self {
        Self { unread: early, from: 0 }
    }

    /// Whether everything that was read has been handed out.
    pub(super) fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(Vec::new());
    }

    /// The next event of what was read before.
    pub(super) fn next<M: Wanted>(&mut self, machine: &mut Connection) -> Option<Received<M>> {
        if self.unread.is_empty() {
            return None;
        }
        let (received, rest) = M::first(machine, &mut self.unread[self.from..]);
        let rest_len = rest.len();
        if rest_len == 0 {
            self.clear();
        } else {
            self.from = self.unread.len() - rest_len;
        }
        received
    }

    /// Reads once. To be called when [`next`](Self::next) has nothing more.
    pub(super) fn poll_read<M: Wanted, S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        machine: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Read<M>>> {
        // A large rest of a message goes straight to where it stays.
        if !M::IN_PARTS
            && let Some(mut room) = machine.payload_room()
        {
            // Nothing is lost with this future: it has read, or it has not.
            let count = ready!(pin!(stream.read_buf(&mut room)).poll(cx))?;
            if count == 0 {
                return Poll::Ready(Ok(Read::End));
            }
            let read = match machine.handle_filled(now_for(machine)).map(Received::from) {
                Some(Received::Message(message)) => {
                    Read::Received(Received::Message(Message::into(message)))
                }
                Some(Received::Closed(closed)) => Read::Received(Received::Closed(closed)),
                None => Read::Part,
            };
            return Poll::Ready(Ok(read));
        }
        with_scratch(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let polled = Pin::new(stream).poll_read(cx, &mut buffer)?;
            let count = buffer.filled().len();
            if polled.is_pending() {
                return Poll::Pending;
            }
            if count == 0 {
                return Poll::Ready(Ok(Read::End));
            }
            let (received, rest) = M::first(machine, &mut scratch[..count]);
            if !rest.is_empty() {
                self.unread = rest.to_vec();
                self.from = 0;
            }
            Poll::Ready(Ok(received.map_or(Read::Part, Read::Received)))
        })
    }
}

impl Wanted for Message {
    const IN_PARTS: bool = false;

    fn first<'i>(
        machine: &mut Connection,
        input: &'i mut [u8],
    ) -> (Option<Received<Self>>, &'i mut [u8]) {
        let now = now_for(machine);
        let mut events = machine.handle_input(input, now);
        (events.next().map(Received::from), events.into_rest())
    }

    fn message(&self) -> &Message {
        self
    }
}

impl Wanted for MessagePart {
    const IN_PARTS: bool = true;

    fn first<'i>(
        machine: &mut Connection,
        input: &'i mut [u8],
    ) -> (Option<Received<Self>>, &'i mut [u8]) {
        let now = now_for(machine);
        let mut events = machine.handle_input_in_parts(input, now);
        (events.next().map(Received::from), events.into_rest())
    }

    fn message(&self) -> &Message {
        &self.message
    }
}

/// Reads and forgets until the peer ends its side. `Ready` when it has, or the stream failed.
pub(super) fn poll_discard<S: AsyncRead + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<()> {
    /// A peer that never stops sending gives way to others after so many reads.
    const READS_MAX: usize = 16;

    with_scratch(|scratch| {
        for _ in 0..READS_MAX {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

impl From<Event<'_>> for Received<Message> {
    /// Copies what lies in the read buffer; what came in several reads is moved.
    fn from(event: Event<'_>) -> Self {
        let message = match event {
            Event::Text(text) => Message::Text(text.into()),
            Event::Binary(data) => Message::Binary(owned(data)),
            Event::Ping(payload) => Message::Ping(owned(payload)),
            Event::Pong(payload) => Message::Pong(owned(payload)),
            Event::Closed(closed) => return Self::Closed(closed),
        };
        Self::Message(message)
    }
}

impl From<PartEvent<'_>> for Received<MessagePart> {
    fn from(event: PartEvent<'_>) -> Self {
        Self::Message(match event {
            PartEvent::Text(Part { data, first, last }) => {
                MessagePart { message: Message::Text(data.into()), first, last }
            }
            PartEvent::Binary(Part { data, first, last }) => {
                MessagePart { message: Message::Binary(owned(data)), first, last }
            }
            PartEvent::Ping(payload) => Message::Ping(owned(payload)).into(),
            PartEvent::Pong(payload) => Message::Pong(owned(payload)).into(),
            PartEvent::Closed(closed) => return Self::Closed(closed),
        })
    }
}

fn owned(data: std::borrow::Cow<'_, [u8]>) -> Bytes {
    data.into_owned().into()
}

/// The close frame that `closed` tells of; `None` if it carried no code.
pub(super) fn close_frame(closed: &Closed) -> Option<CloseFrame> {
    (closed.code != CloseCode::NO_STATUS)
        .then(|| CloseFrame { code: closed.code, reason: closed.reason.as_str().into() })
}
