//! Keeps subscriptions, on the one server or on the nodes of a cluster: each is wanted of the link
//! to where it belongs, and of another when that changes. Does not know what comes.

mod link;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::link::Link;
use crate::commands::{Commands, other_primary};
use crate::redis::{Place, Redis};
use crate::slots::{SlotMap, slot};

/// The time between attempts to connect: it doubles from the first to the last, and a random part
/// of it is waited, so that many nodes do not come back at once.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(50);
pub(crate) const RETRY_LAST: Duration = Duration::from_secs(2);
/// How often the slots of a cluster are looked at when nothing seems to be wrong.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The least time between two looks at where everything belongs, while many slots move.
const PLACE_PAUSE: Duration = Duration::from_millis(50);

/// Something to hear.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subscription {
    pub(crate) kind: Kind,
    pub(crate) name: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    /// A channel of sharded pub/sub.
    Shard,
}

/// What came: by the subscription of this name, on this channel.
pub(crate) struct Incoming<'a> {
    pub(crate) subscription: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) payload: &'a [u8],
}

/// Hears, and is told whether it hears.
pub(crate) trait Listener: Send + Sync + 'static {
    /// Something came. It is called by the task that reads: while it runs nothing more is read.
    fn handle(&self, incoming: Incoming<'_>);

    /// Whether everything that is wanted is heard now.
    fn set_hearing(&self, is_hearing: bool);
}

/// Messages to itself. They go the way of all that is published, sharded or not.
pub(crate) struct Probe {
    /// What the names of its channels begin with.
    pub(crate) name: String,
    pub(crate) is_sharded: bool,
}

pub(crate) struct Subscriber(Arc<Inner>);

struct Inner {
    redis: Redis,
    commands: Arc<Commands>,
    probe: Arc<Probe>,
    listener: Arc<dyn Listener>,
    state: Mutex<State>,
    /// Something is to be placed, or a link has been lost.
    changed: Notify,
    has_failed: AtomicBool,
    /// What the listener was told last, and whether it ever was that it hears.
    told: Mutex<(bool, bool)>,
    /// What may be settled now.
    progress: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<Subscription, Wanted>,
    links: BTreeMap<Place, Link>,
    /// What has no link, since it is new.
    new: BTreeSet<Subscription>,
    /// What has no link any more, since it belongs elsewhere now.
    moving: BTreeSet<Subscription>,
    /// The node for what is not sharded.
    home: Option<Arc<str>>,
    is_closed: bool,
}

struct Wanted {
    /// By how many.
    count: usize,
    place: Option<Place>,
}

