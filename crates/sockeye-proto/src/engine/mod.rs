//! Engine.IO 4, and 3 as its clients still speak it: packets, payloads, the opening request and the
//! session.
//! Knows Socket.IO only as messages.
//!
//! Source: the Engine.IO protocol, revision 4, as the package `engine.io` speaks it.

pub mod packet;
pub mod payload;
pub mod payload_v3;
pub mod rate;
pub mod request;
pub mod session;

pub(crate) use packet::MESSAGE_V3;
pub use packet::{Message, Open, Packet, PacketError};
pub use rate::{RateLimit, Rates};
pub use request::{
    BadRequest, Query, RequestError, RequestView, Revision, SessionView, Verified, query_pairs,
    verify,
};
pub use session::{CloseReason, Output, Session, Timing};

/// How a client and the server exchange packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// WebSocket.
    WebSocket,
}

impl Transport {
    /// Its name in queries and in the open packet.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }

    /// The transport of this name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "polling" => Some(Self::Polling),
            "websocket" => Some(Self::WebSocket),
            _ => None,
        }
    }
}
