//! A parameter that is no extractor.

use sockeye::{Server, Socket};

fn main() {
    let io = Server::default();
    io.on("message", async |socket: Socket, text: String| {
        let _ = socket.emit("message", &text);
    });
}
