//! The sessions of sockets that live, in keys of their own, and the lease by which others know that
//! this node does. Who owns a session is asked and changed in one step, by scripts: of a node that
//! was stopped for longer than its lease and one that has taken its session up meanwhile, one has
//! it. Does not know what is in a session.

mod scripts;
mod state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Pipeline, RedisError, RedisResult, Value};
use sockeye::cluster::{
    BusError, ClusterBody, ClusterMessage, ClusterNode, ClusterSession, Envelope, KeptSession,
    LiveSession, RecoveryId,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::scripts::{CLAIM, ENTER, FORGET, KEEP, RENEW, TAKE};
use self::state::{Again, State};
use super::log::{key, millis};
use super::{StreamsOptions, text};
use crate::asking::{Answer, Unsent};
use crate::commands::Commands;
use crate::wire::UnwritableError;
use crate::wire::sessions::{decode_session, encode_session};

/// How long a node may not have been heard of before its sessions can be taken away.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// How often it says that it is there.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);
/// How long the word of a lease stays when it has lapsed: so a node that was stopped can tell that
/// from a Redis that has lost all.
const TRAIL: Duration = Duration::from_secs(3600);
/// How often a session is written though nothing has changed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// For how much longer than its time a session is kept, which began when it was written last.
const REFRESH_TIME: Duration = Duration::from_secs(90);
/// How often somebody looks who waits for a lease to lapse.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How many commands go in one round trip.
const CHUNK_LEN: usize = 256;
/// The digits of a node's id, which a session begins with.
const OWNER_LEN: usize = 16;
/// And those of the number behind it, another one each time that the node writes or claims it.
const NUMBER_LEN: usize = 8;

pub(super) struct Live {
    commands: Arc<Commands>,
    prefix: String,
    bytes_max: usize,
    is_wanted: AtomicBool,
    /// Redis does not let this node run scripts: nothing is kept.
    is_refused: AtomicBool,
    /// Whether Redis has answered for the first time.
    has_begun: watch::Sender<bool>,
    node: OnceLock<ClusterNode>,
    state: Mutex<State>,
}

/// Keeps a lease until it ends or is dropped.
pub(super) struct Keeping(AbortHandle);

/// What is said about the session of a socket that lives.
pub(super) enum Said<'a> {
    Enter(&'a LiveSession),
    Forget(&'a RecoveryId),
}

pub(super) fn said(message: &ClusterMessage) -> Option<Said<'_>> {
    match &message.body {
        ClusterBody::EnterSession(live) => Some(Said::Enter(live)),
        ClusterBody::ForgetSession(id) => Some(Said::Forget(id)),
        _ => None,
    }
}

/// Whether it is no message to other nodes.
pub(super) fn is_of_session(body: &ClusterBody) -> bool {
    id_of(body).is_some()
}

fn id_of(body: &ClusterBody) -> Option<&RecoveryId> {
    match body {
        ClusterBody::KeepSession(kept) => Some(&kept.session.id),
        ClusterBody::EnterSession(live) => Some(&live.session.id),
        ClusterBody::ForgetSession(id) => Some(id),
        _ => None,
    }
}

impl Live {
    pub(super) fn new(commands: Arc<Commands>, options: &StreamsOptions) -> Self {
        Self {
            commands,
            prefix: options.session_key_prefix.clone(),
            bytes_max: options.live_session_bytes_max,
            is_wanted: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            has_begun: watch::channel(false).0,
            node: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    /// There will be sessions.
    pub(super) fn want(&self) {
        self.is_wanted.store(true, Ordering::Release);
    }

    /// Has the lease kept, if there will be sessions.
    pub(super) fn start(self: &Arc<Self>, node: ClusterNode) -> Option<Keeping> {
        let is_wanted = self.is_wanted.load(Ordering::Acquire);
        let _ = self.node.set(node.clone());
        is_wanted.then(|| Keeping(tokio::spawn(self.clone().keep(node)).abort_handle()))
    }

    /// Waits until it is known whether Redis takes sessions, if there will be any.
    pub(super) async fn begun(&self) {
        if self.is_wanted.load(Ordering::Acquire) {
            // The sender lives as long as this.
            let _ = self.has_begun.subscribe().wait_for(|has_begun| *has_begun).await;
        }
    }

    /// Whether Redis lets this node run no scripts: then sessions of sockets that live are kept
    /// nowhere, and others as without them.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Acquire)
    }

    fn note_refused(&self, why: Option<&RedisError>) {
        if let (Some(error), false) = (why, self.is_refused.swap(why.is_some(), Ordering::AcqRel)) {
            tracing::warn!(
                %error,
                "Redis refuses scripts: where this node is killed its clients are not recovered"
            );
        }
    }

    fn own(&self) -> &str {
        self.node.get().map_or("", |node| node.id().as_str())
    }

    /// In a cluster it is where the session will be when the socket has ended.
    fn live_key(&self, id: &RecoveryId) -> String {
        let key = key(&self.prefix, id);
        // A name in braces says alone where a key is.
        if self.prefix.contains('{') { format!("{key}:live") } else { format!("{{{key}}}:live") }
    }

    fn lease_key(&self, node: &str) -> String {
        format!("{}node:{node}", self.prefix)
    }

    /// Adds the command for what is said.
    pub(super) fn add(
        &self,
        said: Said<'_>,
        namespace: &Arc<str>,
        commands: &mut Pipeline,
    ) -> Result<(), UnwritableError> {
        let LiveSession { session, is_first, time } = match said {
            Said::Enter(live) => live,
            Said::Forget(id) => {
                self.state.lock().remove(id);
                if !self.is_refused() {
                    self.add_forget(id, commands);
                }
                return Ok(());
            }
        };
        let written = encode_session(session)?;
        if written.len() > self.bytes_max {
            tracing::debug!(id = %session.socket, bytes = written.len(), "too large to be kept");
            self.state.lock().remove(&session.id);
            if !self.is_refused() {
                self.add_forget(&session.id, commands);
            }
            return Ok(());
        }
        let (mode, number) = {
            let mut state = self.state.lock();
            let mode = state.enter(session.id, namespace, session.socket, *is_first);
            (mode, state.next_number())
        };
        if self.is_refused() {
            // It is noted, and entered when it can be.
            return Ok(());
        }
        let value = format!("{}{number}{written}", self.own());
        let command = commands.cmd("EVAL").arg(ENTER).arg(1).arg(self.live_key(&session.id));
        command.arg(self.own()).arg(mode).arg(value);
        command.arg(millis(time.saturating_add(REFRESH_TIME)));
        Ok(())
    }

    /// Adds the command that keeps the session of a socket that has ended, unless another node has
    /// taken it up.
    pub(super) fn add_kept(
        &self,
        kept: &KeptSession,
        commands: &mut Pipeline,
    ) -> Result<(), UnwritableError> {
        let session = encode_session(&kept.session)?;
        let id = &kept.session.id;
        let mode = self.state.lock().remove(id);
        let command = commands.cmd("EVAL").arg(KEEP).arg(2).arg(self.live_key(id));
        command.arg(key(&self.prefix, id)).arg(self.own()).arg(mode);
        command.arg(session).arg(millis(kept.time));
        Ok(())
    }

    fn add_forget(&self, id: &RecoveryId, commands: &mut Pipeline) {
        commands.cmd("EVAL").arg(FORGET).arg(1).arg(self.live_key(id)).arg(self.own());
    }

    /// A batch is going to be published.
    pub(super) fn begin<'a>(&'a self, batch: &'a [Envelope]) -> Writing<'a> {
        Writing { live: self, batch }
    }

    /// Takes a session away: of a socket that has ended, or of a node that has gone. Waits until it
    /// is known whether that has.
    pub(super) async fn take(&self, id: &RecoveryId) -> Result<Option<ClusterSession>, BusError> {
        let live_key = self.live_key(id);
        let mut seen = None;
        while !self.is_refused() {
            let mut commands = Pipeline::new();
            // In this order: handed over between the two, it is found by the second.
            commands.cmd("GET").arg(&live_key);
            commands.cmd("GETDEL").arg(key(&self.prefix, id));
            let answers = self.run(&commands).await?;
            if let Some(session) = text(&answers[1]) {
                return decode_session(session).map(Some).map_err(BusError::new);
            }
            let Some(value) = text(&answers[0]) else { return Ok(None) };
            let (Some(owner), Some(session)) =
                (value.get(..OWNER_LEN), value.get(OWNER_LEN + NUMBER_LEN..))
            else {
                return Ok(None);
            };
            if owner == self.own() {
                return Ok(None);
            }
            let lease_key = self.lease_key(owner);
            let mut commands = Pipeline::new();
            commands.cmd("GET").arg(&lease_key);
            commands.cmd("PTTL").arg(&lease_key);
            let lease = self.run(&commands).await?;
            if number(&lease[1]) < trail_ms() {
                let mut commands = Pipeline::new();
                commands.cmd("EVAL").arg(TAKE).arg(1).arg(&live_key).arg(value);
                if number(&self.run(&commands).await?[0]) == 1 {
                    tracing::info!(%owner, "a session of a node that has gone is taken up");
                    return decode_session(session).map(Some).map_err(BusError::new);
                }
                continue;
            }
            let lease = (owner.to_owned(), text(&lease[0]).map(str::to_owned));
            if seen.get_or_insert_with(|| lease.clone()) != &lease {
                // It has said that it is there since this began.
                return Ok(None);
            }
            sleep(LOOK_INTERVAL).await;
        }
        let mut commands = Pipeline::new();
        commands.cmd("GETDEL").arg(key(&self.prefix, id));
        let answer = &self.run(&commands).await?[0];
        text(answer).map(decode_session).transpose().map_err(BusError::new)
    }

    async fn run(&self, commands: &Pipeline) -> Result<Vec<Value>, BusError> {
        self.commands.run(commands).await.map_err(BusError::new)
    }

    /// Renews the lease again and again, and looks after the sessions.
    async fn keep(self: Arc<Self>, node: ClusterNode) {
        let mut times = interval(RENEWAL_INTERVAL);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whether what Redis said of the lease last has been acted upon.
        let mut is_sure = true;
        for renewal in 1_u64.. {
            times.tick().await;
            let renewed = timeout(LEASE, self.renew(renewal)).await;
            if let Ok(renewed) = &renewed {
                self.note_refused(renewed.as_ref().err().filter(|error| refuses_scripts(error)));
                self.has_begun.send_replace(true);
            }
            let Ok(Ok(left)) = renewed else {
                is_sure = false;
                continue;
            };
            if left < 0 {
                // Redis has nothing of this node: it is new, or Redis is.
                self.state.lock().forget_written();
            } else if left < trail_ms() || !is_sure {
                is_sure = self.claim(&node).await.is_ok();
                if !is_sure {
                    continue;
                }
            }
            is_sure = true;
            if let Err(error) = self.heal(&node).await {
                tracing::debug!(%error, "sessions could not be looked after");
            }
        }
    }

    /// Says that this node is there. Returns what was left of what it had said before, in ms.
    async fn renew(&self, renewal: u64) -> RedisResult<i64> {
        let mut commands = Pipeline::new();
        let command = commands.cmd("EVAL").arg(RENEW).arg(1).arg(self.lease_key(self.own()));
        command.arg(renewal).arg(millis(LEASE + TRAIL));
        Ok(number(&self.commands.run(&commands).await?[0]))
    }

    /// The lease had lapsed, or may have: what others have taken up meanwhile is not this node's
    /// any more, and what they were about to take is.
    async fn claim(&self, node: &ClusterNode) -> RedisResult<()> {
        let (ids, claim) = self.state.lock().written();
        for ids in ids.chunks(CHUNK_LEN) {
            let mut commands = Pipeline::new();
            for id in ids {
                let command = commands.cmd("EVAL").arg(CLAIM).arg(1).arg(self.live_key(id));
                command.arg(self.own()).arg(&claim);
            }
            let answers = self.commands.run(&commands).await?;
            let taken = ids.iter().zip(&answers).filter(|(_, answer)| number(answer) != 1);
            taken.for_each(|(id, _)| self.end_taken(node, id));
        }
        Ok(())
    }

    fn end_taken(&self, node: &ClusterNode, id: &RecoveryId) {
        let taken = self.state.lock().take(id);
        if let Some((namespace, socket)) = taken {
            node.end_taken(&namespace, &socket);
        }
    }

    /// Has written anew what was lost on its way, and what was written long ago.
    async fn heal(&self, node: &ClusterNode) -> RedisResult<()> {
        let Again { enter, forget } = self.state.lock().again(REFRESH_INTERVAL);
        let mut by_namespace: BTreeMap<Arc<str>, Vec<_>> = BTreeMap::new();
        for (namespace, id, socket) in enter {
            by_namespace.entry(namespace).or_default().push((id, socket));
        }
        for (namespace, sockets) in by_namespace {
            node.enter_sessions(&namespace, sockets);
        }
        for ids in forget.chunks(CHUNK_LEN) {
            let mut commands = Pipeline::new();
            ids.iter().for_each(|id| self.add_forget(id, &mut commands));
            if let Err(error) = self.commands.run(&commands).await {
                self.state.lock().lose(forget.iter().copied());
                return Err(error);
            }
        }
        Ok(())
    }
}

/// A batch that is being published: should that fail, what it says of sessions is lost.
pub(super) struct Writing<'a> {
    live: &'a Live,
    batch: &'a [Envelope],
}

impl Writing<'_> {
    /// It has been.
    pub(super) fn end(mut self, batch: &[Envelope], answers: &[Answer]) {
        self.batch = &[];
        for (Envelope { message, .. }, answer) in batch.iter().zip(answers) {
            let (live, body) = (self.live, &message.body);
            let answer = match answer {
                Ok(answer) => answer,
                // It will never be there.
                Err(Unsent::Refused(error)) if refuses_scripts(error) => continue,
                Err(_) => {
                    live.state.lock().lose(id_of(body).copied());
                    continue;
                }
            };
            let ClusterBody::EnterSession(entered) = body else { continue };
            let id = &entered.session.id;
            // What is too large has been forgotten; what is refused has no answer.
            match (answer, live.node.get()) {
                (Value::Int(1), _) => live.state.lock().note_written(id),
                (Value::Int(0), Some(node)) => live.end_taken(node, id),
                (Value::Int(-1), _) => live.state.lock().lose([*id]),
                _ => {}
            }
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let ids = self.batch.iter().filter_map(|envelope| id_of(&envelope.message.body));
        self.live.state.lock().lose(ids.copied());
    }
}

impl Keeping {
    pub(super) fn end(&self) {
        self.0.abort();
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether Redis lets this user run no scripts, or nobody.
fn refuses_scripts(error: &RedisError) -> bool {
    let is_unknown = || error.detail().is_some_and(|detail| detail.starts_with("unknown command"));
    error.code() == Some("NOPERM") || is_unknown()
}

fn trail_ms() -> i64 {
    i64::try_from(TRAIL.as_millis()).unwrap_or(i64::MAX)
}

fn number(value: &Value) -> i64 {
    if let Value::Int(number) = value { *number } else { -1 }
}
