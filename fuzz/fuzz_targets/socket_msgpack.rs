//! Bytes as MessagePack: a value is read into JSON that `serde_json` accepts, within the limits,
//! and comes back the same when it is written; a packet is what a multiplexer may be handed, or a
//! violation.

#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sockeye_proto::engine::Message;
use sockeye_proto::socket::msgpack::{ReadLimits, to_json, write_json};
use sockeye_proto::socket::{Incoming, Multiplexer, MultiplexerLimits, Parser};

const LIMITS: ReadLimits = ReadLimits { depth_max: 50, attachments_max: 10 };

fuzz_target!(|bytes: &[u8]| {
    value(bytes);
    packet(bytes);
});

fn value(bytes: &[u8]) {
    let Ok((json, attachments)) = to_json(bytes, LIMITS) else { return };
    let value: Value = serde_json::from_str(&json).expect("valid JSON");
    assert!(depth(&value) <= LIMITS.depth_max + 1, "a placeholder is one more");
    assert!(attachments.len() <= LIMITS.attachments_max);
    assert!(attachments.iter().map(|data| data.len()).sum::<usize>() <= bytes.len());
    assert!(json.len() <= bytes.len() * 7 + attachments.len() * 40);
    if json.matches("_placeholder").count() != attachments.len() {
        // An object that only looks like a placeholder.
        return;
    }
    let mut written = Vec::new();
    write_json(&mut written, &json, &attachments).expect("valid JSON");
    let (again, same) = to_json(&written, LIMITS).expect("it was written just now");
    assert_eq!(same, attachments);
    let again_value: Value = serde_json::from_str(&again).expect("valid JSON");
    assert!(is_same(&again_value, &value), "{again} is not {json}");
    let mut last = Vec::new();
    write_json(&mut last, &again, &same).expect("valid JSON");
    assert_eq!(last, written);
}

fn packet(bytes: &[u8]) {
    let limits = MultiplexerLimits { depth_max: 50, ..MultiplexerLimits::default() };
    let mut multiplexer = Multiplexer::new(limits);
    multiplexer.handle_text("0").expect("CONNECT");
    multiplexer.handle_connect_accepted("/");
    let mut message = Message::Binary(Cow::Borrowed(bytes));
    match Parser::MessagePack.handle(&mut multiplexer, &mut message) {
        Ok(Some(Incoming::Connect { namespace, auth })) => {
            assert!(namespace.starts_with('/') && namespace != "/");
            let auth = auth.map(|auth| serde_json::from_str::<Value>(auth).expect("valid JSON"));
            assert!(auth.is_none_or(|auth| auth.is_object()));
        }
        Ok(Some(Incoming::Disconnect { namespace })) => assert_eq!(namespace, "/"),
        Ok(Some(Incoming::Event { event, .. })) => {
            assert!(!sockeye_proto::socket::RESERVED_EVENTS.contains(&&*event.name));
            event.args.cursor().rest::<Vec<Value>>().expect("valid JSON");
        }
        Ok(Some(Incoming::Ack { args, .. })) => {
            args.cursor().rest::<Vec<Value>>().expect("valid JSON");
        }
        // An acknowledgement without an id answers nothing.
        Ok(None) => {}
        Err(_) => {}
    }
}

fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(list) => list.iter().map(depth).max(),
        Value::Object(map) => map.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// A float of 2⁶⁰ is written whole, and `serde_json` reads floats to the last but one digit.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let [one, other] = [one, other].map(|number| number.as_f64().unwrap_or(f64::NAN));
            one == other || (one / other - 1.0).abs() < 1e-14
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, one)| other.get(key).is_some_and(|other| is_same(one, other));
            one.len() == other.len() && one.iter().all(same)
        }
        (one, other) => one == other,
    }
}
