//! Setting up a server: who may connect, and how soon a lost client is noticed.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use sockeye::{Cors, DisconnectReason, Server, Socket};

pub(crate) fn app() -> Router {
    let io = Server::builder()
        // Pages of this origin may connect, and send their cookies. Without it, only pages that
        // this server has served.
        .cors(Cors::origin("http://localhost:5173").credentials(true))
        // Each client is sent a ping every ten seconds. One that leaves a ping unanswered for five
        // is gone.
        .ping_interval(Duration::from_secs(10))
        .ping_timeout(Duration::from_secs(5))
        .build();

    io.on_connection(async |socket: Socket| {
        println!("{} is here, over {}", socket.id(), socket.transport().as_str());
    });
    io.on_disconnect(async |socket: Socket, reason: DisconnectReason| {
        println!("{} is gone: {reason}", socket.id());
    });

    // Whatever else the application serves goes on as before.
    Router::new().route("/", get(async || "hello")).layer(io.layer())
}
