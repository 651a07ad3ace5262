//! UTF-8 validation of whole texts and of texts that arrive in parts.
//! Knows nothing of frames; a part may end anywhere, also within a character.

use faststr::FastStr;

/// From this length on the SIMD validator is the faster one.
const SIMD_BYTES_MIN: usize = 64;

/// The bytes are not UTF-8: truncated, overlong, a surrogate or above U+10FFFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not UTF-8")]
pub struct InvalidUtf8;

/// The text that `bytes` are.
///
/// # Errors
///
/// [`InvalidUtf8`] when they are none.
#[inline]
pub fn validate(bytes: &[u8]) -> Result<&str, InvalidUtf8> {
    if bytes.len() < SIMD_BYTES_MIN {
        str::from_utf8(bytes).map_err(|_| InvalidUtf8)
    } else {
        simdutf8::basic::from_utf8(bytes).map_err(|_| InvalidUtf8)
    }
}

/// The whole characters that `bytes` begin with, and end with but for the beginning of one more: of
/// a text that arrives in parts, what is complete. What is bad is found in the part that makes it
/// bad, not only at the end (RFC 6455 §8.1).
///
/// # Errors
///
/// [`InvalidUtf8`] when no continuation could make `bytes` a text.
pub fn validate_part(bytes: &[u8]) -> Result<&str, InvalidUtf8> {
    let (whole, tail) = bytes.split_at(whole_len(bytes));
    let whole = validate(whole)?;
    match str::from_utf8(tail) {
        Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
        _ => Ok(whole),
    }
}

/// The text that `bytes` are, without a copy.
///
/// # Errors
///
/// [`InvalidUtf8`] when they are none.
pub(crate) fn into_string(bytes: Vec<u8>) -> Result<String, InvalidUtf8> {
    if bytes.len() < SIMD_BYTES_MIN {
        String::from_utf8(bytes).map_err(|_| InvalidUtf8)
    } else {
        // The SIMD validator itself knows no owned strings.
        FastStr::from_vec_u8(bytes).map(String::from).map_err(|_| InvalidUtf8)
    }
}

/// How many bytes of `bytes` there are before the beginning of a character that they end in.
pub(crate) fn whole_len(bytes: &[u8]) -> usize {
    bytes.len() - incomplete_len(bytes)
}

/// How many bytes the character still needs that `beginning` is the beginning of.
pub(crate) fn missing_len(beginning: &[u8]) -> usize {
    beginning.first().map_or(0, |lead| char_len(*lead) - beginning.len())
}

/// How many bytes at the end of `part` are the beginning of a longer character.
fn incomplete_len(part: &[u8]) -> usize {
    for (index, &byte) in part.iter().rev().take(3).enumerate() {
        if matches!(byte, 0x80..0xC0) {
            continue;
        }
        let seen = index + 1;
        return if seen < char_len(byte) { seen } else { 0 };
    }
    0
}

