//! Sockets that ended and may be taken up again: each once, and for a time.
//! Does not know what they missed meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexSet;
use parking_lot::Mutex;
use sockeye_proto::{RecoveryId, SocketId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::membership::Membership;
use crate::extensions::Extensions;
use crate::handler::BoxFuture;
use crate::panics;
use crate::rooms::RoomName;

/// What is left of a socket that ended.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) id: RecoveryId,
    pub(super) membership: Membership,
    pub(super) rooms: IndexSet<RoomName>,
    pub(super) data: Extensions,
    pub(super) ended_at: Instant,
    pub(super) received_until: Option<Instant>,
    /// Tells this state of the socket from earlier and later ones, where others see it.
    pub(super) stamp: Option<SocketId>,
    /// Only the client knows what it has: its server has not said.
    pub(super) needs_offset: bool,
}

/// Where sessions are kept. One that other nodes see, too, is asked over the network.
pub(super) trait SessionStore: Send + Sync {
    /// A socket begins to end: whoever asks for its session waits until it has been kept.
    fn expect(&self, id: RecoveryId);

    /// The socket has ended.
    fn keep(&self, session: Session);

    /// Takes a session away: one who asks gets it, in whatever order they ask. `None` if there is
    /// none, its time is over, or its socket has not ended.
    fn take(&self, id: RecoveryId) -> BoxFuture<Option<Session>>;

    /// Lets go of those whose time is over.
    fn sweep(&self, now: Instant);

    /// How many this process keeps, those of sockets that still end among them.
    fn len(&self) -> usize;
}

/// The sessions of one namespace, in memory.
pub(super) struct MemorySessions(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    age_max: Duration,
    sessions_max: usize,
    /// A socket has ended.
    kept: Notify,
}

#[derive(Default)]
struct State {
    /// `None` while the socket ends.
    sessions: HashMap<RecoveryId, Option<Box<Session>>>,
    by_end: BTreeSet<(Instant, RecoveryId)>,
}

impl MemorySessions {
    pub(super) fn new(age_max: Duration, sessions_max: usize) -> Self {
        let (state, kept) = (Mutex::default(), Notify::new());
        Self(Arc::new(Inner { state, age_max, sessions_max, kept }))
    }
}

impl SessionStore for MemorySessions {
    fn expect(&self, id: RecoveryId) {
        self.0.state.lock().sessions.insert(id, None);
    }

    fn keep(&self, session: Session) {
        let dropped = {
            let mut state = self.0.state.lock();
            state.by_end.insert((session.ended_at, session.id));
            state.sessions.insert(session.id, Some(Box::new(session)));
            let mut dropped = state.let_go(Instant::now(), self.0.age_max);
            while state.by_end.len() > self.0.sessions_max {
                dropped.extend(state.pop_first());
            }
            dropped
        };
        self.0.kept.notify_waiters();
        // What an application put into them may use the server as it is dropped, and panic.
        panics::discard(dropped);
    }

    fn take(&self, id: RecoveryId) -> BoxFuture<Option<Session>> {
        let inner = self.0.clone();
        Box::pin(async move {
            loop {
                let kept = inner.kept.notified();
                if let Some(session) = inner.try_take(id)? {
                    let age = Instant::now().saturating_duration_since(session.ended_at);
                    if age < inner.age_max {
                        return Some(*session);
                    }
                    panics::discard(session);
                    return None;
                }
                kept.await;
            }
        })
    }

    fn sweep(&self, now: Instant) {
        let dropped = self.0.state.lock().let_go(now, self.0.age_max);
        panics::discard(dropped);
    }

    fn len(&self) -> usize {
        self.0.state.lock().sessions.len()
    }
}

impl Inner {
    /// `None`: there is none; a `None` within: its socket still ends.
    fn try_take(&self, id: RecoveryId) -> Option<Option<Box<Session>>> {
        let mut state = self.state.lock();
        state.sessions.get(&id)?;
        Some(state.remove(&id))
    }
}

impl State {
    fn let_go(&mut self, now: Instant, age_max: Duration) -> Vec<Session> {
        let mut dropped = Vec::new();
        while let Some((ended_at, _)) = self.by_end.first()
            && now.saturating_duration_since(*ended_at) >= age_max
        {
            dropped.extend(self.pop_first());
        }
        dropped
    }

    fn pop_first(&mut self) -> Option<Session> {
        let (_, id) = self.by_end.pop_first()?;
        self.sessions.remove(&id).flatten().map(|session| *session)
    }

    /// Takes one out, unless its socket still ends.
    fn remove(&mut self, id: &RecoveryId) -> Option<Box<Session>> {
        let session = self.sessions.get_mut(id)?.take()?;
        self.sessions.remove(id);
        self.by_end.remove(&(session.ended_at, *id));
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(number: u8) -> RecoveryId {
        RecoveryId::from_entropy([number; 15])
    }

    fn session(number: u8) -> Session {
        Session {
            id: id(number),
            membership: Membership::new(SocketId::from_entropy([number; 15]), Default::default()),
            rooms: IndexSet::new(),
            data: Extensions::default(),
            ended_at: Instant::now(),
            received_until: Some(Instant::now()),
            stamp: None,
            needs_offset: false,
        }
    }

    fn is_empty(sessions: &MemorySessions) -> bool {
        let state = sessions.0.state.lock();
        assert_eq!(state.by_end.len(), state.sessions.values().flatten().count());
        drop(state);
        sessions.len() == 0
    }

    #[tokio::test(start_paused = true)]
    async fn h66_a_session_is_taken_once() {
        let sessions = MemorySessions::new(10 * SECOND, 10);
        assert!(sessions.take(id(1)).await.is_none());
        sessions.keep(session(1));
        let (first, second) = (sessions.take(id(1)), sessions.take(id(1)));
        assert!(second.await.is_some_and(|session| session.id == id(1)));
        assert!(first.await.is_none());
        assert!(is_empty(&sessions));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_the_socket_ends_waits_for_it() {
        let sessions = MemorySessions::new(10 * SECOND, 10);
        sessions.expect(id(1));
        let mut taking = pin!(sessions.take(id(1)));
        let is_pending = poll_fn(|cx| Poll::Ready(taking.as_mut().poll(cx).is_pending())).await;
        assert!(is_pending);
        sessions.keep(session(1));
        assert!(taking.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_bounded_by_age_and_number() {
        let sessions = MemorySessions::new(10 * SECOND, 2);
        (1..=3).for_each(|number| sessions.keep(session(number)));
        assert!(sessions.take(id(1)).await.is_none());
        tokio::time::advance(9 * SECOND).await;
        assert!(sessions.take(id(2)).await.is_some());
        sessions.keep(session(4));
        tokio::time::advance(SECOND).await;
        assert!(sessions.take(id(3)).await.is_none());
        sessions.keep(session(5));
        sessions.sweep(Instant::now());
        assert!(!is_empty(&sessions));
        sessions.sweep(Instant::now() + 10 * SECOND);
        assert!(is_empty(&sessions));
    }
}
