//! Connection state recovery: a client that lost its connection goes on with the socket that it
//! had, and gets what it missed.

use std::time::Duration;

use axum::Router;
use sockeye::{
    ConnectionStateRecovery, Data, DisconnectReason, HandlerError, Namespace, Server, Socket,
};

pub(crate) fn app() -> Router {
    // For how long a client may be away. What is kept for it meanwhile has limits, too.
    let recovery =
        ConnectionStateRecovery::default().max_disconnection_duration(Duration::from_secs(120));
    let io = Server::builder().connection_state_recovery(recovery).build();

    io.on_connection(async |socket: Socket| {
        if socket.recovered() {
            // It has its id, its rooms and its data, and what it missed is on its way.
            println!("{} is back", socket.id());
            return;
        }
        socket.join("news");
        let _ = socket.emit("welcome", "Here are the news, from now on.");
    });
    io.on("publish", async |io: Namespace, Data(text): Data<String>| {
        io.to("news").emit("news", &text)?;
        Ok::<_, HandlerError>(())
    });
    io.on_disconnect(async |socket: Socket, reason: DisconnectReason| {
        // Who said goodbye is not expected back.
        println!("{} is gone, recoverable: {}", socket.id(), reason.is_recoverable());
    });
    Router::new().layer(io.layer())
}
