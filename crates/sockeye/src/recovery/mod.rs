//! Connection state recovery of one namespace: what its clients may have missed, and the sockets
//! that they can take up again. Does not know connections.
//!
//! * The [`Log`] holds the events that a client may have missed. An offset, the same for all who
//!   get the event, is its last argument; the client says the last one that it has.
//! * A [`Membership`] says which of them were for a socket.
//! * A [`Session`] is what is left of a socket that ended. It is kept by a [`SessionStore`].
//!
//! Of events that are not recorded (volatile ones, those with an acknowledgement, those that a
//! newer one may replace) a client takes no offset: they are made so that it cannot.

mod log;
mod membership;
mod offset;
mod options;
mod sessions;

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
use crate::config::Config;
use crate::extensions::Extensions;
use crate::handler::BoxFuture;
use crate::metrics::{self, Recovery as Outcome};
use crate::outbox;
use crate::panics;
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
    received_until: Instant,
    /// The rooms that it was in when it left.
    rooms: IndexSet<RoomName>,
}

struct Origin {
    membership: Membership,
    rooms: IndexSet<RoomName>,
    absence: Absence,
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
    pub(crate) fn new(config: &Config) -> Option<Arc<Self>> {
        let options = config.recovery.clone()?;
        let notice = config.ping_interval.saturating_add(config.ping_timeout.saturating_mul(3));
        let limits = LogLimits {
            packets_max: options.packets_max,
            bytes_max: options.packet_bytes_max,
            age_max: options.max_disconnection_duration.saturating_add(notice),
        };
        let sessions =
            MemorySessions::new(options.max_disconnection_duration, options.sessions_max);
        let epoch = SocketId::from_entropy(entropy());
        Some(Arc::new(Self {
            options,
            log: Mutex::new(Log::new(Epoch::new(epoch.as_str()), limits)),
            sessions: Box::new(sessions),
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

    /// Changes who is in a room, between two events.
    pub(crate) fn change_rooms<R>(
        &self,
        recoverable: &mut Recoverable,
        change: impl FnOnce(&mut RoomChange<'_>) -> R,
    ) -> R {
        let log = self.log.lock();
        change(&mut RoomChange { log: &log, membership: &mut recoverable.membership })
    }

    /// A client wants to go on with the socket that it had. `None`: it cannot.
    pub(crate) fn restore(self: &Arc<Self>, claim: Claim) -> BoxFuture<Option<Restored>> {
        let recovery = self.clone();
        Box::pin(async move {
            let Some(session) = recovery.sessions.take(claim.id).await else {
                metrics::recovery(Outcome::Unknown);
                return None;
            };
            let Some(absence) = recovery.absence(&claim, &session) else {
                tracing::debug!(id = ?claim.id, "not recovered: what was missed is not known");
                metrics::recovery(Outcome::Lost);
                panics::discard(session);
                return None;
            };
            let Session { id, mut membership, rooms, data, .. } = session;
            let origin = membership.clone();
            membership.start = absence.known;
            let (socket, left_own) = (membership.socket(), !membership.is_in_own());
            let recoverable = Box::new(Recoverable {
                id,
                membership,
                origin: Some(Box::new(Origin {
                    membership: origin,
                    rooms: rooms.clone(),
                    absence,
                })),
                is_recovered: true,
                ending: None,
            });
            Some(Restored { id: socket, left_own, recoverable, rooms, data })
        })
    }

    /// What the client must be told, if that is all here.
    fn absence(&self, claim: &Claim, session: &Session) -> Option<Absence> {
        let log = self.log.lock();
        let known = log.known(claim.offset.as_deref(), session.membership.start)?;
        let Session { ended_at, received_until, .. } = *session;
        let absence = Absence { known, ended_at, received_until };
        log.is_complete(&session.membership, &absence).then_some(absence)
    }

    /// A socket is admitted between two events: `enter` gets its private id and what it missed,
    /// of at most `bytes_max`. Returns false where it cannot be recovered after all.
    pub(crate) fn admit<'r>(
        &self,
        recoverable: &mut Option<Box<Recoverable>>,
        socket: SocketId,
        rooms: impl Iterator<Item = &'r RoomName>,
        bytes_max: usize,
        enter: impl FnOnce(RecoveryId, &[EncodedPacket]),
    ) -> bool {
        let log = self.log.lock();
        let head = log.head();
        let (mut missed, mut bytes) = (Vec::new(), 0);
        if let Some(Recoverable { membership, origin, .. }) = recoverable.as_deref_mut() {
            let Some(origin) = origin.take() else { return false };
            let absence = origin.absence;
            if !log.is_complete(membership, &absence) {
                return false;
            }
            for packet in log.missed(membership, absence.known) {
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
        enter(recoverable.id, &missed);
        true
    }

    /// A socket begins to end, so that it may be taken up again.
    /// What was sent before `received_until` has been received.
    pub(crate) fn begin_session(
        &self,
        recoverable: &mut Recoverable,
        received_until: Option<Instant>,
    ) {
        // Without pings nothing is known beyond what the client had missed before.
        let received_until = received_until.unwrap_or(recoverable.membership.admitted_at);
        let ending = Ending { at: Instant::now(), received_until, rooms: IndexSet::new() };
        recoverable.ending = Some(Box::new(ending));
        self.sessions.expect(recoverable.id);
    }

    /// The socket has ended, and its handlers are done with its data.
    pub(crate) fn keep_session(&self, recoverable: Recoverable, data: Extensions) {
        let Recoverable { id, membership, ending, .. } = recoverable;
        if let Some(ending) = ending {
            let Ending { at: ended_at, received_until, rooms } = *ending;
            let session = Session { id, membership, rooms, data, ended_at, received_until };
            self.sessions.keep(session);
        }
    }

    /// A socket that was to be recovered has not been admitted: its client may come again.
    pub(crate) fn put_back(&self, recoverable: Recoverable, data: impl FnOnce() -> Extensions) {
        let Some(origin) = recoverable.origin else { return };
        let Origin { membership, rooms, absence } = *origin;
        let id = recoverable.id;
        let Absence { ended_at, received_until, .. } = absence;
        let session = Session { id, membership, rooms, data: data(), ended_at, received_until };
        self.sessions.keep(session);
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
        assert!(size_of::<Recoverable>() <= 208, "{} bytes", size_of::<Recoverable>());
    }
}
