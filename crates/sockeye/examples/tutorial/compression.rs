//! Compression, over long-polling and over WebSocket: how small is too small, and how hard to try.

use axum::Router;
use sockeye::{Data, HandlerError, HttpCompression, PerMessageDeflate, Reply, Server, Socket};

pub(crate) fn app() -> Router {
    let io = Server::builder()
        // Responses of half a kilobyte or more, where the client accepts gzip or deflate. Level 1
        // takes a third of the time of the default 6, and makes them about a third larger.
        .http_compression(Some(HttpCompression { threshold_bytes: 512, level: 1 }))
        // WebSocket messages, where the client offers it. Off unless it is set. A broadcast is
        // compressed once, however many it reaches.
        .per_message_deflate(Some(PerMessageDeflate {
            threshold_bytes: 512,
            level: 1,
            ..PerMessageDeflate::default()
        }))
        .build();
    io.on("report", async |Data(lines): Data<usize>| Reply("all is well\n".repeat(lines)));
    // What is compressed already, or must not be guessed by its length, is sent as it is.
    io.on("secret", async |socket: Socket, Data(length): Data<usize>| {
        socket.compress(false).emit("secret", "s".repeat(length))?;
        Ok::<_, HandlerError>(())
    });
    Router::new().layer(io.layer())
}
