//! Properties: any chunking of the bytes gives the same events, any fragmentation the same message,
//! and masking is its own inverse. Says nothing of what is illegal; that is `strict`.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_ws::{Connection, Event, Limits, MessageRef, Role, mask};

use crate::items::roles;
use crate::support::*;

/// What a peer sends: a message with the places it is split at, or a control frame.
#[derive(Clone, Debug)]
enum Item {
    Text(String, Vec<Index>),
    Binary(Vec<u8>, Vec<Index>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn item() -> impl Strategy<Value = Item> {
    let cuts = || vec(any::<Index>(), 0..4);
    prop_oneof![
        ("\\PC{0,40}", cuts()).prop_map(|(text, cuts)| Item::Text(text, cuts)),
        (vec(any::<u8>(), 0..300), cuts()).prop_map(|(bytes, cuts)| Item::Binary(bytes, cuts)),
        vec(any::<u8>(), 0..126).prop_map(Item::Ping),
        vec(any::<u8>(), 0..126).prop_map(Item::Pong),
    ]
}

/// The frames of the items and the events they must give. Behind each fragment but the last stands
/// a ping.
fn encode(role: Role, items: &[Item]) -> (Vec<u8>, Vec<Event<'static>>) {
    let mut bytes = Vec::new();
    let mut events = Vec::new();
    for item in items {
        let (opcode, payload, cuts, event): (u8, &[u8], &[Index], _) = match item {
            Item::Text(text, cuts) => {
                (TEXT, text.as_bytes(), cuts, Event::Text(text.clone().into()))
            }
            Item::Binary(data, cuts) => (BINARY, data, cuts, Event::Binary(data.clone().into())),
            Item::Ping(data) => (PING, data, &[], Event::Ping(data.clone().into())),
            Item::Pong(data) => (PONG, data, &[], Event::Pong(data.clone().into())),
        };
        push_fragments(role, opcode, &split(payload, cuts), &mut bytes, &mut events);
        events.push(event);
    }
    (bytes, events)
}

/// The events of `chunks` read one after the other, and what the machine then wants sent.
fn run(role: Role, limits: Limits, chunks: &[&[u8]]) -> (Vec<Event<'static>>, Vec<u8>) {
    let mut connection = Connection::new(role, limits);
    let events = chunks.iter().flat_map(|chunk| read(&mut connection, chunk)).collect();
    (events, transmit(&mut connection, role))
}

/// A whole frame takes a shorter way through the machine than one that comes in pieces.
#[test]
fn whatever_a_frame_begins_with_it_says_the_same_whole_and_byte_by_byte() {
    let limits = Limits { message_bytes_max: 40, ..Limits::default() };
    let of_16_bits = [&[0, 30][..], &[0x55; 40]].concat();
    for (first, second) in (0..=255).flat_map(|first| (0..=255).map(move |byte| (first, byte))) {
        for rest in [&of_16_bits, &[0; 45][..], &[0xFF; 12], &[1, 2, 3, 4, b'x' ^ 1]] {
            let bytes = [&[first, second], rest].concat();
            let single: Vec<_> = bytes.chunks(1).collect();
            for role in [Role::Server, Role::Client] {
                let whole = run(role, limits, &[&bytes]);
                assert_eq!(run(role, limits, &single), whole, "{bytes:02X?} to the {role:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn messages_arrive_however_they_are_fragmented_and_chunked(
        role in roles(),
        items in vec(item(), 0..8),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let (bytes, expected) = encode(role, &items);
        let (events, pongs) = run(role, Limits::default(), &split(&bytes, &cuts));
        prop_assert_eq!(&events, &expected);

        // Every ping is answered with its own payload, in order.
        let (answers, _) = run(peer_of(role), Limits::default(), &[&pongs]);
        let pings = expected.into_iter().filter_map(|event| match event {
            Event::Ping(payload) => Some(Event::Pong(payload)),
            _ => None,
        });
        prop_assert_eq!(answers, pings.collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_in_any_chunks_give_the_same_events(
        role in roles(),
        items in vec(item(), 0..3),
        noise in vec(any::<u8>(), 0..64),
        place in any::<Index>(),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let (mut bytes, _) = encode(role, &items);
        let place = place.index(bytes.len() + 1);
        bytes.splice(place..(place + noise.len() / 2).min(bytes.len()), noise);
        let limits = Limits { message_bytes_max: 400, fragments_max: 4, ..Limits::default() };

        let whole = run(role, limits, &[&bytes]);
        prop_assert_eq!(run(role, limits, &split(&bytes, &cuts)), whole.clone());
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(run(role, limits, &single), whole);
    }

    #[test]
    fn reading_in_turns_gives_the_same_events(
        items in vec(item(), 0..8),
    ) {
        let (mut bytes, expected) = encode(Role::Server, &items);
        let mut connection = server(Limits::default());
        let mut rest = &mut bytes[..];
        let mut events = Vec::new();
        loop {
            let mut turn = connection.handle_input(rest, std::time::Instant::now());
            let Some(event) = turn.next() else { break };
            rest = turn.into_rest();
            events.push(event);
        }
        prop_assert_eq!(events, expected);
    }

    #[test]
    fn masking_round_trips_at_any_offset_and_in_any_parts(
        key in any::<[u8; 4]>(),
        phase in 0..1000_usize,
        payload in vec(any::<u8>(), 0..300),
        cut in any::<Index>(),
    ) {
        let mut whole = payload.clone();
        mask::apply(key, phase, &mut whole);

        let mut parts = payload.clone();
        let (first, second) = parts.split_at_mut(cut.index(payload.len() + 1));
        mask::apply(key, phase, first);
        mask::apply(key, phase + first.len(), second);
        prop_assert_eq!(&parts, &whole);

        mask::apply(key, phase, &mut whole);
        prop_assert_eq!(whole, payload);
    }

    #[test]
    fn what_one_side_encodes_the_other_reads(
        text in "\\PC{0,40}",
        data in vec(any::<u8>(), 0..70_000),
        key in any::<[u8; 4]>(),
    ) {
        let mut pair = Pair::new();
        for message in [MessageRef::Text(&text), MessageRef::Binary(&data)] {
            pair.client.encode_masked(&mut pair.to_server, message, key).unwrap();
            pair.server.encode(&mut pair.to_client, message).unwrap();
        }
        pair.settle();
        let expected = [Event::Text(text.into()), Event::Binary(data.into())];
        prop_assert_eq!(&pair.client_events[..], &expected[..]);
        prop_assert_eq!(&pair.server_events[..], &expected[..]);
    }
}
