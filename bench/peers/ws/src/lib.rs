//! What the WebSocket peers share: listening, the handshake, and the two ways to broadcast. The
//! contract is in ../../README.md.
//!
//! All peers get the bare TCP stream after this one handshake, so that what is measured is their
//! work on frames and not that of an HTTP server. They run on one thread.
//!
//! env: PORT, DEFLATE=1, HUB=direct|channel

mod handshake;
mod hub;

use std::rc::Rc;

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::net::{TcpListener, TcpStream};

pub use hub::{Channels, Hub, Unsent};

#[cfg(not(feature = "count-heap"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[cfg(feature = "count-heap")]
#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// Messages that are answered with one flush, where so many have arrived.
const BATCH_MAX: usize = 32;
/// The load generator sends 1 MiB; nobody is to be stopped by a limit.
pub const MESSAGE_BYTES_MAX: usize = 100_000_000;

/// A connection after its handshake.
pub struct Upgraded {
    pub stream: TcpStream,
    /// whether it gets what others send
    pub broadcast: bool,
    /// the agreed `Sec-WebSocket-Extensions`
    pub extensions: Option<&'static str>,
}

pub fn env(name: &str, value: &str) -> bool {
    std::env::var(name).is_ok_and(|v| v == value)
}

/// Runs `connection` for each client. `deflate`: whether the peer can, if it is asked to.
pub fn serve<F: Future<Output = ()> + 'static>(
    deflate: bool,
    connection: impl Fn(Upgraded) -> F + 'static,
) {
    let deflate = deflate && env("DEFLATE", "1");
    let connection = Rc::new(connection);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = listen();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let connection = Rc::clone(&connection);
            tokio::task::spawn_local(async move {
                let Some(upgraded) = Box::pin(handshake::accept(stream, deflate)).await else {
                    return;
                };
                // its own task, so that it is no larger than it has to be
                tokio::task::spawn_local(connection(upgraded));
            });
        }
    });
}

fn listen() -> TcpListener {
    unsafe {
        let mut l = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &l) != 0 {
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut l);
            l.rlim_cur = l.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &l);
        }
    }
    let port = std::env::var("PORT").ok().and_then(|v| v.parse().ok()).unwrap_or(3000);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_tcp_nodelay(true).unwrap(); // inherited by what it accepts
    socket.set_nonblocking(true).unwrap();
    socket.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], port)).into()).unwrap();
    socket.listen(4096).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

/// The connection has ended; how does not matter here.
pub struct Ended;

/// A library whose connections are streams and sinks of its own messages.
pub trait Library: 'static {
    type Connection: Stream<Item = Self::Item> + Sink<Self::Message> + Unpin;
    type Item;
    type Message: Clone + 'static;

    /// What to send in answer, if it is text or binary.
    fn message(item: Self::Item) -> Result<Option<Self::Message>, Ended>;
}

/// Sends back what comes, a batch of ready messages with one flush.
pub async fn echo<L: Library>(mut connection: L::Connection) {
    while let Some(batch) = next_batch::<L, _>(&mut connection).await {
        for message in batch {
            if connection.feed(message).await.is_err() {
                return;
            }
        }
        if connection.flush().await.is_err() {
            return;
        }
    }
}

/// One message and what is ready behind it.
async fn next_batch<L: Library, S: Stream<Item = L::Item> + Unpin>(
    stream: &mut S,
) -> Option<impl Iterator<Item = L::Message> + use<L, S>> {
    let first = loop {
        if let Some(message) = L::message(stream.next().await?).ok()? {
            break message;
        }
    };
    let mut more = Vec::new();
    while more.len() < BATCH_MAX
        && let Some(Some(item)) = stream.next().now_or_never()
    {
        more.extend(L::message(item).ok()?);
    }
    Some(std::iter::once(first).chain(more))
}

/// Serves a library of streams and sinks: `connect` makes its connection of a TCP stream.
pub fn serve_library<L: Library>(
    deflate: bool,
    connect: impl Fn(Upgraded) -> Option<L::Connection> + 'static,
) {
    let connect = Rc::new(connect);
    let hub = Rc::new(Hub::<L>::default());
    let channels = Rc::new(Channels::<L::Message>::default());
    let through_channels = env("HUB", "channel");
    serve(deflate, move |upgraded| {
        let (connect, hub, channels) = (connect.clone(), hub.clone(), channels.clone());
        async move {
            let broadcast = upgraded.broadcast;
            let Some(connection) = connect(upgraded) else { return };
            match broadcast {
                false => echo::<L>(connection).await,
                true if through_channels => channels.run::<L>(connection).await,
                true => hub.join(connection).await,
            }
        }
    });
}
