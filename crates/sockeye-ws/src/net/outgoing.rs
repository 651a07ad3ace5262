//! What waits to be sent on a connection, and the way it leaves: few writes, few copies.
//! Knows nothing of messages or of the machine; it takes frames.
//!
//! A connection owns a buffer only while something waits. Small frames are gathered in one that
//! the thread lends; large payloads wait as they are and leave beside it in one vectored write.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::frame::HEADER_BYTES_MAX;

/// From this length on a payload is not copied. Below, copying costs less than naming one more
/// piece to the kernel.
pub(super) const SHARED_BYTES_MIN: usize = 8 * 1024;
/// How many pieces one vectored write names.
const SLICES_MAX: usize = 16;
/// A larger buffer is not kept for the next connection.
const SPARE_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    /// The buffer that the next connection of this thread gathers in.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// What leaves first; there only while a large payload waits.
    pieces: Option<Box<Pieces>>,
    /// Small frames, behind the pieces.
    tail: Vec<u8>,
    /// How much of the first piece, or of `tail` if there is none, has left.
    taken: usize,
    /// The stream took less than it was given.
    blocked: bool,
    /// The stream has taken bytes that it may still hold back.
    unflushed: bool,
    /// The stream failed; nothing leaves any more.
    broken: Option<io::ErrorKind>,
}

/// Bytes that are not copied together. Never empty.
#[derive(Debug, Default)]
struct Pieces {
    queue: VecDeque<Bytes>,
    bytes: usize,
}

