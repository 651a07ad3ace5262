//! `conflate`: a slow client gets the latest of each key, whatever carries it.
//! FEATURES B4 (`volatile`: what socketioxide's conflates), I3 11.

use std::time::Duration;

use sockeye::{OutboxPolicy, Server};

use crate::support::{Host, Polling, WebSocket, only_socket};

fn price(number: u32) -> String {
    format!("42[\"price\",{number}]")
}

#[tokio::test(start_paused = true)]
async fn the_latest_of_a_key_waits_in_its_place() {
    let host = Host::in_memory(Server::default());
    let polling = Polling::join(&host).await;
    let socket = only_socket(&host.io);
    for number in 0..1000 {
        socket.conflate("a").emit("price", number).expect("it is connected");
        socket.conflate("b").emit("price", number + 5000).expect("it is connected");
        if number == 500 {
            socket.emit("news", ()).expect("it is connected");
            socket
                .timeout(Duration::from_secs(1))
                .conflate("c")
                .send("c")
                .expect("it is connected");
        }
    }
    let expected = [&price(999), &price(5999), "42[\"news\"]", "42[\"message\",\"c\"]"];
    assert_eq!(polling.get().await.expect("200"), expected);
    // Nothing waits: the next ones are the first of their keys again.
    socket.conflate("b").emit("price", 1).expect("it is connected");
    socket.conflate("a").emit("price", 2).expect("it is connected");
    assert_eq!(polling.get().await.expect("200"), [price(1), price(2)]);
}

#[tokio::test(start_paused = true)]
async fn keys_are_each_namespaces_and_each_sockets() {
    let io = Server::default();
    io.of("/chat");
    let host = Host::in_memory(io.clone());
    let (first, second) = (Polling::join(&host).await, Polling::join(&host).await);
    first.post("40/chat,").await;
    assert!(first.get().await.expect("200")[0].starts_with("40/chat,"));
    for number in [1, 2, 3] {
        io.broadcast().conflate("k").emit("price", number).expect("encoded");
        io.of("/chat").broadcast().conflate("k").emit("price", number).expect("encoded");
    }
    let one = only_socket_of(&io, "/chat");
    one.conflate("k").emit("price", 4).expect("it is connected");
    assert_eq!(first.get().await.expect("200"), [price(3), "42/chat,[\"price\",4]".into()]);
    assert_eq!(second.get().await.expect("200"), [price(3)]);
}

fn only_socket_of(io: &Server, namespace: &str) -> sockeye::Socket {
    let mut sockets = io.of(namespace).sockets();
    assert_eq!(sockets.len(), 1);
    sockets.remove(0)
}

/// A feed of twenty keys to clients that do not read, many times what an outbox may hold; then
/// they read on.
async fn slow_clients(host: Host) {
    const KEYS: u32 = 20;
    let fill = "x".repeat(1000);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(WebSocket::join(&host).await);
    }
    let sockets = host.io.of("/").sockets();
    sockets[0].emit("mark", "first").expect("it is connected");
    for round in 0..500 {
        for key in 0..KEYS {
            let feed = host.io.broadcast().conflate(format!("key {key}"));
            feed.emit("feed", (key, round, &fill)).expect("encoded");
        }
        tokio::task::yield_now().await;
    }
    host.io.emit("end", ()).expect("encoded");
    for client in &mut clients {
        let mut latest = vec![-1_i64; KEYS as usize];
        let mut count = 0;
        loop {
            let packet = client.next().await.expect("it was not disconnected");
            if packet == "42[\"end\"]" {
                break;
            }
            let event: serde_json::Value = serde_json::from_str(&packet[2..]).expect("JSON");
            let Some(key) = event[1].as_u64() else { continue };
            let round = event[2].as_i64().expect("a number");
            let before = std::mem::replace(&mut latest[key as usize], round);
            assert!(before < round, "the rounds of a key come in order: {before}, {round}");
            count += 1;
        }
        // What was emitted behind the latest comes behind it.
        assert_eq!(latest, vec![499; KEYS as usize]);
        assert!(count < 500 * KEYS, "a slow client gets fewer: {count}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_clients_over_foreign_streams_get_the_latest_and_are_not_disconnected() {
    let io = Server::builder().outbox_bytes_max(100_000).build();
    slow_clients(Host::in_memory(io)).await;
}

#[tokio::test]
async fn slow_clients_over_tcp_get_the_latest_and_are_not_disconnected() {
    let policy = OutboxPolicy::Disconnect;
    let io = Server::builder().outbox_bytes_max(100_000).outbox_policy(policy).build();
    slow_clients(Host::on_loopback(io).await).await;
}
