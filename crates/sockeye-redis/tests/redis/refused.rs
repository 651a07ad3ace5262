//! What Redis refuses, or cannot be written: it takes nothing with it.

use serde_json::{Value, json};
use sockeye::cluster::ClusterBus;
use sockeye::{Binary, ConnectionStateRecovery, Server, ServerBuilder};
use sockeye_cluster_kit::{Client, until};
use sockeye_redis::{ClassicBus, Redis, ShardedBus, StreamsBus, StreamsOptions};

use crate::server::{RedisServer, rule, until_two, words};

async fn node(bus: impl ClusterBus, set: impl Fn(ServerBuilder) -> ServerBuilder) -> Server {
    let io = set(Server::builder().cluster(bus)).build();
    io.of("/");
    io
}

fn failed(io: &Server) -> u64 {
    io.cluster_health().expect("it is in a cluster").failed
}

/// Nests deeper than any reader takes.
fn deep() -> Value {
    (0..200).fold(json!(1), |inner, _| json!([inner]))
}

async fn check_unwritable<B: ClusterBus>(make: impl Fn(Redis) -> B) {
    let server = RedisServer::start().await;
    let redis = Redis::open(&server.url()).expect("a URL");
    let nodes = [node(make(redis.clone()), |b| b).await, node(make(redis), |b| b).await];
    for io in &nodes {
        until_two(io).await;
    }
    let mut client = Client::join(&nodes[1]).await;
    let before = failed(&nodes[0]);
    // No task runs meanwhile: it is one batch.
    nodes[0].emit("deep", (Binary::from(vec![1]), deep())).expect("this node's clients get it");
    nodes[0].emit("fine", 1).expect("sent");
    let fetched = nodes[0].broadcast().fetch_sockets().await;
    assert_eq!(fetched.expect("all answer").len(), 1);
    client.expect(json!(["fine", 1])).await;
    assert_eq!(failed(&nodes[0]), before + 1);
}

#[tokio::test]
async fn what_the_classic_bus_cannot_write_takes_nothing_with_it() {
    check_unwritable(ClassicBus::new).await;
}

#[tokio::test]
async fn what_the_sharded_bus_cannot_write_takes_nothing_with_it() {
    check_unwritable(ShardedBus::new).await;
}

#[tokio::test]
async fn what_the_streams_bus_cannot_write_takes_nothing_with_it() {
    check_unwritable(StreamsBus::new).await;
}

/// A channel that the user may not publish to.
#[tokio::test]
async fn a_message_that_redis_refuses_takes_nothing_with_it() {
    let server = RedisServer::start().await;
    let user = "ACL SETUSER sockeye on >s3cret allkeys allchannels +@all -publish \
                (+publish &socket.io-* &socket.io#/#)";
    server.ask::<()>(&mut words(user)).expect("it is a rule");
    let url = format!("redis://sockeye:s3cret@{}/", server.address());
    let cut = Redis::open(&url).expect("a URL");
    let whole = Redis::open(&server.url()).expect("a URL");
    let io = node(ClassicBus::new(cut), |b| b).await;
    let other = node(ClassicBus::new(whole), |b| b).await;
    until_two(&io).await;
    until_two(&other).await;
    let mut client = Client::join(&other).await;
    let before = failed(&io);
    io.to("secret").emit("refused", ()).expect("sent");
    io.emit("fine", 1).expect("sent");
    let fetched = io.broadcast().fetch_sockets().await;
    assert_eq!(fetched.expect("all answer").len(), 1);
    client.expect(json!(["fine", 1])).await;
    assert_eq!(failed(&io), before + 1);
}

/// A user that may run no scripts: sessions are kept as without those of sockets that live.
#[tokio::test]
async fn without_scripts_sessions_are_kept_when_sockets_end() {
    let server = RedisServer::start().await;
    server.ask::<()>(&mut rule("socket.io")).expect("it is a rule");
    let more = "ACL SETUSER sockeye ~sio:session:* +set +getdel";
    server.ask::<()>(&mut words(more)).expect("it is a rule");
    let url = format!("redis://sockeye:s3cret@{}/", server.address());
    let start = async || {
        let redis = Redis::open(&url).expect("a URL");
        let bus = StreamsBus::with_options(redis, StreamsOptions::default());
        let recovery = ConnectionStateRecovery::default();
        let io = node(bus.clone(), |builder| builder.connection_state_recovery(recovery.clone()));
        let io = io.await;
        bus.settled().await;
        io
    };
    let (first, second) = (start().await, start().await);
    until_two(&first).await;
    until_two(&second).await;
    let mut client = Client::join(&first).await;
    first.emit("before", ()).expect("sent");
    client.next().await.expect("it comes with its offset");
    let claim = client.lose();
    second.emit("missed", ()).expect("sent");
    let key = format!("sio:session:{}", claim.pid.as_deref().expect("recovery is on"));
    let is_kept = || server.ask::<bool>(&mut words(&format!("EXISTS {key}"))).expect("it answers");
    until("its session is kept", is_kept).await;
    let (mut client, is_recovered) = Client::take_up(&second, &claim).await;
    assert!(is_recovered);
    assert_eq!(client.next().await.expect("it was missed").list[0], json!("missed"));
    // The script's refusals are no messages.
    assert_eq!((failed(&first), failed(&second)), (0, 0));
}
