//! Messages handed out in parts: the same messages, however they arrive, with nothing held of them.
//! Says nothing of how they are sent; that is `fragments`.

use std::borrow::Cow;
use std::time::Instant;

use bytes::BufMut as _;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_ws::ProtocolError::{InvalidDeflate, InvalidText, MessageTooLong, UnfinishedMessage};
use sockeye_ws::deflate::Options;
use sockeye_ws::{CloseCode, Connection, Event, Limits, Part, PartEvent, ProtocolError, Role};

use crate::foreign::ForeignSender;
use crate::items::*;
use crate::support::*;

fn connection(role: Role) -> Connection {
    deflating(role, takeover(), Limits::default())
}

/// The parts in `bytes`, read in one piece.
fn parts(connection: &mut Connection, bytes: &[u8]) -> Vec<PartEvent<'static>> {
    let mut input = bytes.to_vec();
    connection
        .handle_input_in_parts(&mut input, Instant::now())
        .map(PartEvent::into_owned)
        .collect()
}

/// Puts parts together again, and returns whether a message is under way at the end.
fn joined(parts: Vec<PartEvent<'static>>) -> (Vec<Event<'static>>, bool) {
    let mut events = Vec::new();
    let mut begun = None;
    for part in parts {
        let (data, first, last) = match part {
            PartEvent::Text(Part { data, first, last }) => (Event::Text(data), first, last),
            PartEvent::Binary(Part { data, first, last }) => (Event::Binary(data), first, last),
            PartEvent::Ping(payload) => {
                events.push(Event::Ping(payload));
                continue;
            }
            PartEvent::Pong(payload) => {
                events.push(Event::Pong(payload));
                continue;
            }
            PartEvent::Closed(closed) => {
                events.push(Event::Closed(closed));
                continue;
            }
        };
        assert_eq!(first, begun.is_none());
        assert!(last || data != Event::Text("".into()) && data != Event::Binary(vec![].into()));
        let message = match (begun.take(), data) {
            (None, data) => data,
            (Some(Event::Text(begun)), Event::Text(data)) => Event::Text(begun + data),
            (Some(Event::Binary(begun)), Event::Binary(data)) => {
                Event::Binary([begun, data].concat().into())
            }
            (begun, data) => panic!("{data:?} in {begun:?}"),
        };
        if last { events.push(message) } else { begun = Some(message) }
    }
    (events, begun.is_some())
}

fn error_of(limits: Limits, bytes: &[u8]) -> Option<ProtocolError> {
    let mut connection = deflating(Role::Server, Options::default(), limits);
    match parts(&mut connection, bytes).pop() {
        Some(PartEvent::Closed(closed)) => closed.error,
        _ => None,
    }
}

fn text(data: &str, first: bool, last: bool) -> PartEvent<'_> {
    PartEvent::Text(Part { data: data.into(), first, last })
}

#[test]
fn a_message_in_parts() {
    let mut connection = server(Limits::default());
    let bytes = [
        masked(TEXT, b"one"),
        masked(FIN | PING, b"?"),
        masked(CONTINUATION, b""),
        masked(FIN | CONTINUATION, b"two"),
        masked(FIN | TEXT, b"three"),
        masked(FIN | BINARY, b""),
    ]
    .concat();
    let expected = [
        text("one", true, false),
        PartEvent::Ping(b"?".as_slice().into()),
        text("two", false, true),
        text("three", true, true),
        PartEvent::Binary(Part { data: vec![].into(), first: true, last: true }),
    ];
    assert_eq!(parts(&mut connection, &bytes), expected);
    assert_eq!(connection.poll_transmit().as_deref(), Some(&b"\x8A\x01?"[..]));

    // An empty last fragment is a part: it says that the message has ended.
    let bytes = [masked(TEXT, b"one"), masked(FIN | CONTINUATION, b"")].concat();
    let expected = [text("one", true, false), text("", false, true)];
    assert_eq!(parts(&mut connection, &bytes), expected);
}

#[test]
fn parts_borrow_from_the_input() {
    let mut connection = server(Limits::default());
    let mut first = [masked(TEXT, "größer".as_bytes()), masked(CONTINUATION, b"abc\xE2")].concat();
    let mut second = [masked(CONTINUATION, b"\x82\xACrest"), masked(FIN | BINARY, b"x")].concat();
    let cut = second.len() - 7;
    for input in [&mut first[..], &mut second[..cut]] {
        for event in connection.handle_input_in_parts(input, Instant::now()) {
            let PartEvent::Text(part) = event else { panic!("{event:?}") };
            // All but the character that came in two reads.
            assert_eq!(matches!(part.data, Cow::Owned(_)), part.data == "€", "{part:?}");
        }
    }
}

