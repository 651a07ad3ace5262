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