/// How many bytes a character has that begins with this one.
fn char_len(lead: u8) -> usize {
    match lead {
        0xF0.. => 4,
        0xE0..0xF0 => 3,
        0xC0..0xE0 => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVALID: [&[u8]; 12] = [
        b"\x80",
        b"\xBF\xBF",
        b"\xC0\x80",                 // overlong NUL
        b"\xC1\xBF",                 // overlong
        b"\xE0\x80\xAF",             // overlong solidus
        b"\xF0\x80\x80\xAF",         // overlong solidus
        b"\xED\xA0\x80",             // U+D800, a surrogate
        b"\xED\xAF\xBF\xED\xBF\xBF", // a pair of surrogates
        b"\xF4\x90\x80\x80",         // U+110000
        b"\xF5\x80\x80\x80",         // a lead byte that does not exist
        b"\xFE",
        b"\xC3\x28", // a lead byte without its continuation
    ];

    const VALID: [&str; 7] =
        ["", "Hello", "κόσμε", "\u{0}\u{7F}\u{80}\u{7FF}", "\u{FFFF}", "🐟🐠", "\u{10FFFF}"];

    /// What a reader does: it keeps what is not complete, and looks at it again with the next part.
    fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<String, InvalidUtf8> {
        let mut text = String::new();
        let mut kept = Vec::new();
        for part in parts {
            kept.extend_from_slice(part);
            let whole = validate_part(&kept)?;
            text.push_str(whole);
            kept.drain(..whole.len());
            assert!(kept.is_empty() || (1..=3).contains(&missing_len(&kept)), "{kept:02X?}");
        }
        if kept.is_empty() { Ok(text) } else { Err(InvalidUtf8) }
    }

    /// The same bytes alone, and behind so much ASCII that the SIMD validator takes them.
    fn short_and_long(bytes: &[u8]) -> [Vec<u8>; 2] {
        [bytes.to_vec(), [&[b'a'; 100], bytes].concat()]
    }

    #[test]
    fn whole_texts() {
        for bytes in VALID.iter().flat_map(|text| short_and_long(text.as_bytes())) {
            assert_eq!(validate(&bytes).map(str::as_bytes), Ok(&bytes[..]));
            assert_eq!(into_string(bytes.clone()).map(String::into_bytes), Ok(bytes));
        }
        for bytes in INVALID.iter().flat_map(|bytes| short_and_long(bytes)) {
            assert_eq!(validate(&bytes), Err(InvalidUtf8), "{bytes:02X?}");
            assert_eq!(into_string(bytes.clone()), Err(InvalidUtf8), "{bytes:02X?}");
        }
    }

    #[test]
    fn texts_split_anywhere() {
        for bytes in VALID.iter().flat_map(|text| short_and_long(text.as_bytes())) {
            assert_eq!(decode(bytes.chunks(1)).map(String::into_bytes), Ok(bytes.clone()));
            for middle in 0..=bytes.len() {
                let (first, second) = bytes.split_at(middle);
                assert_eq!(decode([first, b"", second]).map(String::into_bytes), Ok(bytes.clone()));
            }
        }
        for bytes in INVALID.iter().flat_map(|bytes| short_and_long(bytes)) {
            assert_eq!(decode(bytes.chunks(1)), Err(InvalidUtf8), "{bytes:02X?}");
            for middle in 0..=bytes.len() {
                let (first, second) = bytes.split_at(middle);
                assert_eq!(decode([first, second]), Err(InvalidUtf8), "{bytes:02X?} at {middle}");
            }
        }
    }

    #[test]
    fn a_character_that_cannot_become_valid_fails_at_once() {
        for bytes in [&b"\xF4\x90"[..], b"\xED\xA0", b"\xE0\x80", b"\xF5", b"\xC1", b"a\x80"] {
            assert_eq!(validate_part(bytes), Err(InvalidUtf8), "{bytes:02X?}");
        }
    }

    #[test]
    fn a_text_may_not_end_within_a_character() {
        for bytes in [&b"\xC3"[..], b"\xE2\x82", b"\xF0\x9F\x90"] {
            for bytes in short_and_long(bytes) {
                let whole = validate_part(&bytes).expect("it may go on");
                assert!(whole.len() < bytes.len());
                assert_eq!(validate(&bytes), Err(InvalidUtf8));
                assert_eq!(into_string(bytes), Err(InvalidUtf8));
            }
        }
    }

    #[test]
    fn an_owned_text_stays_where_its_bytes_were() {
        for text in ["a".repeat(SIMD_BYTES_MIN - 1), "🐟".repeat(1000)] {
            for spare in [0, 100] {
                let mut bytes = Vec::with_capacity(text.len() + spare);
                bytes.extend_from_slice(text.as_bytes());
                let address = bytes.as_ptr();
                let owned = into_string(bytes).expect("it is a text");
                assert_eq!((&owned, owned.as_ptr()), (&text, address));
            }
        }
    }
}
