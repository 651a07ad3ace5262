//! The checks, each over a cluster of its own. "Both ways": each node acts on each other's clients.

pub mod acks;
pub mod broadcasts;
pub mod failures;
pub mod forwarding;
pub mod live_sessions;
pub mod recovery;
pub mod servers;
pub mod sockets;
