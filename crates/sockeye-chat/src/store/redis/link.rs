//! The connections to Redis: made, proven, lost and made again; and the lease of this node.
//! Does not know what is asked.
//!
//! ```text
//!            both connected, the lease runs          the lease runs, who was here
//!  Away ───────────────────────────────► Settling ─────────────────────────────► Hearing
//!   ▲                                       │      is known, all rooms made up for  │
//!   └───────────────────────────────────────┴───────────────────────────────────────┘
//!     a connection is lost, Redis does not answer in time or refuses, or the lease ran out
//! ```
//!
//! While it is away nothing is asked: what needs Redis fails at once.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::{Mutex, RwLock};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Pipeline, PushInfo, PushKind, RedisResult, Script};
use sockeye::Namespace;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::hearing::{Hall, Hearing};
use super::place::Place;
use super::scripts::Scripts;
use crate::config::Config;
use crate::rooms::Rooms;

/// The time between attempts to connect: it doubles from the first to the last, and a random part
/// of it is waited, so that many nodes do not come back at once.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);
/// How often a node looks after itself within a lease. For the others the lease ends one such
/// time before it is over, so that by then they have noticed.
const BEATS: u32 = 5;
/// What is done in one go, so that those who wait share the round trips.
const JOBS_AT_ONCE: usize = 1000;

/// Something about a room, or a user there, to be looked at. What is right is seen then.
pub(super) struct Job {
    pub(super) room: String,
    pub(super) user: Option<String>,
    pub(super) answer: Option<oneshot::Sender<u64>>,
}

impl Job {
    pub(super) fn new(room: &str, user: Option<&str>) -> Self {
        Self { room: room.to_owned(), user: user.map(str::to_owned), answer: None }
    }
}

pub(super) struct Link {
    place: Place,
    node: String,
    prefix: String,
    lease: Duration,
    restore_ms: u64,
    pub(super) scripts: Scripts,
    /// The connection that asks.
    asking: RwLock<Option<MultiplexedConnection>>,
    hearing: watch::Sender<bool>,
    has_departed: AtomicBool,
    jobs: UnboundedSender<Job>,
    /// Something went wrong: it is looked at once whether all is well.
    doubt: Notify,
    /// The sessions of connections that live here.
    pub(super) sessions: Mutex<HashSet<String>>,
}

impl Link {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// It is no address of Redis.
    pub(super) fn new(
        url: &str,
        node: String,
        config: &Config,
    ) -> Result<(Self, UnboundedReceiver<Job>)> {
        let timeout = Duration::from_secs(config.redis_timeout_seconds);
        let (jobs, waiting) = unbounded_channel();
        let link = Self {
            place: Place::new(url, &config.redis_prefix, timeout)?,
            node,
            prefix: config.redis_prefix.clone(),
            lease: Duration::from_secs(config.redis_lease_seconds),
            restore_ms: config.restore_seconds * 1000,
            scripts: Scripts::new(),
            asking: RwLock::new(None),
            hearing: watch::Sender::new(false),
            has_departed: AtomicBool::new(false),
            jobs,
            doubt: Notify::new(),
            sessions: Mutex::default(),
        };
        Ok((link, waiting))
    }

    /// This node among the others.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Where Redis is, without the password.
    pub(super) fn place(&self) -> String {
        self.place.name()
    }

    /// The name of a key.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The name of a room's channel.
    pub(super) fn channel(&self, room: &str) -> String {
        format!("{}room:{room}", self.prefix)
    }

