//! How much memory the machine takes, counted by the allocator. A binary of its own, in which
//! nothing runs beside what is measured. Says nothing of time.

use std::io::Write as _;
use std::time::Instant;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use peak_alloc::PeakAlloc;
use sockeye_ws::deflate::{Agreed, Options, WindowBits};
use sockeye_ws::handshake::HttpVersion;
use sockeye_ws::handshake::server::verify;
use sockeye_ws::{CloseCode, Connection, Event, Limits, MessageRef, PartEvent, Role};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The buffer that is inflated into and a decompressor, which the thread keeps for all.
const POOLED: usize = 64 * KIB + 48 * KIB;

fn agree(options: &Options) -> Agreed {
    let header = |name| {
        let value: &[u8] = match name {
            "host" => b"localhost",
            "upgrade" => b"websocket",
            "connection" => b"upgrade",
            "sec-websocket-version" => b"13",
            "sec-websocket-key" => b"dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-extensions" => b"permessage-deflate; client_max_window_bits",
            _ => return None.into_iter(),
        };
        Some(value).into_iter()
    };
    let mut accept = verify("GET", HttpVersion::Http11, header).unwrap();
    accept.negotiate_deflate(options).expect("an offer that every server accepts")
}

fn takeover() -> Options {
    Options {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        ..Options::default()
    }
}

fn server(options: &Options, limits: Limits) -> Connection {
    Connection::new(Role::Server, limits).with_deflate(Some(agree(options)))
}

/// A compressed message in one frame, as a client sends it, masked with a zero key.
fn frame(opcode: u8, message: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).unwrap();
    let payload = encoder.finish().unwrap();
    let len = payload.len() as u64;
    [&[0xC0 | opcode, 0xFF][..], &len.to_be_bytes(), &[0; 4], &payload].concat()
}

/// What `work` takes at most, and what it leaves behind.
fn measure<T>(work: impl FnOnce() -> T) -> (usize, isize, T) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    let peak = ALLOCATOR.peak_usage() - before;
    (peak, ALLOCATOR.current_usage() as isize - before as isize, result)
}

fn read(connection: &mut Connection, bytes: &mut [u8]) -> usize {
    connection.handle_input(bytes, Instant::now()).map(drop).count()
}

fn h103_a_bomb_takes_no_more_than_the_limit() {
    let limits = Limits { message_bytes_max: MIB, ..Limits::default() };
    for (opcode, chunk_len) in [(1, usize::MAX), (2, usize::MAX), (1, 100), (2, 1)] {
        let mut bomb = frame(opcode, &vec![0; 100 * MIB]);
        let mut connection = server(&Options::default(), limits);
        let (peak, left, ()) = measure(|| {
            for chunk in bomb.chunks_mut(chunk_len) {
                read(&mut connection, chunk);
            }
        });
        assert_eq!(connection.closed().unwrap().code, CloseCode::TOO_BIG);
        // The buffer ends at the limit; while it grows for the last time, the old one is there too.
        assert!(peak <= 2 * MIB + POOLED + 4 * KIB, "{peak} in {chunk_len}");
        assert!(left <= (POOLED + 4 * KIB) as isize, "{left}");
    }
}

fn h107_a_message_takes_what_it_is_long_and_no_buffer_of_others() {
    let message: String = (0..).map(|number| format!("{number} ")).take(20_000).collect();
    let mut bytes = frame(1, message.as_bytes());
    let mut connection = server(&Options::default(), Limits::default());
    let mut small = frame(1, &message.as_bytes()[..10_000]);
    // The thread's own come first.
    read(&mut connection, &mut small.clone());

    let now = Instant::now();
    let (_, left, event) =
        measure(|| connection.handle_input(&mut small, now).next().map(Event::into_owned));
    assert!((10_000..10_100).contains(&left), "{left}");
    drop(event);
    let (peak, _, ()) = measure(|| assert_eq!(read(&mut connection, &mut bytes), 1));
    assert!(peak < 3 * message.len() + KIB, "{peak} for {}", message.len());
}

