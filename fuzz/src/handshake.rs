//! A WebSocket request that is good but for one header. Does not know what stands in that.

use sockeye_ws::handshake::HttpVersion;
use sockeye_ws::handshake::server::{Accept, HandshakeError, verify};

/// What a server makes of a request whose header `own` has these values.
pub fn request<'v>(own: &str, values: &[&'v [u8]]) -> Result<Accept<'v>, HandshakeError> {
    verify("GET", HttpVersion::Http11, |name| {
        let fixed: &[&[u8]] = match name {
            "host" => &[b"localhost"],
            "upgrade" => &[b"websocket"],
            "connection" => &[b"Upgrade"],
            "sec-websocket-key" => &[b"dGhlIHNhbXBsZSBub25jZQ=="],
            "sec-websocket-version" => &[b"13"],
            _ => &[],
        };
        let values = if name == own { values } else { fixed };
        values.iter().copied()
    })
}
