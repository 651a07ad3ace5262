//! The end of the server: who is told what, what still arrives, and how long it waits.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sockeye::{DisconnectReason, Server, Socket};
use tokio::time::Instant;

use crate::support::{Host, Polling, WebSocket, only_socket, until_empty};

#[tokio::test(start_paused = true)]
async fn clients_get_what_waits_and_handlers_finish() {
    let io = Server::default();
    let ends = Arc::new(Mutex::new(Vec::new()));
    let into = ends.clone();
    io.on("slow", async |socket: Socket| {
        tokio::time::sleep(Duration::from_secs(5)).await;
        socket.data().insert(true);
    });
    io.on_disconnect(move |socket: Socket, reason: DisconnectReason| {
        let finished = socket.data().get::<bool>().unwrap_or(false);
        into.lock().expect("no holder panics").push((reason, finished));
        std::future::ready(())
    });
    let host = Host::in_memory(io.clone());
    let mut websocket = WebSocket::join(&host).await;
    websocket.send("42[\"slow\"]").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    only_socket(&io).emit("last", "words").expect("it is connected");
    let polling = Polling::join(&host).await;

    let start = Instant::now();
    let down = tokio::spawn(async move { io.shutdown(Duration::from_secs(20)).await });
    assert_eq!(websocket.next().await.as_deref(), Some("42[\"last\",\"words\"]"));
    assert_eq!(websocket.next().await, None, "no DISCONNECT: the transport closes");
    assert_eq!(polling.get().await.expect("200"), ["1"]);
    assert!(down.await.expect("it does not panic"), "all sessions ended");
    assert!(start.elapsed() < Duration::from_secs(20));
    until_empty(&host.io).await;
    let mut ends = ends.lock().expect("no holder panics").clone();
    ends.sort_by_key(|(_, finished)| *finished);
    let reason = DisconnectReason::ServerShuttingDown;
    assert_eq!(ends, [(reason, false), (reason, true)]);
}

#[tokio::test(start_paused = true)]
async fn nobody_new_is_let_in_and_those_who_do_not_go_are_not_waited_for_longer() {
    let host = Host::in_memory(Server::default());
    // It has no GET open and never makes one.
    let _stuck = Polling::join(&host).await;
    let start = Instant::now();
    let io = host.io.clone();
    let down = tokio::spawn(async move { io.shutdown(Duration::from_secs(5)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(WebSocket::open(&host, "").await.err().as_deref(), Some("503"));
    assert!(!down.await.expect("it does not panic"), "one session had not ended");
    assert_eq!(start.elapsed().as_secs(), 5);
    // Its own deadline still ends it.
    assert!(host.io.shutdown(Duration::from_secs(60)).await);
    until_empty(&host.io).await;
}

/// How many of `clients` have been told that it is over.
async fn ended(clients: &mut [WebSocket]) -> usize {
    let mut ended = 0;
    for client in clients {
        let told = tokio::time::timeout(Duration::ZERO, client.next()).await;
        ended += usize::from(told == Ok(None));
    }
    ended
}

#[tokio::test(start_paused = true)]
async fn draining_closes_sessions_little_by_little_and_lets_nobody_new_in() {
    let io = Server::default();
    io.on("echo", async || {});
    let host = Host::in_memory(io);
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(WebSocket::join(&host).await);
    }
    assert!(!host.io.is_draining());
    let io = host.io.clone();
    let drained =
        tokio::spawn(
            async move { io.drain(Duration::from_secs(20), Duration::from_secs(5)).await },
        );
    let mut counts = Vec::new();
    for second in 1..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(host.io.is_draining());
        assert_eq!(WebSocket::open(&host, "").await.err().as_deref(), Some("503"));
        let expected = 5 * second;
        let count = ended(&mut clients).await;
        assert!((expected - 5..=expected + 5).contains(&count), "{count} after {second} s");
        counts.push(count);
    }
    counts.dedup();
    assert!(counts.len() > 15, "the batches are small: {counts:?}");
    // Those that are left are served as before.
    let left = clients.iter_mut().find(|client| !client.has_ended()).expect("one is left");
    left.send("421[\"echo\"]").await;
    assert_eq!(left.next().await.as_deref(), Some("431[]"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ended(&mut clients).await, 100);
    assert!(drained.await.expect("it does not panic"), "all is done");
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_under_way_when_draining_begins_does_not_stay() {
    let io = Server::builder()
        .allow_request(async |_: http::request::Parts| {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok::<_, String>(())
        })
        .build();
    let host = Host::in_memory(io.clone());
    let late = tokio::spawn({
        let host = host.clone();
        async move { WebSocket::open(&host, "").await.expect("it was let in before") }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!io.drain(Duration::ZERO, Duration::from_secs(1)).await, "one is on its way");
    let drained = tokio::spawn({
        let io = io.clone();
        async move { io.drain(Duration::ZERO, Duration::from_secs(9)).await }
    });
    let mut late = late.await.expect("it does not panic");
    let open = late.next().await.expect("the open packet");
    assert!(open.starts_with("0{"), "{open}");
    assert_eq!(late.next().await, None);
    assert!(drained.await.expect("it does not panic"), "all is done");
    until_empty(&io).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_dropped_goes_on_when_called_again() {
    let host = Host::in_memory(Server::default());
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(WebSocket::join(&host).await);
    }
    let drain = host.io.drain(Duration::from_secs(20), Duration::from_secs(5));
    assert!(tokio::time::timeout(Duration::from_secs(10), drain).await.is_err());
    let count = ended(&mut clients).await;
    assert!((8..=12).contains(&count), "{count}");
    let io = host.io.clone();
    let drained =
        tokio::spawn(async move { io.drain(Duration::from_secs(2), Duration::from_secs(5)).await });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ended(&mut clients).await, 20);
    assert!(drained.await.expect("it does not panic"), "all is done");
}
