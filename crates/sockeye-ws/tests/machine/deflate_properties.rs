//! Properties of compressed messages: whatever was agreed, however they are fragmented and chunked,
//! whoever compressed them, they arrive. Says nothing of single cases; those are in `deflate`.

use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_ws::deflate::Options;
use sockeye_ws::{Connection, Event, Limits, Message, Role};

use crate::foreign::{ForeignReceiver, ForeignSender, Received};
use crate::support::*;

#[derive(Clone, Debug)]
struct Item {
    text: bool,
    payload: Vec<u8>,
    compressed: bool,
    cuts: Vec<Index>,
}

impl Item {
    fn event(&self) -> Event<'static> {
        match self.text {
            true => Event::Text(String::from_utf8(self.payload.clone()).unwrap().into()),
            false => Event::Binary(self.payload.clone().into()),
        }
    }

    fn message(&self) -> Message<'_> {
        match self.text {
            true => Message::Text(str::from_utf8(&self.payload).unwrap()),
            false => Message::Binary(&self.payload),
        }
    }
}

/// Messages that repeat themselves, and some that do not.
fn item() -> impl Strategy<Value = Item> {
    let payload = prop_oneof![
        ("[a-cä€🐟]{0,12}", 0..60_usize).prop_map(|(text, count)| (true, text.repeat(count))),
        ("\\PC{0,200}", Just(1)).prop_map(|(text, count)| (true, text.repeat(count))),
    ]
    .prop_map(|(text, payload)| (text, payload.into_bytes()));
    let binary = (vec(any::<u8>(), 0..300), 0..3_usize)
        .prop_map(|(bytes, count)| (false, bytes.repeat(count)));
    let cuts = vec(any::<Index>(), 0..4);
    (prop_oneof![payload, binary], any::<bool>(), cuts)
        .prop_map(|((text, payload), compressed, cuts)| Item { text, payload, compressed, cuts })
}

fn options() -> impl Strategy<Value = Options> {
    (any::<(bool, bool)>(), 8..=15_u8, 8..=15_u8, 1..=9_u8, 1..=9_u8, 0..4_usize).prop_map(
        |((server_no, client_no), server_bits, client_bits, level, mem_level, threshold)| Options {
            server_no_context_takeover: server_no,
            client_no_context_takeover: client_no,
            server_max_window_bits: bits(server_bits),
            client_max_window_bits: bits(client_bits),
            level,
            mem_level,
            threshold_bytes: [0, 10, 100, 1024][threshold],
        },
    )
}

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

/// The frames of the items as another implementation compresses them, and their events. Behind each
/// fragment but the last stands a ping.
fn frames(
    role: Role,
    items: &[Item],
    sender: &mut ForeignSender,
) -> (Vec<u8>, Vec<Event<'static>>) {
    let mut bytes = Vec::new();
    let mut events = Vec::new();
    for item in items {
        let (rsv, payload) = match item.compressed {
            true => (RSV1, sender.compress(&item.payload)),
            false => (0, item.payload.clone()),
        };
        let parts = split(&payload, &item.cuts);
        for (index, part) in parts.iter().enumerate() {
            let kind = if item.text { TEXT } else { BINARY };
            let opcode = if index == 0 { rsv | kind } else { CONTINUATION };
            if index + 1 < parts.len() {
                bytes.extend(frame_to(role, opcode, part));
                bytes.extend(frame_to(role, FIN | PING, &[index as u8]));
                events.push(Event::Ping(vec![index as u8].into()));
            } else {
                bytes.extend(frame_to(role, FIN | opcode, part));
            }
        }
        events.push(item.event());
    }
    (bytes, events)
}

/// The events of the chunks, and what the machine then wants sent.
fn run(mut connection: Connection, role: Role, chunks: &[&[u8]]) -> (Vec<Event<'static>>, Vec<u8>) {
    let events = chunks.iter().flat_map(|chunk| read(&mut connection, chunk)).collect();
    (events, transmit(&mut connection, role))
}

proptest! {
    #[test]
    fn what_another_implementation_compresses_arrives(
        role in roles(),
        takeover in any::<bool>(),
        level in 0..=9_u32,
        items in vec(item(), 0..8),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let (bytes, expected) = frames(role, &items, &mut ForeignSender::new(level, takeover));
        let options = Options {
            server_no_context_takeover: !takeover,
            client_no_context_takeover: !takeover,
            ..Options::default()
        };
        let connection = || deflating(role, options, Limits::default());
        let (events, _) = run(connection(), role, &split(&bytes, &cuts));
        prop_assert_eq!(&events, &expected);
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(run(connection(), role, &single).0, expected);
    }

    #[test]
    fn any_bytes_in_any_chunks_give_the_same_events(
        role in roles(),
        options in options(),
        items in vec(item(), 0..3),
        noise in vec(any::<u8>(), 0..64),
        place in any::<Index>(),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        prop_assume!(options.server_max_window_bits > bits(8));
        let (mut bytes, _) = frames(role, &items, &mut ForeignSender::new(6, true));
        let place = place.index(bytes.len() + 1);
        bytes.splice(place..(place + noise.len() / 2).min(bytes.len()), noise);
        let limits = Limits { message_bytes_max: 1000, fragments_max: 4, ..Limits::default() };

        let connection = || deflating(role, options, limits);
        let whole = run(connection(), role, &[&bytes]);
        prop_assert_eq!(run(connection(), role, &split(&bytes, &cuts)), whole.clone());
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(run(connection(), role, &single), whole);
    }

    #[test]
    fn whatever_was_agreed_messages_arrive_and_refer_to_nothing_that_is_gone(
        client in options(),
        server in options(),
        items in vec((item(), roles()), 0..12),
        cuts in vec(any::<Index>(), 0..20),
        key in any::<[u8; 4]>(),
    ) {
        let Some((agreed, _)) = agree(client, server) else { return Ok(()) };
        let mut pair = Pair::with_deflate(client, server);
        let mut at_server = ForeignReceiver::new(
            agreed.client_max_window_bits(),
            !agreed.client_no_context_takeover(),
        );
        let mut at_client = ForeignReceiver::new(
            agreed.server_max_window_bits(),
            !agreed.server_no_context_takeover(),
        );
        let mut expected = [vec![], vec![]];
        for (item, role) in &items {
            let mut out = Vec::new();
            let message = item.message();
            let (foreign, wire) = match role {
                Role::Client => {
                    pair.client.set_compression(item.compressed);
                    pair.client.encode_masked(&mut out, message, key).unwrap();
                    (&mut at_server, &mut pair.to_server)
                }
                Role::Server => {
                    pair.server.set_compression(item.compressed);
                    pair.server.encode(&mut out, message).unwrap();
                    (&mut at_client, &mut pair.to_client)
                }
            };
            prop_assert!(item.compressed || out[0] & RSV1 == 0);
            let first = out[0] & !FIN;
            let received = foreign.receive(&out);
            prop_assert_eq!(received, vec![Received { first, payload: item.payload.clone() }]);
            wire.extend(out);
            expected[*role as usize].push(item.event());
        }
        let now = Instant::now();
        let from_client = split(&pair.to_server, &cuts);
        let events = from_client.iter().flat_map(|chunk| read_at(&mut pair.server, chunk, now));
        prop_assert_eq!(events.collect::<Vec<_>>(), &expected[Role::Client as usize][..]);
        let from_server = split(&pair.to_client, &cuts);
        let events = from_server.iter().flat_map(|chunk| read_at(&mut pair.client, chunk, now));
        prop_assert_eq!(events.collect::<Vec<_>>(), &expected[Role::Server as usize][..]);
    }
}
