//! Properties of MessagePack: packets arrive as they were sent, and bytes of any kind are read as
//! valid JSON or refused.

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sockeye_proto::engine;
use sockeye_proto::engine::payload::SEPARATOR;
use sockeye_proto::socket::msgpack::{ReadLimits, to_json, write_json};
use sockeye_proto::socket::{EncodedPacket, Parser, Violation};

use crate::reader::*;
use crate::values::{Arguments, Sent, Value, sent, value};

const LIMITS: ReadLimits = ReadLimits { depth_max: 20, attachments_max: 200 };

fn encode(packet: &Sent) -> EncodedPacket {
    Parser::MessagePack.encode(packet.encode()).expect("the values are JSON")
}

/// What the messages say to who has joined the packets' namespaces.
fn arrived(packets: &[Sent], messages: Vec<Message>) -> Vec<Sent> {
    let mut multiplexer = joined(packets.iter().map(Sent::namespace));
    let mut arrived = Vec::new();
    for message in messages {
        let mut message = match message {
            Message::Text(text) => engine::Message::Text(text.into()),
            Message::Binary(data) => engine::Message::Binary(data.into()),
        };
        let incoming = Parser::MessagePack.handle(&mut multiplexer, &mut message);
        arrived.extend(incoming.expect("a legal packet").and_then(read));
    }
    arrived
}

/// As JavaScript has it: a number without a fraction is whole.
fn whole(value: &Value) -> Value {
    match value {
        Value::Float(float) if float.fract() == 0.0 => Value::Integer(*float as i64),
        Value::List(list) => Value::List(list.iter().map(whole).collect()),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), whole(value))).collect())
        }
        other => other.clone(),
    }
}

fn expected(packet: &Sent) -> Sent {
    let mut packet = packet.clone();
    let (Sent::Event { args, .. } | Sent::Ack { args, .. }) = &mut packet;
    *args = args.iter().map(whole).collect();
    packet
}

/// Bytes that are MessagePack but for what was done to them, and bytes at random.
fn broken() -> impl Strategy<Value = Vec<u8>> {
    let mutated = (vec(value(), 0..4), any::<[Index; 2]>(), vec(any::<u8>(), 0..6));
    let mutated = mutated.prop_map(|(values, ends, noise)| {
        let packet = EncodedPacket::ack("/", 1, &Arguments(&values)).expect("JSON");
        let attachments: Vec<_> = packet.attachments().collect();
        let mut bytes = Vec::new();
        write_json(&mut bytes, packet.json(), &attachments).expect("JSON");
        let mut ends = ends.map(|end| end.index(bytes.len() + 1));
        ends.sort_unstable();
        bytes.splice(ends[0]..ends[1], noise);
        bytes
    });
    prop_oneof![2 => mutated, 1 => vec(any::<u8>(), 0..40)]
}

