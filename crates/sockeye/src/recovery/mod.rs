//! Connection state recovery of one namespace: what its clients may have missed, and the sockets
//! that they can take up again. Does not know connections.
//!
//! * The [`Log`] holds the events that a client may have missed. An offset, the same for all who
//!   get the event, is its last argument; the client says the last one that it has.
//! * A [`Membership`] says which of them were for a socket.
//! * A [`Session`] is what is left of a socket that ended. It is kept by a [`SessionStore`].
//! * In a cluster whose bus has a log, [`Shared`], offsets are those of that log, and sessions are
//!   kept where all nodes see them.
//!
//! Of events that are not recorded (volatile ones, those with an acknowledgement, those that a
//! newer one may replace) a client takes no offset: they are made so that it cannot.

mod log;
mod membership;
mod offset;
mod options;
mod restoring;
mod sessions;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indexmap::IndexSet;
use parking_lot::Mutex;
use serde::Deserialize;
use sockeye_proto::socket::EncodedPacket;
use sockeye_proto::{RecoveryId, SocketId};
use tokio::time::Instant;

use self::log::{Absence, Gap, Log, LogLimits};
use self::membership::Membership;
use self::offset::Epoch;
use self::sessions::{MemorySessions, Session, SessionStore};
use self::shared::{ReadLimits, Shared};
use crate::cluster::{Link, LogOffset};
use crate::config::Config;
use crate::extensions::Extensions;
use crate::outbox;
use crate::rooms::RoomName;

pub(crate) use self::log::Reach;
pub(crate) use self::offset::Offset;
pub use self::options::ConnectionStateRecovery;

/// How often what is too old is looked for, at the least.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Recovery {
    options: ConnectionStateRecovery,
    log: Mutex<Log>,
    sessions: Box<dyn SessionStore>,
    /// Where the log is the cluster's.
    shared: Option<Shared>,
    read_limits: ReadLimits,
    is_sweeping: AtomicBool,
}

/// What a socket has beside its rooms where it may be taken up again.
pub(crate) struct Recoverable {
    id: RecoveryId,
    membership: Membership,
    /// What it goes on with, until it has been admitted.
    origin: Option<Box<Origin>>,
    is_recovered: bool,
    /// It ended so that it may be taken up again.
    ending: Option<Box<Ending>>,
}

struct Ending {
    at: Instant,
    /// `None` where the socket's membership says it.
    received_until: Option<Instant>,
    /// The rooms that it was in when it left.
    rooms: IndexSet<RoomName>,
}

struct Origin {
    membership: Membership,
    rooms: IndexSet<RoomName>,
    /// What the log here must tell; what stands in it before has been read.
    absence: Absence,
    read: Vec<EncodedPacket>,
}

/// A session that has been taken up, for its new socket.
pub(crate) struct Restored {
    pub(crate) id: SocketId,
    pub(crate) left_own: bool,
    pub(crate) recoverable: Box<Recoverable>,
    pub(crate) rooms: IndexSet<RoomName>,
    pub(crate) data: Extensions,
}

/// What a client says of the socket that it had.
pub(crate) struct Claim {
    id: RecoveryId,
    offset: Option<String>,
}

impl Claim {
    /// Reads it from what the client identifies itself with.
    pub(crate) fn read(auth: Option<&str>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wire {
            pid: String,
            offset: Option<String>,
        }
        let auth = auth.filter(|auth| auth.contains("\"pid\""))?;
        let Wire { pid, offset } = serde_json::from_str(auth).ok()?;
        Some(Self { id: RecoveryId::parse(&pid)?, offset })
    }
}

impl Recovery {
    /// `None` where it is off.
    pub(crate) fn new(
        config: &Config,
        namespace: &Arc<str>,
        link: Option<&Arc<Link>>,
    ) -> Option<Arc<Self>> {
        let options = config.recovery.clone()?;
        let notice = config.ping_interval.saturating_add(config.ping_timeout.saturating_mul(3));
        let limits = LogLimits {
            packets_max: options.packets_max,
            bytes_max: options.packet_bytes_max,
            age_max: options.max_disconnection_duration.saturating_add(notice),
        };
        let (age_max, sessions_max) = (options.max_disconnection_duration, options.sessions_max);
        let shared = Shared::of(namespace, link);
        let (sessions, log): (Box<dyn SessionStore>, _) = match &shared {
            Some(shared) => {
                (Box::new(shared.store(age_max, sessions_max)), Log::of_cluster(limits))
            }
            None => {
                let epoch = SocketId::from_entropy(entropy());
                let sessions = MemorySessions::new(age_max, sessions_max);
                (Box::new(sessions), Log::new(Epoch::new(epoch.as_str()), limits))
            }
        };
        let bytes_max = config.outbox_bytes_max / 2;
        let read_limits = ReadLimits { entries_max: options.packets_max, bytes_max };
        Some(Arc::new(Self {
            options,
            log: Mutex::new(log),
            sessions,
            shared,
            read_limits,
            is_sweeping: AtomicBool::new(false),
        }))
    }

