//! Any bytes as WebSocket frames: in whatever reads they come, they mean the same, what is sent
//! back is legal, and no more is held than the limits allow. `ws_messages` knows what they mean.

#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sockeye_fuzz::frames::{self, Outcome};
use sockeye_fuzz::{chunks, heap};
use sockeye_ws::{Connection, Event, Limits, Role};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_server: bool,
    sizes: [u8; 6],
    bytes: &'a [u8],
}

const LIMITS: Limits = Limits {
    message_bytes_max: 300,
    fragments_max: 4,
    pending_pongs_max: 3,
    close_timeout: Duration::from_secs(1),
};

/// Buffers grow by doubling: a message, a control frame that came in parts, the frames to send
/// (pongs and one close frame, each with the room that is reserved for its header), how it ended.
const HELD_BYTES_MAX: i64 = 2 * (300 + 125 + 4 * (14 + 125)) + 250;

fuzz_target!(|input: Input<'_>| {
    let role = if input.is_server { Role::Server } else { Role::Client };
    let now = Instant::now();
    let cut = chunks(input.bytes, &input.sizes);
    let whole = frames::read(role, LIMITS, &[input.bytes], now);
    assert_eq!(frames::read(role, LIMITS, &cut, now), whole);
    let single: Vec<_> = input.bytes.chunks(1).collect();
    assert_eq!(frames::read(role, LIMITS, &single, now), whole);
    assert_eq!(read_in_turns(role, input.bytes, now), whole);
    check_answers(role, &whole, now);
    check_memory(role, &[input.bytes], now);
    check_memory(role, &cut, now);
});

/// Stops behind every event, and goes on with the rest.
fn read_in_turns(role: Role, bytes: &[u8], now: Instant) -> Outcome {
    let mut connection = Connection::new(role, LIMITS);
    let mut input = bytes.to_vec();
    let mut rest = &mut input[..];
    let mut events = Vec::new();
    loop {
        let mut turn = connection.handle_input(rest, now);
        let Some(event) = turn.next() else { break };
        events.push(event.into_owned());
        rest = turn.into_rest();
    }
    Outcome { events, transmit: frames::transmit(&mut connection, role) }
}

/// What is sent back is legal: a pong for every ping, in order, then at most one close frame, with
/// the code that was reported.
fn check_answers(role: Role, outcome: &Outcome, now: Instant) {
    let Outcome { events, transmit } = outcome;
    let pings = events.iter().filter_map(|event| match event {
        Event::Ping(payload) => Some(Event::Pong(payload.clone())),
        _ => None,
    });
    let expected: Vec<_> = pings.collect();
    let ends = events.iter().filter(|event| matches!(event, Event::Closed(_))).count();
    let end = match events.last() {
        Some(Event::Closed(closed)) => Some(closed),
        _ => None,
    };
    assert_eq!(ends, usize::from(end.is_some()), "Closed is the last event");
    let mut answers = frames::read(frames::peer_of(role), Limits::default(), &[transmit], now);
    if let Some(end) = end {
        let Some(Event::Closed(told)) = answers.events.pop() else { panic!("no close frame") };
        assert_eq!((told.code, told.error), (end.code, None));
        assert_eq!(end.clean, end.error.is_none());
        assert!(end.error.is_none_or(|error| error.close_code() == end.code));
        if let Some(sockeye_ws::ProtocolError::TooManyPings) = end.error {
            assert_eq!(expected.len(), 3);
        }
    }
    assert_eq!(answers.events, expected);
}

fn check_memory(role: Role, chunks: &[&[u8]], now: Instant) {
    let mut connection = Connection::new(role, LIMITS);
    let mut held = 0;
    for chunk in chunks {
        let mut input = chunk.to_vec();
        let heap = heap::measure(|| connection.handle_input(&mut input, now).for_each(drop));
        held += heap.held;
        assert!(held <= HELD_BYTES_MAX, "{held} bytes are held");
        // A buffer that grows is there twice for a moment.
        assert!(heap.most as i64 <= 2 * HELD_BYTES_MAX, "{heap:?}");
    }
}
