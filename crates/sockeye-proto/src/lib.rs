//! Engine.IO 4 and Socket.IO 5 as pure state machines and codecs.
//! Knows no runtime, clock, socket or randomness: bytes, times and entropy come in as arguments.
//!
//! * [`engine`]: packets, long-polling payloads, request verification, and the
//!   [`Session`](engine::Session) with its heartbeat and upgrade.
//! * [`socket`]: packets with attachments, namespaces, acknowledgements, and the
//!   [`EncodedPacket`](socket::EncodedPacket) that is encoded once for any number of receivers.

pub mod engine;
mod ids;
pub mod socket;

pub use ids::{RecoveryId, SessionId, SocketId};
