//! Redis Cluster: the buses do on it what every bus must, and so do emitters.

use std::sync::Arc;

use serde_json::json;
use sockeye::Server;
use sockeye_cluster_kit::{Buses, Client, until};
use sockeye_redis::{
    ClassicBus, ClassicOptions, Redis, RedisEmitter, ShardedBus, ShardedOptions, StreamsBus,
    StreamsOptions, SubscriptionMode,
};

use crate::buses::Settling;
use crate::nodes::RedisCluster;
use crate::server::free_port;

/// Buses on a cluster where others have been. Each is a user of its own: one that dies is thrown
/// out and does not get in any more.
struct Made<B, F> {
    cluster: Arc<RedisCluster>,
    users: Vec<String>,
    buses: Vec<B>,
    make: F,
}

impl<B, F: Fn(Redis) -> B> Made<B, F> {
    async fn with(cluster: &Arc<RedisCluster>, make: F) -> Self {
        Self { cluster: cluster.clone(), users: Vec::new(), buses: Vec::new(), make }
    }
}

impl<B: Settling, F: Fn(Redis) -> B + Send + Sync + 'static> Buses for Made<B, F> {
    type Bus = B;

    const TELLS_WHO_DIES: bool = false;

    async fn bus(&mut self) -> B {
        let user = format!("user-{}", free_port());
        for node in &self.cluster.nodes {
            node.run(&format!("ACL SETUSER {user} reset on >p%40ss ~* &* +@all"));
        }
        let login = format!("{user}:p%2540ss@");
        let redis = Redis::open(&self.cluster.url_with(&login)).expect("a URL");
        self.users.push(user);
        let bus = (self.make)(redis);
        self.buses.push(bus.clone());
        bus
    }

    async fn kill(&mut self, index: usize) {
        let user = &self.users[index];
        for node in &self.cluster.nodes {
            node.run(&format!("ACL SETUSER {user} off"));
            node.run(&format!("CLIENT KILL USER {user}"));
        }
    }

    async fn settled(&self) {
        for bus in &self.buses {
            bus.settled().await;
        }
    }
}

/// With primaries only, which are there sooner.
async fn three() -> Arc<RedisCluster> {
    Arc::new(RedisCluster::start(3, false).await)
}

fn classic(number: usize) -> impl Fn(Redis) -> ClassicBus {
    let options = ClassicOptions { key: format!("key{number}"), ..ClassicOptions::default() };
    move |redis| ClassicBus::with_options(redis, options.clone())
}

/// The checks ask for order between what goes to a room and what goes to all, which only one slot
/// has: the prefix is a hash tag.
fn sharded(subscription_mode: SubscriptionMode, number: usize) -> impl Fn(Redis) -> ShardedBus {
    let channel_prefix = format!("{{prefix{number}}}");
    let options = ShardedOptions { channel_prefix, subscription_mode };
    move |redis| ShardedBus::with_options(redis, options.clone())
}

fn streams(more: StreamsOptions, number: usize) -> impl Fn(Redis) -> StreamsBus {
    let stream_name = format!("stream{number}");
    let options = StreamsOptions { channel_prefix: stream_name.clone(), stream_name, ..more };
    move |redis| StreamsBus::with_options(redis, options.clone())
}

sockeye_cluster_kit::conformance_in_turn!(the_classic_bus_does_all, three(), |cluster, number| {
    Made::with(cluster, classic(number))
});

sockeye_cluster_kit::conformance_in_turn!(the_static_bus_does_all, three(), |cluster, number| {
    Made::with(cluster, sharded(SubscriptionMode::Static, number))
});

sockeye_cluster_kit::conformance_in_turn!(the_dynamic_bus_does_all, three(), |cluster, number| {
    Made::with(cluster, sharded(SubscriptionMode::Dynamic, number))
});

sockeye_cluster_kit::conformance_in_turn!(
    the_dynamic_private_bus_does_all,
    three(),
    |cluster, number| Made::with(cluster, sharded(SubscriptionMode::DynamicPrivate, number))
);

sockeye_cluster_kit::conformance_in_turn!(the_streams_bus_does_all, three(), |cluster, number| {
    Made::with(cluster, streams(StreamsOptions::default(), number))
});

sockeye_cluster_kit::log_conformance_in_turn!(
    clients_are_recovered_on_the_streams_bus,
    three(),
    |cluster, number| Made::with(cluster, streams(StreamsOptions::default(), number))
);

sockeye_cluster_kit::conformance_in_turn!(
    the_streams_bus_does_all_over_several_streams,
    three(),
    |cluster, number| {
        let more = StreamsOptions {
            stream_count: 3,
            use_sharded_pub_sub: true,
            ..StreamsOptions::default()
        };
        Made::with(cluster, streams(more, number))
    }
);

#[tokio::test]
async fn emitters_reach_all_servers_of_a_cluster() {
    let cluster = three().await;
    let redis = || Redis::open(&cluster.url()).expect("a URL");
    let classic = Server::builder().cluster(ClassicBus::new(redis())).build();
    let streams = Server::builder().cluster(StreamsBus::new(redis())).build();
    let emitters = [
        (&classic, RedisEmitter::classic(redis(), "socket.io")),
        (&streams, RedisEmitter::streams(redis(), StreamsOptions::default())),
    ];
    for (io, emitter) in emitters {
        let is_deaf = || io.cluster_health().expect("it is in a cluster").is_deaf;
        until("it hears", || !is_deaf()).await;
        let mut client = Client::join(io).await;
        emitter.emit("all", 1).await.expect("sent");
        client.expect(json!(["all", 1])).await;
        emitter.to(client.id()).emit("one", 2).await.expect("sent");
        client.expect(json!(["one", 2])).await;
    }
}

/// What is written to one node is read from another: the nodes are asked for the slots.
#[tokio::test]
async fn one_node_of_the_url_is_enough() {
    let cluster = three().await;
    let url = format!("redis-cluster://127.0.0.1:1,{}", cluster.nodes[2].address());
    let redis = || Redis::open(&url).expect("a URL");
    let nodes = [(); 2].map(|()| Server::builder().cluster(ShardedBus::new(redis())).build());
    let is_deaf = |io: &Server| io.cluster_health().expect("it is in a cluster").is_deaf;
    until("both hear", || !nodes.iter().any(is_deaf)).await;
    let mut client = Client::join(&nodes[1]).await;
    nodes[0].emit("event", ()).expect("sent");
    client.expect(json!(["event"])).await;
    drop(cluster);
}
