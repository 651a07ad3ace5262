//! Keeps subscriptions: what is wanted is subscribed to on each connection anew, and a message to
//! itself, which must come back through Redis, proves that it hears. Does not know what comes.
//!
//! ```text
//!                 connected                  the probe came back
//!  Connecting ────────────────► Subscribing ──────────────────────► Hearing ──┐ something else
//!      ▲                            │                                 │   ▲───┘ is wanted
//!      └────────────────────────────┴─────────────────────────────────┘
//!        the connection is lost, or a probe does not come back in time
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::redis::{Commands, Redis};

/// How often it is proven that messages come.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a probe, and the answer to subscriptions, may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time between attempts to connect: it doubles from the first to the last, and a random part
/// of it is waited, so that many nodes do not come back at once.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// How many are subscribed to in one round trip.
const BATCH: usize = 500;

/// Something to hear.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subscription {
    Channel(String),
    Pattern(String),
    /// A channel of sharded pub/sub.
    Shard(String),
}

/// What came: by which subscription, on which channel.
pub(crate) struct Incoming<'a> {
    pub(crate) subscription: &'a Subscription,
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

pub(crate) struct Subscriber(Arc<Inner>);

struct Inner {
    redis: Redis,
    wanted: Mutex<Wanted>,
    /// Something has changed: what is wanted, the connection, or the last probe that came back.
    changed: Notify,
    state: Mutex<State>,
    /// The version of what is wanted that is heard; it stays when nothing is heard any more.
    heard: watch::Sender<u64>,
}

#[derive(Default)]
struct Wanted {
    /// By how many.
    subscriptions: BTreeMap<Subscription, usize>,
    /// How often it has changed.
    version: u64,
}

#[derive(Default)]
struct State {
    /// Which connection it is: a last word of an earlier one counts no more.
    connection: u64,
    is_lost: bool,
    proven: u64,
    is_closed: bool,
}

impl Subscriber {
    /// Begins to connect. `name` makes the probe's channel one's own, `commands` publishes to it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn start(
        redis: Redis,
        commands: Arc<Commands>,
        name: &str,
        listener: Arc<dyn Listener>,
    ) -> Self {
        let inner = Arc::new(Inner {
            redis,
            wanted: Mutex::default(),
            changed: Notify::new(),
            state: Mutex::default(),
            heard: watch::channel(0).0,
        });
        let probe = format!("sockeye-probe#{name}");
        listener.set_hearing(false);
        tokio::spawn(run(Arc::downgrade(&inner), commands, probe, listener));
        Self(inner)
    }

    /// It is heard from now on, as soon as that can be.
    pub(crate) fn want(&self, subscription: Subscription) {
        let mut wanted = self.0.wanted.lock();
        let count = wanted.subscriptions.entry(subscription).or_default();
        *count += 1;
        if *count == 1 {
            wanted.version += 1;
            self.0.changed.notify_one();
        }
    }

    /// It need not be heard any more, unless others want it.
    pub(crate) fn unwant(&self, subscription: &Subscription) {
        let mut wanted = self.0.wanted.lock();
        let Some(count) = wanted.subscriptions.get_mut(subscription) else { return };
        *count -= 1;
        if *count == 0 {
            wanted.subscriptions.remove(subscription);
            wanted.version += 1;
            self.0.changed.notify_one();
        }
    }

    /// Waits until all that is wanted now is subscribed to.
    pub(crate) async fn settled(&self) {
        let version = self.0.wanted.lock().version;
        let mut heard = self.0.heard.subscribe();
        // The sender lives as long as this.
        let _ = heard.wait_for(|heard| *heard >= version).await;
    }

    /// Nothing is heard any more.
    pub(crate) fn close(&self) {
        self.0.state.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.close();
    }
}

async fn run(
    inner: Weak<Inner>,
    commands: Arc<Commands>,
    probe: String,
    listener: Arc<dyn Listener>,
) {
    let mut retry = RETRY_FIRST;
    while let Some(inner) = inner.upgrade().filter(|inner| !inner.state.lock().is_closed) {
        let session = Session { inner: &inner, commands: &commands, probe: &probe, probes: 0 };
        let was_hearing = session.hear(&listener).await;
        listener.set_hearing(false);
        if inner.state.lock().is_closed {
            break;
        }
        retry = if was_hearing { RETRY_FIRST } else { (retry * 2).min(RETRY_LAST) };
        tokio::time::sleep(jittered(retry)).await;
    }
    listener.set_hearing(false);
}

/// One connection's life.
struct Session<'a> {
    inner: &'a Arc<Inner>,
    commands: &'a Commands,
    probe: &'a str,
    probes: u64,
}

