//! Redis goes and comes: what was local goes on, and what is heard is proven.

use std::time::Duration;

use serde_json::json;
use sockeye::Server;
use sockeye::cluster::ClusterBus;
use sockeye_cluster_kit::{Client, until};
use sockeye_redis::{ClassicBus, Redis, ShardedBus, StreamsBus, StreamsOptions};

use crate::server::{Proxy, RedisServer, words};

fn node(bus: impl ClusterBus) -> Server {
    let limit = Duration::from_secs(5);
    let builder = Server::builder().cluster_publish_timeout(limit).cluster_request_timeout(limit);
    let io = builder.cluster(bus).build();
    io.of("/other");
    io
}

fn is_deaf(io: &Server) -> bool {
    io.cluster_health().expect("it is in a cluster").is_deaf
}

async fn until_heard(nodes: &[Server; 2]) {
    until("both nodes hear", || !nodes.iter().any(is_deaf)).await;
    for io in nodes {
        for namespace in ["/", "/other"] {
            let mut count = 0;
            while count != 2 {
                count = io.of(namespace).node_count().await.unwrap_or(0);
                tokio::task::yield_now().await;
            }
        }
    }
}

/// An event from each node to the client of the other.
async fn check_both_ways(nodes: &[Server; 2], clients: &mut [Client; 2], round: u32) {
    for (from, to) in [(0, 1), (1, 0)] {
        nodes[from].to("room").emit("both", (round, from)).expect("sent");
        let id = clients[to].id();
        nodes[from].to(id).emit("one", (round, from)).expect("sent");
        for client in clients.iter_mut() {
            client.expect(json!(["both", round, from])).await;
        }
        clients[to].expect(json!(["one", round, from])).await;
    }
}

async fn check_restart<B: ClusterBus>(make: impl Fn(Redis) -> B) {
    let server = RedisServer::start().await;
    let port = server.port;
    let redis = Redis::open(&server.url()).expect("a URL");
    let nodes = [node(make(redis.clone())), node(make(redis))];
    until_heard(&nodes).await;
    let mut clients = [Client::join(&nodes[0]).await, Client::join(&nodes[1]).await];
    for (io, client) in nodes.iter().zip(&clients) {
        assert!(io.of("/").socket(&client.id()).expect("it is connected").join("room"));
    }
    until_both_are_reached(&nodes, &mut clients).await;

    drop(server);
    until("both nodes are deaf", || nodes.iter().all(is_deaf)).await;
    let before = nodes[0].cluster_health().expect("it is in a cluster").failed;
    nodes[0].to("room").emit("alone", ()).expect("what is local goes on");
    clients[0].expect(json!(["alone"])).await;
    let failed = || nodes[0].cluster_health().expect("it is in a cluster").failed > before;
    until("what was not published is counted", failed).await;
    assert!(nodes[0].broadcast().fetch_sockets().await.is_err(), "others cannot be asked");

    let _again = RedisServer::start_on(port).await;
    until_heard(&nodes).await;
    until_both_are_reached(&nodes, &mut clients).await;
    check_both_ways(&nodes, &mut clients, 1).await;
    assert_eq!(nodes[0].broadcast().fetch_sockets().await.expect("all answer").len(), 2);
}

/// A room's own channel is subscribed to a moment later.
async fn until_both_are_reached(nodes: &[Server; 2], clients: &mut [Client; 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        let event = json!(["reached", from]);
        let mut is_reached = false;
        while !is_reached {
            nodes[from].to("room").except(clients[from].id()).emit("reached", from).expect("sent");
            let next = clients[to].next();
            let next = tokio::time::timeout(Duration::from_millis(100), next).await;
            is_reached = next.is_ok_and(|event_came| {
                event_came.is_some_and(|event_came| event_came.list == event)
            });
        }
        // Others of the same may be on their way.
        nodes[from].emit("mark", from).expect("sent");
        let mark = json!(["mark", from]);
        for client in clients.iter_mut() {
            while client.next().await.expect("an event").list != mark {}
        }
    }
}

#[tokio::test]
async fn a_restart_of_redis_is_survived_by_the_classic_bus() {
    check_restart(ClassicBus::new).await;
}

#[tokio::test]
async fn a_restart_of_redis_is_survived_by_the_sharded_bus() {
    check_restart(ShardedBus::new).await;
}

#[tokio::test]
async fn a_restart_of_redis_is_survived_by_the_streams_bus() {
    check_restart(StreamsBus::new).await;
}

