//! Clients that send faster than they may, or than their handlers go: they are held back, lose
//! nothing, and nobody is disconnected.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use sockeye::{Data, DisconnectReason, Server, ServerBuilder};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::support::{Host, Polling, WebSocket, until, until_empty};

/// Numbers that came, and when.
type Handled = Arc<Mutex<Vec<(usize, Instant)>>>;

fn recording(builder: ServerBuilder) -> (Host, Handled) {
    let io = builder.build();
    let handled = Handled::default();
    let into = handled.clone();
    io.on("n", move |Data(number): Data<usize>| {
        into.lock().expect("no holder panics").push((number, Instant::now()));
        std::future::ready(())
    });
    io.on_disconnect(async |reason: DisconnectReason| {
        assert_eq!(reason, DisconnectReason::TransportClose);
    });
    (Host::in_memory(io), handled)
}

fn count(handled: &Handled) -> usize {
    handled.lock().expect("no holder panics").len()
}

/// That numbers from 0 came in order, and after each whole second at most `most` of them.
fn assert_held_back(handled: &Handled, start: Instant, most: impl Fn(u64) -> usize) {
    let handled = handled.lock().expect("no holder panics").clone();
    let numbers: Vec<_> = handled.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    for second in 0..10 {
        let until = start + Duration::from_secs(second);
        let came = handled.iter().filter(|(_, at)| *at <= until).count();
        assert!(came <= most(second), "{came} after {second} s");
    }
}

#[tokio::test(start_paused = true)]
async fn packets_beyond_the_rate_are_read_later() {
    let (host, handled) = recording(Server::builder().packets_per_second_max(10));
    let mut client = WebSocket::join(&host).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let start = Instant::now();
    let sent = tokio::spawn(async move {
        for number in 0..60 {
            client.send(&format!("42[\"n\",{number}]")).await;
        }
        client
    });
    until("all are handled", || count(&handled) == 60).await;
    // A burst, what came in one read with its last, and then ten a second.
    let read = 192 / 14 + 1;
    assert_held_back(&handled, start, |second| 10 + read + 10 * second as usize);
    let passed = start.elapsed().as_millis();
    assert!((3500..5500).contains(&passed), "60 packets took {passed} ms");
    // It is served as before.
    let mut client = sent.await.expect("it was never cut off");
    tokio::time::sleep(Duration::from_secs(2)).await;
    client.send("42[\"n\",60]").await;
    until("one more", || count(&handled) == 61).await;
    drop(client);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn bytes_beyond_the_rate_are_read_later() {
    let (host, handled) = recording(Server::builder().bytes_per_second_max(10_000));
    let mut client = WebSocket::join(&host).await;
    let start = Instant::now();
    let sent = tokio::spawn(async move {
        for number in 0..50 {
            client.send(&format!("42[\"n\",{number},\"{}\"]", "x".repeat(985))).await;
        }
        client
    });
    until("all are handled", || count(&handled) == 50).await;
    assert_held_back(&handled, start, |second| 11 + 10 * second as usize);
    drop(sent.await.expect("it was never cut off"));
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn a_post_beyond_the_rate_is_answered_later_and_another_before_is_an_overlap() {
    let io = Server::builder().packets_per_second_max(10).build();
    let host = Host::in_memory(io);
    let client = Polling::join(&host).await;
    let packets: Vec<_> = (0..60).map(|number| format!("42[\"n\",{number}]")).collect();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let start = Instant::now();
    assert_eq!(client.post_all(&packets).await, StatusCode::OK);
    let passed = start.elapsed().as_millis();
    assert!((5000..5100).contains(&passed), "60 packets took {passed} ms");
    assert_eq!(client.post("42[\"n\"]").await, StatusCode::OK);

    let held = tokio::spawn({
        let (client, packets) = (client.clone(), packets.clone());
        async move { client.post_all(&packets).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!held.is_finished());
    assert_eq!(client.post("42[\"n\"]").await, StatusCode::BAD_REQUEST);
    assert_eq!(held.await.expect("it is answered"), StatusCode::BAD_REQUEST);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_many_reads_bring_is_counted_once() {
    let (host, handled) = recording(Server::builder().bytes_per_second_max(100_000));
    let mut client = WebSocket::join(&host).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let start = Instant::now();
    // Less than a burst in all, and the second ends in a read of its own.
    for (number, len) in [(0, 90_000), (1, 1000)] {
        client.send(&format!("42[\"n\",{number},\"{}\"]", "x".repeat(len))).await;
    }
    until("both are handled", || count(&handled) == 2).await;
    let handled = handled.lock().expect("no holder panics").clone();
    assert_eq!(handled, [(0, start), (1, start)]);
}

#[tokio::test(start_paused = true)]
async fn posts_do_not_pile_up_behind_a_slow_handler() {
    let io = Server::builder().events_waiting_max(2).build();
    let gate = Arc::new(Semaphore::new(0));
    let pass = gate.clone();
    io.on("n", move || {
        let pass = pass.clone();
        async move { pass.acquire().await.expect("it is never closed").forget() }
    });
    let host = Host::in_memory(io);
    let packets: Vec<_> = (0..5).map(|_| "42[\"n\"]".to_owned()).collect();
    let hold = |client: &Polling| {
        let (client, packets) = (client.clone(), packets.clone());
        tokio::spawn(async move { client.post_all(&packets).await })
    };

    let client = Polling::join(&host).await;
    let held = hold(&client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!held.is_finished(), "events wait");
    gate.add_permits(5);
    assert_eq!(held.await.expect("it is answered"), StatusCode::OK);

    let held = hold(&client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(client.post("42[\"n\"]").await, StatusCode::BAD_REQUEST, "an overlap");
    assert_eq!(held.await.expect("it is answered"), StatusCode::BAD_REQUEST);
    assert_eq!(host.io.session_count(), 0);
}
