//! Which sessions this node has entered, and what became of that. Does not know Redis.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sockeye::SocketId;
use sockeye::cluster::RecoveryId;
use tokio::time::Instant;

/// How many more sessions may be ordered than twice those that there are.
const SLACK: usize = 1024;
/// How many may be lost beyond those that there are.
const LOST_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct State {
    sessions: HashMap<RecoveryId, Entered>,
    /// Each of them, about in the order in which they were written.
    by_time: VecDeque<(Instant, RecoveryId)>,
    /// What was said of these may not have come to Redis, or is not there any more.
    lost: HashSet<RecoveryId>,
    /// The last that a session was written or claimed with.
    number: u32,
}

struct Entered {
    namespace: Arc<str>,
    socket: SocketId,
    /// Redis has said that it has it.
    is_written: bool,
    written_at: Instant,
    /// When it was added to those that are ordered; what was added earlier counts no more.
    queued_at: Instant,
}

/// What is to be said again.
pub(super) struct Again {
    pub(super) enter: Vec<(Arc<str>, RecoveryId, SocketId)>,
    pub(super) forget: Vec<RecoveryId>,
}

impl State {
    /// It is to be written. Returns how, as the scripts have it.
    pub(super) fn enter(
        &mut self,
        id: RecoveryId,
        namespace: &Arc<str>,
        socket: SocketId,
        is_first: bool,
    ) -> &'static str {
        let written_at = Instant::now();
        let known = self.sessions.get(&id);
        let is_written = known.is_some_and(|known| known.is_written) && !is_first;
        let queued_at = known.map(|known| known.queued_at);
        let queued_at = queued_at.unwrap_or_else(|| {
            self.by_time.push_back((written_at, id));
            written_at
        });
        let namespace = namespace.clone();
        let entered = Entered { namespace, socket, is_written, written_at, queued_at };
        self.sessions.insert(id, entered);
        self.tidy();
        match (is_first, is_written) {
            (true, _) => "first",
            (false, true) => "own",
            (false, false) => "any",
        }
    }

    pub(super) fn note_written(&mut self, id: &RecoveryId) {
        if let Some(entered) = self.sessions.get_mut(id) {
            entered.is_written = true;
        }
    }

    /// It is not kept any more. Returns what must be there, as the scripts have it.
    pub(super) fn remove(&mut self, id: &RecoveryId) -> &'static str {
        let removed = self.sessions.remove(id);
        if removed.is_some_and(|entered| entered.is_written) { "own" } else { "any" }
    }

    /// It is another node's.
    pub(super) fn take(&mut self, id: &RecoveryId) -> Option<(Arc<str>, SocketId)> {
        let Entered { namespace, socket, .. } = self.sessions.remove(id)?;
        Some((namespace, socket))
    }

    pub(super) fn lose(&mut self, ids: impl IntoIterator<Item = RecoveryId>) {
        self.lost.extend(ids);
    }

    /// Redis has lost all.
    pub(super) fn forget_written(&mut self) {
        self.lost.extend(self.sessions.keys());
        self.sessions.values_mut().for_each(|entered| entered.is_written = false);
    }

    /// A number as sessions have it.
    pub(super) fn next_number(&mut self) -> String {
        self.number = self.number.wrapping_add(1);
        format!("{:08x}", self.number)
    }

    /// All that Redis has, to be claimed with this number.
    pub(super) fn written(&mut self) -> (Vec<RecoveryId>, String) {
        let number = self.next_number();
        let written = self.sessions.iter().filter(|(_, entered)| entered.is_written);
        (written.map(|(id, _)| *id).collect(), number)
    }

    /// What was lost, and what was written so long ago. Nobody can have taken them meanwhile.
    pub(super) fn again(&mut self, age: Duration) -> Again {
        let mut again = Again { enter: Vec::new(), forget: Vec::new() };
        for id in std::mem::take(&mut self.lost) {
            match self.sessions.get_mut(&id) {
                Some(entered) => {
                    entered.is_written = false;
                    again.enter.push((entered.namespace.clone(), id, entered.socket));
                }
                None => again.forget.push(id),
            }
        }
        let now = Instant::now();
        while let Some((queued_at, id)) = self.by_time.front().copied()
            && now.saturating_duration_since(queued_at) >= age
        {
            self.by_time.pop_front();
            let Some(entered) = self.sessions.get_mut(&id).filter(|it| it.queued_at == queued_at)
            else {
                continue;
            };
            if now.saturating_duration_since(entered.written_at) >= age {
                entered.written_at = now;
                again.enter.push((entered.namespace.clone(), id, entered.socket));
            }
            entered.queued_at = entered.written_at;
            self.by_time.push_back((entered.written_at, id));
        }
        again
    }

    /// Lets go of what has gone since it was ordered: nobody looks while Redis is away.
    fn tidy(&mut self) {
        let Self { sessions, by_time, lost, .. } = self;
        if by_time.len() > 2 * sessions.len() + SLACK {
            let is_one = |(queued_at, id): &(Instant, RecoveryId)| {
                sessions.get(id).is_some_and(|entered| entered.queued_at == *queued_at)
            };
            by_time.retain(is_one);
        }
        // Those that are to be forgotten go by themselves when their time is over.
        if lost.len() > sessions.len() + LOST_MAX {
            lost.retain(|id| sessions.contains_key(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> RecoveryId {
        let mut entropy = [0; 15];
        entropy[..4].copy_from_slice(&number.to_be_bytes());
        RecoveryId::from_entropy(entropy)
    }

    fn enter(state: &mut State, number: u32) {
        let socket = SocketId::from_entropy([7; 15]);
        state.enter(id(number), &"/".into(), socket, false);
    }

    /// One socket that is recovered again and again, and others that come and go.
    #[tokio::test(start_paused = true)]
    async fn what_has_gone_takes_no_memory() {
        let mut state = State::default();
        for _ in 0..10 * SLACK {
            enter(&mut state, 0);
            state.remove(&id(0));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        enter(&mut state, 0);
        assert!(state.by_time.len() <= 2 * SLACK, "{}", state.by_time.len());
        tokio::time::advance(Duration::from_secs(60)).await;
        let again = state.again(Duration::from_secs(60));
        assert_eq!((again.enter.len(), state.by_time.len()), (1, 1));
        for number in 1..=2 * LOST_MAX as u32 {
            enter(&mut state, number);
            state.remove(&id(number));
            state.lose([id(number)]);
        }
        assert!(state.lost.len() <= LOST_MAX + 1, "{}", state.lost.len());
        assert!(state.by_time.len() <= SLACK + 2, "{}", state.by_time.len());
    }
}
