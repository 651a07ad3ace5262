//! The compression of what leaves an outbox: which form of a packet its peer gets, and the context
//! of a peer that keeps one. Does not know sockets.
//!
//! Nothing is compressed before it is about to be written: what a slow peer never gets costs
//! nothing. Without a context a packet's compressed form is shared by all who can take it.

use sockeye_proto::socket::EncodedPacket;
use sockeye_ws::deflate::{Agreed, Compressor};

use super::cost;

/// What the peer has agreed to.
pub(crate) struct Deflate {
    agreed: Agreed,
    context: Option<Context>,
}

/// The context of what we send.
struct Context {
    compressor: Compressor,
    /// How many of the packets that wait have their final form: each of those behind may refer to
    /// those before it.
    sealed: usize,
}

impl Deflate {
    pub(crate) fn new(agreed: Agreed) -> Self {
        let context = Compressor::new(&agreed);
        Self { agreed, context: context.map(|compressor| Context { compressor, sealed: 0 }) }
    }

    /// How many of the packets that wait must leave as they are.
    pub(super) fn sealed(&self) -> usize {
        self.context.as_ref().map_or(0, |context| context.sealed)
    }

    /// Gives packets their final form, the next ones of about `len_max` bytes, where the peer keeps
    /// a context. `bytes` is what all of them hold.
    pub(super) fn seal(
        &mut self,
        waiting: &mut [EncodedPacket],
        bytes: &mut usize,
        len_max: usize,
    ) {
        let Self { agreed, context: Some(context) } = self else { return };
        let mut len = 0;
        for (at, packet) in waiting.iter_mut().enumerate() {
            if at >= context.sealed {
                let sealed = packet.seal(&mut context.compressor, agreed);
                *bytes = *bytes + cost(&sealed) - cost(packet);
                *packet = sealed;
                context.sealed += 1;
            }
            len += packet.wire_for(Some(agreed)).len();
            if len > len_max {
                return;
            }
        }
    }

    /// So many of the first packets have left.
    pub(super) fn advance(&mut self, count: usize) {
        if let Some(context) = &mut self.context {
            context.sealed = context.sealed.saturating_sub(count);
        }
    }
}

/// The frames that a packet leaves as.
#[inline]
pub(super) fn form<'p>(deflate: Option<&Deflate>, packet: &'p EncodedPacket) -> &'p [u8] {
    packet.wire_for(deflate.map(|deflate| &deflate.agreed))
}