impl Session<'_> {
    /// Returns when nothing is heard any more; whether anything was.
    async fn hear(mut self, listener: &Arc<dyn Listener>) -> bool {
        let mut was_hearing = false;
        if let Err(why) = self.keep_hearing(listener, &mut was_hearing).await {
            tracing::debug!(why, "the subscriptions are lost");
        }
        was_hearing
    }

    async fn keep_hearing(
        &mut self,
        listener: &Arc<dyn Listener>,
        was_hearing: &mut bool,
    ) -> Result<(), String> {
        let connection = {
            let mut state = self.inner.state.lock();
            let connection = state.connection + 1;
            *state = State { connection, is_closed: state.is_closed, ..State::default() };
            connection
        };
        let weak = Arc::downgrade(self.inner);
        let pushed = receiver(weak, connection, self.probe, listener.clone());
        let connecting = self.inner.redis.connect(pushed, Some(PROBE_TIMEOUT));
        let mut connection = connecting.await.map_err(|error| error.to_string())?;
        let own = Subscription::Channel(self.probe.to_owned());
        let mut active = BTreeSet::new();
        loop {
            let (mut wanted, version) = {
                let wanted = self.inner.wanted.lock();
                (wanted.subscriptions.keys().cloned().collect::<BTreeSet<_>>(), wanted.version)
            };
            wanted.insert(own.clone());
            let reconciled = reconcile(&mut connection, &mut active, wanted).await;
            reconciled.map_err(|error| error.to_string())?;
            if !*was_hearing {
                self.prove().await?;
                *was_hearing = true;
                listener.set_hearing(true);
            }
            self.inner.heard.send_replace(version);
            // What changes during this is seen at once: it leaves a permit.
            let is_idle = timeout(PROBE_INTERVAL, self.inner.changed.notified()).await.is_err();
            if self.is_closed() {
                return Ok(());
            }
            if self.inner.state.lock().is_lost {
                return Err("the connection was lost".into());
            }
            if is_idle {
                self.prove().await?;
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.inner.state.lock().is_closed
    }

    /// Publishes something to itself, by the way of all that is published, and waits for it.
    async fn prove(&mut self) -> Result<(), String> {
        self.probes += 1;
        let number = self.probes;
        let mut publish = Pipeline::new();
        publish.cmd("PUBLISH").arg(self.probe).arg(number);
        let coming = async {
            self.commands.run(&publish).await.map_err(|error| error.to_string())?;
            loop {
                let changed = self.inner.changed.notified();
                {
                    let state = self.inner.state.lock();
                    if state.is_lost || state.is_closed {
                        return Err("the connection was lost".to_owned());
                    }
                    if state.proven >= number {
                        // What else has changed meanwhile is looked at next.
                        self.inner.changed.notify_one();
                        return Ok(());
                    }
                }
                changed.await;
            }
        };
        timeout(PROBE_TIMEOUT, coming).await.map_err(|_| "a probe did not come back")?
    }
}

/// What a connection calls with all that comes.
fn receiver(
    inner: Weak<Inner>,
    connection: u64,
    probe: &str,
    listener: Arc<dyn Listener>,
) -> impl Fn(PushInfo) + Send + Sync + use<> {
    let probe = probe.to_owned();
    move |info| {
        let Some(inner) = inner.upgrade() else { return };
        let text = |value: &Value| match value {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
            Value::SimpleString(text) => Some(text.clone()),
            _ => None,
        };
        let (subscription, channel, payload) = match (&info.kind, &info.data[..]) {
            (PushKind::Disconnection, _) => {
                let mut state = inner.state.lock();
                state.is_lost |= state.connection == connection;
                drop(state);
                return inner.changed.notify_one();
            }
            (PushKind::Message, [channel, payload]) => {
                let Some(channel) = text(channel) else { return };
                (Subscription::Channel(channel.clone()), channel, payload)
            }
            (PushKind::SMessage, [channel, payload]) => {
                let Some(channel) = text(channel) else { return };
                (Subscription::Shard(channel.clone()), channel, payload)
            }
            (PushKind::PMessage, [pattern, channel, payload]) => {
                let (Some(pattern), Some(channel)) = (text(pattern), text(channel)) else { return };
                (Subscription::Pattern(pattern), channel, payload)
            }
            _ => return,
        };
        let Value::BulkString(payload) = payload else { return };
        if channel == probe {
            let number = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
            let mut state = inner.state.lock();
            if state.connection == connection {
                state.proven = state.proven.max(number.unwrap_or(0));
            }
            drop(state);
            return inner.changed.notify_one();
        }
        let incoming = Incoming { subscription: &subscription, channel: &channel, payload };
        listener.handle(incoming);
    }
}

/// Subscribes to what is wanted and gives up the rest.
async fn reconcile(
    connection: &mut MultiplexedConnection,
    active: &mut BTreeSet<Subscription>,
    wanted: BTreeSet<Subscription>,
) -> RedisResult<()> {
    let gone = active.difference(&wanted).map(|gone| (gone.unsubscribe(), gone.name()));
    let new = wanted.difference(active).map(|new| (new.subscribe(), new.name()));
    let commands: Vec<_> = gone.chain(new).collect();
    for batch in commands.chunks(BATCH) {
        let mut pipeline = Pipeline::new();
        for (command, name) in batch {
            // One channel each: in a cluster each may have another slot.
            pipeline.cmd(command).arg(name);
        }
        connection.req_packed_commands(&pipeline, 0, batch.len()).await?;
    }
    *active = wanted;
    Ok(())
}

impl Subscription {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Channel(name) | Self::Pattern(name) | Self::Shard(name) => name,
        }
    }

    fn subscribe(&self) -> &'static str {
        match self {
            Self::Channel(_) => "SUBSCRIBE",
            Self::Pattern(_) => "PSUBSCRIBE",
            Self::Shard(_) => "SSUBSCRIBE",
        }
    }

    fn unsubscribe(&self) -> &'static str {
        match self {
            Self::Channel(_) => "UNSUBSCRIBE",
            Self::Pattern(_) => "PUNSUBSCRIBE",
            Self::Shard(_) => "SUNSUBSCRIBE",
        }
    }
}

/// Between half of it and all of it.
pub(crate) fn jittered(time: Duration) -> Duration {
    let mut entropy = [0];
    getrandom::fill(&mut entropy).expect("the system has randomness to give");
    time / 2 + time / 2 * u32::from(entropy[0]) / 255
}
