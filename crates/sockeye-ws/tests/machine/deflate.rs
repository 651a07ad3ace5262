//! permessage-deflate in the machine: the examples of RFC 7692, and what is compressed when.
//! Says nothing of what a peer may get wrong; that is `inflate`.

use std::time::Instant;

use sockeye_ws::deflate::Options;
use sockeye_ws::{CloseCode, Event, Limits, MessageRef, Role};

use crate::foreign::{ForeignReceiver, Received};
use crate::support::*;

const HELLO: &[u8] = b"\xF2\x48\xCD\xC9\xC9\x07\x00";

fn hello() -> Event<'static> {
    Event::Text("Hello".into())
}

/// Compresses everything, however short.
fn eager(options: Options) -> Options {
    Options { threshold_bytes: 0, ..options }
}

/// The events of frames `(first byte, payload)`, whole and byte by byte, for both roles.
#[track_caller]
fn assert_events(options: Options, frames: &[(u8, &[u8])], expected: &[Event<'_>]) {
    for role in [Role::Server, Role::Client] {
        let frames = frames.iter().flat_map(|(first, payload)| frame_to(role, *first, payload));
        let bytes: Vec<u8> = frames.collect();
        for chunk_len in [bytes.len(), 1, 3] {
            let mut connection = deflating(role, options, Limits::default());
            let events = bytes.chunks(chunk_len).flat_map(|chunk| read(&mut connection, chunk));
            assert_eq!(events.collect::<Vec<_>>(), expected, "{role:?} in {chunk_len}");
            assert!(connection.is_open());
        }
    }
}

#[test]
fn rfc_7692_section_7_2_3_1_one_block() {
    assert_events(takeover(), &[(FIN | RSV1 | TEXT, HELLO)], &[hello()]);
    let fragments: [(u8, &[u8]); 2] =
        [(RSV1 | TEXT, b"\xF2\x48\xCD"), (FIN | CONTINUATION, b"\xC9\xC9\x07\x00")];
    assert_events(takeover(), &fragments, &[hello()]);
}

#[test]
fn rfc_7692_section_7_2_3_2_sharing_the_window() {
    let first = (FIN | RSV1 | TEXT, HELLO);
    let second: (u8, &[u8]) = (FIN | RSV1 | TEXT, b"\xF2\x00\x11\x00\x00");
    assert_events(takeover(), &[first, second], &[hello(), hello()]);
    // A message that is not compressed is no part of the window.
    let between: (u8, &[u8]) = (FIN | TEXT, b"between");
    let events = [hello(), Event::Text("between".into()), hello()];
    assert_events(takeover(), &[first, between, second], &events);
    // Nor need the window be used.
    assert_events(takeover(), &[first, first, second], &[hello(), hello(), hello()]);
    assert_events(Options::default(), &[first, first], &[hello(), hello()]);
}

#[test]
fn rfc_7692_section_7_2_3_3_a_block_without_compression() {
    let stored: &[u8] = b"\x00\x05\x00\xFA\xFFHello\x00";
    assert_events(takeover(), &[(FIN | RSV1 | TEXT, stored)], &[hello()]);
}

#[test]
fn rfc_7692_section_7_2_3_4_a_block_marked_as_the_last() {
    let last: (u8, &[u8]) = (FIN | RSV1 | TEXT, b"\xF3\x48\xCD\xC9\xC9\x07\x00\x00");
    assert_events(takeover(), &[last], &[hello()]);
    // Blocks that follow begin anew.
    assert_events(
        takeover(),
        &[last, last, (FIN | RSV1 | TEXT, HELLO)],
        &[hello(), hello(), hello()],
    );
    // Without the octet behind it, as some peers send it; `ws` takes it too.
    let bare: (u8, &[u8]) = (FIN | RSV1 | TEXT, b"\xF3\x48\xCD\xC9\xC9\x07\x00");
    assert_events(takeover(), &[bare, bare], &[hello(), hello()]);
    assert_events(Options::default(), &[bare, (FIN | RSV1 | TEXT, HELLO)], &[hello(), hello()]);
    // Several in one message, in fragments.
    let fragments: [(u8, &[u8]); 3] =
        [(RSV1 | TEXT, bare.1), (CONTINUATION, b""), (FIN | CONTINUATION, last.1)];
    assert_events(takeover(), &fragments, &[Event::Text("HelloHello".into())]);
}

#[test]
fn rfc_7692_section_7_2_3_5_two_blocks() {
    let two: &[u8] = b"\xF2\x48\x05\x00\x00\x00\xFF\xFF\xCA\xC9\xC9\x07\x00";
    assert_events(takeover(), &[(FIN | RSV1 | TEXT, two)], &[hello()]);
}

#[test]
fn rfc_7692_section_7_2_3_6_an_empty_message() {
    let empty = Event::Text("".into());
    for payload in [&b"\x00"[..], b"\x02\x00", b"\x03\x00", b"\x03\x00\x00", b""] {
        let message = (FIN | RSV1 | TEXT, payload);
        assert_events(takeover(), &[message, message], &[empty.clone(), empty.clone()]);
    }
}

#[test]
fn uncompressed_messages_stay_legal() {
    let frames: [(u8, &[u8]); 4] = [
        (FIN | TEXT, b"plain"),
        (FIN | RSV1 | TEXT, HELLO),
        (BINARY, b"pl"),
        (FIN | CONTINUATION, b"ain"),
    ];
    let events = [Event::Text("plain".into()), hello(), Event::Binary(b"plain".as_slice().into())];
    assert_events(Options::default(), &frames, &events);
}

#[test]
fn h102_empty_fragments_of_a_compressed_message() {
    let (head, tail) = HELLO.split_at(3);
    let frames: [(u8, &[u8]); 6] = [
        (RSV1 | TEXT, b""),
        (CONTINUATION, head),
        (CONTINUATION, b""),
        (FIN | PING, b"between"),
        (CONTINUATION, tail),
        (FIN | CONTINUATION, b""),
    ];
    let events = [Event::Ping(b"between".as_slice().into()), hello()];
    assert_events(takeover(), &frames, &events);
    let empty: [(u8, &[u8]); 2] = [(RSV1 | BINARY, b""), (FIN | CONTINUATION, b"\x00")];
    assert_events(takeover(), &empty, &[Event::Binary([].as_slice().into())]);
}

#[test]
fn h100_what_was_sent_before_a_close_arrives_before_it() {
    let mut pair = Pair::with_deflate(takeover(), takeover());
    let texts: Vec<_> = (0..5).map(|number| text(number, 5000)).collect();
    for text in &texts {
        pair.server.encode(&mut pair.to_client, MessageRef::Text(text)).unwrap();
    }
    // The client's close frame arrives while they are under way.
    pair.client.close(Some(CloseCode::NORMAL), "", pair.now).unwrap();
    pair.settle();
    assert_eq!(pair.client_events.len(), 6);
    for (event, text) in pair.client_events.iter().zip(texts) {
        assert_eq!(*event, Event::Text(text.into()));
    }
    assert!(closed(&pair.client_events).unwrap().clean);
    assert!(closed(&pair.server_events).unwrap().clean);
}

#[test]
fn h106_compressing_and_masking_do_not_modify_the_callers_buffer() {
    let payload = text(1, 3000);
    let mut client = deflating(Role::Client, Options::default(), Limits::default());
    let mut out = b"before".to_vec();
    client.encode_masked(&mut out, MessageRef::Text(&payload), KEY).unwrap();
    assert!(out.starts_with(b"before\xC1"));
    assert_eq!(payload, text(1, 3000));
    let mut server = deflating(Role::Server, Options::default(), Limits::default());
    assert_eq!(read(&mut server, &out[6..]), [Event::Text(payload.into())]);
}

/// What `role` sends, compressed or not, and that the other implementation reads it.
fn sent(role: Role, options: Options, messages: &[&[u8]]) -> Vec<(bool, usize)> {
    let mut connection = deflating(role, options, Limits::default());
    let (window, takeover) = match role {
        Role::Client => (options.client_max_window_bits, !options.client_no_context_takeover),
        Role::Server => (options.server_max_window_bits, !options.server_no_context_takeover),
    };
    let mut receiver = ForeignReceiver::new(window, takeover);
    let mut lens = Vec::new();
    for payload in messages {
        let mut out = Vec::new();
        encode(&mut connection, role, &mut out, MessageRef::Binary(payload)).unwrap();
        let compressed = out[0] == FIN | RSV1 | BINARY;
        lens.push((compressed, out.len()));
        let first = if compressed { RSV1 | BINARY } else { BINARY };
        let received = Received { first, payload: payload.to_vec() };
        assert_eq!(receiver.receive(&out), [received]);
    }
    lens
}

fn compressed(role: Role, options: Options, payload: &[u8]) -> bool {
    sent(role, options, &[payload])[0].0
}

#[test]
fn e4_threshold_short_messages_go_uncompressed() {
    let message = text(1, 2000);
    for role in [Role::Client, Role::Server] {
        for (len, threshold_bytes, expected) in [
            (1023, 1024, false),
            (1024, 1024, true),
            (100, 100, true),
            (2000, usize::MAX, false),
            (0, 0, false),
        ] {
            let options = Options { threshold_bytes, ..Options::default() };
            let payload = &message.as_bytes()[..len];
            assert_eq!(compressed(role, options, payload), expected, "{len} of {threshold_bytes}");
        }
    }
    assert_eq!(Options::default().threshold_bytes, 1024);
}

#[test]
fn e4_threshold_does_not_count_with_a_context() {
    // `ws`: "only matters when own direction has no_context_takeover".
    let message = text(1, 100);
    let messages = [message.as_bytes(); 3];
    for role in [Role::Client, Role::Server] {
        let lens = sent(role, takeover(), &messages);
        assert!(lens.iter().all(|(compressed, _)| *compressed));
        assert!(lens[1].1 * 3 < lens[0].1, "{lens:?}");
        // The context of the other direction changes nothing.
        let theirs = Options {
            server_no_context_takeover: role == Role::Server,
            client_no_context_takeover: role == Role::Client,
            ..Options::default()
        };
        assert!(!sent(role, theirs, &messages)[0].0);
    }
}

#[test]
fn what_does_not_become_shorter_goes_uncompressed() {
    let noise = noise(5000);
    assert!(!compressed(Role::Server, Options::default(), &noise));
    // With a context it must go: what follows may refer to it.
    let lens = sent(Role::Server, takeover(), &[&noise, &noise]);
    assert!(lens[0].0 && lens[0].1 > noise.len());
    assert!(lens[1].1 < 200, "{lens:?}");
}

#[test]
fn windows_are_kept_to() {
    let long: Vec<u8> = (0..14).flat_map(|number| text(number % 5, 3000).into_bytes()).collect();
    let messages = [&long[..], &long[..700], b"short", &long[..]];
    for base in [Options::default(), takeover()] {
        for window in 9..=15 {
            let options = Options {
                server_max_window_bits: bits(window),
                client_max_window_bits: bits(window),
                ..eager(base)
            };
            for role in [Role::Client, Role::Server] {
                // The receiver refuses what refers beyond the window.
                let lens = sent(role, options, &messages);
                assert!(lens[0].0 && lens[3].0, "{window}: {lens:?}");
            }
        }
    }
}

#[test]
fn a_client_whose_window_is_256_bytes_compresses_what_fits_in_it() {
    let message = text(1, 257);
    for base in [Options::default(), takeover()] {
        let options = Options { client_max_window_bits: bits(8), ..eager(base) };
        let lens = sent(Role::Client, options, &[&message.as_bytes()[..256], message.as_bytes()]);
        assert_eq!([lens[0].0, lens[1].0], [true, false]);
    }
}

#[test]
fn compression_can_be_switched_off_and_on() {
    let message = text(1, 2000);
    for options in [Options::default(), takeover()] {
        let mut pair = Pair::with_deflate(options, options);
        let mut firsts = Vec::new();
        for on in [true, false, false, true] {
            pair.server.set_compression(on);
            let mut out = Vec::new();
            pair.server.encode(&mut out, MessageRef::Text(&message)).unwrap();
            firsts.push(out[0]);
            pair.to_client.extend(out);
        }
        assert_eq!(firsts, [0xC1, 0x81, 0x81, 0xC1]);
        pair.settle();
        assert_eq!(pair.client_events, vec![Event::Text(message.clone().into()); 4]);
    }
    // Without permessage-deflate there is nothing to switch.
    let mut plain = server(Limits::default());
    plain.set_compression(true);
    let mut out = Vec::new();
    plain.encode(&mut out, MessageRef::Text(&message)).unwrap();
    assert_eq!(out[0], 0x81);
}

#[test]
fn levels_and_memory_levels_are_taken_and_bounded() {
    let long: Vec<u8> = (0..30).flat_map(|number| text(number, 3000).into_bytes()).collect();
    let len = |level, mem_level| {
        let options = Options { level, mem_level, ..Options::default() };
        sent(Role::Server, options, &[&long])[0].1
    };
    assert!(len(9, 9) < len(1, 9));
    for (level, mem_level) in [(0, 0), (5, 5), (255, 255)] {
        assert!(len(level, mem_level) < long.len());
    }
    assert_eq!(len(0, 0), len(1, 1));
    assert_eq!(len(255, 255), len(9, 9));
}

#[test]
fn both_sides_on_a_virtual_clock() {
    for (client, server) in [
        (Options::default(), Options::default()),
        (takeover(), takeover()),
        (Options::default(), takeover()),
        (eager(takeover()), eager(Options::default())),
    ] {
        let mut pair = Pair::with_deflate(client, server);
        for round in 0..20 {
            let message = text(round % 3, 100 + 400 * round);
            let key = [round as u8; 4];
            pair.client
                .encode_masked(&mut pair.to_server, MessageRef::Text(&message), key)
                .unwrap();
            pair.client.encode_masked(&mut pair.to_server, MessageRef::Ping(b"?"), key).unwrap();
            pair.server.encode(&mut pair.to_client, MessageRef::Text(&message)).unwrap();
            pair.settle();
            let text = Event::Text(message.into());
            assert_eq!(pair.server_events, [text.clone(), Event::Ping(b"?".as_slice().into())]);
            assert_eq!(pair.client_events, [text, Event::Pong(b"?".as_slice().into())]);
            pair.server_events.clear();
            pair.client_events.clear();
        }
        pair.server.close(Some(CloseCode::NORMAL), "", pair.now).unwrap();
        pair.settle();
        assert!(closed(&pair.client_events).unwrap().clean);
        assert!(closed(&pair.server_events).unwrap().clean);
    }
}

#[test]
fn without_an_agreement_nothing_changes() {
    let declining = Options { server_max_window_bits: bits(8), ..Options::default() };
    let mut pair = Pair::with_deflate(Options::default(), declining);
    let message = text(1, 2000);
    pair.server.encode(&mut pair.to_client, MessageRef::Text(&message)).unwrap();
    assert_eq!(pair.to_client[0], FIN | TEXT);
    pair.settle();
    assert_eq!(pair.client_events, [Event::Text(message.into())]);
    let events = read_at(&mut pair.server, &masked(FIN | RSV1 | TEXT, HELLO), Instant::now());
    assert_eq!(closed(&events).unwrap().code, CloseCode::PROTOCOL_ERROR);
}
