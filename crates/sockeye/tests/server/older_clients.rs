//! Clients of Engine.IO 3 and Socket.IO 2, beside those of now. `conformance/` has the official one
//! and its payloads; here is what needs a clock, a count or another client. FEATURES A6.

use std::time::Duration;

use ::http::StatusCode;
use sockeye::{
    Binary, ConnectError, DisconnectReason, PerMessageDeflate, Server, State, Transport,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::support::{Host, WebSocket, http, only_socket, until, until_empty};

const OPEN: &str = "EIO=3&transport=polling";

fn allowing() -> sockeye::ServerBuilder {
    Server::builder().allow_eio3(true)
}

/// A client over WebSocket that is in `/` already.
async fn join(host: &Host) -> WebSocket {
    let mut client = WebSocket::open_with(host, "&EIO=3", &[]).await.expect("a 101");
    assert!(client.next().await.expect("the open packet").starts_with("0{"));
    assert_eq!(client.next().await.as_deref(), Some("40"));
    client
}

#[tokio::test(start_paused = true)]
async fn h04_they_are_refused_unless_they_are_allowed() {
    let answer = http::get(&Host::in_memory(Server::default()), OPEN, &[]).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(http::text(&answer).starts_with("{\"code\":5,"), "{answer:?}");
    let answer = http::get(&Host::in_memory(allowing().build()), OPEN, &[]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let (length, packets) = http::text(&answer).split_once(':').expect("a length");
    let end = length.parse().expect("a number");
    assert!(packets.starts_with("0{\"sid\":") && &packets[end..] == "2:40", "{packets}");
}

#[tokio::test(start_paused = true)]
async fn one_that_sends_no_ping_is_given_up_and_one_that_does_stays() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let io = allowing().state(ends).build();
    type Ends = mpsc::UnboundedSender<DisconnectReason>;
    io.on_disconnect(async |State(ends): State<Ends>, reason| {
        ends.send(reason).expect("the test waits");
    });
    let host = Host::in_memory(io);
    let start = Instant::now();
    let mut lively = join(&host).await;
    let _silent = join(&host).await;
    let lively = tokio::spawn(async move {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(25)).await;
            lively.send("2").await;
            assert_eq!(lively.next().await.as_deref(), Some("3"));
        }
        lively
    });
    assert_eq!(ended.recv().await, Some(DisconnectReason::PingTimeout));
    assert_eq!(start.elapsed().as_secs(), 45);
    let mut lively = lively.await.expect("it does not panic");
    assert_eq!(start.elapsed().as_secs(), 100);
    lively.close().await;
    assert_eq!(ended.recv().await, Some(DisconnectReason::TransportClose));
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_reaches_clients_of_both_revisions() {
    let options = Some(PerMessageDeflate::default());
    let host = Host::in_memory(allowing().per_message_deflate(options).build());
    let mut newer = WebSocket::join(&host).await;
    let offer = PerMessageDeflate::default();
    let mut older = WebSocket::open_deflated(&host, "&EIO=3", offer).await.expect("a 101");
    assert!(older.next().await.expect("the open packet").starts_with("0{"));
    assert_eq!(older.next().await.as_deref(), Some("40"));
    for client in [&mut newer, &mut older] {
        client.bytes = 0;
    }
    let text = "x".repeat(5000);
    host.io.emit("news", (&text, Binary::from(vec![7; 2000]))).expect("encoded");
    host.io.emit("end", ()).expect("encoded");
    let event = format!("451-[\"news\",\"{text}\",{{\"_placeholder\":true,\"num\":0}}]");
    for client in [&mut newer, &mut older] {
        assert_eq!(client.next().await.as_ref(), Some(&event));
        assert_eq!(client.next().await.as_deref(), Some("42[\"end\"]"));
    }
    assert_eq!((&newer.attachments[..], &older.attachments[..]), (&[2000][..], &[2001][..]));
    // One is not compressed; to the other the form goes that all of its revision share.
    assert!(newer.bytes > 7000 && older.bytes < 200, "{} and {}", newer.bytes, older.bytes);
}

#[tokio::test(start_paused = true)]
async fn whom_a_middleware_refuses_stays_connected_and_may_ask_elsewhere() {
    let io = allowing().build();
    io.middleware(async || Err::<(), _>(ConnectError::from("not here")));
    io.of("/open");
    let host = Host::in_memory(io);
    let mut client = WebSocket::open_with(&host, "&EIO=3", &[]).await.expect("a 101");
    assert!(client.next().await.expect("the open packet").starts_with("0{"));
    assert_eq!(client.next().await.as_deref(), Some("44\"not here\""));
    client.send("40/open?token=1,").await;
    assert_eq!(client.next().await.as_deref(), Some("40/open,"));
    until("it is in", || host.io.of("/open").socket_count() == 1).await;
    let socket = host.io.of("/open").sockets().remove(0);
    assert_eq!(socket.transport(), Transport::WebSocket);
    let auth: serde_json::Value = socket.auth().expect("JSON");
    assert_eq!(auth, serde_json::json!({ "token": "1" }));
}

#[tokio::test(start_paused = true)]
async fn one_that_joins_nothing_more_is_not_given_up_for_that() {
    let io = allowing().connect_timeout(Duration::from_secs(5)).build();
    let host = Host::in_memory(io);
    let mut client = join(&host).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let socket = only_socket(&host.io);
    socket.emit("still", "here").expect("it is connected");
    assert_eq!(client.next().await.as_deref(), Some("42[\"still\",\"here\"]"));
}
