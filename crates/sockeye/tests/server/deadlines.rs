//! When things happen, to the millisecond: pings, timeouts, the end of those who do not answer.

use std::time::Duration;

use sockeye::{AckError, DisconnectReason, Server};
use tokio::sync::mpsc;
use tokio::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Host, Polling, WebSocket, only_socket, until, until_empty};

/// A server that tells of each disconnection, and when it was.
fn server(
    settings: impl FnOnce(sockeye::ServerBuilder) -> sockeye::ServerBuilder,
) -> (Host, mpsc::UnboundedReceiver<(DisconnectReason, Instant)>) {
    let (ends, ended) = mpsc::unbounded_channel();
    let io = settings(Server::builder()).state(ends).build();
    type Ends = mpsc::UnboundedSender<(DisconnectReason, Instant)>;
    io.on_disconnect(async |sockeye::State(ends): sockeye::State<Ends>, reason| {
        ends.send((reason, Instant::now())).expect("the test waits");
    });
    (Host::in_memory(io), ended)
}

/// The clock counts whole milliseconds, and a timer may be one late.
fn assert_after(start: Instant, seconds: u64) {
    let passed = start.elapsed();
    let wanted = Duration::from_secs(seconds);
    assert!(passed >= wanted && passed <= wanted + Duration::from_millis(3), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_ping_leaves_after_the_ping_interval_and_the_next_after_the_pong() {
    let (host, _ended) = server(|builder| builder);
    let start = Instant::now();
    let mut client = WebSocket::join(&host).await;
    assert_eq!(client.next().await.as_deref(), Some("2"));
    assert_after(start, 25);
    tokio::time::sleep(Duration::from_secs(5)).await;
    client.send("3").await;
    assert_eq!(client.next().await.as_deref(), Some("2"));
    assert_after(start, 25 + 5 + 25);
}

#[tokio::test(start_paused = true)]
async fn without_a_pong_the_socket_ends_after_the_ping_timeout() {
    let (host, mut ended) = server(|builder| builder);
    let start = Instant::now();
    let mut client = WebSocket::join(&host).await;
    assert_eq!(client.next().await.as_deref(), Some("2"));
    let (reason, _) = ended.recv().await.expect("it ends");
    assert_eq!(reason, DisconnectReason::PingTimeout);
    assert_after(start, 25 + 20);
    drop(client);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn h23_traffic_postpones_no_ping_and_the_deadline_of_a_pong_once() {
    let (host, mut ended) = server(|builder| builder);
    let start = Instant::now();
    let mut client = WebSocket::join(&host).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    client.send("42[\"traffic\"]").await;
    assert_eq!(client.next().await.as_deref(), Some("2"));
    assert_after(start, 25);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(15)).await;
        client.send("42[\"traffic\"]").await;
    }
    // The second of them changes nothing any more.
    let (reason, _) = ended.recv().await.expect("it ends");
    assert_eq!(reason, DisconnectReason::PingTimeout);
    assert_after(start, 25 + 15 + 20);
}

#[tokio::test(start_paused = true)]
async fn h25_a_polling_client_that_never_comes_back_times_out_too() {
    let (host, mut ended) = server(|builder| builder);
    let start = Instant::now();
    let _client = Polling::join(&host).await;
    let (reason, _) = ended.recv().await.expect("it ends");
    assert_eq!(reason, DisconnectReason::PingTimeout);
    assert_after(start, 25 + 20);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn who_joins_no_namespace_is_closed_after_the_connect_timeout() {
    let (host, _ended) = server(|b| b.connect_timeout(Duration::from_secs(7)));
    let start = Instant::now();
    let mut client = WebSocket::open(&host, "").await.expect("a handshake");
    assert!(client.next().await.expect("the open packet").starts_with("0{"));
    assert_eq!(client.next().await, None);
    assert_after(start, 7);
    until_empty(&host.io).await;

    // Whoever has joined one stays, also without it.
    let mut client = WebSocket::join(&host).await;
    client.send("41").await;
    assert_eq!(client.next().await.as_deref(), Some("2"), "a ping, long after");
}

#[tokio::test(start_paused = true)]
async fn h63_who_goes_before_joining_leaves_no_timer_behind() {
    let (host, _ended) = server(|b| b.connect_timeout(Duration::from_secs(100)));
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (before, start) = (tasks(), Instant::now());
    for _ in 0..10 {
        let polling = Polling::open(&host).await;
        assert_eq!(polling.post("1").await, http::StatusCode::OK);
        let mut client = WebSocket::open(&host, "").await.expect("a handshake");
        assert!(client.next().await.expect("the open packet").starts_with("0{"));
        client.close().await;
    }
    // Whatever would still wait for the time to be over is a task.
    until("nothing is left of them", || tasks() == before).await;
    assert!(start.elapsed() < Duration::from_secs(100), "it was not the time that ended them");
    assert_eq!(host.io.session_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_goes_with_its_session() {
    let (host, mut ended) = server(|builder| builder);
    let client = Polling::join(&host).await;
    let mut stream = host.connect().await;
    let head = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={} HTTP/1.1\r\nHost: localhost\r\n\
         Content-Length: 100\r\nConnection: close\r\n\r\n42",
        client.sid
    );
    stream.write_all(head.as_bytes()).await.expect("it is read");
    let start = Instant::now();
    // It comes so slowly that no pong can: another POST would be an overlap.
    let (reason, _) = ended.recv().await.expect("it ends");
    assert_eq!(reason, DisconnectReason::PingTimeout);
    assert_after(start, 25 + 20);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it is closed behind the answer");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn h19_an_upgrade_that_is_not_finished_in_time_leaves_the_polling_session_alone() {
    let (host, mut ended) = server(|builder| builder);
    let client = Polling::join(&host).await;
    let start = Instant::now();
    let mut probe = WebSocket::open(&host, &client.sid).await.expect("a handshake");
    probe.send("2probe").await;
    assert_eq!(probe.next().await.as_deref(), Some("3probe"));
    assert_eq!(probe.next().await, None, "closed by the server");
    assert_after(start, 10);

    only_socket(&host.io).emit("still", "here").expect("it is connected");
    assert_eq!(client.get().await.expect("200"), ["42[\"still\",\"here\"]"]);
    assert!(ended.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_is_waited_for_as_long_as_was_asked() {
    let (host, _ended) = server(|b| b.ack_timeout(Duration::from_secs(3)));
    let mut client = WebSocket::join(&host).await;
    let socket = only_socket(&host.io);

    let start = Instant::now();
    let short = socket.timeout(Duration::from_secs(1)).emit_with_ack::<u8>("ask", ());
    assert!(matches!(short.await, Err(AckError::Timeout)));
    assert_after(start, 1);
    let default = socket.emit_with_ack::<u8>("ask", ());
    assert!(matches!(default.await, Err(AckError::Timeout)));
    assert_after(start, 1 + 3);

    // The late answers are passed over; the next one counts.
    for id in [0, 1] {
        assert_eq!(client.next().await, Some(format!("42{id}[\"ask\"]")));
        client.send(&format!("43{id}[9]")).await;
    }
    let (answer, ()) = tokio::join!(socket.emit_with_ack::<u8>("ask", ()), async {
        assert_eq!(client.next().await.as_deref(), Some("422[\"ask\"]"));
        client.send("432[7]").await;
    });
    assert_eq!(answer.expect("in time"), 7);
}

#[tokio::test(start_paused = true)]
async fn h15_a_close_waits_for_a_get_for_the_close_timeout() {
    let (host, mut ended) = server(|builder| builder);
    let client = Polling::join(&host).await;
    let start = Instant::now();
    only_socket(&host.io).disconnect(true);
    let (reason, _) = ended.recv().await.expect("it ends");
    assert_eq!(reason, DisconnectReason::ServerNamespaceDisconnect);
    assert_eq!(start.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(client.get().await.expect("200"), ["41"]);
    assert_eq!(client.get().await.expect("200"), ["1"]);
    until_empty(&host.io).await;

    let _gone = Polling::join(&host).await;
    let start = Instant::now();
    only_socket(&host.io).disconnect(true);
    while host.io.session_count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_after(start, 30);
}
