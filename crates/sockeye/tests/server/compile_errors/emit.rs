//! Arguments and names that cannot be emitted.

use sockeye::Socket;

struct Message;

fn send(socket: &Socket) {
    let _ = socket.emit("message", Message);
    let _ = socket.emit(1.5, ());
    socket.join(7);
}

fn main() {
    let _ = send;
}
