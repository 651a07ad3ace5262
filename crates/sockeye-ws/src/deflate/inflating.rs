//! Decompression of one message as its bytes arrive (RFC 7692 §7.2.2).
//! Does not know frames or limits; who takes the pieces bounds them.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::pool;
use super::window::Window;
use crate::error::ProtocolError;

/// What is inflated at a message's end: the tail that the sender removed, which completes an empty
/// stored block, and an empty block marked as the last one. Only behind a whole message does the
/// stream end exactly there and without output; a message that was cut off is told so.
const END: [u8; 6] = [0x00, 0x00, 0xFF, 0xFF, 0x03, 0x00];

/// The decompression of a message under way.
pub(crate) struct Inflating {
    /// Always there; taken out when it is dropped.
    inflater: Option<Inflate>,
    /// What the messages of the sender may refer back to, where it keeps a context.
    context: Option<Window>,
    /// How many bytes have been inflated.
    compressed_len: u64,
    /// The last block was marked as the last one.
    ended: bool,
}

/// How far one step came.
struct Step {
    consumed: usize,
    written: usize,
    /// What follows is no DEFLATE data.
    broken: bool,
}

impl Inflating {
    /// Begins a message, which may refer back into `context`.
    pub(crate) fn new(context: Option<Window>) -> Self {
        let mut inflater = pool::take_inflater();
        if let Some(window) = &context
            && !window.as_bytes().is_empty()
        {
            let result = inflater.set_dictionary(window.as_bytes());
            debug_assert!(result.is_ok(), "raw DEFLATE takes any dictionary at its beginning");
        }
        Self { inflater: Some(inflater), context, compressed_len: 0, ended: false }
    }

    /// How many compressed bytes the message has had.
    pub(crate) fn compressed_len(&self) -> u64 {
        self.compressed_len
    }

    /// Inflates what has arrived. `piece` takes what comes out, and returns whether it wants more
    /// of it now; what `input` holds beyond what is returned was then not looked at.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        mut piece: impl FnMut(&[u8]) -> Result<bool, ProtocolError>,
    ) -> Result<usize, ProtocolError> {
        pool::with_scratch(|scratch| {
            let mut consumed = 0;
            let mut filled = false;
            // What was consumed comes out to the end: it may fill the buffer more than once.
            while consumed < input.len() || filled {
                let step = self.step(&input[consumed..], scratch);
                consumed += step.consumed;
                filled = step.written == scratch.len();
                // What came before the error is looked at first, so that the verdict on a message
                // does not depend on how it arrives.
                let wants_more = piece(&scratch[..step.written])?;
                if step.broken {
                    return Err(ProtocolError::InvalidDeflate);
                }
                if !wants_more && consumed < input.len() {
                    break;
                }
            }
            Ok(consumed)
        })
    }

    /// Ends the message. Returns the context that the next one may refer to.
    pub(crate) fn finish(mut self) -> Result<Option<Window>, ProtocolError> {
        // A block that was marked as the last one may end a message too; and a message without any
        // block, which no compressor makes, is taken for the empty one, as `ws` does.
        if self.compressed_len > 0 && !self.ended {
            let end = pool::with_scratch(|scratch| self.step(&END, scratch));
            if end.broken || !self.ended || end.consumed != END.len() || end.written != 0 {
                return Err(ProtocolError::InvalidDeflate);
            }
        }
        Ok(self.context.take())
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let inflater = self.inflater.as_mut().expect("taken only when dropped");
        if self.ended && !input.is_empty() {
            // RFC 7692 §7.2.3.4: blocks may follow one that is marked as the last, and begin anew.
            inflater.reset(false);
            self.ended = false;
            if let Some(window) = &mut self.context {
                window.clear();
            }
        }
        let (total_in, total_out) = (inflater.total_in(), inflater.total_out());
        let status = inflater.decompress(input, output, InflateFlush::NoFlush);
        let consumed = (inflater.total_in() - total_in) as usize;
        let written = (inflater.total_out() - total_out) as usize;
        self.ended = status == Ok(Status::StreamEnd);
        self.compressed_len += consumed as u64;
        if let Some(window) = &mut self.context {
            window.push(&output[..written]);
        }
        // That nothing happens never happens, and must not keep us busy for ever if it does.
        let stuck = consumed == 0 && written == 0 && !input.is_empty();
        Step { consumed, written, broken: status.is_err() || stuck }
    }
}

impl Drop for Inflating {
    fn drop(&mut self) {
        if let Some(inflater) = self.inflater.take() {
            pool::return_inflater(inflater);
        }
    }
}

impl fmt::Debug for Inflating {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Inflating")
            .field("compressed_len", &self.compressed_len)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
