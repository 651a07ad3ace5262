//! Payload read past the driver's buffer: the same events, and no more room than what has arrived.
//! Says nothing of sockets.

use std::time::Instant;

use bytes::BufMut as _;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_ws::deflate::Options;
use sockeye_ws::{Connection, Event, Limits, ProtocolError, Role};

use crate::foreign::ForeignSender;
use crate::items::roles;
use crate::support::*;

/// A driver that reads `bytes`, into the room where there is some and `uses_room` says so; at most
/// so many bytes at once.
fn drive(
    connection: &mut Connection,
    mut bytes: &[u8],
    mut read_len: impl FnMut() -> (usize, bool),
) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let (len, uses_room) = read_len();
        let room = connection.payload_room().filter(|_| uses_room);
        if let Some(mut room) = room {
            let (chunk, rest) = bytes.split_at(len.min(bytes.len()).min(room.remaining_mut()));
            room.put_slice(chunk);
            bytes = rest;
            events.extend(connection.handle_filled(Instant::now()));
        } else {
            let (chunk, rest) = bytes.split_at(len.min(bytes.len()));
            bytes = rest;
            events.extend(read(connection, chunk));
        }
    }
    events
}

fn has_room(connection: &mut Connection, bytes: &[u8]) -> bool {
    read(connection, bytes);
    connection.payload_room().is_some()
}

#[test]
fn a_large_message_is_read_into_its_place() {
    // Of four bytes each, with the beginning and the end of the second frame within one.
    let text = "x".to_owned() + &"🐟".repeat(75_000);
    let binary: Vec<u8> = (0..300_000_u32).map(|index| (index * 7) as u8).collect();
    let messages = [
        (TEXT, text.as_bytes(), Event::Text(text.as_str().into())),
        (BINARY, &binary[..], Event::Binary(binary.as_slice().into())),
    ];
    for ((opcode, message, event), role) in messages
        .iter()
        .flat_map(|message| [Role::Server, Role::Client].map(|role| (message.clone(), role)))
    {
        let (head, tail) = message.split_at(100_000);
        let bytes = [frame_to(role, opcode, head), frame_to(role, FIN | CONTINUATION, tail)];
        let mut connection = Connection::new(role, Limits::default());
        let mut events = Vec::new();
        let mut in_room = 0;
        for mut bytes in bytes.iter().map(|bytes| &bytes[..]) {
            while !bytes.is_empty() {
                let room_len = connection.payload_room().map_or(0, |room| room.remaining_mut());
                let len = if room_len == 0 { 10_000 } else { room_len }.min(bytes.len());
                let (chunk, rest) = bytes.split_at(len);
                bytes = rest;
                if let Some(mut room) = connection.payload_room() {
                    room.put_slice(chunk);
                    in_room += len;
                    events.extend(connection.handle_filled(Instant::now()));
                } else {
                    events.extend(read(&mut connection, chunk));
                }
            }
        }
        assert!(events == [event]);
        assert!(in_room > 200_000, "{in_room}");
    }
}

#[test]
fn a_declared_length_makes_no_room() {
    let mut connection = server(Limits::default());
    let declared = head_to(Role::Server, FIN | BINARY, 100 << 20);
    assert!(!has_room(&mut connection, &declared));
    let mut arrived = 0;
    for len in [1, 10, 5000, 100_000] {
        read(&mut connection, &vec![0; len]);
        arrived += len;
        let room = connection.payload_room().expect("a large message");
        let believed = arrived.max((16 * arrived).clamp(4096, 1 << 20));
        let least = believed.min(16 << 10);
        assert!((least..=believed).contains(&room.remaining_mut()), "{}", room.remaining_mut());
        assert!(room.get_ref().capacity() <= 2 * arrived + believed + 3 * 4096);
    }
}

#[test]
fn there_is_none_for_anything_else() {
    let large = vec![b'x'; 100_000];
    let begun = |first: u8| masked(first, &large)[..50_000].to_vec();
    assert!(has_room(&mut server(Limits::default()), &begun(FIN | BINARY)));
    assert!(has_room(&mut server(Limits::default()), &begun(FIN | TEXT)));
    assert!(!has_room(&mut server(Limits::default()), &masked(FIN | BINARY, &large)[..90_000]));
    assert!(!has_room(&mut server(Limits::default()), &masked(BINARY, &large)));
    let ping = [masked(BINARY, &large), masked(FIN | PING, &[0; 125])[..50].to_vec()].concat();
    assert!(!has_room(&mut server(Limits::default()), &ping));
    assert!(server(Limits::default()).payload_room().is_none());

    let noise = ForeignSender::new(6, false).compress(&noise(100_000));
    let compressed = &masked(FIN | RSV1 | BINARY, &noise)[..50_000];
    let mut connection = deflating(Role::Server, Options::default(), Limits::default());
    assert!(!has_room(&mut connection, compressed));

    let mut in_parts = server(Limits::default());
    let count = in_parts.handle_input_in_parts(&mut begun(FIN | BINARY), Instant::now()).count();
    assert_eq!((count, in_parts.payload_room().is_none()), (1, true));
    // Also when the rest of it is passed over.
    assert!(!has_room(&mut in_parts, &large[..1000]));
}

