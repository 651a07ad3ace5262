//! Socket.IO server for Rust: a tower service that every official client connects to.
//!
//! ```no_run
//! use sockeye::{Data, Server, Socket};
//!
//! # async fn run() -> std::io::Result<()> {
//! let io = Server::builder().build();
//! io.on_connection(async |socket: Socket| {
//!     socket.on("join", async |socket: Socket, Data(room): Data<String>| {
//!         socket.join(&room);
//!     });
//!     socket.on("message", async |socket: Socket, Data(text): Data<String>| {
//!         socket.broadcast().emit("message", &text).map_err(sockeye::HandlerError::from)
//!     });
//! });
//! let app = axum::Router::new().layer(io.layer());
//! let listener = sockeye::listen("127.0.0.1:3000").await?;
//! axum::serve(listener, app).await
//! # }
//! ```
//!
//! * Handlers are async functions of [extractors](FromParts). Those of one socket run in order,
//!   one at a time; while one waits the connection goes on reading, so it may wait for an
//!   acknowledgement of its own client.
//! * Everything a peer can make the server hold has a limit: see [`ServerBuilder`].

mod acks;
mod address;
mod admission;
mod broadcast;
mod builder;
mod config;
mod conflation;
mod connection;
mod cookie;
mod cors;
mod erased;
mod error;
mod extensions;
mod extract;
mod gather;
mod handler;
mod handlers;
mod handshake;
mod hooks;
mod listen;
mod listening;
mod namespace;
mod outbox;
mod outgoing;
mod panics;
mod parent;
mod reason;
mod registry;
mod reply;
mod rooms;
mod server;
mod service;
mod socket;

pub use acks::{Acks, CollectedAcks};
pub use address::{ClientAddress, PeerAddr};
pub use broadcast::{Broadcast, IntoRooms, TimedBroadcast};
pub use builder::ServerBuilder;
pub use config::{HttpCompression, OutboxPolicy};
pub use cookie::{CookiePriority, SameSite, SessionCookie};
pub use cors::Cors;
pub use erased::Listener;
pub use error::{AckError, ConnectError, EmitError, HandlerError, Rejection};
pub use extensions::Extensions;
pub use extract::{
    Ack, Args, Auth, Data, EventName, Extension, FromParts, OnConnect, OnDisconnect, OnEvent,
    Parts, RawArgs, State,
};
pub use handler::{Handler, With, with};
pub use handshake::Handshake;
pub use hooks::{ConnectionError, ConnectionErrorContext, Refusal};
pub use listen::listen;
pub use namespace::Namespace;
pub use outgoing::Outgoing;
pub use parent::{NamespaceRequest, ParentBroadcast, ParentNamespace, PatternError};
pub use reason::{CloseDescription, DisconnectReason};
pub use reply::{AckTarget, IntoAdmission, IntoReply, IntoVerdict, Reply};
pub use rooms::RoomName;
pub use server::Server;
pub use service::{NotFound, ResponseFuture, SocketIoLayer, SocketIoService};
pub use socket::{Emitter, Socket};
pub use sockeye_proto::SocketId;
pub use sockeye_proto::engine::Transport;
pub use sockeye_proto::socket::{
    ArgsWriter, Binary, EmitArgs, EncodeError, Name, OwnedArgs, ToName,
};
