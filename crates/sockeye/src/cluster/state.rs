//! `Cluster`: what one node knows of the others, and what it has asked them. Pure: no clock, no
//! async, no bus. Does not know sockets; the driver does what comes out.

use std::sync::Arc;
use std::time::Instant;

use super::bus::{Nodes, Presence};
use super::message::{ClusterBody, NodeId, RequestId};
use super::presence::Heartbeats;
use super::requests::{Missing, Part, Requests};

/// The state of one node. `W` is who waits for the answers to a request; it is dropped when all
/// have come.
pub(super) struct Cluster<W> {
    heartbeats: Option<Heartbeats>,
    requests: Requests<W>,
}

/// What [`Cluster::handle_timeout`] wants done.
#[derive(Default)]
pub(super) struct Due {
    /// To be said to all.
    pub(super) say: Vec<(Arc<str>, ClusterBody)>,
    /// The nodes are to be counted again, for these requests.
    pub(super) count: Vec<(RequestId, Arc<str>)>,
}

impl<W> Cluster<W> {
    pub(super) fn new(presence: Presence) -> Self {
        let heartbeats = match presence {
            Presence::Heartbeats { interval, timeout } => Some(Heartbeats::new(interval, timeout)),
            Presence::Bus => None,
        };
        Self { heartbeats, requests: Requests::default() }
    }

    /// Whether each node tells by itself that it is there.
    pub(super) fn has_heartbeats(&self) -> bool {
        self.heartbeats.is_some()
    }

    /// We are in a namespace. Returns what must be said.
    pub(super) fn subscribe(&mut self, namespace: &Arc<str>, now: Instant) -> Option<ClusterBody> {
        self.heartbeats.as_mut()?.subscribe(namespace.clone(), now);
        Some(ClusterBody::InitialHeartbeat)
    }

    /// We are not any more. Returns what must be said.
    pub(super) fn unsubscribe(&mut self, namespace: &str) -> Option<ClusterBody> {
        self.heartbeats.as_mut()?.unsubscribe(namespace);
        Some(ClusterBody::Leave)
    }

    /// We said something to all.
    pub(super) fn handle_said(&mut self, namespace: &str, now: Instant) {
        if let Some(heartbeats) = &mut self.heartbeats {
            heartbeats.handle_said(namespace, now);
        }
    }

    /// A message came. Returns what must be said to its sender.
    pub(super) fn handle_heard(
        &mut self,
        namespace: &str,
        sender: &NodeId,
        body: &ClusterBody,
        now: Instant,
    ) -> Option<ClusterBody> {
        if matches!(body, ClusterBody::Leave) {
            self.handle_left(namespace, sender);
            return None;
        }
        let heartbeats = self.heartbeats.as_mut()?;
        // An emitter is no node.
        if sender.as_str() != NodeId::EMITTER {
            heartbeats.handle_heard(namespace, sender, now);
        }
        matches!(body, ClusterBody::InitialHeartbeat).then_some(ClusterBody::Heartbeat)
    }

    /// A node is gone from a namespace.
    pub(super) fn handle_left(&mut self, namespace: &str, node: &NodeId) {
        if let Some(heartbeats) = &mut self.heartbeats {
            heartbeats.handle_left(namespace, node);
        }
        self.requests.handle_left(namespace, node);
    }

    /// The other nodes in a namespace, where heartbeats tell.
    pub(super) fn nodes(&self, namespace: &str) -> Option<Vec<NodeId>> {
        self.heartbeats.as_ref().map(|heartbeats| heartbeats.nodes(namespace))
    }

    /// Asks. Where the nodes are not known by heartbeats, [`handle_nodes`](Self::handle_nodes)
    /// must follow.
    pub(super) fn begin(&mut self, id: &RequestId, namespace: &Arc<str>, waiter: W) {
        self.requests.begin(id.clone(), namespace.clone(), waiter);
        if let Some(nodes) = self.nodes(namespace) {
            self.requests.handle_members(id, nodes);
        }
    }

    /// The nodes that a request waits for, or those that there still are.
    pub(super) fn handle_nodes(&mut self, id: &RequestId, nodes: Nodes, now: Instant) {
        self.requests.handle_nodes(id, nodes, now);
    }

    /// An answer came; `tell` hands it to who waits.
    pub(super) fn handle_answer(
        &mut self,
        id: &RequestId,
        sender: Option<&NodeId>,
        part: Part,
        tell: impl FnOnce(&W),
    ) {
        self.requests.handle_answer(id, sender, part, tell);
    }

    /// A request cannot be answered; `tell` tells who waits.
    pub(super) fn fail(&mut self, id: &RequestId, tell: impl FnOnce(&W)) {
        self.requests.fail(id, tell);
    }

    /// Nobody waits any more. Returns what never came.
    pub(super) fn give_up(&mut self, id: &RequestId) -> Missing {
        self.requests.give_up(id)
    }

    /// How many requests wait.
    pub(super) fn requests_len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let heartbeats = self.heartbeats.as_ref().and_then(Heartbeats::poll_timeout);
        heartbeats.into_iter().chain(self.requests.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        let count = self.requests.handle_timeout(now);
        let Some(heartbeats) = &mut self.heartbeats else { return Due { say: Vec::new(), count } };
        let due = heartbeats.handle_timeout(now);
        for (namespace, node) in &due.gone {
            self.requests.handle_left(namespace, node);
        }
        let heartbeats = due.heartbeats.into_iter();
        let say = heartbeats.map(|namespace| (namespace, ClusterBody::Heartbeat)).collect();
        Due { say, count }
    }
}