fn connections_between_messages_hold_next_to_nothing() {
    let mut small = frame(1, "an ordinary message, ".repeat(100).as_bytes());
    let mut out = Vec::with_capacity(10 * KIB);
    let long = "what a server sends, ".repeat(100);
    let mut held = |options: &Options| {
        let mut connections: Vec<_> =
            (0..1001).map(|_| server(options, Limits::default())).collect();
        let mut exchange = |connection: &mut Connection| {
            for _ in 0..3 {
                out.clear();
                connection.encode(&mut out, MessageRef::Text(&long)).unwrap();
                assert_eq!(out[0], 0xC1);
                // Masked with a zero key the input stays as it is.
                assert_eq!(read(connection, &mut small), 1);
                let (first, second) = small.split_at_mut(5);
                assert_eq!(read(connection, first) + read(connection, second), 1);
            }
        };
        exchange(&mut connections[0]);
        let (_, left, ()) = measure(|| connections[1..].iter_mut().for_each(&mut exchange));
        left as usize / 1000
    };
    assert_eq!(held(&Options::default()), 0);

    // With a context the peer's part is what it sent, up to its window.
    let theirs = Options { server_no_context_takeover: true, ..takeover() };
    let len = 6 * 21 * 100;
    assert!((len..=2 * len).contains(&held(&theirs)), "{}", held(&theirs));
    let small_window = Options { client_max_window_bits: WindowBits::new(10).unwrap(), ..theirs };
    assert_eq!(held(&small_window), KIB);
}

fn a_compressor_of_our_own_goes_with_the_connection() {
    let long = "what a server sends, ".repeat(100);
    let mut out = Vec::with_capacity(10 * KIB);
    // What the options' documentation says.
    for (window_bits, mem_level, kilobytes) in [(15, 8, 380), (12, 4, 158), (9, 1, 137)] {
        let server_max_window_bits = WindowBits::new(window_bits).unwrap();
        let options = Options { server_max_window_bits, mem_level, ..takeover() };
        let mut connection = server(&options, Limits::default());
        let (_, left, ()) =
            measure(|| connection.encode(&mut out, MessageRef::Text(&long)).unwrap());
        assert_eq!((left + 500) / 1000, kilobytes);
        let (_, left, _) = measure(|| connection.handle_eof());
        assert!(left < -1000 * (kilobytes - 1), "{left}");
    }
}

fn of_a_message_in_parts_nothing_is_held() {
    for opcode in [1, 2] {
        let mut bomb = frame(opcode, &vec![b'x'; 100 * MIB]);
        let mut connection = server(&Options::default(), Limits::default());
        let (peak, left, total) = measure(|| {
            let mut total = 0;
            for event in connection.handle_input_in_parts(&mut bomb, Instant::now()) {
                total += match event {
                    PartEvent::Text(part) => part.data.len(),
                    PartEvent::Binary(part) => part.data.len(),
                    other => panic!("{other:?}"),
                };
            }
            total
        });
        assert_eq!(total, 100 * MIB);
        // A part, and what it is inflated into.
        assert!(peak < 2 * 80 * KIB + POOLED, "{peak}");
        assert!(left <= 0, "{left}");
    }
}

fn between_fragments_a_compressor_is_lent() {
    let part = "what is sent part by part, ".repeat(100);
    let mut out = Vec::with_capacity(100 * KIB);
    let mut connection = server(&Options::default(), Limits::default());
    let mut send = |fin| {
        measure(|| connection.encode_fragment(&mut out, MessageRef::Text(&part), fin).unwrap()).1
    };
    // The thread may have one already.
    assert!(send(false) <= 385 * KIB as isize);
    assert_eq!(send(false), 0);
    assert!(send(true) <= 0);
    // From now on it has.
    assert!(send(false) < KIB as isize);
    assert!(send(true) <= 0);
}

/// One after the other: what is counted is the whole process's.
#[test]
fn memory() {
    h103_a_bomb_takes_no_more_than_the_limit();
    h107_a_message_takes_what_it_is_long_and_no_buffer_of_others();
    connections_between_messages_hold_next_to_nothing();
    a_compressor_of_our_own_goes_with_the_connection();
    of_a_message_in_parts_nothing_is_held();
    between_fragments_a_compressor_is_lent();
}
