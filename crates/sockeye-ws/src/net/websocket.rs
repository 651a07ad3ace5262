//! A connection as applications use it: messages in, messages out, and the end.
//! Does not know how it came about; that is `server` and `client`.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite};

use super::driver::{Driver, Outbound};
use super::split::{WebSocketReader, WebSocketWriter, split};
use super::{Error, Message, MessagePart, Options};
use crate::close::CloseCode;
use crate::connection::{Closed, Connection};
use crate::deflate::Agreed;
use crate::error::CloseError;
use crate::prepared::Frame;

/// An established WebSocket connection over a stream, for one task; [`split`](Self::split) makes
/// two halves of it, for two.
///
/// It is driven by whoever polls it: there is no task and no channel behind it. While
/// [`next`](Self::next) waits, it also answers pings, writes what is queued and looks at the
/// deadlines; not calling it for a while is how a slow application makes its peer wait.
///
/// Messages arrive in the order they were sent, and so do those that are sent from here. The last
/// that `next` yields is [`Message::Close`] if both sides said goodbye, or else the error that
/// ended the connection; by then our own close frame has been written and our side of the stream
/// has been ended, so the value can be dropped at once.
///
/// Dropped or [terminated](Self::terminate) before its end, the stream is closed without a word:
/// the peer sees 1006.
#[derive(Debug)]
pub struct WebSocket<S> {
    /// On the heap: tasks that move it about stay small.
    driver: Box<Driver<S>>,
}

impl<S> WebSocket<S> {
    /// A connection whose opening handshake somebody else has done. `early` is what arrived behind
    /// the handshake's head.
    pub fn from_connection(
        stream: S,
        connection: Connection,
        early: impl Into<Vec<u8>>,
        options: &Options,
    ) -> Self {
        Self { driver: Box::new(Driver::new(stream, connection, early.into(), options)) }
    }

    pub(super) fn from_driver(driver: Box<Driver<S>>) -> Self {
        Self { driver }
    }

    #[must_use]
    pub(super) fn with_protocol(mut self, protocol: Option<&str>) -> Self {
        self.driver.protocol = protocol.map(Box::from);
        self
    }

    /// The subprotocol that was agreed on.
    pub fn protocol(&self) -> Option<&str> {
        self.driver.protocol.as_deref()
    }

    /// What was agreed about compression, if it was; `None` also once the connection has ended.
    pub fn deflate(&self) -> Option<&Agreed> {
        self.driver.deflate()
    }

    /// The stream below. What is read from it or written to it is missing from the connection.
    pub fn stream(&self) -> &S {
        &self.driver.stream
    }

