//! Drives the RFC 6455 machine over a stream: reads, writes, deadlines, and how it ends.
//! Does not know who polls it: a whole `WebSocket` or one of its halves.

mod sending;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::incoming::{Incoming, Read, Received, Wanted, close_frame, poll_discard};
use super::message::Message;
use super::options::Options;
use super::outgoing::Outgoing;
use super::timer::{Heartbeat, Pulse, Timer, now};
use super::{Error, trace};
use crate::close::CloseCode;
use crate::connection::{Closed, Connection, Role};
use crate::deadline;
use crate::deflate::Agreed;
use crate::error::CloseError;

pub(super) use sending::Outbound;

/// A peer that never stops sending gives way to others after so many reads.
const READS_PER_POLL_MAX: usize = 16;

/// How long the peer gets to end its side after our last byte. A socket that is closed while bytes
/// from the peer arrive is reset, and a reset may overtake our close frame.
const LINGER_MAX: Duration = Duration::from_secs(1);

type Item = Result<Message, Error>;

/// Where the connection stands, as its application sees it.
///
/// ```text
///              the machine has closed                      the stream is done
///   Running ───────────────────────────► Ending(item) ─────────────────────────► Ended
///                                          │ flush, shut down, linger:   item handed out
///                                          └ each until it is done or its time is over
/// ```
#[derive(Debug)]
enum Phase {
    Running,
    Ending(Box<Ending>),
    Ended,
}

#[derive(Debug)]
struct Ending {
    /// What the application is told last.
    item: Item,
    step: Step,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Flush,
    /// End our side. The server does so first (RFC 6455 §7.1.1).
    ShutDown,
    /// Wait for the peer to end its side.
    Linger,
    Done,
}

#[derive(Debug)]
pub(super) struct Driver<S> {
    pub(super) stream: S,
    machine: Connection,
    incoming: Incoming,
    outgoing: Outgoing,
    phase: Phase,
    timer: Timer,
    heartbeat: Option<Box<Heartbeat>>,
    write_buffer_bytes_max: usize,
    /// A message of ours has begun to leave in parts.
    unfinished: bool,
    /// A ping has been read whose pong has not been written.
    owes_pong: bool,
    pub(super) protocol: Option<Box<str>>,
}

impl<S> Driver<S> {
    pub(super) fn new(stream: S, machine: Connection, early: Vec<u8>, options: &Options) -> Self {
        Self {
            stream,
            machine,
            incoming: Incoming::new(early),
            outgoing: Outgoing::default(),
            phase: Phase::Running,
            timer: Timer::default(),
            heartbeat: options.keep_alive.map(|options| Box::new(Heartbeat::new(options, now()))),
            write_buffer_bytes_max: options.write_buffer_bytes_max,
            unfinished: false,
            owes_pong: false,
            protocol: None,
        }
    }

    pub(super) fn closed(&self) -> Option<&Closed> {
        self.machine.closed()
    }

    pub(super) fn is_open(&self) -> bool {
        self.machine.is_open()
    }

