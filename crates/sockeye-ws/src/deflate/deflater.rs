//! Compression of payloads (RFC 7692 §7.2.1).
//! Does not know frames, nor when a message is worth compressing.

use std::fmt;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Method, Status, Strategy};

use super::{Agreed, WindowBits};

/// What ends everything that is flushed: an empty stored block, without its first bits. RFC 7692
/// §7.2.1: it is removed from the end of a message, and put back before it is inflated.
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// How much output is asked for at once.
const OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 256..=64 << 10;

/// What makes one compressor different from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(super) window_bits: WindowBits,
    pub(super) level: u8,
    pub(super) mem_level: u8,
}

impl Settings {
    /// For messages that may refer to each other, in a window of at most this size. `None`: there
    /// is no such compressor.
    pub(crate) fn with_context(agreed: &Agreed, window: WindowBits) -> Option<Self> {
        let Agreed { level, mem_level, .. } = *agreed;
        // zlib has no window of 256 bytes for raw DEFLATE: it would take 512, and refer too far
        // back for a peer that remembers 256.
        (window > WindowBits::MIN).then_some(Self { window_bits: window, level, mem_level })
    }

    /// For a message of this length by itself.
    pub(crate) fn alone(agreed: &Agreed, window: WindowBits, payload_len: usize) -> Option<Self> {
        // Nothing can refer further back than the message is long, so the largest window will do
        // for all that fit in the agreed one: one compressor, and one result to share.
        let fits = payload_len <= window.bytes();
        Self::with_context(agreed, if fits { WindowBits::MAX } else { window })
    }

    pub(crate) fn window_bits(self) -> WindowBits {
        self.window_bits
    }
}

/// A compressor.
pub(crate) struct Deflater {
    stream: Deflate,
    settings: Settings,
}

impl Deflater {
    pub(crate) fn new(settings: Settings) -> Self {
        let Settings { window_bits, level, mem_level } = settings;
        let stream = Deflate::new_with_config(DeflateConfig {
            level: level.into(),
            method: Method::Deflated,
            // Negative: raw DEFLATE, without a header.
            window_bits: -i32::from(window_bits.get()),
            mem_level: mem_level.into(),
            strategy: Strategy::Default,
        });
        Self { stream, settings }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// Forgets all that was compressed before.
    pub(crate) fn reset(&mut self) {
        self.stream.reset();
    }

    /// Appends the whole of a message, or its last part.
    pub(crate) fn finish(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        if payload.is_empty() {
            // RFC 7692 §7.2.3.6: the header of the empty stored block whose rest is the tail. A
            // compressor has nothing to flush when nothing was put in.
            out.push(0x00);
            return;
        }
        self.push(payload, out);
        debug_assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
    }

    /// Appends a part of a message that goes on, such that the peer can inflate all of it at once.
    pub(crate) fn push(&mut self, mut payload: &[u8], out: &mut Vec<u8>) {
        if payload.is_empty() {
            return;
        }
        loop {
            let step_len = payload.len().clamp(*OUTPUT_BYTES.start(), *OUTPUT_BYTES.end());
            let written_before = out.len();
            out.resize(written_before + step_len, 0);
            let (total_in, total_out) = (self.stream.total_in(), self.stream.total_out());
            let room = &mut out[written_before..];
            let status = self.stream.compress(payload, room, DeflateFlush::SyncFlush);
            // The settings were checked when it was made and the memory is allocated then too.
            assert!(matches!(status, Ok(Status::Ok | Status::BufError)), "{status:?}");
            payload = &payload[(self.stream.total_in() - total_in) as usize..];
            let written = (self.stream.total_out() - total_out) as usize;
            out.truncate(written_before + written);
            // With room left all that was put in has been flushed.
            if payload.is_empty() && written < step_len {
                return;
            }
        }
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(formatter)
    }
}
