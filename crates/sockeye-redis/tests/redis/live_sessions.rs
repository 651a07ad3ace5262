//! Sessions of sockets that live, as Redis has them, and whose they are when a node is back that
//! could not say for a while that it was there.

use std::net::SocketAddr;
use std::time::Duration;

use redis::Cmd;
use sockeye::{ConnectionStateRecovery, Server};
use sockeye_cluster_kit::{Client, until};
use sockeye_redis::{Redis, StreamsBus, StreamsOptions};

use crate::server::{Proxy, RedisServer, rule, until_two, words};

/// A request is not waited for, as long as a lease lasts.
const LONG: Duration = Duration::from_secs(60);

struct Node {
    io: Server,
    proxy: Proxy,
}

async fn node(redis: &RedisServer, options: StreamsOptions) -> Node {
    node_by(redis, &|address| format!("redis://{address}/"), options).await
}

async fn node_by(
    redis: &RedisServer,
    url: &dyn Fn(SocketAddr) -> String,
    options: StreamsOptions,
) -> Node {
    let proxy = Proxy::to(redis.address()).await;
    let redis = Redis::open(&url(proxy.address)).expect("a URL");
    let bus = StreamsBus::with_options(redis, options);
    let io = Server::builder()
        .cluster(bus.clone())
        .cluster_request_timeout(LONG)
        .connection_state_recovery(ConnectionStateRecovery::default())
        .build();
    io.of("/");
    bus.settled().await;
    Node { io, proxy }
}

fn live_key(client: &Client) -> String {
    let pid = client.claim().pid.as_deref().expect("recovery is on");
    format!("{{sio:session:{pid}}}:live")
}

fn ask<T: redis::FromRedisValue>(redis: &RedisServer, verb: &str, key: &str) -> T {
    redis.ask(Cmd::new().arg(verb).arg(key)).expect("it is asked")
}

fn is_there(redis: &RedisServer, client: &Client) -> bool {
    ask(redis, "EXISTS", &live_key(client))
}

#[tokio::test]
async fn a_session_is_there_for_as_long_as_its_socket_lives() {
    let redis = RedisServer::start().await;
    let node = node(&redis, StreamsOptions::default()).await;
    let client = Client::join(&node.io).await;
    let socket = node.io.of("/").socket(&client.id()).expect("it is connected");
    until("it is there", || is_there(&redis, &client)).await;
    let key = live_key(&client);
    let left: i64 = ask(&redis, "PTTL", &key);
    assert!((120_000..=210_000).contains(&left), "{left}");
    let before: String = ask(&redis, "GET", &key);
    socket.join("room");
    until("it is written anew", || ask::<String>(&redis, "GET", &key) != before).await;
    socket.disconnect(false);
    until("it is gone", || !is_there(&redis, &client)).await;
    // One that may come back is where Node's servers find it, and only there.
    let other = Client::join(&node.io).await;
    until("it is there", || is_there(&redis, &other)).await;
    let (key, live) = (other.claim().pid.clone().expect("recovery is on"), live_key(&other));
    drop(other);
    let key = format!("sio:session:{key}");
    until("it is handed over", || ask(&redis, "EXISTS", &key)).await;
    assert!(!ask::<bool>(&redis, "EXISTS", &live));
}

/// Cut off from Redis for longer than its lease, it finds its socket taken up, and ends it.
#[tokio::test]
async fn a_socket_that_was_taken_up_ends_where_it_was() {
    let redis = RedisServer::start().await;
    let [first, second] = [
        node(&redis, StreamsOptions::default()).await,
        node(&redis, StreamsOptions::default()).await,
    ];
    until_two(&first.io).await;
    let (mut client, stays) = (Client::join(&first.io).await, Client::join(&first.io).await);
    until("both are there", || is_there(&redis, &client) && is_there(&redis, &stays)).await;
    let (_, is_recovered) = Client::take_up(&second.io, client.claim()).await;
    assert!(!is_recovered, "its node is there");
    let old = first.io.of("/").socket(&client.id()).expect("it is connected");
    first.proxy.cut();
    let (taken, is_recovered) = Client::take_up(&second.io, client.claim()).await;
    assert!(is_recovered && old.is_connected(), "nobody has told its node");
    until("it is its new node's", || is_there(&redis, &taken)).await;
    first.proxy.mend();
    until("it has ended", || !old.is_connected()).await;
    assert_eq!(client.next().await, None, "the client is told");
    assert!(second.io.of("/").socket(&taken.id()).is_some(), "where it was taken up it lives");
    assert!(is_there(&redis, &taken));
    // Those that nobody wanted live on, and are its own.
    let stayed = first.io.of("/").socket(&stays.id()).expect("it is connected");
    let (_, is_recovered) = Client::take_up(&second.io, stays.claim()).await;
    assert!(!is_recovered && stayed.is_connected());
}

