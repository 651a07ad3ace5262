//! A bus within one process: several servers, on ports or paths or with settings of their own, that
//! are one to their clients. Does not know what messages mean.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;

use super::bus::{BusError, BusFuture, ClusterBus, Envelope, Nodes, Offsets, Presence};
use super::message::NodeId;
use super::node::ClusterNode;

/// A cluster of servers in one process. Each gets a [`bus`](Self::bus) of its own; the servers may
/// run on different runtimes. Clones are handles to the same one.
#[derive(Clone, Default)]
pub struct InProcessCluster(Arc<Hub>);

#[derive(Default)]
struct Hub {
    heartbeats: Option<(Duration, Duration)>,
    members: RwLock<BTreeMap<NodeId, Member>>,
}

struct Member {
    node: ClusterNode,
    namespaces: BTreeSet<Arc<str>>,
}

impl InProcessCluster {
    /// A cluster without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A cluster whose nodes tell by themselves that they are there, as they do over a network that
    /// does not tell: at least each `interval`. One that has not been heard for `timeout`, say
    /// because its runtime is stuck, is not waited for.
    pub fn with_heartbeats(interval: Duration, timeout: Duration) -> Self {
        let heartbeats = Some((interval, timeout));
        Self(Arc::new(Hub { heartbeats, ..Hub::default() }))
    }

    /// The bus of one more server.
    pub fn bus(&self) -> InProcessBus {
        InProcessBus { hub: self.0.clone(), node: Arc::default() }
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.0.members.read().len()
    }
}

impl fmt::Debug for InProcessCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InProcessCluster({} nodes)", self.node_count())
    }
}

/// The bus of one server; made by [`InProcessCluster::bus`]. A message is handed over by the task
/// that publishes it, without being encoded. Clones are handles to the same one: it is one
/// server's.
#[derive(Clone)]
pub struct InProcessBus {
    hub: Arc<Hub>,
    node: Arc<OnceLock<ClusterNode>>,
}

impl InProcessBus {
    /// Takes the node out of the cluster without a word, as if its process had died: it neither
    /// hears nor is heard any more.
    pub fn sever(&self) {
        let Some(node) = self.node.get() else { return };
        self.hub.members.write().remove(node.id());
        self.hub.tell_left(node.id(), None);
        node.set_deaf(true);
    }

    fn id(&self) -> Option<&NodeId> {
        self.node.get().map(ClusterNode::id)
    }
}

impl Hub {
    /// The other nodes, or those that hear of a namespace.
    fn others(&self, id: &NodeId, namespace: Option<&str>) -> Vec<ClusterNode> {
        let members = self.members.read();
        let hears = |member: &Member| namespace.is_none_or(|name| member.namespaces.contains(name));
        // A node whose runtime ended before it could say so is gone, too.
        let is_there = |member: &Member| member.node.is_alive() && hears(member);
        let others = members.iter().filter(|(other, member)| *other != id && is_there(member));
        others.map(|(_, member)| member.node.clone()).collect()
    }

    /// Where there are no heartbeats: a node hears no more.
    fn tell_left(&self, id: &NodeId, namespace: Option<&str>) {
        if self.heartbeats.is_none() {
            self.others(id, None).iter().for_each(|other| other.handle_left(namespace, id));
        }
    }

    fn publish(&self, id: &NodeId, envelope: &Envelope) {
        if !self.members.read().contains_key(id) {
            return;
        }
        // Nothing is locked meanwhile: what a node does with a message may change namespaces.
        for other in self.others(id, Some(&envelope.message.namespace)) {
            if envelope.to.as_ref().is_none_or(|to| to == other.id()) {
                other.receive(envelope.message.clone());
            }
        }
    }
}

impl ClusterBus for InProcessBus {
    fn start(&self, node: ClusterNode) {
        let member = Member { node: node.clone(), namespaces: BTreeSet::new() };
        self.hub.members.write().insert(node.id().clone(), member);
        // A bus is given to one server.
        let _ = self.node.set(node);
    }

    fn presence(&self) -> Presence {
        match self.hub.heartbeats {
            Some((interval, timeout)) => Presence::Heartbeats { interval, timeout },
            None => Presence::Bus,
        }
    }

    fn subscribe(&self, namespace: &Arc<str>) {
        let Some(id) = self.id() else { return };
        if let Some(member) = self.hub.members.write().get_mut(id) {
            member.namespaces.insert(namespace.clone());
        }
    }

    fn unsubscribe(&self, namespace: &Arc<str>) {
        let Some(id) = self.id() else { return };
        if let Some(member) = self.hub.members.write().get_mut(id) {
            member.namespaces.remove(namespace);
        }
        self.hub.tell_left(id, Some(namespace));
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BusFuture<'a, Result<Offsets, BusError>> {
        Box::pin(async move {
            if let Some(id) = self.id() {
                batch.iter().for_each(|envelope| self.hub.publish(id, envelope));
            }
            Ok(Vec::new())
        })
    }

    fn nodes<'a>(&'a self, namespace: &'a Arc<str>) -> BusFuture<'a, Result<Nodes, BusError>> {
        Box::pin(async move {
            let others = self.id().map(|id| self.hub.others(id, Some(namespace)));
            let ids = others.unwrap_or_default().iter().map(|other| other.id().clone()).collect();
            Ok(Nodes::Known(ids))
        })
    }

    fn close(&self) -> BusFuture<'_, ()> {
        Box::pin(async move {
            if let Some(id) = self.id() {
                self.hub.members.write().remove(id);
                self.hub.tell_left(id, None);
            }
        })
    }
}

impl fmt::Debug for InProcessBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessBus").field("node", &self.id()).finish_non_exhaustive()
    }
}