impl Subscriber {
    /// Begins to connect. `commands` publishes what is a probe.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn start(
        redis: Redis,
        commands: Arc<Commands>,
        probe: Probe,
        listener: Arc<dyn Listener>,
    ) -> Self {
        listener.set_hearing(false);
        let inner = Arc::new(Inner {
            redis,
            commands,
            probe: Arc::new(probe),
            listener,
            state: Mutex::default(),
            changed: Notify::new(),
            has_failed: AtomicBool::new(false),
            told: Mutex::default(),
            progress: watch::channel(()).0,
        });
        match inner.commands.changes() {
            None => drop(inner.state.lock().link(&inner, Place::Only)),
            Some(changes) => drop(tokio::spawn(run(Arc::downgrade(&inner), changes))),
        }
        Self(inner)
    }

    /// It is heard from now on, as soon as that can be.
    pub(crate) fn want(&self, subscription: Subscription) {
        let mut state = self.0.state.lock();
        if let Some(wanted) = state.wanted.get_mut(&subscription) {
            wanted.count += 1;
            return;
        }
        let place =
            self.0.place(&subscription, &state).filter(|place| state.links.contains_key(place));
        match &place {
            Some(place) => state.links[place].want([subscription.clone()], false),
            None => {
                state.new.insert(subscription.clone());
                self.0.changed.notify_one();
            }
        }
        state.wanted.insert(subscription, Wanted { count: 1, place });
    }

    /// It need not be heard any more, unless others want it.
    pub(crate) fn unwant(&self, subscription: &Subscription) {
        let mut state = self.0.state.lock();
        let Some(wanted) = state.wanted.get_mut(subscription) else { return };
        wanted.count -= 1;
        if wanted.count > 0 {
            return;
        }
        let place = state.wanted.remove(subscription).and_then(|wanted| wanted.place);
        if let Some(link) = place.and_then(|place| state.links.get(&place)) {
            link.unwant(subscription);
        }
        state.new.remove(subscription);
        state.moving.remove(subscription);
    }

    /// Waits until all that is wanted now is subscribed to.
    pub(crate) async fn settled(&self) {
        let goals: BTreeMap<Place, u64> = {
            let state = self.0.state.lock();
            state.links.iter().map(|(place, link)| (place.clone(), link.version())).collect()
        };
        let is_settled = |(): &()| {
            let state = self.0.state.lock();
            let is_heard = |(place, link): (&Place, &Link)| {
                link.heard() >= goals.get(place).copied().unwrap_or_else(|| link.version())
            };
            state.new.is_empty() && state.moving.is_empty() && state.links.iter().all(is_heard)
        };
        // The sender lives as long as this.
        let _ = self.0.progress.subscribe().wait_for(is_settled).await;
    }

    /// Nothing is heard any more.
    pub(crate) fn close(&self) {
        let mut state = self.0.state.lock();
        state.is_closed = true;
        let links = std::mem::take(&mut state.links);
        drop(state);
        drop(links);
        self.0.changed.notify_one();
        self.0.tell();
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.close();
    }
}

/// Keeps everything where it belongs in a cluster.
async fn run(inner: Weak<Inner>, mut changes: watch::Receiver<u64>) {
    let mut retry = RETRY_FIRST;
    let mut is_due = false;
    while let Some(inner) = inner.upgrade().filter(|inner| !inner.state.lock().is_closed) {
        let looked = inner.commands.look(std::mem::take(&mut is_due)).await;
        changes.borrow_and_update();
        inner.place_all().await;
        let placed_at = Instant::now();
        inner.tell();
        if let Err(error) = &looked {
            tracing::debug!(%error, "the slots of the cluster are not known");
        }
        let has_failed = looked.is_err() | inner.has_failed.swap(false, Ordering::AcqRel);
        let pause = if has_failed { retry } else { LOOK_INTERVAL };
        retry = if has_failed { (retry * 2).min(RETRY_LAST) } else { RETRY_FIRST };
        let pausing = tokio::time::sleep(jittered(match looked {
            Ok(true) => pause.min(RETRY_LAST),
            _ => pause,
        }));
        tokio::select! {
            () = inner.changed.notified(), if !has_failed => {}
            // The sender is the commands', which live as long.
            _ = changes.changed() => tokio::time::sleep_until(placed_at + PLACE_PAUSE).await,
            () = pausing => is_due = true,
        }
    }
}

impl Inner {
    /// Where something belongs, as far as is known.
    fn place(&self, subscription: &Subscription, state: &State) -> Option<Place> {
        match self.commands.known() {
            None => Some(Place::Only),
            Some(map) => place(subscription, &map, state.home.as_ref()),
        }
    }

    async fn place_all(self: &Arc<Self>) {
        let Some(map) = self.commands.known() else { return };
        // What moves is given up before it is asked for elsewhere: nothing comes twice.
        let left = self.state.lock().take_back(&map);
        join_all(left.iter().map(Link::release)).await;
        self.state.lock().place_rest(self, &map);
    }

    /// Tells the listener what has changed for it.
    fn tell(&self) {
        let mut told = self.told.lock();
        let is_hearing = self.state.lock().is_hearing(told.1);
        if is_hearing != told.0 {
            *told = (is_hearing, told.1 || is_hearing);
            self.listener.set_hearing(is_hearing);
        }
        drop(told);
        self.progress.send_replace(());
    }
}

