//! What an idle connection costs, counted by the allocator, in a process of its own.
//! Does not look at resident memory or at the kernel's buffers.

#![expect(clippy::print_stdout, reason = "the figure is what this is for")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use sockeye_ws::net::Server;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The promise of the documentation.
const IDLE_BYTES_MAX: isize = 1024;
/// Enough that what the runtime itself allocates does not show.
const CONNECTIONS: usize = 400;

const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// "Hello", masked and plain (RFC 6455 §5.7).
const HELLO: &[u8] = &[0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
const ANSWER: &[u8] = b"\x81\x05Hello";

fn live_bytes() -> isize {
    ALLOCATOR.current_usage() as isize
}

/// A client that has had one message echoed, and is silent from then on. It has no heap of its own.
fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(REQUEST).unwrap();
    let mut head = [0; 129];
    stream.read_exact(&mut head).unwrap();
    assert!(head.ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&head));
    stream.write_all(HELLO).unwrap();
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, ANSWER);
    stream
}

#[test]
fn an_idle_accepted_connection_costs_at_most_a_kilobyte() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        let server = Server::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = server.clone();
            tokio::spawn(async move {
                let mut websocket = server.accept(stream).await.unwrap();
                while let Some(Ok(message)) = websocket.next().await {
                    if message.is_data() && websocket.send(message).await.is_err() {
                        break;
                    }
                }
            });
        }
    });

    // The first ones bring what the runtime and the thread allocate once.
    let mut clients: Vec<TcpStream> = Vec::with_capacity(2 * CONNECTIONS);
    clients.extend((0..50).map(|_| connect(address)));
    let before = live_bytes();
    clients.extend((0..CONNECTIONS).map(|_| connect(address)));
    // The last one's task may not be back in its wait when its client has the answer.
    let deadline = Instant::now() + Duration::from_secs(10);
    let each = loop {
        let each = (live_bytes() - before) / CONNECTIONS as isize;
        if each <= IDLE_BYTES_MAX || Instant::now() > deadline {
            break each;
        }
        std::thread::yield_now();
    };
    println!("{each} bytes of heap for each idle connection");
    assert!(each > 256, "{each} bytes cannot be all: tokio's own part is larger");
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes of heap for each idle connection");
}
