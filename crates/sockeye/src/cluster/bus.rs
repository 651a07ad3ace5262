//! What carries the messages of a cluster: the few things that a bus does, and what it is given.
//! Does not know any bus.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::log::{ClusterLog, LogOffset};
use super::message::{ClusterMessage, NodeId};
use super::node::ClusterNode;
use crate::rooms::RoomName;

/// A future of a [`ClusterBus`].
pub type BusFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A bus could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("the cluster's bus failed: {source}")]
pub struct BusError {
    source: Box<dyn Error + Send + Sync>,
    /// Where it has done the rest of a batch.
    partly: Option<Box<Partly>>,
}

#[derive(Debug)]
struct Partly {
    unsent: Vec<usize>,
    offsets: Offsets,
}

impl BusError {
    /// Because of this.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), partly: None }
    }

    /// Because of this some messages of a batch may not have been sent, and the others have:
    /// `unsent` are the places of those in the batch, `offsets` what
    /// [`publish`](ClusterBus::publish) returns for the others.
    pub fn of_some(
        source: impl Into<Box<dyn Error + Send + Sync>>,
        unsent: Vec<usize>,
        offsets: Offsets,
    ) -> Self {
        Self { source: source.into(), partly: Some(Box::new(Partly { unsent, offsets })) }
    }

    /// Which of `count` messages may not have been sent, and where the others stand in the log.
    pub(super) fn take_partly(&mut self, count: usize) -> (Vec<usize>, Offsets) {
        match self.partly.take() {
            Some(partly) => (partly.unsent, partly.offsets),
            None => ((0..count).collect(), Offsets::new()),
        }
    }
}

/// Carries messages between the nodes of a cluster.
///
/// A bus translates: what it is given to publish into bytes, and the bytes that come into
/// [`ClusterNode::receive`]. Who is asked, who has answered and what a message does to sockets is
/// the server's business.
///
/// None of the methods that are not futures may block: a bus notes what it was told and has a task
/// that sees to it, for as long as it takes (a subscription is wanted until it is taken back).
pub trait ClusterBus: Send + Sync + 'static {
    /// Begins. Called once, in a tokio runtime and before everything else; what comes from other
    /// nodes goes to `node`.
    fn start(&self, node: ClusterNode);

    /// How it is known which nodes there are. Asked once, before [`start`](Self::start). Default:
    /// the bus tells.
    fn presence(&self) -> Presence {
        Presence::Bus
    }

    /// The log that outlives nodes, where the bus has one. Asked once, and only where connection
    /// state recovery is on. Then each broadcast is first published and delivered to this node's
    /// own sockets when the log has been read up to it, its offset behind its arguments; else it is
    /// delivered at once. Default: there is none.
    fn log(&self) -> Option<Arc<dyn ClusterLog>> {
        None
    }

    /// Of which rooms [`room_created`](Self::room_created) and
    /// [`room_deleted`](Self::room_deleted) want to hear. Asked once. Default: of none, which
    /// costs nothing.
    fn room_interest(&self) -> RoomInterest {
        RoomInterest::None
    }

    /// Messages about this namespace are wanted from now on.
    fn subscribe(&self, namespace: &Arc<str>);

    /// They are not wanted any more.
    fn unsubscribe(&self, namespace: &Arc<str>);

    /// A room has its first member on this node.
    fn room_created(&self, _namespace: &Arc<str>, _room: &RoomName) {}

    /// A room has lost its last member on this node.
    fn room_deleted(&self, _namespace: &Arc<str>, _room: &RoomName) {}

    /// Sends messages in their order. There is one call at a time; what is emitted meanwhile is
    /// the next batch, so whatever a bus does once for many messages (a pipeline, a write) it can
    /// do for a batch.
    ///
    /// Returns the offset of each message that is in the log now, by its place in the batch; a bus
    /// without a log returns an empty list.
    ///
    /// # Errors
    /// Some of the messages may not have been sent: those that [`BusError::of_some`] names, or all.
    /// They are counted, not sent again: an answer that comes too late is of no use, and what was
    /// meant for clients is delivered on this node all the same.
    ///
    /// # Cancel safety
    /// It is dropped when it takes longer than
    /// [`cluster_publish_timeout`](crate::ServerBuilder::cluster_publish_timeout).
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BusFuture<'a, Result<Offsets, BusError>>;

    /// The other nodes that hear of a namespace now. Not asked where there are heartbeats.
    fn nodes<'a>(&'a self, namespace: &'a Arc<str>) -> BusFuture<'a, Result<Nodes, BusError>>;

    /// Ends: nothing is published any more, and nothing wanted. Called once, when all that was
    /// published before is sent.
    fn close(&self) -> BusFuture<'_, ()>;
}

/// A message and whom it is for.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// One node, or all others. A bus that cannot speak to one node may speak to all.
    pub to: Option<NodeId>,
    /// The message.
    pub message: ClusterMessage,
}

/// Where messages of a batch stand in a bus's log: the place in the batch, and the offset.
pub type Offsets = Vec<(usize, LogOffset)>;

/// How it is known which nodes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// [`ClusterBus::nodes`] tells, and where a bus can, [`ClusterNode::handle_left`].
    Bus,
    /// Each node tells by itself, for each namespace.
    Heartbeats {
        /// A node that has said nothing for so long says that it is there. Node's adapters: 5 s.
        interval: Duration,
        /// A node that has not been heard for so long is gone. Node's adapters: 10 s.
        timeout: Duration,
    },
}

/// The other nodes that hear of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// These.
    Known(Vec<NodeId>),
    /// So many. While a request is open they are counted again each second, so that it does not
    /// wait for a node that has died.
    Count(usize),
}

/// Of which rooms a bus wants to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomInterest {
    /// Of none.
    None,
    /// Of those whose names are not the id of a socket in them.
    Named,
    /// Of all.
    All,
}
