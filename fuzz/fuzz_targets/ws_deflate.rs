//! Any bytes as a compressed message, and any message compressed: however it comes, it means the
//! same, another implementation agrees, and no more is held than the limits allow. `ws_frames` and
//! `ws_messages` know the frames.

#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use flate2::{Decompress, FlushDecompress, Status};
use libfuzzer_sys::fuzz_target;
use sockeye_fuzz::frames::{self, BINARY, CONTINUATION, LengthForm, TEXT};
use sockeye_fuzz::{chunks, handshake, heap};
use sockeye_ws::deflate::{Agreed, Options, WindowBits};
use sockeye_ws::{Connection, Event, Frame, Limits, MessageRef, Part, PartEvent, Role};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_text: bool,
    keeps_context: bool,
    level: u8,
    window: u8,
    cut: u8,
    sizes: [u8; 5],
    bytes: &'a [u8],
}

const LIMITS: Limits = Limits {
    message_bytes_max: 5000,
    streamed_bytes_max: 5000,
    fragments_max: 100,
    pending_pongs_max: 3,
    close_timeout: Duration::from_secs(1),
};

/// What the thread keeps for all connections (a buffer, a decompressor), the message and its window
/// as they grow, what stands around them.
const HELD_BYTES_MAX: i64 = (64 << 10) + (48 << 10) + 2 * 5000 + (32 << 10) + 2000;

const RSV1: u8 = 0x40;

fuzz_target!(|input: Input<'_>| {
    inflate(&input);
    compress(&input);
});

fn agree(input: &Input<'_>) -> Agreed {
    let options = Options {
        server_no_context_takeover: !input.keeps_context,
        client_no_context_takeover: !input.keeps_context,
        server_max_window_bits: WindowBits::new(9 + input.window % 7).expect("9 to 15"),
        level: input.level % 10,
        mem_level: input.level / 10 % 10,
        threshold_bytes: 0,
        ..Options::default()
    };
    let offer = b"permessage-deflate; client_max_window_bits";
    let accept = handshake::request("sec-websocket-extensions", &[offer]);
    let mut accept = accept.expect("a handshake");
    accept.negotiate_deflate(&options).expect("an offer that can be met")
}

fn connection(role: Role, agreed: Agreed) -> Connection {
    Connection::new(role, LIMITS).with_deflate(Some(agreed))
}

/// The bytes twice as a compressed message, first as two fragments; then one that is not.
fn inflate(input: &Input<'_>) {
    let agreed = agree(input);
    let opcode = RSV1 | if input.is_text { TEXT } else { BINARY };
    let (head, tail) = input.bytes.split_at(input.bytes.len().min(input.cut.into()));
    let mut sent = Vec::new();
    for (kind, payload) in [
        ((false, opcode), head),
        ((true, CONTINUATION), tail),
        ((true, opcode), input.bytes),
        ((true, TEXT), b"behind"),
    ] {
        frames::write(&mut sent, Role::Server, kind, LengthForm::Shortest, [7; 4], payload);
    }
    let whole = read(agreed, &[&sent]);
    let cut = chunks(&sent, &input.sizes);
    assert_eq!(read(agreed, &cut), whole);
    assert_eq!(read(agreed, &sent.chunks(1).collect::<Vec<_>>()), whole);
    assert_eq!(read_in_parts(agreed, &cut), whole);
    if let Some(Event::Text(_) | Event::Binary(_)) = whole.first() {
        check_against_another(input.bytes, &whole[0]);
    }
}

fn read(agreed: Agreed, chunks: &[&[u8]]) -> Vec<Event<'static>> {
    let mut connection = connection(Role::Server, agreed);
    let mut events = Vec::new();
    for chunk in chunks {
        let mut bytes = chunk.to_vec();
        let heap = heap::measure(|| {
            let read = connection.handle_input(&mut bytes, Instant::now());
            events.extend(read.map(Event::into_owned));
        });
        // The events that are kept here count too, three messages at most.
        assert!(heap.most as i64 <= HELD_BYTES_MAX + 4 * 5000, "{heap:?}");
    }
    events
}

fn read_in_parts(agreed: Agreed, chunks: &[&[u8]]) -> Vec<Event<'static>> {
    let mut connection = connection(Role::Server, agreed);
    let mut events = Vec::new();
    let mut begun = None;
    for chunk in chunks {
        for event in connection.handle_input_in_parts(&mut chunk.to_vec(), Instant::now()) {
            let (data, last) = match event.into_owned() {
                PartEvent::Text(Part { data, last, .. }) => (Event::Text(data), last),
                PartEvent::Binary(Part { data, last, .. }) => (Event::Binary(data), last),
                PartEvent::Closed(closed) => {
                    events.push(Event::Closed(closed));
                    continue;
                }
                other => panic!("{other:?}"),
            };
            let message = match (begun.take(), data) {
                (None, data) => data,
                (Some(Event::Text(begun)), Event::Text(data)) => Event::Text(begun + data),
                (Some(Event::Binary(begun)), Event::Binary(data)) => {
                    Event::Binary([begun, data].concat().into())
                }
                other => panic!("{other:?}"),
            };
            if last { events.push(message) } else { begun = Some(message) }
        }
    }
    events
}

/// What miniz makes of the bytes is what the message begins with: it stops at a block that is
/// marked as the last one.
fn check_against_another(bytes: &[u8], event: &Event<'_>) {
    let message = match event {
        Event::Text(text) => text.as_bytes(),
        Event::Binary(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    let input = [bytes, &[0x00, 0x00, 0xFF, 0xFF]].concat();
    let mut out = vec![0; 6000];
    let mut other = Decompress::new(false);
    let result = other.decompress(&input, &mut out, FlushDecompress::Sync);
    let inflated = &out[..other.total_out() as usize];
    match result {
        Ok(Status::StreamEnd) => assert!(message.starts_with(inflated)),
        Ok(_) if !bytes.is_empty() => assert_eq!(message, inflated),
        // It is stricter in places.
        _ => {}
    }
}

/// The bytes as a message in every way that one can be sent.
fn compress(input: &Input<'_>) {
    let agreed = agree(input);
    let message = &input.bytes[..input.bytes.len().min(LIMITS.message_bytes_max)];
    let (head, tail) = message.split_at(message.len().min(input.cut.into()));
    let mut sender = connection(Role::Server, agreed);
    let mut sent = Vec::new();
    let frame = Frame::binary(message);
    for _ in 0..2 {
        sender.encode(&mut sent, MessageRef::Binary(message)).expect("open");
        sent.extend(sender.frame_bytes(&frame).expect("open"));
        sender.encode_fragment(&mut sent, MessageRef::Binary(head), false).expect("open");
        sender.encode_fragment(&mut sent, MessageRef::Binary(tail), true).expect("open");
    }
    let mut receiver = connection(Role::Client, agreed);
    let mut count = 0;
    for chunk in chunks(&sent, &input.sizes) {
        for event in receiver.handle_input(&mut chunk.to_vec(), Instant::now()) {
            assert_eq!(event, Event::Binary(message.into()));
            count += 1;
        }
    }
    assert_eq!(count, 6);
}
