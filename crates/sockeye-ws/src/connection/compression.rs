//! The compression of one connection: what was agreed, and the contexts that outlive a message.
//! Does not know what a message may be; `connection` has judged it already.

use super::Role;
use crate::deflate::{self, Agreed, Deflater, Inflating, Settings, Window, WindowBits};
use crate::frame::{HEADER_BYTES_MAX, Header, Opcode, RSV1};
use crate::mask::{self, MaskingKey};

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
        Self { agreed, sending, receiving, on: true, compressor: None, received: None }
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

    /// Appends a message as one compressed frame, unless it had better go uncompressed.
    pub(super) fn write_message(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        payload: &[u8],
        key: Option<MaskingKey>,
    ) -> bool {
        if !self.on || payload.is_empty() {
            return false;
        }
        if self.sending.takeover
            && let Some(settings) = Settings::with_context(&self.agreed, self.sending.window)
        {
            let new = || Box::new(Deflater::new(settings));
            let compressor = self.compressor.get_or_insert_with(new);
            // It must be sent even if it became longer: the next message refers to it.
            write_frame(out, opcode, key, |out| compressor.finish(payload, out));
            return true;
        }
        let long_enough = payload.len() >= self.agreed.threshold_bytes as usize;
        match Settings::alone(&self.agreed, self.sending.window, payload.len()) {
            Some(settings) if long_enough => write_alone(out, opcode, payload, key, settings),
            _ => false,
        }
    }
}

/// Appends a message that is compressed by itself, unless that makes it no shorter.
fn write_alone(
    out: &mut Vec<u8>,
    opcode: Opcode,
    payload: &[u8],
    key: Option<MaskingKey>,
    settings: Settings,
) -> bool {
    let start = out.len();
    let mut deflater = deflate::take_deflater(settings);
    let payload_len = write_frame(out, opcode, key, |out| deflater.finish(payload, out));
    deflate::return_deflater(deflater);
    let shorter = payload_len < payload.len();
    if !shorter {
        out.truncate(start);
    }
    shorter
}

/// Appends a frame whose payload is compressed by `compress`. Returns how long that became.
fn write_frame(
    out: &mut Vec<u8>,
    opcode: Opcode,
    key: Option<MaskingKey>,
    compress: impl FnOnce(&mut Vec<u8>),
) -> usize {
    // How long the header is turns out behind the payload. Moving that together afterwards costs
    // less than a hundredth of compressing it.
    let start = out.len();
    let payload_start = start + HEADER_BYTES_MAX;
    out.resize(payload_start, 0);
    compress(out);
    let payload = &mut out[payload_start..];
    let payload_len = payload.len();
    if let Some(key) = key {
        mask::apply(key, 0, payload);
    }
    let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
    Header { fin: true, rsv: RSV1, opcode, mask: key, payload_len: payload_len as u64 }
        .encode(&mut header);
    out.splice(start..payload_start, header);
    payload_len
}
