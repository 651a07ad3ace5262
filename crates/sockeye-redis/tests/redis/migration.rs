//! Slots move and primaries fail: subscriptions are there again, and nothing comes twice.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use sockeye::Server;
use sockeye::cluster::ClusterBus;
use sockeye_cluster_kit::{Client, until};
use sockeye_redis::{
    ClassicBus, Redis, ShardedBus, ShardedOptions, StreamsBus, StreamsOptions, SubscriptionMode,
};
use tokio::process::Command;

use crate::nodes::{RedisCluster, SLOTS};
use crate::server::{RedisServer, until_two};

/// Two servers, a client of each, and what they hear of each other.
struct Pair {
    servers: [Server; 2],
    clients: [Client; 2],
    /// The number of the last event from each, and what the other's client has heard of them.
    sent: [u64; 2],
    heard: [BTreeSet<u64>; 2],
    promise: Promise,
}

/// What holds beside that nothing comes twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// Nothing is lost, and all comes in its order.
    Whole,
    /// What comes does so in its order.
    Order,
    /// A node that hung goes on with what it had been sent, when others have long been heard.
    Once,
}

impl Pair {
    async fn on(buses: [impl ClusterBus; 2], promise: Promise) -> Self {
        let limit = Duration::from_secs(5);
        let servers = buses.map(|bus| {
            let builder = Server::builder().cluster_publish_timeout(limit);
            builder.cluster_request_timeout(limit).cluster(bus).build()
        });
        let clients = [Client::join(&servers[0]).await, Client::join(&servers[1]).await];
        let mut pair = Self { servers, clients, sent: [0; 2], heard: Default::default(), promise };
        for (io, client) in pair.servers.iter().zip(&pair.clients) {
            assert!(io.of("/").socket(&client.id()).expect("it is connected").join("room"));
        }
        pair.until_whole().await;
        pair
    }

    fn is_deaf(&self, index: usize) -> bool {
        self.servers[index].cluster_health().expect("it is in a cluster").is_deaf
    }

    async fn until_deaf(&self) {
        until("both are deaf", || self.is_deaf(0) && self.is_deaf(1)).await;
    }

    /// One event from each to everyone.
    fn emit(&mut self) {
        for from in 0..2 {
            self.sent[from] += 1;
            self.servers[from].emit("n", (from, self.sent[from])).expect("sent");
        }
    }

    /// Takes what a client hears of the other server's, which is never what it has heard.
    async fn hear(&mut self, to: usize, limit: Duration) {
        let from = 1 - to;
        while let Ok(event) = tokio::time::timeout(limit, self.clients[to].next()).await {
            let event = event.expect("it stays connected").list;
            if event[0] != "n" || event[1] != from {
                continue;
            }
            let number = event[2].as_u64().expect("a number");
            let last = self.heard[from].last().copied().unwrap_or(0);
            assert!(self.heard[from].insert(number), "{number} comes twice");
            match self.promise {
                Promise::Whole => assert_eq!(number, last + 1, "one is lost"),
                Promise::Order => assert!(number > last, "{number} comes behind {last}"),
                Promise::Once => {}
            }
            if number == self.sent[from] {
                return;
            }
        }
    }

    /// Waits until both hear, and what is sent then comes.
    async fn until_whole(&mut self) {
        for to in 0..2 {
            until("both hear", || !self.is_deaf(0) && !self.is_deaf(1)).await;
            self.emit();
            let from = 1 - to;
            let mut tries = 0;
            while !self.heard[from].contains(&self.sent[from]) {
                assert!(tries < 60, "nothing of {from} is heard any more");
                tries += 1;
                self.emit();
                self.hear(to, Duration::from_secs(2)).await;
            }
        }
        for io in &self.servers {
            until_two(io).await;
        }
        // Nothing is on its way any more, twice or not.
        assert_eq!(self.servers[0].broadcast().fetch_sockets().await.expect("all answer").len(), 2);
        for to in 0..2 {
            let name = format!("mark {}", self.sent[to]);
            self.servers[1 - to].to("room").emit(&name, ()).expect("sent");
            self.hear(to, Duration::from_millis(1)).await;
        }
    }
}

