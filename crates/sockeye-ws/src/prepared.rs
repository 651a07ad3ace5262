//! A message prepared as a frame, once for any number of receivers.
//! Does not know who receives it, nor masks anything: what is shared stays as it is.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::compressed::write_alone;
use crate::deflate::{Agreed, Settings, WindowBits};
use crate::frame::{Opcode, write_frame};

/// A text or binary message that is encoded once and sent to many: a clone is one atomic increment,
/// and [`Connection::frame_bytes`] hands out bytes that all receivers share.
///
/// Without permessage-deflate these are the plain frame. With it they are a compressed one, made
/// when the first connection needs it and kept here, if
///
/// * the message is as long as that connection's own [`threshold_bytes`], whether or not it keeps a
///   context,
/// * compression makes it shorter, and
/// * neither [the frame](Self::without_compression) nor
///   [the connection](crate::Connection::set_compression) is told not to.
///
/// It refers to nothing but itself. One serves all connections in whose window the message fits,
/// and for each smaller window there is one more. Level and memory level are those of the
/// connection that first needs it; connections of one server have the same.
///
/// On a connection that keeps a context for what it sends, its own messages do not refer to what
/// came before a compressed frame like this.
///
/// ```
/// use sockeye_ws::{Connection, Frame, Limits, Role};
///
/// let mut receivers: Vec<_> =
///     (0..3).map(|_| Connection::new(Role::Server, Limits::default())).collect();
/// let frame = Frame::text("to all of you");
/// for receiver in &mut receivers {
///     let bytes = receiver.frame_bytes(&frame)?;
///     assert_eq!(bytes[..], b"\x81\x0Dto all of you"[..]);
///     assert_eq!(bytes.as_ptr(), frame.plain().as_ptr());
/// }
/// # Ok::<(), sockeye_ws::SendError>(())
/// ```
///
/// [`Connection::frame_bytes`]: crate::Connection::frame_bytes
/// [`threshold_bytes`]: crate::deflate::Options::threshold_bytes
#[derive(Clone)]
pub struct Frame {
    shared: Arc<Shared>,
    compress: bool,
}

struct Shared {
    opcode: Opcode,
    plain: Bytes,
    payload_len: usize,
    /// For every window in which the message fits.
    compressed: Variant,
    /// For smaller windows, those of 9 to 14 bits.
    by_window: OnceLock<Box<[Variant; 6]>>,
}

/// A compressed frame once it is needed; `None` if it would be no shorter.
type Variant = OnceLock<Option<Bytes>>;

impl Frame {
    /// A text message.
    pub fn text(text: &str) -> Self {
        Self::new(Opcode::Text, text.as_bytes())
    }

    /// A binary message.
    pub fn binary(data: &[u8]) -> Self {
        Self::new(Opcode::Binary, data)
    }

    /// The same message, which goes uncompressed to everyone.
    #[must_use]
    pub fn without_compression(self) -> Self {
        Self { compress: false, ..self }
    }

    /// The message.
    pub fn payload(&self) -> &[u8] {
        let Shared { plain, payload_len, .. } = &*self.shared;
        &plain[plain.len() - payload_len..]
    }

    /// The frame as it is sent without compression by a server.
    pub fn plain(&self) -> &Bytes {
        &self.shared.plain
    }

    /// The frame as it is sent on connections without a context of the server's, by whoever has
    /// `agreed` and not the connection. With a context it is the plain one: compressed it would
    /// have to be known to the connection.
    pub fn bytes_without_context(&self, agreed: Option<&Agreed>) -> &Bytes {
        let agreed = agreed.filter(|agreed| agreed.server_no_context_takeover());
        agreed
            .and_then(|agreed| self.compressed(agreed, agreed.server_max_window_bits()))
            .unwrap_or(self.plain())
    }

    fn new(opcode: Opcode, payload: &[u8]) -> Self {
        let mut plain = Vec::new();
        write_frame(&mut plain, opcode, payload, None);
        let shared = Shared {
            opcode,
            plain: plain.into(),
            payload_len: payload.len(),
            compressed: OnceLock::new(),
            by_window: OnceLock::new(),
        };
        Self { shared: Arc::new(shared), compress: true }
    }

    /// The compressed form for a window, where it is worth it.
    pub(crate) fn compressed(&self, agreed: &Agreed, window: WindowBits) -> Option<&Bytes> {
        let payload = self.payload();
        if !self.compress || payload.is_empty() || !agreed.is_long_enough(payload.len()) {
            return None;
        }
        let settings = Settings::alone(agreed, window, payload.len())?;
        let variant = match settings.window_bits() {
            WindowBits::MAX => &self.shared.compressed,
            smaller => {
                let by_window = self.shared.by_window.get_or_init(Box::default);
                &by_window[usize::from(smaller.get() - 9)]
            }
        };
        let made = variant.get_or_init(|| {
            let mut out = Vec::new();
            let shorter = write_alone(&mut out, self.shared.opcode, payload, None, settings);
            shorter.then(|| Bytes::from(out.into_boxed_slice()))
        });
        made.as_ref()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Frame")
            .field("opcode", &self.shared.opcode)
            .field("payload_len", &self.shared.payload_len)
            .field("compress", &self.compress)
            .finish_non_exhaustive()
    }
}
