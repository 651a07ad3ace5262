//! What others hold of a connection: its outbox, and the mailbox and waker of its task.
//! Knows nothing of sockets, namespaces or the server, so that rooms can hold it without a cycle.

use std::sync::{Arc, OnceLock};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use parking_lot::Mutex;
use sockeye_proto::SocketId;
use sockeye_proto::socket::{EncodedPacket, Parser};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::transport::Transport;
use crate::gather;
use crate::outbox::{Flushed, Outbox, Payload, Pushed, Way};
use crate::reason::DisconnectReason;

/// One connection, as emitters, rooms and HTTP requests see it.
pub(crate) struct Peer {
    outbox: Outbox,
    waker: AtomicWaker,
    /// `None` when the task has ended.
    mailbox: Mutex<Option<Vec<Command>>>,
    rare: OnceLock<Box<Rare>>,
}

/// What few connections have.
#[derive(Default)]
struct Rare {
    /// Somebody waits for the outbox to drain.
    drained: Notify,
    /// Why it ended, in words; only one that has ended has any.
    description: OnceLock<Box<str>>,
    /// Only where what a client has received matters when it is lost.
    heartbeat: Option<Mutex<Heartbeat>>,
}

/// What the answers to pings say.
struct Heartbeat {
    /// When the last ping was sent.
    ping_at: Instant,
    /// When the last that was answered was: what was sent before it has been received.
    answered_at: Instant,
}

/// What the connection's task is asked to do.
pub(crate) enum Command {
    /// A long-polling GET waits for packets.
    Get(oneshot::Sender<GetAnswer>),
    /// The GET's client has gone.
    GetAborted,
    /// It has gone before it got the answer that there was: what was in that is lost.
    GetLost,
    /// Nobody can wait for the GET any longer, though its client is still there: it is answered
    /// now, with a noop if there is nothing else.
    Release,
    /// A long-polling POST has begun; answered when its packets are handled.
    Post(oneshot::Sender<PostAnswer>),
    /// A POST whose body has come.
    WholePost { answer: oneshot::Sender<PostAnswer>, body: Bytes, is_binary: bool },
    /// The body of one that has begun.
    PostBody { body: Bytes, is_binary: bool },
    /// Its client has gone, or the body was too large: nothing of it is handled.
    PostAborted { gone: bool },
    /// Its content type cannot be a payload; or an answer was lost.
    PostRefused,
    /// A WebSocket wants to take the session over.
    Upgrade(Box<Transport>),
    /// The application disconnects a socket; with `close` all of them, and the connection.
    Disconnect { id: SocketId, close: bool },
    /// The server ends.
    Close(DisconnectReason),
}

/// The answer to a GET.
pub(crate) enum GetAnswer {
    /// The payload of a 200.
    Payload(Payload),
    /// 400: another GET was open already.
    Refused,
}

/// The answer to a POST.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PostAnswer {
    /// 200 `ok`.
    Handled,
    /// 400.
    Refused,
}