impl Outgoing {
    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        let pieces = self.pieces.as_ref().map_or(0, |pieces| pieces.bytes);
        pieces + self.tail.len() - self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_none() && self.tail.is_empty()
    }

    /// Whether the stream refused to take all at the last write.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Where small frames are appended.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = SPARE.take();
        }
        &mut self.tail
    }

    /// Adds bytes without copying them, behind what has been gathered: the header, most often.
    pub(super) fn push_shared(&mut self, bytes: Bytes) {
        let pieces = self.pieces.get_or_insert_default();
        let gathered = match self.tail.len() {
            0 => None,
            // A header is not worth the thread's buffer.
            1..=HEADER_BYTES_MAX => Some(Bytes::copy_from_slice(&self.tail)),
            _ => Some(Bytes::from(mem::take(&mut self.tail))),
        };
        for piece in gathered.into_iter().chain([bytes]) {
            pieces.bytes += piece.len();
            pieces.queue.push_back(piece);
        }
        self.release_tail();
    }

    /// Drops what waits: nobody will take it, and nothing that comes later.
    pub(super) fn give_up(&mut self) {
        self.broken = Some(io::ErrorKind::BrokenPipe);
        self.clear();
    }

    fn clear(&mut self) {
        self.pieces = None;
        self.taken = 0;
        self.blocked = false;
        self.release_tail();
    }

    /// Gives the buffer back to the thread if nothing is in it.
    pub(super) fn tidy(&mut self) {
        if self.is_empty() {
            self.release_tail();
        }
    }

    fn release_tail(&mut self) {
        let mut tail = mem::take(&mut self.tail);
        if tail.capacity() > 0 && tail.capacity() <= SPARE_BYTES_MAX {
            tail.clear();
            // Another's spare buffer, if a connection of this thread gave one back meanwhile, goes.
            SPARE.set(tail);
        }
    }

    /// Writes until nothing waits or the stream takes no more.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(kind) = self.broken {
            return Poll::Ready(Err(kind.into()));
        }
        while !self.is_empty() {
            match self.poll_write_some(stream, cx) {
                Poll::Ready(Ok(0)) => return self.break_with(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => self.advance(count),
                Poll::Ready(Err(error)) => return self.break_with(error),
                Poll::Pending => {
                    self.blocked = true;
                    return Poll::Pending;
                }
            }
        }
        self.blocked = false;
        self.release_tail();
        Poll::Ready(Ok(()))
    }

    /// Behind [`poll_write`](Self::poll_write): what the stream itself holds back.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            match ready!(Pin::new(stream).poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(error) => return self.break_with(error),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes bytes before which nothing waits, without gathering them first. What the stream does
    /// not take waits from then on.
    pub(super) fn poll_write_through<S: AsyncWrite + Unpin>(
        &mut self,
        bytes: &Bytes,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        debug_assert!(self.is_empty() && !self.is_broken(), "the bytes are the first to leave");
        let count = match Pin::new(&mut *stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => return self.break_with(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return self.break_with(error),
            Poll::Pending => {
                self.blocked = true;
                self.push_shared(bytes.clone());
                return Poll::Pending;
            }
        };
        self.unflushed = true;
        if count < bytes.len() {
            self.push_shared(bytes.slice(count..));
            // Until the stream says "not now": only then does it wake who waits for it.
            ready!(self.poll_write(stream, cx))?;
        }
        self.poll_flush(stream, cx)
    }

    fn poll_write_some<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        let Some(pieces) = &self.pieces else {
            return stream.poll_write(cx, &self.tail[self.taken..]);
        };
        let first = &pieces.queue[0][self.taken..];
        if !stream.is_write_vectored() {
            return stream.poll_write(cx, first);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        slices[0] = IoSlice::new(first);
        let mut count = 1;
        let rest = pieces.queue.iter().skip(1).map(|piece| &piece[..]);
        for (slice, piece) in slices[1..].iter_mut().zip(rest.chain([&self.tail[..]])) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        stream.poll_write_vectored(cx, &slices[..count])
    }

    /// The stream has taken `count` more bytes.
    fn advance(&mut self, count: usize) {
        self.unflushed = true;
        self.taken += count;
        if let Some(pieces) = &mut self.pieces {
            while let Some(first) = pieces.queue.front() {
                if self.taken < first.len() {
                    return;
                }
                self.taken -= first.len();
                pieces.bytes -= first.len();
                pieces.queue.pop_front();
            }
            self.pieces = None;
        }
        // A peer that reads slowly may never have taken all. What has left must not pile up: it is
        // dropped when it is as much as what waits, so that each byte is moved once at the most.
        if self.taken * 2 >= self.tail.len() {
            self.tail.drain(..self.taken);
            self.taken = 0;
        }
    }

    fn break_with(&mut self, error: io::Error) -> Poll<io::Result<()>> {
        self.broken = Some(error.kind());
        self.clear();
        Poll::Ready(Err(error))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncRead, DuplexStream, ReadBuf};

    use super::*;

    fn poll_read(stream: &mut DuplexStream, cx: &mut Context<'_>) -> Vec<u8> {
        let mut bytes = [0; 100];
        let mut buffer = ReadBuf::new(&mut bytes);
        let _ = Pin::new(stream).poll_read(cx, &mut buffer);
        buffer.filled().to_vec()
    }

    #[tokio::test]
    async fn what_has_left_does_not_pile_up_while_something_always_waits() {
        let (mut near, mut far) = tokio::io::duplex(100);
        let mut outgoing = Outgoing::default();
        let mut arrived = Vec::new();
        for number in 0..10_000_u32 {
            outgoing.tail().extend_from_slice(&number.to_be_bytes().repeat(50));
            while outgoing.bytes() > 300 {
                let cx = &mut Context::from_waker(Waker::noop());
                assert!(outgoing.poll_write(&mut near, cx).is_pending());
                // At most what the pipe holds; nothing when tokio asks the task to give way.
                arrived.extend(poll_read(&mut far, cx));
                tokio::task::yield_now().await;
            }
            assert!(outgoing.tail.capacity() < 4096, "{} bytes", outgoing.tail.capacity());
        }
        let sent: Vec<u8> = (0..10_000_u32).flat_map(|n| n.to_be_bytes().repeat(50)).collect();
        assert!(sent.starts_with(&arrived) && sent.len() - arrived.len() <= 400);
    }
}
