//! A socket's admission and end, as far as connection state recovery has a part in them.
//! Does not know what is recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use sockeye_proto::RecoveryId;
use sockeye_proto::engine::Revision;
use sockeye_proto::socket::EncodedPacket;

use super::{CONNECTED, CONNECTING, Inner, Joined, Socket};
use crate::connection::Peer;
use crate::handlers::Handlers;
use crate::handshake::Handshake;
use crate::metrics;
use crate::namespace::Namespace;
use crate::outbox::Way;
use crate::recovery::{Recoverable, Restored};

impl Socket {
    /// Whether it goes on with the socket that its client had before: with the same id, rooms and
    /// data, and the client gets what it missed
    /// ([`connection_state_recovery`](crate::ServerBuilder::connection_state_recovery)). While it
    /// is, its `on_connection` hooks need not send what the client has already.
    ///
    /// In a middleware it says what will be: should it not come to that (too much was missed
    /// meanwhile), another socket that is not recovered goes through the middlewares. After the
    /// end it is false.
    pub fn recovered(&self) -> bool {
        let joined = self.0.joined.lock();
        joined.recoverable.as_deref().is_some_and(|recoverable| recoverable.is_recovered())
    }

    /// A new one that goes on with an earlier one.
    pub(crate) fn restored(
        restored: Restored,
        namespace: Namespace,
        peer: Arc<Peer>,
        handshake: Arc<Handshake>,
        auth: Option<&str>,
    ) -> Self {
        let Restored { id, recoverable, rooms, left_own, data } = restored;
        let joined = Joined { rooms: rooms.into(), recoverable: Some(recoverable) };
        Self(Arc::new(Inner {
            id,
            state: CONNECTING.into(),
            left_own: left_own.into(),
            has_left: false.into(),
            namespace,
            peer,
            handshake,
            auth: auth.map(Box::from),
            joined: Mutex::new(joined),
            handlers: Handlers::default(),
            acks: Mutex::default(),
            data,
        }))
    }

    /// The middlewares have let it in: the client is told, and it joins the rooms it asked for
    /// meanwhile. Returns false where it was to be recovered and cannot be.
    ///
    /// The CONNECT packet goes first: what is emitted from now on comes behind it, and so does
    /// what was missed. (In Node that goes before the CONNECT. The official client keeps what
    /// comes so early, and keeps it for too long: where the connection is lost between the two,
    /// it handles all of it again after the next CONNECT.)
    pub(crate) fn admit(&self) -> bool {
        let inner = &*self.0;
        let mut joined = inner.joined.lock();
        // Clients of the older revision cannot come back to a socket.
        let is_older = inner.peer.outbox().revision() == Revision::V3;
        let recovery = inner.namespace.recovery().filter(|_| !is_older);
        let Some(recovery) = recovery else {
            self.push_connect(None);
            self.enter(&joined);
            drop(joined);
            inner.namespace.tell_room_events();
            return true;
        };
        let mut recoverable = joined.recoverable.take();
        // One packet more than the outbox takes would end the connection before any has left.
        let room = inner.namespace.config().outbox_bytes_max / 2;
        let bytes_max = room.saturating_sub(inner.peer.outbox().bytes());
        let rooms = joined.rooms.iter();
        let is_admitted =
            recovery.admit(&mut recoverable, inner.id, rooms, bytes_max, |id, missed| {
                self.push_connect(id);
                for packet in missed {
                    inner.peer.tell(&inner.namespace.config().parser, packet.clone());
                }
                self.enter(&joined);
            });
        if let Some(recoverable) = &mut recoverable
            && inner.left_own()
        {
            recoverable.membership().forget(&inner.id.as_str().into());
        }
        if recoverable.as_ref().is_some_and(|recoverable| recoverable.is_recovered()) {
            let lost = metrics::Recovery::Lost;
            metrics::recovery(if is_admitted { metrics::Recovery::Recovered } else { lost });
        }
        joined.recoverable = recoverable;
        drop(joined);
        if is_admitted {
            recovery.note_changed(inner.id);
        }
        inner.namespace.tell_room_events();
        is_admitted
    }

