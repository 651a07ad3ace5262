//! WebSocket (RFC 6455) for servers and clients, as a pure state machine.
//! Knows nothing of sockets, clocks, randomness or tasks: bytes, times and masking keys come in as
//! arguments, events and bytes come out.

mod assembly;
pub mod close;
pub mod connection;
mod error;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod utf8;

pub use close::CloseCode;
pub use connection::{Closed, Connection, Event, Events, Limits, Message, Role};
pub use error::{CloseError, ProtocolError, SendError};
pub use frame::{Header, Opcode};
pub use mask::MaskingKey;
