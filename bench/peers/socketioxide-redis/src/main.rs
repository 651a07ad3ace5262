//! Peer: socketioxide on axum/hyper with socketioxide-redis. See ../../README.md for the contract.
//! env: PORT, REDIS_URL, DRIVER=redis|fred (default redis)
use std::time::Duration;

use serde_json::Value;
use socketioxide::{
    SocketIo, SocketIoBuilder,
    adapter::Adapter,
    extract::{AckSender, Data, SocketRef, TryData},
    layer::SocketIoLayer,
};
use socketioxide_redis::{FredAdapter, RedisAdapter, RedisAdapterCtr};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run());
}

async fn run() {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let url = format!("{url}?protocol=resp3");
    if std::env::var("DRIVER").as_deref() == Ok("fred") {
        let mut config = fred::prelude::Config::from_url(&url).unwrap();
        config.version = fred::types::RespVersion::RESP3;
        let client = fred::prelude::Builder::from_config(config).build_subscriber_client().unwrap();
        let adapter = RedisAdapterCtr::new_with_fred(client).await.unwrap();
        let (layer, io) = build(SocketIo::builder().with_adapter::<FredAdapter<_>>(adapter));
        io.ns("/", on_connect).await.unwrap();
        serve(layer).await;
    } else {
        let client = redis::Client::open(url).unwrap();
        let adapter = RedisAdapterCtr::new_with_redis(&client).await.unwrap();
        let (layer, io) = build(SocketIo::builder().with_adapter::<RedisAdapter<_>>(adapter));
        io.ns("/", on_connect).await.unwrap();
        serve(layer).await;
    }
}

fn build<A: Adapter>(builder: SocketIoBuilder<A>) -> (SocketIoLayer<A>, SocketIo<A>) {
    builder
        .ping_interval(Duration::from_secs(25))
        .ping_timeout(Duration::from_secs(20))
        .max_payload(100_000_000)
        .build_layer()
}

async fn serve<A: Adapter>(layer: SocketIoLayer<A>) {
    let app = axum::Router::new().layer(layer);
    let port: u16 = std::env::var("PORT").ok().and_then(|v| v.parse().ok()).unwrap_or(3000);
    let sock = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    sock.set_reuse_address(true).unwrap();
    sock.set_nonblocking(true).unwrap();
    sock.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], port)).into()).unwrap();
    sock.listen(4096).unwrap();
    let listener = tokio::net::TcpListener::from_std(sock.into()).unwrap();
    use axum::serve::ListenerExt;
    let listener = listener.tap_io(|s| {
        let _ = s.set_nodelay(true);
    });
    axum::serve(listener, app).await.unwrap();
}

async fn on_connect<A: Adapter>(socket: SocketRef<A>) {
    socket.on("echo", echo::<A>);
    socket.on("broadcast", broadcast::<A>);
    socket.on("join", join::<A>);
    socket.on("room", room::<A>);
}

async fn echo<A: Adapter>(Data(args): Data<Value>, ack: AckSender<A>) {
    let _ = ack.send(&args);
}

async fn broadcast<A: Adapter>(io: SocketIo<A>, Data(payload): Data<Value>) {
    let _ = io.emit("broadcast", &payload).await;
}

async fn join<A: Adapter>(s: SocketRef<A>, Data(room): Data<String>, ack: AckSender<A>) {
    s.join(room);
    let _ = ack.send(&Vec::<u8>::new());
}

async fn room<A: Adapter>(io: SocketIo<A>, TryData(d): TryData<(String, Value)>) {
    if let Ok((room, payload)) = d {
        let _ = io.to(room).emit("room", &payload).await;
    }
}
