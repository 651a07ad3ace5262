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
/// Less room than this is not worth a read of its own.
pub(crate) const ROOM_BYTES_MIN: usize = 16 << 10;

/// What has arrived of a message, inflated if it is compressed.
#[derive(Debug)]
pub(crate) struct Assembly {
    is_text: bool,
    /// What has not been handed out in parts.
    bytes: Vec<u8>,
    /// How much of a text has been found valid. What stands behind it is the beginning of a
    /// character, or has just arrived.
    valid_len: usize,
    /// Boxed: most messages are not compressed, and many connections may be within one.
    inflating: Option<Box<Inflating>>,
    /// How many bytes have been handed out, once the first part has.
    handed_out: Option<u64>,
    /// Some of it has been passed over, and so the rest will be.
    given_up: bool,
    /// Where what a driver puts into the room it was given begins.
    room_start: Option<usize>,
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
    pub(crate) fn new(is_text: bool, inflating: Option<Inflating>) -> Self {
        Self {
            is_text,
            bytes: Vec::new(),
            valid_len: 0,
            inflating: inflating.map(Box::new),
            handed_out: None,
            given_up: false,
            room_start: None,
        }
    }

    /// How many bytes have arrived.
    pub(crate) fn len(&self) -> u64 {
        self.handed_out.unwrap_or(0) + self.bytes.len() as u64
    }

    /// How many compressed bytes have arrived, if the message is compressed.
    pub(crate) fn compressed_len(&self) -> Option<u64> {
        self.inflating.as_ref().map(|inflating| inflating.compressed_len())
    }

    /// Whether the message is too long with so much more of it. One that is compressed tells when
    /// it is inflated.
    pub(crate) fn exceeds(&self, bytes_max: u64, further: u64) -> bool {
        self.inflating.is_none() && self.len().saturating_add(further) > bytes_max
    }

    /// Whether the message is handed out in parts.
    pub(crate) fn is_in_parts(&self) -> bool {
        self.handed_out.is_some()
    }

    /// Appends an unmasked part. `remaining` is what the message still has to come after it, once
    /// its last frame has declared that. What is inflated is held against `bytes_max`, which for
    /// anything else was done when its length was declared.
    ///
    /// Text that goes on is to be [checked](Self::check) then; all of it is when it
    /// [ends](Self::finish).
    pub(crate) fn push(
        &mut self,
        part: &[u8],
        remaining: Option<u64>,
        bytes_max: u64,
    ) -> Result<(), ProtocolError> {
        self.room_start = None;
        let content_max = self.content_max(bytes_max);
        let Self { bytes, inflating, .. } = self;
        let Some(inflating) = inflating else {
            if let Some(additional) = exact_reserve(bytes.len(), part.len(), remaining) {
                bytes.reserve_exact(additional);
            }
            bytes.extend_from_slice(part);
            return Ok(());
        };
        let inflated =
            inflating.push(part, |piece| push_inflated(bytes, piece, content_max).map(|()| true));
        match inflated {
            Ok(_) => Ok(()),
            Err(error) => Err(self.verdict(error)),
        }
    }

    /// Finds out whether what has arrived of a text can still become one.
    pub(crate) fn check(&mut self) -> Result<(), ProtocolError> {
        if self.is_text {
            let whole = utf8::validate_part(&self.bytes[self.valid_len..]);
            self.valid_len += whole.map_err(|_| ProtocolError::InvalidText)?.len();
        }
        Ok(())
    }

    /// What is wrong with the message: what came before `error` is looked at first, so that the
    /// verdict does not depend on how a message arrives.
    fn verdict(&mut self, error: ProtocolError) -> ProtocolError {
        self.check().err().unwrap_or(error)
    }

