//! One write to a socket: how much of what waits it is given, and in how many pieces.
//! Does not know what becomes of the rest.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use smallvec::SmallVec;
use sockeye_proto::socket::EncodedPacket;
use tokio::net::tcp::OwnedWriteHalf;

use super::encoding::Encoder;
use super::form;

/// Packets up to this many bytes in all are copied together, so that one plain `write` takes
/// them; larger ones are handed to the kernel where they are.
pub(super) const GATHER_BYTES_MAX: usize = 64 * 1024;
/// How many pieces one vectored write names.
const SLICES_MAX: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One write of as much as is sensible; how many bytes were offered, and how many were taken.
pub(super) fn write_some(
    socket: &OwnedWriteHalf,
    waiting: &[EncodedPacket],
    taken: usize,
    encoder: Option<&Encoder>,
) -> (usize, io::Result<usize>) {
    let form = |packet| form(encoder, packet);
    let first = &form(&waiting[0])[taken..];
    if waiting.len() == 1 {
        return (first.len(), socket.try_write(first));
    }
    if first.len() + form(&waiting[1]).len() > GATHER_BYTES_MAX {
        // Not much is compressed ahead of what the socket takes.
        let given_max = if encoder.is_some() { GATHER_BYTES_MAX } else { usize::MAX };
        let mut slices: SmallVec<[IoSlice<'_>; SLICES_MAX]> = SmallVec::new();
        slices.push(IoSlice::new(first));
        let mut given = first.len();
        for packet in waiting[1..].iter().take(SLICES_MAX - 1) {
            if given > given_max {
                break;
            }
            slices.push(IoSlice::new(form(packet)));
            given += form(packet).len();
        }
        return (given, socket.try_write_vectored(&slices));
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.extend_from_slice(first);
        for packet in &waiting[1..] {
            let form = form(packet);
            if scratch.len() + form.len() > GATHER_BYTES_MAX {
                break;
            }
            scratch.extend_from_slice(form);
        }
        (scratch.len(), socket.try_write(scratch))
    })
}
