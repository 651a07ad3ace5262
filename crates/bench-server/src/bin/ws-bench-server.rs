//! The WebSocket server that the load generator measures, on `sockeye-ws` alone; its contract is in
//! `bench/README.md`. `PORT` is where it listens, `DEFLATE=1` compresses, and broadcasts are
//! prepared once for all; with `HUB=each` each connection encodes and compresses for itself.
//! Knows nothing of Socket.IO; that is the other binary.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use futures_util::{FutureExt, SinkExt, StreamExt};
use sockeye_ws::net::{Error, Message, Server, WebSocket};
#[cfg(feature = "count-heap")]
use sockeye_ws::net::{Refusal, http::StatusCode};
use sockeye_ws::{Frame, Limits, deflate};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{LocalSet, spawn_local};

#[cfg(not(feature = "count-heap"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[cfg(feature = "count-heap")]
#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve())
}

fn is_set(name: &str, value: &str) -> bool {
    std::env::var(name).is_ok_and(|set| set == value)
}

async fn serve() -> io::Result<()> {
    let limits = Limits { message_bytes_max: 100_000_000, ..Limits::default() };
    let mut builder = Server::builder().limits(limits);
    if is_set("DEFLATE", "1") {
        builder = builder.deflate(deflate::Options::default());
    }
    let server = builder.build();
    let hub = Rc::new(Hub { members: RefCell::default(), prepares: !is_set("HUB", "each") });
    let listener = listen()?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        spawn_local(accept(server.clone(), hub.clone(), stream));
    }
}

fn listen() -> io::Result<TcpListener> {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(3000);
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // What is accepted inherits it.
    socket.set_nodelay(true)?;
    socket.bind(SocketAddr::from(([0, 0, 0, 0], port)))?;
    // tokio's own backlog overflows under the load generator's window of handshakes.
    socket.listen(4096)
}

/// The handshake; the connection gets a task of its own, which is no larger than it has to be.
async fn accept(server: Server, hub: Rc<Hub>, stream: TcpStream) {
    let Ok(handshake) = server.receive(stream).await else { return };
    #[cfg(feature = "count-heap")]
    if handshake.request().uri().path() == "/heap" {
        let heap = ALLOCATOR.current_usage().to_string();
        return handshake.refuse(Refusal::new(StatusCode::OK).body(heap)).await;
    }
    let is_broadcast = handshake.request().uri().path() == "/broadcast";
    let Ok(websocket) = handshake.accept().await else { return };
    // How a connection ends is its client's affair.
    if is_broadcast {
        spawn_local(async move { drop(hub.join(websocket).await) });
    } else {
        spawn_local(async move { drop(echo(websocket).await) });
    }
}

/// What is fed leaves while the next message is waited for.
async fn echo(mut websocket: WebSocket<TcpStream>) -> Result<(), Error> {
    while let Some(message) = websocket.next().await {
        let message = message?;
        if message.is_data() {
            websocket.feed(message).await?;
        }
    }
    Ok(())
}

/// A connection that its own task and those that broadcast use in turn.
type Member = Rc<RefCell<WebSocket<TcpStream>>>;

struct Hub {
    members: RefCell<Vec<Member>>,
    prepares: bool,
}

impl Hub {
    async fn join(&self, websocket: WebSocket<TcpStream>) -> Result<(), Error> {
        let own = Rc::new(RefCell::new(websocket));
        self.members.borrow_mut().push(own.clone());
        let ended = self.relay(&own).await;
        self.members.borrow_mut().retain(|member| !Rc::ptr_eq(member, &own));
        ended
    }

    /// Each message goes to all, and those that came together leave together.
    async fn relay(&self, own: &Member) -> Result<(), Error> {
        while let Some(first) = poll_fn(|cx| own.borrow_mut().poll_next_unpin(cx)).await {
            let mut messages = vec![first?];
            while let Some(Some(message)) = own.borrow_mut().next().now_or_never() {
                messages.push(message?);
            }
            messages.retain(Message::is_data);
            let frames: Vec<_> = messages.iter().filter_map(prepare).collect();
            let all = self.members.borrow().clone();
            for member in all {
                // Who has gone is found out by its own task.
                let _ = match self.prepares {
                    true => send_frames(&member, &frames).await,
                    false => send(&member, &messages).await,
                };
            }
        }
        Ok(())
    }
}

fn prepare(message: &Message) -> Option<Frame> {
    match message {
        Message::Text(text) => Some(Frame::text(text)),
        Message::Binary(data) => Some(Frame::binary(data)),
        _ => None,
    }
}

async fn send_frames(member: &Member, frames: &[Frame]) -> Result<(), Error> {
    if let [frame] = frames {
        poll_fn(|cx| member.borrow_mut().poll_ready_unpin(cx)).await?;
        // There is room, so this queues it whether or not it is done with the writing.
        let sent = member.borrow_mut().send_frame(frame).now_or_never();
        return match sent {
            Some(sent) => sent,
            None => flush(member).await,
        };
    }
    for frame in frames {
        // As long as it waits for room it has queued nothing.
        poll_fn(|cx| pin!(member.borrow_mut().feed_frame(frame)).poll(cx)).await?;
    }
    flush(member).await
}

async fn send(member: &Member, messages: &[Message]) -> Result<(), Error> {
    for message in messages {
        poll_fn(|cx| member.borrow_mut().poll_ready_unpin(cx)).await?;
        member.borrow_mut().start_send_unpin(message.clone())?;
    }
    flush(member).await
}

async fn flush(member: &Member) -> Result<(), Error> {
    poll_fn(|cx| member.borrow_mut().poll_flush_unpin(cx)).await
}
