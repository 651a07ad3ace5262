//! What an idle client costs, counted by the allocator, in a process of its own.
//! Does not look at resident memory or at the kernel's buffers.

#![expect(clippy::print_stdout, reason = "the figure is what this is for")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use axum::Router;
use peak_alloc::PeakAlloc;
use sockeye::{Data, PerMessageDeflate, Server, ServerBuilder, Socket};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Of them some 500 are tokio's: the socket's readiness, the timer, the task's header.
const IDLE_BYTES_MAX: usize = 2304;
/// What permessage-deflate without contexts adds.
const DEFLATE_BYTES_MAX: usize = 128;

/// Enough that what the runtime itself allocates does not show.
const CONNECTIONS: usize = 300;

const REQUEST: &[u8] = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n\
    Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

/// Reads until something has come.
fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut read = [0; 1024];
    let mut len = 0;
    while !read[..len].windows(end.len()).any(|window| window == end) {
        let count = stream.read(&mut read[len..]).expect("it comes");
        assert!(count > 0, "{}", String::from_utf8_lossy(&read[..len]));
        len += count;
    }
}

fn send(stream: &mut TcpStream, packet: &[u8]) {
    // In one piece, or the second would wait for an acknowledgement.
    let mut frame = [0; 32];
    frame[..2].copy_from_slice(&[0x81, 0x80 | packet.len() as u8]);
    frame[6..6 + packet.len()].copy_from_slice(packet);
    stream.write_all(&frame[..6 + packet.len()]).expect("it is taken");
}

/// A client that has joined `/`, has had one event echoed, and is silent from then on. It has no
/// heap of its own.
fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(REQUEST).expect("it is taken");
    read_until(&mut stream, b"\r\n\r\n");
    send(&mut stream, b"40");
    read_until(&mut stream, b"40{\"sid\":");
    send(&mut stream, b"42[\"echo\",1]");
    read_until(&mut stream, b"42[\"echo\",1]");
    stream
}

/// The bytes of heap for each of many idle connections.
fn measure(builder: ServerBuilder) -> usize {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let io = builder.build();
    io.on("echo", async |socket: Socket, Data(number): Data<u32>| {
        socket.emit("echo", number).expect("it is connected");
    });
    let listener = runtime.block_on(sockeye::listen("127.0.0.1:0")).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let app = Router::new().layer(io.layer());
    runtime.spawn(async move { axum::serve(listener, app).await });

    // The first ones bring what the runtime and the thread allocate once, and lists room for more.
    let mut clients: Vec<TcpStream> = Vec::with_capacity(2 * CONNECTIONS);
    clients.extend((0..120).map(|_| connect(address)));
    settle(&runtime);
    let before = ALLOCATOR.current_usage();
    clients.extend((0..CONNECTIONS).map(|_| connect(address)));
    settle(&runtime);
    (ALLOCATOR.current_usage() - before) / CONNECTIONS
}

/// The last task may not be back in its wait when its client has the answer: the runtime's only
/// thread comes to what is spawned behind it.
fn settle(runtime: &Runtime) {
    for _ in 0..100 {
        runtime.block_on(runtime.spawn(tokio::task::yield_now())).expect("it does not panic");
    }
}

#[test]
fn an_idle_client_costs_little() {
    let plain = measure(Server::builder());
    println!("{plain} bytes of heap for each idle client");
    let deflate =
        measure(Server::builder().per_message_deflate(Some(PerMessageDeflate::default())));
    println!("{deflate} bytes where WebSocket messages are compressed");
    assert!(plain > 1000, "{plain} bytes cannot be all");
    assert!(plain <= IDLE_BYTES_MAX, "{plain} bytes");
    assert!(deflate <= plain + DEFLATE_BYTES_MAX, "{deflate} bytes beside {plain}");
}
