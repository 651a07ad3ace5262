//! One node as its bus knows it: where what comes goes to. Does not know what messages do.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use sockeye_proto::{RecoveryId, SocketId};

use super::log::LogOffset;
use super::message::{ClusterBody, ClusterMessage, NodeId};
use super::queue::Queue;
use crate::namespace::Namespace;
use crate::recovery::Recovery;
use crate::rooms::RoomName;
use crate::server::{Server, WeakServer};

/// This node, for its [`ClusterBus`](super::ClusterBus): takes what comes from other nodes. It
/// does not keep the server: when that has gone, nothing is taken.
#[derive(Clone)]
pub struct ClusterNode(Arc<Inner>);

struct Inner {
    id: NodeId,
    server: OnceLock<WeakServer>,
    /// What waits for the log to be read, where it is used.
    queue: OnceLock<Option<Weak<Queue>>>,
    is_reading: AtomicBool,
    received: AtomicU64,
    rejected: AtomicU64,
    is_deaf: AtomicBool,
}

impl ClusterNode {
    /// With an id of its own: 64 random bits.
    pub(super) fn new() -> Self {
        let inner = Inner {
            id: NodeId::new(super::random_id()),
            server: OnceLock::new(),
            queue: OnceLock::new(),
            is_reading: AtomicBool::new(false),
            received: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            is_deaf: AtomicBool::new(false),
        };
        Self(Arc::new(inner))
    }

    /// What it hears goes to this server; `queue` has what waits for the log to be read.
    pub(super) fn set_server(&self, server: WeakServer, queue: Option<Arc<Queue>>) {
        // A link is given to one server.
        let _ = self.0.server.set(server);
        let _ = self.0.queue.set(queue.as_ref().map(Arc::downgrade));
        if let Some(queue) = self.queue() {
            queue.set_reading(self.0.is_reading.load(Ordering::Acquire));
        }
    }

    fn queue(&self) -> Option<Arc<Queue>> {
        self.0.queue.get()?.as_ref()?.upgrade()
    }

    /// Its id, the sender of all that it says. 16 hexadecimal digits.
    pub fn id(&self) -> &NodeId {
        &self.0.id
    }

