//! The streams adapter's bus: what must be kept is an entry of a stream, questions and answers go
//! through pub/sub. Does not know the bytes; `wire` does.

mod live;
mod log;
mod reading;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use redis::{Pipeline, Value};
use sockeye::cluster::{
    BusError, BusFuture, ClusterBody, ClusterBus, ClusterLog, ClusterMessage, ClusterNode,
    Envelope, LogOffset, Nodes, Offsets,
};

use self::live::{Keeping, Live};
use self::log::Log;
use self::reading::Reader;
use crate::asking::{Answer, Sending, others, outcome};
use crate::commands::Commands;
use crate::redis::Redis;
use crate::subscriber::{Incoming, Listener, Probe, Subscriber, Subscription};
use crate::wire::UnwritableError;
use crate::wire::streams::{
    Entry, common_channel, decode, encode, encode_entry, is_ephemeral, stream_of,
};

/// The options of a [`StreamsBus`], with Node's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsOptions {
    /// The name of the stream; the same on all servers. Default: `socket.io`.
    pub stream_name: String,
    /// How many streams share the namespaces, as `name-0`, `name-1` …; the same on all servers. A
    /// namespace is written to one of them. Default: 1, named as it is.
    pub stream_count: u32,
    /// What the names of the channels of questions and answers begin with; the same on all
    /// servers. Default: `socket.io`.
    pub channel_prefix: String,
    /// Whether those channels are of sharded pub/sub; the same on all servers. Default: false.
    pub use_sharded_pub_sub: bool,
    /// About how many entries a stream keeps. Default: 10,000.
    pub max_len: u64,
    /// How many entries are read in one round trip. Default: 100.
    pub read_count: u64,
    /// How long one reading waits for entries. Default: 5 s.
    pub block_time: Duration,
    /// What the keys of the sessions of connection state recovery begin with; the same on all
    /// servers. Default: `sio:session:`.
    pub session_key_prefix: String,
    /// Whether the sessions of sockets that live are kept in Redis, too, where connection state
    /// recovery is on, so that clients of a server that was killed are recovered at another one of
    /// ours: a command when a socket connects, ends, and for what changes of it within 200 ms, one
    /// a minute, and one a second for the server; about 150 bytes of memory for a socket. Redis is
    /// asked by `EVAL`; where it refuses that, a warning says so and none are kept. The same on all
    /// servers. Default: true.
    pub live_sessions: bool,
    /// The bytes of such a session: its rooms and its shared data, as they are kept. One that is
    /// larger is not. Default: 64 KiB.
    pub live_session_bytes_max: usize,
}

impl Default for StreamsOptions {
    fn default() -> Self {
        Self {
            stream_name: "socket.io".into(),
            stream_count: 1,
            channel_prefix: "socket.io".into(),
            use_sharded_pub_sub: false,
            max_len: 10_000,
            read_count: 100,
            block_time: Duration::from_secs(5),
            session_key_prefix: "sio:session:".into(),
            live_sessions: true,
            live_session_bytes_max: 64 << 10,
        }
    }
}

/// Makes a server one with those that have the adapter `@socket.io/redis-streams-adapter` 0.3,
/// Node's or ours. What is broadcast while a server cannot reach Redis is still there when it
/// comes back: it goes on reading where it was.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sockeye::Server;
/// use sockeye_redis::{Redis, StreamsBus};
///
/// let bus = StreamsBus::new(Redis::open("redis://127.0.0.1/")?);
/// let io = Server::builder().cluster(bus).build();
/// # Ok(())
/// # }
/// ```
///
/// With connection state recovery on ([`ServerBuilder::connection_state_recovery`]), a client may
/// go on at another server, Node's or ours, as `docs/recovery.md` in the repository says.
///
/// Clones are handles to the same one: it is one server's.
///
/// [`ServerBuilder::connection_state_recovery`]: sockeye::ServerBuilder::connection_state_recovery
#[derive(Clone)]
pub struct StreamsBus(Arc<Inner>);

struct Inner {
    redis: Redis,
    commands: Arc<Commands>,
    options: StreamsOptions,
    /// Where sessions are kept of sockets that live.
    live: Option<Arc<Live>>,
    /// Sockets are recovered by what stands in the streams.
    has_log: AtomicBool,
    running: OnceLock<Running>,
}