    /// [`stream`](Self::stream), to be changed.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.driver.stream
    }

    /// Whether messages that begin from now on may be compressed, where that was agreed. Off, what
    /// is compressed by its kind, such as images, is not compressed again. Default: on.
    pub fn set_compression(&mut self, on: bool) {
        self.driver.set_compression(on);
    }

    /// How many bytes of frames wait to be written.
    pub fn buffered_amount(&self) -> usize {
        self.driver.buffered_bytes()
    }

    /// Whether messages can be sent: no close frame has gone either way.
    pub fn is_open(&self) -> bool {
        self.driver.is_open()
    }

    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<&Closed> {
        self.driver.closed()
    }

    /// Starts the closing handshake and returns at once: messages that the peer has sent still
    /// come out of [`next`](Self::next), which also writes the close frame, up to the peer's own.
    /// Does nothing when the connection is closing already.
    ///
    /// The peer has [`Limits::close_timeout`](crate::Limits::close_timeout) to answer.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when a close frame cannot carry the code or the reason.
    pub fn start_close(
        &mut self,
        code: impl Into<Option<CloseCode>>,
        reason: &str,
    ) -> Result<(), CloseError> {
        self.driver.start_close(code.into(), reason)
    }

    /// Ends the connection at once and without a close frame: the peer sees 1006.
    pub fn terminate(self) {}

    /// Halves for two tasks: one that receives and one that sends.
    ///
    /// Pings are answered, and deadlines looked at, while the reading half is polled.
    /// [`reunite`](WebSocketReader::reunite) makes one of them again.
    pub fn split(self) -> (WebSocketReader<S>, WebSocketWriter<S>) {
        split(self.driver)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The next message; `None` once the connection has ended and its end has been told.
    ///
    /// # Errors
    ///
    /// What ended the connection other than a closing handshake; `None` follows.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost when the future is dropped, wherever it waits.
    #[expect(clippy::should_implement_trait, reason = "a stream's method; none iterates")]
    pub fn next(&mut self) -> impl Future<Output = Option<Result<Message, Error>>> {
        poll_fn(|cx| self.driver.poll_next(cx))
    }

    /// The next part of a message, as much of it as has arrived: nothing is held of it, however
    /// long it is. Whole messages and parts can be asked for in turns; [`next`](Self::next) passes
    /// over what is left of a message that has begun to come out in parts. (Where it is dropped
    /// while it does so, the next part is of the next message.)
    ///
    /// [`Limits::streamed_bytes_max`](crate::Limits::streamed_bytes_max) bounds such messages, in
    /// place of the limits of whole ones.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`next`](Self::next).
    pub fn next_part(&mut self) -> impl Future<Output = Option<Result<MessagePart, Error>>> {
        poll_fn(|cx| self.driver.poll_next(cx))
    }

    /// Sends a message: waits until there is room for it, queues it, and writes all that is
    /// queued. How long a peer may make it wait that takes nothing is for
    /// [`KeepAlive`](super::KeepAlive) to say; without one, as long as it likes.
    ///
    /// # Errors
    ///
    /// [`Error::Send`] when the message cannot be sent, [`Error::Io`] when the stream has failed,
    /// [`Error::KeepAliveTimeout`] when the peer was given up. How the connection ended is told by
    /// [`next`](Self::next).
    ///
    /// # Cancel safety
    ///
    /// The message is queued whole or not at all, and never twice. If the future is dropped while
    /// it waits for room, the message is dropped with it; afterwards it is queued, and leaves with
    /// the next `send`, `flush` or `next`. To know which, wait for [`ready`](Self::ready) first:
    /// then the first poll queues it.
    pub fn send(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> {
        let mut message = Some(Outbound::Message(message.into()));
        poll_fn(move |cx| self.driver.poll_send(&mut message, cx))
    }

    /// Queues a message without writing it, unless there is no room: many small messages then
    /// leave in one write.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn feed(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> {
        let mut message = Some(Outbound::Message(message.into()));
        poll_fn(move |cx| self.driver.poll_feed(&mut message, cx))
    }

    /// [`send`](Self::send) for a message that goes to many: it was encoded, and is compressed,
    /// once for all of them, whichever of them take it compressed.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn send_frame(&mut self, frame: &Frame) -> impl Future<Output = Result<(), Error>> {
        let mut frame = Some(Outbound::Frame(frame));
        poll_fn(move |cx| self.driver.poll_send(&mut frame, cx))
    }

    /// [`feed`](Self::feed) for a message that goes to many.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub fn feed_frame(&mut self, frame: &Frame) -> impl Future<Output = Result<(), Error>> {
        let mut frame = Some(Outbound::Frame(frame));
        poll_fn(move |cx| self.driver.poll_feed(&mut frame, cx))
    }

    /// Sends a part of a text or binary message, `last` being the last one: a message that is long,
    /// or not known to its end, is never held whole. Between its parts pings and pongs may be sent,
    /// and nothing else.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); also for a part of another kind than the first.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send), for the part.
    pub fn send_part(
        &mut self,
        part: impl Into<Message>,
        last: bool,
    ) -> impl Future<Output = Result<(), Error>> {
        let mut part = Some(Outbound::Part(part.into(), last));
        poll_fn(move |cx| self.driver.poll_send(&mut part, cx))
    }

    /// Waits until another message may be queued: less than
    /// [`Options::write_buffer_bytes_max`] waits to be written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the stream has failed, [`Error::KeepAliveTimeout`] when the peer was
    /// given up.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn ready(&mut self) -> impl Future<Output = Result<(), Error>> {
        poll_fn(|cx| self.driver.poll_ready(cx))
    }

    /// Writes all that is queued.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the stream has failed, [`Error::KeepAliveTimeout`] when the peer was
    /// given up.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what has not been written stays queued.
    pub fn flush(&mut self) -> impl Future<Output = Result<(), Error>> {
        poll_fn(|cx| self.driver.poll_flush(cx))
    }

    /// Closes the connection: sends what is queued and a close frame, waits for the peer's, and
    /// ends the stream. Messages that still come are dropped; to see them, call
    /// [`start_close`](Self::start_close) and go on with [`next`](Self::next).
    ///
    /// The peer gets [`Limits::close_timeout`](crate::Limits::close_timeout) to answer, as long
    /// again to take what is still to be written, and a second to end the stream.
    ///
    /// # Errors
    ///
    /// [`Error::Close`] when a close frame cannot carry the code or the reason, or what ended the
    /// connection instead of the closing handshake.
    ///
    /// # Cancel safety
    ///
    /// The closing handshake has begun when the future has been polled; calling it again goes on.
    pub async fn close(
        &mut self,
        code: impl Into<Option<CloseCode>>,
        reason: &str,
    ) -> Result<(), Error> {
        self.start_close(code, reason)?;
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while let Some(received) = ready!(self.driver.poll_next::<Message>(cx)) {
            received?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.driver.poll_next(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FusedStream for WebSocket<S> {
    fn is_terminated(&self) -> bool {
        self.driver.is_ended()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for WebSocket<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.driver.push(Outbound::Message(message))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.poll_flush(cx)
    }

    /// Closes without a code, and waits for the peer as [`WebSocket::close`] does.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.driver.start_close(None, "")?;
        self.poll_closed(cx)
    }
}