#[tokio::test]
async fn what_was_broadcast_while_a_node_was_cut_off_is_read_later() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.address()).await;
    let cut = Redis::open(&proxy.url()).expect("a URL");
    let whole = Redis::open(&server.url()).expect("a URL");
    let nodes = [node(StreamsBus::new(cut)), node(StreamsBus::new(whole))];
    until_heard(&nodes).await;
    let mut client = Client::join(&nodes[0]).await;
    nodes[1].emit("before", ()).expect("sent");
    client.expect(json!(["before"])).await;
    proxy.cut();
    until("it is deaf", || is_deaf(&nodes[0])).await;
    for number in 0..150 {
        nodes[1].emit("meanwhile", number).expect("sent");
    }
    proxy.mend();
    for number in 0..150 {
        client.expect(json!(["meanwhile", number])).await;
    }
}

#[tokio::test]
async fn a_node_that_begins_without_redis_is_deaf_until_it_comes() {
    let port = {
        let server = RedisServer::start().await;
        server.port
    };
    let redis = Redis::open(&format!("redis://127.0.0.1:{port}/")).expect("a URL");
    let io = node(ClassicBus::new(redis));
    assert!(is_deaf(&io));
    let mut client = Client::join(&io).await;
    io.emit("local", ()).expect("sent");
    client.expect(json!(["local"])).await;
    let _server = RedisServer::start_on(port).await;
    until("it hears", || !is_deaf(&io)).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_anew() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.address()).await;
    let cut = Redis::open(&proxy.url()).expect("a URL");
    let whole = Redis::open(&server.url()).expect("a URL");
    let nodes = [node(ShardedBus::new(cut)), node(ShardedBus::new(whole))];
    until_heard(&nodes).await;
    for _ in 0..2 {
        proxy.cut();
        until("it is deaf", || is_deaf(&nodes[0])).await;
        assert!(!is_deaf(&nodes[1]));
        proxy.mend();
        until_heard(&nodes).await;
    }
}

#[tokio::test]
async fn foreign_messages_are_counted_and_passed_over() {
    let server = RedisServer::start().await;
    let redis = Redis::open(&server.url()).expect("a URL");
    let io = node(ClassicBus::new(redis));
    until("it hears", || !is_deaf(&io)).await;
    let mut client = Client::join(&io).await;
    let raw = redis::Client::open(server.url()).expect("a URL");
    let mut raw = raw.get_connection().expect("it is there");
    for (channel, payload) in [
        ("socket.io#/#", &b"garbage"[..]),
        ("socket.io#/#", b"\x93\xa1u\x80\x80"),
        ("socket.io-request#/#", b"{\"type\":99}"),
        ("socket.io-response#/#", b"\xff"),
    ] {
        redis::cmd("PUBLISH").arg(channel).arg(payload).exec(&mut raw).expect("published");
    }
    // One of another namespace, which the pattern reaches, is nothing wrong.
    let other = b"\x93\xa1u\x83\xa4type\x02\xa4data\x91\xa1e\xa3nsp\xa4/#/b\x80";
    redis::cmd("PUBLISH").arg("socket.io#/#/b#").arg(other).exec(&mut raw).expect("published");
    // A broadcast of an emitter comes behind them.
    let good = b"\x93\xa7emitter\x83\xa4type\x02\xa4data\x91\xa4good\xa3nsp\xa1/\
                 \x83\xa5rooms\x90\xa5flags\x80\xa6except\x90";
    redis::cmd("PUBLISH").arg("socket.io#/#").arg(good).exec(&mut raw).expect("published");
    client.expect(json!(["good"])).await;
    let health = io.cluster_health().expect("it is in a cluster");
    assert_eq!(health.rejected, 4);
}

/// Somebody wrote an id of far away, and the stream was taken away for that; or Redis has lost all,
/// and another clock.
#[tokio::test]
async fn a_stream_that_begins_anew_is_read_on() {
    let server = RedisServer::start().await;
    let redis = Redis::open(&server.url()).expect("a URL");
    let make = || {
        let block_time = Duration::from_millis(50);
        let options = StreamsOptions { block_time, ..StreamsOptions::default() };
        StreamsBus::with_options(redis.clone(), options)
    };
    let nodes = [node(make()), node(make())];
    until_heard(&nodes).await;
    let mut client = Client::join(&nodes[1]).await;
    let options = r#"{"rooms":[],"except":[]}"#;
    let data = format!(r#"{{"packet":{{"type":2,"data":["mark"]}},"opts":{options}}}"#);
    let mark = format!("XADD socket.io 99999999999999-0 uid x nsp / type 3 data {data}");
    server.ask::<()>(&mut words(&mark)).expect("it is written");
    client.expect(json!(["mark"])).await;
    server.ask::<()>(&mut words("DEL socket.io")).expect("it is gone");
    for number in 0..1000 {
        nodes[0].emit("anew", number).expect("sent");
        let next = tokio::time::timeout(Duration::from_millis(20), client.next()).await;
        if let Ok(event) = next {
            assert_eq!(event.expect("an event").list[0], "anew");
            return;
        }
    }
    panic!("nothing is read");
}
