//! What happens to the rooms of a namespace, told to those who look: hooks, and a cluster's bus.
//! Does not know what rooms hold. While nobody looks, nothing is noted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use sockeye_proto::SocketId;

use crate::panics;
use crate::rooms::RoomName;
use crate::sequence::Sequence;

/// What happened to a room of a namespace, as [`Namespace::on_room_event`] shows it. The room of a
/// socket's own id is a room, too.
///
/// A room is created before its first member joins it, and deleted after its last has left it; what
/// changes nothing is not told.
///
/// [`Namespace::on_room_event`]: crate::Namespace::on_room_event
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomEvent {
    /// It has its first member (Node's `create-room`).
    Created {
        /// The room.
        room: RoomName,
    },
    /// A socket is in it (`join-room`).
    Joined {
        /// The room.
        room: RoomName,
        /// The socket.
        socket: SocketId,
    },
    /// A socket is in it no more (`leave-room`).
    Left {
        /// The room.
        room: RoomName,
        /// The socket.
        socket: SocketId,
    },
    /// It has no members (`delete-room`).
    Deleted {
        /// The room.
        room: RoomName,
    },
}

/// An event, and whether it is about the room of a socket's own id.
pub(crate) struct Change {
    pub(crate) event: RoomEvent,
    pub(crate) is_own: bool,
}

type Hook = Arc<dyn Fn(&RoomEvent) + Send + Sync>;

#[derive(Default)]
pub(crate) struct RoomWatch {
    /// Whether anybody looks. Never turned off.
    is_on: AtomicBool,
    changes: Sequence<Change>,
    hooks: RwLock<Vec<Hook>>,
}

impl RoomWatch {
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    pub(crate) fn turn_on(&self) {
        self.is_on.store(true, Ordering::Relaxed);
    }

    pub(crate) fn add_hook(&self, hook: impl Fn(&RoomEvent) + Send + Sync + 'static) {
        self.hooks.write().push(Arc::new(hook));
        self.turn_on();
    }

    /// Notes that a socket has joined a room, under the lock that made it so.
    pub(crate) fn joined(&self, room: &RoomName, socket: SocketId, is_new: bool) {
        if is_new {
            self.add(RoomEvent::Created { room: room.clone() }, socket);
        }
        self.add(RoomEvent::Joined { room: room.clone(), socket }, socket);
    }

    /// Notes that a socket has left a room, under the lock that made it so.
    pub(crate) fn left(&self, room: &RoomName, socket: SocketId, is_last: bool) {
        self.add(RoomEvent::Left { room: room.clone(), socket }, socket);
        if is_last {
            self.add(RoomEvent::Deleted { room: room.clone() }, socket);
        }
    }

    fn add(&self, event: RoomEvent, socket: SocketId) {
        let (RoomEvent::Created { room }
        | RoomEvent::Joined { room, .. }
        | RoomEvent::Left { room, .. }
        | RoomEvent::Deleted { room }) = &event;
        let is_own = &**room == socket.as_str();
        self.changes.add(Change { event, is_own });
    }

    /// Tells what was noted, in its order. No lock of sockets or rooms may be held.
    pub(crate) fn tell(&self, tell_bus: impl Fn(&Change)) {
        self.changes.run(|change| {
            tell_bus(&change);
            let hooks = self.hooks.read().clone();
            for hook in hooks {
                if panics::catch(|| hook(&change.event)).is_err() {
                    tracing::error!(event = ?change.event, "a hook of room events panicked");
                }
            }
        });
    }
}