fn redis(cluster: &RedisCluster) -> Redis {
    Redis::open(&cluster.url()).expect("a URL")
}

fn sharded(cluster: &RedisCluster) -> [ShardedBus; 2] {
    [(); 2].map(|()| ShardedBus::new(redis(cluster)))
}

fn classic(cluster: &RedisCluster) -> [ClassicBus; 2] {
    [(); 2].map(|()| ClassicBus::new(redis(cluster)))
}

fn streams(cluster: &RedisCluster) -> [StreamsBus; 2] {
    [(); 2].map(|()| {
        let options = StreamsOptions { use_sharded_pub_sub: true, ..StreamsOptions::default() };
        StreamsBus::with_options(redis(cluster), options)
    })
}

/// A slot moves to the next node and back while everyone talks.
async fn check_move<B: ClusterBus>(
    make: impl Fn(&RedisCluster) -> [B; 2],
    key: &str,
    promise: Promise,
) {
    let cluster = RedisCluster::start(3, false).await;
    let mut pair = Pair::on(make(&cluster), promise).await;
    let slot = cluster.slot(key);
    let first = cluster.owner(slot);
    for to in [(first + 1) % 3, first, (first + 2) % 3] {
        pair.emit();
        cluster.begin_move(slot, to);
        // What is half way is heard as ever.
        pair.until_whole().await;
        for _ in 0..20 {
            pair.emit();
            tokio::task::yield_now().await;
        }
        cluster.end_move(slot, to);
        for _ in 0..20 {
            pair.emit();
            tokio::task::yield_now().await;
        }
        pair.until_whole().await;
        assert_eq!(cluster.owner(slot), to);
    }
}

#[tokio::test]
async fn the_slot_of_a_channel_moves() {
    check_move(sharded, "socket.io#/#", Promise::Order).await;
}

#[tokio::test]
async fn the_slot_of_a_stream_moves_and_no_entry_is_lost() {
    check_move(streams, "socket.io", Promise::Whole).await;
}

#[tokio::test]
async fn the_slot_of_a_streams_channel_moves() {
    check_move(streams, "socket.io#/#", Promise::Whole).await;
}

/// `redis-cli` takes all of a node's slots, one after the other.
#[tokio::test]
async fn all_slots_of_a_node_move() {
    const ROOMS: usize = 300;
    let cluster = RedisCluster::start(3, false).await;
    let options = || ShardedOptions {
        subscription_mode: SubscriptionMode::DynamicPrivate,
        ..ShardedOptions::default()
    };
    let buses = [(); 2].map(|()| ShardedBus::with_options(redis(&cluster), options()));
    let mut pair = Pair::on(buses.clone(), Promise::Order).await;
    let socket = pair.servers[1].of("/").socket(&pair.clients[1].id()).expect("it is connected");
    (0..ROOMS).for_each(|room| assert!(socket.join(format!("room {room}"))));
    buses[1].settled().await;
    let [from, to] = [cluster.nodes[0].id(), cluster.nodes[1].id()];
    let mut reshard = Command::new("redis-cli");
    reshard.args(["--cluster", "reshard", &cluster.nodes[2].address().to_string()]);
    reshard.args(["--cluster-from", &from, "--cluster-to", &to]);
    reshard.args(["--cluster-slots", &SLOTS.div_ceil(3).to_string(), "--cluster-yes"]);
    let output = reshard.output().await.expect("there is a redis-cli");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(cluster.owner(0), 1);
    pair.until_whole().await;
    // Each room's channel is there again.
    for room in 0..ROOMS {
        pair.servers[0].to(format!("room {room}")).emit("room", room).expect("sent");
    }
    let mut missing: Vec<_> = (0..ROOMS).collect();
    while !missing.is_empty() {
        let event = pair.clients[1].next().await.expect("it stays connected").list;
        if event[0] == "room" {
            missing.retain(|room| event[1] != *room);
        }
    }
}

