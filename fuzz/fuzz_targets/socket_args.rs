//! Any text as an event's JSON: accepted exactly where `serde_json` reads a list that may be one,
//! and taken apart, one argument after the other or all that are left, exactly as it does that.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use sockeye_proto::socket::{
    Args, Incoming, Multiplexer, MultiplexerLimits, RESERVED_EVENTS, Violation,
};

/// How deep the list may nest.
const DEPTH_MAX: usize = 100;

fuzz_target!(|json: &str| {
    let mut multiplexer = Multiplexer::new(MultiplexerLimits::default());
    assert!(multiplexer.handle_text("0").is_ok());
    multiplexer.handle_connect_accepted("/");
    let text = format!("2{json}");
    let handled = multiplexer.handle_text(&text);
    // What does not begin a list may be an id or a namespace instead.
    if !json.trim_ascii_start().starts_with('[') {
        return;
    }
    match (handled, expected(json)) {
        (Ok(Some(Incoming::Event { namespace: "/", id: None, event })), Ok((name, args))) => {
            assert_eq!(event.name, name);
            check_args(&event.args, &args);
        }
        (Err(violation), Err(expected)) => assert_eq!(violation, expected),
        (handled, expected) => panic!("{handled:?}, but expected {expected:?}"),
    }
});

/// The event's name and its arguments' JSON.
fn expected(json: &str) -> Result<(String, Vec<&RawValue>), Violation> {
    if depth(json) > DEPTH_MAX {
        return Err(Violation::TooDeep);
    }
    let invalid = Violation::InvalidPayload;
    let mut list: Vec<&RawValue> = serde_json::from_str(json).map_err(|_| invalid)?;
    if list.is_empty() {
        return Err(invalid);
    }
    let name = list.remove(0).get();
    let name = match name.as_bytes()[0] {
        b'"' => serde_json::from_str(name).map_err(|_| invalid)?,
        b'-' | b'0'..=b'9' => name.to_owned(),
        _ => return Err(invalid),
    };
    if RESERVED_EVENTS.contains(&&*name) { Err(Violation::ReservedEvent) } else { Ok((name, list)) }
}

/// How deep brackets nest outside of strings, valid or not.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match (in_string, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn check_args(args: &Args<'_>, expected: &[&RawValue]) {
    let values = |raw: &[&RawValue]| -> Option<Vec<Value>> {
        raw.iter().map(|raw| serde_json::from_str(raw.get()).ok()).collect()
    };
    let mut cursor = args.cursor();
    for (index, raw) in expected.iter().enumerate() {
        let left = &expected[index..];
        // As one list, where it can be read at all, and passed on unread.
        assert_eq!(cursor.clone().rest().ok(), values(left));
        let list = format!("[{}]", cursor.clone().rest_owned().raw());
        let list: Vec<&RawValue> = serde_json::from_str(&list).expect("a list");
        assert!(list.iter().map(|raw| raw.get()).eq(left.iter().map(|raw| raw.get())));
        assert_eq!(cursor.next().ok(), serde_json::from_str::<Value>(raw.get()).ok());
    }
    assert_eq!(cursor.clone().rest_owned().raw().trim_ascii(), "");
    assert_eq!(cursor.clone().rest::<Vec<Value>>().ok(), Some(Vec::new()));
    assert_eq!(cursor.next::<Value>().ok(), Some(Value::Null));
}
