//! What an operator watches, told to the `metrics` facade: counters, gauges and histograms.
//! Does not know who keeps them; the application installs a recorder.
//!
//! A recorder belongs to the whole process, and so do the handles: they are made when the first
//! server that wants them is built. A count is then one atomic addition for each turn or write,
//! however many packets that has; without them it is one look at an empty place.

use std::sync::OnceLock;
use std::time::Instant;

use metrics::{Counter, Gauge, Histogram, Unit};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use sockeye_proto::engine::{CloseReason, Transport};

static HANDLES: OnceLock<Handles> = OnceLock::new();

/// Those of what happens often. The rest is looked up where it happens.
struct Handles {
    packets_received: Counter,
    received_bytes: Counter,
    packets_sent: Counter,
    sent_bytes: Counter,
    rooms: Gauge,
    sockets: Gauge,
    event_seconds: Histogram,
    ack_seconds: Histogram,
}

/// Why a packet was not sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dropped {
    /// Volatile, and the client could not take it now.
    Volatile,
    /// A later one of the same key took its place.
    Replaced,
    /// The oldest gave way: [`OutboxPolicy::DropOldest`](crate::OutboxPolicy::DropOldest).
    Oldest,
    /// The outbox was full: [`OutboxPolicy::Refuse`](crate::OutboxPolicy::Refuse).
    Refused,
    /// The outbox was full, and the client has to go.
    Overflow,
}

/// Why an acknowledgement did not come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ack {
    Timeout,
    Disconnected,
}

/// What came of a client's wish to go on with the socket that it had.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recovery {
    Recovered,
    /// There is no such socket to go on with (any more, or yet).
    Unknown,
    /// What it missed is not kept, or cannot be told.
    Lost,
}

/// Makes the handles, for the recorder that there is now.
pub(crate) fn start() {
    HANDLES.get_or_init(|| {
        describe();
        Handles {
            packets_received: counter!("sockeye_packets_received_total"),
            received_bytes: counter!("sockeye_received_bytes_total"),
            packets_sent: counter!("sockeye_packets_sent_total"),
            sent_bytes: counter!("sockeye_sent_bytes_total"),
            rooms: gauge!("sockeye_rooms"),
            sockets: gauge!("sockeye_sockets"),
            event_seconds: histogram!("sockeye_event_seconds"),
            ack_seconds: histogram!("sockeye_ack_seconds"),
        }
    });
}

fn with(count: impl FnOnce(&Handles)) {
    if let Some(handles) = HANDLES.get() {
        count(handles);
    }
}

/// The clock, where something is measured with it.
pub(crate) fn clock() -> Option<Instant> {
    HANDLES.get().map(|_| Instant::now())
}

/// A connection's task has read so many packets, of so many bytes on the wire.
pub(crate) fn received(packets: usize, bytes: usize) {
    with(|handles| {
        handles.packets_received.increment(packets as u64);
        handles.received_bytes.increment(bytes as u64);
    });
}

/// A transport has taken so many packets whole, and so many bytes on the wire.
pub(crate) fn sent(packets: usize, bytes: usize) {
    with(|handles| {
        handles.packets_sent.increment(packets as u64);
        handles.sent_bytes.increment(bytes as u64);
    });
}

/// Packets will not be sent.
pub(crate) fn dropped(packets: usize, why: Dropped) {
    if packets == 0 {
        return;
    }
    let reason = match why {
        Dropped::Volatile => "volatile",
        Dropped::Replaced => "replaced",
        Dropped::Oldest => "oldest",
        Dropped::Refused => "refused",
        Dropped::Overflow => "overflow",
    };
    with(|_| {
        counter!("sockeye_packets_dropped_total", "reason" => reason).increment(packets as u64);
    });
}

pub(crate) fn connection_opened(transport: Transport) {
    with(|_| {
        let transport = transport.as_str();
        counter!("sockeye_connections_opened_total", "transport" => transport).increment(1);
        gauge!("sockeye_connections", "transport" => transport).increment(1);
    });
}

pub(crate) fn connection_upgraded() {
    with(|_| {
        counter!("sockeye_upgrades_total").increment(1);
        gauge!("sockeye_connections", "transport" => "polling").decrement(1);
        gauge!("sockeye_connections", "transport" => "websocket").increment(1);
    });
}

pub(crate) fn connection_closed(transport: Transport, reason: CloseReason) {
    with(|_| {
        let reason = reason.as_str();
        counter!("sockeye_connections_closed_total", "reason" => reason).increment(1);
        gauge!("sockeye_connections", "transport" => transport.as_str()).decrement(1);
    });
}

/// A request was not served. `reason` is one of a few.
pub(crate) fn request_refused(reason: &'static str) {
    with(|_| counter!("sockeye_requests_refused_total", "reason" => reason).increment(1));
}

pub(crate) fn socket_connected() {
    with(|handles| handles.sockets.increment(1));
}

