//! What sentinels watch: the primary they name is spoken to, and the next when it fails.

use std::time::Duration;

use serde_json::json;
use sockeye::Server;
use sockeye::cluster::ClusterBus;
use sockeye_cluster_kit::{Client, until};
use sockeye_redis::{ClassicBus, Redis, RedisEmitter, ShardedBus, StreamsBus};

use crate::server::{Directory, RedisServer, free_port, rule, until_two, words};

/// A primary with a replica, and three sentinels that watch them as `main`.
struct Watched {
    primary: RedisServer,
    replica: RedisServer,
    sentinels: Vec<RedisServer>,
    _directory: Directory,
}

const PASSWORD: &str = "secret";

impl Watched {
    async fn start() -> Self {
        let directory = Directory::new();
        let [primary, replica] = [free_port(), free_port()];
        let dir = directory.path("");
        let login = ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--dir", &dir];
        let at = |port: u16| vec!["--port".to_owned(), port.to_string()];
        let of = vec!["--replicaof".to_owned(), format!("127.0.0.1 {primary}")];
        let primary = start(primary, &at(primary), &login).await;
        let replica = start(replica, &[at(replica), of].concat(), &login).await;
        for server in [&primary, &replica] {
            server.ask::<()>(&mut rule("socket.io")).expect("it is a rule");
        }
        let follows = || replica.replication().contains("master_link_status:up");
        until("the replica to follow", follows).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let port = free_port();
            let file = directory.write(
                &format!("{port}.conf"),
                &format!(
                    "port {port}\nsentinel monitor main 127.0.0.1 {} 2\n\
                     sentinel auth-pass main {PASSWORD}\n\
                     sentinel down-after-milliseconds main 5000\n\
                     sentinel failover-timeout main 5000\n",
                    primary.port
                ),
            );
            sentinels.push(RedisServer::start_with(port, &[&file, "--sentinel"]).await);
        }
        let watched = Self { primary, replica, sentinels, _directory: directory };
        let knows = |sentinel: &RedisServer, what: &str, count: usize| {
            let answer = sentinel.ask::<Vec<redis::Value>>(&mut words(what));
            answer.is_ok_and(|all| all.len() == count)
        };
        let all_know = || {
            watched.sentinels.iter().all(|sentinel| {
                knows(sentinel, "SENTINEL SENTINELS main", 2)
                    && knows(sentinel, "SENTINEL REPLICAS main", 1)
            })
        };
        until("the sentinels to know each other", all_know).await;
        watched
    }

    /// Nobody is at the first address.
    fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|sentinel| sentinel.address().to_string()).collect();
        format!("redis-sentinel://sockeye:s3cret@127.0.0.1:1,{}/?service=main", hosts.join(","))
    }

    fn redis(&self) -> Redis {
        Redis::open(&self.url()).expect("a URL")
    }
}

async fn start(port: u16, own: &[String], more: &[&str]) -> RedisServer {
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    RedisServer::start_with(port, &[&own[..], more].concat()).await.with_password(PASSWORD)
}

fn is_deaf(io: &Server) -> bool {
    io.cluster_health().expect("it is in a cluster").is_deaf
}

async fn check_whole(nodes: &[Server; 2], clients: &mut [Client; 2], round: &str) {
    until("both hear", || !nodes.iter().any(is_deaf)).await;
    for (from, to) in [(0, 1), (1, 0)] {
        // What publishes may find the new primary a moment later than what hears.
        let expected = json!(["event", round, from]);
        let mut tries = 0;
        loop {
            assert!(tries < 60, "nothing of {from} is heard any more");
            tries += 1;
            nodes[from].emit("event", (round, from)).expect("sent");
            let next = tokio::time::timeout(Duration::from_secs(1), clients[to].next()).await;
            if next.is_ok_and(|event| event.expect("it stays connected").list == expected) {
                break;
            }
        }
    }
    until_two(&nodes[0]).await;
    assert_eq!(nodes[0].broadcast().fetch_sockets().await.expect("all answer").len(), 2);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Killed,
    Stopped,
    Asked,
}

async fn check_failover<B: ClusterBus>(make: impl Fn(Redis) -> B, how: How) {
    let mut watched = Watched::start().await;
    let limit = Duration::from_secs(5);
    let nodes = [(); 2].map(|()| {
        let builder = Server::builder().cluster_publish_timeout(limit);
        builder.cluster_request_timeout(limit).cluster(make(watched.redis())).build()
    });
    let mut clients = [Client::join(&nodes[0]).await, Client::join(&nodes[1]).await];
    check_whole(&nodes, &mut clients, "before").await;
    match how {
        How::Killed => watched.primary.kill(),
        How::Stopped => watched.primary.stop(),
        How::Asked => {
            watched.sentinels[0].ask::<()>(&mut words("SENTINEL FAILOVER main")).expect("it may");
        }
    }
    until("the replica to be the primary", || watched.replica.is_primary()).await;
    if how != How::Asked {
        // Whether it was handed over is not told: both stay connected or come back at once.
        until("both have noticed", || {
            nodes.iter().all(is_deaf) || watched.replica.subscribers() >= 2
        })
        .await;
    }
    until("both are at the new primary", || watched.replica.subscribers() >= 2).await;
    check_whole(&nodes, &mut clients, "after").await;
    if how == How::Stopped {
        watched.primary.resume();
        until("the old one to follow", || watched.primary.replication().contains("role:slave"))
            .await;
        check_whole(&nodes, &mut clients, "at last").await;
    }
}

impl RedisServer {
    /// How many connections are subscribed to something.
    fn subscribers(&self) -> usize {
        let list: String = self.ask(&mut words("CLIENT LIST")).unwrap_or_default();
        list.lines().filter(|line| !line.contains(" sub=0 psub=0 ssub=0 ")).count()
    }
}

#[tokio::test]
async fn a_primary_is_killed_under_the_classic_bus() {
    check_failover(ClassicBus::new, How::Killed).await;
}

#[tokio::test]
async fn a_primary_hangs_under_the_classic_bus() {
    check_failover(ClassicBus::new, How::Stopped).await;
}

#[tokio::test]
async fn a_primary_hands_over_under_the_classic_bus() {
    check_failover(ClassicBus::new, How::Asked).await;
}

#[tokio::test]
async fn a_primary_is_killed_under_the_sharded_bus() {
    check_failover(ShardedBus::new, How::Killed).await;
}

#[tokio::test]
async fn a_primary_is_killed_under_the_streams_bus() {
    check_failover(StreamsBus::new, How::Killed).await;
}

#[tokio::test]
async fn a_primary_hands_over_under_the_streams_bus() {
    check_failover(StreamsBus::new, How::Asked).await;
}

/// Sentinels go as well: whoever is left tells.
#[tokio::test]
async fn an_emitter_follows_when_a_sentinel_and_the_primary_go() {
    let mut watched = Watched::start().await;
    let emitter = RedisEmitter::classic(watched.redis(), "socket.io");
    emitter.emit("event", 1).await.expect("sent");
    drop(watched.sentinels.remove(0));
    watched.primary.kill();
    until("the replica to be the primary", || watched.replica.is_primary()).await;
    let io = Server::builder().cluster(ClassicBus::new(watched.redis())).build();
    until("it hears", || !is_deaf(&io)).await;
    let mut client = Client::join(&io).await;
    while emitter.emit("event", 2).await.is_err() {
        tokio::task::yield_now().await;
    }
    client.expect(json!(["event", 2])).await;
}
