//! What peers that mean harm can make a server hold, counted by the allocator over real loopback,
//! in a process of its own; and that others are served meanwhile. Says nothing of what such peers
//! are told: `tokio/abuse` and `tokio/illegal` do.

#![expect(clippy::print_stdout, reason = "the figures are worth a look")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use peak_alloc::PeakAlloc;
use sockeye_ws::net::{KeepAlive, Message, Server, ServerBuilder};
use sockeye_ws::{Limits, deflate};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const LIMITS: Limits = Limits {
    message_bytes_max: MIB,
    streamed_bytes_max: 1 << 30,
    fragments_max: 16_384,
    pending_pongs_max: 60,
    close_timeout: Duration::from_millis(300),
};
/// How many do the same at once.
const PEERS: usize = 8;

const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n";
const PLAIN: &[u8] = b"\r\n";
const COMPRESSED: &[u8] = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

/// "Hello", masked and plain (RFC 6455 §5.7).
const HELLO: &[u8] = &[0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
const ANSWER: &[u8] = b"\x81\x05Hello";

/// 100 MiB of zeros, compressed: masked with a zero key.
static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    for _ in 0..100 {
        encoder.write_all(&vec![0; MIB]).unwrap();
    }
    let payload = encoder.finish().unwrap();
    [&[0xC2, 0xFF][..], &(payload.len() as u64).to_be_bytes(), &[0; 4], &payload].concat()
});

/// An echo server on a thread of its own.
struct Target {
    address: SocketAddr,
    /// How many streams it has accepted and not left.
    open: Arc<AtomicUsize>,
}

impl Target {
    fn start(options: ServerBuilder) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&open);
        let server = options.limits(LIMITS).deflate(deflate::Options::default()).build();
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                serve(server, TcpListener::from_std(listener).unwrap(), count).await
            });
        });
        Self { address, open }
    }

    /// A peer behind its handshake. It has no heap of its own.
    fn connect(&self, offer: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(REQUEST).unwrap();
        stream.write_all(offer).unwrap();
        let mut head = [0; 512];
        let mut len = 0;
        while !head[..len].ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut head[len..=len]).unwrap();
            len += 1;
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        stream
    }

    /// Lets peers attack, all at once, while others are served. What the server has held for each
    /// of them at the most is held against a bound; all of it is given back.
    fn attack(&self, name: &str, bytes_max: usize, attack: impl Fn(&Self) + Sync) {
        let all_at_once = || {
            thread::scope(|scope| {
                let peers: Vec<_> = (0..PEERS).map(|_| scope.spawn(|| attack(self))).collect();
                let mut other = self.connect(PLAIN);
                is_served(&mut other);
                while peers.iter().any(|peer| !peer.is_finished()) {
                    is_served(&mut other);
                }
            });
            while self.open.load(Ordering::Acquire) > 0 {
                thread::yield_now();
            }
        };
        // What the thread keeps for all comes first: buffers, decompressors, a timer.
        all_at_once();
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        all_at_once();
        let each = (ALLOCATOR.peak_usage() - before) / PEERS;
        println!("{name}: {each} bytes for each at the most");
        assert!(each <= bytes_max, "{name}: {each} bytes for each at the most");
        let left = ALLOCATOR.current_usage().saturating_sub(before);
        assert!(left <= 64 * KIB, "{name}: {left} bytes are left");
    }
}

/// A round trip of somebody else's.
fn is_served(stream: &mut TcpStream) {
    stream.write_all(HELLO).unwrap();
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, ANSWER);
}

