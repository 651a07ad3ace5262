//! A server's link to its cluster: drives the pure state over a bus, with the clock and the tasks.
//! Does not know what messages do to sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use sockeye_proto::SocketId;
use sockeye_proto::socket::OwnedArgs;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::bus::{ClusterBus, Envelope, Offsets, RoomInterest};
use super::forwarding::Forwarding;
use super::log::{ClusterLog, KeptSession};
use super::message::{ClusterBody, ClusterMessage, NodeId, RequestId, SocketDetails};
use super::node::ClusterNode;
use super::queue::{Delivery, Queue};
use super::requests::{Missing, Part};
use super::state::Cluster;
use super::{BusError, ClusterHealth, Nodes};
use crate::config::ClusterConfig;
use crate::server::WeakServer;

/// What one of the asked says.
#[derive(Debug)]
pub(crate) enum Answer {
    Ack(Option<SocketId>, OwnedArgs),
    Sockets(Vec<SocketDetails>),
    Emitted(OwnedArgs),
    /// The request could not be sent, or nobody knows whom to wait for.
    Failed,
}

type State = Arc<Mutex<Cluster<mpsc::UnboundedSender<Answer>>>>;

pub(crate) struct Link {
    bus: Arc<dyn ClusterBus>,
    node: ClusterNode,
    state: State,
    queue: Arc<Queue>,
    /// The time of the next deadline may have changed.
    changed: Arc<Notify>,
    /// Where connection state recovery uses one.
    log: Option<Arc<dyn ClusterLog>>,
    has_heartbeats: bool,
    config: ClusterConfig,
    /// Where requests are forwarded.
    forwarding: Option<Arc<Forwarding>>,
    /// Turns true when the bus is closed.
    is_closed: watch::Sender<bool>,
}

impl Link {
    /// Begins to listen. A bus's log is used only where sockets may be taken up on other nodes:
    /// what is delivered behind a log is delivered later.
    pub(crate) fn new(bus: Arc<dyn ClusterBus>, config: ClusterConfig, wants_log: bool) -> Self {
        let node = ClusterNode::new();
        let state = Cluster::new(bus.presence());
        let has_heartbeats = state.has_heartbeats();
        let state = Arc::new(Mutex::new(state));
        let queue = Arc::new(Queue::new(config.queue_bytes_max));
        let log = wants_log.then(|| bus.log()).flatten();
        bus.start(node.clone());
        let (changed, (is_closed, _)) = (Arc::default(), watch::channel(false));
        let forwarding = config.forwarding.is_on.then(|| {
            Arc::new(Forwarding::new(node.clone(), queue.clone(), config.forwarding.clone()))
        });
        Self {
            bus,
            node,
            state,
            queue,
            changed,
            log,
            has_heartbeats,
            config,
            forwarding,
            is_closed,
        }
    }

    /// Begins to speak, for this server: tasks of their own publish and keep the time until the
    /// link is closed or dropped.
    pub(crate) fn start(&self, server: WeakServer) {
        self.node.set_server(server, self.log.is_some().then(|| self.queue.clone()));
        let tasks = Tasks {
            bus: self.bus.clone(),
            node: self.node.clone(),
            state: self.state.clone(),
            queue: self.queue.clone(),
            changed: self.changed.clone(),
            publish_timeout: self.config.publish_timeout,
            forwarding: self.forwarding.clone(),
        };
        if let Some(forwarding) = &self.forwarding {
            tokio::spawn(forwarding.clone().keep_time());
        }
        tokio::spawn(tasks.clone().keep_time());
        tokio::spawn(tasks.keep_publishing(self.is_closed.clone()));
    }

    pub(crate) fn forwarding(&self) -> Option<&Arc<Forwarding>> {
        self.forwarding.as_ref()
    }

    pub(crate) fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// Whether broadcasts are delivered here when they have been published.
    pub(crate) fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// Whether the log is read now.
    pub(crate) fn is_reading_log(&self) -> bool {
        self.queue.is_reading()
    }

