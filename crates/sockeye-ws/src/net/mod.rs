//! WebSocket connections on tokio: what drives the pure machine over real streams.
//! Knows nothing of frames beyond what the machine hands out.
//!
//! # Examples
//!
//! A client:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut websocket = sockeye_ws::net::connect("wss://example.com/chat").await?;
//! websocket.send("hello").await?;
//! while let Some(message) = websocket.next().await {
//!     println!("{:?}", message?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A client with options, and a goodbye:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use sockeye_ws::CloseCode;
//! use sockeye_ws::net::{Client, ConnectError};
//!
//! let client = Client::new("ws://user:password@localhost:9001/feed")
//!     .protocol("v2")
//!     .header("X-Request-Id", "7")
//!     .handshake_timeout(Duration::from_secs(5))
//!     .redirects_max(3);
//! match client.connect().await {
//!     Ok(mut websocket) => websocket.close(CloseCode::NORMAL, "just looking").await?,
//!     Err(ConnectError::Unexpected(response)) => println!("refused: {}", response.status),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A server that echoes:
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use sockeye_ws::net::{Error, Server, WebSocket};
//! use tokio::net::{TcpListener, TcpStream};
//!
//! async fn echo(websocket: &mut WebSocket<TcpStream>) -> Result<(), Error> {
//!     while let Some(message) = websocket.next().await {
//!         // Queued: it leaves when `next` has nothing more to read, with what else is queued.
//!         websocket.feed(message?).await?;
//!     }
//!     Ok(())
//! }
//!
//! let listener = TcpListener::bind("127.0.0.1:9001").await?;
//! let handler = |mut websocket, peer| async move {
//!     if let Err(error) = echo(&mut websocket).await {
//!         println!("{peer}: {error}");
//!     }
//! };
//! Server::new().serve(listener, handler).await;
//! # Ok(())
//! # }
//! ```
//!
//! A server that looks at its clients first:
//!
//! ```no_run
//! # async fn example(stream: tokio::net::TcpStream) -> Result<(), sockeye_ws::net::AcceptError> {
//! use sockeye_ws::net::{Refusal, Server};
//!
//! let server = Server::builder()
//!     .path("/chat")
//!     .origins(["https://example.com"])
//!     .protocols(["v2", "v1"])
//!     .verify(|request| match request.headers().get("authorization") {
//!         Some(_) => Ok(()),
//!         None => Err(Refusal::unauthorized().body("who are you?")),
//!     })
//!     .build();
//! let mut websocket = server.accept(stream).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Receiving and sending in two tasks, and a message to many:
//!
//! ```no_run
//! # use sockeye_ws::net::{AnyStream, WebSocket};
//! # async fn example(websocket: WebSocket<AnyStream>) -> Result<(), sockeye_ws::net::Error> {
//! use sockeye_ws::Frame;
//!
//! let (mut reader, mut writer) = websocket.split();
//! tokio::spawn(async move { while let Some(Ok(_message)) = reader.next().await {} });
//! // Encoded once, and compressed once, for however many writers.
//! let frame = Frame::text("to all of you");
//! writer.send_frame(&frame).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The crate's folder `examples` has whole programs: `echo_server`, `json_client`,
//! `broadcast_hub`, `compressed_feed`, `axum_echo`.
//!
//! # What it promises
//!
//! * **Cancel safety.** Any future of a connection may be dropped wherever it waits, as `select!`
//!   does: no message is lost, doubled or cut in two. A `send` that is dropped while it waits for
//!   room sends nothing; afterwards its message is queued and leaves later.
//! * **Order.** Messages arrive in the order they were sent. Pongs and the close frame stand behind
//!   what was queued before them.
//! * **Close.** [`next`](WebSocket::next) ends with [`Message::Close`] where both sides said
//!   goodbye, else with the error that ended the connection, and then yields `None`. By then our
//!   own close frame has been written, behind all that was queued, and our side of the stream has
//!   ended. After a protocol error the peer gets up to a second to hear its code before the error
//!   is handed out.
//! * **Back-pressure.** Nothing is read ahead of the application, but for what one read brought;
//!   not calling `next` makes the peer wait. `send` waits while more than
//!   [`write_buffer_bytes_max`](Options::write_buffer_bytes_max) wait to be written.
//! * **Bounds.** All that a peer can make a connection hold, and for how long, has a limit
//!   ([`Limits`]): a message's bytes and fragments, pings without an answer, the
//!   handshake's head and time, the wait for a close frame.
//! * **Long messages** need not be held whole: [`next_part`](WebSocket::next_part) and
//!   [`send_part`](WebSocket::send_part) take them as they come.
//! * **Memory.** An idle connection that was accepted over plain TCP takes at most 1 KiB of heap,
//!   its socket in the runtime and the task of an echo included. Buffers are the thread's; a
//!   connection owns one while part of a message, an unread or an unwritten one is there.
//! * **No tasks, no channels, no `unsafe`.** A connection is driven by whoever polls it. Pings are
//!   answered, and deadlines looked at, while `next` is awaited.
//!
//! # Ending a server
//!
//! A server keeps no list of its connections, so that their tasks end them:
//!
//! 1. [`Server::close`] ends [`serve`](Server::serve), and handshakes get 503 from then on.
//! 2. Each task hears of it ([`Server::closing`] beside `next`, in a `select!`) and calls
//!    [`start_close`](WebSocket::start_close) with
//!    [`CloseCode::GOING_AWAY`](crate::CloseCode::GOING_AWAY), 1001. It goes on with `next`, which
//!    writes what is queued and the close frame, until that yields `None`.
//! 3. Whoever spawned the tasks waits for them (a `tokio::task::JoinSet`), no longer than it
//!    likes; a task that is aborted then closes its stream without a word.
//!
//! A peer that does not answer is given up after [`Limits`]`::close_timeout`. The example
//! `echo_server` does all that.
//!
//! # Options
//!
//! | what it bounds | where | default |
//! |---|---|---|
//! | message, in bytes | [`Limits`]`::message_bytes_max` | 100 MiB |
//! | the same, of one that is received in parts | [`Limits`]`::streamed_bytes_max` | 1 GiB |
//! | frames of a message | [`Limits`]`::fragments_max` | 16,384 |
//! | pings that wait for their answer | [`Limits`]`::pending_pongs_max` | 60 |
//! | wait for the peer's close frame | [`Limits`]`::close_timeout` | 30 s |
//! | wait for the peer to end its side, last of all | fixed; at most `close_timeout` | 1 s |
//! | what waits to be sent, in bytes | [`Options::write_buffer_bytes_max`] | 128 KiB |
//! | silence before a ping, and after it | [`KeepAlive`] | off |
//! | a server's handshake | [`ServerBuilder::handshake_timeout`] | 10 s |
//! | a refusal's way to its client | [`ServerBuilder::refusal_timeout`] | 1 s |
//! | a client's handshake, all of it | [`Client::handshake_timeout`] | 30 s |
//! | head of a request or response | [`HeadLimits`] | 16 KiB, 100 headers |
//! | redirects | [`Client::redirects_max`] | 0 |
//! | body of an unexpected response | [`Client::body_bytes_max`] | 64 KiB |
//! | wait for that body | [`Client::body_timeout`] | 2 s |
//!
//! Compression is off until [a server](ServerBuilder::deflate) or [a client](Client::deflate) is
//! given its [options](crate::deflate::Options). What else they can be told is at [`ServerBuilder`]
//! and [`Client`].
//!
//! [`Limits`]: crate::Limits
//! [`HeadLimits`]: crate::handshake::head::HeadLimits
//!
//! # Coming from elsewhere
//!
//! *From `tokio-tungstenite`:* `next` and `send` mean the same, and `Stream` and `Sink` are there.
//! [`Text`] is its `Utf8Bytes`. Pongs need no flush. A close is a last message and then `None`, not
//! errors that say "closed". The handshake is checked whole (key, version, host, subprotocols), and
//! refusals are sent. There is compression, and a [`Frame`](crate::Frame) for many receivers.
//!
//! *From Node's `ws`:* events are the items of `next`: `message`, `ping` and `pong` are
//! [`Message`]s, `close` is [`Message::Close`] or an error whose
//! [`close_code`](Error::close_code) is the event's. `verifyClient` is
//! [`verify`](ServerBuilder::verify), `handleProtocols` is
//! [`choose_protocol`](ServerBuilder::choose_protocol), the event `headers` is
//! [`response_headers`](ServerBuilder::response_headers), `terminate` and `bufferedAmount` have
//! their names. Other than there: a subprotocol is chosen only from a list of the server's; an
//! ordinary request gets 426; compression is off until asked for, in clients too; messages have a
//! limit, and so have handshakes in time.

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

/// What requests, responses and headers are made of here.
pub use http;
/// What [`Client::tls`] is configured with.
#[cfg(feature = "rustls")]
pub use tokio_rustls::rustls;

pub use client::{Client, ConnectError, ProxyError, UnexpectedResponse, connect};
pub use error::{Error, Fault};
pub use message::{CloseFrame, Message, MessagePart, Text};
pub use options::{KeepAlive, Options};
#[cfg(feature = "hyper")]
pub use server::Upgrade;
#[cfg(feature = "axum")]
pub use server::WebSocketUpgrade;
pub use server::{AcceptError, Handshake, Refusal, Server, ServerBuilder, VerifyFuture};
pub use split::{WebSocketReader, WebSocketWriter};
pub use stream::AnyStream;
pub use websocket::WebSocket;
