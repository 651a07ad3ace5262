//! MessagePack as Socket.IO speaks it: between bytes and JSON with attachments, both ways.
//! Does not know packets (but for `packet`) or who reads them.
//!
//! Arguments are JSON with placeholders everywhere else; MessagePack is read into that form and
//! written from it, so that handlers see the same whatever the parser.
//!
//! Source: the [MessagePack specification](https://github.com/msgpack/msgpack/blob/master/spec.md)
//! and the dialects of the package `notepack.io`, 2 (clients) and 3 (clusters).
//!
//! | MessagePack | JSON, when read | written from JSON |
//! |---|---|---|
//! | nil | `null` | `null` |
//! | integers | a number | in the shortest form, unsigned from 0 on |
//! | float 32, float 64 | a number; `null` if not finite | float 64, for what 64 bits do not hold |
//! | str | text; it must be UTF-8 | text; a lone surrogate becomes U+FFFD |
//! | bin, ext 0 of any length but 1 and 8 | a placeholder | bin |
//! | map | an object; keys are text or integers | a map |
//! | ext -1 (timestamp), fixext 8 of type 0 (notepack 2) | the ISO text of a `Date` | – |
//! | fixext 1 of type 0 (notepack 2: `undefined`) | left out of an object, else `null` | – |
//! | other ext | `[type, placeholder]`, as notepack has it | – |

mod date;
mod packet;
mod read;
mod values;
mod write;

use bytes::Bytes;
pub(super) use packet::MessagePack;
use read::Reader;
pub use values::ValueReader;
pub use write::{write_array_len, write_json, write_map_len, write_str, write_uint};

use super::emit::EncodeError;
use super::packet::Violation;

/// What may be in one value that is read with [`to_json`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// How deep arrays and maps nest; deeper ones are [`Violation::TooDeep`]. Reading recurses.
    pub depth_max: usize,
    /// The binary data in it; more are [`Violation::TooManyAttachments`].
    pub attachments_max: usize,
}

/// Reads one value, which is all there is: its JSON, and the binary data that the placeholders in
/// it stand for. The text is at most seven times as long as the message, but for placeholders.
///
/// ```
/// use sockeye_proto::socket::msgpack::{ReadLimits, to_json, write_json};
///
/// let mut message = Vec::new();
/// write_json(&mut message, r#"["e",{"_placeholder":true,"num":0}]"#, &[&b"data"[..]])?;
/// assert_eq!(message, b"\x92\xa1e\xc4\x04data");
///
/// let limits = ReadLimits { depth_max: 100, attachments_max: 10 };
/// let (json, attachments) = to_json(&message, limits).expect("what was written is read");
/// assert_eq!(json, r#"["e",{"_placeholder":true,"num":0}]"#);
/// assert_eq!(attachments, [&b"data"[..]]);
/// # Ok::<(), sockeye_proto::socket::EncodeError>(())
/// ```
///
/// # Errors
/// It is no MessagePack value, or beyond the limits; or it has a map that looks like a placeholder
/// beside binary data.
pub fn to_json(message: &[u8], limits: ReadLimits) -> Result<(String, Vec<Bytes>), Violation> {
    let (mut json, mut attachments) = (Vec::new(), Vec::new());
    json.reserve(message.len() + message.len() / 4);
    append_json(message, limits, &mut json, &mut attachments)?;
    Ok((read::into_text(json), attachments))
}

/// As [`to_json`], behind what is there already: the numbers of placeholders go on where
/// `attachments` end.
///
/// # Errors
/// As [`to_json`]. What has been appended by then means nothing.
pub fn append_json(
    message: &[u8],
    limits: ReadLimits,
    json: &mut Vec<u8>,
    attachments: &mut Vec<Bytes>,
) -> Result<(), Violation> {
    let mut reader = Reader::new(message, limits);
    reader.value(json, attachments)?;
    if reader.has_fake_beside(attachments) {
        return Err(Violation::IllegalPlaceholder);
    }
    if reader.is_empty() { Ok(()) } else { Err(Violation::InvalidPayload) }
}

/// JSON with binary data in it as Node's `JSON.stringify` writes a `Buffer`:
/// `{"type":"Buffer","data":[…]}`, a number for each byte.
///
/// # Errors
/// As [`write_json`].
pub fn inline_json<A: AsRef<[u8]>>(json: &str, attachments: &[A]) -> Result<String, EncodeError> {
    let mut message = Vec::new();
    write_json(&mut message, json, attachments)?;
    let limits = ReadLimits { depth_max: usize::MAX, attachments_max: 0 };
    let mut inlined = Vec::new();
    let read = Reader::new(&message, limits).inline().value(&mut inlined, &mut Vec::new());
    read.expect("what was written is read, and nothing is attached");
    Ok(read::into_text(inlined))
}
