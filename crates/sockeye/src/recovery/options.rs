//! What connection state recovery keeps, and for how long. Does not know how.

use std::time::Duration;

/// Connection state recovery: a client that lost its connection goes on with the socket that it
/// had, and gets the events that it missed. Set by
/// [`ServerBuilder::connection_state_recovery`](crate::ServerBuilder::connection_state_recovery);
/// `docs/recovery.md` in the repository says what exactly is promised.
///
/// ```
/// use sockeye::{ConnectionStateRecovery, Server};
///
/// let io = Server::builder()
///     .connection_state_recovery(ConnectionStateRecovery::default())
///     .build();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStateRecovery {
    /// For how long a socket that ended is kept. Events are kept for as long, and beyond it for
    /// the time in which a broken connection is noticed (`ping_interval` and three times
    /// `ping_timeout`). A client that comes later gets a new socket. Default: 2 min.
    pub max_disconnection_duration: Duration,
    /// Whether a recovered socket passes over the middlewares of its namespace. They may have let
    /// it in for a reason that holds no longer, so they run again unless told otherwise (Node's
    /// default is true). Default: false.
    pub skip_middlewares: bool,
    /// The events that one namespace keeps; the oldest go first. A client that may have missed
    /// one of those gets a new socket. Default: 10,000.
    pub packets_max: usize,
    /// The bytes of memory of the events that one namespace keeps, as
    /// [`packets_max`](Self::packets_max) has it for their number. Default: 16 MiB.
    pub packet_bytes_max: usize,
    /// The sockets that ended and are kept, in one namespace; the one that ended first goes first.
    /// Each holds its rooms and its data. Default: 100,000.
    pub sessions_max: usize,
}

impl Default for ConnectionStateRecovery {
    fn default() -> Self {
        Self {
            max_disconnection_duration: Duration::from_secs(120),
            skip_middlewares: false,
            packets_max: 10_000,
            packet_bytes_max: 16 << 20,
            sessions_max: 100_000,
        }
    }
}

impl ConnectionStateRecovery {
    /// Sets [`max_disconnection_duration`](Self::max_disconnection_duration).
    #[must_use]
    pub fn max_disconnection_duration(mut self, duration: Duration) -> Self {
        self.max_disconnection_duration = duration;
        self
    }

    /// Sets [`skip_middlewares`](Self::skip_middlewares).
    #[must_use]
    pub fn skip_middlewares(mut self, skip: bool) -> Self {
        self.skip_middlewares = skip;
        self
    }

    /// Sets [`packets_max`](Self::packets_max).
    #[must_use]
    pub fn packets_max(mut self, packets_max: usize) -> Self {
        self.packets_max = packets_max;
        self
    }

    /// Sets [`packet_bytes_max`](Self::packet_bytes_max).
    #[must_use]
    pub fn packet_bytes_max(mut self, packet_bytes_max: usize) -> Self {
        self.packet_bytes_max = packet_bytes_max;
        self
    }

    /// Sets [`sessions_max`](Self::sessions_max).
    #[must_use]
    pub fn sessions_max(mut self, sessions_max: usize) -> Self {
        self.sessions_max = sessions_max;
        self
    }
}