    pub(crate) fn log(&self) -> Option<&Arc<dyn ClusterLog>> {
        self.log.as_ref()
    }

    pub(crate) fn bus(&self) -> &Arc<dyn ClusterBus> {
        &self.bus
    }

    pub(crate) fn room_interest(&self) -> RoomInterest {
        self.bus.room_interest()
    }

    /// The server has a namespace.
    pub(crate) fn subscribe(&self, namespace: &Arc<str>) {
        self.bus.subscribe(namespace);
        let first = self.state.lock().subscribe(namespace, now());
        if let Some(body) = first {
            self.say(namespace, body);
        }
        self.changed.notify_one();
    }

    /// The server has it no more.
    pub(crate) fn unsubscribe(&self, namespace: &Arc<str>) {
        let last = self.state.lock().unsubscribe(namespace);
        if let Some(body) = last {
            self.say(namespace, body);
        }
        self.bus.unsubscribe(namespace);
    }

    /// Says something to all other nodes.
    pub(crate) fn say(&self, namespace: &Arc<str>, body: ClusterBody) {
        self.put(namespace, None, body, None);
    }

    /// Says something to one node.
    pub(crate) fn answer(&self, namespace: &Arc<str>, to: Option<&NodeId>, body: ClusterBody) {
        self.put(namespace, to, body, None);
    }

    /// Says something to all, and does `delivery` when it has been said, or cannot be.
    pub(crate) fn say_then(&self, namespace: &Arc<str>, body: ClusterBody, delivery: Delivery) {
        self.put(namespace, None, body, Some(delivery));
    }

    /// Does something behind all that waits to be said about a namespace.
    pub(crate) fn then(&self, namespace: &Arc<str>, delivery: Delivery) {
        self.queue.push(None, Some((namespace.clone(), delivery)));
    }

    /// Has a session kept where all nodes see it, behind all that waits to be said, and does
    /// `then` when it is, or cannot be.
    pub(crate) fn keep_session(&self, namespace: &Arc<str>, kept: KeptSession, then: Delivery) {
        let body = ClusterBody::KeepSession(Box::new(kept));
        let message = self.message(namespace, body);
        self.queue.push(Some(Envelope { to: None, message }), Some((namespace.clone(), then)));
    }

    fn put(
        &self,
        namespace: &Arc<str>,
        to: Option<&NodeId>,
        body: ClusterBody,
        delivery: Option<Delivery>,
    ) {
        if self.has_heartbeats && to.is_none() {
            self.state.lock().handle_said(namespace, now());
        }
        let message = self.message(namespace, body);
        let delivery = delivery.map(|delivery| (namespace.clone(), delivery));
        self.queue.push(Some(Envelope { to: to.cloned(), message }), delivery);
    }

    fn message(&self, namespace: &Arc<str>, body: ClusterBody) -> ClusterMessage {
        let sender = Some(self.node.id().clone());
        ClusterMessage { sender, namespace: namespace.clone(), body }
    }

    /// Asks all other nodes.
    pub(crate) fn ask(
        &self,
        namespace: &Arc<str>,
        body: impl FnOnce(RequestId) -> ClusterBody,
    ) -> Asked {
        self.ask_then(namespace, body, None)
    }

    /// As [`ask`](Self::ask), with what is done here when it has been said, or cannot be.
    pub(crate) fn ask_then(
        &self,
        namespace: &Arc<str>,
        body: impl FnOnce(RequestId) -> ClusterBody,
        delivery: Option<Delivery>,
    ) -> Asked {
        let id = RequestId::new(super::random_id());
        let (waiter, answers) = mpsc::unbounded_channel();
        self.state.lock().begin(&id, namespace, waiter);
        self.put(namespace, None, body(id.clone()), delivery);
        if !self.has_heartbeats {
            let (bus, state) = (self.bus.clone(), self.state.clone());
            let (ids, namespace) = (vec![id.clone()], namespace.clone());
            let counting = Counting { bus, state, ids, namespace, is_first: true };
            let (changed, limit) = (self.changed.clone(), self.config.publish_timeout);
            tokio::spawn(async move {
                counting.within(limit).await;
                changed.notify_one();
            });
        }
        Asked { id, state: self.state.clone(), answers }
    }

