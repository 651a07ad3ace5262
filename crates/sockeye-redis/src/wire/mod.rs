//! What Node's adapters and emitters write to Redis, as bytes: pure, byte for byte the same.
//! Does not know connections; a channel, a payload or an entry of a stream is all there is.
//!
//! | | written by | module |
//! |---|---|---|
//! | classic | `@socket.io/redis-adapter` (`createAdapter`), `redis-emitter` | [`classic`] |
//! | sharded | `@socket.io/redis-adapter` (`createShardedAdapter`) | [`sharded`] |
//! | streams | `@socket.io/redis-streams-adapter` | [`streams`] |
//!
//! A message is JSON text, or MessagePack where binary data may be in it. A reader looks at the
//! first byte, as Node does: `{` begins no MessagePack map or array. Binary data is read into
//! attachments, as the rest of Sockeye has it.

pub mod classic;
mod fields;
mod numbered;
pub mod sessions;
pub mod sharded;
pub mod streams;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use sockeye::cluster::Violation;
use sockeye_proto::socket::EncodeError;
use sockeye_proto::socket::msgpack::{ReadLimits, to_json, write_json};

/// What is in one message.
const LIMITS: ReadLimits = ReadLimits { depth_max: 128, attachments_max: 10_000 };

/// Something to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where.
    pub channel: String,
    /// What.
    pub payload: Vec<u8>,
}

/// What came is no message of a cluster. It is to be counted and passed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A channel that nobody asked for.
    #[error("a message on a foreign channel")]
    Channel,
    /// It is not JSON, or the JSON is not what its kind asks for.
    #[error("malformed JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is no MessagePack.
    #[error("malformed MessagePack: {0}")]
    MessagePack(Violation),
    /// The event in it is none.
    #[error("malformed event: {0}")]
    Event(Violation),
    /// A message of a kind that is not known.
    #[error("unknown message type {0}")]
    UnknownType(u64),
    /// What its kind asks for is missing.
    #[error("a message without {0}")]
    Missing(&'static str),
    /// A message about another namespace than its channel's.
    #[error("a message about another namespace")]
    Namespace,
}

/// A message cannot be written. None of those that a server makes is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnwritableError {
    /// The kind has no place in this encoding.
    #[error("this encoding has no such message")]
    Kind,
    /// It holds JSON that is none, or binary data that is not there.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// A message as JSON, with the binary data that its placeholders stand for.
struct Text<'a> {
    json: Cow<'a, str>,
    attachments: Vec<Bytes>,
}

impl<'a> Text<'a> {
    /// Reads JSON or MessagePack, by the first byte.
    fn read(payload: &'a [u8]) -> Result<Self, WireError> {
        if payload.first() == Some(&b'{') {
            let json = std::str::from_utf8(payload)
                .map_err(|_| WireError::Json(serde::de::Error::custom("no UTF-8")))?;
            return Ok(Self { json: Cow::Borrowed(json), attachments: Vec::new() });
        }
        Self::read_msgpack(payload)
    }

    fn read_msgpack(payload: &[u8]) -> Result<Text<'static>, WireError> {
        let (json, attachments) = to_json(payload, LIMITS).map_err(WireError::MessagePack)?;
        Ok(Text { json: Cow::Owned(json), attachments })
    }

    fn parse<'t, T: Deserialize<'t>>(&'t self) -> Result<T, WireError> {
        Ok(serde_json::from_str(&self.json)?)
    }
}

/// Writes JSON with placeholders as MessagePack.
fn msgpack<A: AsRef<[u8]>>(json: &str, attachments: &[A]) -> Result<Vec<u8>, EncodeError> {
    let binary: usize = attachments.iter().map(|data| data.as_ref().len() + 5).sum();
    let mut payload = Vec::with_capacity(json.len() + binary);
    write_json(&mut payload, json, attachments)?;
    Ok(payload)
}

/// JSON that is valid by who made it.
fn raw(json: &str) -> Result<&RawValue, serde_json::Error> {
    serde_json::from_str(json)
}