    /// Whether the application has been told how it ended.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.outgoing.bytes()
    }

    pub(super) fn deflate(&self) -> Option<&Agreed> {
        self.machine.deflate()
    }

    /// See [`Connection::set_compression`].
    pub(super) fn set_compression(&mut self, on: bool) {
        self.machine.set_compression(on);
    }

    pub(super) fn start_close(
        &mut self,
        code: Option<CloseCode>,
        reason: &str,
    ) -> Result<(), CloseError> {
        self.machine.close(code, reason, now())
    }

    /// The machine has closed: what is left to do, and what the application is told at its end.
    fn end(&mut self, item: Item, step: Step) {
        trace::ended(&item);
        self.incoming.clear();
        self.heartbeat = None;
        let deadline = deadline::after(now(), self.machine.limits().close_timeout);
        self.phase = Phase::Ending(Box::new(Ending { item, step, deadline }));
    }

    /// The connection is lost: there is nobody to say anything to.
    fn lose(&mut self, error: Error) {
        self.machine.handle_eof();
        self.give_up_sending();
        self.end(Err(error), Step::ShutDown);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// The next message, whole or in parts as the caller's type says.
    pub(super) fn poll_next<M: Wanted>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<M, Error>>> {
        for _ in 0..READS_PER_POLL_MAX {
            match self.phase {
                Phase::Running => {}
                Phase::Ending(_) => {
                    return self.poll_ending(cx).map(|item| Some(item.map(M::from)));
                }
                Phase::Ended => return Poll::Ready(None),
            }
            if let Some(received) = self.incoming.next(&mut self.machine) {
                if let Some(message) = self.receive(received, cx) {
                    return Poll::Ready(Some(Ok(message)));
                }
                continue;
            }
            // Behind the last ping of a read there may be a part of the next frame: what has been
            // read is answered before more is, or the answers would pile up.
            self.pay_pongs(cx);
            match self.incoming.poll_read(&mut self.stream, &mut self.machine, cx) {
                Poll::Ready(Ok(Read::Received(received))) => {
                    self.hear();
                    if let Some(message) = self.receive(received, cx) {
                        return Poll::Ready(Some(Ok(message)));
                    }
                }
                Poll::Ready(Ok(Read::Part)) => self.hear(),
                Poll::Ready(Ok(Read::End)) => self.lose(Error::Lost),
                Poll::Ready(Err(error)) => self.lose(Error::Io(error)),
                Poll::Pending => {
                    // A failed write is the sender's to see; here there may still be something to
                    // read, up to the peer's close frame.
                    let _ = self.poll_write(cx);
                    ready!(self.poll_deadline(cx));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sees to what an event asks for; the message that the application gets.
    fn receive<M: Wanted>(&mut self, received: Received<M>, cx: &mut Context<'_>) -> Option<M> {
        match received {
            Received::Closed(closed) => {
                match closed.error {
                    Some(error) => self.end(Err(error.into()), Step::Flush),
                    None if closed.clean => {
                        self.end(Ok(Message::Close(close_frame(&closed))), Step::Flush);
                    }
                    None => self.lose(Error::CloseTimeout),
                }
                None
            }
            Received::Message(message) => {
                if matches!(message.message(), Message::Ping(_)) {
                    // The stream may only have said "not now" to let other tasks run.
                    if self.outgoing.is_blocked() {
                        let _ = self.poll_write(cx);
                    }
                    self.take_transmit();
                    self.owes_pong = true;
                }
                // Many pings in one read are answered with one write; none has to wait for the
                // application to come back.
                if self.incoming.is_empty() {
                    self.pay_pongs(cx);
                }
                Some(message)
            }
        }
    }

    fn pay_pongs(&mut self, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.owes_pong) {
            let _ = self.poll_write(cx);
        }
    }

    /// Queues the message, once there is room, and writes until nothing waits.
    pub(super) fn poll_send(
        &mut self,
        outbound: &mut Option<Outbound<'_>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if let Some(Outbound::Frame(frame)) = *outbound
            && self.is_idle_server()
        {
            *outbound = None;
            let bytes = self.machine.prepared(frame)?;
            let polled = self.outgoing.poll_write_through(bytes, &mut self.stream, cx);
            if polled.is_ready() {
                return polled.map_err(Error::Io);
            }
        }
        ready!(self.poll_feed(outbound, cx))?;
        self.poll_flush(cx)
    }

    /// Whether a prepared frame can leave as it is: not masked, and with nothing before it.
    fn is_idle_server(&mut self) -> bool {
        self.take_transmit();
        let outgoing = &self.outgoing;
        self.machine.role() == Role::Server && outgoing.is_empty() && !outgoing.is_broken()
    }

    /// Queues the message, once there is room.
    pub(super) fn poll_feed(
        &mut self,
        outbound: &mut Option<Outbound<'_>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if outbound.is_some() {
            ready!(self.poll_ready(cx))?;
        }
        Poll::Ready(outbound.take().map_or(Ok(()), |outbound| self.push(outbound)))
    }

    /// Ready when another message may be queued.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.outgoing.bytes() >= self.write_buffer_bytes_max {
            let polled = self.poll_write(cx)?;
            if polled.is_pending() && self.outgoing.bytes() >= self.write_buffer_bytes_max {
                return self.poll_patience(cx);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what waits, until nothing does.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.poll_write(cx) {
            Poll::Ready(written) => Poll::Ready(written.map_err(Error::Io)),
            Poll::Pending => self.poll_patience(cx),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = loop {
            self.take_transmit();
            let was_blocked = self.outgoing.is_blocked();
            let waited = self.heartbeat.as_ref().map(|_| self.outgoing.bytes());
            let polled = self.outgoing.poll_write(&mut self.stream, cx);
            if let (Some(heartbeat), Some(waited)) = (&mut self.heartbeat, waited) {
                heartbeat.write(waited - self.outgoing.bytes());
            }
            if !matches!(polled, Poll::Ready(Ok(()))) {
                break polled;
            }
            // What stayed in the machine while the stream was blocked leaves now.
            if !was_blocked {
                break self.outgoing.poll_flush(&mut self.stream, cx);
            }
        };
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.block(polled.is_pending());
        }
        polled
    }

    /// Of who waits for the stream to take something: ready when the peer is given up.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let heartbeat = self.heartbeat.as_ref();
        let Some(deadline) = heartbeat.and_then(|heartbeat| heartbeat.blocked_deadline()) else {
            return Poll::Pending;
        };
        // A reading half may wait for something earlier by the same timer.
        while ready!(self.timer.poll_beside(deadline, cx)) < deadline {}
        self.lose(Error::KeepAliveTimeout);
        Poll::Ready(Err(Error::KeepAliveTimeout))
    }

    fn hear(&mut self) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.hear(now());
        }
    }

    /// Ready when a deadline has passed and something was done about it.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let heartbeat = self.heartbeat.as_ref().filter(|_| self.machine.is_open());
        let beat = heartbeat.map(|heartbeat| heartbeat.deadline());
        let Some(deadline) = self.machine.poll_timeout().or(beat) else {
            self.timer.stop();
            return Poll::Pending;
        };
        let now = ready!(self.timer.poll(deadline, cx));
        if self.machine.handle_timeout(now).is_some() {
            self.lose(Error::CloseTimeout);
        } else if let Some(heartbeat) = &mut self.heartbeat {
            match heartbeat.beat(now) {
                Pulse::Calm => {}
                Pulse::Ping => {
                    // An open machine takes an empty ping; a broken stream shows when it is read.
                    let _ = self.push_message(Message::Ping(Bytes::new()));
                    if let Some(heartbeat) = &mut self.heartbeat {
                        heartbeat.queue_ping(self.outgoing.bytes());
                    }
                }
                Pulse::Lost => self.lose(Error::KeepAliveTimeout),
            }
        }
        Poll::Ready(())
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        let role = self.machine.role();
        loop {
            let Phase::Ending(ending) = &mut self.phase else {
                unreachable!("the phase is Ending")
            };
            let (step, deadline) = (ending.step, ending.deadline);
            let polled = match step {
                Step::Flush => self.poll_write(cx).map(drop),
                Step::ShutDown => Pin::new(&mut self.stream).poll_shutdown(cx).map(drop),
                Step::Linger => poll_discard(&mut self.stream, cx),
                Step::Done => return Poll::Ready(self.finish()),
            };
            let is_late = polled.is_pending() && self.timer.poll(deadline, cx).is_ready();
            if polled.is_pending() && !is_late {
                return Poll::Pending;
            }
            self.step_on(role, is_late);
        }
    }

    /// The next step of the end. Who is late with one gets no further ones.
    fn step_on(&mut self, role: Role, is_late: bool) {
        let linger = now() + LINGER_MAX.min(self.machine.limits().close_timeout);
        let Phase::Ending(ending) = &mut self.phase else { return };
        let is_error = matches!(ending.item, Err(Error::Protocol(_)));
        ending.step = match (ending.step, role) {
            (Step::Flush, _) if is_late => Step::Done,
            (Step::Flush, Role::Server) => Step::ShutDown,
            // RFC 6455 §7.1.1: the client "SHOULD wait for the server to close the connection".
            (Step::Flush, Role::Client) => Step::Linger,
            (Step::ShutDown, Role::Server) if is_error && !is_late => Step::Linger,
            (Step::Linger, Role::Client) => Step::ShutDown,
            _ => Step::Done,
        };
        if ending.step == Step::Linger {
            ending.deadline = linger;
        }
    }

    fn finish(&mut self) -> Item {
        self.give_up_sending();
        self.timer.stop();
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Ending(ending) => ending.item,
            _ => unreachable!("only an ending connection finishes"),
        }
    }
}
