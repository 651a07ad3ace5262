//! A bus within a process that has a log, and can be made to fail. Does not know what it is asked.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use sockeye::cluster::{
    BusError, BusFuture, ClusterBody, ClusterBus, ClusterLog, ClusterMessage, ClusterNode,
    ClusterSession, Envelope, InProcessBus, InProcessCluster, LogOffset, NodeId, Nodes, Offsets,
    RecoveryId, TakeLogged,
};
use sockeye_cluster_kit::{Buses, Claim};
use tokio::sync::Notify;

use crate::buses::Mode;

/// What all nodes share.
#[derive(Clone, Default)]
pub(crate) struct LoggedCluster {
    cluster: InProcessCluster,
    hub: Arc<Hub>,
}

#[derive(Default)]
struct Hub {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    entries: Vec<(LogOffset, ClusterMessage)>,
    last: u64,
    /// The last that has been trimmed away.
    trimmed: LogOffset,
    sessions: HashMap<RecoveryId, ClusterSession>,
    /// Of sockets that live, and their nodes.
    live: HashMap<RecoveryId, (NodeId, ClusterSession)>,
    killed: HashSet<NodeId>,
    is_out: bool,
    /// What is answered late, and how many wait for that.
    held: Option<Held>,
    waiting: usize,
}

/// What is done at once, and answered when it is let go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Sessions that are taken.
    Sessions,
    /// What stands in the log.
    Reads,
}

/// The bus of one node.
#[derive(Clone)]
pub(crate) struct LoggedBus {
    inner: InProcessBus,
    hub: Arc<Hub>,
    own: Arc<Own>,
}

#[derive(Default)]
struct Own {
    node: OnceLock<ClusterNode>,
    state: Mutex<OwnState>,
    changed: Notify,
}

#[derive(Default)]
struct OwnState {
    mode: Mode,
    /// Whether it reads no more for now.
    is_stuck: bool,
    position: Option<LogOffset>,
}

impl LoggedCluster {
    pub(crate) fn bus(&self) -> LoggedBus {
        LoggedBus { inner: self.cluster.bus(), hub: self.hub.clone(), own: Arc::default() }
    }

    /// Lets go of all that stands in the log.
    pub(crate) fn trim(&self) {
        let mut state = self.hub.lock();
        state.entries.clear();
        state.trimmed = LogOffset::new(state.last, 0);
    }

    /// Whether sessions can be had and the log be read.
    pub(crate) fn set_out(&self, is_out: bool) {
        self.hub.lock().is_out = is_out;
    }

    /// Holds answers up; or (`None`) lets them go.
    pub(crate) fn hold(&self, held: Option<Held>) {
        self.hub.lock().held = held;
        self.hub.changed.notify_waiters();
    }

    /// How many entries stand in the log.
    pub(crate) fn entries(&self) -> usize {
        self.hub.lock().entries.len()
    }

    /// How many have waited for answers that were held up.
    pub(crate) fn waiting(&self) -> usize {
        self.hub.lock().waiting
    }

    /// Whether the session of a client's socket is there.
    pub(crate) fn has_session(&self, claim: &Claim) -> bool {
        self.hub.lock().sessions.contains_key(&id(claim))
    }

    /// Whether it is there while the socket lives.
    pub(crate) fn has_live_session(&self, claim: &Claim) -> bool {
        self.hub.lock().live.contains_key(&id(claim))
    }
}

fn id(claim: &Claim) -> RecoveryId {
    claim.pid.as_deref().and_then(RecoveryId::parse).expect("a private id")
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn append(&self, message: &ClusterMessage) -> LogOffset {
        let mut state = self.lock();
        state.last += 1;
        let offset = LogOffset::new(state.last, 0);
        state.entries.push((offset, message.clone()));
        drop(state);
        self.changed.notify_waiters();
        offset
    }

    async fn let_go(&self, what: Held) {
        let mut is_first = true;
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.lock();
                if state.held != Some(what) {
                    return;
                }
                state.waiting += usize::from(std::mem::take(&mut is_first));
            }
            changed.await;
        }
    }

    /// Takes a session away.
    fn take(&self, id: &RecoveryId) -> Result<Option<ClusterSession>, BusError> {
        let mut state = self.lock();
        if state.is_out {
            return Err(BusError::new("on purpose"));
        }
        if let Some(session) = state.sessions.remove(id) {
            return Ok(Some(session));
        }
        let is_gone = state.live.get(id).is_some_and(|(node, _)| state.killed.contains(node));
        let live = is_gone.then(|| state.live.remove(id)).flatten();
        Ok(live.map(|(_, session)| session))
    }

    /// The entry behind an offset.
    fn behind(&self, position: LogOffset) -> Option<(LogOffset, ClusterMessage)> {
        self.lock().entries.iter().find(|(offset, _)| *offset > position).cloned()
    }
}

impl LoggedBus {
    pub(crate) fn set(&self, mode: Mode) {
        self.lock().mode = mode;
        self.own.changed.notify_waiters();
    }

