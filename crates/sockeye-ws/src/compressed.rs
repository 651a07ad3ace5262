//! Frames whose payload is compressed (RFC 7692 §6).
//! Does not know connections or contexts; who has one brings the compressor along.

use crate::deflate::{self, Settings};
use crate::frame::{HEADER_BYTES_MAX, Header, Opcode, RSV1};
use crate::mask::{self, MaskingKey};

/// Appends a message that is compressed by itself, unless that makes it no shorter.
pub(crate) fn write_alone(
    out: &mut Vec<u8>,
    opcode: Opcode,
    payload: &[u8],
    key: Option<MaskingKey>,
    settings: Settings,
) -> bool {
    let start = out.len();
    let mut deflater = deflate::take_deflater(settings);
    let payload_len =
        write_with(out, message_header(opcode, key), |out| deflater.finish(payload, out));
    deflate::return_deflater(deflater);
    let shorter = payload_len < payload.len();
    if !shorter {
        out.truncate(start);
    }
    shorter
}

/// The header of a whole compressed message, but for its length.
pub(crate) fn message_header(opcode: Opcode, mask: Option<MaskingKey>) -> Header {
    Header { fin: true, rsv: RSV1, opcode, mask, payload_len: 0 }
}

/// Appends a frame whose payload `compress` makes. Returns how long that became, which is what the
/// header then says.
pub(crate) fn write_with(
    out: &mut Vec<u8>,
    header: Header,
    compress: impl FnOnce(&mut Vec<u8>),
) -> usize {
    // How long the header is turns out behind the payload. Moving that together afterwards costs
    // less than a hundredth of compressing it.
    let start = out.len();
    let payload_start = start + HEADER_BYTES_MAX;
    out.resize(payload_start, 0);
    compress(out);
    let payload = &mut out[payload_start..];
    let payload_len = payload.len();
    if let Some(key) = header.mask {
        mask::apply(key, 0, payload);
    }
    let mut encoded = Vec::with_capacity(HEADER_BYTES_MAX);
    Header { payload_len: payload_len as u64, ..header }.encode(&mut encoded);
    out.splice(start..payload_start, encoded);
    payload_len
}
