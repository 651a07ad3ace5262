//! Each limit: what happens at it, and that others notice nothing.

use std::time::Duration;

use http::StatusCode;
use sockeye::{DisconnectReason, EmitError, HandlerError, OutboxPolicy, Server, State};
use tokio::sync::mpsc;

use crate::support::{Host, Polling, WebSocket, only_socket, until_empty};

type Ends = mpsc::UnboundedSender<DisconnectReason>;

/// A server whose outboxes hold 64 KiB, and its disconnections.
fn with_policy(policy: OutboxPolicy) -> (Host, mpsc::UnboundedReceiver<DisconnectReason>) {
    let (ends, ended) = mpsc::unbounded_channel();
    let builder = Server::builder().outbox_bytes_max(65_536).outbox_policy(policy);
    let io = builder.state(ends).build();
    io.on_disconnect(async |State(ends): State<Ends>, reason| {
        ends.send(reason).expect("the test waits");
    });
    (Host::in_memory(io), ended)
}

/// Emits 1 KiB at a time, each in a turn of its own, to a client that does not read.
async fn emit(host: &Host, numbers: std::ops::Range<u32>) -> Vec<Result<(), EmitError>> {
    let socket = only_socket(&host.io);
    let mut results = Vec::new();
    for number in numbers {
        results.push(socket.emit("n", (number, "x".repeat(1024))));
        tokio::task::yield_now().await;
    }
    results
}

fn number(packet: &str) -> u32 {
    let number = packet.strip_prefix("42[\"n\",").and_then(|rest| rest.split(',').next());
    number.and_then(|number| number.parse().ok()).expect("a numbered event")
}

