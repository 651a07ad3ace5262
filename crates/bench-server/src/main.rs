//! The server that the load generator measures, on the public API; its contract is in
//! `bench/README.md`. `PORT` is where it listens, `RT=multi` runs it on all cores, `DEFLATE=1`
//! compresses, `BUS=classic|sharded|streams` makes it a node of the cluster at `REDIS_URL`.

use std::time::Duration;

use serde_json::value::RawValue;
use sockeye::{Ack, Data, PerMessageDeflate, RawArgs, Server, ServerBuilder, Socket};
use sockeye_redis::{ClassicBus, Redis, ShardedBus, StreamsBus};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result {
    let multi = std::env::var("RT").is_ok_and(|rt| rt == "multi");
    let mut runtime = if multi {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    runtime.enable_all().build()?.block_on(serve())
}

async fn serve() -> Result {
    let deflate = std::env::var("DEFLATE").is_ok_and(|on| on == "1");
    let builder = Server::builder()
        .ping_interval(Duration::from_secs(25))
        .ping_timeout(Duration::from_secs(20))
        .max_http_buffer_size(100_000_000)
        .outbox_bytes_max(64 << 20)
        .per_message_deflate(deflate.then(PerMessageDeflate::default));
    let io = with_bus(builder)?.build();
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
    Ok(sockeye::serve(listener, io.service()).await?)
}

fn with_bus(builder: ServerBuilder) -> Result<ServerBuilder> {
    let Ok(bus) = std::env::var("BUS") else { return Ok(builder) };
    let redis = Redis::open(&std::env::var("REDIS_URL")?)?;
    Ok(match bus.as_str() {
        "classic" => builder.cluster(ClassicBus::new(redis)),
        "sharded" => builder.cluster(ShardedBus::new(redis)),
        "streams" => builder.cluster(StreamsBus::new(redis)),
        other => return Err(format!("there is no bus {other}").into()),
    })
}