    /// The message is complete: moves it out, and the context that the peer's next compressed
    /// message may refer to.
    pub(crate) fn finish(mut self) -> Result<(Event<'static>, Option<Window>), ProtocolError> {
        let inflated = self.inflating.take().map(|inflating| inflating.finish()).transpose();
        let context = inflated.map_err(|error| self.verdict(error))?.flatten();
        let event = if self.is_text {
            // Once more as a whole, to own it as a text: that is still cheaper than to copy it
            // part by part.
            let text = utf8::into_string(self.bytes).map_err(|_| ProtocolError::InvalidText)?;
            Event::Text(Cow::Owned(text))
        } else {
            Event::Binary(Cow::Owned(self.bytes))
        };
        Ok((event, context))
    }

    /// How much the next part had better hold at most: the rest of a character, so that what
    /// follows it can be handed out from where it is.
    pub(crate) fn part_len_max(&self) -> usize {
        match self.bytes[..] {
            [_, ..] if self.is_text && self.valid_len == 0 => utf8::missing_len(&self.bytes),
            _ => usize::MAX,
        }
    }

    /// What an unmasked part that is not compressed completes, together with what was kept before.
    pub(crate) fn part<'p>(&mut self, part: &'p [u8]) -> Result<PartData<'p>, ProtocolError> {
        if !self.bytes.is_empty() {
            self.bytes.extend_from_slice(part);
            return self.take();
        }
        if !self.is_text {
            return Ok(PartData::Binary(Cow::Borrowed(part)));
        }
        let text = utf8::validate_part(part).map_err(|_| ProtocolError::InvalidText)?;
        self.bytes.extend_from_slice(&part[text.len()..]);
        Ok(PartData::Text(Cow::Borrowed(text)))
    }

    /// What a part is inflated to, together with what was kept before, and how much of it that is:
    /// a little can become much.
    pub(crate) fn inflated_part(
        &mut self,
        part: &[u8],
        bytes_max: u64,
    ) -> Result<(usize, PartData<'static>), ProtocolError> {
        let content_max = self.content_max(bytes_max);
        let Self { bytes, inflating, .. } = self;
        let inflating = inflating.as_mut().expect("the message is compressed");
        let inflated =
            inflating.push(part, |piece| push_inflated(bytes, piece, content_max).map(|()| false));
        match inflated {
            Ok(consumed) => Ok((consumed, self.take()?)),
            Err(error) => Err(self.verdict(error)),
        }
    }

    /// Takes out what is complete: all but the beginning of a character.
    fn take(&mut self) -> Result<PartData<'static>, ProtocolError> {
        if !self.is_text {
            return Ok(PartData::Binary(Cow::Owned(mem::take(&mut self.bytes))));
        }
        let beginning = self.bytes.split_off(utf8::whole_len(&self.bytes));
        let whole = mem::replace(&mut self.bytes, beginning);
        self.valid_len = 0;
        let text = utf8::into_string(whole).map_err(|_| ProtocolError::InvalidText)?;
        self.check()?;
        Ok(PartData::Text(Cow::Owned(text)))
    }

    /// Counts a part that is handed out. Whether it is the first.
    pub(crate) fn hand_out(&mut self, part: &PartData<'_>) -> bool {
        let before = self.handed_out;
        self.handed_out = Some(before.unwrap_or(0) + part.len() as u64);
        before.is_none()
    }

    /// A part is not handed out: what follows would stand behind a hole.
    pub(crate) fn give_up(&mut self) {
        self.given_up = true;
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Room for at most `remaining` bytes more at the end of a message that is kept as it comes.
    pub(crate) fn room(&mut self, remaining: u64) -> Option<Limit<&mut Vec<u8>>> {
        if self.inflating.is_some() || self.handed_out.is_some() {
            return None;
        }
        let bytes = &mut self.bytes;
        self.room_start = Some(bytes.len());
        let remaining = usize::try_from(remaining).unwrap_or(usize::MAX);
        let mut room_len = bytes.capacity() - bytes.len();
        // What is there is used up first. To reserve with each read would copy with each read.
        if room_len < remaining.min(ROOM_BYTES_MIN) {
            room_len = remaining.min(reserve_max(bytes.len()));
            bytes.reserve_exact(room_len);
        }
        Some(bytes.limit(room_len.min(remaining)))
    }

    /// What was put into the room, still masked.
    pub(crate) fn take_filled(&mut self) -> &mut [u8] {
        match self.room_start.take() {
            Some(start) => &mut self.bytes[start..],
            None => &mut [],
        }
    }

    fn content_max(&self, bytes_max: u64) -> usize {
        let left = bytes_max.saturating_sub(self.handed_out.unwrap_or(0));
        usize::try_from(left).unwrap_or(usize::MAX)
    }
}