    /// The number of nodes in a namespace, this one among them.
    pub(crate) async fn node_count(&self, namespace: &Arc<str>) -> Result<usize, BusError> {
        let known = self.state.lock().nodes(namespace);
        let others = match known {
            Some(nodes) => nodes.len(),
            None => {
                let counted = self.bus.nodes(namespace);
                match tokio::time::timeout(self.config.request_timeout, counted).await {
                    Ok(nodes) => len(&nodes?),
                    Err(elapsed) => return Err(BusError::new(elapsed)),
                }
            }
        };
        Ok(others + 1)
    }

    /// A message came.
    pub(super) fn handle_heard(&self, message: &ClusterMessage) {
        let Some(sender) = &message.sender else { return };
        let namespace = &message.namespace;
        let body = &message.body;
        let answer = self.state.lock().handle_heard(namespace, sender, body, now());
        if let Some(answer) = answer {
            // To all: others are glad to hear it, too, as with Node's nodes.
            self.say(namespace, answer);
        }
    }

    pub(super) fn handle_answer(
        &self,
        id: &RequestId,
        sender: Option<&NodeId>,
        part: Part,
        answer: Option<Answer>,
    ) {
        let tell = |waiter: &mpsc::UnboundedSender<Answer>| {
            if let Some(answer) = answer {
                // Whoever asked is just being dropped.
                let _ = waiter.send(answer);
            }
        };
        self.state.lock().handle_answer(id, sender, part, tell);
    }

    pub(super) fn handle_left(&self, namespace: &str, node: &NodeId) {
        self.state.lock().handle_left(namespace, node);
        if let Some(forwarding) = self.forwarding.as_ref().filter(|_| namespace == "/") {
            forwarding.handle_gone(node);
        }
    }

    pub(crate) fn health(&self) -> ClusterHealth {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        ClusterHealth {
            is_deaf: self.node.is_deaf(),
            queue_bytes: self.queue.bytes(),
            requests: self.state.lock().requests_len(),
            forwarded: self.forwarding.as_ref().map_or(0, |forwarding| forwarding.under_way()),
            published: count(&self.queue.published),
            failed: count(&self.queue.failed),
            dropped: count(&self.queue.dropped),
            received: self.node.received(),
            rejected: self.node.rejected(),
        }
    }

    /// Says goodbye in these namespaces; what waits is still published, then the bus is closed.
    pub(crate) fn close(&self, namespaces: impl IntoIterator<Item = Arc<str>>) {
        if !self.queue.is_closed() {
            if let Some(forwarding) = &self.forwarding {
                forwarding.leave();
            }
            namespaces.into_iter().for_each(|namespace| self.unsubscribe(&namespace));
            self.end();
        }
    }

    fn end(&self) {
        self.queue.close();
        self.changed.notify_one();
        if let Some(forwarding) = &self.forwarding {
            forwarding.end();
        }
    }

