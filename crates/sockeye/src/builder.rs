//! The server's options, as an application sets them. What they mean is in each method's words;
//! [`crate::config`] holds the values.

use std::time::Duration;

use parking_lot::RwLock;
use sockeye_proto::engine::Transport;

use crate::config::{Config, OutboxPolicy};
use crate::cors::Cors;
use crate::extensions::Extensions;
use crate::namespace::Shared;
use crate::server::Server;

/// The options of a [`Server`]. Each begins with what it bounds and ends with its default; the
/// defaults are Node's where a client could notice a difference.
#[derive(Debug, Default)]
#[must_use = "a server is made by `build`"]
pub struct ServerBuilder {
    config: Config,
    state: Extensions,
}

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $type:ty => $field:ident;)*) => {
        $($(#[$doc])*
        pub fn $name(mut self, $name: $type) -> Self {
            self.config.$field = $name;
            self
        })*
    };
}

impl ServerBuilder {
    /// The path below which requests are answered. A trailing slash is added where it is missing;
    /// a request without it is answered too. Default: `/socket.io/`.
    pub fn path(mut self, path: &str) -> Self {
        self.config.path = format!("/{}/", path.trim_matches('/'));
        self
    }

    /// Which transports a client may use; a request for another one is refused with code 0
    /// ("Transport unknown"). Default: long-polling and WebSocket.
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.config.transports = transports.into_iter().collect();
        self
    }

    options! {
        /// Whether a long-polling client is offered WebSocket. Default: true.
        allow_upgrades: bool => allow_upgrades;
        /// Which other origins may connect; see [`Cors`]. Default: none.
        cors: Cors => cors;
        /// The time between a pong (or the handshake) and the next ping. Default: 25 s.
        ping_interval: Duration => ping_interval;
        /// The time a client has to answer a ping; then it is disconnected with `ping timeout`.
        /// Default: 20 s.
        ping_timeout: Duration => ping_timeout;
        /// The time a WebSocket has to finish its upgrade; then it is closed and the session goes
        /// on over long-polling. Default: 10 s.
        upgrade_timeout: Duration => upgrade_timeout;
        /// The time a client has to join its first namespace; then it is disconnected.
        /// Default: 45 s.
        connect_timeout: Duration => connect_timeout;
        /// The time a closing connection has to take what waits, to close its WebSocket and for
        /// its handlers to finish; then all of it is dropped. Default: 30 s.
        close_timeout: Duration => close_timeout;
        /// The time a client has to acknowledge an event where the emit names none
        /// ([`Socket::timeout`](crate::Socket::timeout)). Node waits for ever. Default: 20 s.
        ack_timeout: Duration => ack_timeout;
        /// The bytes of one WebSocket message, and of one POST. A longer message closes the
        /// connection (1009), a longer POST is answered 413. Default: 1,000,000.
        max_http_buffer_size: usize => http_buffer_bytes_max;
        /// The bytes that may wait for one slow client; [`outbox_policy`](Self::outbox_policy)
        /// says what happens then. One packet always fits. Default: 4 MiB.
        outbox_bytes_max: usize => outbox_bytes_max;
        /// What happens when an outbox is full. Default: the client is disconnected.
        outbox_policy: OutboxPolicy => outbox_policy;
        /// The events of one socket that may wait behind a handler; when so many do, nothing more
        /// is read from that client until it has caught up. Default: 1,024.
        events_waiting_max: usize => events_waiting_max;
        /// The sessions at one time; one more handshake is answered 503. Default: 1,000,000.
        connections_max: usize => connections_max;
        /// The namespaces that one client may join; one more closes its connection. Default: 64.
        namespaces_max: usize => namespaces_max;
        /// The namespaces that clients may have made at one time
        /// ([`Server::of_pattern`], [`Server::of_matching`]); one more is refused as an invalid
        /// namespace. Default: 10,000.
        dynamic_namespaces_max: usize => dynamic_namespaces_max;
        /// Whether a namespace that clients made goes with its last socket. (In Node it stays
        /// unless told otherwise, and clients can make any number.) Default: true.
        cleanup_empty_child_namespaces: bool => cleanup_empty_child_namespaces;
        /// The rooms that one socket may be in; [`Socket::join`](crate::Socket::join) refuses
        /// more. Default: 10,000.
        rooms_max: usize => rooms_max;
        /// The binary attachments of one packet; more close the connection. Default: 10.
        attachments_max: usize => attachments_max;
        /// The frames of one WebSocket message; more close the connection (1008).
        /// Default: 16,384.
        fragments_max: u32 => fragments_max;
    }

    /// Adds a value that handlers get a clone of, by its type, with the extractor
    /// [`State`](crate::State).
    pub fn state<T: Clone + Send + Sync + 'static>(self, state: T) -> Self {
        self.state.insert(state);
        self
    }

    /// The server.
    pub fn build(self) -> Server {
        let Self { config, state } = self;
        Server::new(Shared { config, state, on_error: RwLock::new(None) })
    }
}
