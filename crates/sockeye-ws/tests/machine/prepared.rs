//! Prepared frames: one encoding for all receivers, one compression for all whose windows allow it,
//! and contexts that survive it. Does not look at how they are compressed.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use sockeye_ws::deflate::Options;
use sockeye_ws::{Connection, Event, Frame, Limits, MessageRef, Role, SendError};

use crate::foreign::{ForeignReceiver, Received};
use crate::items::roles;
use crate::support::*;

fn with_window(window: u8) -> Options {
    Options { server_max_window_bits: bits(window), ..Options::default() }
}

fn receiver(options: Options) -> Connection {
    deflating(Role::Server, options, Limits::default())
}

/// Where the bytes are: the same for those that are shared.
fn place(connection: &mut Connection, frame: &Frame) -> usize {
    connection.frame_bytes(frame).unwrap().as_ptr() as usize
}

#[test]
fn can_be_sent_from_any_thread() {
    fn assert<T: Send + Sync + Clone>() {}
    assert::<Frame>();
}

#[test]
fn is_what_encode_makes() {
    for len in [0, 1, 125, 126, 70_000] {
        let text = text(1, len);
        for (frame, message) in [
            (Frame::text(&text), MessageRef::Text(&text)),
            (Frame::binary(text.as_bytes()), MessageRef::Binary(text.as_bytes())),
        ] {
            assert_eq!(frame.payload(), text.as_bytes());
            for mut connection in [server(Limits::default()), receiver(Options::default())] {
                let mut encoded = Vec::new();
                connection.encode(&mut encoded, message).unwrap();
                assert_eq!(connection.frame_bytes(&frame).unwrap(), encoded);
            }
        }
    }
}

#[test]
fn plain_bytes_are_shared_by_all() {
    let frame = Frame::text(&text(1, 100));
    let places: HashSet<_> = [None, Some(Options::default()), Some(takeover())]
        .into_iter()
        .map(|options| match options {
            None => place(&mut server(Limits::default()), &frame),
            Some(options) => place(&mut receiver(options), &frame),
        })
        .collect();
    assert_eq!(places, HashSet::from([frame.plain().as_ptr() as usize]));
}

#[test]
fn is_compressed_once_for_all_whose_window_it_fits() {
    let frame = Frame::text(&text(1, 2000));
    let places: Vec<_> = (8..=15)
        .filter(|window| *window > 8)
        .map(|window| place(&mut receiver(with_window(window)), &frame))
        .collect();
    // 2,000 bytes do not fit in windows of 512 and 1,024.
    assert_eq!(places.iter().collect::<HashSet<_>>().len(), 3);
    assert!(places[2..].iter().all(|place| *place == places[2]));
    assert!(!places.contains(&(frame.plain().as_ptr() as usize)));
    // Again, and with a context, it is the same.
    assert_eq!(place(&mut receiver(takeover()), &frame), places[2]);
    assert_eq!(place(&mut receiver(with_window(9)), &frame.clone()), places[0]);

    let long = Frame::binary(text(1, 100_000).as_bytes());
    let places: HashSet<_> =
        (9..=15).map(|window| place(&mut receiver(with_window(window)), &long)).collect();
    assert_eq!(places.len(), 7);
}

#[test]
fn every_variant_keeps_to_its_window() {
    let messages = [text(1, 1500), (0..30).map(|number| text(number % 13, 3000)).collect()];
    for message in &messages {
        let frame = Frame::text(message);
        for window in 9..=15 {
            let bytes = receiver(with_window(window)).frame_bytes(&frame).unwrap();
            assert_eq!(bytes[0], FIN | RSV1 | TEXT);
            // The receiver refuses what refers beyond the window.
            let received = ForeignReceiver::new(bits(window), false).receive(&bytes);
            let payload = message.clone().into_bytes();
            assert_eq!(received, [Received { first: RSV1 | TEXT, payload }]);
        }
    }
}

#[test]
fn goes_plain_where_compression_is_not_wanted_or_not_worth_it() {
    let message = text(1, 2000);
    let frame = Frame::text(&message);
    let plain = frame.plain().as_ptr() as usize;
    assert_eq!(place(&mut server(Limits::default()), &frame), plain);
    assert_eq!(
        place(&mut receiver(Options::default()), &frame.clone().without_compression()),
        plain
    );
    let mut switched_off = receiver(Options::default());
    switched_off.set_compression(false);
    assert_eq!(place(&mut switched_off, &frame), plain);

    // The threshold is each connection's own, with a context too.
    for base in [Options::default(), takeover()] {
        for (threshold_bytes, compressed) in [(2000, true), (2001, false)] {
            let options = Options { threshold_bytes, ..base };
            assert_eq!(place(&mut receiver(options), &frame) != plain, compressed);
        }
    }
    let noise = Frame::binary(&noise(5000));
    let plain = noise.plain().as_ptr() as usize;
    assert_eq!(place(&mut receiver(Options::default()), &noise), plain);
}

