//! Binary data inside JSON arguments: `{"_placeholder":true,"num":n}` stands for attachment `n`.
//! Does not know packets; the attachments of the arguments being read are set around the reading.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Binary data at any depth of an argument: JavaScript's `Buffer`, `ArrayBuffer` or `Uint8Array`.
/// Read, it may also be what Node's `JSON.stringify` makes of a `Buffer`:
/// `{"type":"Buffer","data":[1,2]}`.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use sockeye_proto::socket::Binary;
///
/// #[derive(Serialize, Deserialize)]
/// struct Upload {
///     name: String,
///     content: Binary,
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Binary(pub Bytes);

impl From<Vec<u8>> for Binary {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Bytes> for Binary {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl std::ops::Deref for Binary {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BinaryVisitor)
    }
}

thread_local! {
    /// The attachments of the arguments that this thread reads now. `serde` has no other way to
    /// hand something to a `Deserialize` deep inside a derived type.
    static ATTACHMENTS: RefCell<Vec<Bytes>> = const { RefCell::new(Vec::new()) };
}

/// Runs `read` with these attachments behind the placeholders.
pub(super) fn with_attachments<R>(attachments: &[Bytes], read: impl FnOnce() -> R) -> R {
    struct Restore(Vec<Bytes>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ATTACHMENTS.set(std::mem::take(&mut self.0));
        }
    }
    if attachments.is_empty() {
        return read();
    }
    let _restore = Restore(ATTACHMENTS.replace(attachments.to_vec()));
    read()
}

struct BinaryVisitor;

impl<'de> Visitor<'de> for BinaryVisitor {
    type Value = Binary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("binary data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Binary, A::Error> {
        let mut num: Option<u64> = None;
        let mut marked = false;
        let (mut is_buffer, mut data) = (false, None);
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            match &*key {
                "_placeholder" => marked = map.next_value()?,
                "num" => num = Some(map.next_value()?),
                "type" => is_buffer = map.next_value::<std::borrow::Cow<'_, str>>()? == "Buffer",
                "data" => data = Some(map.next_value::<Vec<u8>>()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if is_buffer && let Some(data) = data {
            return Ok(Binary(data.into()));
        }
        let num = num.filter(|_| marked).and_then(|num| usize::try_from(num).ok());
        let found = num.and_then(|num| ATTACHMENTS.with_borrow(|all| all.get(num).cloned()));
        found.map(Binary).ok_or_else(|| de::Error::custom("expected binary data"))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Binary, E> {
        Ok(Binary(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Binary, E> {
        Ok(Binary(bytes.into()))
    }
}

/// Finds every placeholder of arguments that came with `count` attachments, and whether each
/// names one of them that no other names. Recurses as deep as `json` nests, which the caller has
/// bounded, and looks at each byte once.
///
/// Clients give every attachment one placeholder; Node does not insist on that. But 1 MB of
/// placeholders for the same 1 MB, read as [`Binary`] and emitted again, would be 30 GB.
pub(super) fn check_placeholders(json: &str, count: usize) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let mut check = Check { count: count as u64, named: BTreeSet::new() };
    de::DeserializeSeed::deserialize(&mut check, &mut deserializer).map(drop)
}

struct Check {
    count: u64,
    /// The attachments that have a placeholder. Ordered, not hashed: this crate has no randomness.
    named: BTreeSet<u64>,
}

/// What a checked value would mean as a part of a placeholder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// `true`: as `_placeholder`, the mark.
    True,
    /// As `num`, an attachment's.
    Index(u64),
    Other,
}

impl<'de> de::DeserializeSeed<'de> for &mut Check {
    type Value = Part;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Part, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Check {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Part, A::Error> {
        while seq.next_element_seed(&mut *self)?.is_some() {}
        Ok(Part::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        let (mut mark, mut num) = (Part::Other, Part::Other);
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let value = map.next_value_seed(&mut *self)?;
            match &*key {
                "_placeholder" => mark = value,
                "num" => num = value,
                _ => {}
            }
        }
        match num {
            _ if mark != Part::True => Ok(Part::Other),
            Part::Index(num) if num < self.count && self.named.insert(num) => Ok(Part::Other),
            _ => Err(de::Error::custom("a placeholder names no attachment of its own")),
        }
    }

    fn visit_bool<E>(self, value: bool) -> Result<Part, E> {
        Ok(if value { Part::True } else { Part::Other })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Part, E> {
        Ok(Part::Index(value))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Part, E> {
        Ok(Part::Other)
    }

    fn visit_unit<E>(self) -> Result<Part, E> {
        Ok(Part::Other)
    }
}