/// The owner of a slot fails in some way, and its replica takes its place.
async fn check_failover<B: ClusterBus>(
    make: impl Fn(&RedisCluster) -> [B; 2],
    key: &str,
    how: How,
) {
    let mut cluster = RedisCluster::start(3, true).await;
    let promise = if how == How::Stopped { Promise::Once } else { Promise::Order };
    let mut pair = Pair::on(make(&cluster), promise).await;
    let slot = cluster.slot(key);
    let old = cluster.owner(slot);
    let replica = old + 3;
    let mut rest: Vec<usize> = (0..6).filter(|index| *index != old).collect();
    match how {
        How::Killed => drop(cluster.nodes.remove(old)),
        How::Stopped => cluster.nodes[old].stop(),
        How::Asked => cluster.nodes[replica].run("CLUSTER FAILOVER"),
    }
    if how == How::Killed {
        rest = (0..5).collect();
    }
    let port = cluster.nodes[replica - usize::from(how == How::Killed)].port;
    let follows = || rest.iter().all(|index| cluster.nodes[*index].owner_port(slot) == port);
    while !follows() {
        pair.emit();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pair.until_whole().await;
    if how == How::Stopped {
        cluster.nodes[old].resume();
        until("the old one to follow the new", || !cluster.nodes[old].is_primary()).await;
        pair.until_whole().await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Killed,
    Stopped,
    Asked,
}

#[tokio::test]
async fn a_primary_is_killed_under_the_sharded_bus() {
    check_failover(sharded, "socket.io#/#", How::Killed).await;
}

#[tokio::test]
async fn a_primary_hangs_under_the_sharded_bus() {
    check_failover(sharded, "socket.io#/#", How::Stopped).await;
}

#[tokio::test]
async fn a_primary_hands_over_under_the_sharded_bus() {
    check_failover(sharded, "socket.io#/#", How::Asked).await;
}

#[tokio::test]
async fn a_primary_is_killed_under_the_classic_bus() {
    check_failover(classic, "any", How::Killed).await;
}

#[tokio::test]
async fn a_primary_is_killed_under_the_streams_bus() {
    check_failover(streams, "socket.io", How::Killed).await;
}

#[tokio::test]
async fn a_primary_hangs_under_the_streams_bus() {
    check_failover(streams, "socket.io", How::Stopped).await;
}

/// All nodes of Redis hang for as long as it takes to be noticed, and go on; or they end and are
/// started again, with nothing on them.
async fn check_outage<B: ClusterBus>(make: impl Fn(&RedisCluster) -> [B; 2], how: How) {
    let mut cluster = RedisCluster::start(3, false).await;
    let mut pair = Pair::on(make(&cluster), Promise::Once).await;
    match how {
        How::Killed => cluster.nodes.iter_mut().for_each(RedisServer::kill),
        _ => cluster.nodes.iter().for_each(RedisServer::stop),
    }
    pair.until_deaf().await;
    let failed = |pair: &Pair| pair.servers[0].cluster_health().expect("it is there").failed;
    let before = failed(&pair);
    pair.servers[0].emit("local", ()).expect("what is local goes on");
    while pair.clients[0].next().await.expect("an event").list != json!(["local"]) {}
    until("what was not published is counted", || failed(&pair) > before).await;
    for node in &mut cluster.nodes {
        match how {
            How::Killed => node.restart().await,
            _ => node.resume(),
        }
    }
    cluster.until_ok().await;
    pair.until_whole().await;
}

#[tokio::test]
async fn an_outage_of_all_nodes_is_survived_by_the_classic_bus() {
    check_outage(classic, How::Stopped).await;
}

#[tokio::test]
async fn an_outage_of_all_nodes_is_survived_by_the_sharded_bus() {
    check_outage(sharded, How::Stopped).await;
}

#[tokio::test]
async fn an_outage_of_all_nodes_is_survived_by_the_streams_bus() {
    check_outage(streams, How::Stopped).await;
}

#[tokio::test]
async fn a_restart_of_all_nodes_is_survived_by_the_classic_bus() {
    check_outage(classic, How::Killed).await;
}

#[tokio::test]
async fn a_restart_of_all_nodes_is_survived_by_the_sharded_bus() {
    check_outage(sharded, How::Killed).await;
}

#[tokio::test]
async fn a_restart_of_all_nodes_is_survived_by_the_streams_bus() {
    check_outage(streams, How::Killed).await;
}
