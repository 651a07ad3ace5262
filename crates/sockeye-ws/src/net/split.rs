//! The two halves of a connection, for two tasks.
//! Does not drive it; whichever half is polled lets the one driver go on.
//!
//! A stream remembers one task for reading and one for writing, but either half may have to do
//! both. So what the stream is given is a waker of both tasks.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;
use futures_core::Stream;
use futures_sink::Sink;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::driver::{Driver, Outbound};
use super::{Error, Message, MessagePart, WebSocket};
use crate::close::CloseCode;
use crate::connection::Closed;
use crate::error::CloseError;
use crate::prepared::Frame;

/// The tasks of the two halves, while they wait.
#[derive(Debug, Default)]
struct Tasks {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for Tasks {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

#[derive(Debug)]
struct Shared<S> {
    driver: Mutex<Box<Driver<S>>>,
    tasks: Arc<Tasks>,
    /// A waker of both tasks.
    waker: Waker,
}

/// The receiving half of a [`WebSocket`]: a `Stream` of messages.
///
/// The one that drives the connection: while it is polled pings are answered, what is queued is
/// written, and deadlines are kept. Dropped, nobody does; the writing half goes on alone.
pub struct WebSocketReader<S>(Arc<Shared<S>>);

/// The sending half of a [`WebSocket`]: a `Sink` of messages.
///
/// Dropped, the reading half goes on, and the peer is told nothing: to say goodbye,
/// [`start_close`](Self::start_close). The stream is closed when both halves are gone.
pub struct WebSocketWriter<S>(Arc<Shared<S>>);

pub(super) fn split<S>(driver: Box<Driver<S>>) -> (WebSocketReader<S>, WebSocketWriter<S>) {
    let tasks = Arc::new(Tasks::default());
    let waker = Waker::from(Arc::clone(&tasks));
    let shared = Arc::new(Shared { driver: Mutex::new(driver), tasks, waker });
    (WebSocketReader(Arc::clone(&shared)), WebSocketWriter(shared))
}

impl<S> WebSocketReader<S> {
    /// How the connection ended, if it has.
    pub fn closed(&self) -> Option<Closed> {
        self.0.driver.lock().closed().cloned()
    }