#[test]
fn text_is_cut_between_characters_and_checked() {
    let message = "aä€🐟🐠€äa";
    for role in [Role::Server, Role::Client] {
        for cut in 0..=message.len() {
            let (head, tail) = message.as_bytes().split_at(cut);
            let bytes =
                [frame_to(role, TEXT, head), frame_to(role, FIN | CONTINUATION, tail)].concat();
            for chunk_len in 1..bytes.len() {
                let mut connection = connection(role);
                let chunks = bytes.chunks(chunk_len);
                let all = chunks.flat_map(|chunk| parts(&mut connection, chunk)).collect();
                assert_eq!(joined(all), (vec![Event::Text(message.into())], false));
            }
        }
    }
    for bad in [&b"good \xFF"[..], b"\xC0\xAF", b"good \xF4\x90", b"cut \xE2\x82"] {
        let payload = ForeignSender::new(6, false).compress(bad);
        for bytes in [masked(FIN | TEXT, bad), masked(FIN | RSV1 | TEXT, &payload)] {
            assert_eq!(error_of(Limits::default(), &bytes), Some(InvalidText), "{bad:02X?}");
            let mut connection = connection(Role::Server);
            let last = bytes.chunks(1).flat_map(|byte| parts(&mut connection, byte)).last();
            let Some(PartEvent::Closed(closed)) = last else { panic!("{last:?}") };
            assert_eq!(closed.error, Some(InvalidText));
        }
    }
}

#[test]
fn compressed_messages_have_small_parts() {
    let mut bomb =
        masked(FIN | RSV1 | BINARY, &ForeignSender::new(9, false).compress(&vec![0; 20 << 20]));
    let mut connection = connection(Role::Server);
    let mut total = 0;
    let mut count = 0;
    for event in connection.handle_input_in_parts(&mut bomb, Instant::now()) {
        let PartEvent::Binary(part) = event else { panic!("{event:?}") };
        assert!(part.data.len() <= 80 << 10, "{}", part.data.len());
        assert!(part.data.iter().all(|byte| *byte == 0));
        total += part.data.len();
        count += 1;
    }
    assert_eq!(total, 20 << 20);
    assert!(count > 200);
}

#[test]
fn the_limit_is_one_of_its_own() {
    let limits = Limits {
        message_bytes_max: 10,
        streamed_bytes_max: 1000,
        fragments_max: 3,
        ..Limits::default()
    };
    let mut sender = ForeignSender::new(6, false);
    for (len, error) in [(999, None), (1000, None), (1001, Some(MessageTooLong))] {
        let message = vec![b'x'; len];
        let payload = sender.compress(&message);
        let (head, tail) = message.split_at(600);
        for bytes in [
            masked(FIN | BINARY, &message),
            masked(FIN | RSV1 | BINARY, &payload),
            [masked(TEXT, head), masked(FIN | CONTINUATION, tail)].concat(),
        ] {
            assert_eq!(error_of(limits, &bytes.repeat(3)), error, "{len}");
        }
    }
    // A length that is declared fails with the header; and nothing is held of fragments.
    let declared = head_to(Role::Server, FIN | BINARY, 1001);
    assert_eq!(error_of(limits, &declared), Some(MessageTooLong));
    let many = [masked(BINARY, b"x"), masked(CONTINUATION, b"x").repeat(900)].concat();
    assert_eq!(error_of(limits, &many), None);
    assert_eq!(Limits::default().streamed_bytes_max, 1 << 30);
}

#[test]
fn a_message_that_had_begun_comes_out_with_what_was_kept() {
    let message = "what was kept, ä, and what was not";
    let payload = ForeignSender::new(6, false).compress(message.as_bytes());
    for (bytes, event) in [
        (masked(FIN | TEXT, message.as_bytes()), Event::Text(message.into())),
        (masked(FIN | BINARY, message.as_bytes()), Event::Binary(message.as_bytes().into())),
        (masked(FIN | RSV1 | TEXT, &payload), Event::Text(message.into())),
    ] {
        for cut in 0..bytes.len() {
            let mut connection = connection(Role::Server);
            assert_eq!(read(&mut connection, &bytes[..cut]), []);
            let rest = parts(&mut connection, &bytes[cut..]);
            assert_eq!(joined(rest), (vec![event.clone()], false), "cut at {cut}");
        }
    }
}

