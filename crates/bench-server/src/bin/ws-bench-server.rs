//! The WebSocket server that the load generator measures, on `sockeye-ws` alone; its contract is in
//! `bench/README.md`. `PORT` is where it listens, `HUB=channel` broadcasts through a queue for each
//! connection, in place of writing to all of them in turn.
//! Knows nothing of Socket.IO; that is the other binary.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use futures_util::{FutureExt, SinkExt, StreamExt};
use sockeye_ws::Limits;
use sockeye_ws::net::{Error, Message, Server, WebSocket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::Sender;
use tokio::task::{LocalSet, spawn_local};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many messages a receiver may be behind.
const BEHIND_MAX: usize = 256;

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve())
}

async fn serve() -> io::Result<()> {
    let limits = Limits { message_bytes_max: 100_000_000, ..Limits::default() };
    let server = Server::builder().limits(limits).build();
    let hub = Rc::new(Hub::new());
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".into());
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).await?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        spawn_local(accept(server.clone(), hub.clone(), stream));
    }
}

/// The handshake; the connection gets a task of its own, which is no larger than it has to be.
async fn accept(server: Server, hub: Rc<Hub>, stream: TcpStream) {
    let Ok(handshake) = server.receive(stream).await else { return };
    let is_broadcast = handshake.request().uri().path() == "/broadcast";
    let Ok(websocket) = handshake.accept().await else { return };
    // How a connection ends is its client's affair.
    match &*hub {
        _ if !is_broadcast => drop(spawn_local(async { drop(echo(websocket).await) })),
        Hub::Direct(_) => drop(spawn_local(async move { drop(hub.join(websocket).await) })),
        Hub::Channel(sender) => {
            let sender = sender.clone();
            drop(spawn_local(async { drop(relay(websocket, sender).await) }));
        }
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

type Shared = Rc<RefCell<WebSocket<TcpStream>>>;

enum Hub {
    /// The connections, which share a thread.
    Direct(RefCell<Vec<Shared>>),
    Channel(Sender<Message>),
}

impl Hub {
    fn new() -> Self {
        match std::env::var("HUB").as_deref() {
            Ok("channel") => Self::Channel(Sender::new(BEHIND_MAX)),
            _ => Self::Direct(RefCell::default()),
        }
    }

    async fn join(&self, websocket: WebSocket<TcpStream>) -> Result<(), Error> {
        let Self::Direct(members) = self else { return Ok(()) };
        let own = Rc::new(RefCell::new(websocket));
        members.borrow_mut().push(own.clone());
        let ended = send_to_all(&own, members).await;
        members.borrow_mut().retain(|member| !Rc::ptr_eq(member, &own));
        ended
    }
}

/// Each message goes to all, and those that came together leave together.
async fn send_to_all(own: &Shared, members: &RefCell<Vec<Shared>>) -> Result<(), Error> {
    while let Some(first) = poll_fn(|cx| own.borrow_mut().poll_next_unpin(cx)).await {
        let mut messages = vec![first?];
        while let Some(Some(message)) = own.borrow_mut().next().now_or_never() {
            messages.push(message?);
        }
        messages.retain(Message::is_data);
        let all = members.borrow().clone();
        for member in all {
            // Who has gone is found out by its own task.
            let _ = send(&member, &messages).await;
        }
    }
    Ok(())
}

async fn send(member: &Shared, messages: &[Message]) -> Result<(), Error> {
    for message in messages {
        poll_fn(|cx| member.borrow_mut().poll_ready_unpin(cx)).await?;
        member.borrow_mut().start_send_unpin(message.clone())?;
    }
    poll_fn(|cx| member.borrow_mut().poll_flush_unpin(cx)).await
}

/// Reads what goes to all, and writes what comes from all.
async fn relay(mut websocket: WebSocket<TcpStream>, hub: Sender<Message>) -> Result<(), Error> {
    let mut messages = hub.subscribe();
    loop {
        tokio::select! {
            received = websocket.next() => match received {
                Some(message) => {
                    let message = message?;
                    if message.is_data() {
                        // There is always one who receives: the sender itself.
                        let _ = hub.send(message);
                    }
                }
                None => return Ok(()),
            },
            Ok(message) = messages.recv() => {
                websocket.feed(message).await?;
                while let Ok(message) = messages.try_recv() {
                    websocket.feed(message).await?;
                }
                websocket.flush().await?;
            }
            // It is too slow, and what it lacks shows as lost.
            else => return Ok(()),
        }
    }
}
