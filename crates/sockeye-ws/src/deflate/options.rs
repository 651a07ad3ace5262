//! The options of permessage-deflate, the same for clients and servers.
//! Does not know what the peer thinks of them.

use std::fmt;

/// How one side wants to compress, and what it asks of the other.
///
/// The first four are the parameters of RFC 7692 §7.1, named as there: `server_…` is about what the
/// server compresses, `client_…` about what the client does. A client offers them, a server answers
/// with them; both keep to what the other asked for.
///
/// ```
/// use sockeye_ws::deflate::{Options, WindowBits};
///
/// // A server that keeps contexts, in windows of 4 KiB.
/// let bits = WindowBits::new(12).expect("8 to 15");
/// let options = Options {
///     server_no_context_takeover: false,
///     client_no_context_takeover: false,
///     server_max_window_bits: bits,
///     client_max_window_bits: bits,
///     ..Options::default()
/// };
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether the server compresses each message by itself (RFC 7692 §7.1.1.1). If not, a message
    /// may refer to those before it: small ones become much smaller, but for each connection the
    /// server keeps a compressor (380 KB; 158 KB with a window of 12 bits and memory level 4; 137
    /// KB with 9 and 1) and the client what was sent, up to the size of the window. A client that
    /// asks for it is always granted it. Default: true.
    pub server_no_context_takeover: bool,
    /// The same for what the client sends (RFC 7692 §7.1.1.2). Default: true.
    pub client_no_context_takeover: bool,
    /// Bounds how far back the server's compressor refers, and so what the client must remember
    /// (RFC 7692 §7.1.2.1). The smaller side's wish counts. There is no compressor for 8: a server
    /// declines an offer that asks for it, and goes on uncompressed if there is no other.
    /// Default: 15.
    pub server_max_window_bits: WindowBits,
    /// The same for what the client sends (RFC 7692 §7.1.2.2). A server with less than 15 declines
    /// offers of clients that cannot be told so. A client whose window would be 8 sends longer
    /// messages uncompressed. Default: 15.
    pub client_max_window_bits: WindowBits,
    /// How hard our own compressor works, 1 (fastest) to 9 (smallest); what is outside counts as
    /// the nearest. Default: 3, which comes within a few per cent of 6 in about half the time.
    pub level: u8,
    /// How much memory our own compressor has for what it has not yet written, 1 (least) to 9; what
    /// is outside counts as the nearest. Default: 8.
    pub mem_level: u8,
    /// How long a message must be in bytes to be compressed. It does not count where we keep a
    /// context, in which small messages gain most. Default: 1024.
    pub threshold_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: WindowBits::MAX,
            client_max_window_bits: WindowBits::MAX,
            level: 3,
            mem_level: 8,
            threshold_bytes: 1024,
        }
    }
}

/// The size of an LZ77 window as its logarithm: 8 (256 bytes) to 15 (32 KiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowBits(u8);

impl WindowBits {
    /// 256 bytes.
    pub const MIN: Self = Self(8);
    /// 32 KiB, which is also what counts when nothing is said.
    pub const MAX: Self = Self(15);

    /// The window of `2^bits` bytes; `None` if `bits` is not between 8 and 15.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= Self::MIN.0 && bits <= Self::MAX.0 { Some(Self(bits)) } else { None }
    }

    /// The logarithm.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The window's size in bytes.
    pub const fn bytes(self) -> usize {
        1 << self.0
    }

    /// Reads a parameter's value. RFC 7692 §7.1.2.1: "a decimal integer value without leading
    /// zeroes between 8 to 15, inclusive".
    pub(super) fn parse(value: &str) -> Option<Self> {
        let plain = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
        if plain { Self::new(value.parse().ok()?) } else { None }
    }
}

impl fmt::Display for WindowBits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