#[tokio::test(start_paused = true)]
async fn disconnect_a_client_that_reads_too_slowly_is_closed() {
    let (host, mut ended) = with_policy(OutboxPolicy::Disconnect);
    let mut slow = WebSocket::join(&host).await;
    let results = emit(&host, 0..100).await;
    assert!(results[..50].iter().all(Result::is_ok));
    assert!(matches!(results[99], Err(EmitError::Disconnected)));
    assert_eq!(ended.recv().await, Some(DisconnectReason::ForcedClose));
    // What it still gets is the beginning, in order, and then the end.
    let mut next = 0;
    while let Some(packet) = slow.next().await {
        assert_eq!(number(&packet), next);
        next += 1;
    }
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn refuse_the_emitter_is_told_and_can_wait() {
    let (host, mut ended) = with_policy(OutboxPolicy::Refuse);
    let mut client = WebSocket::join(&host).await;
    let results = emit(&host, 0..100).await;
    let taken = results.iter().filter(|result| result.is_ok()).count() as u32;
    assert!((52..62).contains(&taken), "{taken}");
    assert!(matches!(results[99], Err(EmitError::OutboxFull)));

    let socket = only_socket(&host.io);
    let mut drained = tokio::spawn(async move { socket.drained().await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!drained.is_finished());
    for expected in 0..taken {
        assert_eq!(number(&client.next().await.expect("a packet")), expected);
    }
    (&mut drained).await.expect("it waited");
    assert!(emit(&host, 100..101).await[0].is_ok());
    assert_eq!(number(&client.next().await.expect("a packet")), 100);
    assert!(ended.try_recv().is_err(), "nobody is disconnected");
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_the_newest_arrive_in_order() {
    let (host, mut ended) = with_policy(OutboxPolicy::DropOldest);
    for client in [true, false] {
        let polling = Polling::join(&host).await;
        assert!(emit(&host, 0..200).await.iter().all(Result::is_ok));
        let mut numbers: Vec<u32> = Vec::new();
        if client {
            numbers.extend(polling.get().await.expect("200").iter().map(|p| number(p)));
        } else {
            // The same after an upgrade: what waits goes on by the new way.
            let mut websocket = WebSocket::open(&host, &polling.sid).await.expect("a handshake");
            websocket.send("2probe").await;
            assert_eq!(websocket.next().await.as_deref(), Some("3probe"));
            websocket.send("5").await;
            while numbers.last() != Some(&199) {
                numbers.push(number(&websocket.next().await.expect("a packet")));
            }
            drop(websocket);
            assert_eq!(ended.recv().await, Some(DisconnectReason::TransportClose));
            continue;
        }
        assert!((55..65).contains(&numbers.len()), "{}", numbers.len());
        let first = 200 - numbers.len() as u32;
        assert_eq!(numbers, (first..200).collect::<Vec<_>>());
        only_socket(&host.io).disconnect(true);
        assert_eq!(ended.recv().await, Some(DisconnectReason::ServerNamespaceDisconnect));
        while polling.get().await.is_ok() {}
        until_empty(&host.io).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_delays_no_other() {
    let (host, _ended) = with_policy(OutboxPolicy::DropOldest);
    let _slow = WebSocket::join(&host).await;
    let mut quick = WebSocket::join(&host).await;
    for number in 0..500 {
        host.io.emit("all", (number, "x".repeat(1024))).expect("encoded");
        let packet = quick.next().await.expect("a packet");
        assert!(packet.starts_with(&format!("42[\"all\",{number},")));
    }
}

#[tokio::test(start_paused = true)]
async fn one_session_too_many_is_answered_503() {
    let host = Host::in_memory(Server::builder().connections_max(2).build());
    let first = Polling::join(&host).await;
    let second = WebSocket::join(&host).await;
    assert_eq!(WebSocket::open(&host, "").await.err().as_deref(), Some("503"));
    // The sessions there are may upgrade, and when one goes there is room again.
    assert!(WebSocket::open(&host, &first.sid).await.is_ok());
    drop(second);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(WebSocket::open(&host, "").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_room_too_many_is_refused() {
    let host = Host::in_memory(Server::builder().rooms_max(2).build());
    let _client = WebSocket::join(&host).await;
    let socket = only_socket(&host.io);
    assert!(socket.join(["a", "b"]));
    assert!(socket.join("a"), "it is in that one");
    assert!(!socket.join("c"));
    assert_eq!(host.io.of("/").room_count(), 2);
    socket.leave("a");
    assert!(socket.join("c"));
}

#[tokio::test(start_paused = true)]
async fn one_namespace_too_many_closes_the_connection() {
    let io = Server::builder().namespaces_max(2).build();
    ["/a", "/b", "/c"].iter().for_each(|name| drop(io.of(name)));
    let host = Host::in_memory(io);
    let mut client = WebSocket::open(&host, "").await.expect("a handshake");
    client.next().await.expect("the open packet");
    for name in ["/a", "/b"] {
        client.send(&format!("40{name},")).await;
        assert!(client.next().await.expect("CONNECT").starts_with(&format!("40{name},")));
    }
    client.send("40/c,").await;
    assert_eq!(client.next().await, None);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn json_that_nests_too_deep_closes_the_connection() {
    for (depth_max, depth, fits) in [(None, 100, true), (None, 101, false), (Some(5), 6, false)] {
        let builder = Server::builder();
        let builder = match depth_max {
            Some(max) => builder.json_depth_max(max),
            None => builder,
        };
        let io = builder.build();
        io.on("e", async |sockeye::RawArgs(_): sockeye::RawArgs| {});
        let host = Host::in_memory(io);
        let mut client = WebSocket::join(&host).await;
        let inner = depth - 1;
        client.send(&format!("421[\"e\",{}{}]", "[".repeat(inner), "]".repeat(inner))).await;
        let expected = fits.then(|| "431[]".to_owned());
        assert_eq!(client.next().await, expected, "{depth} with {depth_max:?}");
        drop(client);
        until_empty(&host.io).await;
    }
}

#[tokio::test(start_paused = true)]
async fn h08_a_post_too_long_is_answered_413_and_the_session_goes_on() {
    let host = Host::in_memory(Server::builder().max_http_buffer_size(1000).build());
    let client = Polling::join(&host).await;
    assert_eq!(client.post(&format!("4{}", "x".repeat(1000))).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(client.post("42[\"small\"]").await, StatusCode::OK);

    let mut websocket = WebSocket::join(&host).await;
    websocket.send(&format!("4{}", "x".repeat(1000))).await;
    assert_eq!(websocket.next().await, None);
}

/// An event of so many bytes, not of so many characters.
fn event_of(len: usize) -> String {
    let around = "42[\"n\",\"\"]".len();
    let odd = if (len - around) % 2 == 1 { "x" } else { "" };
    format!("42[\"n\",\"{odd}{}\"]", "é".repeat((len - around) / 2))
}

#[tokio::test]
async fn a_payload_may_be_exactly_as_long_as_the_limit_over_each_transport() {
    const MAX: usize = 70_001;
    let io = Server::builder().max_http_buffer_size(MAX).build();
    io.on("n", async || Ok::<_, HandlerError>("heard"));
    for host in [Host::in_memory(io.clone()), Host::on_loopback(io).await] {
        let polling = Polling::join(&host).await;
        let two = [event_of(MAX - 101), event_of(100)];
        assert_eq!(two[0].len() + 1 + two[1].len(), MAX);
        assert_eq!(polling.post(&event_of(MAX)).await, StatusCode::OK);
        assert_eq!(polling.post_all(&two).await, StatusCode::OK);
        assert_eq!(polling.post(&event_of(MAX + 1)).await, StatusCode::PAYLOAD_TOO_LARGE);
        drop(polling);

        let mut client = WebSocket::join(&host).await;
        client.send(&event_of(MAX)).await;
        client.send("421[\"n\"]").await;
        assert_eq!(client.next().await.as_deref(), Some("431[\"heard\"]"));
        client.send(&event_of(MAX + 1)).await;
        assert_eq!(client.next().await, None);
        assert_eq!(client.close_code(), Some(1009));
    }
}