impl Peer {
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            waker: AtomicWaker::new(),
            mailbox: Mutex::new(Some(Vec::new())),
            rare: OnceLock::new(),
        }
    }

    /// Remembers until when the client has received what was sent to it.
    pub(crate) fn with_heartbeat(mut self, now: Instant) -> Self {
        let heartbeat = Some(Mutex::new(Heartbeat { ping_at: now, answered_at: now }));
        self.rare = OnceLock::from(Box::new(Rare { heartbeat, ..Rare::default() }));
        self
    }

    fn heartbeat(&self) -> Option<&Mutex<Heartbeat>> {
        self.rare.get()?.heartbeat.as_ref()
    }

    /// A ping is about to be sent.
    pub(crate) fn ping(&self, now: Instant) {
        if let Some(heartbeat) = self.heartbeat() {
            heartbeat.lock().ping_at = now;
        }
    }

    /// The last ping was answered.
    pub(crate) fn pong(&self) {
        if let Some(heartbeat) = self.heartbeat() {
            let mut heartbeat = heartbeat.lock();
            heartbeat.answered_at = heartbeat.ping_at;
        }
    }

    /// What was sent before has been received, for sure; `None` where nobody remembers.
    pub(crate) fn answered_at(&self) -> Option<Instant> {
        self.heartbeat().map(|heartbeat| heartbeat.lock().answered_at)
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(crate) fn waker(&self) -> &AtomicWaker {
        &self.waker
    }

    /// Sends a packet, as part of this turn's flush.
    pub(crate) fn push(self: &Arc<Self>, packet: EncodedPacket, volatile: bool) -> Pushed {
        let way = if volatile { &Way::Volatile } else { &Way::Always };
        self.push_by(packet, way)
    }

    /// Sends a packet that the server makes, not the application. Only an application's own parser
    /// can fail to write one.
    pub(crate) fn tell(self: &Arc<Self>, parser: &Parser, packet: EncodedPacket) {
        match parser.encode(packet) {
            Ok(packet) => {
                self.push(packet, false);
            }
            Err(error) => tracing::error!(%error, "the parser cannot write a packet"),
        }
    }

    /// As [`push`](Self::push), with a way of its own.
    pub(crate) fn push_by(self: &Arc<Self>, packet: EncodedPacket, way: &Way) -> Pushed {
        self.put(packet, way, |first| gather::list([first]))
    }

    /// As [`push_by`](Self::push_by), into a list that the caller has open already.
    pub(crate) fn push_listed(
        self: &Arc<Self>,
        packet: &EncodedPacket,
        way: &Way,
        list: &mut Vec<Arc<Self>>,
    ) -> Pushed {
        self.put(packet.clone(), way, |first| list.push(first))
    }

    fn put(
        self: &Arc<Self>,
        packet: EncodedPacket,
        way: &Way,
        list: impl FnOnce(Arc<Self>),
    ) -> Pushed {
        let in_turn = gather::is_current(self);
        let pushed = match way {
            Way::Always => self.outbox.push(packet, false, in_turn),
            Way::Volatile => self.outbox.push(packet, true, in_turn),
            Way::Latest(key) => self.outbox.push_latest(packet, key, in_turn),
        };
        match pushed {
            Pushed::First => list(self.clone()),
            Pushed::WakeTask | Pushed::Overflowed => self.waker.wake(),
            _ => {}
        }
        pushed
    }

    /// Writes what waits; what cannot be written now is left to the task.
    pub(crate) fn flush(&self) {
        if self.write() != Flushed::Empty {
            self.waker.wake();
        }
    }

    /// Writes what waits, as far as that goes at once, and tells those who wait for it.
    pub(crate) fn write(&self) -> Flushed {
        let flushed = self.outbox.flush();
        self.notify_drained();
        flushed
    }

    /// Asks the task to do something. Where it has ended the command is dropped, which tells a
    /// waiting request so.
    pub(crate) fn command(&self, command: Command) {
        if let Some(mailbox) = &mut *self.mailbox.lock() {
            mailbox.push(command);
        }
        self.waker.wake();
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        self.mailbox.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The task ends: what waits is dropped, and what comes.
    pub(crate) fn close_mailbox(&self) {
        let waiting = self.mailbox.lock().take();
        drop(waiting);
    }

    /// Says why the connection ends. The first who does knows best.
    pub(crate) fn describe(&self, why: impl Into<Box<str>>) {
        self.rare().description.get_or_init(|| why.into());
    }

    /// Why the connection ended.
    pub(crate) fn description(&self) -> Option<&str> {
        self.rare.get()?.description.get().map(|why| &**why)
    }

    /// Tells those who wait in [`wait_drained`](Self::wait_drained) to look again.
    pub(crate) fn notify_drained(&self) {
        // Who waits has looked at the outbox behind its lock after this was there: either it has
        // seen what was taken out of it, or it is found here.
        if let Some(rare) = self.rare.get() {
            rare.drained.notify_waiters();
        }
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    /// Waits until at most `bytes` wait in the outbox.
    pub(crate) async fn wait_drained(&self, bytes: usize) {
        // Who tries again and again what does not fit lets others run: the flush, for one.
        tokio::task::coop::consume_budget().await;
        loop {
            let notified = self.rare().drained.notified();
            if self.outbox.bytes() <= bytes {
                return;
            }
            notified.await;
        }
    }
}
