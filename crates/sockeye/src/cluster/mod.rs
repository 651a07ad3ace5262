//! Several servers that are one to their clients: what they say to each other.
//! Does not know what carries it.

mod message;

pub use message::{
    BroadcastFlags, BroadcastOptions, ClusterBody, ClusterEvent, ClusterMessage, NodeId, RequestId,
    SocketDetails,
};

pub use sockeye_proto::socket::Violation;
