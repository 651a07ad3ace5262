//! A server and the clients that talk to it, over streams in memory or over loopback.
//! Does not know what the tests look for.

pub(crate) mod client;
pub(crate) mod http;
mod polling;
mod returning;
mod websocket;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use sockeye::Server;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};

pub(crate) use polling::Polling;
pub(crate) use returning::{Returning, answering, without_offsets};
pub(crate) use websocket::WebSocket;

/// How much a stream holds before its writer waits. Small, so that heads, frames and payloads are
/// cut anywhere.
const STREAM_BYTES: usize = 192;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A server that is served by hyper, without a framework.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) io: Server,
    /// Where it listens; `None` for streams in memory.
    address: Option<SocketAddr>,
    balanced: Arc<Balanced>,
}

/// The servers whose turn it is next, one after the other.
#[derive(Default)]
struct Balanced {
    others: Vec<Server>,
    turn: AtomicUsize,
}

impl Host {
    /// Serves streams in memory.
    pub(crate) fn in_memory(io: Server) -> Self {
        Self::balanced(io, Vec::new())
    }

    /// Serves streams in memory as a balancer does that is not sticky: the first connection is of
    /// `io`, the next of the first of the others, and so on.
    pub(crate) fn balanced(io: Server, others: Vec<Server>) -> Self {
        Self { io, address: None, balanced: Arc::new(Balanced { others, ..Balanced::default() }) }
    }

    /// Serves loopback, with sending buffers as small as the kernel has them.
    pub(crate) async fn on_loopback(io: Server) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_send_buffer_size(1).expect("what is accepted inherits it");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(64).expect("it listens");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(accept(listener, io.clone()));
        Self::at(io, address)
    }

    /// What is served already, at an address.
    pub(crate) fn at(io: Server, address: SocketAddr) -> Self {
        Self { io, address: Some(address), balanced: Arc::default() }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("it is over loopback")
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        self.address.is_none()
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Box<dyn Stream> {
        let Some(address) = self.address else {
            let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
            let Balanced { others, turn } = &*self.balanced;
            let turn = turn.fetch_add(1, Ordering::Relaxed) % (others.len() + 1);
            serve(if turn == 0 { &self.io } else { &others[turn - 1] }, theirs);
            return Box::new(ours);
        };
        let socket = TcpSocket::new_v4().expect("a socket");
        // Less than a segment of loopback has the kernel announce a closed window until nothing is
        // left in it, and the sender try it with pauses that double.
        socket.set_recv_buffer_size(1 << 16).expect("the kernel takes it");
        Box::new(socket.connect(address).await.expect("it listens"))
    }
}

async fn accept(listener: TcpListener, io: Server) {
    while let Ok((stream, _)) = listener.accept().await {
        serve(&io, stream);
    }
}

fn serve(io: &Server, stream: impl Stream + 'static) {
    let service = TowerToHyperService::new(io.service());
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client that vanishes is an error to hyper, and none here.
    tokio::spawn(async { drop(serving.with_upgrades().await) });
}

/// What happened, in its order.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<String>>>);

impl Record {
    pub(crate) fn add(&self, what: &str) {
        self.0.lock().expect("no holder panics").push(what.to_owned());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("no holder panics").clone()
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no holder panics"))
    }
}

/// The failures that the error hook is told: the event and the error's code.
pub(crate) fn reporting(io: &Server) -> Record {
    let reports = Record::default();
    let into = reports.clone();
    io.on_error(move |_, event, error| into.add(&format!("{event}: {}", error.code())));
    reports
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to this: {what}");
}

/// Waits until the server holds nothing of any client.
pub(crate) async fn until_empty(io: &Server) {
    let root = io.of("/");
    until("no session, socket or room is left", || {
        let members = io.broadcast().sockets().len();
        io.session_count() + root.socket_count() + root.room_count() + members == 0
    })
    .await;
}

/// The server's side of the only socket there is.
pub(crate) fn only_socket(io: &Server) -> sockeye::Socket {
    let mut sockets = io.of("/").sockets();
    assert_eq!(sockets.len(), 1);
    sockets.remove(0)
}
