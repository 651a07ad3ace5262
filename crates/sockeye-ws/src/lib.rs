//! WebSocket (RFC 6455), compressed (RFC 7692) or not, for servers and clients, as a pure state
//! machine.
//! Knows nothing of sockets, clocks, randomness or tasks: bytes, times and masking keys come in as
//! arguments, events and bytes come out. (What does know them is `net`, behind a feature.)
//!
//! # Where to begin
//!
//! * To connect or to serve, on tokio: the module `net`, which the feature `tokio` brings. Its page
//!   has the examples, what is promised of cancelled futures, of order and of close, every option,
//!   and what differs from `tokio-tungstenite` and Node's `ws`.
//! * To drive the protocol over something else, a runtime of one's own, a simulation, a fuzzer:
//!   this page. Without features the crate knows no runtime.
//!
//! | feature | brings |
//! |---|---|
//! | `tokio` | `net`: connections, servers, clients |
//! | `hyper` | upgrades of requests that hyper serves, by itself or below a tower service |
//! | `axum` | an extractor, `net::WebSocketUpgrade` |
//! | `aws-lc-rs`, `ring` | `wss:` with that provider and the operating system's roots |
//! | `rustls` | `wss:` with a configuration of the caller's |
//! | `tracing` | spans of handshakes, events of what ends |
//!
//! # The parts
//!
//! * [`handshake`]: the opening handshake of both sides, with or without an HTTP library.
//! * [`Connection`]: everything after it. Frames, fragments, masking, UTF-8, pings, the closing
//!   handshake, and [`Limits`] on all that a peer can make us hold.
//! * [`deflate`]: the options of permessage-deflate, which the opening handshake negotiates and the
//!   connection is given.
//! * [`frame`], [`mask`], [`utf8`], [`close`]: what these are made of, for those who need a piece.
//!
//! # The contract of the machine
//!
//! A driver owns the socket and the clock and does, in this order, as often as something happens:
//!
//! 1. Bytes arrived: [`Connection::handle_input`], and handle its events. The read buffer is
//!    unmasked in place and messages that came whole borrow from it, so nothing is copied and
//!    nothing allocated. What is incomplete is kept inside: one read buffer serves all connections.
//! 2. The peer ended its side: [`Connection::handle_eof`].
//! 3. The time of [`Connection::poll_timeout`] has come: [`Connection::handle_timeout`].
//! 4. After any of these, and after [`Connection::close`]: send what
//!    [`Connection::poll_transmit`] has (for clients [`Connection::poll_transmit_masked`]).
//! 5. [`Connection::closed`] says how it ended: send what is left and end the TCP connection.
//!
//! To send a message, [`Connection::encode`] appends its frame to a buffer of the driver's. What
//! goes to many is a [`Frame`]: encoded and compressed once, it is handed out by
//! [`Connection::frame_bytes`] as bytes that all of them share.
//!
//! Long messages need not be held whole: [`Connection::handle_input_in_parts`] hands them out as
//! they arrive, and [`Connection::encode_fragment`] sends them as they come into being. One that is
//! held can be read to where it stays: [`Connection::payload_room`].
//!
//! What a peer does wrong is never an error the driver must interpret: the machine queues the close
//! frame with the right status code, ignores the rest, and ends with [`Event::Closed`].
//!
//! # Example
//!
//! A server's side, from the first byte to the answer:
//!
//! ```
//! use std::time::Instant;
//!
//! use sockeye_ws::handshake::head::{HeadLimits, HeadReader};
//! use sockeye_ws::handshake::server;
//! use sockeye_ws::{Connection, Event, Limits, MessageRef, Role};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // What two reads returned. The second holds the first frame already: "Hello", masked.
//! let first = b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n";
//! let mut second = b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
//!     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
//!     \x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec();
//!
//! // The opening handshake.
//! let mut reader = HeadReader::new(HeadLimits::default());
//! assert_eq!(reader.push(first)?, None);
//! let head_len = reader.push(&second)?.expect("the head is complete");
//! let head = reader.request()?;
//! let accept = server::verify(head.method, head.version, |name| head.headers.all(name))?;
//! let mut to_send = accept.response(None, &[])?;
//! assert!(to_send.starts_with(b"HTTP/1.1 101 "));
//!
//! // The connection. What stands behind the head is its first input.
//! let mut connection = Connection::new(Role::Server, Limits::default());
//! to_send.clear();
//! let mut events = connection.handle_input(&mut second[head_len..], Instant::now());
//! let event = events.next();
//! drop(events);
//! if let Some(Event::Text(text)) = event {
//!     connection.encode(&mut to_send, MessageRef::Text(&text))?;
//! }
//! assert_eq!(to_send, b"\x81\x05Hello");
//! # Ok(())
//! # }
//! ```

#![cfg_attr(feature = "tokio", doc = "\n# On tokio\n\nBegin at [`net`].")]

mod assembly;
pub mod close;
mod compressed;
pub mod connection;
mod deadline;
pub mod deflate;
mod error;
pub mod frame;
pub mod handshake;
pub mod mask;
#[cfg(feature = "tokio")]
pub mod net;
mod prepared;
pub mod utf8;

pub use close::CloseCode;
pub use connection::{Closed, Connection, Event, Events, Limits, MessageRef, Role};
pub use connection::{Part, PartEvent, PartEvents};
pub use error::{CloseError, ProtocolError, SendError};
pub use frame::{Header, Opcode};
pub use mask::MaskingKey;
pub use prepared::Frame;
