//! Sessions of sockets that live, where all nodes see them: what a node that is killed leaves. It
//! is written anew a moment after it has changed. Does not know how a bus keeps them, nor who takes
//! them away.

use std::collections::HashSet;
use std::time::Duration;

use indexmap::IndexSet;
use parking_lot::Mutex;
use sockeye_proto::SocketId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::shared::{Shared, record};
use super::{Recoverable, Recovery};
use crate::cluster::{ClusterBody, LiveSession};
use crate::extensions::Extensions;
use crate::rooms::RoomName;

/// What changes meanwhile is written together. A node that is killed may leave what was so long
/// ago.
const WRITE_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct Live {
    shared: Shared,
    /// For how long a session can be taken up when its node is gone.
    time: Duration,
    changed: Mutex<Changed>,
    /// Those of which there is no telling now what they have got.
    uncertain: Mutex<HashSet<SocketId>>,
    has_changed: Notify,
}

/// The sockets whose sessions have changed.
pub(crate) enum Changed {
    These(HashSet<SocketId>),
    /// All of the namespace.
    All,
}

/// What is to be said of a socket.
pub(crate) struct Entry(ClusterBody);

impl Live {
    /// `None` where nobody would keep them.
    pub(super) fn of(shared: &Shared, time: Duration) -> Option<Self> {
        shared.keeps_live_sessions().then(|| Self {
            shared: shared.clone(),
            time,
            changed: Mutex::default(),
            uncertain: Mutex::default(),
            has_changed: Notify::new(),
        })
    }

    /// Those of which nothing could be told may have answered a ping since.
    pub(super) fn note_uncertain(&self) {
        let sockets = std::mem::take(&mut *self.uncertain.lock());
        sockets.into_iter().for_each(|socket| self.note(Some(socket)));
    }

    fn note(&self, socket: Option<SocketId>) {
        let is_first = {
            let mut changed = self.changed.lock();
            let is_first = changed.is_empty();
            match (&mut *changed, socket) {
                (Changed::These(sockets), Some(socket)) => drop(sockets.insert(socket)),
                (changed, None) => *changed = Changed::All,
                (Changed::All, Some(_)) => {}
            }
            is_first
        };
        if is_first {
            self.has_changed.notify_one();
        }
    }
}

impl Default for Changed {
    fn default() -> Self {
        Self::These(HashSet::new())
    }
}

impl Changed {
    fn is_empty(&self) -> bool {
        matches!(self, Self::These(sockets) if sockets.is_empty())
    }
}

impl Recovery {
    /// What others would be told of a socket, should this node be killed, has changed.
    pub(crate) fn note_changed(&self, socket: SocketId) {
        if let Some(live) = &self.live {
            live.note(Some(socket));
        }
    }

    /// As [`note_changed`](Self::note_changed), of all sockets of the namespace.
    pub(super) fn note_all_changed(&self) {
        if let Some(live) = &self.live {
            live.note(None);
        }
    }

    /// Waits until there is something to write, and then a moment for what else changes.
    /// One may wait.
    pub(crate) async fn changed(&self) {
        let Some(live) = &self.live else { return std::future::pending().await };
        live.has_changed.notified().await;
        // Dropped here, it would have been noticed for nothing.
        let noticed = Noticed(live);
        tokio::time::sleep(WRITE_INTERVAL).await;
        std::mem::forget(noticed);
    }

    /// What has changed since it was taken last.
    pub(crate) fn take_changed(&self) -> Changed {
        self.live
            .as_ref()
            .map_or_else(Changed::default, |live| std::mem::take(&mut *live.changed.lock()))
    }

    /// What others are to know of a socket that lives. What was sent before `received_until` has
    /// been received.
    pub(crate) fn describe(
        &self,
        recoverable: &mut Recoverable,
        rooms: &IndexSet<RoomName>,
        data: &Extensions,
        received_until: Option<Instant>,
    ) -> Option<Entry> {
        let live = self.live.as_ref()?;
        let received_until = received_until.unwrap_or(recoverable.membership.admitted_at);
        let mut membership = recoverable.membership.clone();
        {
            let read_to = live.shared.position().unwrap_or_default();
            let log = self.log.lock();
            if log.unlogged_at().is_some_and(|at| at >= received_until) {
                // It may be on its way still, and only this node knows of it.
                drop(log);
                live.uncertain.lock().insert(membership.socket());
                return self.forget(recoverable);
            }
            if received_until > membership.admitted_at {
                let received = log.received(received_until, read_to).unwrap_or_default();
                membership.start = membership.start.max(received);
            }
        }
        let id = recoverable.id;
        let session = record(id, &membership, rooms, data, live.shared.namespace(), None);
        let is_first = !std::mem::replace(&mut recoverable.is_entered, true);
        let entry = LiveSession { session, is_first, time: live.time };
        Some(Entry(ClusterBody::EnterSession(Box::new(entry))))
    }

    /// Has it said.
    pub(crate) fn enter(&self, Entry(body): Entry) {
        if let Some(live) = &self.live {
            live.shared.say(body);
        }
    }

    /// A socket has ended for good.
    pub(crate) fn forget_session(&self, recoverable: &Recoverable) {
        if let Some(entry) = self.forget(recoverable) {
            self.enter(entry);
        }
    }

    fn forget(&self, recoverable: &Recoverable) -> Option<Entry> {
        let is_seen = self.live.is_some() && recoverable.is_entered;
        is_seen.then(|| Entry(ClusterBody::ForgetSession(recoverable.id)))
    }
}

/// Notices again if the wait behind it is dropped.
struct Noticed<'a>(&'a Live);

impl Drop for Noticed<'_> {
    fn drop(&mut self) {
        self.0.has_changed.notify_one();
    }
}