    /// The whole again.
    ///
    /// # Errors
    ///
    /// Both halves, when they are of two connections.
    pub fn reunite(
        self,
        writer: WebSocketWriter<S>,
    ) -> Result<WebSocket<S>, (Self, WebSocketWriter<S>)> {
        if !Arc::ptr_eq(&self.0, &writer.0) {
            return Err((self, writer));
        }
        drop(writer);
        let shared = Arc::into_inner(self.0).expect("a connection has two halves");
        Ok(WebSocket::from_driver(shared.driver.into_inner()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketReader<S> {
    /// As [`WebSocket::next`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::next`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[expect(clippy::should_implement_trait, reason = "a stream's method; none iterates")]
    pub fn next(&mut self) -> impl Future<Output = Option<Result<Message, Error>>> {
        poll_fn(|cx| self.poll(cx, Driver::poll_next))
    }

    /// As [`WebSocket::next_part`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::next`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn next_part(&mut self) -> impl Future<Output = Option<Result<MessagePart, Error>>> {
        poll_fn(|cx| self.poll(cx, Driver::poll_next))
    }

    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Driver<S>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Shared { driver, tasks, waker } = &*self.0;
        tasks.reader.register(cx.waker());
        let mut driver = driver.lock();
        let polled = poll(&mut driver, &mut Context::from_waker(waker));
        let has_ended = driver.is_ended();
        drop(driver);
        if has_ended {
            tasks.writer.wake();
        }
        polled
    }
}

impl<S> WebSocketWriter<S> {
    /// As [`WebSocket::set_compression`].
    pub fn set_compression(&mut self, on: bool) {
        self.0.driver.lock().set_compression(on);
    }

    /// How many bytes of frames wait to be written.
    pub fn buffered_amount(&self) -> usize {
        self.0.driver.lock().buffered_bytes()
    }

    /// Whether messages can be sent: no close frame has gone either way.
    pub fn is_open(&self) -> bool {
        self.0.driver.lock().is_open()
    }

    /// Starts the closing handshake. The reading half goes on with it, while it is polled.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when a close frame cannot carry the code or the reason.
    pub fn start_close(
        &mut self,
        code: impl Into<Option<CloseCode>>,
        reason: &str,
    ) -> Result<(), CloseError> {
        self.0.driver.lock().start_close(code.into(), reason)?;
        self.0.tasks.reader.wake();
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketWriter<S> {
    /// As [`WebSocket::send`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub fn send(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> {
        let mut message = Some(Outbound::Message(message.into()));
        poll_fn(move |cx| self.poll_with(&mut message, cx, Driver::poll_send))
    }

    /// As [`WebSocket::feed`]: it does not wake the reading half to write the message, which leaves
    /// with the next `send` or `flush`, or when that half is polled for something else.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub fn feed(&mut self, message: impl Into<Message>) -> impl Future<Output = Result<(), Error>> {
        let mut message = Some(Outbound::Message(message.into()));
        poll_fn(move |cx| self.poll_with(&mut message, cx, Driver::poll_feed))
    }

    /// As [`WebSocket::send_frame`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub fn send_frame(&mut self, frame: &Frame) -> impl Future<Output = Result<(), Error>> {
        let mut frame = Some(Outbound::Frame(frame));
        poll_fn(move |cx| self.poll_with(&mut frame, cx, Driver::poll_send))
    }

    /// As [`WebSocket::feed_frame`]; it leaves as what [`feed`](Self::feed) queues.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send`].
    pub fn feed_frame(&mut self, frame: &Frame) -> impl Future<Output = Result<(), Error>> {
        let mut frame = Some(Outbound::Frame(frame));
        poll_fn(move |cx| self.poll_with(&mut frame, cx, Driver::poll_feed))
    }

    /// As [`WebSocket::send_part`].
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send_part`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocket::send_part`].
    pub fn send_part(
        &mut self,
        part: impl Into<Message>,
        last: bool,
    ) -> impl Future<Output = Result<(), Error>> {
        let mut part = Some(Outbound::Part(part.into(), last));
        poll_fn(move |cx| self.poll_with(&mut part, cx, Driver::poll_send))
    }

    /// As [`WebSocket::ready`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the stream has failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn ready(&mut self) -> impl Future<Output = Result<(), Error>> {
        poll_fn(|cx| self.poll(cx, Driver::poll_ready))
    }

    /// As [`WebSocket::flush`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the stream has failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn flush(&mut self) -> impl Future<Output = Result<(), Error>> {
        poll_fn(|cx| self.poll(cx, Driver::poll_flush))
    }

    /// Polls with what is taken when there is room.
    fn poll_with<'f>(
        &self,
        outbound: &mut Option<Outbound<'f>>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(
            &mut Driver<S>,
            &mut Option<Outbound<'f>>,
            &mut Context<'_>,
        ) -> Poll<Result<(), Error>>,
    ) -> Poll<Result<(), Error>> {
        let closes = matches!(outbound, Some(Outbound::Message(Message::Close(_))));
        let polled = self.poll(cx, |driver, cx| poll(driver, outbound, cx));
        if closes && outbound.is_none() {
            // The deadline of the closing handshake is the reader's to keep.
            self.0.tasks.reader.wake();
        }
        polled
    }

    fn poll(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Driver<S>, &mut Context<'_>) -> Poll<Result<(), Error>>,
    ) -> Poll<Result<(), Error>> {
        let Shared { driver, tasks, waker } = &*self.0;
        tasks.writer.register(cx.waker());
        poll(&mut driver.lock(), &mut Context::from_waker(waker))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocketReader<S> {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx, Driver::poll_next)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for WebSocketWriter<S> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(cx, Driver::poll_ready)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let closes = matches!(message, Message::Close(_));
        self.0.driver.lock().push(Outbound::Message(message))?;
        if closes {
            self.0.tasks.reader.wake();
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(cx, Driver::poll_flush)
    }

    /// Sends a close frame without a code; the reading half sees how it ends.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.start_close(None, "")?;
        self.poll(cx, Driver::poll_flush)
    }
}

impl<S> fmt::Debug for WebSocketReader<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WebSocketReader").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for WebSocketWriter<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WebSocketWriter").finish_non_exhaustive()
    }
}