    pub(crate) fn skips_middlewares(&self) -> bool {
        self.options.skip_middlewares
    }

    /// Has an event sent with the offset that it gets, and keeps it if it could be sent. Nothing
    /// else is recorded meanwhile; `send` must not emit, nor join or leave rooms.
    pub(crate) fn record<E>(
        &self,
        reach: Reach,
        send: impl FnOnce(Offset) -> Result<EncodedPacket, E>,
    ) -> Result<(), E> {
        self.log.lock().record(reach, send)
    }

    /// As [`record`](Self::record), of an event in the cluster's log.
    pub(crate) fn record_at<E>(
        &self,
        position: LogOffset,
        reach: Reach,
        send: impl FnOnce(Offset) -> Result<EncodedPacket, E>,
    ) -> Result<(), E> {
        let recorded = self.log.lock().record_at(position, reach, send);
        self.tell_moved();
        recorded
    }

    /// Has an event sent that is not kept, though it may stand in the cluster's log.
    pub(crate) fn pass(&self, position: Option<LogOffset>, send: impl FnOnce()) {
        let mut log = self.log.lock();
        send();
        if let Some(position) = position {
            log.pass(position);
            drop(log);
            self.tell_moved();
        }
    }

    /// Has an event sent that ought to be in the cluster's log and may not be.
    pub(crate) fn pass_unlogged(&self, send: impl FnOnce()) {
        let mut log = self.log.lock();
        send();
        log.note_unlogged();
    }

    fn tell_moved(&self) {
        if let Some(shared) = &self.shared {
            shared.tell_moved();
        }
    }

    /// Whether events get their offsets from the cluster's log.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// What stands in the cluster's log up to here cannot be told from what is here.
    pub(crate) fn forget_log(&self, until: LogOffset) {
        if self.shared.is_some() {
            self.log.lock().forget(until);
            self.tell_moved();
        }
    }

    /// The cluster's log is read from now on, or again. What was delivered meanwhile without its
    /// offset comes now.
    pub(crate) fn note_reading(&self) {
        let read_to = self.shared.as_ref().and_then(Shared::position);
        let mut log = self.log.lock();
        if let Some(read_to) = read_to {
            log.begin(read_to);
        }
        if log.unlogged_at().is_some() {
            log.note_unlogged();
        }
    }

    /// Changes who is in a room, between two events.
    pub(crate) fn change_rooms<R>(
        &self,
        recoverable: &mut Recoverable,
        change: impl FnOnce(&mut RoomChange<'_>) -> R,
    ) -> R {
        let log = self.log.lock();
        change(&mut RoomChange { log: &log, membership: &mut recoverable.membership })
    }

    /// A socket is admitted between two events: `enter` gets its private id and what it missed,
    /// of at most `bytes_max`. It has no private id where nobody knows yet where the cluster's log
    /// stands. Returns false where it cannot be recovered after all.
    pub(crate) fn admit<'r>(
        &self,
        recoverable: &mut Option<Box<Recoverable>>,
        socket: SocketId,
        rooms: impl Iterator<Item = &'r RoomName>,
        bytes_max: usize,
        enter: impl FnOnce(Option<RecoveryId>, &[EncodedPacket]),
    ) -> bool {
        // Read first: what it does not know of is in the log here.
        let read_to = self.shared.as_ref().map(Shared::position);
        let log = self.log.lock();
        let head = match read_to {
            None => log.head(),
            Some(Some(read_to)) => log.head().max(read_to),
            Some(None) if recoverable.is_some() => return false,
            Some(None) => {
                enter(None, &[]);
                return true;
            }
        };
        let (mut missed, mut bytes) = (Vec::new(), 0);
        if let Some(Recoverable { membership, origin, .. }) = recoverable.as_deref_mut() {
            let Some(origin) = origin.take() else { return false };
            let absence = origin.absence;
            if !log.is_complete(membership, &absence) || !self.is_certain(&log) {
                return false;
            }
            let here = log.missed(membership, absence.known);
            for packet in origin.read.iter().chain(here) {
                bytes += outbox::cost(packet);
                if bytes > bytes_max {
                    return false;
                }
                missed.push(packet.clone());
            }
            membership.admitted_at = Instant::now();
            if missed.is_empty() {
                // It has all that was for it, however soon it is lost again.
                membership.start = head;
            }
        }
        let recoverable = recoverable.get_or_insert_with(|| {
            Box::new(Recoverable {
                id: RecoveryId::from_entropy(entropy()),
                membership: Membership::new(socket, head),
                origin: None,
                is_recovered: false,
                ending: None,
            })
        });
        rooms.for_each(|room| recoverable.membership.join(room, head));
        enter(Some(recoverable.id), &missed);
        true
    }

