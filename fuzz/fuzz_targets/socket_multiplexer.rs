//! A connection's messages and its driver's decisions, in any order (`Step` tells their form):
//! what is handed out is legal now and whole, a violation leaves nothing behind, and no more is
//! held than the limits allow.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use sockeye_fuzz::heap;
use sockeye_proto::socket::{
    Args, EncodedPacket, Event, Incoming, Multiplexer, MultiplexerLimits, RESERVED_EVENTS,
    Violation,
};

const LIMITS: MultiplexerLimits = MultiplexerLimits { namespaces_max: 3, attachments_max: 3 };

/// How deep arguments may nest.
const DEPTH_MAX: usize = 100;

/// One step of a script. Steps stand between record separators, as packets in a payload do.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// `bDATA`
    Binary(&'a [u8]),
    /// `+NAMESPACE`: the driver accepts.
    Accept(&'a str),
    /// `-NAMESPACE`: the driver refuses.
    Refuse(&'a str),
    /// `!NAMESPACE`: the driver disconnects.
    Disconnect(&'a str),
    /// Everything else.
    Text(&'a str),
}

impl<'a> Step<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        if let [b'b', data @ ..] = bytes {
            return Some(Self::Binary(data));
        }
        let text = str::from_utf8(bytes).ok()?;
        Some(match bytes.first() {
            Some(b'+') => Self::Accept(&text[1..]),
            Some(b'-') => Self::Refuse(&text[1..]),
            Some(b'!') => Self::Disconnect(&text[1..]),
            _ => Self::Text(text),
        })
    }
}

fuzz_target!(|script: &[u8]| {
    let mut checked = Model::default();
    let mut multiplexer = Multiplexer::new(LIMITS);
    let mut counted = Counted { multiplexer: Multiplexer::new(LIMITS), held: 0 };
    for step in script.split(|byte| *byte == 0x1e).filter_map(Step::read) {
        if checked.handle(&mut multiplexer, step) {
            counted.handle(step, &checked);
        }
    }
});

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Connecting,
    Connected,
    Left,
}

/// What must be true of a multiplexer, kept naively.
#[derive(Default)]
struct Model {
    namespaces: Vec<(String, State)>,
    pending: Option<Pending>,
}

/// A packet whose attachments are outstanding.
struct Pending {
    text_len: usize,
    count: usize,
    came: Vec<Bytes>,
}

impl Pending {
    fn bytes(&self) -> usize {
        self.text_len + self.came.iter().map(Bytes::len).sum::<usize>()
    }
}

impl Model {
    /// False: the driver would not do that.
    fn handle(&mut self, multiplexer: &mut Multiplexer, step: Step<'_>) -> bool {
        match step {
            Step::Text(text) => self.handle_text(multiplexer, text),
            Step::Binary(data) => self.handle_binary(multiplexer, Bytes::copy_from_slice(data)),
            Step::Accept(name) | Step::Refuse(name) => {
                if self.state(name) != Some(State::Connecting) {
                    return false;
                }
                if matches!(step, Step::Accept(_)) {
                    multiplexer.handle_connect_accepted(name);
                    self.set(name, Some(State::Connected));
                } else {
                    multiplexer.handle_connect_refused(name);
                    self.set(name, None);
                }
            }
            Step::Disconnect(name) => {
                multiplexer.handle_disconnect(name);
                if self.state(name).is_some() {
                    self.set(name, Some(State::Left));
                }
            }
        }
        let is_empty = self.namespaces.iter().all(|(_, state)| *state == State::Left);
        assert_eq!(multiplexer.is_empty(), is_empty);
        true
    }

    fn handle_text(&mut self, multiplexer: &mut Multiplexer, text: &str) {
        let is_interrupted = self.pending.take().is_some();
        let result = multiplexer.handle_text(text);
        if is_interrupted {
            assert_eq!(result, Err(Violation::TextWhileReconstructing));
        }
        let is_binary = matches!(text.as_bytes(), [b'5' | b'6', ..]);
        match result {
            Ok(Some(incoming)) => {
                assert!(!is_binary);
                self.check(incoming, text.as_bytes()[0], &[]);
            }
            Ok(None) if is_binary => {
                let digits = text[1..].split('-').next().expect("split has a first");
                let count = digits.parse().expect("the number of attachments");
                assert!((1..=LIMITS.attachments_max).contains(&count));
                self.pending = Some(Pending { text_len: text.len(), count, came: Vec::new() });
                return;
            }
            Ok(None) | Err(_) => {}
        }
        assert_eq!(multiplexer.handle_binary(Bytes::new()), Err(Violation::StrayBinary));
    }

    fn handle_binary(&mut self, multiplexer: &mut Multiplexer, data: Bytes) {
        let result = multiplexer.handle_binary(data.clone());
        let Some(mut pending) = self.pending.take() else {
            return assert_eq!(result, Err(Violation::StrayBinary));
        };
        pending.came.push(data);
        if pending.came.len() < pending.count {
            self.pending = Some(pending);
            return assert_eq!(result, Ok(None));
        }
        match result {
            Ok(Some(incoming @ Incoming::Event { .. })) => {
                self.check(incoming, b'2', &pending.came);
            }
            Ok(Some(incoming @ Incoming::Ack { .. })) => self.check(incoming, b'3', &pending.came),
            Ok(None) | Err(Violation::NotConnected) => {}
            other => panic!("{other:?} came with attachments"),
        }
        assert_eq!(multiplexer.handle_binary(Bytes::new()), Err(Violation::StrayBinary));
    }