#[test]
fn a_message_is_held_to_the_limit_of_how_it_is_read_now() {
    let limits =
        Limits { message_bytes_max: 50_000, streamed_bytes_max: 80_000, ..Limits::default() };
    // Of the first two nothing has come out in parts, so that all of them would be kept.
    for (opcode, begun, longest) in
        [(BINARY, &b""[..], 50_000), (TEXT, b"\xC3", 50_000), (BINARY, b"begun", 80_000)]
    {
        for (declared, error) in [(longest, None), (longest + 1, Some(MessageTooLong))] {
            let mut connection = Connection::new(Role::Client, limits);
            let bytes = [&head_to(Role::Client, opcode, declared)[..], begun].concat();
            parts(&mut connection, &bytes);
            read(&mut connection, b"\xA9");
            let closed = connection.closed().and_then(|closed| closed.error);
            assert_eq!(closed, error, "{declared} as {opcode}");
        }
    }
}

#[test]
fn what_is_left_of_a_message_in_parts_is_passed_over() {
    let mut sender = ForeignSender::new(6, true);
    let begin = "a text that is given up, ä";
    let compressed = sender.compress(begin.repeat(20).as_bytes());
    let next = sender.compress(b"a text that refers to what was given up");
    let (head, tail) = compressed.split_at(compressed.len() - 10);
    let message = [
        masked(RSV1 | TEXT, head),
        masked(CONTINUATION, &tail[..3]),
        masked(FIN | PING, b"?"),
        masked(FIN | CONTINUATION, &tail[3..]),
    ]
    .concat();
    let behind = [masked(FIN | RSV1 | TEXT, &next), masked(FIN | BINARY, b"next")].concat();
    let first_part = masked(RSV1 | TEXT, head).len();
    for cut in first_part..message.len() {
        let mut connection = connection(Role::Server);
        let begun = parts(&mut connection, &message[..cut]);
        assert!(!begun.is_empty());
        let mut events = read(&mut connection, &message[cut..]);
        if let Some(Event::Ping(_)) = events.first() {
            events.remove(0);
        }
        assert_eq!(events, [], "cut at {cut}");
        let expected = [
            Event::Text("a text that refers to what was given up".into()),
            Event::Binary(b"next".as_slice().into()),
        ];
        assert_eq!(read(&mut connection, &behind), expected);
        assert!(connection.is_open());
    }
    // Its text and its data are still held to the rules.
    for (rest, error) in [
        (masked(FIN | CONTINUATION, b"\xFF"), InvalidText),
        (masked(FIN | TEXT, b""), UnfinishedMessage),
    ] {
        let mut connection = connection(Role::Server);
        assert_eq!(parts(&mut connection, &masked(TEXT, b"begun")).len(), 1);
        let events = read(&mut connection, &rest);
        assert_eq!(closed(&events).unwrap().error, Some(error));
    }
}

#[test]
fn nothing_comes_behind_the_end() {
    let mut connection = connection(Role::Server);
    let bytes = [
        masked(TEXT, b"begun"),
        masked(FIN | CLOSE, b"\x03\xE8"),
        masked(FIN | CONTINUATION, b"never seen"),
    ]
    .concat();
    let events = parts(&mut connection, &bytes);
    let [PartEvent::Text(_), PartEvent::Closed(closed)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((closed.code, closed.clean), (CloseCode::NORMAL, true));
    assert_eq!(parts(&mut connection, &masked(FIN | TEXT, b"nor this")), []);

    let cut = ForeignSender::new(6, false).compress(b"a message that is cut off");
    let bytes = masked(FIN | RSV1 | TEXT, &cut[..cut.len() - 5]);
    assert_eq!(error_of(Limits::default(), &bytes), Some(InvalidDeflate));
}

/// What comes of `bytes` that are read as `reads` say: so many bytes, asking for parts, or past the
/// driver's buffer where there is room.
fn in_turns(
    connection: &mut Connection,
    mut bytes: &[u8],
    mut reads: impl Iterator<Item = (usize, bool, bool)>,
) -> Vec<PartEvent<'static>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let (len, in_parts, uses_room) = reads.next().expect("endless");
        let room = connection.payload_room().filter(|_| uses_room && !in_parts);
        let room_len = room.as_ref().map_or(len, |room| room.remaining_mut());
        let (chunk, rest) = bytes.split_at(len.min(bytes.len()).min(room_len));
        bytes = rest;
        if in_parts {
            events.extend(parts(connection, chunk));
            continue;
        }
        let whole: Vec<_> = match room {
            Some(mut room) => {
                room.put_slice(chunk);
                connection.handle_filled(Instant::now()).into_iter().collect()
            }
            None => read(connection, chunk),
        };
        events.extend(whole.into_iter().map(|event| match event {
            Event::Text(data) => PartEvent::Text(Part { data, first: true, last: true }),
            Event::Binary(data) => PartEvent::Binary(Part { data, first: true, last: true }),
            Event::Ping(payload) => PartEvent::Ping(payload),
            Event::Pong(payload) => PartEvent::Pong(payload),
            Event::Closed(closed) => PartEvent::Closed(closed),
        }));
    }
    events
}

