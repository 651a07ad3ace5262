//! Ids of sessions (secret) and of sockets (public): 20 characters of base64url, as Node's are.
//! Does not know where the entropy comes from.

use std::fmt;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};

/// The length of every id. Node's sharded Redis adapter and sticky balancers rely on it.
const LEN: usize = 20;

/// Which bytes ids are made of: one look each, as every request has an id.
const OF_IDS: [bool; 256] = {
    let mut of_ids = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        of_ids[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        byte += 1;
    }
    of_ids
};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name([u8; LEN]);

        impl Hash for $name {
            /// Its bytes alone: ids are all of one length.
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write(&self.0);
            }
        }

        impl $name {
            /// Makes an id of 120 random bits.
            pub fn from_entropy(entropy: [u8; 15]) -> Self {
                let mut text = [0; LEN];
                URL_SAFE_NO_PAD
                    .encode_slice(entropy, &mut text)
                    .expect("15 bytes are 20 characters");
                Self(text)
            }

            /// What [`from_entropy`](Self::from_entropy) made it of.
            pub fn to_entropy(&self) -> [u8; 15] {
                let mut entropy = [0; 15];
                URL_SAFE_NO_PAD
                    .decode_slice(self.0, &mut entropy)
                    .expect("20 characters are 15 bytes");
                entropy
            }

            /// Reads an id: 20 characters of `A-Z a-z 0-9 - _`.
            pub fn parse(text: &str) -> Option<Self> {
                let bytes: [u8; LEN] = text.as_bytes().try_into().ok()?;
                let is_id = bytes.iter().fold(true, |is, byte| is & OF_IDS[usize::from(*byte)]);
                is_id.then_some(Self(bytes))
            }

            /// Its 20 characters.
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).expect("an id is ASCII")
            }
        }
    };
}

id! {
    /// The id of an Engine.IO session. Who knows it can act as the client: it is never shown to
    /// others, and `Debug` prints only its beginning.
    SessionId
}

id! {
    /// The public id of a socket, fresh for each namespace.
    SocketId
}

id! {
    /// The private id that a client takes its socket's state up again with (Node's `pid`). Who
    /// knows it can do that: it is never shown to others, and `Debug` prints only its beginning.
    RecoveryId
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({}…)", &self.as_str()[..4])
    }
}

impl fmt::Debug for RecoveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoveryId({}…)", &self.as_str()[..4])
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketId({self})")
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for SocketId {
    /// As its text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_id_is_written_as_its_text() {
        let id = SocketId::from_entropy([1; 15]);
        let json = serde_json::to_string(&id).expect("a text can be written");
        assert_eq!(json, format!("\"{id}\""));
    }

    #[test]
    fn ids_have_twenty_characters() {
        let id = SocketId::from_entropy([0xff; 15]);
        assert_eq!(id.as_str().len(), 20);
        assert_eq!(SocketId::parse(id.as_str()), Some(id));
        assert_eq!(id.to_entropy(), [0xff; 15]);
        let text = "-_09azAZ-_09azAZ-_09";
        let id = SessionId::parse(text).expect("an id");
        assert_eq!(SessionId::from_entropy(id.to_entropy()).as_str(), text);
    }

    #[test]
    fn h01_h03_what_is_no_id() {
        for text in
            ["", "__proto__", "constructor", "abcdefghijklmnopqrs!", "abcdefghijklmnopqrstu"]
        {
            assert_eq!(SessionId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_session_id_is_not_printed() {
        let id = SessionId::from_entropy([7; 15]);
        assert!(!format!("{id:?}").contains(id.as_str()));
        let id = RecoveryId::from_entropy([7; 15]);
        assert!(!format!("{id:?}").contains(id.as_str()));
    }
}
