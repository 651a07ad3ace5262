//! The subscriptions of one place: what is wanted of it, what it has confirmed, whether it hears.
//! Does not know what belongs there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::{Listener, Probe, Subscription, session};
use crate::commands::Commands;
use crate::redis::{Place, Redis};

/// How long a node that has lost a channel to another may take to let go of it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// Wants things of a place. A clone is the same; the first ends it when it is dropped.
pub(super) struct Link {
    shared: Arc<Shared>,
    is_first: bool,
}

pub(super) struct Shared {
    pub(super) redis: Redis,
    pub(super) place: Place,
    pub(super) commands: Arc<Commands>,
    pub(super) probe: Arc<Probe>,
    pub(super) listener: Arc<dyn Listener>,
    owner: Box<dyn Fn(bool) + Send + Sync>,
    pub(super) state: Mutex<State>,
    /// Which connection it is, from 1; of an earlier one nothing counts any more.
    pub(super) connection: AtomicU64,
    /// Something has changed: what is wanted, the connection, or the last probe that came back.
    pub(super) changed: Notify,
    /// Something was confirmed or lost.
    progress: watch::Sender<()>,
}

#[derive(Default)]
pub(super) struct State {
    subscriptions: BTreeMap<Subscription, Status>,
    /// What may differ between what is wanted and what is confirmed.
    changes: BTreeSet<Subscription>,
    /// How often what is wanted has changed, and when it was heard last, by this count.
    version: u64,
    heard: u64,
    /// A probe must come back before it counts as hearing: on this channel's way, if one is named.
    pub(super) must_prove: bool,
    pub(super) proof: Option<Subscription>,
    /// The last probe that came back.
    pub(super) proven: u64,
    pub(super) is_hearing: bool,
    is_failing: bool,
    is_fresh: bool,
    /// The server has given something up by itself.
    is_bereft: bool,
    pub(super) is_lost: bool,
    pub(super) is_closed: bool,
}

#[derive(Default)]
struct Status {
    is_wanted: bool,
    is_confirmed: bool,
    /// The server has been asked to give it up, and has not answered.
    is_leaving: bool,
}

impl Link {
    /// `owner` is called when something has changed, and told whether the connection was lost.
    pub(super) fn start(
        redis: Redis,
        place: Place,
        commands: Arc<Commands>,
        probe: Arc<Probe>,
        listener: Arc<dyn Listener>,
        owner: impl Fn(bool) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            redis,
            place,
            commands,
            probe,
            listener,
            owner: Box::new(owner),
            state: Mutex::new(State { is_fresh: true, ..State::default() }),
            connection: AtomicU64::new(0),
            changed: Notify::new(),
            progress: watch::channel(()).0,
        });
        tokio::spawn(session::run(shared.clone()));
        Self { shared, is_first: true }
    }

    /// They are heard from now on; those that were heard elsewhere before are proven to be.
    pub(super) fn want(
        &self,
        subscriptions: impl IntoIterator<Item = Subscription>,
        is_moved: bool,
    ) {
        let mut state = self.shared.state.lock();
        for subscription in subscriptions {
            if is_moved {
                state.doubt(&subscription);
            }
            state.subscriptions.entry(subscription.clone()).or_default().is_wanted = true;
            state.changes.insert(subscription);
        }
        state.version += 1;
        drop(state);
        self.shared.changed.notify_one();
    }

    pub(super) fn unwant(&self, subscription: &Subscription) {
        let mut state = self.shared.state.lock();
        let Some(status) = state.subscriptions.get_mut(subscription) else { return };
        status.is_wanted = false;
        state.changes.insert(subscription.clone());
        state.version += 1;
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Waits until nothing comes any more that is not wanted. Where the server does not say so in
    /// time the connection is given up.
    pub(super) async fn release(&self) {
        let is_released = |(): &()| {
            self.shared.state.lock().subscriptions.values().all(|status| status.is_wanted)
        };
        let mut progress = self.shared.progress.subscribe();
        if timeout(RELEASE_TIMEOUT, progress.wait_for(is_released)).await.is_err() {
            self.shared.lose();
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.shared.state.lock().version
    }

    /// The version that is heard; it stays when nothing is heard any more.
    pub(super) fn heard(&self) -> u64 {
        self.shared.state.lock().heard
    }

    pub(super) fn is_hearing(&self) -> bool {
        self.shared.state.lock().is_hearing
    }

    /// Whether it has not had the time yet to hear anything for the first time.
    pub(super) fn is_fresh(&self) -> bool {
        self.shared.state.lock().is_fresh
    }

    /// Whether its last connection failed.
    pub(super) fn is_failing(&self) -> bool {
        self.shared.state.lock().is_failing
    }

    /// Whether nothing is wanted of it.
    pub(super) fn is_idle(&self) -> bool {
        self.shared.state.lock().subscriptions.values().all(|status| !status.is_wanted)
    }
}

impl Clone for Link {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), is_first: false }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.is_first {
            self.shared.state.lock().is_closed = true;
            self.shared.lose();
        }
    }
}

