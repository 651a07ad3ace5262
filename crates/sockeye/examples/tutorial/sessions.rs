//! Sessions that outlive connections: who comes back is who they were, also after a reload or in a
//! second window.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sockeye::{Auth, ConnectError, Data, Extension, HandlerError, Server, Socket, SocketId, State};

/// What a client keeps (in its `localStorage`) and shows when it comes back.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Credentials {
    session_id: Option<String>,
    username: Option<String>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_id: String,
    user_id: String,
    username: String,
}

/// In memory here; in a database, sessions outlive the server too.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, Session>>>);

impl Sessions {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().expect("no holder panics")
    }
}

pub(crate) fn app() -> Router {
    let io = Server::builder().state(Sessions::default()).build();
    io.middleware(restore);
    io.on_connection(connected);
    io.on("private message", private_message);
    io.on_disconnect(disconnected);
    Router::new().layer(io.layer())
}

/// Finds the session that the client names, or begins a new one.
async fn restore(
    socket: Socket,
    Auth(credentials): Auth<Credentials>,
    State(sessions): State<Sessions>,
) -> Result<(), ConnectError> {
    let known = credentials.session_id.and_then(|id| sessions.all().get(&id).cloned());
    let session = match known {
        Some(session) => session,
        None => {
            let username = credentials.username.ok_or("a new session wants a username")?;
            let session = Session { session_id: random_id(), user_id: random_id(), username };
            sessions.all().insert(session.session_id.clone(), session.clone());
            session
        }
    };
    socket.data().insert(session);
    Ok(())
}

async fn connected(socket: Socket, Extension(session): Extension<Session>) {
    // All windows of a user are in one room.
    socket.join(&session.user_id);
    let _ = socket.emit("session", &session);
    let who = json!({ "userId": session.user_id, "username": session.username });
    let _ = socket.broadcast().emit("user connected", who);
}

/// To all windows of the other, and to the sender's own others.
async fn private_message(
    socket: Socket,
    Extension(session): Extension<Session>,
    Data(to): Data<String>,
    Data(text): Data<String>,
) -> Result<(), HandlerError> {
    let message = json!({ "from": session.user_id, "to": to, "text": text });
    socket.to([&to, &session.user_id]).emit("private message", message)?;
    Ok(())
}

/// A user is gone when the last window is.
async fn disconnected(socket: Socket, Extension(session): Extension<Session>) {
    if socket.namespace().to(&session.user_id).sockets().is_empty() {
        let _ = socket.broadcast().emit("user disconnected", &session.user_id);
    }
}

/// A session's id is as good as a password: nobody must be able to guess it.
fn random_id() -> String {
    let mut entropy = [0; 15];
    getrandom::fill(&mut entropy).expect("the system has randomness");
    SocketId::from_entropy(entropy).to_string()
}
