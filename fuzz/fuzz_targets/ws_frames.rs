//! Any bytes as WebSocket frames: in whatever reads they come, they mean the same, what is sent
//! back is legal, and no more is held than the limits allow. `ws_messages` knows what they mean.

#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sockeye_fuzz::frames::{self, Outcome};
use sockeye_fuzz::{chunks, heap};
use sockeye_ws::{CloseCode, Connection, Event, Limits, ProtocolError, Role};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_server: bool,
    closes: bool,
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

/// What may be held of a message when so many bytes have arrived: its buffer doubles as it fills,
/// or has been reserved ahead, 4 KiB or up to sixteen times as much as is there.
fn message_bytes_max(arrived: usize) -> usize {
    (2 * arrived + 4096).max(17 * arrived)
}

fuzz_target!(|input: Input<'_>| {
    let side = Side {
        role: if input.is_server { Role::Server } else { Role::Client },
        closes: input.closes,
        now: Instant::now(),
    };
    let cut = chunks(input.bytes, &input.sizes);
    let whole = side.read(&[input.bytes]);
    assert_eq!(side.read(&cut), whole);
    assert_eq!(side.read(&input.bytes.chunks(1).collect::<Vec<_>>()), whole);
    assert_eq!(side.read_in_turns(input.bytes), whole);
    side.check_answers(&whole);
    for chunks in [&cut[..], &[input.bytes]] {
        side.check_memory(LIMITS, chunks, |_| 2 * LIMITS.message_bytes_max);
        // A length that is declared is not believed.
        let limits = Limits { message_bytes_max: 1 << 40, ..LIMITS };
        side.check_memory(limits, chunks, message_bytes_max);
    }
});

/// The side whose machine reads.
#[derive(Clone, Copy)]
struct Side {
    role: Role,
    /// It began the closing handshake before anything came.
    closes: bool,
    now: Instant,
}

impl Side {
    fn connection(self, limits: Limits) -> Connection {
        let mut connection = Connection::new(self.role, limits);
        if self.closes {
            connection.close(Some(CloseCode::GOING_AWAY), "", self.now).expect("a good code");
        }
        connection
    }

    fn read(self, chunks: &[&[u8]]) -> Outcome {
        frames::read_into(self.connection(LIMITS), self.role, chunks, self.now)
    }

    /// Stops behind every event, and goes on with the rest.
    fn read_in_turns(self, bytes: &[u8]) -> Outcome {
        let mut connection = self.connection(LIMITS);
        let mut input = bytes.to_vec();
        let mut rest = &mut input[..];
        let mut events = Vec::new();
        loop {
            let mut turn = connection.handle_input(rest, self.now);
            let Some(event) = turn.next() else { break };
            events.push(event.into_owned());
            rest = turn.into_rest();
        }
        Outcome { events, transmit: frames::transmit(&mut connection, self.role) }
    }

    /// What is sent is legal: a pong for every ping, in order, then at most one close frame, with
    /// the code that was reported; behind a close frame of its own nothing.
    fn check_answers(self, outcome: &Outcome) {
        let Outcome { events, transmit } = outcome;
        let ends = events.iter().filter(|event| matches!(event, Event::Closed(_))).count();
        let end = match events.last() {
            Some(Event::Closed(closed)) => Some(closed),
            _ => None,
        };
        assert_eq!(ends, usize::from(end.is_some()), "Closed is the last event");
        let peer = frames::peer_of(self.role);
        let mut answers = frames::read(peer, Limits::default(), &[transmit], self.now).events;
        if self.closes || end.is_some() {
            let Some(Event::Closed(told)) = answers.pop() else { panic!("no close frame") };
            let code = end.filter(|_| !self.closes).map(|end| end.code);
            assert_eq!((told.code, told.error), (code.unwrap_or(CloseCode::GOING_AWAY), None));
        }
        let pings = events.iter().filter_map(|event| match event {
            Event::Ping(payload) if !self.closes => Some(Event::Pong(payload.clone())),
            _ => None,
        });
        assert_eq!(answers, pings.collect::<Vec<_>>());
        if let Some(end) = end {
            assert_eq!(end.clean, end.error.is_none());
            assert!(end.error.is_none_or(|error| error.close_code() == end.code));
            if end.error == Some(ProtocolError::TooManyPings) {
                assert_eq!(answers.len(), LIMITS.pending_pongs_max as usize);
            }
        }
    }

    /// `message` is how much may be held of one, after so many bytes have arrived.
    fn check_memory(self, limits: Limits, chunks: &[&[u8]], message: impl Fn(usize) -> usize) {
        let mut connection = Connection::new(self.role, limits);
        let (mut arrived, mut held) = (0, 0);
        for chunk in chunks {
            let mut input = chunk.to_vec();
            let heap =
                heap::measure(|| connection.handle_input(&mut input, self.now).for_each(drop));
            arrived += chunk.len();
            held += heap.held;
            let most = message(arrived) + HELD_BYTES_MAX;
            assert!(held <= most as i64, "{held} bytes are held, not {most}");
            // A buffer that grows is there twice for a moment.
            assert!(heap.most <= 2 * most as u64, "{heap:?}");
        }
        if connection.is_closed() {
            held += heap::measure(|| drop(frames::transmit(&mut connection, self.role))).held;
            assert!(held <= ENDED_BYTES_MAX as i64, "{held} bytes are held by what has ended");
        }
    }
}
