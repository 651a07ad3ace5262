//! Messages sent as fragments (RFC 6455 §5.4, RFC 7692 §6.1): compressed or not, with control
//! frames between, and what a caller may not mix. Says nothing of how they are read.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_ws::deflate::Options;
use sockeye_ws::{
    CloseCode, Connection, Event, Frame, Limits, MessageRef, PartEvent, Role, SendError,
};

use crate::foreign::{ForeignReceiver, Received};
use crate::items::roles;
use crate::support::*;

fn fragment(
    connection: &mut Connection,
    role: Role,
    out: &mut Vec<u8>,
    part: MessageRef<'_>,
    fin: bool,
) -> Result<(), SendError> {
    match role {
        Role::Client => connection.encode_fragment_masked(out, part, fin, KEY),
        Role::Server => connection.encode_fragment(out, part, fin),
    }
}

/// The first bytes of the frames in `bytes`, and how long their payloads are.
fn heads(mut bytes: &[u8]) -> Vec<(u8, u64)> {
    let mut heads = Vec::new();
    while let Some((header, header_len)) = sockeye_ws::Header::decode(bytes).unwrap() {
        heads.push((bytes[0], header.payload_len));
        bytes = &bytes[header_len + header.payload_len as usize..];
    }
    heads
}

#[test]
fn the_fragmented_message_of_rfc_6455_section_5_7() {
    let mut out = Vec::new();
    let mut connection = server(Limits::default());
    connection.encode_fragment(&mut out, MessageRef::Text("Hel"), false).unwrap();
    connection.encode_fragment(&mut out, MessageRef::Text("lo"), true).unwrap();
    assert_eq!(out, b"\x01\x03Hel\x80\x02lo");
    // One fragment is a message like any other.
    out.clear();
    connection.encode_fragment(&mut out, MessageRef::Binary(b"Hello"), true).unwrap();
    assert_eq!(out, b"\x82\x05Hello");
}

#[test]
fn what_cannot_be_mixed() {
    for (options, role) in [(Options::default(), Role::Server), (takeover(), Role::Client)] {
        let mut connection = deflating(role, options, Limits::default());
        let mut out = Vec::new();
        fragment(&mut connection, role, &mut out, MessageRef::Text("begun"), false).unwrap();
        let begun = out.clone();

        for other in [MessageRef::Text("whole"), MessageRef::Binary(b"whole")] {
            let refused = encode(&mut connection, role, &mut out, other);
            assert_eq!(refused, Err(SendError::UnfinishedMessage));
        }
        let frame = Frame::text("shared");
        let refused = match role {
            Role::Client => connection.encode_frame_masked(&mut out, &frame, KEY),
            Role::Server => connection.frame_bytes(&frame).map(drop),
        };
        assert_eq!(refused, Err(SendError::UnfinishedMessage));
        let binary = fragment(&mut connection, role, &mut out, MessageRef::Binary(b""), true);
        assert_eq!(binary, Err(SendError::OtherKind));
        for control in [MessageRef::Ping(b""), MessageRef::Pong(b"")] {
            let refused = fragment(&mut connection, role, &mut out, control, true);
            assert_eq!(refused, Err(SendError::ControlFragment));
        }
        assert_eq!(out, begun);

        encode(&mut connection, role, &mut out, MessageRef::Ping(b"between")).unwrap();
        fragment(&mut connection, role, &mut out, MessageRef::Text(", ended"), true).unwrap();
        encode(&mut connection, role, &mut out, MessageRef::Text("next")).unwrap();
        let events = read(&mut deflating(peer_of(role), options, Limits::default()), &out);
        let expected = [
            Event::Ping(b"between".as_slice().into()),
            Event::Text("begun, ended".into()),
            Event::Text("next".into()),
        ];
        assert_eq!(events, expected);
    }
}

#[test]
fn nothing_follows_a_close_frame() {
    let mut pair = Pair::with_deflate(Options::default(), Options::default());
    pair.server.encode_fragment(&mut pair.to_client, MessageRef::Text("begun"), false).unwrap();
    pair.server.close(Some(CloseCode::NORMAL), "", pair.now).unwrap();
    let late = pair.server.encode_fragment(&mut pair.to_client, MessageRef::Text("late"), true);
    assert_eq!(late, Err(SendError::Closing));
    pair.settle();
    assert_eq!(pair.client_events.len(), 1);
    assert!(closed(&pair.client_events).unwrap().clean);
}

#[test]
fn e4_a_short_first_fragment_does_not_decide_about_compression() {
    // `ws` holds the first fragment against the threshold. More is to come, or the message would
    // not be fragmented.
    let mut connection = deflating(Role::Server, Options::default(), Limits::default());
    let part = text(1, 1000);
    let mut out = Vec::new();
    for fin in [false, false, true] {
        connection.encode_fragment(&mut out, MessageRef::Text(&part), fin).unwrap();
    }
    let heads = heads(&out);
    assert_eq!(heads.iter().map(|head| head.0).collect::<Vec<_>>(), [0x41, 0x00, 0x80]);
    // The fragments are one stream: the later ones refer to the first.
    assert!(heads[1].1 < heads[0].1 / 2 && heads[2].1 < heads[0].1 / 2, "{heads:?}");
    // RSV1 is the first frame's alone, and only of a message of several frames.
    out.clear();
    connection.encode_fragment(&mut out, MessageRef::Text("short"), true).unwrap();
    assert_eq!(out[0], FIN | TEXT);
}

