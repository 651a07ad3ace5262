//! One of several servers behind a balancer, which are one over Redis. `tests/balancer` starts
//! some, by `PORT`, `REDIS_URL`, `BUS` (`classic` or `sharded`) and `FORWARD` (`1`: long-polling
//! needs no sticky balancer).

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use sockeye::{RawArgs, Server, ServerBuilder, Socket};
use sockeye_redis::{ClassicBus, Redis, ShardedBus};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let forward = std::env::var("FORWARD").is_ok_and(|forward| forward == "1");
    let io = with_bus(Server::builder())?.forward_requests(forward).build();
    // To everybody, on whichever server they are.
    io.on("say", async |socket: Socket, RawArgs(args): RawArgs| {
        socket.namespace().emit("said", args)
    });
    let sessions = io.clone();
    let count = async move || sessions.session_count().to_string();
    let app = Router::new().route("/sessions", get(count)).layer(io.layer());
    let port = std::env::var("PORT")?;
    let listener = sockeye::listen(format!("127.0.0.1:{port}")).await?;
    // A balancer's readiness probe would ask the same.
    while io.node_count().await.is_err() || io.cluster_health().is_some_and(|link| link.is_deaf) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    say(&format!("listening on http://{}", listener.local_addr()?));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served?,
        _ = terminate.recv() => {
            io.shutdown(Duration::from_secs(5)).await;
        }
    }
    Ok(())
}

fn with_bus(builder: ServerBuilder) -> Result<ServerBuilder, Box<dyn std::error::Error>> {
    let redis = Redis::open(&std::env::var("REDIS_URL")?)?;
    match std::env::var("BUS").as_deref() {
        Ok("sharded") => Ok(builder.cluster(ShardedBus::new(redis))),
        _ => Ok(builder.cluster(ClassicBus::new(redis))),
    }
}

#[expect(clippy::print_stdout, reason = "the tests wait for this line")]
fn say(line: &str) {
    println!("{line}");
}
