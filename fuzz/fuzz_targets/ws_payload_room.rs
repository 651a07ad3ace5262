//! Long messages, read into the room that the machine offers, into a buffer, or in parts, by turns:
//! however they come, they mean the same, and what is held follows what has arrived. The messages
//! of the other targets are too short for a room.

#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::BufMut as _;
use libfuzzer_sys::fuzz_target;
use sockeye_fuzz::frames::{self, LengthForm, Outcome};
use sockeye_fuzz::heap;
use sockeye_ws::{CloseCode, Connection, Event, Limits, MaskingKey, PartEvent, Role};

#[derive(Arbitrary, Debug)]
struct Input {
    is_server: bool,
    message_kib_max: u8,
    streamed_kib_max: u8,
    /// Before which read our side begins the closing handshake.
    closes_before: Option<u8>,
    sent: Vec<Sent>,
    /// Begun anew when they are used up.
    reads: Vec<Read>,
}

/// A message. Its payload is made, so that a short input is enough for a long one.
#[derive(Arbitrary, Debug)]
struct Sent {
    is_text: bool,
    characters: u8,
    /// How long each fragment is, and whether a ping stands behind it.
    fragments: Vec<(u16, bool)>,
    key: MaskingKey,
    /// Half the place of a byte, and what is wrong in it.
    spoilt: Option<(u16, u8)>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Read {
    len: u16,
    way: Way,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Into the room if there is any, else as `Whole`.
    Room,
    Whole,
    Parts,
}

/// How many bytes the messages have; what is longer is left out.
const SENT_BYTES_MAX: usize = 400 << 10;

/// How many reads there are; the last one brings all that is left.
const READS_MAX: usize = 300;

/// What is held beside messages: a control frame that came in parts, pongs and a close frame.
const HELD_BYTES_MAX: usize = 4 << 10;

/// How much may be held of messages when so many bytes have arrived: the buffer doubles as it
/// fills, or is reserved ahead, up to 1 MiB when a sixteenth of it is there.
fn message_bytes_max(arrived: usize) -> usize {
    (2 * arrived + 4096).max(arrived + (16 * arrived).min(1 << 20))
}

fuzz_target!(|input: Input| {
    let role = if input.is_server { Role::Server } else { Role::Client };
    let mut bytes = Vec::new();
    input.sent.iter().for_each(|sent| sent.write(&mut bytes, role));
    let side = Side { role, input: &input, now: Instant::now() };

    let cuts = side.cut(&bytes);
    let read = side.read(&bytes, &cuts, true);
    assert_eq!(side.read(&bytes, &cuts, false), read, "without the room");
    if cuts.iter().all(|(_, way)| *way != Way::Parts) && input.closes_before.is_none() {
        let Outcome { events, transmit } = frames::read(role, side.limits(), &[&bytes], side.now);
        assert_eq!((events.into_iter().map(Got::Whole).collect(), transmit), read, "at once");
    }
    side.check_memory(&bytes, &cuts);
});

impl Sent {
    /// Appends the message's frames, unless that becomes too much.
    fn write(&self, out: &mut Vec<u8>, to: Role) {
        let payload = self.payload();
        if out.len() + payload.len() > SENT_BYTES_MAX {
            return;
        }
        let mut rest = &payload[..];
        for (index, (len, ping)) in self.fragments.iter().enumerate() {
            let (part, behind) = rest.split_at(usize::from(*len));
            rest = behind;
            let opcode = match (index, self.is_text) {
                (0, true) => frames::TEXT,
                (0, false) => frames::BINARY,
                _ => frames::CONTINUATION,
            };
            let first = (rest.is_empty() && index + 1 == self.fragments.len(), opcode);
            frames::write(out, to, first, LengthForm::Shortest, self.key, part);
            if *ping {
                let first = (true, frames::PING);
                frames::write(out, to, first, LengthForm::Shortest, self.key, &self.key);
            }
        }
    }

    /// That of all fragments: whole characters, and ASCII to the end.
    fn payload(&self) -> Vec<u8> {
        let len = self.fragments.iter().map(|(len, _)| usize::from(*len)).sum();
        let texts = ["x", "é", "€", "🐟", "aé€🐟", "a long way to an é"];
        let text = texts[usize::from(self.characters) % texts.len()];
        let mut payload = text.repeat(len / text.len()).into_bytes();
        payload.resize(len, b'.');
        if let Some((at, wrong)) = self.spoilt
            && let Some(byte) = payload.get_mut(2 * usize::from(at))
        {
            *byte ^= wrong;
        }
        payload
    }
}

/// An event, in the form that was asked for.
#[derive(Debug, PartialEq)]
enum Got {
    Whole(Event<'static>),
    Part(PartEvent<'static>),
}

/// The side whose machine reads.
#[derive(Clone, Copy)]
struct Side<'i> {
    role: Role,
    input: &'i Input,
    now: Instant,
}

impl Side<'_> {
    fn limits(self) -> Limits {
        Limits {
            message_bytes_max: usize::from(self.input.message_kib_max) << 10,
            streamed_bytes_max: u64::from(self.input.streamed_kib_max) << 10,
            fragments_max: 8,
            pending_pongs_max: 8,
            close_timeout: Duration::from_secs(1),
        }
    }

