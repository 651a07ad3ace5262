//! Rooms: who is told when somebody joins, leaves, or is gone.

use axum::Router;
use serde_json::json;
use sockeye::{Data, HandlerError, Reply, Server, Socket};

pub(crate) fn app() -> Router {
    let io = Server::default();
    io.on("join", async |socket: Socket, Data(room): Data<String>| {
        socket.join(&room);
        let members = socket.namespace().to(&room).sockets().len();
        let joined = json!({ "room": room, "who": socket.id(), "members": members });
        // To everyone in the room but who has joined.
        socket.to(&room).emit("joined", &joined)?;
        Ok::<_, HandlerError>(members)
    });
    io.on("leave", async |socket: Socket, Data(room): Data<String>| {
        socket.leave(&room);
        socket.to(&room).emit("left", json!({ "room": room, "who": socket.id() }))?;
        Ok::<_, HandlerError>(())
    });
    io.on("rooms", async |socket: Socket| {
        Reply((socket.rooms().iter().map(ToString::to_string).collect::<Vec<_>>(),))
    });
    // However a connection ends, its socket is still in its rooms here.
    io.on_disconnecting(async |socket: Socket| {
        for room in socket.rooms() {
            let left = json!({ "room": *room, "who": socket.id() });
            let _ = socket.to(&room).emit("left", left);
        }
    });
    Router::new().layer(io.layer())
}
