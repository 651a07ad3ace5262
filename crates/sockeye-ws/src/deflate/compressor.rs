//! The context of what a server sends, for who writes to a connection apart from its machine.
//! Does not know when a message is worth compressing by itself, nor who else inflates it.

use super::{Agreed, Deflater, Settings};
use crate::compressed::{message_header, write_with};
use crate::connection::MessageRef;
use crate::frame::write_frame;

/// Compresses the messages that a server sends on one connection, each of which may refer to those
/// before it.
///
/// For who writes elsewhere than where the connection is read: what its [`Connection`] sends itself
/// is not compressed. All that was encoded must be sent, in that order.
///
/// From the first message on it holds what
/// [`server_no_context_takeover`](super::Options::server_no_context_takeover) says.
///
/// [`Connection`]: crate::Connection
#[derive(Debug)]
pub struct Compressor {
    settings: Settings,
    deflater: Option<Box<Deflater>>,
    /// Whether the peer has inflated something that the compressor does not know of.
    out_of_step: bool,
}

impl Compressor {
    /// `None`: it was agreed that the server keeps no context.
    pub fn new(agreed: &Agreed) -> Option<Self> {
        let settings = Settings::with_context(agreed, agreed.server_max_window_bits());
        let settings = settings.filter(|_| !agreed.server_no_context_takeover());
        Some(Self { settings: settings?, deflater: None, out_of_step: false })
    }

    /// Appends a message as one frame. It is compressed however short it is, since the next one may
    /// refer to it; control frames and empty messages are not.
    pub fn encode(&mut self, out: &mut Vec<u8>, message: MessageRef<'_>) {
        let (opcode, payload) = message.parts();
        if opcode.is_control() || payload.is_empty() {
            return write_frame(out, opcode, payload, None);
        }
        let settings = self.settings;
        let deflater = self.deflater.get_or_insert_with(|| Box::new(Deflater::new(settings)));
        if std::mem::take(&mut self.out_of_step) {
            deflater.reset();
        }
        write_with(out, message_header(opcode, None), |out| deflater.finish(payload, out));
    }

    /// The peer gets a compressed message that was not [encoded](Self::encode) here: what follows
    /// does not refer to what came before it.
    pub fn forget(&mut self) {
        self.out_of_step = true;
    }
}
