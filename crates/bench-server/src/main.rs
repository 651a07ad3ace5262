//! The server that the load generator measures, on the public API; its contract is in
//! `bench/README.md`. `PORT` is where it listens, `RT=multi` runs it on all cores, `DEFLATE=1`
//! compresses.

use std::time::Duration;

use serde_json::value::RawValue;
use sockeye::{Ack, Data, PerMessageDeflate, RawArgs, Server, Socket};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::io::Result<()> {
    let multi = std::env::var("RT").is_ok_and(|rt| rt == "multi");
    let mut runtime = if multi {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    runtime.enable_all().build()?.block_on(serve())
}

async fn serve() -> std::io::Result<()> {
    let deflate = std::env::var("DEFLATE").is_ok_and(|on| on == "1");
    let io = Server::builder()
        .ping_interval(Duration::from_secs(25))
        .ping_timeout(Duration::from_secs(20))
        .max_http_buffer_size(100_000_000)
        .outbox_bytes_max(64 << 20)
        .per_message_deflate(deflate.then(PerMessageDeflate::default))
        .build();
    io.on("echo", async |socket: Socket, RawArgs(args): RawArgs, ack: Ack| {
        // A client that has gone needs no answer.
        let _ = if ack.is_wanted() { ack.send(args) } else { socket.emit("echo", args) };
    });
    io.on("broadcast", async |socket: Socket, Data(payload): Data<Box<RawValue>>| {
        let _ = socket.namespace().emit("broadcast", &payload);
    });
    io.on("join", async |socket: Socket, Data(room): Data<String>| {
        socket.join(room);
    });
    io.on(
        "room",
        async |socket: Socket, Data(room): Data<String>, Data(payload): Data<Box<RawValue>>| {
            let _ = socket.namespace().to(room).emit("room", &payload);
        },
    );
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".into());
    let listener = sockeye::listen(format!("0.0.0.0:{port}")).await?;
    sockeye::serve(listener, io.service()).await
}