impl State {
    fn link(&mut self, inner: &Arc<Inner>, place: Place) -> &Link {
        let new = || {
            let weak = Arc::downgrade(inner);
            let owner = move |is_lost: bool| {
                let Some(inner) = weak.upgrade() else { return };
                if is_lost {
                    inner.has_failed.store(true, Ordering::Release);
                    inner.commands.note_doubt();
                    inner.changed.notify_one();
                }
                inner.tell();
            };
            let Inner { redis, commands, probe, listener, .. } = &**inner;
            let (redis, commands) = (redis.clone(), commands.clone());
            Link::start(redis, place.clone(), commands, probe.clone(), listener.clone(), owner)
        };
        self.links.entry(place.clone()).or_insert_with(new)
    }

    /// Takes what belongs elsewhere now from its links, which are returned.
    fn take_back(&mut self, map: &SlotMap) -> Vec<Link> {
        let home = self.home.as_ref();
        let is_fine = home.is_some_and(|home| {
            let link = self.links.get(&Place::Node(home.clone()));
            map.primaries().any(|known| known == home) && link.is_none_or(|link| !link.is_failing())
        });
        if !is_fine {
            self.home = other_primary(map, home);
        }
        let mut left = BTreeSet::new();
        for (subscription, wanted) in &mut self.wanted {
            let Some(old) = &wanted.place else { continue };
            let new = place(subscription, map, self.home.as_ref());
            // Where nobody serves it for a while, it stays.
            if new.is_none() || new.as_ref() == Some(old) {
                continue;
            }
            self.links[old].unwant(subscription);
            left.insert(old.clone());
            wanted.place = None;
            self.moving.insert(subscription.clone());
        }
        left.iter().map(|place| self.links[place].clone()).collect()
    }

    /// Gives what has no link to one, and ends links with nothing on them.
    fn place_rest(&mut self, inner: &Arc<Inner>, map: &SlotMap) {
        if self.is_closed {
            return;
        }
        for is_moved in [true, false] {
            let waiting = std::mem::take(if is_moved { &mut self.moving } else { &mut self.new });
            let mut by_place: BTreeMap<Place, Vec<Subscription>> = BTreeMap::new();
            for subscription in waiting {
                match place(&subscription, map, self.home.as_ref()) {
                    Some(place) => by_place.entry(place).or_default().push(subscription),
                    None if is_moved => drop(self.moving.insert(subscription)),
                    None => drop(self.new.insert(subscription)),
                }
            }
            for (place, subscriptions) in by_place {
                for subscription in &subscriptions {
                    if let Some(wanted) = self.wanted.get_mut(subscription) {
                        wanted.place = Some(place.clone());
                    }
                }
                self.link(inner, place).want(subscriptions, is_moved);
            }
        }
        self.links.retain(|_, link| !link.is_idle());
    }

    fn is_hearing(&self, was_hearing: bool) -> bool {
        let hears = |link: &Link| link.is_hearing() || (was_hearing && link.is_fresh());
        let is_whole = self.moving.is_empty() && (was_hearing || self.new.is_empty());
        !self.is_closed && !self.links.is_empty() && is_whole && self.links.values().all(hears)
    }
}

fn place(subscription: &Subscription, map: &SlotMap, home: Option<&Arc<str>>) -> Option<Place> {
    let address = match subscription.kind {
        Kind::Shard => map.owner(slot(subscription.name.as_bytes())),
        // Redis brings what is published anywhere to all nodes.
        Kind::Channel | Kind::Pattern => home,
    };
    address.cloned().map(Place::Node)
}

impl Subscription {
    pub(crate) fn channel(name: &str) -> Self {
        Self { kind: Kind::Channel, name: name.into() }
    }

    pub(crate) fn pattern(name: &str) -> Self {
        Self { kind: Kind::Pattern, name: name.into() }
    }

    pub(crate) fn shard(name: &str) -> Self {
        Self { kind: Kind::Shard, name: name.into() }
    }
}

/// Between half of it and all of it.
pub(crate) fn jittered(time: Duration) -> Duration {
    let mut entropy = [0];
    getrandom::fill(&mut entropy).expect("the system has randomness to give");
    time / 2 + time / 2 * u32::from(entropy[0]) / 255
}