    /// A message came. What it wants is done before this returns, as far as nobody has to be
    /// waited for; answers are queued. Own messages may come, too: they are passed over.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn receive(&self, message: ClusterMessage) {
        self.receive_logged(message, None);
    }

    /// As [`receive`](Self::receive), with the offset of the message in the bus's log
    /// ([`ClusterBus::log`](super::ClusterBus::log)): clients get it behind the arguments of a
    /// broadcast. In the log's order, with [`deliver_logged`](Self::deliver_logged) for the
    /// entries of this node.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn receive_logged(&self, message: ClusterMessage, offset: Option<LogOffset>) {
        if message.sender.as_ref() == Some(&self.0.id) {
            return;
        }
        self.0.received.fetch_add(1, Ordering::Relaxed);
        if let Some(server) = self.server() {
            super::incoming::handle(&server, message, offset);
        }
    }

    /// The log of a namespace has been read up to an entry of this node itself: it is delivered to
    /// this node's sockets. Returns when it has been.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been delivered.
    pub async fn deliver_logged(&self, namespace: &str, offset: LogOffset) {
        let Some(queue) = self.queue() else { return };
        if !queue.deliver_to(namespace, offset).await {
            // It was delivered out of its order, as one that is not in the log.
            let namespace = self.server().and_then(|server| server.find_namespace(namespace));
            if let Some(recovery) = namespace.as_ref().and_then(|namespace| namespace.recovery()) {
                recovery.forget_log(offset);
            }
        }
    }

    /// Whether the log is read now. While it is not (at first it is not), what this node emits is
    /// delivered to its own sockets at once and without an offset. Called by who reads, between two
    /// entries.
    pub fn set_reading_log(&self, is_reading: bool) {
        self.0.is_reading.store(is_reading, Ordering::Release);
        let Some(queue) = self.queue() else { return };
        queue.set_reading(is_reading);
        if is_reading {
            self.each_recovery(Recovery::note_reading);
        }
    }

    /// Of what stands in the log up to here some was never read, and cannot be any more: no client
    /// that has not got it is recovered. What this node itself has appended there is delivered to
    /// its own sockets now.
    pub fn skip_log(&self, until: LogOffset) {
        if let Some(queue) = self.queue() {
            queue.skip_to(until);
        }
        self.each_recovery(|recovery| recovery.forget_log(until));
    }

    /// The sessions of these sockets are to be entered again
    /// ([`live_session_lease`](super::ClusterLog::live_session_lease)); those of sockets that are
    /// not here any more are forgotten.
    pub fn enter_sessions(
        &self,
        namespace: &str,
        sockets: impl IntoIterator<Item = (RecoveryId, SocketId)>,
    ) {
        let Some(server) = self.server() else { return };
        let found = server.find_namespace(namespace);
        for (id, socket) in sockets {
            let is_here = found.as_ref().is_some_and(|namespace| {
                let socket = namespace.socket(&socket);
                socket.is_some_and(|socket| socket.is_recovered_by(&id))
            });
            match (&found, server.link()) {
                (Some(namespace), _) if is_here => namespace.note_changed(socket),
                (_, Some(link)) => link.say(&namespace.into(), ClusterBody::ForgetSession(id)),
                _ => {}
            }
        }
    }

    /// Another node has taken up the session of a socket, since this one seemed to be gone: the
    /// socket ends, and cannot be taken up again.
    pub fn end_taken(&self, namespace: &str, socket: &SocketId) {
        let namespace = self.server().and_then(|server| server.find_namespace(namespace));
        if let Some(socket) = namespace.and_then(|namespace| namespace.socket(socket)) {
            tracing::warn!(id = %socket.id(), "another node has taken up this socket: it ends");
            socket.disconnect(false);
        }
    }

    fn each_recovery(&self, act: impl Fn(&Recovery)) {
        let Some(server) = self.server() else { return };
        for namespace in server.namespaces() {
            if let Some(recovery) = namespace.recovery() {
                act(recovery);
            }
        }
    }

    /// Whether a broadcast that asks for no acknowledgements does anything here: another node has
    /// sent it, and somebody of this one is in the rooms (in the namespace, if there are none). A
    /// bus that reads these first can spare itself the rest: what is not wanted counts as received
    /// and need not be. For buses without heartbeats, of which every message is one.
    pub fn wants_broadcast(&self, sender: &str, namespace: &str, rooms: &[RoomName]) -> bool {
        if sender == self.0.id.as_str() {
            return false;
        }
        let namespace = self.server().and_then(|server| server.find_namespace(namespace));
        // What is kept for those who come back may be for rooms whose members are all away.
        let wants = |namespace: Namespace| {
            namespace.recovery().is_some() || namespace.rooms().has_any(rooms)
        };
        let is_wanted = namespace.is_some_and(wants);
        if !is_wanted {
            self.0.received.fetch_add(1, Ordering::Relaxed);
        }
        is_wanted
    }

    /// A node hears no more of a namespace, or (without one) has gone: requests do not wait for
    /// it any longer.
    pub fn handle_left(&self, namespace: Option<&str>, node: &NodeId) {
        let Some(server) = self.server() else { return };
        let Some(link) = server.link() else { return };
        match namespace {
            Some(namespace) => link.handle_left(namespace, node),
            None => {
                let all = server.namespaces();
                all.iter().for_each(|namespace| link.handle_left(namespace.name(), node));
            }
        }
    }

    /// Something came that is no message: it is counted, and told to the log.
    pub fn reject(&self, why: &dyn fmt::Display) {
        self.0.rejected.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%why, "what came from the cluster's bus is no message");
    }

    /// Whether nothing is heard of the other nodes now ([`ClusterHealth::is_deaf`]).
    ///
    /// [`ClusterHealth::is_deaf`]: super::ClusterHealth::is_deaf
    pub fn set_deaf(&self, is_deaf: bool) {
        if self.note_deaf(is_deaf)
            && let Some(server) = self.server()
            && let Some(forwarding) = server.forwarding()
        {
            forwarding.set_deaf(is_deaf);
        }
    }

    /// Whether that is new.
    fn note_deaf(&self, is_deaf: bool) -> bool {
        let is_new = self.0.is_deaf.swap(is_deaf, Ordering::AcqRel) != is_deaf;
        match is_deaf {
            true if is_new => tracing::warn!("this node hears nothing of the cluster any more"),
            false if is_new => tracing::info!("this node hears the cluster"),
            _ => {}
        }
        is_new
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.0.is_deaf.load(Ordering::Acquire)
    }

    pub(super) fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    pub(super) fn rejected(&self) -> u64 {
        self.0.rejected.load(Ordering::Relaxed)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.server().is_some()
    }

    fn server(&self) -> Option<Server> {
        self.0.server.get()?.upgrade()
    }
}

impl fmt::Debug for ClusterNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterNode").field("id", &self.0.id).finish_non_exhaustive()
    }
}
