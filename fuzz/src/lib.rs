//! What several fuzz targets need: inputs cut into reads, WebSocket frames by hand, memory counted,
//! messages of a cluster compared, values made up.
//! Does not know what any of them asserts.

pub mod cluster;
pub mod frames;
pub mod handshake;
pub mod heap;
pub mod values;

/// `bytes` as so many reads would return them: of the given sizes, then all that is left.
pub fn chunks<'b>(bytes: &'b [u8], sizes: &[u8]) -> Vec<&'b [u8]> {
    let mut rest = bytes;
    let mut chunks = Vec::with_capacity(sizes.len() + 1);
    for &size in sizes {
        let (chunk, behind) = rest.split_at(rest.len().min(usize::from(size)));
        chunks.push(chunk);
        rest = behind;
    }
    chunks.push(rest);
    chunks
}

/// The value without the optional whitespace around it (RFC 9110 §5.6.3).
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
