//! The sharded adapter's bus: a room's messages reach the nodes that have members.
//! Does not know the bytes; `wire` does.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use sockeye::RoomName;
use sockeye::cluster::{
    BusError, BusFuture, ClusterBus, ClusterNode, Envelope, Nodes, Offsets, RoomInterest,
};

use crate::asking::{others, publish};
use crate::commands::Commands;
use crate::redis::Redis;
use crate::subscriber::{Incoming, Listener, Probe, Subscriber, Subscription};
pub use crate::wire::sharded::SubscriptionMode;
use crate::wire::sharded::{Channels, decode_wanted, encode};

/// The options of a [`ShardedBus`], with Node's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardedOptions {
    /// What the names of channels begin with; the same on all servers. Default: `socket.io`.
    pub channel_prefix: String,
    /// Which rooms have channels of their own; the same on all servers. Default:
    /// [`SubscriptionMode::Dynamic`].
    pub subscription_mode: SubscriptionMode,
}

impl Default for ShardedOptions {
    fn default() -> Self {
        let subscription_mode = SubscriptionMode::default();
        Self { channel_prefix: "socket.io".into(), subscription_mode }
    }
}

/// Makes a server one with those that have the adapter `createShardedAdapter` of
/// `@socket.io/redis-adapter`, Node's or ours. It takes sharded pub/sub (Redis 7); where rooms have
/// channels of their own, a node without a member of a room is not woken for it.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sockeye::Server;
/// use sockeye_redis::{Redis, ShardedBus};
///
/// let bus = ShardedBus::new(Redis::open("redis://127.0.0.1/")?);
/// let io = Server::builder().cluster(bus).build();
/// # Ok(())
/// # }
/// ```
///
/// Clones are handles to the same one: it is one server's.
#[derive(Clone)]
pub struct ShardedBus(Arc<Inner>);

struct Inner {
    redis: Redis,
    commands: Arc<Commands>,
    options: ShardedOptions,
    running: OnceLock<Running>,
}

struct Running {
    node: ClusterNode,
    ears: Arc<Ears>,
    subscriber: Subscriber,
}

/// What hears, by the channels that are subscribed to.
struct Ears {
    node: ClusterNode,
    channels: RwLock<HashMap<Arc<str>, Heard>>,
}

/// A channel's namespace, and how often it is wanted.
struct Heard {
    namespace: Arc<str>,
    count: usize,
}

impl ShardedBus {
    /// With the default options.
    pub fn new(redis: Redis) -> Self {
        Self::with_options(redis, ShardedOptions::default())
    }

    /// With options.
    pub fn with_options(redis: Redis, options: ShardedOptions) -> Self {
        let commands = Arc::new(Commands::new(redis.clone()));
        Self(Arc::new(Inner { redis, commands, options, running: OnceLock::new() }))
    }

    /// Waits until all is heard that the server wants to hear now. A room's channel is subscribed
    /// to a moment after the room is there; before its first connection nothing is.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn settled(&self) {
        if let Some(running) = self.0.running.get() {
            running.subscriber.settled().await;
        }
    }

    fn channels(&self, namespace: &str) -> Channels {
        let ShardedOptions { channel_prefix, subscription_mode } = &self.0.options;
        Channels::new(channel_prefix, namespace, *subscription_mode)
    }

    fn want(&self, namespace: &Arc<str>, channels: impl IntoIterator<Item = String>) {
        let Some(running) = self.0.running.get() else { return };
        for channel in channels {
            let subscription = Subscription::shard(&channel);
            let mut known = running.ears.channels.write();
            let new = || Heard { namespace: namespace.clone(), count: 0 };
            known.entry(subscription.name.clone()).or_insert_with(new).count += 1;
            drop(known);
            running.subscriber.want(subscription);
        }
    }

    fn unwant(&self, channels: impl IntoIterator<Item = String>) {
        let Some(running) = self.0.running.get() else { return };
        for channel in channels {
            let mut known = running.ears.channels.write();
            if let Some(heard) = known.get_mut(&*channel) {
                heard.count -= 1;
                if heard.count == 0 {
                    known.remove(&*channel);
                }
            }
            drop(known);
            running.subscriber.unwant(&Subscription::shard(&channel));
        }
    }

    /// The channels of a namespace, without those of its rooms.
    fn own_channels(&self, namespace: &str) -> Option<[String; 2]> {
        let running = self.0.running.get()?;
        let channels = self.channels(namespace);
        Some([channels.common().to_owned(), channels.node(running.node.id())])
    }
}

impl ClusterBus for ShardedBus {
    fn start(&self, node: ClusterNode) {
        let ears = Arc::new(Ears { node: node.clone(), channels: RwLock::default() });
        let (redis, commands) = (self.0.redis.clone(), self.0.commands.clone());
        let name = format!("{}-probe#{}", self.0.options.channel_prefix, node.id());
        let probe = Probe { name, is_sharded: true };
        let subscriber = Subscriber::start(redis, commands, probe, ears.clone());
        // A bus is given to one server.
        let _ = self.0.running.set(Running { node, ears, subscriber });
    }

    fn room_interest(&self) -> RoomInterest {
        match self.0.options.subscription_mode {
            SubscriptionMode::Static => RoomInterest::None,
            SubscriptionMode::Dynamic => RoomInterest::Named,
            SubscriptionMode::DynamicPrivate => RoomInterest::All,
        }
    }

    fn subscribe(&self, namespace: &Arc<str>) {
        self.want(namespace, self.own_channels(namespace).into_iter().flatten());
    }

    fn unsubscribe(&self, namespace: &Arc<str>) {
        self.unwant(self.own_channels(namespace).into_iter().flatten());
    }

    fn room_created(&self, namespace: &Arc<str>, room: &RoomName) {
        self.want(namespace, [self.channels(namespace).room(room)]);
    }

    fn room_deleted(&self, namespace: &Arc<str>, room: &RoomName) {
        self.unwant([self.channels(namespace).room(room)]);
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BusFuture<'a, Result<Offsets, BusError>> {
        Box::pin(async move {
            let all = batch.iter().map(|Envelope { to, message }| {
                encode(message, to.as_ref(), &self.channels(&message.namespace))
            });
            publish(&self.0.commands, "SPUBLISH", all).await
        })
    }

    fn nodes<'a>(&'a self, namespace: &'a Arc<str>) -> BusFuture<'a, Result<Nodes, BusError>> {
        Box::pin(async move {
            let channels = self.channels(namespace);
            others(&self.0.commands, true, channels.common()).await
        })
    }

    fn close(&self) -> BusFuture<'_, ()> {
        Box::pin(async move {
            if let Some(running) = self.0.running.get() {
                running.subscriber.close();
            }
            self.0.commands.close().await;
        })
    }
}

impl Listener for Ears {
    fn handle(&self, incoming: Incoming<'_>) {
        let heard = self.channels.read();
        let namespace = heard.get(incoming.channel).map(|heard| heard.namespace.clone());
        drop(heard);
        let Some(namespace) = namespace else { return };
        let wants =
            |sender: &str, rooms: &[_]| self.node.wants_broadcast(sender, &namespace, rooms);
        match decode_wanted(incoming.payload, &namespace, wants) {
            Ok(Some(message)) => self.node.receive(message),
            Ok(None) => {}
            Err(error) => self.node.reject(&error),
        }
    }

    fn set_hearing(&self, is_hearing: bool) {
        self.node.set_deaf(!is_hearing);
    }
}

impl fmt::Debug for ShardedBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedBus")
            .field("redis", &self.0.redis)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}
