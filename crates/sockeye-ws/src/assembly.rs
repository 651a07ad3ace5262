//! The message under way: the payload that has arrived of a message that did not come whole.
//! Knows nothing of frames or of the peer; its limits are checked by `connection`.

use std::borrow::Cow;

use crate::connection::Event;
use crate::error::ProtocolError;
use crate::utf8;

/// How much may be reserved ahead of what has arrived.
const RESERVE_BYTES: usize = 4096;

/// Text is validated and binary is kept as it comes.
#[derive(Debug)]
pub(crate) enum Assembly {
    Text { text: String, decoder: utf8::Decoder },
    Binary(Vec<u8>),
}

impl Assembly {
    pub(crate) fn text() -> Self {
        Self::Text { text: String::new(), decoder: utf8::Decoder::default() }
    }

    pub(crate) fn binary() -> Self {
        Self::Binary(Vec::new())
    }

    /// How many bytes have arrived.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text { text, decoder } => text.len() + decoder.pending_len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Appends an unmasked part. `remaining` is what the message still has to come after it, once
    /// its last frame has declared that.
    pub(crate) fn push(
        &mut self,
        part: &[u8],
        remaining: Option<u64>,
    ) -> Result<(), ProtocolError> {
        match self {
            Self::Text { text, decoder } => {
                if let Some(additional) = exact_reserve(text.len(), part.len(), remaining) {
                    text.reserve_exact(additional);
                }
                decoder.push(part, text).map_err(|_| ProtocolError::InvalidText)
            }
            Self::Binary(bytes) => {
                if let Some(additional) = exact_reserve(bytes.len(), part.len(), remaining) {
                    bytes.reserve_exact(additional);
                }
                bytes.extend_from_slice(part);
                Ok(())
            }
        }
    }

    /// The message is complete: moves it out.
    pub(crate) fn finish(self) -> Result<Event<'static>, ProtocolError> {
        match self {
            Self::Text { text, decoder } => {
                decoder.finish().map_err(|_| ProtocolError::InvalidText)?;
                Ok(Event::Text(Cow::Owned(text)))
            }
            Self::Binary(bytes) => Ok(Event::Binary(Cow::Owned(bytes))),
        }
    }
}

/// What to reserve so that the message ends without growing again, or `None` where its end is not
/// known or not yet backed by what has arrived: there the buffer doubles as it fills, so a peer
/// that declares 100 MB and sends nothing costs nothing.
fn exact_reserve(len: usize, part_len: usize, remaining: Option<u64>) -> Option<usize> {
    let arrived = len + part_len;
    let remaining = usize::try_from(remaining?).ok()?;
    (remaining <= arrived.max(RESERVE_BYTES)).then(|| part_len + remaining)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(assembly: &Assembly) -> usize {
        match assembly {
            Assembly::Text { text, .. } => text.capacity(),
            Assembly::Binary(bytes) => bytes.capacity(),
        }
    }

    #[test]
    fn a_declared_length_is_not_believed() {
        const DECLARED: usize = 100 << 20;
        for mut assembly in [Assembly::text(), Assembly::binary()] {
            for arrived in 1..=100 {
                let part = [b'x'; 1000];
                let remaining = DECLARED - arrived * part.len();
                assembly.push(&part, Some(remaining as u64)).unwrap();
                assert!(capacity(&assembly) <= 2 * arrived * part.len() + RESERVE_BYTES);
            }
        }
    }

    #[test]
    fn a_message_that_nearly_came_whole_is_kept_without_slack() {
        for mut assembly in [Assembly::text(), Assembly::binary()] {
            assembly.push(&[b'x'; 10_000], Some(5000)).unwrap();
            assembly.push(&[b'x'; 5000], Some(0)).unwrap();
            assert_eq!((assembly.len(), capacity(&assembly)), (15_000, 15_000));
        }
    }

    #[test]
    fn small_fragments_do_not_make_the_buffer_grow_one_by_one() {
        for mut assembly in [Assembly::text(), Assembly::binary()] {
            let mut growths = 0;
            for _ in 0..16_384 {
                let before = capacity(&assembly);
                assembly.push(b"x", None).unwrap();
                growths += u32::from(capacity(&assembly) != before);
            }
            assert!(growths < 20, "grew {growths} times");
        }
    }
}
