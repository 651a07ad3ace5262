//! A process without sockets speaks to all nodes of a cluster.

use std::time::Duration;

use serde_json::json;
use sockeye::cluster::ClusterBus;
use sockeye::{Binary, Server};
use sockeye_cluster_kit::{Client, until};
use sockeye_redis::{ClassicBus, EmitterError, Redis, RedisEmitter, StreamsBus, StreamsOptions};

use crate::nodes::RedisCluster;
use crate::server::{Proxy, RedisServer};

async fn check<B: ClusterBus>(make: impl Fn(Redis) -> B, emitter: impl Fn(Redis) -> RedisEmitter) {
    let server = RedisServer::start().await;
    let redis = Redis::open(&server.url()).expect("a URL");
    let nodes = [(); 2].map(|()| Server::builder().cluster(make(redis.clone())).build());
    let is_deaf = |io: &Server| io.cluster_health().expect("it is in a cluster").is_deaf;
    until("both hear", || !nodes.iter().any(is_deaf)).await;
    let emitter = emitter(redis);
    let mut clients = [Client::join(&nodes[0]).await, Client::join(&nodes[1]).await];
    let socket = nodes[1].of("/").socket(&clients[1].id()).expect("it is connected");
    socket.join("room");

    emitter.emit("all", ("x", Binary::from(vec![1, 2]))).await.expect("sent");
    for client in &mut clients {
        let event = client.next().await.expect("an event");
        assert_eq!(event.list[1], "x");
    }
    emitter.to("room").emit("room", 1).await.expect("sent");
    emitter.except("room").volatile().compress(false).emit("others", 2).await.expect("sent");
    clients[1].expect(json!(["room", 1])).await;
    clients[0].expect(json!(["others", 2])).await;
    emitter.of("other").emit("nobody", ()).await.expect("sent");

    emitter.to("room").sockets_join(["a", "b"]).await.expect("sent");
    until("it has joined", || socket.is_in("a") && socket.is_in("b")).await;
    emitter.to("a").sockets_leave("room").await.expect("sent");
    until("it has left", || !socket.is_in("room")).await;
    emitter.to("b").disconnect_sockets(true).await.expect("sent");
    assert_eq!(clients[1].next().await, None);
    assert!(matches!(emitter.emit("connect", ()).await, Err(EmitterError::Encode(_))));
    drop(server);
    assert!(matches!(emitter.emit("late", ()).await, Err(EmitterError::Redis(_))));
}

#[tokio::test]
async fn servers_with_the_classic_adapter_are_reached() {
    check(ClassicBus::new, |redis| RedisEmitter::classic(redis, "socket.io")).await;
}

#[tokio::test]
async fn servers_with_the_streams_adapter_are_reached() {
    let emitter = |redis| RedisEmitter::streams(redis, StreamsOptions::default());
    check(StreamsBus::new, emitter).await;
}

/// Emits until that goes, for as long as a test may take.
async fn until_it_goes(emitter: &RedisEmitter) {
    let mut last = None;
    for _ in 0..1000 {
        match emitter.emit("event", ()).await {
            Ok(()) => return,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never goes: {last:?}");
}

/// It is given up while it looks for the first time which node has what.
#[tokio::test]
async fn an_emit_to_a_cluster_that_is_given_up_takes_no_others_with_it() {
    let cluster = RedisCluster::start(3, false).await;
    let proxy = Proxy::to(cluster.nodes[0].address()).await;
    let url = format!("redis-cluster://{}/", proxy.address);
    let emitter = RedisEmitter::classic(Redis::open(&url).expect("a URL"), "socket.io");
    proxy.hold();
    // Nobody answers.
    let given_up = tokio::time::timeout(Duration::from_millis(300), emitter.emit("event", ()));
    assert!(!given_up.await.is_ok_and(|sent| sent.is_ok()));
    proxy.let_go();
    until_it_goes(&emitter).await;
}

#[tokio::test]
async fn a_slot_that_nobody_served_is_looked_for_again() {
    let cluster = RedisCluster::start(3, false).await;
    let slot = cluster.slot("socket.io");
    let owner = cluster.owner(slot);
    cluster.nodes.iter().for_each(|node| node.run(&format!("CLUSTER DELSLOTS {slot}")));
    let redis = Redis::open(&cluster.url()).expect("a URL");
    let emitter = RedisEmitter::streams(redis, StreamsOptions::default());
    emitter.emit("event", ()).await.expect_err("nobody serves it");
    cluster.nodes[owner].run(&format!("CLUSTER ADDSLOTS {slot}"));
    cluster.until_ok().await;
    until_it_goes(&emitter).await;
}
