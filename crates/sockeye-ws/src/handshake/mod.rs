//! The opening handshake (RFC 6455 §4): heads parsed, requests and responses built and verified.
//! Knows nothing of frames or sockets; where HTTP is somebody else's, only `verify` is needed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

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
