//! What can be set for a connection beside the machine's [`Limits`](crate::Limits).
//! Knows nothing of how it is driven.

use std::time::Duration;

/// How a connection buffers and whether it looks after its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bounds what waits to be sent, in bytes of frames: while more waits, `send` and `feed` wait
    /// for the peer to read before they take another message. One message always fits, so the
    /// bound is this and one message. Default: 128 KiB.
    pub write_buffer_bytes_max: usize,
    /// Whether and when pings are sent to find out that the peer is gone. Default: none.
    pub keep_alive: Option<KeepAlive>,
}

impl Default for Options {
    fn default() -> Self {
        Self { write_buffer_bytes_max: 128 << 10, keep_alive: None }
    }
}

/// Finds peers that went away without a word: a ping after a silence, and an end to the wait.
///
/// A connection has no task of its own, so both times are looked at while the application waits
/// for messages (`next`). What is sent meanwhile is no sign of life; anything that arrives is.
///
/// A peer that takes nothing of what waits for it, for both times together, is given up whatever it
/// sends; that is looked at also while `send` and the like wait for it. Without this they wait for
/// as long as the peer likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long nothing may arrive before a ping is sent.
    pub interval: Duration,
    /// How long nothing may arrive after the ping before the connection is given up with
    /// [`Error::KeepAliveTimeout`](super::Error::KeepAliveTimeout). It counts from when the stream
    /// has taken the ping; while that waits behind a long message, anew from each write that the
    /// stream takes something of, so that a peer that reads slowly is not given up.
    pub timeout: Duration,
}