    /// A packet that was handed out is of its type and legal in its namespace.
    fn check(&mut self, incoming: Incoming<'_>, kind: u8, attachments: &[Bytes]) {
        let (namespace, expected, args) = match &incoming {
            Incoming::Connect { namespace, auth } => {
                assert!(matches!(self.state(namespace), None | Some(State::Left)));
                assert!(auth.is_none_or(|auth| serde_json::from_str::<&RawValue>(auth).is_ok()));
                self.set(namespace, Some(State::Connecting));
                let held = self.namespaces.iter().filter(|(_, state)| *state != State::Left);
                assert!(held.count() <= LIMITS.namespaces_max);
                return assert_eq!(kind, b'0');
            }
            Incoming::Disconnect { namespace } => (*namespace, b'1', None),
            Incoming::Event { namespace, event, .. } => (*namespace, b'2', Some(&event.args)),
            Incoming::Ack { namespace, args, .. } => (*namespace, b'3', Some(args)),
        };
        assert_eq!(kind, expected);
        assert_eq!(self.state(namespace), Some(State::Connected));
        if let Incoming::Disconnect { namespace } = incoming {
            self.set(namespace, None);
        }
        if let Some(args) = args {
            assert_eq!(args.attachments(), attachments);
            check_args(args);
        }
        if let Incoming::Event { namespace, id, event } = &incoming {
            check_event(namespace, *id, event);
        }
    }

    fn state(&self, namespace: &str) -> Option<State> {
        self.namespaces.iter().find(|(name, _)| name == namespace).map(|(_, state)| *state)
    }

    fn set(&mut self, namespace: &str, state: Option<State>) {
        self.namespaces.retain(|(name, _)| name != namespace);
        self.namespaces.extend(state.map(|state| (namespace.to_owned(), state)));
    }
}

/// Arguments are JSON, not too deep, and every placeholder has an attachment of its own.
fn check_args(args: &Args<'_>) {
    let list = format!("[{}]", args.raw());
    serde_json::from_str::<Vec<&RawValue>>(&list).expect("valid JSON");
    // What JSON allows and no value can hold is left: a number beyond `f64`, half a surrogate pair.
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&list) else { return };
    if !args.attachments().is_empty() {
        let mut free = vec![true; args.attachments().len()];
        take_placeholders(&value, &mut free);
    }
    assert!(depth(&value) <= DEPTH_MAX);
}

fn take_placeholders(value: &serde_json::Value, free: &mut [bool]) {
    match value {
        serde_json::Value::Array(list) => list.iter().for_each(|v| take_placeholders(v, free)),
        serde_json::Value::Object(map) => {
            if map.get("_placeholder") == Some(&true.into()) {
                let num = map["num"].as_u64().expect("a number") as usize;
                assert!(std::mem::take(&mut free[num]), "attachment {num} is named twice");
            }
            map.values().for_each(|value| take_placeholders(value, free));
        }
        _ => {}
    }
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// An event is not a reserved one, and can be passed on as it came.
fn check_event(namespace: &str, id: Option<u64>, event: &Event<'_>) {
    assert!(!RESERVED_EVENTS.contains(&&*event.name));
    let Event { name, args } = event;
    let packet = EncodedPacket::event_raw(namespace, id, name, args.raw(), args.attachments());
    let mut other = Multiplexer::new(LIMITS);
    let connect = format!("0{namespace},");
    assert!(matches!(other.handle_text(&connect), Ok(Some(Incoming::Connect { .. }))));
    other.handle_connect_accepted(namespace);
    let attachments: Vec<_> = packet.attachments().map(Bytes::copy_from_slice).collect();
    let again = match attachments.split_last() {
        None => other.handle_text(packet.text()),
        Some((last, before)) => {
            assert_eq!(other.handle_text(packet.text()), Ok(None));
            for data in before {
                assert_eq!(other.handle_binary(data.clone()), Ok(None));
            }
            other.handle_binary(last.clone())
        }
    };
    assert_eq!(again, Ok(Some(Incoming::Event { namespace, id, event: event.clone() })));
}

/// A multiplexer whose memory is counted.
struct Counted {
    multiplexer: Multiplexer,
    held: i64,
}

impl Counted {
    fn handle(&mut self, step: Step<'_>, model: &Model) {
        let multiplexer = &mut self.multiplexer;
        let heap = heap::measure(|| {
            match step {
                Step::Text(text) => drop(multiplexer.handle_text(text)),
                Step::Binary(data) => drop(multiplexer.handle_binary(Bytes::copy_from_slice(data))),
                Step::Accept(name) => multiplexer.handle_connect_accepted(name),
                Step::Refuse(name) => multiplexer.handle_connect_refused(name),
                Step::Disconnect(name) => multiplexer.handle_disconnect(name),
            }
            multiplexer.handle_packet_done();
        });
        self.held += heap.held;
        let names: usize = model.namespaces.iter().map(|(name, _)| name.len()).sum();
        let pending = model.pending.as_ref().map_or(0, Pending::bytes);
        // Beside these: a list of four namespaces, one of four attachments, and the packet.
        let most = (names + pending + 300) as i64;
        assert!(self.held <= most, "{} bytes are held, not {most}", self.held);
        let len = match step {
            Step::Text(text) => text.len(),
            Step::Binary(data) => data.len(),
            _ => 0,
        };
        // A text is copied when it is kept; its keys and its name are unescaped one by one.
        assert!(heap.most <= 4 * len as u64 + 1000, "{heap:?} for {len} bytes");
    }
}
