//! The buses that are tested here. Does not know what is asked of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sockeye::RoomName;
use sockeye::cluster::{
    BusError, BusFuture, ClusterBus, ClusterNode, Envelope, InProcessBus, InProcessCluster, Nodes,
    Offsets, Presence, RoomInterest,
};
use sockeye_cluster_kit::Buses;
use tokio::sync::Notify;

/// The bus within a process.
pub(crate) struct InProcess {
    cluster: InProcessCluster,
    made: Vec<InProcessBus>,
}

impl InProcess {
    /// Its nodes are known.
    pub(crate) fn known() -> Self {
        Self { cluster: InProcessCluster::new(), made: Vec::new() }
    }

    /// Its nodes tell by themselves that they are there.
    pub(crate) fn with_heartbeats() -> Self {
        let (interval, timeout) = (Duration::from_millis(100), Duration::from_secs(5));
        Self { cluster: InProcessCluster::with_heartbeats(interval, timeout), made: Vec::new() }
    }
}

impl Buses for InProcess {
    type Bus = InProcessBus;

    const TELLS_WHO_DIES: bool = true;

    async fn bus(&mut self) -> InProcessBus {
        let bus = self.cluster.bus();
        self.made.push(bus.clone());
        bus
    }

    async fn kill(&mut self, index: usize) {
        self.made[index].sever();
    }
}

/// A bus within a process that can be made to fail, and notes what it is told.
#[derive(Clone)]
pub(crate) struct Wrapped {
    inner: InProcessBus,
    control: Arc<Control>,
}

#[derive(Default)]
pub(crate) struct Control {
    rooms: Option<RoomInterest>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    mode: Mode,
    told: Vec<String>,
    /// How often the nodes were counted.
    counted: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Work,
    Fail,
    /// Publishing waits until it may work, or is given up.
    Hang,
}

impl Wrapped {
    pub(crate) fn new(cluster: &InProcessCluster) -> Self {
        Self { inner: cluster.bus(), control: Arc::default() }
    }

    pub(crate) fn with_rooms(cluster: &InProcessCluster, rooms: RoomInterest) -> Self {
        let control = Control { rooms: Some(rooms), ..Control::default() };
        Self { inner: cluster.bus(), control: Arc::new(control) }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.lock().mode = mode;
        self.control.changed.notify_waiters();
    }

    /// How often the nodes were counted.
    pub(crate) fn counted(&self) -> usize {
        self.lock().counted
    }

    /// What it was told of rooms.
    pub(crate) fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().told)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.control.state.lock().expect("no holder panics")
    }

    async fn may_work(&self) -> Result<(), BusError> {
        loop {
            let changed = self.control.changed.notified();
            match self.lock().mode {
                Mode::Work => return Ok(()),
                Mode::Fail => return Err(BusError::new("on purpose")),
                Mode::Hang => {}
            }
            changed.await;
        }
    }
}

impl ClusterBus for Wrapped {
    fn start(&self, node: ClusterNode) {
        self.inner.start(node);
    }

    fn room_interest(&self) -> RoomInterest {
        self.control.rooms.unwrap_or(RoomInterest::None)
    }

    fn subscribe(&self, namespace: &Arc<str>) {
        self.inner.subscribe(namespace);
    }

    fn unsubscribe(&self, namespace: &Arc<str>) {
        self.inner.unsubscribe(namespace);
    }

    fn room_created(&self, namespace: &Arc<str>, room: &RoomName) {
        self.lock().told.push(format!("+{namespace}#{room}"));
    }

    fn room_deleted(&self, namespace: &Arc<str>, room: &RoomName) {
        self.lock().told.push(format!("-{namespace}#{room}"));
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BusFuture<'a, Result<Offsets, BusError>> {
        Box::pin(async move {
            self.may_work().await?;
            self.inner.publish(batch).await
        })
    }

    fn nodes<'a>(&'a self, namespace: &'a Arc<str>) -> BusFuture<'a, Result<Nodes, BusError>> {
        Box::pin(async move {
            self.lock().counted += 1;
            self.may_work().await?;
            self.inner.nodes(namespace).await
        })
    }

    fn close(&self) -> BusFuture<'_, ()> {
        self.inner.close()
    }
}

/// A bus whose node can be spoken to by the test.
#[derive(Clone)]
pub(crate) struct Tapped {
    inner: InProcessBus,
    node: Arc<Mutex<Option<ClusterNode>>>,
    said: Arc<Mutex<Vec<Envelope>>>,
}

impl Tapped {
    pub(crate) fn new(cluster: &InProcessCluster) -> Self {
        let (node, said) = Default::default();
        Self { inner: cluster.bus(), node, said }
    }

    /// What the node has said.
    pub(crate) fn said(&self) -> Vec<Envelope> {
        self.said.lock().expect("no holder panics").clone()
    }

    pub(crate) fn node(&self) -> ClusterNode {
        self.node.lock().expect("no holder panics").clone().expect("it has been started")
    }
}

impl ClusterBus for Tapped {
    fn start(&self, node: ClusterNode) {
        *self.node.lock().expect("no holder panics") = Some(node.clone());
        self.inner.start(node);
    }

    fn presence(&self) -> Presence {
        self.inner.presence()
    }

    fn subscribe(&self, namespace: &Arc<str>) {
        self.inner.subscribe(namespace);
    }

    fn unsubscribe(&self, namespace: &Arc<str>) {
        self.inner.unsubscribe(namespace);
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BusFuture<'a, Result<Offsets, BusError>> {
        self.said.lock().expect("no holder panics").extend_from_slice(batch);
        self.inner.publish(batch)
    }

    fn nodes<'a>(&'a self, namespace: &'a Arc<str>) -> BusFuture<'a, Result<Nodes, BusError>> {
        self.inner.nodes(namespace)
    }

    fn close(&self) -> BusFuture<'_, ()> {
        self.inner.close()
    }
}