impl Shared {
    /// A connection begins, on which nothing is heard yet; its number.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.state.lock();
        state.forget();
        state.is_lost = false;
        state.must_prove = true;
        self.connection.load(Ordering::Acquire)
    }

    /// The connection is given up: whatever comes on it counts no more.
    pub(super) fn lose(&self) {
        let mut state = self.state.lock();
        self.connection.fetch_add(1, Ordering::AcqRel);
        state.is_lost = true;
        state.forget();
        drop(state);
        self.changed.notify_one();
        self.progress.send_replace(());
    }

    /// The connection has failed, or nothing could be connected.
    pub(super) fn fail(&self) {
        self.lose();
        let mut state = self.state.lock();
        state.is_hearing = false;
        state.is_fresh = false;
        state.is_failing = true;
        drop(state);
        (self.owner)(true);
    }

    /// Whether the server has given something up by itself since this was asked last.
    pub(super) fn is_bereft(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_bereft)
    }

    /// Takes what is to be subscribed to and given up, and the version that then is heard.
    pub(super) fn changes(&self) -> (Vec<(Subscription, bool)>, u64) {
        let mut state = self.state.lock();
        let State { subscriptions, changes, version, .. } = &mut *state;
        let differs = |subscription: Subscription| {
            let status = subscriptions.get_mut(&subscription)?;
            match (status.is_wanted, status.is_confirmed) {
                (true, false) => Some((subscription, true)),
                (false, true) => {
                    status.is_leaving = true;
                    Some((subscription, false))
                }
                (true, true) => None,
                // It was not wanted for long enough to be asked for.
                (false, false) => {
                    subscriptions.remove(&subscription);
                    None
                }
            }
        };
        (std::mem::take(changes).into_iter().filter_map(differs).collect(), *version)
    }

    /// These were asked for, and the server has answered. Whether it has left any of it undone,
    /// which is among the changes again; so is what is wanted otherwise since.
    pub(super) fn put_back(&self, changes: Vec<(Subscription, bool)>) -> bool {
        let mut state = self.state.lock();
        let mut is_any = false;
        for (subscription, was_wanted) in changes {
            let Some(status) = state.subscriptions.get_mut(&subscription) else { continue };
            status.is_leaving = false;
            let (is_wanted, is_confirmed) = (status.is_wanted, status.is_confirmed);
            if is_wanted != is_confirmed {
                if is_wanted == was_wanted {
                    is_any = true;
                    state.doubt(&subscription);
                }
                state.changes.insert(subscription);
            }
        }
        is_any
    }

    /// The server says what it sends and what not: because it was asked to, or since a slot has
    /// gone to another node.
    pub(super) fn confirm(&self, subscription: Subscription, is_confirmed: bool) {
        let mut state = self.state.lock();
        if let Some(status) = state.subscriptions.get_mut(&subscription) {
            status.is_confirmed = is_confirmed;
            let was_asked = !is_confirmed && std::mem::take(&mut status.is_leaving);
            if !status.is_wanted && !is_confirmed {
                state.subscriptions.remove(&subscription);
            } else if was_asked {
                // It is wanted again, which is seen to next.
                state.changes.insert(subscription);
            } else if !is_confirmed {
                state.doubt(&subscription);
                (state.is_hearing, state.is_bereft) = (false, true);
                state.changes.insert(subscription);
                drop(state);
                self.changed.notify_one();
                return (self.owner)(false);
            }
        }
        drop(state);
        self.progress.send_replace(());
    }

    /// Whether all is heard and proven, up to a version.
    pub(super) fn set_hearing(&self, is_hearing: bool, version: u64) {
        let mut state = self.state.lock();
        state.is_hearing = is_hearing && !state.must_prove && !state.is_lost;
        if is_hearing {
            state.heard = version;
        }
        if state.is_hearing {
            (state.is_fresh, state.is_failing) = (false, false);
        }
        drop(state);
        (self.owner)(false);
    }
}

impl State {
    /// Nothing is confirmed any more.
    fn forget(&mut self) {
        self.subscriptions.retain(|_, status| status.is_wanted);
        self.subscriptions.values_mut().for_each(|status| {
            (status.is_confirmed, status.is_leaving) = (false, false);
        });
        self.changes = self.subscriptions.keys().cloned().collect();
    }

    /// A subscription was lost, or comes from another place: that it is heard is to be proven.
    fn doubt(&mut self, subscription: &Subscription) {
        self.must_prove = true;
        self.is_fresh = false;
        self.proof = Some(subscription.clone());
    }

    /// Something that is wanted, another one each time.
    pub(super) fn any(&self) -> Option<Subscription> {
        let count = u32::try_from(self.subscriptions.len()).ok().filter(|count| *count > 0)?;
        let entropy = getrandom::u32().expect("the system has randomness to give");
        self.subscriptions.keys().nth((entropy % count) as usize).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscriber::Incoming;

    struct Nobody;

    impl Listener for Nobody {
        fn handle(&self, _: Incoming<'_>) {}
        fn set_hearing(&self, _: bool) {}
    }

    #[tokio::test]
    async fn what_is_wanted_for_a_moment_leaves_nothing() {
        let redis = Redis::open("redis://127.0.0.1:1/").expect("a URL");
        let probe = Arc::new(Probe { name: "probe".into(), is_sharded: true });
        let commands = Arc::new(Commands::new(redis.clone()));
        // Its task does not run before this has ended.
        let link = Link::start(redis, Place::Only, commands, probe, Arc::new(Nobody), |_| {});
        let room = Subscription::shard("room");
        link.want([room.clone()], false);
        link.unwant(&room);
        assert_eq!(link.shared.changes().0, []);
        assert!(link.shared.state.lock().subscriptions.is_empty());
    }
}
