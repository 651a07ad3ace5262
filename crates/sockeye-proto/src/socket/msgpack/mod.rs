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
//! | float 32, float 64 | a number, without a fraction where it has none; `null` if not finite | float 64, for what is no integer or does not fit 64 bits (notepack writes 2⁶⁴ and above as 0) |
//! | str | text; it must be UTF-8 | text; a lone surrogate becomes U+FFFD |
//! | bin, ext 0 of any length but 1 and 8 | a placeholder, for an attachment | bin, for a placeholder |
//! | map | an object; keys are text or integers | a map |
//! | ext -1 (timestamp), fixext 8 of type 0 (notepack 2) | the ISO text of a JavaScript `Date` | – |
//! | fixext 1 of type 0 (notepack 2: `undefined`) | left out of an object, else `null` | – |
//! | other ext | `[type, placeholder]`, as notepack has it | – |

mod date;
mod packet;
mod read;
mod write;

use std::borrow::Cow;

pub(super) use packet::MessagePack;
use read::Reader;
pub use write::{write_array_len, write_json, write_map_len, write_str, write_uint};

use super::packet::Violation;

/// What may be in one value that is read with [`to_json`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// How deep arrays and maps nest; deeper ones are [`Violation::TooDeep`]. Reading recurses.
    pub depth_max: usize,
    /// The binary data in it; more are [`Violation::TooManyAttachments`].
    pub attachments_max: usize,
}

/// JSON, and the binary data that its placeholders stand for.
pub type JsonWithAttachments = (String, Vec<Cow<'static, [u8]>>);

/// Reads one value, which is all there is. The text is at most seven times as long as the
/// message, but for placeholders.
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
/// It is no MessagePack value, or beyond the limits.
pub fn to_json(message: &[u8], limits: ReadLimits) -> Result<JsonWithAttachments, Violation> {
    let mut reader = Reader::new(message, limits);
    let mut json = Vec::with_capacity(message.len() + message.len() / 4);
    let mut attachments = Vec::new();
    reader.value(&mut json, &mut attachments)?;
    if !reader.is_empty() {
        return Err(Violation::InvalidPayload);
    }
    Ok((read::into_text(json), attachments))
}
