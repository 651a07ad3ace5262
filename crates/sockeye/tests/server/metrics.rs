//! What is told to the `metrics` facade, by a recorder of its own. A recorder is the process's, and
//! so is what it counts: this is one test, exact where each test is a process (`cargo nextest`).

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use sockeye::{ConnectionStateRecovery, OutboxPolicy, Server, Socket};

use crate::support::{Host, Polling, Returning, WebSocket, answering, only_socket, until_empty};

#[tokio::test(start_paused = true)]
async fn what_happens_is_told() {
    let handle = PrometheusBuilder::new().install_recorder().expect("the process's only one");
    let io = Server::builder()
        .metrics(true)
        .outbox_bytes_max(1000)
        .outbox_policy(OutboxPolicy::DropOldest)
        .build();
    io.on("fail", async |_: Socket| Err::<(), _>(sockeye::HandlerError::new("no", "reason")));
    io.on("wait", async |_: Socket| tokio::time::sleep(Duration::from_millis(1)).await);
    let told = |io: &Server, line: &str| {
        io.sample_metrics();
        let text = handle.render();
        assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
    };

    let host = Host::in_memory(io);
    let client = Polling::join(&host).await;
    let io = &host.io;
    told(io, "sockeye_connections{transport=\"polling\"} 1");
    told(io, "sockeye_sockets 1");
    let socket = only_socket(io);
    socket.join("room");
    told(io, "sockeye_rooms 1");

    // Nothing can be taken now: there is no GET.
    socket.volatile().emit("v", ()).expect("dropped");
    told(io, "sockeye_packets_dropped_total{reason=\"volatile\"} 1");
    socket.emit("first", "x".repeat(1000)).expect("it waits");
    socket.conflate("key").emit("second", 1).expect("the first gives way");
    told(io, "sockeye_packets_dropped_total{reason=\"oldest\"} 1");
    socket.conflate("key").emit("second", 2).expect("the one before gives way");
    told(io, "sockeye_packets_dropped_total{reason=\"replaced\"} 1");
    assert_eq!(client.get().await.expect("200"), ["42[\"second\",2]"]);
    told(io, "sockeye_outbox_bytes 0");

    let asked = socket.timeout(Duration::from_millis(1)).emit_with_ack::<()>("ask", ());
    asked.await.expect_err("nobody answers");
    told(io, "sockeye_ack_failures_total{reason=\"timeout\"} 1");
    client.get().await.expect("200");
    client.post("42[\"fail\"]\x1e42[\"wait\"]\x1e42[\"wait\"]").await;
    told(io, "sockeye_handler_failures_total 1");

    let mut websocket = WebSocket::open(&host, &client.sid).await.expect("a handshake");
    websocket.send("2probe").await;
    assert_eq!(websocket.next().await.as_deref(), Some("3probe"));
    websocket.send("5").await;
    // Behind all that came before.
    websocket.send("420[\"wait\"]").await;
    assert_eq!(websocket.next().await.as_deref(), Some("430[]"));
    told(io, "sockeye_upgrades_total 1");
    told(io, "sockeye_connections{transport=\"polling\"} 0");
    told(io, "sockeye_connections{transport=\"websocket\"} 1");
    told(io, "sockeye_event_seconds_count 4");

    drop(websocket);
    until_empty(io).await;
    told(io, "sockeye_connections_closed_total{reason=\"transport close\"} 1");
    told(io, "sockeye_connections{transport=\"websocket\"} 0");
    told(io, "sockeye_sockets 0");
    told(io, "sockeye_rooms 0");

    let recovery = ConnectionStateRecovery::default().packets_max(1);
    let io = Server::builder().metrics(true).connection_state_recovery(recovery).build();
    answering(&io);
    let host = Host::in_memory(io);
    let io = &host.io;
    told(io, "sockeye_recovery_packet_bytes 0");
    let mut client = Returning::join(&host).await;
    for (missed, outcome) in [(1, "recovered"), (2, "lost")] {
        client.lose().await;
        (0..missed).for_each(|_| io.emit("missed", ()).expect("JSON"));
        told(io, "sockeye_recovery_sessions 1");
        assert_eq!(client.connect().await, outcome == "recovered");
        told(io, &format!("sockeye_recoveries_total{{outcome=\"{outcome}\"}} 1"));
    }
    told(io, "sockeye_recovery_sessions 0");
    client.pid = Some("x".repeat(20));
    assert!(!client.come_back().await);
    told(io, "sockeye_recoveries_total{outcome=\"unknown\"} 1");
}
