//! The message under way: the payload that has arrived of a message that did not come whole.
//! Knows nothing of frames or of the peer; its limits are checked by `connection`.

use std::borrow::Cow;
use std::mem;

use bytes::BufMut as _;
use bytes::buf::Limit;

use crate::connection::Event;
use crate::deflate::{Inflating, Window};
use crate::error::ProtocolError;
use crate::utf8;

/// How much may be reserved ahead of what has arrived, however little that is.
const RESERVE_BYTES: usize = 4096;
/// How much may be reserved ahead once a sixteenth of it has arrived. A message that grows by
/// doubling is copied once more on its way; up to here that would show beside the reads.
const RESERVE_BYTES_MAX: usize = 1 << 20;

/// What has arrived of a message, inflated if it is compressed.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// What has not been handed out in parts.
    content: Content,
    /// Boxed: most messages are not compressed, and many connections may be within one.
    inflating: Option<Box<Inflating>>,
    /// How many bytes have been handed out, once the first part has.
    handed_out: Option<u64>,
    /// Where what a driver puts into the room it was given begins.
    room_start: Option<usize>,
}

/// Text is validated and binary is kept as it comes.
#[derive(Debug)]
enum Content {
    Text { text: String, decoder: utf8::Decoder },
    Binary(Vec<u8>),
}

/// A part of a message.
#[derive(Debug)]
pub(crate) enum PartData<'a> {
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
}

impl PartData<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

impl Assembly {
    pub(crate) fn text(inflating: Option<Inflating>) -> Self {
        Self::new(
            Content::Text { text: String::new(), decoder: utf8::Decoder::default() },
            inflating,
        )
    }

    pub(crate) fn binary(inflating: Option<Inflating>) -> Self {
        Self::new(Content::Binary(Vec::new()), inflating)
    }

    fn new(content: Content, inflating: Option<Inflating>) -> Self {
        Self { content, inflating: inflating.map(Box::new), handed_out: None, room_start: None }
    }

    /// How many bytes have arrived.
    pub(crate) fn len(&self) -> u64 {
        self.handed_out.unwrap_or(0) + self.content.len() as u64
    }

    /// How many compressed bytes have arrived, if the message is compressed.
    pub(crate) fn compressed_len(&self) -> Option<u64> {
        self.inflating.as_ref().map(|inflating| inflating.compressed_len())
    }

    /// Whether the message is handed out in parts.
    pub(crate) fn is_in_parts(&self) -> bool {
        self.handed_out.is_some()
    }

    /// Appends an unmasked part. `remaining` is what the message still has to come after it, once
    /// its last frame has declared that. What is inflated is held against `bytes_max`, which for
    /// anything else was done when its length was declared.
    pub(crate) fn push(
        &mut self,
        part: &[u8],
        remaining: Option<u64>,
        bytes_max: u64,
    ) -> Result<(), ProtocolError> {
        self.room_start = None;
        let content_max = self.content_max(bytes_max);
        let Self { content, inflating, .. } = self;
        match inflating {
            None => content.push(part, exact_reserve(content.len(), part.len(), remaining)),
            Some(inflating) => inflating
                .push(part, |piece| content.push_inflated(piece, content_max).map(|()| true))
                .map(|_| ()),
        }
    }

    /// The message is complete: moves it out, and the context that the peer's next compressed
    /// message may refer to.
    pub(crate) fn finish(self) -> Result<(Event<'static>, Option<Window>), ProtocolError> {
        let context = self.inflating.map(|inflating| inflating.finish()).transpose()?.flatten();
        let event = match self.content {
            Content::Text { text, decoder } => {
                decoder.finish().map_err(|_| ProtocolError::InvalidText)?;
                Event::Text(Cow::Owned(text))
            }
            Content::Binary(bytes) => Event::Binary(Cow::Owned(bytes)),
        };
        Ok((event, context))
    }

    /// How much the next part had better hold at most: the rest of a character, so that what
    /// follows it can be handed out from where it is.
    pub(crate) fn part_len_max(&self) -> usize {
        match &self.content {
            Content::Text { text, decoder } if text.is_empty() => match decoder.missing_len() {
                0 => usize::MAX,
                missing => missing,
            },
            _ => usize::MAX,
        }
    }

