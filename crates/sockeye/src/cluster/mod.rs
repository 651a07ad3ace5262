//! Several servers that are one to their clients: what they say to each other, and what carries it.
//! Each node delivers to its own sockets; nothing here is between an emit and them.
//!
//! A server joins a cluster by [`ServerBuilder::cluster`](crate::ServerBuilder::cluster) and a
//! [`ClusterBus`]; [`InProcessCluster`] has one for servers of one process. What reaches the
//! sockets of all nodes: broadcasts (unless [`local`](crate::Broadcast::local)), with
//! acknowledgements too, [`sockets_join`](crate::Broadcast::sockets_join) and its like,
//! [`fetch_sockets`](crate::Broadcast::fetch_sockets); and servers speak to each other by
//! [`server_side_emit`](crate::Server::server_side_emit).
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use sockeye::Server;
//! use sockeye::cluster::InProcessCluster;
//!
//! let cluster = InProcessCluster::new();
//! let public = Server::builder().cluster(cluster.bus()).build();
//! let admin = Server::builder().path("/admin-socket.io/").cluster(cluster.bus()).build();
//! admin.emit("news", "to the clients of both")?;
//! assert_eq!(public.node_count().await?, 2);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # What is promised
//!
//! * An emit returns at once: what is for other nodes waits in a queue of
//!   [`cluster_queue_bytes_max`](crate::ServerBuilder::cluster_queue_bytes_max). Where the bus
//!   fails or the queue is full this node's own sockets are reached all the same, and what was not
//!   published is counted ([`Server::cluster_health`](crate::Server::cluster_health)).
//! * What one node emits arrives in its order at each other node.
//! * Requests finish when all nodes have answered or gone, at the latest at their time limit, with
//!   the answers that came.

mod bus;
mod forwarding;
mod gate;
mod in_process;
pub(crate) mod incoming;
mod link;
mod log;
mod message;
mod node;
mod presence;
mod queue;
mod remote;
mod requests;
pub(crate) mod server_side;
mod state;

use sockeye_proto::socket::{ArgError, EncodeError};

pub use bus::{BusError, BusFuture, ClusterBus, Envelope, Nodes, Offsets, Presence, RoomInterest};
pub use forwarding::Forward;
pub(crate) use forwarding::{Answer as ForwardedAnswer, Forwarded, Forwarding, NotForwarded};
pub use in_process::{InProcessBus, InProcessCluster};
pub(crate) use link::{Answer, Asked, Link};
pub use log::{ClusterLog, ClusterSession, KeptSession, LiveSession, LogOffset, TakeLogged};
pub use message::{
    BroadcastFlags, BroadcastOptions, ClusterBody, ClusterEvent, ClusterMessage, NodeId, RequestId,
    SocketChange, SocketDetails,
};
pub use node::ClusterNode;
pub(crate) use queue::Delivery;
pub use remote::{HandshakeDetails, RemoteEmitter, RemoteSocket};
pub use sockeye_proto::RecoveryId;
pub use sockeye_proto::socket::Violation;

/// How a server's link to its cluster is, and what has become of messages since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterHealth {
    /// Nothing is heard of the other nodes now: their clients and ours do not reach each other.
    /// What a readiness probe may say no to.
    pub is_deaf: bool,
    /// What waits to be published, in bytes.
    pub queue_bytes: usize,
    /// The requests that wait for answers.
    pub requests: usize,
    /// The requests of clients that are being forwarded to the nodes of their sessions
    /// ([`forward_requests`](crate::ServerBuilder::forward_requests)).
    pub forwarded: usize,
    /// The messages that were published.
    pub published: u64,
    /// The messages that the bus could not publish, or not in time.
    pub failed: u64,
    /// The messages that did not fit into the queue, or came when it was closed.
    pub dropped: u64,
    /// The messages of others that came.
    pub received: u64,
    /// What came and was no message.
    pub rejected: u64,
}

/// Answers are missing: of nodes that said nothing before the time was over, or all of them, where
/// the bus could not ask. What came is there.
#[derive(Clone, Debug, thiserror::Error)]
#[error("timeout reached: missing {missing} responses")]
pub struct Incomplete<T> {
    /// The answers that came.
    pub answers: Vec<T>,
    /// How many nodes said nothing; at least one.
    pub missing: usize,
}

/// A [`server_side_emit_with_ack`](crate::Server::server_side_emit_with_ack) did not get all
/// answers.
#[derive(Debug, thiserror::Error)]
pub enum ServerSideEmitError<T> {
    /// It was not sent: the name is reserved, or the arguments cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Answers are missing.
    #[error(transparent)]
    Incomplete(#[from] Incomplete<T>),
    /// An answer is not of the expected type.
    #[error("an answer could not be read: {error}")]
    Data {
        /// The others.
        answers: Vec<T>,
        /// Why the last of those could not be read.
        error: ArgError,
    },
}

/// 16 hexadecimal digits.
fn random_id() -> String {
    let mut entropy = [0; 8];
    getrandom::fill(&mut entropy).expect("the system has randomness to give");
    format!("{:016x}", u64::from_ne_bytes(entropy))
}