pub(crate) fn socket_gone() {
    with(|handles| handles.sockets.decrement(1));
}

/// A middleware refused a socket.
pub(crate) fn socket_refused() {
    with(|_| counter!("sockeye_sockets_refused_total").increment(1));
}

pub(crate) fn room_created() {
    with(|handles| handles.rooms.increment(1));
}

pub(crate) fn room_deleted() {
    with(|handles| handles.rooms.decrement(1));
}

/// An event that came at `begun` has been handled.
pub(crate) fn event_handled(begun: Instant) {
    with(|handles| handles.event_seconds.record(begun.elapsed()));
}

/// A handler, a middleware or a hook failed.
pub(crate) fn handler_failed() {
    with(|_| counter!("sockeye_handler_failures_total").increment(1));
}

/// A client has acknowledged what was sent at `begun`.
pub(crate) fn acknowledged(begun: Option<Instant>) {
    if let Some(begun) = begun {
        with(|handles| handles.ack_seconds.record(begun.elapsed()));
    }
}

/// An acknowledgement will not come.
pub(crate) fn ack_failed(why: Ack) {
    let reason = match why {
        Ack::Timeout => "timeout",
        Ack::Disconnected => "disconnected",
    };
    with(|_| counter!("sockeye_ack_failures_total", "reason" => reason).increment(1));
}

pub(crate) fn recovery(outcome: Recovery) {
    let outcome = match outcome {
        Recovery::Recovered => "recovered",
        Recovery::Unknown => "unknown",
        Recovery::Lost => "lost",
    };
    with(|_| counter!("sockeye_recoveries_total", "outcome" => outcome).increment(1));
}

/// What is asked for, not told: the sockets that may be taken up again, and the bytes of the events
/// that are kept for clients.
pub(crate) fn kept(sessions: usize, packet_bytes: usize) {
    with(|_| {
        gauge!("sockeye_recovery_sessions").set(sessions as f64);
        gauge!("sockeye_recovery_packet_bytes").set(packet_bytes as f64);
    });
}

/// What is asked for, not told: the bytes that wait in all outboxes, and in the fullest.
pub(crate) fn outboxes(bytes: usize, fullest_bytes: usize) {
    with(|_| {
        gauge!("sockeye_outbox_bytes").set(bytes as f64);
        gauge!("sockeye_outbox_bytes_fullest").set(fullest_bytes as f64);
    });
}

fn describe() {
    const COUNTS: [(&str, &str); 11] = [
        ("sockeye_packets_received_total", "Engine.IO packets and WebSocket messages that came"),
        ("sockeye_packets_sent_total", "Packets that a transport has taken whole"),
        ("sockeye_packets_dropped_total", "Packets that were not sent, by reason"),
        ("sockeye_connections_opened_total", "Sessions opened, by transport"),
        ("sockeye_connections_closed_total", "Sessions ended, by the official reason"),
        ("sockeye_upgrades_total", "Sessions that went on over WebSocket"),
        ("sockeye_requests_refused_total", "HTTP requests that were not served, by reason"),
        ("sockeye_sockets_refused_total", "Sockets that a middleware refused"),
        ("sockeye_handler_failures_total", "Handlers, middlewares and hooks that failed"),
        ("sockeye_recoveries_total", "Clients that came back for their socket, by outcome"),
        ("sockeye_ack_failures_total", "Acknowledgements that did not come, by reason"),
    ];
    for (name, text) in COUNTS {
        describe_counter!(name, Unit::Count, text);
    }
    describe_counter!("sockeye_received_bytes_total", Unit::Bytes, "Bytes read, framing included");
    describe_counter!("sockeye_sent_bytes_total", Unit::Bytes, "Bytes sent, framing included");
    describe_gauge!("sockeye_connections", Unit::Count, "Sessions, by transport");
    describe_gauge!("sockeye_sockets", Unit::Count, "Sockets in their namespaces");
    describe_gauge!("sockeye_rooms", Unit::Count, "Rooms, those of sockets' ids not counted");
    let waiting = "Bytes that wait for clients, when last sampled";
    describe_gauge!("sockeye_outbox_bytes", Unit::Bytes, waiting);
    let fullest = "Bytes that wait for the slowest client, when last sampled";
    describe_gauge!("sockeye_outbox_bytes_fullest", Unit::Bytes, fullest);
    let sessions = "Sockets that may be taken up again, when last sampled";
    describe_gauge!("sockeye_recovery_sessions", Unit::Count, sessions);
    let kept = "Bytes of events kept for clients that may come back, when last sampled";
    describe_gauge!("sockeye_recovery_packet_bytes", Unit::Bytes, kept);
    let event = "From an event's arrival to its last listener's end";
    describe_histogram!("sockeye_event_seconds", Unit::Seconds, event);
    let ack = "From an emit to its acknowledgement";
    describe_histogram!("sockeye_ack_seconds", Unit::Seconds, ack);
}