    /// What an unmasked part that is not compressed completes, together with what was kept before.
    pub(crate) fn part<'p>(&mut self, part: &'p [u8]) -> Result<PartData<'p>, ProtocolError> {
        match &mut self.content {
            Content::Text { text, decoder } if text.is_empty() && decoder.pending_len() == 0 => {
                let text = decoder.split(part).map_err(|_| ProtocolError::InvalidText)?;
                Ok(PartData::Text(Cow::Borrowed(text)))
            }
            Content::Binary(bytes) if bytes.is_empty() => Ok(PartData::Binary(Cow::Borrowed(part))),
            content => {
                content.push(part, None)?;
                Ok(content.take())
            }
        }
    }

    /// What a part is inflated to, together with what was kept before, and how much of it that is:
    /// a little can become much.
    pub(crate) fn inflated_part(
        &mut self,
        part: &[u8],
        bytes_max: u64,
    ) -> Result<(usize, PartData<'static>), ProtocolError> {
        let content_max = self.content_max(bytes_max);
        let Self { content, inflating, .. } = self;
        let inflating = inflating.as_mut().expect("the message is compressed");
        let consumed = inflating
            .push(part, |piece| content.push_inflated(piece, content_max).map(|()| false))?;
        Ok((consumed, content.take()))
    }

    /// Counts a part that is handed out. Whether it is the first.
    pub(crate) fn hand_out(&mut self, part: &PartData<'_>) -> bool {
        let before = self.handed_out;
        self.handed_out = Some(before.unwrap_or(0) + part.len() as u64);
        before.is_none()
    }

    /// Room for at most `remaining` bytes more at the end of a binary message that is kept as it
    /// comes. Text must be validated on its way.
    pub(crate) fn room(&mut self, remaining: u64) -> Option<Limit<&mut Vec<u8>>> {
        let Content::Binary(bytes) = &mut self.content else { return None };
        if self.inflating.is_some() || self.handed_out.is_some() {
            return None;
        }
        self.room_start = Some(bytes.len());
        let remaining = usize::try_from(remaining).unwrap_or(usize::MAX);
        let room_len = remaining.min(reserve_max(bytes.len()));
        bytes.reserve_exact(room_len);
        Some(bytes.limit(room_len))
    }

    /// What was put into the room, still masked.
    pub(crate) fn take_filled(&mut self) -> &mut [u8] {
        match (&mut self.content, self.room_start.take()) {
            (Content::Binary(bytes), Some(start)) => &mut bytes[start..],
            _ => &mut [],
        }
    }

    fn content_max(&self, bytes_max: u64) -> usize {
        let left = bytes_max.saturating_sub(self.handed_out.unwrap_or(0));
        usize::try_from(left).unwrap_or(usize::MAX)
    }
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Text { text, decoder } => text.len() + decoder.pending_len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    fn push(&mut self, part: &[u8], reserve: Option<usize>) -> Result<(), ProtocolError> {
        match self {
            Self::Text { text, decoder } => {
                if let Some(additional) = reserve {
                    text.reserve_exact(additional);
                }
                decoder.push(part, text).map_err(|_| ProtocolError::InvalidText)
            }
            Self::Binary(bytes) => {
                if let Some(additional) = reserve {
                    bytes.reserve_exact(additional);
                }
                bytes.extend_from_slice(part);
                Ok(())
            }
        }
    }

    /// Appends what a part was inflated to. A few bytes can become many: here the buffer doubles,
    /// but never beyond the limit.
    fn push_inflated(&mut self, piece: &[u8], bytes_max: usize) -> Result<(), ProtocolError> {
        let len = self.len();
        let fits = &piece[..piece.len().min(bytes_max.saturating_sub(len))];
        let (stored_len, capacity) = match self {
            Self::Text { text, .. } => (text.len(), text.capacity()),
            Self::Binary(bytes) => (bytes.len(), bytes.capacity()),
        };
        let needed = len + fits.len();
        let grown = (2 * capacity).min(bytes_max).max(needed);
        self.push(fits, (needed > capacity).then(|| grown - stored_len))?;
        if fits.len() < piece.len() { Err(ProtocolError::MessageTooLong) } else { Ok(()) }
    }

    fn take(&mut self) -> PartData<'static> {
        match self {
            Self::Text { text, .. } => PartData::Text(Cow::Owned(mem::take(text))),
            Self::Binary(bytes) => PartData::Binary(Cow::Owned(mem::take(bytes))),
        }
    }
}

/// What to reserve so that the message ends without growing again, or `None` where its end is not
/// known or not yet backed by what has arrived: there the buffer doubles as it fills, so a peer
/// that declares 100 MB and sends nothing costs nothing.
fn exact_reserve(len: usize, part_len: usize, remaining: Option<u64>) -> Option<usize> {
    let arrived = len + part_len;
    let remaining = usize::try_from(remaining?).ok()?;
    (remaining <= reserve_max(arrived)).then(|| part_len + remaining)
}

/// How much of what a frame declares is believed when so much has arrived.
fn reserve_max(arrived: usize) -> usize {
    let early = arrived.saturating_mul(16).clamp(RESERVE_BYTES, RESERVE_BYTES_MAX);
    arrived.max(early)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(assembly: &Assembly) -> usize {
        match &assembly.content {
            Content::Text { text, .. } => text.capacity(),
            Content::Binary(bytes) => bytes.capacity(),
        }
    }

    #[test]
    fn a_declared_length_is_not_believed() {
        const DECLARED: usize = 100 << 20;
        for mut assembly in [Assembly::text(None), Assembly::binary(None)] {
            for arrived in 1..=100 {
                let part = [b'x'; 1000];
                let remaining = DECLARED - arrived * part.len();
                assembly.push(&part, Some(remaining as u64), DECLARED as u64).unwrap();
                assert!(capacity(&assembly) <= 2 * arrived * part.len() + RESERVE_BYTES);
            }
        }
    }

    #[test]
    fn a_message_of_1_mib_is_reserved_with_its_first_sixteenth() {
        for mut assembly in [Assembly::text(None), Assembly::binary(None)] {
            let part = vec![b'x'; 1 << 16];
            assembly.push(&part, Some((1 << 20) - (1 << 16)), 1 << 20).unwrap();
            assert_eq!(capacity(&assembly), 1 << 20);
        }
    }

    #[test]
    fn a_message_that_nearly_came_whole_is_kept_without_slack() {
        for mut assembly in [Assembly::text(None), Assembly::binary(None)] {
            assembly.push(&[b'x'; 10_000], Some(5000), 15_000).unwrap();
            assembly.push(&[b'x'; 5000], Some(0), 15_000).unwrap();
            assert_eq!((assembly.len(), capacity(&assembly)), (15_000, 15_000));
        }
    }

    #[test]
    fn small_fragments_do_not_make_the_buffer_grow_one_by_one() {
        for mut assembly in [Assembly::text(None), Assembly::binary(None)] {
            let mut growths = 0;
            for _ in 0..16_384 {
                let before = capacity(&assembly);
                assembly.push(b"x", None, 16_384).unwrap();
                growths += u32::from(capacity(&assembly) != before);
            }
            assert!(growths < 20, "grew {growths} times");
        }
    }
}
