//! Speaks to the clients of a cluster and ends: what a cron job does, which serves nobody.
//!
//! ```sh
//! cargo run -p sockeye-redis --example emit-once news headline '{"weather":"rain"}'
//! ```
//!
//! A room, an event, JSON. It ends when Redis has it. `REDIS_URL` says where Redis is.

use sockeye_redis::{Redis, RedisEmitter};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redis = std::env::var("REDIS_URL").unwrap_or("redis://127.0.0.1/".into());
    let [room, event, json] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|given: Vec<_>| {
            format!("a room, an event and JSON are needed; given were {}", given.len())
        })?;
    let data: serde_json::Value = serde_json::from_str(&json)?;
    let emitter = RedisEmitter::classic(Redis::open(&redis)?, "socket.io");
    Ok(emitter.to(room).emit(event, data).await?)
}