struct Running {
    ears: Arc<Ears>,
    subscriber: Subscriber,
    reader: Reader,
    keeping: Option<Keeping>,
}

/// What hears: both ways must be there.
struct Ears {
    node: ClusterNode,
    /// The channels that are subscribed to.
    channels: RwLock<HashMap<Arc<str>, Arc<str>>>,
    is_subscribed: AtomicBool,
    /// Whether sockets are recovered by what stands in the streams.
    has_log: bool,
    /// How many readers are needed beyond those that read.
    readers_away: AtomicUsize,
}

impl StreamsBus {
    /// With the default options.
    pub fn new(redis: Redis) -> Self {
        Self::with_options(redis, StreamsOptions::default())
    }

    /// With options.
    pub fn with_options(redis: Redis, options: StreamsOptions) -> Self {
        let commands = Arc::new(Commands::new(redis.clone()));
        let live = options.live_sessions.then(|| Arc::new(Live::new(commands.clone(), &options)));
        let (has_log, running) = (AtomicBool::new(false), OnceLock::new());
        Self(Arc::new(Inner { redis, commands, options, live, has_log, running }))
    }

    /// Waits until all is heard that the server wants to hear now. Before the first connection to
    /// Redis nothing is.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn settled(&self) {
        if let Some(running) = self.0.running.get() {
            running.subscriber.settled().await;
            running.reader.begun().await;
            if let Some(live) = &self.0.live {
                live.begun().await;
            }
        }
    }

    fn common(&self, namespace: &str) -> String {
        common_channel(&self.0.options.channel_prefix, namespace)
    }

    fn subscriptions(&self, namespace: &str, node: &ClusterNode) -> [Subscription; 2] {
        let common = self.common(namespace);
        let own = format!("{common}{}#", node.id());
        [common, own].map(|channel| match self.0.options.use_sharded_pub_sub {
            true => Subscription::shard(&channel),
            false => Subscription::channel(&channel),
        })
    }

    /// Adds the command that sends a message.
    fn send(&self, envelope: &Envelope, commands: &mut Pipeline) -> Result<(), UnwritableError> {
        let options = &self.0.options;
        let Envelope { to, message } = envelope;
        if let ClusterBody::KeepSession(kept) = &message.body {
            return match &self.0.live {
                Some(live) if !live.is_refused() => live.add_kept(kept, commands),
                _ => log::add_session(kept, options, commands),
            };
        }
        if let (Some(live), Some(said)) = (&self.0.live, live::said(message)) {
            return live.add(said, &message.namespace, commands);
        }
        if is_ephemeral(&message.body) {
            let publication = encode(message, to.as_ref(), &options.channel_prefix)?;
            let publish = if options.use_sharded_pub_sub { "SPUBLISH" } else { "PUBLISH" };
            commands.cmd(publish).arg(publication.channel).arg(publication.payload);
            return Ok(());
        }
        add_entry(message, options, commands)
    }
}

/// Adds the command that appends a message to its stream.
pub(crate) fn add_entry(
    message: &ClusterMessage,
    options: &StreamsOptions,
    commands: &mut Pipeline,
) -> Result<(), UnwritableError> {
    let Entry { uid, nsp, kind, data } = encode_entry(message)?;
    let stream = stream_of(&options.stream_name, options.stream_count, &nsp);
    let command = commands.cmd("XADD").arg(stream).arg("MAXLEN").arg("~");
    command.arg(options.max_len).arg("*").arg("uid").arg(uid).arg("nsp").arg(nsp);
    command.arg("type").arg(kind);
    if let Some(data) = data {
        command.arg("data").arg(data);
    }
    Ok(())
}

impl ClusterBus for StreamsBus {
    fn start(&self, node: ClusterNode) {
        let name = format!("{}-probe#{}", self.0.options.channel_prefix, node.id());
        let probe = Probe { name, is_sharded: self.0.options.use_sharded_pub_sub };
        let ears = Arc::new(Ears {
            node,
            channels: RwLock::default(),
            is_subscribed: AtomicBool::new(false),
            has_log: self.0.has_log.load(Ordering::Acquire),
            readers_away: AtomicUsize::new(1),
        });
        let (redis, commands) = (self.0.redis.clone(), self.0.commands.clone());
        let subscriber = Subscriber::start(redis.clone(), commands.clone(), probe, ears.clone());
        let reader = Reader::start(redis, &commands, &self.0.options, &ears);
        let live = self.0.live.as_ref();
        let keeping = live.and_then(|live| live.start(ears.node.clone()));
        // A bus is given to one server.
        let _ = self.0.running.set(Running { ears, subscriber, reader, keeping });
    }

