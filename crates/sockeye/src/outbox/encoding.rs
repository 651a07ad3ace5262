//! In which form packets leave an outbox: as they are, compressed, or as clients of Engine.IO 3
//! take them. Does not know sockets.
//!
//! Nothing is compressed before it is about to be written: what a slow peer never gets costs
//! nothing. Without a context a packet's compressed form is shared by all who can take it, as the
//! forms for Engine.IO 3 are.

use sockeye_proto::engine::Revision;
use sockeye_proto::socket::EncodedPacket;
use sockeye_ws::deflate::{Agreed, Compressor};

use super::cost;

/// What a peer takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Encoding {
    #[default]
    Plain,
    /// WebSocket messages compressed as agreed.
    Deflate(Agreed),
    /// Engine.IO 3; with `base64` it takes no binary data. Its messages may be compressed, without
    /// a context.
    V3 { base64: bool, agreed: Option<Agreed> },
}

impl Encoding {
    pub(crate) fn agreed(&self) -> Option<Agreed> {
        match self {
            Self::Deflate(agreed) => Some(*agreed),
            Self::V3 { agreed, .. } => *agreed,
            Self::Plain => None,
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        match self {
            Self::V3 { .. } => Revision::V3,
            Self::Plain | Self::Deflate(_) => Revision::V4,
        }
    }
}

/// An [`Encoding`] with what it needs on the way.
#[derive(Default)]
pub(super) enum Encoder {
    #[default]
    Plain,
    Deflate(Deflate),
    V3 {
        base64: bool,
        agreed: Option<Agreed>,
    },
}

impl Encoder {
    pub(super) fn new(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Plain => Self::Plain,
            Encoding::Deflate(agreed) => Self::Deflate(Deflate::new(agreed)),
            Encoding::V3 { base64, agreed } => Self::V3 { base64, agreed },
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }

    pub(super) fn deflate(&self) -> Option<&Deflate> {
        match self {
            Self::Deflate(deflate) => Some(deflate),
            Self::Plain | Self::V3 { .. } => None,
        }
    }

    pub(super) fn deflate_mut(&mut self) -> Option<&mut Deflate> {
        match self {
            Self::Deflate(deflate) => Some(deflate),
            Self::Plain | Self::V3 { .. } => None,
        }
    }

    /// The frames that a packet leaves as.
    pub(super) fn form<'p>(&self, packet: &'p EncodedPacket) -> &'p [u8] {
        match self {
            Self::Plain => packet.wire(),
            Self::Deflate(deflate) => packet.wire_for(Some(&deflate.agreed)),
            Self::V3 { base64, agreed } => packet.wire_v3_for(*base64, agreed.as_ref()),
        }
    }
}

/// What a peer has agreed to, and our side of it.
pub(super) struct Deflate {
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
    fn new(agreed: Agreed) -> Self {
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
