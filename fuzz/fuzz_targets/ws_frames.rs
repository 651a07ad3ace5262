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
    streamed_bytes_max: u64::MAX,
    fragments_max: 4,
    pending_pongs_max: 3,
    close_timeout: Duration::from_secs(1),
};

/// What is held beside messages: a control frame that came in parts, the frames to send (pongs and
/// one close frame, each with the room that is reserved for its header), how it ended. Buffers
/// double as they grow.
const HELD_BYTES_MAX: usize = 2 * (125 + 4 * (14 + 125)) + ENDED_BYTES_MAX;

/// A reason, and what it stands in.
const ENDED_BYTES_MAX: usize = 250;

/// What may be reserved ahead of what has arrived.
const RESERVED_BYTES_MAX: usize = 4096;

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
    for chunks in [&cut[..], &[input.bytes]] {
        check_memory(role, LIMITS, chunks, now, |_| 2 * LIMITS.message_bytes_max);
        // A length that is declared is not believed.
        let limits = Limits { message_bytes_max: 1 << 40, ..LIMITS };
        check_memory(role, limits, chunks, now, |arrived| 2 * arrived + RESERVED_BYTES_MAX);
    }
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

/// `message` is how much may be held of one, after so many bytes have arrived.
fn check_memory(
    role: Role,
    limits: Limits,
    chunks: &[&[u8]],
    now: Instant,
    message: impl Fn(usize) -> usize,
) {
    let mut connection = Connection::new(role, limits);
    let (mut arrived, mut held) = (0, 0);
    for chunk in chunks {
        let mut input = chunk.to_vec();
        let heap = heap::measure(|| connection.handle_input(&mut input, now).for_each(drop));
        arrived += chunk.len();
        held += heap.held;
        let most = message(arrived) + HELD_BYTES_MAX;
        assert!(held <= most as i64, "{held} bytes are held, not {most}");
        // A buffer that grows is there twice for a moment.
        assert!(heap.most <= 2 * most as u64, "{heap:?}");
    }
    if connection.is_closed() {
        held += heap::measure(|| drop(frames::transmit(&mut connection, role))).held;
        assert!(held <= ENDED_BYTES_MAX as i64, "{held} bytes are held by what has ended");
    }
}
