//! A connection has no arguments.

use sockeye::{Data, Server, Socket};

async fn connected(socket: Socket, Data(room): Data<String>) {
    socket.join(&room);
}

fn main() {
    Server::default().on_connection(connected);
}
