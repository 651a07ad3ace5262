//! The opening handshake (RFC 6455 §4): heads read, requests and responses built and verified.
//! Knows nothing of frames or sockets. Where HTTP is somebody else's, `server::verify` is enough.

pub mod client;
pub mod head;
mod list;
pub mod server;
mod url;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

pub use url::{Url, UrlError};

/// Appended to the key before hashing (RFC 6455 §1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept` (ASCII) that proves that the request with this
/// `Sec-WebSocket-Key` was understood.
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize();
    let mut accept = [0; 28];
    STANDARD.encode_slice(digest, &mut accept).expect("20 bytes are 28 in base64");
    accept
}

/// The version of the WebSocket protocol, as `Sec-WebSocket-Version` has it. Frames are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// A late draft (hybi-08), whose origin header is `Sec-WebSocket-Origin`.
    V8,
    /// RFC 6455.
    #[default]
    V13,
}

impl Version {
    /// The header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V8 => "8",
            Self::V13 => "13",
        }
    }

    /// The name of the header that holds the origin.
    pub fn origin_header(self) -> &'static str {
        match self {
            Self::V8 => "Sec-WebSocket-Origin",
            Self::V13 => "Origin",
        }
    }
}

/// The version of HTTP a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0, which knows no upgrade.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// Why a request or a response could not be built as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A header whose name is not a token, whose value has control characters, or which is one of
    /// the handshake's own. Holds the name.
    #[error("the header {0:?} cannot be sent")]
    Header(String),
    /// A subprotocol that is not a token, is there twice, or was not offered. Holds it.
    #[error("the subprotocol {0:?} cannot be sent")]
    Protocol(String),
}

/// The headers that make the handshake; nobody else may set them.
const OWN_HEADERS: [&str; 8] = [
    "Host",
    "Connection",
    "Upgrade",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
];

/// Appends `name: value` and the end of the line. The handshake's own headers are written with it
/// too, where they hold what a caller gave.
fn write_header(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), BuildError> {
    let visible = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7F);
    if !list::is_token(name.as_bytes()) || !value.bytes().all(visible) {
        return Err(BuildError::Header(name.to_owned()));
    }
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    Ok(())
}

/// Appends headers that the caller added.
fn write_extra_headers<'h>(
    out: &mut Vec<u8>,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
) -> Result<(), BuildError> {
    for (name, value) in headers {
        if OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Err(BuildError::Header(name.to_owned()));
        }
        write_header(out, name, value)?;
    }
    Ok(())
}

/// The value of a header that must be there exactly once.
fn single<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let value = values.next()?;
    values.next().is_none().then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_of_rfc_6455_section_1_3() {
        assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn headers_that_cannot_be_sent() {
        for (name, value) in [
            ("", "empty name"),
            ("X Y", "space in the name"),
            ("X:", "colon in the name"),
            ("X-Split", "a\r\nX-Injected: b"),
            ("X-Null", "a\0b"),
            ("X-Delete", "\x7F"),
            ("host", "one of the handshake's own"),
            ("SEC-WEBSOCKET-ACCEPT", "one of the handshake's own"),
        ] {
            let refused = Err(BuildError::Header(name.to_owned()));
            assert_eq!(write_extra_headers(&mut Vec::new(), [(name, value)]), refused);
        }
        let mut out = Vec::new();
        write_extra_headers(&mut out, [("X-Name", "größer\tas"), ("Cookie", "a=b")]).unwrap();
        assert_eq!(out, "X-Name: größer\tas\r\nCookie: a=b\r\n".as_bytes());
    }
}
