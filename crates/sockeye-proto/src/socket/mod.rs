//! Socket.IO 5: packets and their JSON, attachments, namespaces on one connection.
//! Knows Engine.IO only as text and binary messages; no runtime, clock or socket.
//!
//! * Reading: [`Multiplexer`] turns messages into [`Incoming`] packets, whose arguments stay raw
//!   JSON until an [`ArgsCursor`] reads them as types.
//! * Writing: [`EncodedPacket`] is encoded once, from anything that is [`EmitArgs`].
//!
//! Source: the Socket.IO protocol, revision 5, as the package `socket.io-parser` speaks it.
//!
//! Packets are JSON here, however a [`Parser`] encodes them: another one reads its messages into
//! that form, and encodes each [`EncodedPacket`] anew, once for all of its receivers.

mod args;
mod binary;
mod emit;
mod encoded;
pub mod msgpack;
mod multiplexer;
mod name;
mod packet;
mod parser;
mod unfinished;
mod v3;

pub use args::{ArgError, Args, ArgsCursor, OwnedArgs};
pub use binary::Binary;
pub use emit::{ArgsWriter, EmitArgs, EncodeError};
pub use encoded::EncodedPacket;
pub use multiplexer::{Event, Incoming, Multiplexer, MultiplexerLimits};
pub use name::{Name, ToName};
pub use packet::{RESERVED_EVENTS, Violation};
pub use parser::{Packet, PacketKind, PacketParser, Parser};
pub use unfinished::UnfinishedEvent;
pub use v3::connect_of_v3;
