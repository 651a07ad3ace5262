//! One of any number of processes whose clients are one crowd. Two of them, with a Redis:
//!
//! ```sh
//! cargo run -p sockeye-redis --example two-processes 3001
//! cargo run -p sockeye-redis --example two-processes 3002
//! ```
//!
//! What a client of one says (`say`), the clients of both hear (`said`); a client that asks to
//! (`enter`) is in a room, to which `emit-once` speaks. `REDIS_URL` says where Redis is.

use axum::Router;
use sockeye::{Data, RawArgs, Server, Socket};
use sockeye_redis::{ClassicBus, Redis};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redis = std::env::var("REDIS_URL").unwrap_or("redis://127.0.0.1/".into());
    let port = std::env::args().nth(1).unwrap_or("3000".into());
    let io = Server::builder().cluster(ClassicBus::new(Redis::open(&redis)?)).build();
    io.on("say", async |socket: Socket, RawArgs(args): RawArgs| {
        socket.namespace().emit("said", args)
    });
    io.on("enter", async |socket: Socket, Data(room): Data<String>| {
        socket.join(room);
    });
    let listener = sockeye::listen(format!("127.0.0.1:{port}")).await?;
    Ok(axum::serve(listener, Router::new().layer(io.layer())).await?)
}
