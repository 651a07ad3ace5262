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

        let (whole, tail) = part.split_at(part.len() - incomplete_len(part));
        text.push_str(validate(whole)?);
        if let Err(error) = str::from_utf8(tail)
            && error.error_len().is_some()
        {
            return Err(InvalidUtf8);
        }
        self.tail[..tail.len()].copy_from_slice(tail);
        self.tail_len = tail.len() as u8;
        Ok(())
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
}

/// How many bytes at the end of `part` are the beginning of a longer character.
fn incomplete_len(part: &[u8]) -> usize {
    for (index, &byte) in part.iter().rev().take(3).enumerate() {
        let char_len = match byte {
            0x80..0xC0 => continue,
            0xF0.. => 4,
            0xE0..0xF0 => 3,
            0xC0..0xE0 => 2,
            0x00..0x80 => 1,
        };
        let seen = index + 1;
        return if seen < char_len { seen } else { 0 };
    }
    0
}
