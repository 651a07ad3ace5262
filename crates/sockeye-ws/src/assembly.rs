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

    /// Appends an unmasked part, after which the frame still has `remaining` bytes to come.
    pub(crate) fn push(&mut self, part: &[u8], remaining: u64) -> Result<(), ProtocolError> {
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

/// What to reserve so that the frame ends without growing again, or `None` where the declared
/// length is not yet backed by what has arrived: there the buffer doubles as it fills, so a peer
/// that declares 100 MB and sends nothing costs nothing.
fn exact_reserve(len: usize, part_len: usize, remaining: u64) -> Option<usize> {
    let arrived = len + part_len;
    let remaining = usize::try_from(remaining).ok()?;
    (remaining <= arrived.max(RESERVE_BYTES)).then(|| part_len + remaining)
}
