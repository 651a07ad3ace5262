//! A bus that fails, hangs or is full: this node's own sockets are reached all the same, what was
//! not published is told, and nobody waits in vain.

use std::time::Duration;

use serde_json::json;
use sockeye::cluster::{ClusterHealth, InProcessCluster};
use sockeye::{AckError, Server, ServerBuilder};
use sockeye_cluster_kit::{Client, until};

use crate::buses::{Mode, Wrapped};

const LONG: Duration = Duration::from_secs(600);

/// A node whose bus can be made to fail, and another.
async fn two(builder: ServerBuilder) -> (Wrapped, Server, Server) {
    let cluster = InProcessCluster::new();
    let bus = Wrapped::new(&cluster);
    let io = builder.cluster_request_timeout(LONG).cluster(bus.clone()).build();
    let other = Server::builder().cluster(cluster.bus()).build();
    (bus, io, other)
}

fn health(io: &Server) -> ClusterHealth {
    io.cluster_health().expect("it is in a cluster")
}

#[tokio::test]
async fn h74_a_bus_that_fails_keeps_nothing_from_this_nodes_sockets() {
    let (bus, io, other) = two(Server::builder()).await;
    let (mut here, mut there) = (Client::join(&io).await, Client::join(&other).await);
    bus.set(Mode::Fail);
    io.emit("lost", 1).expect("a bus that fails is no error of the emit");
    here.expect(json!(["lost", 1])).await;
    until("it is counted", || health(&io).failed == 1).await;
    bus.set(Mode::Work);
    io.emit("heard", 2).expect("sent");
    here.expect(json!(["heard", 2])).await;
    there.expect(json!(["heard", 2])).await;
    until("it is counted", || health(&io).published == 1).await;
    assert_eq!((health(&io).queue_bytes, health(&io).dropped), (0, 0));
    assert_eq!(health(&other).received, 1);
    assert_eq!(Server::default().cluster_health(), None);
}

#[tokio::test]
async fn h74_what_does_not_fit_the_queue_is_dropped_and_counted() {
    let (bus, io, other) = two(Server::builder().cluster_queue_bytes_max(2000)).await;
    let (mut here, mut there) = (Client::join(&io).await, Client::join(&other).await);
    bus.set(Mode::Hang);
    let large = "x".repeat(500);
    for number in 0..10 {
        io.emit("n", (number, &large)).expect("sent");
    }
    for number in 0..10 {
        here.expect(json!(["n", number, large])).await;
    }
    assert_eq!(health(&io).dropped, 8, "two of them fit");
    assert!(health(&io).queue_bytes <= 2000);
    bus.set(Mode::Work);
    for number in 0..2 {
        there.expect(json!(["n", number, large])).await;
    }
    until("all of it has left", || health(&io).queue_bytes == 0).await;
    io.emit("on", ()).expect("sent");
    there.expect(json!(["on"])).await;
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_does_not_wait() {
    let (bus, io, _other) = two(Server::builder()).await;
    let mut here = Client::join(&io).await;
    bus.set(Mode::Fail);
    let error = io.broadcast().fetch_sockets().await.expect_err("nobody was asked");
    assert_eq!((error.answers.len(), error.missing), (1, 1));
    assert!(io.server_side_emit_with_ack::<u8>("ask", ()).await.is_err());
    assert!(io.node_count().await.is_err());
    let acks = io.broadcast().timeout(LONG).emit_with_ack::<u8>("ask", ()).expect("sent");
    let event = here.expect(json!(["ask"])).await;
    here.answer(&event, "[1]").await;
    let all = acks.collect().await;
    assert_eq!(all.answers.len(), 1);
    let failures: Vec<_> = all.failures.iter().map(|(_, error)| error).collect();
    assert!(matches!(failures[..], [AckError::Node]), "{failures:?}");
    assert_eq!(health(&io).requests, 0);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_hangs_is_given_up() {
    let builder = Server::builder().cluster_publish_timeout(Duration::from_secs(3));
    let (bus, io, other) = two(builder).await;
    let mut there = Client::join(&other).await;
    bus.set(Mode::Hang);
    io.emit("lost", ()).expect("sent");
    until("it is counted", || health(&io).failed == 1).await;
    bus.set(Mode::Work);
    io.emit("on", ()).expect("sent");
    there.expect(json!(["on"])).await;
}

#[tokio::test]
async fn a_server_that_goes_leaves_its_cluster() {
    let cluster = InProcessCluster::new();
    let (io, other) = (
        Server::builder().cluster(cluster.bus()).build(),
        Server::builder().cluster(cluster.bus()).build(),
    );
    assert_eq!(other.node_count().await.expect("counted"), 2);
    assert!(io.shutdown(LONG).await);
    assert_eq!((cluster.node_count(), other.node_count().await.expect("counted")), (1, 1));
    io.emit("to nobody", ()).expect("it is no error");
    assert_eq!(health(&io).dropped, 1);
    drop(other);
    until("it is gone without a word", || cluster.node_count() == 0).await;
}

#[tokio::test]
async fn nothing_is_asked_for_that_nobody_waits_for() {
    let (_bus, io, _other) = two(Server::builder()).await;
    let _here = Client::join(&io).await;
    drop(io.broadcast().timeout(LONG).emit_with_ack::<u8>("ask", ()).expect("sent"));
    assert_eq!(health(&io).requests, 0);
}

/// It has been asked all the same: who is to answer is known.
#[tokio::test(start_paused = true)]
async fn a_request_outlives_a_bus_that_cannot_count_for_a_while() {
    let (bus, io, other) = two(Server::builder()).await;
    let mut there = Client::join(&other).await;
    let acks = io.broadcast().timeout(LONG).emit_with_ack::<u8>("ask", ()).expect("sent");
    let event = there.expect(json!(["ask"])).await;
    bus.set(Mode::Fail);
    tokio::time::sleep(Duration::from_secs(5)).await;
    bus.set(Mode::Work);
    there.answer(&event, "[1]").await;
    let all = acks.collect().await;
    assert_eq!((all.answers.len(), all.failures.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_nodes_are_counted_again_once_for_all_requests() {
    let (bus, io, other) = two(Server::builder()).await;
    let _there = Client::join(&other).await;
    let asking = || io.broadcast().timeout(LONG).emit_with_ack::<u8>("ask", ()).expect("sent");
    let _all: Vec<_> = std::iter::repeat_with(asking).take(100).collect();
    until("each has been counted for", || bus.counted() >= 100).await;
    let (before, seconds) = (bus.counted(), 5);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let again = bus.counted() - before;
    assert!((4..20).contains(&again), "{again} times in {seconds} s");
}