/// Appends what a part was inflated to. A few bytes can become many: here the buffer doubles, but
/// never beyond the limit.
fn push_inflated(bytes: &mut Vec<u8>, piece: &[u8], bytes_max: usize) -> Result<(), ProtocolError> {
    let fits = &piece[..piece.len().min(bytes_max.saturating_sub(bytes.len()))];
    let needed = bytes.len() + fits.len();
    if needed > bytes.capacity() {
        let grown = (2 * bytes.capacity()).min(bytes_max).max(needed);
        bytes.reserve_exact(grown - bytes.len());
    }
    bytes.extend_from_slice(fits);
    if fits.len() < piece.len() { Err(ProtocolError::MessageTooLong) } else { Ok(()) }
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

    #[test]
    fn a_declared_length_is_not_believed() {
        const DECLARED: usize = 100 << 20;
        for mut assembly in [true, false].map(|is_text| Assembly::new(is_text, None)) {
            for arrived in 1..=100 {
                let part = [b'x'; 1000];
                let remaining = DECLARED - arrived * part.len();
                assembly.push(&part, Some(remaining as u64), DECLARED as u64).unwrap();
                assert!(assembly.bytes.capacity() <= 2 * arrived * part.len() + RESERVE_BYTES);
            }
        }
    }

    #[test]
    fn a_message_of_1_mib_is_reserved_with_its_first_sixteenth() {
        for mut assembly in [true, false].map(|is_text| Assembly::new(is_text, None)) {
            let part = vec![b'x'; 1 << 16];
            assembly.push(&part, Some((1 << 20) - (1 << 16)), 1 << 20).unwrap();
            assert_eq!(assembly.bytes.capacity(), 1 << 20);
        }
    }

    #[test]
    fn a_message_that_nearly_came_whole_is_kept_without_slack() {
        for mut assembly in [true, false].map(|is_text| Assembly::new(is_text, None)) {
            assembly.push(&[b'x'; 10_000], Some(5000), 15_000).unwrap();
            assembly.push(&[b'x'; 5000], Some(0), 15_000).unwrap();
            assert_eq!((assembly.len(), assembly.bytes.capacity()), (15_000, 15_000));
        }
    }

    #[test]
    fn the_room_doubles() {
        let total = 64 << 20;
        let mut assembly = Assembly::new(false, None);
        assembly.push(&[b'x'; 1 << 16], Some(total - (1 << 16)), total).unwrap();
        let mut growths = 0;
        while assembly.len() < total {
            let before = assembly.bytes.capacity();
            let mut room = assembly.room(total - assembly.len()).expect("it is kept");
            let len = room.remaining_mut().min(50_000);
            room.put_bytes(b'x', len);
            growths += u32::from(assembly.bytes.capacity() != before);
            let bounded = assembly.bytes.capacity() as u64 <= (2 * assembly.len()).max(2 << 20);
            assert!(bounded, "{} for {}", assembly.bytes.capacity(), assembly.len());
        }
        assert!(growths < 12, "grew {growths} times");
        assert_eq!(assembly.bytes.capacity() as u64, total);
    }

    #[test]
    fn small_fragments_do_not_make_the_buffer_grow_one_by_one() {
        for mut assembly in [true, false].map(|is_text| Assembly::new(is_text, None)) {
            let mut growths = 0;
            for _ in 0..16_384 {
                let before = assembly.bytes.capacity();
                assembly.push(b"x", None, 16_384).unwrap();
                growths += u32::from(assembly.bytes.capacity() != before);
            }
            assert!(growths < 20, "grew {growths} times");
        }
    }
}