    /// It reads no more for now, and says so; or reads on.
    pub(crate) fn set_reading(&self, is_reading: bool) {
        self.lock().is_stuck = !is_reading;
        self.own.changed.notify_waiters();
        self.own.node.get().expect("it has begun").set_reading_log(is_reading);
        self.hub.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, OwnState> {
        self.own.state.lock().expect("no holder panics")
    }

    async fn read_on(self, node: ClusterNode) {
        node.set_reading_log(true);
        loop {
            let (appended, unstuck) = (self.hub.changed.notified(), self.own.changed.notified());
            let OwnState { is_stuck, position, .. } = *self.lock();
            let position = position.filter(|_| !is_stuck);
            let Some((offset, message)) = position.and_then(|position| self.hub.behind(position))
            else {
                tokio::select! {
                    () = appended => {}
                    () = unstuck => {}
                }
                continue;
            };
            if message.sender.as_ref() == Some(node.id()) {
                node.deliver_logged(&message.namespace, offset).await;
            } else {
                node.receive_logged(message, Some(offset));
            }
            self.lock().position = Some(offset);
        }
    }

    async fn may_work(&self) -> Result<(), BusError> {
        loop {
            let changed = self.own.changed.notified();
            match self.lock().mode {
                Mode::Work => return Ok(()),
                Mode::Fail => return Err(BusError::new("on purpose")),
                Mode::Hang => {}
            }
            changed.await;
        }
    }
}

impl ClusterBus for LoggedBus {
    fn start(&self, node: ClusterNode) {
        self.inner.start(node.clone());
        let _ = self.own.node.set(node.clone());
        self.lock().position = Some(LogOffset::new(self.hub.lock().last, 0));
        tokio::spawn(self.clone().read_on(node));
    }

    fn log(&self) -> Option<Arc<dyn ClusterLog>> {
        Some(Arc::new(self.clone()))
    }

    fn subscribe(&self, namespace: &Arc<str>) {
        self.inner.subscribe(namespace);
    }

    fn unsubscribe(&self, namespace: &Arc<str>) {
        self.inner.unsubscribe(namespace);
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BusFuture<'a, Result<Offsets, BusError>> {
        Box::pin(async move {
            self.may_work().await?;
            let mut offsets = Offsets::new();
            for (place, envelope) in batch.iter().enumerate() {
                match &envelope.message.body {
                    ClusterBody::KeepSession(kept) => {
                        let session = kept.session.clone();
                        let mut state = self.hub.lock();
                        state.live.remove(&session.id);
                        state.sessions.insert(session.id, session);
                    }
                    ClusterBody::EnterSession(live) => {
                        let node = envelope.message.sender.clone().expect("it is said");
                        let session = live.session.clone();
                        self.hub.lock().live.insert(session.id, (node, session));
                    }
                    ClusterBody::ForgetSession(id) => drop(self.hub.lock().live.remove(id)),
                    ClusterBody::Broadcast { request: None, .. }
                    | ClusterBody::SocketsJoin { .. }
                    | ClusterBody::SocketsLeave { .. }
                    | ClusterBody::DisconnectSockets { .. } => {
                        offsets.push((place, self.hub.append(&envelope.message)));
                    }
                    _ => drop(self.inner.publish(std::slice::from_ref(envelope)).await?),
                }
            }
            Ok(offsets)
        })
    }

    fn nodes<'a>(&'a self, namespace: &'a Arc<str>) -> BusFuture<'a, Result<Nodes, BusError>> {
        self.inner.nodes(namespace)
    }

    fn close(&self) -> BusFuture<'_, ()> {
        self.inner.close()
    }
}

impl ClusterLog for LoggedBus {
    fn position(&self, _namespace: &str) -> Option<LogOffset> {
        self.lock().position
    }

    fn read<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        after: LogOffset,
        until: LogOffset,
        take: &'a mut TakeLogged<'_>,
    ) -> BusFuture<'a, Result<bool, BusError>> {
        Box::pin(async move {
            let (entries, trimmed) = {
                let state = self.hub.lock();
                (state.entries.clone(), state.trimmed)
            };
            let is_asked = |(offset, message): &(LogOffset, ClusterMessage)| {
                after < *offset && *offset <= until && message.namespace == *namespace
            };
            self.hub.let_go(Held::Reads).await;
            let mut asked = entries.into_iter().filter(is_asked);
            Ok(asked.all(|(offset, message)| take(offset, message)) && trimmed <= after)
        })
    }

    fn take_session<'a>(
        &'a self,
        id: &'a RecoveryId,
    ) -> BusFuture<'a, Result<Option<ClusterSession>, BusError>> {
        Box::pin(async move {
            let taken = self.hub.take(id)?;
            self.hub.let_go(Held::Sessions).await;
            Ok(taken)
        })
    }

    fn live_session_lease(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

/// The buses of a test of the kit.
#[derive(Default)]
pub(crate) struct Logged {
    cluster: LoggedCluster,
    made: Vec<LoggedBus>,
}

impl Buses for Logged {
    type Bus = LoggedBus;

    const TELLS_WHO_DIES: bool = true;

    async fn bus(&mut self) -> LoggedBus {
        let bus = self.cluster.bus();
        self.made.push(bus.clone());
        bus
    }

    async fn kill(&mut self, index: usize) {
        self.made[index].set(Mode::Fail);
        self.made[index].inner.sever();
        if let Some(node) = self.made[index].own.node.get() {
            self.cluster.hub.lock().killed.insert(node.id().clone());
        }
    }
}