#[test]
fn h102_empty_fragments_are_sent_as_rfc_7692_has_them() {
    for options in [Options::default(), takeover()] {
        let mut connection = deflating(Role::Server, options, Limits::default());
        let mut out = Vec::new();
        for (part, fin) in [("", false), ("", false), ("Hello", false), ("", false), ("", true)] {
            connection.encode_fragment(&mut out, MessageRef::Text(part), fin).unwrap();
        }
        let lens: Vec<_> = heads(&out).into_iter().map(|head| head.1).collect();
        // §7.2.3.6: "a single octet, 0x00" for the last one.
        assert_eq!((lens[0], lens[1], lens[3], lens[4]), (0, 0, 0, 1));
        assert!(out.ends_with(b"\x80\x01\0"));
        connection.encode_fragment(&mut out, MessageRef::Text(""), false).unwrap();
        connection.encode_fragment(&mut out, MessageRef::Text(""), true).unwrap();
        let mut client = deflating(Role::Client, options, Limits::default());
        let events = read(&mut client, &out);
        assert_eq!(events, [Event::Text("Hello".into()), Event::Text("".into())]);
    }
}

#[test]
fn each_fragment_can_be_inflated_when_it_has_come() {
    for options in [Options::default(), takeover()] {
        let mut pair = Pair::with_deflate(options, options);
        for number in 0..20 {
            let part = text(number, 10 + 100 * number);
            let last = number == 19;
            let message = MessageRef::Text(&part);
            pair.server.encode_fragment(&mut pair.to_client, message, last).unwrap();
            let mut input = std::mem::take(&mut pair.to_client);
            let events: Vec<_> = pair.client.handle_input_in_parts(&mut input, pair.now).collect();
            let [PartEvent::Text(got)] = &events[..] else { panic!("{events:?}") };
            assert_eq!(got.data, part);
            assert_eq!((got.first, got.last), (number == 0, last));
        }
    }
}

#[test]
fn a_long_message_keeps_to_the_window() {
    for window in 8..=15 {
        for base in [Options::default(), takeover()] {
            let options = Options { client_max_window_bits: bits(window), ..base };
            let mut client = deflating(Role::Client, options, Limits::default());
            let mut out = Vec::new();
            let mut message = Vec::new();
            for number in 0..20 {
                let part = text(number % 5, 3000);
                message.extend_from_slice(part.as_bytes());
                let part = MessageRef::Text(&part);
                fragment(&mut client, Role::Client, &mut out, part, number == 19).unwrap();
            }
            // The receiver looks at how far back they refer.
            let first = if window == 8 { TEXT } else { RSV1 | TEXT };
            let keeps = !options.client_no_context_takeover;
            let received = ForeignReceiver::new(bits(window), keeps).receive(&out);
            assert_eq!(received, [Received { first, payload: message }]);
        }
    }
}

proptest! {
    #[test]
    fn fragments_whole_and_shared_messages_arrive(
        role in roles(),
        window in 8..=15_u8,
        keeps in any::<bool>(),
        messages in vec(
            (0..5_usize, 0..5000_usize, vec(any::<Index>(), 0..4), any::<(bool, bool, bool)>()),
            1..8,
        ),
    ) {
        let options = Options {
            server_no_context_takeover: !keeps,
            client_no_context_takeover: !keeps,
            client_max_window_bits: bits(window),
            server_max_window_bits: bits(window.max(9)),
            ..Options::default()
        };
        let mut connection = deflating(role, options, Limits::default());
                let mut peer = deflating(peer_of(role), options, Limits::default());
        let window = if role == Role::Client { window } else { window.max(9) };
        let mut foreign = ForeignReceiver::new(bits(window), keeps);
        for (number, len, cuts, (on, shared, ping)) in messages {
            let text = text(number, len);
            let mut out = Vec::new();
            connection.set_compression(on);
            if shared {
                let frame = Frame::text(&text);
                match role {
                    Role::Client => connection.encode_frame_masked(&mut out, &frame, KEY).unwrap(),
                    Role::Server => out.extend(connection.frame_bytes(&frame).unwrap()),
                }
            } else {
                let parts = split(text.as_bytes(), &cuts);
                for (index, part) in parts.iter().enumerate() {
                    let part = MessageRef::Text(str::from_utf8(part).unwrap());
                    let fin = index + 1 == parts.len();
                    fragment(&mut connection, role, &mut out, part, fin).unwrap();
                    // Switching within a message is for the next one.
                    connection.set_compression(!on);
                    if ping {
                        encode(&mut connection, role, &mut out, MessageRef::Ping(b"?")).unwrap();
                    }
                }
            }
            let first = out[0] & !FIN;
            prop_assert!(on || first & RSV1 == 0);
            let payload = text.clone().into_bytes();
            prop_assert_eq!(foreign.receive(&out), vec![Received { first, payload }]);
            let mut events = read(&mut peer, &out);
            events.retain(|event| !matches!(event, Event::Ping(_)));
            prop_assert_eq!(events, vec![Event::Text(text.into())]);
            transmit(&mut peer, peer_of(role));
        }
    }
}
