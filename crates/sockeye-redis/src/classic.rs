//! The classic adapter's bus: every node hears every message of a namespace.
//! Does not know the bytes; `wire` does.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use sockeye::cluster::{BusError, BusFuture, ClusterBus, ClusterNode, Envelope, Nodes, Offsets};

use crate::asking::{others, publish};
use crate::commands::Commands;
use crate::redis::Redis;
use crate::subscriber::{Incoming, Listener, Probe, Subscriber, Subscription};
use crate::wire::WireError;
use crate::wire::classic::{Channels, Writer, decode_wanted, encode};

/// The options of a [`ClassicBus`], with Node's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicOptions {
    /// What the names of channels begin with; the same on all servers. Default: `socket.io`.
    pub key: String,
    /// Whether answers go to the node that asked alone, in place of all. Default: false.
    pub publish_on_specific_response_channel: bool,
}

impl Default for ClassicOptions {
    fn default() -> Self {
        Self { key: "socket.io".into(), publish_on_specific_response_channel: false }
    }
}

/// Makes a server one with those that have the adapter `@socket.io/redis-adapter`
/// (`createAdapter`), Node's or ours, and lets it hear `@socket.io/redis-emitter`. It takes what
/// Redis has had since long (pub/sub), and wakes each node for each message.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sockeye::Server;
/// use sockeye_redis::{ClassicBus, Redis};
///
/// let bus = ClassicBus::new(Redis::open("redis://127.0.0.1/")?);
/// let io = Server::builder().cluster(bus).build();
/// # Ok(())
/// # }
/// ```
///
/// Clones are handles to the same one: it is one server's.
#[derive(Clone)]
pub struct ClassicBus(Arc<Inner>);

struct Inner {
    redis: Redis,
    commands: Arc<Commands>,
    options: ClassicOptions,
    running: OnceLock<Running>,
}

struct Running {
    node: ClusterNode,
    ears: Arc<Ears>,
    subscriber: Subscriber,
}

/// What hears: the channels of each namespace, by what is subscribed to for it.
struct Ears {
    node: ClusterNode,
    channels: RwLock<HashMap<Arc<str>, Arc<Channels>>>,
}

impl ClassicBus {
    /// With the default options.
    pub fn new(redis: Redis) -> Self {
        Self::with_options(redis, ClassicOptions::default())
    }

    /// With options.
    pub fn with_options(redis: Redis, options: ClassicOptions) -> Self {
        let commands = Arc::new(Commands::new(redis.clone()));
        Self(Arc::new(Inner { redis, commands, options, running: OnceLock::new() }))
    }

    /// Waits until all is heard that the server wants to hear now. Before the first
    /// connection to Redis nothing is.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn settled(&self) {
        if let Some(running) = self.0.running.get() {
            running.subscriber.settled().await;
        }
    }

    fn channels(&self, namespace: &Arc<str>) -> Channels {
        Channels::new(&self.0.options.key, namespace)
    }
}

/// What a namespace's channels are subscribed to as.
fn subscriptions(channels: &Channels, node: &ClusterNode) -> [Subscription; 4] {
    [
        Subscription::pattern(&channels.pattern()),
        Subscription::channel(channels.request()),
        Subscription::channel(channels.response()),
        Subscription::channel(&channels.response_to(node.id())),
    ]
}

impl ClusterBus for ClassicBus {
    fn start(&self, node: ClusterNode) {
        let ears = Arc::new(Ears { node: node.clone(), channels: RwLock::default() });
        let (redis, commands) = (self.0.redis.clone(), self.0.commands.clone());
        let name = format!("{}-probe#{}", self.0.options.key, node.id());
        let probe = Probe { name, is_sharded: false };
        let subscriber = Subscriber::start(redis, commands, probe, ears.clone());
        // A bus is given to one server.
        let _ = self.0.running.set(Running { node, ears, subscriber });
    }

    fn subscribe(&self, namespace: &Arc<str>) {
        let Some(running) = self.0.running.get() else { return };
        let channels = Arc::new(self.channels(namespace));
        let subscriptions = subscriptions(&channels, &running.node);
        let mut known = running.ears.channels.write();
        for subscription in subscriptions {
            known.insert(subscription.name.clone(), channels.clone());
            running.subscriber.want(subscription);
        }
    }

    fn unsubscribe(&self, namespace: &Arc<str>) {
        let Some(running) = self.0.running.get() else { return };
        let mut known = running.ears.channels.write();
        for subscription in subscriptions(&self.channels(namespace), &running.node) {
            known.remove(&subscription.name);
            running.subscriber.unwant(&subscription);
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BusFuture<'a, Result<Offsets, BusError>> {
        Box::pin(async move {
            let specific = self.0.options.publish_on_specific_response_channel;
            let all = batch.iter().map(|Envelope { to, message }| {
                let channels = self.channels(&message.namespace);
                encode(message, to.as_ref(), &channels, Writer::Adapter { specific })
            });
            publish(&self.0.commands, "PUBLISH", all).await
        })
    }

    fn nodes<'a>(&'a self, namespace: &'a Arc<str>) -> BusFuture<'a, Result<Nodes, BusError>> {
        Box::pin(async move {
            let channels = self.channels(namespace);
            others(&self.0.commands, false, channels.request()).await
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
        let Some(channels) = self.channels.read().get(incoming.subscription).cloned() else {
            return;
        };
        let namespace = channels.namespace();
        let wants = |sender: &str, rooms: &[_]| self.node.wants_broadcast(sender, namespace, rooms);
        match decode_wanted(incoming.channel, incoming.payload, &channels, wants) {
            Ok(Some(message)) => self.node.receive(message),
            Ok(None) => {}
            // A pattern reaches namespaces whose names begin as this one's with a `#` behind.
            Err(WireError::Namespace) => {}
            Err(error) => self.node.reject(&error),
        }
    }

    fn set_hearing(&self, is_hearing: bool) {
        self.node.set_deaf(!is_hearing);
    }
}

impl fmt::Debug for ClassicBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassicBus")
            .field("redis", &self.0.redis)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}
