//! A reader of what packets became on their way: WebSocket frames, payloads, or messages as they
//! are. Does not judge what it reads.

use std::time::Instant;

use bytes::Bytes;
use sockeye_proto::engine::{self, payload};
use sockeye_proto::socket::{Args, Incoming, Multiplexer, MultiplexerLimits, Violation};
use sockeye_ws::{Connection, Event, Limits, Role};

use crate::values::{Sent, Value};

/// A message of an Engine.IO session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
}

impl From<engine::Packet<'_>> for Message {
    fn from(packet: engine::Packet<'_>) -> Self {
        match packet {
            engine::Packet::Message(engine::Message::Text(text)) => Self::Text(text.into_owned()),
            engine::Packet::Message(engine::Message::Binary(data)) => {
                Self::Binary(data.into_owned())
            }
            other => panic!("not a message: {other:?}"),
        }
    }
}

/// The messages in frames that a server sent, read in these chunks.
pub(crate) fn from_frames<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Message> {
    let mut client = Connection::new(Role::Client, Limits::default());
    let now = Instant::now();
    let mut messages = Vec::new();
    for chunk in chunks {
        for event in client.handle_input(&mut chunk.to_vec(), now) {
            messages.push(match event {
                Event::Text(text) => engine::Packet::from_text(&text).expect("a packet").into(),
                Event::Binary(data) => engine::Packet::from_binary(data).into(),
                other => panic!("not a message: {other:?}"),
            });
        }
    }
    messages
}

/// The messages in a long-polling body.
pub(crate) fn from_payload(body: &[u8]) -> Vec<Message> {
    payload::decode(body).map(|packet| packet.expect("a packet").into()).collect()
}

/// A multiplexer that has joined these namespaces.
pub(crate) fn joined<'n>(namespaces: impl IntoIterator<Item = &'n str>) -> Multiplexer {
    let limits = MultiplexerLimits { attachments_max: 200, ..MultiplexerLimits::default() };
    let mut multiplexer = Multiplexer::new(limits);
    for namespace in namespaces {
        join(&mut multiplexer, namespace);
    }
    multiplexer
}

/// Joins, unless that has been done.
pub(crate) fn join(multiplexer: &mut Multiplexer, namespace: &str) {
    match multiplexer.handle_text(&format!("0{namespace},")) {
        Ok(Some(Incoming::Connect { namespace: own, auth: None })) => assert_eq!(own, namespace),
        Err(Violation::AlreadyConnected) => {}
        other => panic!("no CONNECT: {other:?}"),
    }
    multiplexer.handle_connect_accepted(namespace);
}

/// What a message means to the multiplexer.
pub(crate) fn handle(
    multiplexer: &mut Multiplexer,
    message: &Message,
) -> Result<Option<Sent>, Violation> {
    let incoming = match message {
        Message::Text(text) => multiplexer.handle_text(text),
        Message::Binary(data) => multiplexer.handle_binary(Bytes::copy_from_slice(data)),
    };
    Ok(incoming?.and_then(read))
}

/// The packets that messages make, every one of them legal.
pub(crate) fn packets(multiplexer: &mut Multiplexer, messages: &[Message]) -> Vec<Sent> {
    let handle = |message| handle(multiplexer, message).expect("a legal packet");
    messages.iter().filter_map(handle).collect()
}

/// The packet with its arguments read; none for CONNECT and DISCONNECT.
pub(crate) fn read(incoming: Incoming<'_>) -> Option<Sent> {
    match incoming {
        Incoming::Connect { .. } | Incoming::Disconnect { .. } => None,
        Incoming::Event { namespace, id, event } => Some(Sent::Event {
            namespace: namespace.to_owned(),
            id,
            name: event.name.into_owned(),
            args: values(&event.args),
        }),
        Incoming::Ack { namespace, id, args } => {
            Some(Sent::Ack { namespace: namespace.to_owned(), id, args: values(&args) })
        }
    }
}

/// The arguments, read one by one and all at once. What JSON allows and no type of Rust can hold
/// (a number beyond `f64`, half a surrogate pair) counts as `null`.
fn values(args: &Args<'_>) -> Vec<Value> {
    let mut cursor = args.cursor();
    let mut values = Vec::new();
    while !cursor.clone().rest_owned().raw().is_empty() {
        values.push(cursor.next().unwrap_or(Value::Null));
    }
    if let Ok(rest) = args.cursor().rest::<Vec<Value>>() {
        assert_eq!(rest, values);
    }
    values
}