    fn push_connect(&self, recovery: Option<RecoveryId>) {
        let id = self.0.id;
        let json = match recovery {
            // These clients know the id already.
            _ if self.0.peer.outbox().revision() == Revision::V3 => String::new(),
            None => format!("{{\"sid\":\"{id}\"}}"),
            Some(pid) => format!("{{\"sid\":\"{id}\",\"pid\":\"{}\"}}", pid.as_str()),
        };
        let namespace = &self.0.namespace;
        let packet = EncodedPacket::connect(namespace.name(), &json);
        self.0.peer.tell(&namespace.config().parser, packet);
    }

    fn enter(&self, joined: &Joined) {
        let inner = &*self.0;
        inner.state.store(CONNECTED, Ordering::Release);
        let rooms = inner.namespace.rooms();
        rooms.add(inner.id, inner.peer.clone());
        if inner.left_own() {
            rooms.leave(&inner.id, inner.id.as_str());
        }
        for room in joined.rooms.iter() {
            rooms.join(inner.id, &inner.peer, room);
        }
    }

    /// Does something behind all that has been emitted before: events may wait for the cluster's
    /// log.
    pub(super) fn in_order(&self, act: impl FnOnce() + Send + 'static) {
        match self.0.namespace.shared_recovery() {
            Some((link, _)) => link.then(&self.0.namespace.name_shared(), Box::new(|_| act())),
            None => act(),
        }
    }

    /// Sends a packet that was emitted a moment ago, when it was connected. What comes of it nobody
    /// hears: one whose outbox is full, or whose connection has ended, is told otherwise.
    pub(crate) fn deliver(&self, packet: EncodedPacket, way: &Way) {
        match self.0.namespace.config().parser.encode(packet) {
            Ok(packet) => drop(self.0.peer.push_by(packet, way)),
            Err(error) => tracing::error!(%error, "an event cannot be written"),
        }
    }

    /// Whether it is the one that is taken up by this private id.
    pub(crate) fn is_recovered_by(&self, id: &RecoveryId) -> bool {
        let joined = self.0.joined.lock();
        joined.recoverable.as_deref().is_some_and(|recoverable| recoverable.id() == id)
    }

    /// Enters its session where all nodes see it, as it is now.
    pub(crate) fn enter_session(&self) {
        let inner = &*self.0;
        let Some(recovery) = inner.namespace.recovery() else { return };
        let entry = {
            let mut joined = inner.joined.lock();
            let Joined { rooms, recoverable } = &mut *joined;
            let Some(recoverable) = recoverable.as_deref_mut().filter(|_| self.is_connected())
            else {
                return;
            };
            recovery.describe(recoverable, rooms, &inner.data, inner.peer.answered_at())
        };
        // What does not fit into the cluster's queue may have others join rooms.
        if let Some(entry) = entry {
            recovery.enter(entry);
        }
    }

    /// It begins to end so that it may be taken up again.
    pub(crate) fn begin_session(&self) {
        if let Some(recovery) = self.0.namespace.recovery()
            && let Some(recoverable) = &mut self.0.joined.lock().recoverable
        {
            recovery.begin_session(recoverable, self.0.peer.answered_at());
        }
    }

    /// It has left its rooms, and its handlers are done: from now on it may be taken up again, if
    /// it ended so.
    pub(crate) fn keep_session(&self) {
        let Some(recovery) = self.0.namespace.recovery() else { return };
        let Some(recoverable) = self.0.joined.lock().recoverable.take() else { return };
        if recoverable.is_ending() {
            recovery.keep_session(*recoverable, self.0.data.take());
        } else {
            recovery.forget_session(&recoverable);
        }
    }

    /// It has not been admitted: what it was to go on with waits on.
    pub(super) fn put_session_back(&self) {
        let Some(recovery) = self.0.namespace.recovery() else { return };
        let restored = |recoverable: &mut Box<Recoverable>| recoverable.is_restored();
        let recoverable = self.0.joined.lock().recoverable.take_if(restored);
        if let Some(recoverable) = recoverable {
            recovery.put_back(*recoverable, || self.0.data.take());
        }
    }
}
