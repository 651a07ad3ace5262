//! Values of every shape that an argument can have, and packets made of them.
//! Does not know how they are encoded or read.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use sockeye_proto::socket::{
    ArgsWriter, Binary, EmitArgs, EncodeError, EncodedPacket, RESERVED_EVENTS,
};

/// JSON with binary data anywhere in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    // First: a placeholder is an object too.
    Binary(Binary),
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

/// As many arguments as there are values.
pub(crate) struct Arguments<'a>(pub(crate) &'a [Value]);

impl EmitArgs for Arguments<'_> {
    fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        self.0.iter().try_for_each(|value| out.arg(value))
    }
}

/// A packet for the other side, with or without attachments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sent {
    Event { namespace: String, id: Option<u64>, name: String, args: Vec<Value> },
    Ack { namespace: String, id: u64, args: Vec<Value> },
}

impl Sent {
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Event { namespace, .. } | Self::Ack { namespace, .. } => namespace,
        }
    }

    pub(crate) fn encode(&self) -> EncodedPacket {
        match self {
            Self::Event { namespace, id, name, args } => {
                EncodedPacket::event(namespace, *id, name, &Arguments(args))
            }
            Self::Ack { namespace, id, args } => {
                EncodedPacket::ack(namespace, *id, &Arguments(args))
            }
        }
        .expect("the values are JSON and the name is not reserved")
    }
}

/// Any text, but for the separator of long-polling payloads: as it is, it cannot stand in one.
/// (JSON escapes it; names of namespaces are not escaped.)
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[^\u{1e}]{0,20}", "[\"\\\\,\\[\\]{}:0-9/ -]{0,12}"]
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let bytes = vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Binary(bytes.into()));
    let leaf = prop_oneof![
        3 => bytes,
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        2 => any::<i64>().prop_map(Value::Integer),
        // Quarters: every one of them is read again exactly.
        1 => any::<i32>().prop_map(|number| Value::Float(f64::from(number) / 4.0)),
        3 => ".{0,20}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        // Data that looks like a placeholder is one, in every implementation of the protocol.
        let key = text().prop_filter("a placeholder's key", |key| key != "_placeholder");
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::List),
            btree_map(key, inner, 0..4).prop_map(Value::Object),
        ]
    })
}

pub(crate) fn namespace() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("/".to_owned()),
        Just("/admin".to_owned()),
        "/[^,\u{1e}]{0,10}",
        "/[0-9\\[{\"-]{0,5}",
    ]
}

pub(crate) fn sent() -> impl Strategy<Value = Sent> {
    let name = text().prop_filter("reserved", |name| !RESERVED_EVENTS.contains(&name.as_str()));
    let args = || vec(value(), 0..4);
    prop_oneof![
        (namespace(), any::<Option<u64>>(), name, args())
            .prop_map(|(namespace, id, name, args)| Sent::Event { namespace, id, name, args }),
        (namespace(), any::<u64>(), args()).prop_map(|(namespace, id, args)| Sent::Ack {
            namespace,
            id,
            args
        }),
    ]
}
