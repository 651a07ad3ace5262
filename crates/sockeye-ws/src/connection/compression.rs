//! The compression of one connection: what was agreed, and the contexts that outlive a message.
//! Does not know what a message may be; `connection` has judged it already.

use super::Role;
use crate::compressed::{message_header, write_alone, write_with};
use crate::deflate::{self, Agreed, Deflater, Inflating, Settings, Window, WindowBits};
use crate::frame::{Header, Opcode};
use crate::mask::MaskingKey;
use crate::prepared::Frame;

/// Compression in both directions.
#[derive(Debug)]
pub(super) struct Compression {
    agreed: Agreed,
    sending: Direction,
    receiving: Direction,
    /// Whether we compress.
    on: bool,
    /// The compressor that keeps our context, from the first message on.
    compressor: Option<Box<Deflater>>,
    /// Whether the peer has inflated something that the compressor does not know of.
    out_of_step: bool,
    /// What the peer's next compressed message may refer to; away while one is under way.
    received: Option<Window>,
}

/// What was agreed about what one side sends.
#[derive(Clone, Copy, Debug)]
struct Direction {
    takeover: bool,
    window: WindowBits,
}

impl Compression {
    pub(super) fn new(agreed: Agreed, role: Role) -> Self {
        let client = Direction {
            takeover: !agreed.client_no_context_takeover(),
            window: agreed.client_max_window_bits(),
        };
        let server = Direction {
            takeover: !agreed.server_no_context_takeover(),
            window: agreed.server_max_window_bits(),
        };
        let (sending, receiving) = match role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
        Self {
            agreed,
            sending,
            receiving,
            on: true,
            compressor: None,
            out_of_step: false,
            received: None,
        }
    }

    pub(super) fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    pub(super) fn set_on(&mut self, on: bool) {
        self.on = on;
    }

    /// Begins to inflate a message of the peer's.
    pub(super) fn begin_inflating(&mut self) -> Inflating {
        let Direction { takeover, window } = self.receiving;
        let context = self.received.take();
        Inflating::new(context.or_else(|| takeover.then(|| Window::new(window))))
    }

    /// Takes back what a message of the peer's leaves to the next.
    pub(super) fn keep_context(&mut self, context: Option<Window>) {
        // A message that was not compressed is no part of it.
        self.received = context.or(self.received.take());
    }

    /// Whether a message of this length would be compressed.
    pub(super) fn would_compress(&self, payload_len: usize) -> bool {
        let alone = || Settings::alone(&self.agreed, self.sending.window, payload_len);
        let worth_it = self.own_context().is_some()
            || (self.agreed.is_long_enough(payload_len) && alone().is_some());
        self.on && payload_len > 0 && worth_it
    }

    /// Appends a message as one compressed frame, unless it had better go uncompressed.
    pub(super) fn write_message(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        payload: &[u8],
        key: Option<MaskingKey>,
    ) -> bool {
        if !self.would_compress(payload.len()) {
            return false;
        }
        if let Some(settings) = self.own_context() {
            // It must be sent even if it became longer: the next message refers to it.
            let compressor = self.compressor_in_step(settings);
            write_with(out, message_header(opcode, key), |out| compressor.finish(payload, out));
            return true;
        }
        Settings::alone(&self.agreed, self.sending.window, payload.len())
            .is_some_and(|settings| write_alone(out, opcode, payload, key, settings))
    }

    /// Begins a message whose fragments follow; whether it is compressed. A short first one says
    /// nothing about it: `ws` would decide by that.
    pub(super) fn begin_fragmented(&mut self) -> bool {
        // However long it becomes, it keeps to the window.
        let settings = Settings::with_context(&self.agreed, self.sending.window);
        let Some(settings) = settings.filter(|_| self.on) else { return false };
        if self.own_context().is_some() {
            self.compressor_in_step(settings);
        } else {
            self.compressor = Some(Box::new(deflate::take_deflater(settings)));
        }
        true
    }

    /// Appends a fragment of a compressed message.
    pub(super) fn write_fragment(&mut self, out: &mut Vec<u8>, header: Header, payload: &[u8]) {
        let compressor = self.compressor.as_mut().expect("the message has begun");
        write_with(out, header, |out| match header.fin {
            true => compressor.finish(payload, out),
            false => compressor.push(payload, out),
        });
        if header.fin && self.own_context().is_none() {
            self.compressor.take().into_iter().for_each(|own| deflate::return_deflater(*own));
        }
    }

    /// What our compressor is like, if it keeps a context.
    fn own_context(&self) -> Option<Settings> {
        let settings = Settings::with_context(&self.agreed, self.sending.window);
        settings.filter(|_| self.sending.takeover)
    }

    /// The compressor with our context.
    fn compressor_in_step(&mut self, settings: Settings) -> &mut Deflater {
        let new = || Box::new(Deflater::new(settings));
        let compressor = self.compressor.get_or_insert_with(new);
        if std::mem::take(&mut self.out_of_step) {
            compressor.reset();
        }
        compressor
    }

    /// The compressed form of a prepared frame that the peer can inflate, if there is one.
    pub(super) fn compressed<'f>(&mut self, frame: &'f Frame) -> Option<&'f bytes::Bytes> {
        if !self.on {
            return None;
        }
        let compressed = frame.compressed(&self.agreed, self.sending.window)?;
        // It refers to nothing before it. But what our own compressor would refer to is no longer
        // where it believes it to be.
        self.out_of_step = true;
        Some(compressed)
    }
}
