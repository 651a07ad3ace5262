//! Namespaces: separate parts of an application over one connection.

use axum::Router;
use serde::Deserialize;
use serde_json::json;
use sockeye::{Auth, ConnectError, Data, Extension, HandlerError, Namespace, Server, Socket, with};

#[derive(Clone, Deserialize)]
struct User {
    name: String,
}

pub(crate) fn app() -> Router {
    let io = Server::default();
    let (chat, notifications) = (io.of("/chat"), io.of("/notifications"));

    // Each has middlewares, sockets, rooms and events of its own.
    chat.middleware(sign_in);
    notifications.middleware(sign_in);
    notifications.on_connection(async |socket: Socket, Extension(user): Extension<User>| {
        socket.join(&user.name);
        let _ = socket.emit("unread", 0);
    });

    // A handler of one may send to another.
    chat.on("message", with(notifications, message));
    Router::new().layer(io.layer())
}

/// Who has no name is refused, as `auth` is not what was expected.
async fn sign_in(socket: Socket, Auth(user): Auth<User>) -> Result<(), ConnectError> {
    socket.data().insert(user);
    Ok(())
}

async fn message(
    notifications: Namespace,
    socket: Socket,
    Extension(user): Extension<User>,
    Data(text): Data<String>,
) -> Result<usize, HandlerError> {
    socket.namespace().emit("message", json!({ "from": user.name, "text": text }))?;
    // Whoever is named with an @ is notified, in whichever window.
    let named: Vec<_> = text.split_whitespace().filter_map(|word| word.strip_prefix('@')).collect();
    if !named.is_empty() {
        notifications.to(&named[..]).emit("mention", json!({ "by": user.name }))?;
    }
    Ok(named.len())
}
