//! Properties of long-polling payloads: what is encoded is decoded, and a bad packet spoils only
//! what comes behind it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_proto::engine::payload::{SEPARATOR, decode};
use sockeye_proto::engine::{Message, Packet, payload_v3};

use crate::values::text;

fn packet() -> impl Strategy<Value = Packet<'static>> {
    let bytes = vec(any::<u8>(), 0..100);
    prop_oneof![
        4 => text().prop_map(|text| Packet::Message(Message::Text(text.into()))),
        4 => bytes.prop_map(|bytes| Packet::Message(Message::Binary(bytes.into()))),
        1 => text().prop_map(|text| Packet::Open(text.into())),
        1 => text().prop_map(|text| Packet::Ping(text.into())),
        1 => text().prop_map(|text| Packet::Pong(text.into())),
        1 => Just(Packet::Close),
        1 => Just(Packet::Upgrade),
        1 => Just(Packet::Noop),
    ]
}

fn encode(packets: &[Packet<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        if index > 0 {
            body.push(SEPARATOR);
        }
        packet.encode_text(&mut body);
    }
    body
}

/// A packet's text in revision 3.
fn text_v3(packet: &Packet<'_>) -> String {
    let mut text = Vec::new();
    packet.encode_text(&mut text);
    if let Packet::Message(Message::Binary(_)) = packet {
        text.insert(1, b'4');
    }
    String::from_utf8(text).expect("text")
}

proptest! {
    #[test]
    fn what_is_encoded_with_lengths_is_decoded(packets in vec(packet(), 1..12)) {
        let (mut body, mut binary) = (Vec::new(), Vec::new());
        for packet in &packets {
            payload_v3::encode(&text_v3(packet), &mut body);
            match packet {
                Packet::Message(Message::Binary(data)) => {
                    payload_v3::encode_binary(data, &mut binary);
                }
                packet => payload_v3::encode_text_in_binary(&text_v3(packet), &mut binary),
            }
        }
        let decoded: Result<Vec<_>, _> = payload_v3::decode(&body).collect();
        prop_assert_eq!(decoded.as_ref(), Ok(&packets));
        let decoded: Result<Vec<_>, _> = payload_v3::decode_binary(&binary).collect();
        prop_assert_eq!(decoded.as_ref(), Ok(&packets));
        // Cut off, it is what came whole, and an error unless it was cut between packets.
        for cut in 0..body.len() {
            let decoded: Vec<_> = payload_v3::decode(&body[..cut]).collect();
            let good: Vec<_> = decoded.iter().map_while(|packet| packet.as_ref().ok()).collect();
            prop_assert!(good.len() < packets.len() || cut == body.len());
            prop_assert!(good.iter().zip(&packets).all(|(one, other)| *one == other));
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(packets in vec(packet(), 1..12)) {
        let body = encode(&packets);
        let decoded: Result<Vec<_>, _> = decode(&body).collect();
        prop_assert_eq!(decoded, Ok(packets));
    }

    #[test]
    fn base64_needs_no_padding(bytes in vec(any::<u8>(), 0..100)) {
        let packets = [Packet::from_binary(bytes.into())];
        let mut body = encode(&packets);
        while body.last() == Some(&b'=') {
            body.pop();
        }
        let decoded: Result<Vec<_>, _> = decode(&body).collect();
        prop_assert_eq!(decoded, Ok(packets.to_vec()));
    }

    #[test]
    fn a_bad_packet_spoils_only_what_comes_behind_it(
        packets in vec(packet(), 0..6),
        noise in vec(any::<u8>(), 0..12),
        place in any::<Index>(),
    ) {
        let mut body = encode(&packets);
        let place = place.index(body.len() + 1);
        body.splice(place..(place + noise.len() / 2).min(body.len()), noise);

        let decoded: Vec<_> = decode(&body).collect();
        let pieces: Vec<_> = body.split(|byte| *byte == SEPARATOR).collect();
        // Each piece alone is what it is among others.
        let alone = pieces.iter().map(|piece| decode(piece).next().expect("one piece, one packet"));
        let alone: Vec<_> = alone.collect();
        let good = alone.iter().take_while(|packet| packet.is_ok()).count();
        let expected = &alone[..alone.len().min(good + 1)];
        prop_assert_eq!(&decoded[..], expected);

        // And what was good is good again.
        let good: Vec<_> = decoded.into_iter().map_while(Result::ok).collect();
        if !good.is_empty() {
            let again: Result<Vec<_>, _> = decode(&encode(&good)).map(|p| p.map(owned)).collect();
            prop_assert_eq!(again, Ok(good));
        }
    }
}

fn owned(packet: Packet<'_>) -> Packet<'static> {
    let text = |text: std::borrow::Cow<'_, str>| text.into_owned().into();
    match packet {
        Packet::Open(json) => Packet::Open(text(json)),
        Packet::Ping(data) => Packet::Ping(text(data)),
        Packet::Pong(data) => Packet::Pong(text(data)),
        Packet::Message(Message::Text(data)) => Packet::Message(Message::Text(text(data))),
        Packet::Message(Message::Binary(data)) => Packet::from_binary(data.into_owned().into()),
        Packet::Close => Packet::Close,
        Packet::Upgrade => Packet::Upgrade,
        Packet::Noop => Packet::Noop,
    }
}
