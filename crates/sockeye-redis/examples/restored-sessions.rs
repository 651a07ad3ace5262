//! One of any number of processes at which clients go on where they were at another: with their
//! ids, their rooms, and what they missed. `two-processes` with another bus, and one option more.
//!
//! ```sh
//! cargo run -p sockeye-redis --example restored-sessions 3001
//! ```
//!
//! What a client says (`say`) those of its room hear (`said`), wherever they are. At SIGTERM its
//! clients are handed over. `REDIS_URL` says where Redis is.

use std::time::Duration;

use axum::Router;
use sockeye::{ConnectionStateRecovery, Data, RawArgs, Server, Socket};
use sockeye_redis::{Redis, StreamsBus};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redis = std::env::var("REDIS_URL").unwrap_or("redis://127.0.0.1/".into());
    let port = std::env::args().nth(1).unwrap_or("3000".into());
    let io = Server::builder()
        .cluster(StreamsBus::new(Redis::open(&redis)?))
        .connection_state_recovery(ConnectionStateRecovery::default())
        .build();
    io.on("enter", async |socket: Socket, Data(room): Data<String>| {
        socket.join(room);
    });
    io.on("say", async |socket: Socket, Data(room): Data<String>, RawArgs(args): RawArgs| {
        socket.namespace().to(room).emit("said", args)
    });
    let listener = sockeye::listen(format!("127.0.0.1:{port}")).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = async { axum::serve(listener, Router::new().layer(io.layer())).await } => served?,
        _ = terminate.recv() => {
            io.shutdown(Duration::from_secs(5)).await;
        }
    }
    Ok(())
}
