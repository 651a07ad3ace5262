//! Properties of compressed messages: whatever was agreed, however they are fragmented and chunked,
//! whoever compressed them, they arrive. Says nothing of single cases; those are in `deflate`.

use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_ws::deflate::Options;
use sockeye_ws::{Connection, Event, Limits, Role};

use crate::foreign::{ForeignReceiver, ForeignSender, Received};
use crate::items::*;
use crate::support::*;

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