proptest! {
    #[test]
    fn packets_arrive_over_websocket_and_long_polling(packets in vec(sent(), 1..5)) {
        let encoded: Vec<_> = packets.iter().map(encode).collect();
        let expected: Vec<_> = packets.iter().map(expected).collect();
        let wire: Vec<_> = encoded.iter().flat_map(|packet| packet.wire().to_vec()).collect();
        prop_assert_eq!(arrived(&packets, from_frames([&wire[..]])), expected.clone());

        let mut body = Vec::new();
        for packet in &encoded {
            if !body.is_empty() {
                body.push(SEPARATOR);
            }
            let start = body.len();
            packet.write_payload(&mut body);
            prop_assert_eq!(body.len() - start, packet.payload_len());
        }
        prop_assert_eq!(arrived(&packets, from_payload(&body)), expected);
    }

    #[test]
    fn encoding_twice_is_encoding_once(packet in sent()) {
        let once = encode(&packet);
        let twice = Parser::MessagePack.encode(once.clone()).expect("it is left as it is");
        prop_assert_eq!(twice.wire(), once.wire());
        let plain = packet.encode();
        let json = Parser::Json.encode(plain.clone()).expect("it is left as it is");
        prop_assert_eq!(json.wire(), plain.wire());
    }

    #[test]
    fn whatever_is_read_is_json_and_stays_so(bytes in broken()) {
        let Ok((json, attachments)) = to_json(&bytes, LIMITS) else { return Ok(()) };
        let value: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
        prop_assert!(json.len() <= bytes.len() * 7 + attachments.len() * 40);

        // What looks like a placeholder and is none changes on the way; packets refuse it.
        prop_assume!(json.matches("_placeholder").count() == attachments.len());
        let mut written = Vec::new();
        write_json(&mut written, &json, &attachments).expect("valid JSON");
        let again = to_json(&written, LIMITS).expect("it was written just now");
        prop_assert_eq!(&again.1, &attachments);
        let same: serde_json::Value = serde_json::from_str(&again.0).expect("valid JSON");
        prop_assert!(is_same(&same, &value), "{} is not {json}", again.0);
        let mut last = Vec::new();
        write_json(&mut last, &again.0, &again.1).expect("valid JSON");
        prop_assert_eq!(last, written);
    }

    #[test]
    fn whatever_comes_is_a_packet_or_a_violation(bytes in broken(), good in sent()) {
        let mut multiplexer = joined(["/"]);
        let mut message = engine::Message::Binary(Cow::Borrowed(&bytes));
        let _ = Parser::MessagePack.handle(&mut multiplexer, &mut message);
        multiplexer.handle_packet_done();
        join(&mut multiplexer, good.namespace());
        let good_bytes = encode(&good).attachments().next().expect("one message").to_vec();
        let mut message = engine::Message::Binary(good_bytes.into());
        let incoming = Parser::MessagePack.handle(&mut multiplexer, &mut message).expect("legal");
        prop_assert_eq!(incoming.and_then(read), Some(expected(&good)));
    }
}

/// A float of 2⁶⁰ is written whole, and `serde_json` reads floats to the last but one digit.
fn is_same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    match (one, other) {
        (serde_json::Value::Number(one), serde_json::Value::Number(other)) => {
            let [one, other] = [one, other].map(|number| number.as_f64().unwrap_or(f64::NAN));
            one == other || (one / other - 1.0).abs() < 1e-14
        }
        (serde_json::Value::Array(one), serde_json::Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (serde_json::Value::Object(one), serde_json::Value::Object(other)) => {
            let same = |(key, one)| other.get(key).is_some_and(|other| is_same(one, other));
            one.len() == other.len() && one.iter().all(same)
        }
        (one, other) => one == other,
    }
}

#[test]
fn a_client_with_another_parser_is_told_so() {
    let mut text = engine::Message::Text("0".into());
    let handled = Parser::MessagePack.handle(&mut joined([]), &mut text).map(drop);
    assert_eq!(handled, Err(Violation::WrongParser));
}

#[test]
fn h39_placeholders_stand_for_one_attachment_each() {
    let handle = |data: &[u8]| {
        let packet = [&b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data"[..], data].concat();
        let mut message = engine::Message::Binary(packet.into());
        Parser::MessagePack
            .handle(&mut joined(["/"]), &mut message)
            .map(|incoming| incoming.is_some())
    };
    let fake = b"\x82\xac_placeholder\xc3\xa3num\x00";
    // Nothing binary is there: an object like any other.
    assert_eq!(handle(&[b"\x92\xa1e", &fake[..]].concat()), Ok(true));
    assert_eq!(handle(b"\x92\xa1e\xc4\x01x"), Ok(true));
    let both = [b"\x93\xa1e\xc4\x01x", &fake[..]].concat();
    assert_eq!(handle(&both), Err(Violation::IllegalPlaceholder));
}

#[test]
fn what_a_client_gives_to_identify_itself_has_no_binary_data() {
    let packet = b"\x83\xa4type\x00\xa3nsp\xa2/a\xa4data\x81\xa1t\xc4\x01x";
    let mut message = engine::Message::Binary(packet[..].into());
    let handled = Parser::MessagePack.handle(&mut joined([]), &mut message).map(drop);
    assert_eq!(handled, Err(Violation::InvalidPayload));
}
