//! What applications send, as a fuzzer makes it up. Does not know any encoding but JSON's.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::json;

/// JSON with binary data anywhere in it.
#[derive(Arbitrary, Debug)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A quarter of it: read again exactly.
    Quarters(i32),
    /// A text.
    Text(&'a str),
    /// Binary data, which travels as an attachment.
    Binary(&'a [u8]),
    /// A list.
    List(Vec<Value<'a>>),
    /// An object.
    Object(BTreeMap<&'a str, Value<'a>>),
}

impl Value<'_> {
    /// How deeply it nests. `None`: it looks like a placeholder, and so is one in every
    /// implementation.
    pub fn depth(&self) -> Option<usize> {
        let deepest = |depths: Option<Vec<usize>>| Some(1 + depths?.into_iter().max().unwrap_or(0));
        match self {
            Self::List(list) => deepest(list.iter().map(Self::depth).collect()),
            Self::Object(map) if map.contains_key("_placeholder") => None,
            Self::Object(map) => deepest(map.values().map(Self::depth).collect()),
            Self::Binary(_) => Some(1),
            _ => Some(0),
        }
    }

    /// The value with placeholders for the attachments.
    pub fn json(&self, attachments: &mut Vec<Bytes>) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Integer(value) => (*value).into(),
            Self::Quarters(value) => (f64::from(*value) / 4.0).into(),
            Self::Text(value) => (*value).into(),
            Self::Binary(data) => {
                attachments.push(Bytes::copy_from_slice(data));
                json!({ "_placeholder": true, "num": attachments.len() - 1 })
            }
            Self::List(list) => list.iter().map(|value| value.json(attachments)).collect(),
            Self::Object(map) => {
                map.iter().map(|(key, value)| (*key, value.json(attachments))).collect()
            }
        }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Quarters(value) => serializer.serialize_f64(f64::from(*value) / 4.0),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Binary(data) => serializer.serialize_bytes(data),
            Self::List(list) => serializer.collect_seq(list),
            Self::Object(map) => serializer.collect_map(map),
        }
    }
}