async fn serve(server: Server, listener: TcpListener, open: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (server, open) = (server.clone(), Arc::clone(&open));
        open.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(async move {
            if let Ok(mut websocket) = server.accept(stream).await {
                while let Some(Ok(message)) = websocket.next().await {
                    let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
                    if is_data && websocket.send(message).await.is_err() {
                        break;
                    }
                }
            }
            open.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

/// Writes the same again and again, until the server has had enough of it, or `times` times.
fn pour(stream: &mut TcpStream, bytes: &[u8], times: usize) {
    // 64 KiB in one write, without heap.
    let mut chunk = [0; 64 * KIB];
    let in_chunk = chunk.len() / bytes.len();
    for copy in chunk.chunks_exact_mut(bytes.len()) {
        copy.copy_from_slice(bytes);
    }
    for _ in 0..times.div_ceil(in_chunk) {
        if stream.write_all(&chunk[..in_chunk * bytes.len()]).is_err() {
            return;
        }
    }
}

/// Reads until the server ends the stream, in order or not.
fn drain(stream: &mut TcpStream) {
    let mut rest = [0; 4 * KIB];
    while stream.read(&mut rest).is_ok_and(|count| count > 0) {}
}

/// One after the other: what is counted is the whole process's.
#[test]
fn memory_stays_bounded_and_others_are_served() {
    let bomb = &*BOMB;
    // On a busy machine a time that is short would catch others, too.
    let target = Target::start(Server::builder().handshake_timeout(Duration::from_secs(60)));

    target.attack("a flood of fragments of one byte", 64 * KIB, |target| {
        let mut stream = target.connect(PLAIN);
        stream.write_all(&[0x02, 0x81, 0, 0, 0, 0, 7]).unwrap();
        pour(&mut stream, &[0x00, 0x81, 0, 0, 0, 0, 7], 200_000);
        drain(&mut stream);
    });
    target.attack("a flood of empty fragments", 16 * KIB, |target| {
        let mut stream = target.connect(PLAIN);
        stream.write_all(&[0x02, 0x80, 0, 0, 0, 0]).unwrap();
        pour(&mut stream, &[0x00, 0x80, 0, 0, 0, 0], 200_000);
        drain(&mut stream);
    });
    target.attack("a flood of compressed fragments that hold nothing", 128 * KIB, |target| {
        let mut stream = target.connect(COMPRESSED);
        // Each is a flush and no more, which ends no message.
        stream.write_all(&[0x42, 0x85, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]).unwrap();
        pour(&mut stream, &[0x00, 0x85, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], 200_000);
        drain(&mut stream);
    });
    target.attack("a flood of pings by a peer that reads nothing", 128 * KIB, |target| {
        let mut stream = target.connect(PLAIN);
        let mut ping = [0; 6 + 125];
        ping[..2].copy_from_slice(&[0x89, 0xFD]);
        pour(&mut stream, &ping, usize::MAX);
    });
    target.attack("messages of a peer that reads nothing", 256 * KIB, |target| {
        let mut stream = target.connect(PLAIN);
        let mut message = [0; 8 + 10_000];
        message[..4].copy_from_slice(&[0x82, 0xFE, (10_000_u16 >> 8) as u8, 10_000_u16 as u8]);
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        pour(&mut stream, &message, usize::MAX);
    });
    target.attack("a decompression bomb", 2 * MIB + 100 * KIB, |target| {
        let mut stream = target.connect(COMPRESSED);
        let _ = stream.write_all(bomb);
        drain(&mut stream);
    });
    target.attack("a declared length of a message that does not come", 16 * KIB, |target| {
        let mut stream = target.connect(PLAIN);
        stream.write_all(b"\x82\xFF\0\0\0\0\0\x10\0\0\0\0\0\0some of it").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        drain(&mut stream);
    });
    target.attack("a huge head", 64 * KIB, |target| {
        let mut stream = TcpStream::connect(target.address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        pour(&mut stream, b"X: a header and another\r\n", 1_000_000);
        drain(&mut stream);
    });
    let target = Target::start(Server::builder().handshake_timeout(Duration::from_secs(2)));
    target.attack("a head that comes byte by byte", 16 * KIB, |target| {
        let mut stream = TcpStream::connect(target.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        // Until the server answers, which it does when the time is over.
        while stream.write_all(b"G").is_ok() && stream.read(&mut [0]).is_err() {}
        stream.set_read_timeout(None).unwrap();
        drain(&mut stream);
    });
    let keep_alive =
        KeepAlive { interval: Duration::from_secs(2), timeout: Duration::from_millis(200) };
    let target = Target::start(Server::builder().keep_alive(keep_alive));
    target.attack("a peer that went away without a word", 8 * KIB, |target| {
        let mut stream = target.connect(PLAIN);
        // Its socket is there and says nothing, not even to a ping.
        drain(&mut stream);
    });
}