    fn log(&self) -> Option<Arc<dyn ClusterLog>> {
        self.0.has_log.store(true, Ordering::Release);
        if let Some(live) = &self.0.live {
            live.want();
        }
        Some(Arc::new(Log::of(self.clone())))
    }

    fn subscribe(&self, namespace: &Arc<str>) {
        let Some(running) = self.0.running.get() else { return };
        for subscription in self.subscriptions(namespace, &running.ears.node) {
            let mut channels = running.ears.channels.write();
            channels.insert(subscription.name.clone(), namespace.clone());
            drop(channels);
            running.subscriber.want(subscription);
        }
    }

    fn unsubscribe(&self, namespace: &Arc<str>) {
        let Some(running) = self.0.running.get() else { return };
        for subscription in self.subscriptions(namespace, &running.ears.node) {
            running.ears.channels.write().remove(&subscription.name);
            running.subscriber.unwant(&subscription);
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BusFuture<'a, Result<Offsets, BusError>> {
        Box::pin(async move {
            let mut sending = Sending::default();
            for envelope in batch {
                sending.add(|commands| self.send(envelope, commands));
            }
            let writing = self.0.live.as_ref().map(|live| live.begin(batch));
            let answers = sending.run(&self.0.commands).await;
            if let Some(writing) = writing {
                writing.end(batch, &answers);
            }
            let offset = |(index, (envelope, answer)): (usize, (&Envelope, &Answer))| {
                let body = &envelope.message.body;
                if is_ephemeral(body) || live::is_of_session(body) {
                    return None;
                }
                Some((index, LogOffset::parse(text(answer.as_ref().ok()?)?)?))
            };
            let offsets = batch.iter().zip(&answers).enumerate().filter_map(offset).collect();
            outcome(answers, offsets)
        })
    }

    fn nodes<'a>(&'a self, namespace: &'a Arc<str>) -> BusFuture<'a, Result<Nodes, BusError>> {
        Box::pin(async move {
            let sharded = self.0.options.use_sharded_pub_sub;
            others(&self.0.commands, sharded, &self.common(namespace)).await
        })
    }

    fn close(&self) -> BusFuture<'_, ()> {
        Box::pin(async move {
            if let Some(running) = self.0.running.get() {
                running.subscriber.close();
                running.reader.close();
                if let Some(keeping) = &running.keeping {
                    keeping.end();
                }
            }
            self.0.commands.close().await;
        })
    }
}

impl Ears {
    fn tell(&self) {
        let is_reading = self.is_reading();
        self.node.set_deaf(!(is_reading && self.is_subscribed.load(Ordering::Acquire)));
    }

    fn set_reading(&self, is_reading: bool) {
        match is_reading {
            true => self.readers_away.fetch_sub(1, Ordering::AcqRel),
            false => self.readers_away.fetch_add(1, Ordering::AcqRel),
        };
        self.node.set_reading_log(self.is_reading());
        self.tell();
    }

    fn is_reading(&self) -> bool {
        self.readers_away.load(Ordering::Acquire) == 0
    }
}

impl Listener for Ears {
    fn handle(&self, incoming: Incoming<'_>) {
        let Some(namespace) = self.channels.read().get(incoming.channel).cloned() else { return };
        match decode(incoming.payload) {
            Ok(message) if message.namespace == namespace => self.node.receive(message),
            Ok(_) => self.node.reject(&"a message about another namespace"),
            Err(error) => self.node.reject(&error),
        }
    }

    fn set_hearing(&self, is_hearing: bool) {
        self.is_subscribed.store(is_hearing, Ordering::Release);
        self.tell();
    }
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(list) => list,
        _ => &[],
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

impl fmt::Debug for StreamsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamsBus")
            .field("redis", &self.0.redis)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}
