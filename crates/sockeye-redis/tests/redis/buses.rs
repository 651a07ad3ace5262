//! Each bus does what every bus must, over a real Redis.

use sockeye::cluster::ClusterBus;
use sockeye_cluster_kit::Buses;
use sockeye_redis::{
    ClassicBus, ClassicOptions, Redis, ShardedBus, ShardedOptions, StreamsBus, StreamsOptions,
    SubscriptionMode,
};

use crate::server::{Proxy, RedisServer};

/// Buses on a Redis of their own, each through a proxy that can be cut.
struct Made<B, F> {
    server: RedisServer,
    proxies: Vec<Proxy>,
    buses: Vec<B>,
    make: F,
}

impl<B, F> Made<B, F> {
    async fn with(make: F) -> Self {
        let server = RedisServer::start().await;
        Self { server, proxies: Vec::new(), buses: Vec::new(), make }
    }
}

/// A bus that subscribes a moment after it is told to.
pub(crate) trait Settling: ClusterBus + Clone {
    fn settled(&self) -> impl Future<Output = ()> + Send;
}

impl Settling for ClassicBus {
    fn settled(&self) -> impl Future<Output = ()> + Send {
        self.settled()
    }
}

impl Settling for ShardedBus {
    fn settled(&self) -> impl Future<Output = ()> + Send {
        self.settled()
    }
}

impl Settling for StreamsBus {
    fn settled(&self) -> impl Future<Output = ()> + Send {
        self.settled()
    }
}

impl<B: Settling, F: Fn(Redis) -> B + Send + Sync + 'static> Buses for Made<B, F> {
    type Bus = B;

    const TELLS_WHO_DIES: bool = false;

    async fn bus(&mut self) -> B {
        let proxy = Proxy::to(self.server.address()).await;
        let redis = Redis::open(&proxy.url()).expect("a URL");
        self.proxies.push(proxy);
        let bus = (self.make)(redis);
        self.buses.push(bus.clone());
        bus
    }

    async fn kill(&mut self, index: usize) {
        self.proxies[index].cut();
    }

    async fn settled(&self) {
        for bus in &self.buses {
            bus.settled().await;
        }
    }
}

fn sharded(subscription_mode: SubscriptionMode) -> impl Fn(Redis) -> ShardedBus {
    move |redis| {
        let options = ShardedOptions { subscription_mode, ..ShardedOptions::default() };
        ShardedBus::with_options(redis, options)
    }
}

mod classic {
    use super::*;

    sockeye_cluster_kit::conformance!(Made::with(ClassicBus::new));
}

mod classic_specific {
    use super::*;

    fn bus(redis: Redis) -> ClassicBus {
        let options =
            ClassicOptions { key: "other*key".into(), publish_on_specific_response_channel: true };
        ClassicBus::with_options(redis, options)
    }

    sockeye_cluster_kit::conformance!(Made::with(bus));
}

mod sharded_static {
    use super::*;

    sockeye_cluster_kit::conformance!(Made::with(sharded(SubscriptionMode::Static)));
}

mod sharded_dynamic {
    use super::*;

    sockeye_cluster_kit::conformance!(Made::with(sharded(SubscriptionMode::Dynamic)));
}

mod sharded_dynamic_private {
    use super::*;

    sockeye_cluster_kit::conformance!(Made::with(sharded(SubscriptionMode::DynamicPrivate)));
}

mod streams {
    use super::*;

    sockeye_cluster_kit::conformance!(Made::with(StreamsBus::new));
    sockeye_cluster_kit::log_conformance!(Made::with(StreamsBus::new));
}

mod streams_of_several {
    use super::*;

    fn bus(redis: Redis) -> StreamsBus {
        let options = StreamsOptions {
            stream_count: 3,
            use_sharded_pub_sub: true,
            ..StreamsOptions::default()
        };
        StreamsBus::with_options(redis, options)
    }

    sockeye_cluster_kit::conformance!(Made::with(bus));
    sockeye_cluster_kit::log_conformance!(Made::with(bus));
}

/// Every client gets the same offset, whose own node's it is.
#[tokio::test]
async fn the_offsets_of_a_stream_are_the_last_arguments() {
    let made = Made::with(StreamsBus::new).await;
    let cluster = sockeye_cluster_kit::Cluster::recovering(made, 2).await;
    let mut clients = cluster.clients().await;
    let mut last = String::new();
    for io in &cluster.nodes {
        io.emit("event", 7).expect("sent");
        let mut offsets = Vec::new();
        for client in &mut clients {
            let list = client.next().await.expect("an event").list;
            assert_eq!((&list[0], &list[1]), (&"event".into(), &7.into()));
            offsets.push(list[2].as_str().expect("an offset").to_owned());
        }
        assert_eq!(offsets[0], offsets[1]);
        assert!(offsets[0] > last, "{} is behind {last}", offsets[0]);
        last = offsets.remove(0);
    }
}
