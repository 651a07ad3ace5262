//! Sessions that all nodes of a cluster see, and the cluster's log behind the part of it that is
//! here. Does not know how a bus keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use indexmap::IndexSet;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use sockeye_proto::socket::{EncodedPacket, UnfinishedEvent};
use sockeye_proto::{RecoveryId, SocketId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::entropy;
use super::log::Reach;
use super::membership::Membership;
use super::offset::{Offset, Position};
use super::sessions::{MemorySessions, Session, SessionStore};
use crate::cluster::{ClusterBody, ClusterLog, ClusterSession, KeptSession, Link, incoming};
use crate::handler::BoxFuture;
use crate::outbox;
use crate::panics;
use crate::rooms::RoomName;
use crate::socket::SharedData;

/// What of a namespace all nodes share.
#[derive(Clone)]
pub(super) struct Shared {
    namespace: Arc<str>,
    link: Arc<Link>,
    log: Arc<dyn ClusterLog>,
    /// The log has been read further in this namespace.
    moved: Arc<Notify>,
}

/// The shortest time that a session can be kept for.
const TIME_MIN: Duration = Duration::from_millis(1);

/// What bounds what a client gets that must be read.
#[derive(Clone, Copy)]
pub(super) struct ReadLimits {
    /// The entries that are looked at.
    pub(super) entries_max: usize,
    /// What the client gets, as its outbox counts.
    pub(super) bytes_max: usize,
}

impl Shared {
    /// `None` where the cluster has no log, or there is no cluster.
    pub(super) fn of(namespace: &Arc<str>, link: Option<&Arc<Link>>) -> Option<Self> {
        let link = link?.clone();
        let log = link.log()?.clone();
        Some(Self { namespace: namespace.clone(), link, log, moved: Arc::default() })
    }

    pub(super) fn store(&self, age_max: Duration, sessions_max: usize) -> SharedSessions {
        let here = Arc::new(MemorySessions::new(age_max, sessions_max));
        SharedSessions { here, shared: self.clone(), age_max }
    }

    /// Up to where the cluster's log has been read.
    pub(super) fn position(&self) -> Option<Position> {
        self.log.position(&self.namespace)
    }

    /// Whether it is read now.
    pub(super) fn is_reading(&self) -> bool {
        self.link.is_reading_log()
    }

    /// How long a client waits for what must be asked for.
    pub(super) fn wait_max(&self) -> Duration {
        self.link.config().request_timeout
    }

    /// An event of the namespace has been delivered.
    pub(super) fn tell_moved(&self) {
        self.moved.notify_waiters();
    }

    /// Waits until the log has been read up to `known`: a client may come from a node that has read
    /// more of it.
    pub(super) async fn wait_for(&self, known: Position, head: impl Fn() -> Position) {
        loop {
            // Made before the look, so that nothing is missed between the two.
            let moved = self.moved.notified();
            if self.position().is_some_and(|position| position >= known) || head() >= known {
                return;
            }
            moved.await;
        }
    }

    /// Reads what a client has missed behind `after`, up to and with `until`. `None` if that is too
    /// much, or is not all there.
    pub(super) async fn read(
        &self,
        membership: &Membership,
        after: Position,
        until: Position,
        limits: ReadLimits,
    ) -> Option<Vec<EncodedPacket>> {
        let (mut missed, mut bytes, mut entries) = (Vec::new(), 0, 0);
        let mut take = |offset: Position, message: crate::cluster::ClusterMessage| {
            entries += 1;
            if let Some(packet) = missed_by(membership, offset, message.body) {
                bytes += outbox::cost(&packet);
                missed.push(packet);
            }
            entries <= limits.entries_max && bytes <= limits.bytes_max
        };
        let is_whole = self.log.read(&self.namespace, after, until, &mut take).await;
        let is_whole = is_whole.inspect_err(|error| tracing::warn!(%error, "the log is not read"));
        is_whole.unwrap_or(false).then_some(missed)
    }
}

/// An entry of the log as a client gets it that has missed it.
fn missed_by(membership: &Membership, at: Position, body: ClusterBody) -> Option<EncodedPacket> {
    let ClusterBody::Broadcast { event, options, request: None } = body else { return None };
    if options.flags.volatile || options.flags.conflate.is_some() {
        return None;
    }
    let compress = options.flags.compress;
    let reach = match incoming::one_socket(&options) {
        Some(socket) => Reach::Socket(socket),
        None => Reach::Selection(incoming::selection(options)),
    };
    membership.is_reached(&reach, at).then(|| {
        let event = UnfinishedEvent::again(event.packet());
        let event = if compress { event } else { event.without_compression() };
        event.finish_with_offset(Offset::Cluster(at))
    })
}

/// Sessions in the place that the cluster's log has for them. Who takes one away there has it; what
/// this node knows of it beyond that it remembers.
pub(super) struct SharedSessions {
    here: Arc<MemorySessions>,
    shared: Shared,
    age_max: Duration,
}

/// What Sockeye's nodes tell each other of a session beyond what Node's know.
#[derive(Serialize, Deserialize)]
struct More {
    /// Tells this word about a socket from others, said earlier or later.
    stamp: String,
    /// Its namespace.
    nsp: String,
    /// When the socket ended, in milliseconds since 1970.
    ended_ms: u64,
    /// The client has everything up to here.
    from: Position,
    /// Since when it is in rooms, its own among them, that it has joined behind that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    since: BTreeMap<String, Position>,
    /// The rooms that it has left behind that: since when, and until when it was in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<(String, Position, Position)>,
    /// What it was in before that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap: Option<Position>,
}

impl SessionStore for SharedSessions {
    fn expect(&self, id: RecoveryId) {
        self.here.expect(id);
    }

    fn keep(&self, mut session: Session) {
        let stamp = SocketId::from_entropy(entropy());
        session.stamp = Some(stamp);
        let age = Instant::now().saturating_duration_since(session.ended_at);
        let time = self.age_max.saturating_sub(age).max(TIME_MIN);
        let record = record(&session, &self.shared.namespace, stamp);
        let here = self.here.clone();
        // Only then can it be taken away.
        let then = Box::new(move |_| here.keep(session));
        let kept = KeptSession { session: record, time };
        self.shared.link.keep_session(&self.shared.namespace, kept, then);
    }

    fn take(&self, id: RecoveryId) -> BoxFuture<Option<Session>> {
        let (here, shared) = (self.here.take(id), self.shared.clone());
        Box::pin(async move {
            let here = here.await;
            let found = shared.log.take_session(&id).await;
            let found = found.inspect_err(|error| tracing::warn!(%error, "no session is had"));
            let session = found.ok().flatten().and_then(|record| {
                let more =
                    record.more.as_ref().and_then(|more| serde_json::from_str(more.get()).ok());
                let more: Option<More> = more;
                let stamp = more.as_ref().map(|more| more.stamp.as_str());
                match here {
                    // What is known here is more than what all are told.
                    Some(here) if here.stamp.is_some_and(|own| stamp == Some(own.as_str())) => {
                        Some(here)
                    }
                    here => {
                        panics::discard(here);
                        session(record, more, &shared.namespace)
                    }
                }
            });
            session.filter(|session| session.id == id)
        })
    }

    fn sweep(&self, now: Instant) {
        self.here.sweep(now);
    }

    fn len(&self) -> usize {
        self.here.len()
    }
}

/// What all nodes are told.
fn record(session: &Session, namespace: &Arc<str>, stamp: SocketId) -> ClusterSession {
    let Session { id, membership, rooms, data, .. } = session;
    let own = RoomName::from(membership.socket().as_str());
    let own = membership.is_in_own().then_some(&own);
    let from = membership.start;
    let age = Instant::now().saturating_duration_since(session.ended_at);
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let since = own.into_iter().chain(rooms).filter_map(|room| {
        let since = membership.since(room).filter(|since| *since > from)?;
        Some((room.to_string(), since))
    });
    let past = membership.past().filter(|stay| stay.until.seq > from);
    let past = past.map(|stay| (stay.room.to_string(), stay.since, stay.until.seq));
    let more = More {
        stamp: stamp.as_str().to_owned(),
        nsp: namespace.to_string(),
        ended_ms: unix_ms().saturating_sub(age_ms),
        from,
        since: since.collect(),
        past: past.collect(),
        gap: membership.gap.map(|gap| gap.seq).filter(|gap| *gap > from),
    };
    ClusterSession {
        socket: membership.socket(),
        id: *id,
        rooms: own.into_iter().chain(rooms).cloned().collect(),
        data: SharedData::of(data),
        more: Some(to_raw_value(&more).expect("text can be written as JSON")),
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A session of another node. `None` if it is of another namespace.
fn session(record: ClusterSession, more: Option<More>, namespace: &str) -> Option<Session> {
    let ClusterSession { socket, id, rooms, data, .. } = record;
    let now = Instant::now();
    let mut ended_at = now;
    let (membership, shared) = match more {
        Some(more) if more.nsp != namespace => return None,
        Some(More { from, mut since, past, gap, ended_ms, .. }) => {
            let age = Duration::from_millis(unix_ms().saturating_sub(ended_ms));
            ended_at = now.checked_sub(age).unwrap_or(now);
            let joined = rooms.iter().map(|room| {
                // Those that it has been in for longer need no word.
                (room.clone(), since.remove(&**room).unwrap_or_default())
            });
            let past = past.into_iter().map(|(room, since, until)| (room.into(), since, until));
            (Membership::of_parts(socket, from, joined, past, gap), true)
        }
        None => {
            let since = rooms.iter().map(|room| (room.clone(), Position::default()));
            let start = Position::default();
            (Membership::of_parts(socket, start, since, [], None), false)
        }
    };
    let rooms: IndexSet<_> = rooms.into_iter().filter(|room| **room != *socket.as_str()).collect();
    Some(Session {
        id,
        membership,
        rooms,
        data: SharedData::into_extensions(data),
        ended_at,
        received_until: None,
        stamp: None,
        needs_offset: !shared,
    })
}
