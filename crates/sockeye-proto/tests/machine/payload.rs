//! Properties of long-polling payloads: what is encoded is decoded, and a bad packet spoils only
//! what comes behind it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_proto::engine::payload::{SEPARATOR, decode};
use sockeye_proto::engine::{Message, Packet};

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

proptest! {
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
