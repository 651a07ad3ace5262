//! Packets of any values: over WebSocket frames and over long-polling payloads they arrive as they
//! were, attachments in the order of their placeholders.

#![no_main]

use std::time::Instant;

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::{Corpus, fuzz_target};
use sockeye_fuzz::chunks;
use sockeye_fuzz::values::Value;
use sockeye_proto::engine::payload::SEPARATOR;
use sockeye_proto::engine::{Message, Packet, payload};
use sockeye_proto::socket::{
    Args, ArgsWriter, Binary, EmitArgs, EncodeError, EncodedPacket, Incoming, Multiplexer,
    MultiplexerLimits, RESERVED_EVENTS,
};
use sockeye_ws::{Connection, Event, Limits, Role};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    sizes: [u8; 4],
    packets: Vec<Sent<'a>>,
}

#[derive(Arbitrary, Debug)]
struct Sent<'a> {
    namespace: &'a str,
    kind: Kind<'a>,
    args: Vec<Value<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Kind<'a> {
    Event { id: Option<u64>, name: &'a str },
    Ack { id: u64 },
}

/// Deeper arguments are refused when they are read.
const DEPTH_MAX: usize = 99;

fuzz_target!(|input: Input<'_>| -> Corpus {
    if input.packets.is_empty() || !input.packets.iter().all(Sent::is_legal) {
        return Corpus::Reject;
    }
    let encoded: Vec<_> = input.packets.iter().map(Sent::encode).collect();
    let expected: Vec<_> = input.packets.iter().map(Sent::expected).collect();

    let wire: Vec<_> = encoded.iter().flat_map(EncodedPacket::wire).copied().collect();
    assert_eq!(arrived(&input.packets, from_frames(&chunks(&wire, &input.sizes))), expected);

    let mut body = Vec::new();
    for packet in &encoded {
        if !body.is_empty() {
            body.push(SEPARATOR);
        }
        let before = body.len();
        packet.write_payload(&mut body);
        assert_eq!(body.len() - before, packet.payload_len());
    }
    let messages = payload::decode(&body).map(|packet| message(packet.expect("a packet")));
    assert_eq!(arrived(&input.packets, messages.collect()), expected);
    Corpus::Keep
});

impl Sent<'_> {
    /// Whether the name may be emitted, and whether the namespace can stand before a comma and in
    /// a payload.
    fn is_legal(&self) -> bool {
        let is_reserved = match self.kind {
            Kind::Event { name, .. } => RESERVED_EVENTS.contains(&name),
            Kind::Ack { .. } => false,
        };
        let is_legal = |value: &Value<'_>| value.depth().is_some_and(|depth| depth <= DEPTH_MAX);
        !is_reserved
            && !self.namespace.contains([',', char::from(SEPARATOR)])
            && self.args.iter().all(is_legal)
    }

    fn namespace(&self) -> String {
        format!("/{}", self.namespace)
    }

    fn encode(&self) -> EncodedPacket {
        let args = Arguments(&self.args);
        match self.kind {
            Kind::Event { id, name } => EncodedPacket::event(&self.namespace(), id, name, &args),
            Kind::Ack { id } => EncodedPacket::ack(&self.namespace(), id, &args),
        }
        .expect("the values are JSON")
    }

    fn expected(&self) -> Arrived {
        let mut attachments = Vec::new();
        let args = self.args.iter().map(|value| value.json(&mut attachments)).collect();
        let (name, id) = match self.kind {
            Kind::Event { id, name } => (Some(name.to_owned()), id),
            Kind::Ack { id } => (None, Some(id)),
        };
        Arrived { namespace: self.namespace(), id, name, args, attachments }
    }
}

/// As many arguments as there are values.
struct Arguments<'a>(&'a [Value<'a>]);

impl EmitArgs for Arguments<'_> {
    fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        self.0.iter().try_for_each(|value| out.arg(value))
    }
}

/// A packet that came; an acknowledgement has no name.
#[derive(Debug, PartialEq)]
struct Arrived {
    namespace: String,
    id: Option<u64>,
    name: Option<String>,
    args: Vec<serde_json::Value>,
    attachments: Vec<Bytes>,
}

impl Arrived {
    fn new(namespace: &str, id: Option<u64>, name: Option<&str>, args: &Args<'_>) -> Self {
        let attachments = args.attachments().to_vec();
        let args: Vec<serde_json::Value> = args.cursor().rest().expect("JSON");
        Self {
            namespace: namespace.to_owned(),
            id,
            name: name.map(str::to_owned),
            args,
            attachments,
        }
    }
}

/// The messages in frames that a server sent.
fn from_frames(chunks: &[&[u8]]) -> Vec<Message<'static>> {
    let mut client = Connection::new(Role::Client, Limits::default());
    let now = Instant::now();
    let mut messages = Vec::new();
    for chunk in chunks {
        for event in client.handle_input(&mut chunk.to_vec(), now) {
            messages.push(match event {
                Event::Text(text) => message(Packet::from_text(&text).expect("a packet")),
                Event::Binary(data) => message(Packet::from_binary(data)),
                other => panic!("not a message: {other:?}"),
            });
        }
    }
    messages
}

fn message(packet: Packet<'_>) -> Message<'static> {
    match packet {
        Packet::Message(Message::Text(text)) => Message::Text(text.into_owned().into()),
        Packet::Message(Message::Binary(data)) => Message::Binary(data.into_owned().into()),
        other => panic!("not a message: {other:?}"),
    }
}

/// What the messages mean to who has joined every namespace.
fn arrived(packets: &[Sent<'_>], messages: Vec<Message<'_>>) -> Vec<Arrived> {
    let limits = MultiplexerLimits {
        namespaces_max: usize::MAX,
        attachments_max: usize::MAX,
        ..MultiplexerLimits::default()
    };
    let mut multiplexer = Multiplexer::new(limits);
    for namespace in packets.iter().map(Sent::namespace) {
        // Joined already, it says so.
        let _ = multiplexer.handle_text(&format!("0{namespace},"));
        multiplexer.handle_connect_accepted(&namespace);
    }
    let mut arrived = Vec::new();
    for message in messages {
        let incoming = match &message {
            Message::Text(text) => multiplexer.handle_text(text),
            Message::Binary(data) => multiplexer.handle_binary(Bytes::copy_from_slice(data)),
        };
        match incoming.expect("a legal packet") {
            Some(Incoming::Event { namespace, id, event }) => {
                check_binary(&event.args);
                arrived.push(Arrived::new(namespace, id, Some(&event.name), &event.args));
            }
            Some(Incoming::Ack { namespace, id, args }) => {
                check_binary(&args);
                arrived.push(Arrived::new(namespace, Some(id), None, &args));
            }
            Some(other) => panic!("neither event nor acknowledgement: {other:?}"),
            None => {}
        }
    }
    arrived
}

/// An argument that is binary data is read as that attachment.
fn check_binary(args: &Args<'_>) {
    let mut cursor = args.cursor();
    while !cursor.clone().rest_owned().raw().is_empty() {
        let json: serde_json::Value = cursor.clone().next().expect("JSON");
        let num = json.get("_placeholder").and(json["num"].as_u64());
        let data = num.map(|num| args.attachments()[num as usize].clone());
        assert_eq!(cursor.next::<Binary>().ok(), data.map(Binary));
    }
}