    /// Waits until the bus is closed.
    pub(crate) async fn closed(&self) {
        // An error says that the task is gone, and the bus with it.
        let _ = self.is_closed.subscribe().wait_for(|is_closed| *is_closed).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the link's tasks share with it.
#[derive(Clone)]
struct Tasks {
    bus: Arc<dyn ClusterBus>,
    node: ClusterNode,
    state: State,
    queue: Arc<Queue>,
    changed: Arc<Notify>,
    publish_timeout: Duration,
    forwarding: Option<Arc<Forwarding>>,
}

impl Tasks {
    async fn keep_publishing(self, is_closed: watch::Sender<bool>) {
        while let Some(batch) = self.queue.next_batch().await {
            let published = self.bus.publish(&batch.envelopes);
            let outcome = tokio::time::timeout(self.publish_timeout, published).await;
            let (offsets, failed) =
                match outcome.unwrap_or_else(|elapsed| Err(BusError::new(elapsed))) {
                    Ok(offsets) => (offsets, 0),
                    Err(error) => self.handle_unpublished(error, &batch.envelopes),
                };
            self.queue.settle(&batch, offsets, failed);
        }
        if tokio::time::timeout(self.publish_timeout, self.bus.close()).await.is_err() {
            tracing::warn!("the cluster's bus did not close in time");
        }
        is_closed.send_replace(true);
    }

    /// Nobody waits for the answers to what was not sent. Returns where the rest stands in the log,
    /// and how many were not.
    fn handle_unpublished(&self, mut error: BusError, batch: &[Envelope]) -> (Offsets, usize) {
        let (unsent, offsets) = error.take_partly(batch.len());
        tracing::warn!(%error, messages = unsent.len(), "not published");
        for Envelope { message, .. } in unsent.iter().filter_map(|place| batch.get(*place)) {
            if let Some(id) = asks(message) {
                // Whoever asked may just be being dropped.
                self.state.lock().fail(id, |waiter| drop(waiter.send(Answer::Failed)));
            }
            if let Some(forwarding) = &self.forwarding {
                forwarding.handle_unpublished(message);
            }
        }
        (offsets, unsent.len())
    }

    async fn keep_time(self) {
        while !self.queue.is_closed() {
            let changed = self.changed.notified();
            let next = self.state.lock().poll_timeout();
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(Instant::from_std(next)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => continue,
                () = due => {}
            }
            let due = self.state.lock().handle_timeout(now());
            for (namespace, body) in due.say {
                let sender = Some(self.node.id().clone());
                let message = ClusterMessage { sender, namespace, body };
                self.queue.push(Some(Envelope { to: None, message }), None);
            }
            let mut by_namespace: BTreeMap<Arc<str>, Vec<RequestId>> = BTreeMap::new();
            for (id, namespace) in due.count {
                by_namespace.entry(namespace).or_default().push(id);
            }
            for (namespace, ids) in by_namespace {
                let (bus, state) = (self.bus.clone(), self.state.clone());
                // Whoever waits meanwhile goes on: nobody knows better until it is counted again.
                let counting = Counting { bus, state, ids, namespace, is_first: false };
                tokio::spawn(counting.within(self.publish_timeout));
            }
        }
    }
}

/// Counts the nodes that requests wait for.
struct Counting {
    bus: Arc<dyn ClusterBus>,
    state: State,
    ids: Vec<RequestId>,
    namespace: Arc<str>,
    /// Nobody knows yet whom they wait for.
    is_first: bool,
}

impl Counting {
    async fn within(self, limit: Duration) {
        let nodes = tokio::time::timeout(limit, self.bus.nodes(&self.namespace)).await;
        let mut state = self.state.lock();
        for id in &self.ids {
            match &nodes {
                Ok(Ok(nodes)) => state.handle_nodes(id, nodes.clone(), now()),
                Ok(Err(_)) | Err(_) if self.is_first => {
                    state.fail(id, |waiter| drop(waiter.send(Answer::Failed)));
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

/// The answers to a request, and the wish for them, which ends when it is dropped.
pub(crate) struct Asked {
    id: RequestId,
    state: State,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Asked {
    /// The next answer; `None` when all have come.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }

    /// As [`next`](Self::next).
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        self.answers.poll_recv(cx)
    }

    /// The time is over. Returns what has not come.
    pub(crate) fn give_up(&mut self) -> Missing {
        self.state.lock().give_up(&self.id)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// The request of a message that asks.
fn asks(message: &ClusterMessage) -> Option<&RequestId> {
    match &message.body {
        ClusterBody::Broadcast { request, .. } | ClusterBody::ServerSideEmit { request, .. } => {
            request.as_ref()
        }
        ClusterBody::FetchSockets { request, .. } => Some(request),
        _ => None,
    }
}

fn len(nodes: &Nodes) -> usize {
    match nodes {
        Nodes::Known(nodes) => nodes.len(),
        Nodes::Count(nodes) => *nodes,
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
