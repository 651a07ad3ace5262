//! Middlewares that say neither yes nor no.

use sockeye::{Server, Socket};

fn main() {
    let io = Server::default();
    io.middleware(async |socket: Socket| socket.join("all"));
    io.event_middleware(async |socket: Socket| socket.is_in("all"));
}
