//! UTF-8 validation of whole texts and of texts that arrive in parts.
//! Knows nothing of frames; a part may end anywhere, also within a character.

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

/// Validates a text that arrives in parts. Bad input fails with the part that makes it bad, not
/// only at the end (RFC 6455 §8.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    /// The beginning of a character that the last part ended in.
    tail: [u8; 4],
    tail_len: u8,
}

impl Decoder {
    /// Appends to `text` what `part` completes; each byte is validated once.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] when no continuation could make the parts so far a text.
    pub fn push(&mut self, mut part: &[u8], text: &mut String) -> Result<(), InvalidUtf8> {
        while self.tail_len > 0 {
            let Some((&byte, rest)) = part.split_first() else { return Ok(()) };
            part = rest;
            self.tail[usize::from(self.tail_len)] = byte;
            self.tail_len += 1;
            let tail = &self.tail[..usize::from(self.tail_len)];
            match str::from_utf8(tail) {
                Ok(character) => {
                    text.push_str(character);
                    self.tail_len = 0;
                }
                // At four bytes a character is complete or wrong, so `tail` cannot overflow.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(InvalidUtf8),
            }
        }

        text.push_str(self.split(part)?);
        Ok(())
    }

    /// The whole characters of a part; what is left of it waits for the rest. Nothing may wait
    /// already.
    pub(crate) fn split<'p>(&mut self, part: &'p [u8]) -> Result<&'p str, InvalidUtf8> {
        debug_assert_eq!(self.tail_len, 0);
        let (whole, tail) = part.split_at(part.len() - incomplete_len(part));
        let whole = validate(whole)?;
        if let Err(error) = str::from_utf8(tail)
            && error.error_len().is_some()
        {
            return Err(InvalidUtf8);
        }
        self.tail[..tail.len()].copy_from_slice(tail);
        self.tail_len = tail.len() as u8;
        Ok(whole)
    }

    /// Ends the text.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] when it ends within a character.
    pub fn finish(self) -> Result<(), InvalidUtf8> {
        if self.tail_len == 0 { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// How many bytes wait for the rest of their character.
    pub(crate) fn pending_len(self) -> usize {
        usize::from(self.tail_len)
    }

    /// How many bytes the character still needs whose beginning waits; 0 if none waits.
    pub(crate) fn missing_len(self) -> usize {
        match self.tail[..self.pending_len()] {
            [] => 0,
            [lead, ..] => char_len(lead) - self.pending_len(),
        }
    }
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

    fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<String, InvalidUtf8> {
        let mut text = String::new();
        let mut decoder = Decoder::default();
        for part in parts {
            decoder.push(part, &mut text)?;
        }
        decoder.finish().map(|()| text)
    }

    /// The same bytes alone, and behind so much ASCII that the SIMD validator takes them.
    fn short_and_long(bytes: &[u8]) -> [Vec<u8>; 2] {
        [bytes.to_vec(), [&[b'a'; 100], bytes].concat()]
    }

    #[test]
    fn whole_texts() {
        for bytes in VALID.iter().flat_map(|text| short_and_long(text.as_bytes())) {
            assert_eq!(validate(&bytes).map(str::as_bytes), Ok(&bytes[..]));
        }
        for bytes in INVALID.iter().flat_map(|bytes| short_and_long(bytes)) {
            assert_eq!(validate(&bytes), Err(InvalidUtf8), "{bytes:02X?}");
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
            let mut decoder = Decoder::default();
            assert_eq!(decoder.push(bytes, &mut String::new()), Err(InvalidUtf8), "{bytes:02X?}");
        }
    }

    #[test]
    fn a_text_may_not_end_within_a_character() {
        for bytes in [&b"\xC3"[..], b"\xE2\x82", b"\xF0\x9F\x90"] {
            let mut decoder = Decoder::default();
            assert_eq!(decoder.push(bytes, &mut String::new()), Ok(()));
            assert_eq!(decoder.pending_len(), bytes.len());
            assert_eq!(decoder.finish(), Err(InvalidUtf8));
        }
    }
}