    /// A socket begins to end, so that it may be taken up again.
    /// What was sent before `received_until` has been received.
    pub(crate) fn begin_session(
        &self,
        recoverable: &mut Recoverable,
        received_until: Option<Instant>,
    ) {
        let membership = &mut recoverable.membership;
        // Without pings nothing is known beyond what the client had missed before.
        let received_until = received_until.unwrap_or(membership.admitted_at);
        let mut ending =
            Ending { at: Instant::now(), received_until: None, rooms: IndexSet::new() };
        if let Some(shared) = &self.shared {
            let read_to = shared.position().unwrap_or_default();
            let log = self.log.lock();
            if log.unlogged_at().is_some_and(|at| at >= received_until) {
                // It may have been lost on its way, and nobody can say so later.
                return;
            }
            if received_until > membership.admitted_at {
                let received = log.received(received_until, read_to);
                membership.start = membership.start.max(received.unwrap_or_default());
            }
        } else {
            ending.received_until = Some(received_until);
        }
        recoverable.ending = Some(Box::new(ending));
        self.sessions.expect(recoverable.id);
    }

    /// The socket has ended, and its handlers are done with its data.
    pub(crate) fn keep_session(&self, recoverable: Recoverable, data: Extensions) {
        let Recoverable { id, membership, ending, .. } = recoverable;
        if let Some(ending) = ending {
            let Ending { at: ended_at, received_until, rooms } = *ending;
            self.sessions.keep(Session {
                id,
                membership,
                rooms,
                data,
                ended_at,
                received_until,
                stamp: None,
                needs_offset: false,
            });
        }
    }

    /// A socket that was to be recovered has not been admitted: its client may come again.
    pub(crate) fn put_back(&self, recoverable: Recoverable, data: impl FnOnce() -> Extensions) {
        let Some(origin) = recoverable.origin else { return };
        let Origin { membership, rooms, absence, .. } = *origin;
        let id = recoverable.id;
        let Absence { ended_at, received_until, .. } = absence;
        self.sessions.keep(Session {
            id,
            membership,
            rooms,
            data: data(),
            ended_at,
            received_until,
            stamp: None,
            needs_offset: false,
        });
    }

    /// Whether any socket may be taken up again.
    pub(crate) fn has_sessions(&self) -> bool {
        self.sessions.len() > 0
    }

    /// How many sockets may be taken up again, and the bytes of the events that are kept.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.sessions.len(), self.log.lock().bytes())
    }

    /// Whether the caller is to call [`sweep`](Self::sweep) from now on.
    pub(crate) fn begin_sweeping(&self) -> bool {
        !self.is_sweeping.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn end_sweeping(&self) {
        self.is_sweeping.store(false, Ordering::Release);
    }

    pub(crate) fn sweep_interval(&self) -> Duration {
        SWEEP_INTERVAL_MAX.min(self.options.max_disconnection_duration).max(Duration::from_secs(1))
    }

    /// Lets go of what is too old. Returns whether anything is left.
    pub(crate) fn sweep(&self) -> bool {
        let now = Instant::now();
        let has_events = {
            let mut log = self.log.lock();
            log.trim(now);
            !log.is_empty()
        };
        self.sessions.sweep(now);
        has_events || self.has_sessions()
    }
}

impl Recoverable {
    /// It goes on with a socket that the client had before.
    pub(crate) fn is_recovered(&self) -> bool {
        self.is_recovered
    }

    pub(crate) fn membership(&mut self) -> &mut Membership {
        &mut self.membership
    }

    /// It is to go on with an earlier one, and has not been admitted yet.
    pub(crate) fn is_restored(&self) -> bool {
        self.origin.is_some()
    }

    /// It ended so that it may be taken up again.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// The socket leaves these rooms; it has them again if it is taken up.
    pub(crate) fn leave(&mut self, rooms: &IndexSet<RoomName>) {
        if let Some(ending) = &mut self.ending {
            ending.rooms.clone_from(rooms);
        }
    }
}

/// What is done to a socket's rooms between two events.
pub(crate) struct RoomChange<'a> {
    log: &'a Log,
    membership: &'a mut Membership,
}

impl RoomChange<'_> {
    pub(crate) fn join(&mut self, room: &RoomName) {
        self.membership.join(room, self.log.head());
    }

    pub(crate) fn leave(&mut self, room: &RoomName) {
        let until = Gap { seq: self.log.head(), at: Instant::now() };
        self.membership.leave(room, until, self.log.first());
    }
}

fn entropy() -> [u8; 15] {
    let mut entropy = [0; 15];
    getrandom::fill(&mut entropy).expect("the system has randomness to give");
    entropy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_socket_needs_for_it_is_small() {
        assert!(size_of::<Recoverable>() <= 232, "{} bytes", size_of::<Recoverable>());
    }
}