    /// How long the reads are, and which way each goes: no longer than the room it goes to.
    fn cut(self, mut bytes: &[u8]) -> Vec<(usize, Way)> {
        let mut connection = Connection::new(self.role, self.limits());
        let mut reads = self.input.reads.iter().cycle().take(READS_MAX);
        let mut cuts = Vec::new();
        while !bytes.is_empty() {
            let (mut len, way) = match reads.next() {
                Some(read) => ((usize::from(read.len) + 1).min(bytes.len()), read.way),
                None => (bytes.len(), Way::Whole),
            };
            self.close_before(cuts.len(), &mut connection);
            if way == Way::Room
                && let Some(room) = connection.payload_room()
            {
                len = len.min(room.remaining_mut());
            }
            self.step(&mut connection, &bytes[..len], way, true, drop);
            bytes = &bytes[len..];
            cuts.push((len, way));
        }
        cuts
    }

    /// Reads on, with the room or as if there were none.
    fn read(self, bytes: &[u8], cuts: &[(usize, Way)], uses_room: bool) -> (Vec<Got>, Vec<u8>) {
        let mut connection = Connection::new(self.role, self.limits());
        let mut events = Vec::new();
        let mut rest = bytes;
        for (index, (len, way)) in cuts.iter().enumerate() {
            let (chunk, behind) = rest.split_at(*len);
            rest = behind;
            self.close_before(index, &mut connection);
            self.step(&mut connection, chunk, *way, uses_room, |event| events.push(event));
        }
        (events, frames::transmit(&mut connection, self.role))
    }

    fn check_memory(self, bytes: &[u8], cuts: &[(usize, Way)]) {
        let mut connection = Connection::new(self.role, self.limits());
        // Since the last message began, at the latest.
        let mut arrived = 0;
        let mut held = 0;
        let mut rest = bytes;
        for (index, (len, way)) in cuts.iter().enumerate() {
            let (chunk, behind) = rest.split_at(*len);
            rest = behind;
            let mut has_ended = false;
            let before = held;
            let heap = heap::measure(|| {
                self.close_before(index, &mut connection);
                self.step(&mut connection, chunk, *way, true, |event| {
                    has_ended |= matches!(event, Got::Whole(Event::Text(_) | Event::Binary(_)));
                });
            });
            arrived += len;
            held += heap.held;
            let most = (message_bytes_max(arrived) + HELD_BYTES_MAX) as i64;
            assert!(held <= most, "{held} bytes are held of {arrived}, not {most}");
            // A buffer that grows is there twice for a moment; the read, and what is handed out of
            // it, are the driver's.
            let on_the_way = before + heap.most as i64;
            assert!(on_the_way <= 2 * most + 2 * *len as i64, "{heap:?} beyond {before}");
            if has_ended {
                arrived = *len;
            }
        }
        if connection.is_closed() {
            held += heap::measure(|| drop(frames::transmit(&mut connection, self.role))).held;
            assert!(held <= 250, "{held} bytes are held by what has ended");
        }
    }

    fn close_before(self, read: usize, connection: &mut Connection) {
        if self.input.closes_before.is_some_and(|before| usize::from(before) == read) {
            connection.close(Some(CloseCode::GOING_AWAY), "", self.now).expect("a good code");
        }
    }

    /// What one read brings.
    fn step(
        self,
        connection: &mut Connection,
        chunk: &[u8],
        way: Way,
        uses_room: bool,
        mut event: impl FnMut(Got),
    ) {
        if way == Way::Room
            && uses_room
            && let Some(mut room) = connection.payload_room()
        {
            room.put_slice(chunk);
            connection.handle_filled(self.now).map(Got::Whole).into_iter().for_each(event);
            return;
        }
        let mut chunk = chunk.to_vec();
        if way == Way::Parts {
            let read = connection.handle_input_in_parts(&mut chunk, self.now);
            read.for_each(|part| event(Got::Part(part.into_owned())));
        } else {
            let read = connection.handle_input(&mut chunk, self.now);
            read.for_each(|whole| event(Got::Whole(whole.into_owned())));
        }
    }
}
