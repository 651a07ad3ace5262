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
mod broadcast;
mod builder;
mod config;
mod connection;
mod cors;
mod error;
mod extensions;
mod extract;
mod gather;
mod handler;
mod handlers;
mod handshake;
mod listen;
mod namespace;
mod outbox;
mod parent;
mod reason;
mod registry;
mod rooms;
mod server;
mod service;
mod socket;

pub use acks::{Acks, CollectedAcks};
pub use broadcast::{Broadcast, IntoRooms, TimedBroadcast};
pub use builder::ServerBuilder;
pub use config::OutboxPolicy;
pub use cors::Cors;
pub use error::{AckError, ConnectError, EmitError, HandlerError, Rejection};
pub use extensions::Extensions;
pub use extract::{
    Ack, Args, Auth, Data, EventName, FromParts, OnConnect, OnDisconnect, OnEvent, Parts, RawArgs,
    State,
};
pub use handler::{AckTarget, Handler, IntoAdmission, IntoReply, Reply};
pub use handshake::Handshake;
pub use listen::listen;
pub use namespace::Namespace;
pub use parent::{NamespaceRequest, ParentBroadcast, ParentNamespace, PatternError};
pub use reason::DisconnectReason;
pub use rooms::RoomName;
pub use server::Server;
pub use service::{NotFound, PeerAddr, ResponseFuture, SocketIoLayer, SocketIoService};
pub use socket::{Emitter, Socket};
pub use sockeye_proto::SocketId;
pub use sockeye_proto::engine::Transport;
pub use sockeye_proto::socket::{ArgsWriter, Binary, EmitArgs, EncodeError, OwnedArgs};