proptest! {
    #[test]
    fn parts_are_the_messages(
        role in roles(),
        items in vec(item(), 0..6),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let (bytes, expected) = frames(role, &items, &mut ForeignSender::new(6, true));
        let mut machine = connection(role);
        let chunks = split(&bytes, &cuts);
        let all = chunks.iter().flat_map(|chunk| parts(&mut machine, chunk)).collect();
        prop_assert_eq!(joined(all), (expected.clone(), false));

        // Part by part, with everything else left for later.
        let mut machine = connection(role);
        let mut all = Vec::new();
        for chunk in chunks {
            let mut input = chunk.to_vec();
            let mut rest = &mut input[..];
            loop {
                let mut turn = machine.handle_input_in_parts(rest, Instant::now());
                let Some(event) = turn.next().map(PartEvent::into_owned) else { break };
                rest = turn.into_rest();
                all.push(event);
            }
        }
        prop_assert_eq!(joined(all), (expected, false));
    }

    /// Whole or in parts, the same bytes end a connection with the same error, or do not.
    #[test]
    fn parts_and_messages_end_the_same_way(
        role in roles(),
        items in vec(item(), 0..3),
        noise in vec(any::<u8>(), 0..64),
        place in any::<Index>(),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let (mut bytes, _) = frames(role, &items, &mut ForeignSender::new(6, true));
        let place = place.index(bytes.len() + 1);
        bytes.splice(place..(place + noise.len() / 2).min(bytes.len()), noise);
        let limits = Limits {
            message_bytes_max: 1000,
            streamed_bytes_max: 1000,
            fragments_max: u32::MAX,
            ..Limits::default()
        };
        let machine = || deflating(role, takeover(), limits);
        let mut whole = machine();
        let events = read(&mut whole, &bytes);
        let mut in_parts = machine();
        let all = split(&bytes, &cuts).iter().flat_map(|part| parts(&mut in_parts, part)).collect();
        let (messages, _) = joined(all);
        prop_assert_eq!(messages, events);
        prop_assert_eq!(transmit(&mut in_parts, role), transmit(&mut whole, role));
    }

    #[test]
    fn parts_and_messages_in_turns_have_no_holes(
        role in roles(),
        messages in vec((any::<bool>(), any::<bool>(), 0..60_000_usize, 1..4_usize), 1..4),
        reads in vec((1..40_000_usize, any::<bool>(), any::<bool>()), 1..20),
    ) {
        let mut sender = ForeignSender::new(6, true);
        let mut bytes = Vec::new();
        let mut sent = Vec::new();
        for (text, compressed, len, fragments) in messages {
            let characters = noise(len).into_iter();
            let characters = characters.map(|byte| ['x', 'é', '€', '🐟'][usize::from(byte % 4)]);
            let message = characters.collect::<String>().into_bytes();
            let payload = if compressed { sender.compress(&message) } else { message.clone() };
            let mut opcode = if text { TEXT } else { BINARY } | if compressed { RSV1 } else { 0 };
            let mut fragments = payload.chunks((payload.len() / fragments).max(1)).peekable();
            if fragments.peek().is_none() {
                bytes.extend(frame_to(role, FIN | opcode, b""));
            }
            while let Some(fragment) = fragments.next() {
                let fin = if fragments.peek().is_none() { FIN } else { 0 };
                bytes.extend(frame_to(role, fin | opcode, fragment));
                opcode = CONTINUATION;
            }
            sent.push((text, message));
        }
        let events = in_turns(&mut connection(role), &bytes, reads.into_iter().cycle());
        // Each message comes out once: whole, in parts, or in parts up to where it was passed over.
        let mut sent = sent.into_iter();
        let mut begun: Option<((bool, Vec<u8>), usize)> = None;
        for event in events {
            let (is_text, data, first, last) = match event {
                PartEvent::Text(Part { data, first, last }) => {
                    (true, data.into_owned().into_bytes(), first, last)
                }
                PartEvent::Binary(Part { data, first, last }) => {
                    (false, data.into_owned(), first, last)
                }
                event => panic!("{event:?}"),
            };
            if first {
                begun = Some((sent.next().expect("no more than was sent"), 0));
            }
            let ((text, message), len) = begun.as_mut().expect("there was a first part");
            prop_assert_eq!(*text, is_text);
            prop_assert!(message[*len..].starts_with(&data), "a hole behind {} bytes", len);
            *len += data.len();
            prop_assert!(!last || *len == message.len());
            if last {
                begun = None;
            }
        }
        prop_assert!(sent.next().is_none());
    }
}
