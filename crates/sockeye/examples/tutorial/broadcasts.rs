//! Six ways to send one event to many. Each encodes it once, however many it reaches.

use axum::Router;
use serde::Deserialize;
use sockeye::{Auth, Data, HandlerError, Namespace, Server, Socket};

/// What clients say in `auth`: the rooms that they want to be in.
#[derive(Deserialize)]
struct Wishes {
    rooms: Vec<String>,
}

/// What a listener returns that has nothing to say.
type Sent = Result<(), HandlerError>;

pub(crate) fn app() -> Router {
    let io = Server::default();
    io.on_connection(async |socket: Socket, Auth(wishes): Auth<Wishes>| {
        socket.join(&wishes.rooms);
    });

    // 1. Everyone.
    io.on("to all", async |io: Namespace, Data(text): Data<String>| -> Sent {
        Ok(io.emit("news", &text)?)
    });
    // 2. Everyone but the sender.
    io.on("to all others", async |socket: Socket, Data(text): Data<String>| -> Sent {
        Ok(socket.broadcast().emit("news", &text)?)
    });
    // 3. A room, the sender too if it is in it.
    io.on("to a room", async |io: Namespace, Data(text): Data<String>| -> Sent {
        Ok(io.to("red").emit("news", &text)?)
    });
    // 4. A room but the sender.
    io.on("to others in a room", async |socket: Socket, Data(text): Data<String>| -> Sent {
        Ok(socket.to("red").emit("news", &text)?)
    });
    // 5. Several rooms; who is in more than one of them gets it once.
    io.on("to rooms", async |io: Namespace, Data(text): Data<String>| -> Sent {
        Ok(io.to(["red", "blue"]).emit("news", &text)?)
    });
    // 6. Everyone but those in a room.
    io.on("to all except", async |io: Namespace, Data(text): Data<String>| -> Sent {
        Ok(io.except("red").emit("news", &text)?)
    });
    Router::new().layer(io.layer())
}
