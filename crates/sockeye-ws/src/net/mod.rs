//! WebSocket connections on tokio: what drives the pure machine over real streams.
//! Knows nothing of frames beyond what the machine hands out.

mod client;
mod driver;
mod error;
mod head;
mod incoming;
mod keys;
mod message;
mod options;
mod outgoing;
mod server;
mod split;
mod stream;
mod timer;
mod trace;
mod websocket;

pub use client::{Client, ConnectError, ProxyError, UnexpectedResponse, connect};
pub use error::{Error, Fault};
pub use message::{CloseFrame, Message, Text};
pub use options::{KeepAlive, Options};
#[cfg(feature = "hyper")]
pub use server::Upgrade;
#[cfg(feature = "axum")]
pub use server::WebSocketUpgrade;
pub use server::{AcceptError, Handshake, Refusal, Server, ServerBuilder, VerifyFuture};
pub use split::{WebSocketReader, WebSocketWriter};
pub use stream::AnyStream;
pub use websocket::WebSocket;