#[test]
fn whoever_has_only_the_agreement_gets_the_same_bytes() {
    let frame = Frame::text(&text(1, 3000));
    for window in [9, 12, 15] {
        let (_, agreed) = agree(with_window(window), with_window(window)).unwrap();
        let bytes = frame.bytes_without_context(Some(&agreed));
        assert_eq!(bytes.as_ptr() as usize, place(&mut receiver(with_window(window)), &frame));
    }
    let plain = frame.plain().as_ptr();
    assert_eq!(frame.bytes_without_context(None).as_ptr(), plain);
    // With a context the connection would have to know.
    let (_, agreed) = agree(takeover(), takeover()).unwrap();
    assert_eq!(frame.bytes_without_context(Some(&agreed)).as_ptr(), plain);
}

#[test]
fn threads_that_need_it_at_once_get_the_same() {
    let frame = Frame::text(&text(1, 200_000));
    let places = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| place(&mut receiver(Options::default()), &frame)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<HashSet<_>>()
    });
    assert_eq!(places.len(), 1);
}

#[test]
fn h106_a_client_masks_a_copy() {
    for options in [Options::default(), takeover()] {
        for len in [100, 3000] {
            let message = text(1, len);
            let frame = Frame::text(&message);
            let mut client = deflating(Role::Client, options, Limits::default());
            let mut out = b"before".to_vec();
            client.encode_frame_masked(&mut out, &frame, KEY).unwrap();
            let mut again = Vec::new();
            client.encode_frame_masked(&mut again, &frame, KEY).unwrap();
            assert_eq!(out[6..], again);
            assert_eq!(out.starts_with(b"before\xC1"), len == 3000);
            assert_eq!(frame.payload(), message.as_bytes());
            let mut server = deflating(Role::Server, options, Limits::default());
            assert_eq!(read(&mut server, &again), [Event::Text(message.into())]);
        }
    }
}

#[test]
fn is_not_sent_once_the_closing_handshake_has_begun() {
    let frame = Frame::text("late");
    let mut pair = Pair::with_deflate(Options::default(), Options::default());
    pair.client.close(None, "", pair.now).unwrap();
    pair.settle();
    assert_eq!(pair.server.frame_bytes(&frame), Err(SendError::Closing));
    let mut out = Vec::new();
    assert_eq!(pair.client.encode_frame_masked(&mut out, &frame, KEY), Err(SendError::Closing));
    assert_eq!(out, b"");
}

/// Doing neither (resetting the compressor nor telling it) corrupted the third of such messages.
#[test]
fn shared_frames_do_not_corrupt_a_context() {
    let mut pair = Pair::with_deflate(takeover(), takeover());
    let mut expected = Vec::new();
    for number in 0..400 {
        let message = text(number % 7, 1200 + number);
        if number % 3 == 1 {
            let bytes = pair.server.frame_bytes(&Frame::text(&message)).unwrap();
            assert_eq!(bytes[0], FIN | RSV1 | TEXT);
            pair.to_client.extend_from_slice(&bytes);
        } else {
            pair.server.encode(&mut pair.to_client, MessageRef::Text(&message)).unwrap();
        }
        expected.push(Event::Text(message.into()));
    }
    pair.settle();
    assert_eq!(pair.client_events, expected);
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Own,
    OwnUncompressed,
    Shared,
    SharedUncompressed,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::Own),
        Just(Way::OwnUncompressed),
        Just(Way::Shared),
        Just(Way::SharedUncompressed)
    ]
}

proptest! {
    #[test]
    fn own_and_shared_messages_arrive_in_any_order(
        role in roles(),
        window in 9..=15_u8,
        keeps in any::<bool>(),
        messages in vec((0..5_usize, 0..3000_usize, way()), 1..12),
    ) {
        let options = Options {
            server_no_context_takeover: !keeps,
            client_no_context_takeover: !keeps,
            server_max_window_bits: bits(window),
            client_max_window_bits: bits(window),
            threshold_bytes: 200,
            ..Options::default()
        };
        let mut connection = deflating(role, options, Limits::default());
                let mut peer = deflating(peer_of(role), options, Limits::default());
        let mut foreign = ForeignReceiver::new(bits(window), keeps);
        for (number, len, way) in messages {
            let text = text(number, len);
            let mut out = Vec::new();
            let mut frame = Frame::text(&text);
            connection.set_compression(!matches!(way, Way::OwnUncompressed));
            if matches!(way, Way::SharedUncompressed) {
                frame = frame.without_compression();
            }
            match (way, role) {
                (Way::Own | Way::OwnUncompressed, _) => {
                    encode(&mut connection, role, &mut out, MessageRef::Text(&text)).unwrap();
                }
                (_, Role::Client) => {
                    connection.encode_frame_masked(&mut out, &frame, KEY).unwrap();
                }
                (_, Role::Server) => out.extend(connection.frame_bytes(&frame).unwrap()),
            }
            let first = out[0] & !FIN;
            let payload = text.clone().into_bytes();
            prop_assert_eq!(foreign.receive(&out), vec![Received { first, payload }]);
            prop_assert_eq!(read(&mut peer, &out), vec![Event::Text(text.into())]);
        }
    }
}
