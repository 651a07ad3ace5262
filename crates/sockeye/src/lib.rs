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
//! Everything a peer can make the server hold has a limit: see [`ServerBuilder`].
//!
//! # Handlers
//!
//! [Handlers](Handler) are async functions of [extractors](FromParts). What a listener returns
//! becomes the [acknowledgement](IntoReply), an error too: `{"status":"error","code","message"}`.
//! A failure or a panic is also told to [`Server::on_error`], and ends nothing else.
//!
//! Those of one socket run in order, one at a time; while one waits the connection goes on
//! reading, so it may wait for an acknowledgement of its own client.
//! [`on_concurrent`](Socket::on_concurrent) lets several events of a kind be handled at a time.
//!
//! # The way of an event
//!
//! Past the [catch-alls](Socket::on_any), through the [middlewares](Socket::event_middleware), to
//! the [listeners](Socket::on) of its name. At each of these, what was added to the namespace comes
//! before what was added to the socket, and what was added earlier before what was added later.
//!
//! ```
//! use sockeye::{
//!     Data, EventName, Extension, HandlerError, Outgoing, RawArgs, Server, Socket, with,
//! };
//!
//! #[derive(Clone)]
//! struct User {
//!     may_write: bool,
//! }
//!
//! let io = Server::default();
//! io.on_any(async |socket: Socket, EventName(name): EventName, RawArgs(args): RawArgs| {
//!     println!("{} ← {name} {}", socket.id(), args.raw());
//! });
//! io.on_any_outgoing(|socket: &Socket, event: &Outgoing<'_>| {
//!     println!("{} → {} {}", socket.id(), event.name(), event.raw_args().raw());
//! });
//! io.event_middleware(async |EventName(name): EventName, Extension(user): Extension<User>| {
//!     if name.starts_with("write:") && !user.may_write {
//!         return Err(HandlerError::new("forbidden", "You may only read."));
//!     }
//!     Ok(())
//! });
//! io.on_connection(async |socket: Socket| {
//!     socket.once("hello", async |socket: Socket| drop(socket.send("welcome")));
//!     let typing = socket.on("typing", async |socket: Socket| {
//!         let _ = socket.broadcast().volatile().emit("typing", socket.id().as_str());
//!     });
//!     socket.on("write:text", async |socket: Socket, Data(text): Data<String>| {
//!         socket.broadcast().emit("text", &text)?;
//!         Ok::<_, HandlerError>(text.len())
//!     });
//!     socket.on("quiet", with(typing, async |typing: sockeye::Listener, socket: Socket| {
//!         socket.off_listener(&typing);
//!     }));
//! });
//! ```
//!
//! # The life of a socket
//!
//! [Middlewares](Namespace::middleware) of the connection, then
//! [`on_connection`](Namespace::on_connection); its events; and at its end
//! [`on_disconnecting`](Socket::on_disconnecting), with the rooms that it is in, and behind them
//! [`on_disconnect`](Socket::on_disconnect). What belongs to it is in [`Socket::data`]. It takes
//! its handlers along when it goes, so they may hold it.
//!
//! With [connection state recovery](ConnectionStateRecovery) a client that lost its connection goes
//! on with the socket that it had: a new [`Socket`] with the same id, rooms and data, which
//! [`recovered`](Socket::recovered) tells.

/// The examples of the documents that stand outside this crate.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    mod readme {}

    #[doc = include_str!("../../../docs/recovery.md")]
    mod recovery {}
}

mod acks;
mod address;
mod admission;
mod broadcast;
mod builder;
pub mod cluster;
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
mod metrics;
mod namespace;
mod outbox;
mod outgoing;
mod panics;
mod parent;
mod reason;
mod recovery;
mod registry;
mod reply;
mod room_events;
mod rooms;
mod sequence;
mod server;
mod service;
mod socket;

pub use acks::{Acks, CollectedAcks};
pub use address::{ClientAddress, PeerAddr};
pub use broadcast::{Broadcast, IntoRooms, TimedBroadcast};
pub use builder::ServerBuilder;
pub use cluster::server_side::ServerSideEvent;
pub use cluster::{RemoteEmitter, RemoteSocket};
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
pub use recovery::ConnectionStateRecovery;
pub use reply::{AckTarget, IntoAdmission, IntoReply, IntoVerdict, Reply};
pub use room_events::RoomEvent;
pub use rooms::RoomName;
pub use server::Server;
pub use service::{NotFound, ResponseFuture, Serve, SocketIoLayer, SocketIoService, serve};
pub use socket::{Emitter, Socket};
pub use sockeye_proto::SocketId;
pub use sockeye_proto::engine::Transport;
pub use sockeye_proto::socket::{
    ArgError, ArgsCursor, ArgsWriter, Binary, EmitArgs, EncodeError, Name, OwnedArgs, Parser,
    ToName,
};
pub use sockeye_ws::deflate::{Options as PerMessageDeflate, WindowBits};

/// What an application needs for a [`Parser`] of its own.
pub mod parser {
    pub use sockeye_proto::engine::Message;
    pub use sockeye_proto::socket::{
        MultiplexerLimits, Packet, PacketKind, PacketParser, Violation,
    };
}
