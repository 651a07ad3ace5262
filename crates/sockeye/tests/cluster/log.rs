//! A bus with a log: offsets behind the arguments, and nothing delivered out of its order.

use std::time::Duration;

use serde_json::json;
use sockeye::cluster::{
    BroadcastOptions, ClusterBody, ClusterEvent, ClusterMessage, InProcessCluster, NodeId,
};
use sockeye::{AckError, Server};
use sockeye_cluster_kit::{Client, until};

use crate::buses::{Mode, Tapped, Wrapped};

#[tokio::test]
async fn what_is_logged_has_its_offset_and_its_place() {
    let cluster = InProcessCluster::new();
    let bus = Wrapped::with_log(&cluster);
    let io = Server::builder().cluster(bus.clone()).build();
    let mut client = Client::join(&io).await;
    io.emit("a", 1).expect("sent");
    io.broadcast().local().emit("local", 2).expect("sent");
    io.to("nobody").emit("not for us", ()).expect("sent");
    io.emit("b", ()).expect("sent");
    client.expect(json!(["a", 1, "1-0"])).await;
    client.expect(json!(["local", 2])).await;
    client.expect(json!(["b", "3-0"])).await;
    io.broadcast().volatile().emit("volatile", 3).expect("sent");
    client.expect(json!(["volatile", 3])).await;
    io.broadcast().conflate("key").emit("latest", 4).expect("sent");
    client.expect(json!(["latest", 4])).await;
    // Who is disconnected has heard what was emitted before; who joins, nothing of it.
    bus.set(Mode::Hang);
    io.emit("last", ()).expect("sent");
    io.broadcast().sockets_join("room");
    io.to("room").emit("in the room", ()).expect("sent");
    let limit = Duration::from_secs(600);
    let acks = io.to("room").timeout(limit).emit_with_ack::<u8>("ask", ()).expect("sent");
    let local = io.broadcast().local().timeout(limit).emit_with_ack::<u8>("local ask", ());
    let local = local.expect("sent");
    io.broadcast().disconnect_sockets(false);
    io.emit("too late", ()).expect("sent");
    bus.set(Mode::Work);
    client.expect(json!(["last", "6-0"])).await;
    client.expect(json!(["in the room", "7-0"])).await;
    let question = client.expect(json!(["ask"])).await;
    client.answer(&question, "[7]").await;
    client.expect(json!(["local ask"])).await;
    assert_eq!(client.next().await, None);
    let gone = local.collect().await.failures;
    assert!(matches!(gone[..], [(Some(_), AckError::Disconnected)]), "{gone:?}");
    let asked = acks.collect().await;
    assert_eq!(asked.answers.len() + asked.failures.len(), 1, "it was asked");
}

#[tokio::test]
async fn h74_without_the_log_it_is_delivered_without_an_offset() {
    let cluster = InProcessCluster::new();
    let bus = Wrapped::with_log(&cluster);
    let io = Server::builder().cluster_queue_bytes_max(700).cluster(bus.clone()).build();
    let mut client = Client::join(&io).await;
    bus.set(Mode::Fail);
    io.emit("failed", ()).expect("sent");
    client.expect(json!(["failed"])).await;
    until("it is counted", || io.cluster_health().is_some_and(|health| health.failed == 1)).await;
    bus.set(Mode::Hang);
    for number in 0..4 {
        io.emit("n", number).expect("sent");
    }
    for number in 0..3 {
        client.expect(json!(["n", number])).await;
    }
    bus.set(Mode::Work);
    client.expect(json!(["n", 3])).await;
}

#[tokio::test]
async fn what_another_node_has_logged_has_its_offset() {
    let cluster = InProcessCluster::new();
    let bus = Tapped::with_log(&cluster);
    let io = Server::builder().cluster(bus.clone()).build();
    let mut client = Client::join(&io).await;
    let node = bus.node();
    let message = |sender: &str, volatile| {
        let event = ClusterEvent::encode("/", "e", &7).expect("JSON");
        let mut options = BroadcastOptions::default();
        options.flags.volatile = volatile;
        let body = ClusterBody::Broadcast { event, options, request: None };
        ClusterMessage { sender: Some(NodeId::new(sender)), namespace: "/".into(), body }
    };
    node.receive_logged(message("another", false), Some("3-1"));
    client.expect(json!(["e", 7, "3-1"])).await;
    node.receive_logged(message(node.id().as_str(), false), Some("3-2"));
    node.receive_logged(message("another", true), Some("3-3"));
    client.expect(json!(["e", 7])).await;
}