#[test]
fn bad_text_fails_with_the_read_that_brings_it() {
    let mut connection = server(Limits::default());
    let mut message = "é".repeat(100_000).into_bytes();
    message[80_001] = b'!';
    let bytes = masked(FIN | TEXT, &message);
    let (begun, rest) = bytes.split_at(30_000);
    assert!(has_room(&mut connection, begun));
    for part in rest[..60_000].chunks(20_000) {
        assert!(!connection.is_closed());
        connection.payload_room().expect("a large message").put_slice(part);
        let event = connection.handle_filled(Instant::now());
        assert_eq!(event.is_some(), connection.is_closed());
    }
    let error = connection.closed().and_then(|closed| closed.error);
    assert_eq!(error, Some(ProtocolError::InvalidText));
    assert!(connection.payload_room().is_none());
}

#[test]
fn a_text_that_ends_within_a_character_is_none() {
    let mut connection = server(Limits::default());
    let message = "é".repeat(50_000).into_bytes();
    let bytes = masked(FIN | TEXT, &message[..message.len() - 1]);
    let (begun, rest) = bytes.split_at(30_001);
    assert!(has_room(&mut connection, begun));
    connection.payload_room().expect("a large message").put_slice(rest);
    let event = connection.handle_filled(Instant::now());
    let Some(Event::Closed(closed)) = event else { panic!("{event:?}") };
    assert_eq!(closed.error, Some(ProtocolError::InvalidText));
}

#[test]
fn nothing_filled_is_nothing() {
    let mut connection = server(Limits::default());
    assert_eq!(connection.handle_filled(Instant::now()), None);
    let message = noise(100_000);
    let bytes = masked(FIN | BINARY, &message);
    let (begun, rest) = bytes.split_at(30_000);
    assert!(has_room(&mut connection, begun));
    assert_eq!(connection.handle_filled(Instant::now()), None);
    // Room that was not used does not matter to what is read elsewhere.
    assert!(connection.payload_room().is_some());
    let (more, rest) = rest.split_at(10_000);
    assert_eq!(read(&mut connection, more), []);
    assert_eq!(connection.handle_filled(Instant::now()), None);
    assert_eq!(read(&mut connection, rest), [Event::Binary(message.into())]);
}

#[test]
#[should_panic(expected = "more than there was room for")]
fn more_than_there_is_room_for_is_the_drivers_fault() {
    let mut connection = server(Limits::default());
    assert!(has_room(&mut connection, &masked(FIN | BINARY, &noise(50_000))[..30_000]));
    let room = connection.payload_room().expect("a large message").into_inner();
    room.extend_from_slice(&[0; 50_000]);
    connection.handle_filled(Instant::now());
}

#[test]
fn the_deadline_of_a_close_counts_here_too() {
    let now = Instant::now();
    let mut connection = server(Limits::default());
    assert!(has_room(&mut connection, &masked(FIN | BINARY, &noise(100_000))[..50_000]));
    connection.close(None, "", now).unwrap();
    connection.payload_room().expect("still").put_slice(b"more");
    assert_eq!(connection.handle_filled(now), None);
    let late = connection.handle_filled(now + Limits::default().close_timeout);
    assert!(matches!(late, Some(Event::Closed(_))), "{late:?}");
    assert!(connection.payload_room().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn with_and_without_it_the_events_are_the_same(
        role in roles(),
        messages in vec((any::<bool>(), 0..60_000_usize, 0..3_usize), 1..4),
        bad in option::weighted(0.2, any::<Index>()),
        reads in vec((1..40_000_usize, any::<bool>()), 1..20),
    ) {
        let mut bytes = Vec::new();
        for (text, len, fragments) in messages {
            let characters = noise(len / 2).into_iter();
            let characters = characters.map(|byte| ['x', 'é', '€', '🐟'][usize::from(byte % 4)]);
            let mut payload = characters.collect::<String>().into_bytes();
            if let Some(bad) = bad && !payload.is_empty() {
                payload[bad.index(len / 2)] ^= 0xC0;
            }
            let mut opcode = if text { TEXT } else { BINARY };
            for _ in 0..fragments {
                bytes.extend(frame_to(role, opcode, &payload));
                bytes.extend(frame_to(role, FIN | PING, b"?"));
                opcode = CONTINUATION;
            }
            bytes.extend(frame_to(role, FIN | opcode, &payload));
        }
        let mut reads = reads.into_iter().cycle();
        let mut connection = Connection::new(role, Limits::default());
        let events = drive(&mut connection, &bytes, || reads.next().expect("endless"));
        let mut plain = Connection::new(role, Limits::default());
        prop_assert_eq!(events, read(&mut plain, &bytes));
        prop_assert_eq!(transmit(&mut connection, role), transmit(&mut plain, role));
    }
}
