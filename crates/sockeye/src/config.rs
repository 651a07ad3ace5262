//! Every option of the server: what it bounds, its unit, its default and what happens at the bound.
//! Knows nothing of connections; they read it.

use std::sync::Arc;
use std::time::Duration;

use sockeye_proto::engine::{Rates, Timing, Transport};
use sockeye_proto::socket::{MultiplexerLimits, Parser};
use sockeye_ws::{Limits, deflate};

use crate::address::ClientAddress;
use crate::cookie::CookieHeader;
use crate::cors::Cors;
use crate::hooks::Hooks;
use crate::recovery::ConnectionStateRecovery;
use crate::service::ClientFiles;

/// What happens to a packet that would take an outbox beyond
/// [`outbox_bytes_max`](crate::ServerBuilder::outbox_bytes_max).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboxPolicy {
    /// The connection is closed with [`DisconnectReason::ForcedClose`](crate::DisconnectReason):
    /// the client reconnects and starts afresh instead of missing packets unnoticed.
    #[default]
    Disconnect,
    /// The oldest waiting packets are dropped to make room. Packets of which the socket has taken
    /// a part already stay.
    DropOldest,
    /// The new packet is refused: a direct `emit` returns
    /// [`EmitError::OutboxFull`](crate::EmitError), a broadcast skips this receiver. The emitter
    /// can wait with [`Socket::drained`](crate::Socket::drained).
    Refuse,
}

/// How the responses to long-polling GETs are compressed, with gzip or deflate as the client
/// prefers. What is compressed together can be guessed from its length by who can write a part of
/// it: turn it off where secrets and what others write go to one client in one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpCompression {
    /// The bytes from which on a response is compressed. Default: 1,024.
    pub threshold_bytes: usize,
    /// zlib's level, 0 to 9: 1 takes about a third of the time of 6, whose results are about a
    /// quarter smaller. Default: 6.
    pub level: u8,
}

impl Default for HttpCompression {
    fn default() -> Self {
        Self { threshold_bytes: 1024, level: 6 }
    }
}

/// What bounds a server's part in a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterConfig {
    pub(crate) queue_bytes_max: usize,
    pub(crate) publish_timeout: Duration,
    pub(crate) request_timeout: Duration,
    /// Headers that other nodes are not told.
    pub(crate) hidden_headers: Vec<String>,
    pub(crate) forwarding: ForwardingConfig,
}

/// What bounds the requests that are forwarded to the nodes of their sessions.
#[derive(Clone, Debug)]
pub(crate) struct ForwardingConfig {
    pub(crate) is_on: bool,
    pub(crate) requests_max: usize,
    pub(crate) bytes_max: usize,
    /// How often a node says that it is there, and when it is gone.
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

impl Default for ForwardingConfig {
    fn default() -> Self {
        Self {
            is_on: false,
            requests_max: 10_000,
            bytes_max: 16 << 20,
            interval: Duration::from_secs(3),
            timeout: Duration::from_secs(10),
        }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            queue_bytes_max: 16 << 20,
            publish_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            hidden_headers: Vec::new(),
            forwarding: ForwardingConfig::default(),
        }
    }
}

/// What `serde_json` still reads, with room for what a handler's type adds.
const JSON_DEPTH_MAX: usize = 120;

/// The settings of a server; made by [`ServerBuilder`](crate::ServerBuilder), which documents them.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) path: String,
    pub(crate) parser: Parser,
    pub(crate) transports: Vec<Transport>,
    pub(crate) allow_upgrades: bool,
    pub(crate) allow_eio3: bool,
    pub(crate) cors: Cors,
    pub(crate) hooks: Hooks,
    pub(crate) cookie: Option<CookieHeader>,
    pub(crate) client_address: ClientAddress,
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
    pub(crate) upgrade_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) ack_timeout: Duration,
    pub(crate) http_buffer_bytes_max: usize,
    pub(crate) http_compression: Option<HttpCompression>,
    pub(crate) per_message_deflate: Option<deflate::Options>,
    pub(crate) outbox_bytes_max: usize,
    pub(crate) outbox_policy: OutboxPolicy,
    pub(crate) events_waiting_max: usize,
    pub(crate) events_waiting_bytes_max: usize,
    pub(crate) rates: Rates,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address_max: Option<usize>,
    pub(crate) handshakes_max: usize,
    pub(crate) namespaces_max: usize,
    pub(crate) dynamic_namespaces_max: usize,
    pub(crate) cleanup_empty_child_namespaces: bool,
    pub(crate) rooms_max: usize,
    pub(crate) attachments_max: usize,
    pub(crate) json_depth_max: usize,
    pub(crate) initial_packet: Option<String>,
    pub(crate) recovery: Option<ConnectionStateRecovery>,
    pub(crate) client_files: Option<Arc<ClientFiles>>,
    pub(crate) cluster: ClusterConfig,
    pub(crate) fragments_max: u32,
    pub(crate) metrics: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: "/socket.io/".into(),
            parser: Parser::default(),
            transports: vec![Transport::Polling, Transport::WebSocket],
            allow_upgrades: true,
            allow_eio3: false,
            cors: Cors::default(),
            hooks: Hooks::default(),
            cookie: None,
            client_address: ClientAddress::default(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(45),
            close_timeout: Duration::from_secs(30),
            ack_timeout: Duration::from_secs(20),
            http_buffer_bytes_max: 1_000_000,
            http_compression: Some(HttpCompression::default()),
            per_message_deflate: None,
            outbox_bytes_max: 4 << 20,
            outbox_policy: OutboxPolicy::default(),
            events_waiting_max: 1024,
            events_waiting_bytes_max: 16 << 20,
            rates: Rates::default(),
            connections_max: 1_000_000,
            connections_per_address_max: None,
            handshakes_max: 10_000,
            namespaces_max: 64,
            dynamic_namespaces_max: 10_000,
            cleanup_empty_child_namespaces: true,
            rooms_max: 10_000,
            attachments_max: 10,
            json_depth_max: 100,
            initial_packet: None,
            recovery: None,
            client_files: None,
            cluster: ClusterConfig::default(),
            fragments_max: 16_384,
            metrics: false,
        }
    }
}

impl Config {
    pub(crate) fn allows(&self, transport: Transport) -> bool {
        self.transports.contains(&transport)
    }

    /// The upgrades that the open packet offers to a session on `transport`.
    pub(crate) fn upgrades(&self, transport: Transport) -> &'static [Transport] {
        let possible = transport == Transport::Polling && self.allow_upgrades;
        if possible && self.allows(Transport::WebSocket) { &[Transport::WebSocket] } else { &[] }
    }

    pub(crate) fn timing(&self) -> Timing {
        Timing {
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            upgrade_timeout: self.upgrade_timeout,
            close_timeout: self.close_timeout,
        }
    }

    pub(crate) fn multiplexer_limits(&self) -> MultiplexerLimits {
        MultiplexerLimits {
            namespaces_max: self.namespaces_max,
            attachments_max: self.attachments_max,
            depth_max: self.json_depth_max.min(JSON_DEPTH_MAX),
        }
    }

    pub(crate) fn websocket_limits(&self) -> Limits {
        Limits {
            message_bytes_max: self.http_buffer_bytes_max,
            fragments_max: self.fragments_max,
            close_timeout: self.close_timeout,
            ..Limits::default()
        }
    }
}
