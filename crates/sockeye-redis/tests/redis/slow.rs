//! A Redis whose answers are late: what is wanted changes meanwhile.

use redis::Cmd;
use sockeye::Server;
use sockeye_cluster_kit::{Client, until};
use sockeye_redis::{Redis, ShardedBus};

use crate::server::{Proxy, RedisServer};

fn is_deaf(io: &Server) -> bool {
    io.cluster_health().expect("it is in a cluster").is_deaf
}

/// Whether Redis has anybody who hears the channel of `room`.
fn hears(redis: &RedisServer, room: &str) -> bool {
    let mut command = Cmd::new();
    command.arg("PUBSUB").arg("SHARDNUMSUB").arg(format!("socket.io#/#{room}#"));
    let (_, count): (String, usize) = redis.ask(&mut command).expect("it answers");
    count > 0
}

/// A node on a sharded bus whose answers can be held up, with a client.
async fn node(redis: &RedisServer) -> (Server, ShardedBus, Proxy, Client) {
    let proxy = Proxy::to(redis.address()).await;
    let bus = ShardedBus::new(Redis::open(&proxy.url()).expect("a URL"));
    let io = Server::builder().cluster(bus.clone()).build();
    io.of("/");
    until("it hears", || !is_deaf(&io)).await;
    let client = Client::join(&io).await;
    (io, bus, proxy, client)
}

/// Lets the answers through; whether the node counted as deaf before all is heard.
async fn was_deaf(io: &Server, bus: &ShardedBus, proxy: &Proxy) -> bool {
    proxy.let_go();
    tokio::select! {
        biased;
        () = until("it is deaf", || is_deaf(io)) => true,
        () = bus.settled() => false,
    }
}

/// Its room's channel is being given up: a node is not deaf for that, and its requests go on.
#[tokio::test]
async fn a_room_that_is_back_before_redis_has_let_go_of_it_is_heard() {
    let redis = RedisServer::start().await;
    let (io, bus, proxy, client) = node(&redis).await;
    let socket = io.of("/").socket(&client.id()).expect("it is connected");
    socket.join("room");
    until("it is heard", || hears(&redis, "room")).await;
    bus.settled().await;
    proxy.hold();
    socket.leave("room");
    until("it is given up", || !hears(&redis, "room")).await;
    socket.join("room");
    assert!(!was_deaf(&io, &bus, &proxy).await);
    assert!(hears(&redis, "room"));
}

#[tokio::test]
async fn a_room_that_goes_before_redis_has_it_is_given_up() {
    let redis = RedisServer::start().await;
    let (io, bus, proxy, client) = node(&redis).await;
    let socket = io.of("/").socket(&client.id()).expect("it is connected");
    bus.settled().await;
    proxy.hold();
    socket.join("room");
    until("it is heard", || hears(&redis, "room")).await;
    socket.leave("room");
    assert!(!was_deaf(&io, &bus, &proxy).await);
    until("it is given up", || !hears(&redis, "room")).await;
    assert!(!is_deaf(&io));
}
