//! The rows of the stores, as JSON.
//! Does not know tables.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct User {
    /// Its id.
    pub(crate) id: String,
    /// Its name as it was typed.
    pub(crate) username: String,
    /// The password's argon2id hash.
    pub(crate) hash: String,
}

/// A sign-in and the refresh token that continues it. An older token of the same sign-in is a
/// stolen one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SignIn {
    /// Whose it is.
    pub(crate) username: String,
    /// The hash of the token that is good now.
    pub(crate) token_hash: String,
    /// When it ends unless it is used, in seconds since 1970.
    pub(crate) expires_at: u64,
}

/// A message.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its id, larger than those of the messages before it; text in JSON, where numbers are
    /// exact only up to 2^53.
    #[serde(with = "decimal")]
    pub(crate) id: u64,
    /// Who wrote it.
    pub(crate) username: String,
    /// What.
    pub(crate) text: String,
    /// Where.
    pub(crate) room: String,
    /// When, in milliseconds since 1970.
    pub(crate) timestamp: u64,
}

impl Message {
    /// What it takes in a history, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        json(self).map_or(0, |text| text.len())
    }
}

/// What a client can have back after it lost its connection. Its key is a hash of the id that the
/// client has.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Session {
    /// Whose it is.
    pub(crate) username: String,
    /// The rooms it was in.
    pub(crate) rooms: Vec<String>,
    /// When the connection ended, in milliseconds since 1970; `None` while it lives.
    pub(crate) ended_at: Option<u64>,
}

impl Session {
    /// Whether it lives or ended after `since`.
    pub(super) fn is_open(&self, since: u64) -> bool {
        self.ended_at.is_none_or(|ended| ended > since)
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

pub(super) fn read<T: DeserializeOwned>(row: &[u8]) -> Result<T> {
    serde_json::from_slice(row).context("a stored row cannot be read")
}

/// As [`read`], where one bad row must not stand in the way: it is logged and passed over.
pub(super) fn readable<T: DeserializeOwned>(row: &[u8]) -> Option<T> {
    read(row).inspect_err(|error| tracing::error!(error = format!("{error:#}"))).ok()
}

/// A number as text in JSON.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(super) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