/// Whatever its node says of it before it knows: nothing is written over another's session.
#[tokio::test]
async fn a_socket_that_was_taken_up_is_not_handed_over_again() {
    let redis = RedisServer::start().await;
    let node = node(&redis, StreamsOptions::default()).await;
    let (ends, changes) = (Client::join(&node.io).await, Client::join(&node.io).await);
    let leaves = Client::join(&node.io).await;
    let all = [live_key(&ends), live_key(&changes), live_key(&leaves)];
    let are_there = || all.iter().all(|key| ask(&redis, "EXISTS", key));
    until("they are there", are_there).await;
    let of_another = format!("{}00000000", "f".repeat(16));
    for key in &all {
        redis.ask::<()>(Cmd::new().arg("SET").arg(key).arg(&of_another)).expect("it is set");
    }
    let published = || node.io.cluster_health().expect("it is in a cluster").published;
    until("its node knows that they are", || published() >= 3).await;
    let before = published();
    let socket = |client: &Client| node.io.of("/").socket(&client.id()).expect("it is connected");
    let (changed, left) = (socket(&changes), socket(&leaves));
    let key = format!("sio:session:{}", ends.claim().pid.as_deref().expect("recovery is on"));
    drop(ends);
    left.disconnect(false);
    changed.join("room");
    until("it has ended, too", || !changed.is_connected()).await;
    until("all is said", || published() >= before + 4).await;
    assert!(!ask::<bool>(&redis, "EXISTS", &key));
    for key in &all {
        assert_eq!(ask::<String>(&redis, "GET", key), of_another);
    }
}

/// A Redis that has lost everything is told again, and nobody loses a socket.
#[tokio::test]
async fn what_redis_has_lost_is_entered_again() {
    let mut redis = RedisServer::start().await;
    let node = node(&redis, StreamsOptions::default()).await;
    let client = Client::join(&node.io).await;
    until("it is there", || is_there(&redis, &client)).await;
    redis.kill();
    redis.restart().await;
    until("it is there again", || is_there(&redis, &client)).await;
    assert!(node.io.of("/").socket(&client.id()).is_some());
}

/// What docs/scaling.md says of users is enough.
#[tokio::test]
async fn a_user_needs_no_more_for_sessions() {
    let redis = RedisServer::start().await;
    redis.ask::<()>(&mut rule("socket.io")).expect("it is a rule");
    let more = "ACL SETUSER sockeye ~sio:session:* ~{sio:session:* \
                +get +set +getdel +del +pttl +getrange +setrange +eval";
    redis.ask::<()>(&mut words(more)).expect("it is a rule");
    let url = |address| format!("redis://sockeye:s3cret@{address}/");
    let options = StreamsOptions::default;
    let first = node_by(&redis, &url, options()).await;
    let second = node_by(&redis, &url, options()).await;
    let client = Client::join(&first.io).await;
    until("it is there", || is_there(&redis, &client)).await;
    first.proxy.cut();
    let (taken, is_recovered) = Client::take_up(&second.io, client.claim()).await;
    assert!(is_recovered);
    first.proxy.mend();
    let old = || first.io.of("/").socket(&client.id());
    until("it has ended where it was", || old().is_none()).await;
    let claim = taken.lose();
    claim.come_back(&first.io).await;
    assert_eq!(second.io.cluster_health().expect("it is in a cluster").failed, 0);
}

#[tokio::test]
async fn what_is_too_large_or_not_wanted_is_not_kept() {
    let redis = RedisServer::start().await;
    let off = node(&redis, StreamsOptions { live_sessions: false, ..Default::default() }).await;
    let unseen = Client::join(&off.io).await;
    let on = node(&redis, StreamsOptions { live_session_bytes_max: 1000, ..Default::default() });
    let on = on.await;
    let client = Client::join(&on.io).await;
    let socket = on.io.of("/").socket(&client.id()).expect("it is connected");
    until("it is there", || is_there(&redis, &client)).await;
    socket.set_shared_data(&"x".repeat(1000)).expect("JSON");
    until("it is gone", || !is_there(&redis, &client)).await;
    socket.set_shared_data("x").expect("JSON");
    until("it is there again", || is_there(&redis, &client)).await;
    assert!(!is_there(&redis, &unseen));
}

/// Redis takes no time that ends when nobody counts any more, nor one that is none.
#[tokio::test]
async fn times_without_end_and_without_length_are_times() {
    for time in [Duration::MAX, Duration::ZERO] {
        let redis = RedisServer::start().await;
        let start = async || {
            let options = StreamsOptions { block_time: time, ..StreamsOptions::default() };
            let address = Redis::open(&redis.url()).expect("a URL");
            let bus = StreamsBus::with_options(address, options);
            let recovery =
                ConnectionStateRecovery::default().max_disconnection_duration(Duration::MAX);
            let io = Server::builder().cluster(bus.clone()).connection_state_recovery(recovery);
            let io = io.build();
            io.of("/");
            bus.settled().await;
            io
        };
        let (first, second) = (start().await, start().await);
        let mut client = Client::join(&second).await;
        until("it is there", || is_there(&redis, &client)).await;
        first.emit("event", ()).expect("sent");
        assert_eq!(client.next().await.expect("it is heard").list[0], "event");
        let claim = client.lose();
        let key = format!("sio:session:{}", claim.pid.as_deref().expect("recovery is on"));
        until("it is kept", || ask(&redis, "EXISTS", &key)).await;
        assert!(Client::take_up(&first, &claim).await.1);
        assert_eq!(second.cluster_health().expect("it is in a cluster").failed, 0);
    }
}
