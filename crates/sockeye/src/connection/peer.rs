//! What others hold of a connection: its outbox, and the mailbox and waker of its task.
//! Knows nothing of sockets, namespaces or the server, so that rooms can hold it without a cycle.

use std::sync::Arc;

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use parking_lot::Mutex;
use sockeye_proto::SocketId;
use sockeye_proto::socket::EncodedPacket;
use tokio::sync::{Notify, oneshot};

use super::transport::Transport;
use crate::gather;
use crate::outbox::{Flushed, Outbox, Pushed};
use crate::reason::DisconnectReason;

/// One connection, as emitters, rooms and HTTP requests see it.
pub(crate) struct Peer {
    outbox: Outbox,
    waker: AtomicWaker,
    /// `None` when the task has ended.
    mailbox: Mutex<Option<Vec<Command>>>,
    drained: Notify,
}

/// What the connection's task is asked to do.
pub(crate) enum Command {
    /// A long-polling GET waits for packets.
    Get(oneshot::Sender<GetAnswer>),
    /// The GET's client has gone.
    GetAborted,
    /// A long-polling POST has begun; answered when its packets are handled.
    Post(oneshot::Sender<PostAnswer>),
    /// Its body.
    PostBody(Bytes),
    /// Its client has gone, or the body was too large: nothing of it is handled.
    PostAborted { gone: bool },
    /// Its content type cannot be a payload.
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
    Payload(Vec<u8>),
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
            drained: Notify::new(),
        }
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(crate) fn waker(&self) -> &AtomicWaker {
        &self.waker
    }

    /// Sends a packet, as part of this turn's flush.
    pub(crate) fn push(self: &Arc<Self>, packet: EncodedPacket, volatile: bool) -> Pushed {
        let pushed = self.outbox.push(packet, volatile, gather::is_current(self));
        match pushed {
            Pushed::First => gather::list([self.clone()]),
            Pushed::WakeTask | Pushed::Overflowed => self.waker.wake(),
            _ => {}
        }
        pushed
    }

    /// As [`push`](Self::push), into a list that the caller has open already.
    pub(crate) fn push_listed(
        self: &Arc<Self>,
        packet: &EncodedPacket,
        volatile: bool,
        list: &mut Vec<Arc<Self>>,
    ) -> Pushed {
        let pushed = self.outbox.push(packet.clone(), volatile, gather::is_current(self));
        match pushed {
            Pushed::First => list.push(self.clone()),
            Pushed::WakeTask | Pushed::Overflowed => self.waker.wake(),
            _ => {}
        }
        pushed
    }

    /// Writes what waits; what cannot be written now is left to the task.
    pub(crate) fn flush(&self) {
        if self.outbox.flush() != Flushed::Empty {
            self.waker.wake();
        }
    }

    /// Asks the task to do something. Where it has ended the command is dropped, which tells a
    /// waiting request so.
    pub(crate) fn command(&self, command: Command) {
        if let Some(commands) = &mut *self.mailbox.lock() {
            commands.push(command);
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

    /// Tells those who wait in [`wait_drained`](Self::wait_drained) to look again.
    pub(crate) fn notify_drained(&self) {
        self.drained.notify_waiters();
    }

    /// Waits until at most `bytes` wait in the outbox.
    pub(crate) async fn wait_drained(&self, bytes: usize) {
        loop {
            let notified = self.drained.notified();
            if self.outbox.bytes() <= bytes {
                return;
            }
            notified.await;
        }
    }
}
