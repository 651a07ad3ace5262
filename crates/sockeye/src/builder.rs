//! The server's options, as an application sets them. What they mean is in each method's words;
//! [`crate::config`] holds the values.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use sockeye_proto::engine::Transport;
use sockeye_proto::socket::Parser;

use sockeye_ws::deflate::Options as PerMessageDeflate;

use crate::address::ClientAddress;
use crate::cluster::{ClusterBus, Link};
use crate::config::{Config, HttpCompression, OutboxPolicy};
use crate::cookie::{CookieHeader, SessionCookie};
use crate::cors::Cors;
use crate::extensions::Extensions;
use crate::metrics;
use crate::namespace::Shared;
use crate::recovery::ConnectionStateRecovery;
use crate::server::Server;
use crate::service::ClientFiles;

/// The options of a [`Server`]. Each begins with what it bounds and ends with its default; the
/// defaults are Node's where a client could notice a difference.
#[derive(Debug, Default)]
#[must_use = "a server is made by `build`"]
pub struct ServerBuilder {
    pub(crate) config: Config,
    state: Extensions,
    bus: Option<Bus>,
}

struct Bus(Arc<dyn ClusterBus>);

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bus")
    }
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
    /// The path below which requests are answered: that path with and without its last slash, and
    /// everything under it (for `/socket.io/` also `/socket.io` and `/socket.io/any/thing`, but
    /// not `/socket.iofoo`). So clients need no `addTrailingSlash: false`, nor does it hurt.
    /// Default: `/socket.io/`.
    pub fn path(mut self, path: &str) -> Self {
        let name = path.trim_matches('/');
        self.config.path = if name.is_empty() { "/".to_owned() } else { format!("/{name}/") };
        self
    }

    /// Which transports a client may use; a request for another one is refused with code 0
    /// ("Transport unknown"). Default: long-polling and WebSocket.
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.config.transports = transports.into_iter().collect();
        self
    }

    /// Sets a cookie with the session's id in the response that opens a session over
    /// long-polling, for load balancers to be sticky by; over WebSocket there is nothing to be
    /// sticky for. The server itself does not read it. Default: none.
    ///
    /// # Panics
    /// If the name is no token, or the path or the domain has a semicolon, a control character or
    /// one that is not ASCII.
    pub fn cookie(mut self, cookie: SessionCookie) -> Self {
        self.config.cookie = Some(CookieHeader::new(&cookie));
        self
    }

    /// An Engine.IO message that each client gets right behind the open packet, in the same
    /// response, whatever the parser. It comes before the client has joined a namespace: for the
    /// official client it must be a Socket.IO packet (`2["hello"]`), which it keeps until it has.
    /// Default: none.
    pub fn initial_packet(mut self, text: impl Into<String>) -> Self {
        self.config.initial_packet = Some(text.into());
        self
    }

    /// How the responses to long-polling GETs are compressed where the client accepts it; `None`
    /// turns it off. At most 64 are compressed at one time in a process, what comes beyond that
    /// is sent as it is; a large one gives way to other tasks every 32 KiB. Default:
    /// [`HttpCompression::default`].
    ///
    /// # Panics
    /// If the level is above 9.
    pub fn http_compression(mut self, http_compression: Option<HttpCompression>) -> Self {
        assert!(http_compression.is_none_or(|options| options.level <= 9), "levels are 0 to 9");
        self.config.http_compression = http_compression;
        self
    }

    /// The sessions at one time of one address (an IPv6 address counts as the /64 it is in); one
    /// more handshake is answered 429. The address is what
    /// [`client_address`](Self::client_address) finds; requests of which none is known are not
    /// limited. Default: none, since behind a proxy that the server has not been told of, all
    /// clients are one.
    pub fn connections_per_address_max(mut self, connections_per_address_max: usize) -> Self {
        self.config.connections_per_address_max = Some(connections_per_address_max);
        self
    }

    /// The packets that a client may send per second, on average; in a burst as many as in one
    /// second. From a client that is faster nothing more is read until it is due: TCP holds it
    /// back, and over long-polling its POST is answered later. Nothing is lost and nobody
    /// disconnected, as the client would come back and send all of it again. At least 1. Default:
    /// none, since what is much differs from application to application.
    pub fn packets_per_second_max(mut self, packets_per_second_max: u32) -> Self {
        self.config.rates.packets = Some(packets_per_second_max);
        self
    }

    /// The bytes that a client may send per second, on average, as
    /// [`packets_per_second_max`](Self::packets_per_second_max) has it for packets. What came in
    /// one read (64 KiB) or one POST is counted whole. At least 1. Default: none.
    pub fn bytes_per_second_max(mut self, bytes_per_second_max: u32) -> Self {
        self.config.rates.bytes = Some(bytes_per_second_max);
        self
    }

    /// Serves the official client's files below [`path`](Self::path), as
    /// `/socket.io/socket.io.min.js`: eight of them, scripts and their source maps, from the
    /// directory `client-dist` of the npm package `socket.io`, which is not a part of this crate.
    /// They are read once, now; they are compressed (br, gzip, deflate) once, when that is first
    /// asked for. Their `ETag` is the client's version. Default: they are not served.
    ///
    /// A page of another origin may load them as `<script src>`. As a module it says its origin,
    /// and needs [`cors`](Self::cors) to allow it, as the client itself does.
    ///
    /// ```no_run
    /// # fn example() -> std::io::Result<()> {
    /// let io = sockeye::Server::builder()
    ///     .serve_client("node_modules/socket.io/client-dist")?
    ///     .build();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// One of the files cannot be read, or `socket.io.js` does not say its version.
    pub fn serve_client(mut self, directory: impl AsRef<Path>) -> io::Result<Self> {
        self.config.client_files = Some(Arc::new(ClientFiles::read(directory.as_ref())?));
        Ok(self)
    }

    /// Lets a client that lost its connection go on with the socket that it had, and sends it
    /// what it missed; see [`ConnectionStateRecovery`]. Events then carry one more argument, text,
    /// from which the official client knows what it has. Default: off.
    pub fn connection_state_recovery(mut self, recovery: ConnectionStateRecovery) -> Self {
        self.config.recovery = Some(recovery);
        self
    }

    options! {
        /// How packets are encoded; clients must have the same parser. See [`Parser`]. One that
        /// has another is disconnected. Default: JSON.
        parser: Parser => parser;
        /// Whether a long-polling client is offered WebSocket. Default: true.
        allow_upgrades: bool => allow_upgrades;
        /// Whether clients of Engine.IO 3 and Socket.IO 2 (`socket.io-client` 2.x) are served, too;
        /// otherwise they are refused with code 5. They are in `/` without asking, send the pings
        /// themselves, and learn of a refusal by its data, or its message. The only id that they
        /// know is the session's: it is the id of their socket in `/`, so **who is told that id
        /// can act as the client** while it is on long-polling. (In other namespaces the id is
        /// fresh, where Node's is `/name#` and the session's.) Default: false.
        allow_eio3: bool => allow_eio3;
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
        /// The time a handshake may take in the application's hooks
        /// ([`allow_request`](Self::allow_request), [`generate_id`](Self::generate_id); then it is
        /// answered 503), and again until a WebSocket's client has taken the 101 (then the stream
        /// is dropped). Default: 10 s.
        handshake_timeout: Duration => handshake_timeout;
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
        /// Whether WebSocket messages are compressed with the clients that offer it
        /// (permessage-deflate, RFC 7692), and how; `None` turns it off. A broadcast is compressed
        /// once for all that it reaches. What comes is inflated up to
        /// [`max_http_buffer_size`](Self::max_http_buffer_size). Without contexts, which is the
        /// default of [`PerMessageDeflate`], a connection holds 100 bytes more; what a context
        /// costs is said there. As with [`HttpCompression`], what is compressed together can be
        /// guessed from its length by who can write a part of it. Default: `None`.
        per_message_deflate: Option<PerMessageDeflate> => per_message_deflate;
        /// The bytes that may wait for one slow client: of each packet its own, uncompressed, and
        /// some 100 for what comes with it, so that this is what it holds in memory, however small
        /// they are. [`outbox_policy`](Self::outbox_policy) says what happens then. One packet
        /// always fits. Default: 4 MiB.
        outbox_bytes_max: usize => outbox_bytes_max;
        /// What happens when an outbox is full. Default: the client is disconnected.
        outbox_policy: OutboxPolicy => outbox_policy;
        /// The events of one socket that may wait behind a handler; when so many do, nothing more
        /// is read from that client until it has caught up. Default: 1,024.
        events_waiting_max: usize => events_waiting_max;
        /// The bytes that the waiting events of one client may hold, those of all its sockets
        /// together; as with [`events_waiting_max`](Self::events_waiting_max), nothing more is read
        /// then. One event always fits. Default: 16 MiB.
        events_waiting_bytes_max: usize => events_waiting_bytes_max;
        /// The sessions at one time; one more handshake is answered 503. Default: 1,000,000.
        connections_max: usize => connections_max;
        /// How the address of a client is found behind proxies; see [`ClientAddress`]. Default: it
        /// is the peer's.
        client_address: ClientAddress => client_address;
        /// The handshakes under way: waiting for the application's hooks, or for a WebSocket's
        /// client to take the 101. One more is answered 503. Default: 10,000.
        handshakes_max: usize => handshakes_max;
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
        /// How deep the JSON of one packet may nest, its list of arguments included; deeper JSON
        /// closes the connection. At most 120, beyond which it could not be read. Default: 100.
        json_depth_max: usize => json_depth_max;
        /// The frames of one WebSocket message; more close the connection (1008).
        /// Default: 16,384.
        fragments_max: u32 => fragments_max;
        /// Whether the server tells the `metrics` facade what happens, to the recorder that is
        /// installed when the first such server is built: install yours before. The operations
        /// page (`docs/operations.md`) has each metric. Default: false.
        metrics: bool => metrics;
    }

    /// Adds a value that handlers get a clone of, by its type, with the extractor
    /// [`State`](crate::State).
    pub fn state<T: Clone + Send + Sync + 'static>(self, state: T) -> Self {
        self.state.insert(state);
        self
    }

    /// Joins a cluster: what is sent to rooms reaches the members on all of its servers. Default:
    /// none, the server is alone.
    pub fn cluster(mut self, bus: impl ClusterBus) -> Self {
        self.bus = Some(Bus(Arc::new(bus)));
        self
    }

    /// The bytes that may wait to be published to the cluster, those under way among them (a
    /// message counts its text and attachments, and 256 beside them). What comes beyond that
    /// reaches the sockets of this server only, and is counted
    /// ([`ClusterHealth::dropped`](crate::cluster::ClusterHealth::dropped)). One message always
    /// fits. Default: 16 MiB.
    pub fn cluster_queue_bytes_max(mut self, cluster_queue_bytes_max: usize) -> Self {
        self.config.cluster.queue_bytes_max = cluster_queue_bytes_max;
        self
    }

    /// The time that the cluster's bus has to publish a batch of messages; then the batch counts
    /// as failed, and the next one is tried. Also the time it has to count nodes, and to close.
    /// Default: 5 s.
    pub fn cluster_publish_timeout(mut self, cluster_publish_timeout: Duration) -> Self {
        self.config.cluster.publish_timeout = cluster_publish_timeout;
        self
    }

    /// The time that other nodes have to answer
    /// [`fetch_sockets`](crate::Broadcast::fetch_sockets) and
    /// [`server_side_emit_with_ack`](crate::Server::server_side_emit_with_ack); then the answers
    /// that came are handed out with the error (Node's `requestsTimeout`). Default: 5 s.
    pub fn cluster_request_timeout(mut self, cluster_request_timeout: Duration) -> Self {
        self.config.cluster.request_timeout = cluster_request_timeout;
        self
    }

    /// The headers of handshakes that other nodes are not told by
    /// [`fetch_sockets`](crate::Broadcast::fetch_sockets), such as `cookie` and `authorization`:
    /// what is told passes the cluster's bus in clear. Default: none, as in Node.
    pub fn cluster_hidden_headers<I>(mut self, cluster_hidden_headers: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let names = cluster_hidden_headers.into_iter().map(Into::into);
        self.config.cluster.hidden_headers = names.collect();
        self
    }

    /// Whether a long-polling request for a session that lives on another node of the
    /// [`cluster`](Self::cluster) is forwarded to it, over the bus, and its answer handed on: so
    /// that clients may long-poll behind a balancer that is not sticky. All nodes must have it on,
    /// and the same ping times. Default: false; such a request is refused with code 1.
    ///
    /// * A session's id ends with 4 characters that say on which node it lives; 96 bits of it stay
    ///   random. The id, which is a secret, and what the client sends and gets pass the bus in
    ///   clear. Sessions whose ids [`generate_id`](Self::generate_id) makes are not found.
    /// * Cross-origin rules, compression and the `headers` hooks are those of the node that talks
    ///   to the client, as are `connection_error` and the limit of a POST; everything else is the
    ///   session's.
    /// * A client that goes away, a node that dies and a bus that fails are noticed on both sides:
    ///   what cannot be delivered ends the session, nothing is lost in silence.
    /// * A WebSocket is not forwarded. One that is opened without long-polling before it lives
    ///   where it was opened and needs nothing of this; the upgrade of a session that lives
    ///   elsewhere is answered 404, which lets a balancer try the next node
    ///   (`proxy_next_upstream http_404` in nginx); otherwise the official client stays on
    ///   long-polling. `docs/scaling.md` has the configurations and what it costs.
    pub fn forward_requests(mut self, forward_requests: bool) -> Self {
        self.config.cluster.forwarding.is_on = forward_requests;
        self
    }

    /// The requests that this node may be forwarding at one time, the GETs that wait among them;
    /// one more is answered 503. Default: 10,000.
    pub fn forwarded_requests_max(mut self, forwarded_requests_max: usize) -> Self {
        self.config.cluster.forwarding.requests_max = forwarded_requests_max;
        self
    }

    /// The bytes of POSTs that this node may be forwarding at one time; a POST that goes beyond is
    /// answered 503. So is one that would fill more than half of
    /// [`cluster_queue_bytes_max`](Self::cluster_queue_bytes_max), which leaves broadcasts the
    /// other half. Default: 16 MiB.
    pub fn forwarded_bytes_max(mut self, forwarded_bytes_max: usize) -> Self {
        self.config.cluster.forwarding.bytes_max = forwarded_bytes_max;
        self
    }

    /// How often a node that forwards requests tells the others that it is there, and after how
    /// long without a word of it they take it for dead: requests for its sessions are refused with
    /// code 1 from then on, and the sessions that had GETs open through it end. Where the bus tells
    /// of a node's end, that is sooner. Default: 3 s and 10 s.
    pub fn forward_heartbeats(mut self, interval: Duration, timeout: Duration) -> Self {
        self.config.cluster.forwarding.interval = interval;
        self.config.cluster.forwarding.timeout = timeout;
        self
    }

    /// The server.
    ///
    /// # Panics
    /// With a [`cluster`](Self::cluster), outside a tokio runtime: its tasks run there.
    pub fn build(self) -> Server {
        let Self { config, state, bus } = self;
        if config.metrics {
            metrics::start();
        }
        let wants_log = config.recovery.is_some();
        let link = bus.map(|Bus(bus)| Arc::new(Link::new(bus, config.cluster.clone(), wants_log)));
        Server::new(Shared { config, state, on_error: RwLock::new(None), link })
    }
}