    /// The room of a channel.
    pub(super) fn room<'a>(&self, channel: &'a str) -> Option<&'a str> {
        channel.strip_prefix(&self.prefix)?.strip_prefix("room:")
    }

    pub(super) fn is_hearing(&self) -> bool {
        *self.hearing.borrow()
    }

    /// Returns when rooms are heard.
    pub(super) async fn until_hearing(&self) {
        // It cannot end before: the sender is our own.
        let _ = self.hearing.subscribe().wait_for(|is_hearing| *is_hearing).await;
    }

    /// Connects what asks.
    ///
    /// # Errors
    /// Redis is not there, or does not let us in.
    pub(super) async fn open(&self) -> Result<()> {
        let mut connection = self.connect(|_| {}).await?;
        self.place.check(&mut connection).await?;
        *self.asking.write() = Some(connection);
        Ok(())
    }

    pub(super) async fn connect(
        &self,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection> {
        self.place.connect(pushed).await
    }

    /// Runs commands in one round trip. They are not sent again where that fails: they may have
    /// been run.
    ///
    /// # Errors
    /// Redis is away, or refused.
    pub(super) async fn query<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T> {
        let mut connection = self.connection()?;
        self.noted(commands.query_async(&mut connection).await)
    }

    /// Runs a script, where rooms are heard.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(super) async fn run_script<T: FromRedisValue>(
        &self,
        script: &Script,
        args: &[&str],
    ) -> Result<T> {
        if !self.is_hearing() {
            bail!("Redis is away");
        }
        self.run_first(script, args).await
    }

    /// As [`run_script`](Self::run_script), also before rooms are heard.
    pub(super) async fn run_first<T: FromRedisValue>(
        &self,
        script: &Script,
        args: &[&str],
    ) -> Result<T> {
        let mut connection = self.connection()?;
        let mut invocation = script.prepare_invoke();
        invocation.arg(&self.prefix);
        for arg in args {
            invocation.arg(*arg);
        }
        self.noted(invocation.invoke_async(&mut connection).await)
    }

    fn connection(&self) -> Result<MultiplexedConnection> {
        self.asking.read().clone().context("Redis is away")
    }

    fn noted<T>(&self, answer: RedisResult<T>) -> Result<T> {
        answer.map_err(|error| {
            metrics::counter!("chat_store_failures_total").increment(1);
            self.doubt.notify_one();
            error.into()
        })
    }

    /// Has something looked at, and waits for it.
    ///
    /// # Errors
    /// Redis is away, or goes away meanwhile.
    pub(super) async fn ask(&self, mut job: Job) -> Result<u64> {
        if !self.is_hearing() {
            bail!("Redis is away");
        }
        let (answer, done) = oneshot::channel();
        job.answer = Some(answer);
        self.tell(job);
        done.await.context("Redis went away")
    }

    /// Has something looked at.
    pub(super) fn tell(&self, job: Job) {
        // Where nobody looks any more the process ends.
        let _ = self.jobs.send(job);
    }

    /// What Redis knows of who is in which room here.
    pub(super) async fn entries(&self) -> Result<Vec<String>> {
        let mut commands = Pipeline::new();
        commands.cmd("SMEMBERS").arg(self.name(&format!("node:{}:here", self.node)));
        let (entries,) = self.query(&commands).await?;
        Ok(entries)
    }

    /// Keeps hearing for ever.
    pub(super) async fn run(
        self: Arc<Self>,
        mut jobs: UnboundedReceiver<Job>,
        rooms: Arc<Rooms>,
        namespace: Namespace,
    ) {
        let hall = Hall { rooms, namespace };
        let mut retry = RETRY_FIRST;
        loop {
            let Err(error) = self.hear(&mut jobs, &hall).await;
            if self.has_departed.load(Ordering::Acquire) {
                return;
            }
            if self.hearing.send_replace(false) {
                tracing::error!(error = format!("{error:#}"), "{} is lost", self.place());
                retry = RETRY_FIRST;
            } else {
                tracing::debug!(error = format!("{error:#}"), "{} is away", self.place());
            }
            metrics::gauge!("chat_redis_connected").set(0.0);
            *self.asking.write() = None;
            hall.rooms.visit_all(|_, room| room.lose());
            tokio::time::sleep(jittered(retry)).await;
            retry = (retry * 2).min(RETRY_LAST);
        }
    }

    /// Returns when it cannot be heard any more.
    async fn hear(
        self: &Arc<Self>,
        jobs: &mut UnboundedReceiver<Job>,
        hall: &Hall,
    ) -> Result<Infallible> {
        // Who waits for these is told that Redis is away; the rest is seen below.
        while jobs.try_recv().is_ok() {}
        let lost = Arc::new(Notify::new());
        let asks = lost.clone();
        let asking = self.connect(move |push| {
            if push.kind == PushKind::Disconnection {
                asks.notify_one();
            }
        });
        *self.asking.write() = Some(asking.await?);
        let mut hearing = Hearing::open(self, hall, lost.clone()).await?;
        let (was_known, _) = self.beat().await?;
        if !was_known {
            self.keep_sessions().await?;
        }
        hearing.begin().await?;
        self.hearing.send_replace(true);
        metrics::gauge!("chat_redis_connected").set(1.0);
        tracing::info!(node = self.node, "{} is heard", self.place());
        let mut since = Instant::now();
        let mut beats = tokio::time::interval(self.lease / BEATS);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = lost.notified() => bail!("the connection was lost"),
                _ = jobs.recv_many(&mut batch, JOBS_AT_ONCE) => {
                    hearing.settle(std::mem::take(&mut batch)).await?;
                    continue;
                }
                _ = beats.tick() => {}
                () = self.doubt.notified() => {}
            }
            let asked = Instant::now();
            let (is_known, dead) = self.beat().await?;
            if !is_known {
                bail!("the lease of this node ran out");
            }
            hearing.prove().await?;
            // After a time without Redis all may be late.
            if asked.elapsed() >= self.lease / BEATS {
                since = Instant::now();
            }
            if since.elapsed() >= self.lease {
                for node in dead {
                    self.reap(&node, false).await?;
                    tracing::warn!(node, "a node has died; its users have left");
                }
            }
        }
    }

    /// Renews the lease; whether it ran until now, and whose ran out.
    async fn beat(&self) -> Result<(bool, Vec<String>)> {
        if self.has_departed.load(Ordering::Acquire) {
            bail!("this node ends");
        }
        let lease = (self.lease * (BEATS - 1) / BEATS).as_millis().to_string();
        let mut answer: Vec<String> =
            self.run_first(&self.scripts.beat, &[&self.node, &lease]).await?;
        let dead = answer.split_off(answer.len().min(1));
        Ok((answer.first().is_some_and(|known| known == "1"), dead))
    }

    /// Says again of the sessions here that they live.
    async fn keep_sessions(&self) -> Result<()> {
        let sessions: Vec<String> = self.sessions.lock().iter().cloned().collect();
        for part in sessions.chunks(JOBS_AT_ONCE) {
            let mut args = vec![self.node.as_str()];
            args.extend(part.iter().map(String::as_str));
            self.run_first::<()>(&self.scripts.keep_sessions, &args).await?;
        }
        Ok(())
    }

    /// Takes away what a node had left, if its lease has run out or it is willing.
    async fn reap(&self, node: &str, is_willing: bool) -> Result<()> {
        let (restore, is_willing) =
            (self.restore_ms.to_string(), if is_willing { "1" } else { "0" });
        let args = [node, &restore, is_willing];
        while self.run_first::<u64>(&self.scripts.reap, &args).await? > 0 {}
        Ok(())
    }

    /// The node ends: what it had left goes.
    pub(super) async fn depart(&self) -> Result<()> {
        self.has_departed.store(true, Ordering::Release);
        self.reap(&self.node, true).await
    }
}

/// Between half of it and all of it.
fn jittered(time: Duration) -> Duration {
    let mut entropy = [0];
    // Without randomness all of it is waited.
    let part = getrandom::fill(&mut entropy).map_or(u32::from(u8::MAX), |()| entropy[0].into());
    time / 2 + time / 2 * part / u32::from(u8::MAX)
}
