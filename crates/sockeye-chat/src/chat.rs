//! The chat's events: joining, messages, typing, leaving, restoring.
//! Does not know HTTP; whoever gets past the middleware is signed in.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use sockeye::{Ack, Auth, ConnectError, Data, HandlerError, Server, Socket, State};

use crate::app::App;
use crate::store::{Message, Session};
use crate::tokens::{TokenError, now_ms, random};

/// Who is in which room, over all connections: a user with two windows is there once.
#[derive(Default)]
pub(crate) struct Presence {
    rooms: Mutex<HashMap<String, BTreeMap<String, usize>>>,
}

impl Presence {
    /// Returns whether it is the user's first connection in the room.
    fn join(&self, room: &str, username: &str) -> bool {
        let mut rooms = self.rooms.lock();
        let members = rooms.entry(room.to_owned()).or_default();
        let connections = members.entry(username.to_owned()).or_default();
        *connections += 1;
        *connections == 1
    }

    /// Returns whether it was the user's last connection in the room.
    fn leave(&self, room: &str, username: &str) -> bool {
        let mut rooms = self.rooms.lock();
        let Some(members) = rooms.get_mut(room) else { return false };
        let Some(connections) = members.get_mut(username) else { return false };
        *connections -= 1;
        let last = *connections == 0;
        if last {
            members.remove(username);
        }
        if members.is_empty() {
            rooms.remove(room);
        }
        last
    }

    fn members(&self, room: &str) -> Vec<String> {
        self.rooms
            .lock()
            .get(room)
            .map(|members| members.keys().cloned().collect())
            .unwrap_or_default()
    }
}

/// What a connection is.
#[derive(Clone)]
struct Connected {
    username: String,
    session_id: String,
}

/// Adds the chat to a server.
pub(crate) fn attach(io: &Server) {
    io.middleware(authenticate);
    io.on_connection(connected);
    io.on("chat:join", join);
    io.on("chat:message", message);
    io.on("chat:typing", typing);
    io.on("chat:leave", leave);
    io.on("session:restore", restore);
    io.on_disconnecting(disconnecting);
}

#[derive(Deserialize)]
struct Credentials {
    token: Option<String>,
}

async fn authenticate(
    socket: Socket,
    auth: Result<Auth<Credentials>, sockeye::Rejection>,
    State(app): State<App>,
) -> Result<(), ConnectError> {
    let refuse = |message: &str, code: &str| {
        Err(ConnectError::new(message).with_data(&json!({ "code": code })))
    };
    let token = match auth {
        Ok(Auth(Credentials { token: Some(token) })) => token,
        Ok(_) => return refuse("Authentication required", "auth_required"),
        Err(_) => return refuse("Invalid token", "invalid_token"),
    };
    let claims = match app.tokens.verify(&token) {
        Ok(claims) => claims,
        Err(TokenError::Expired) => return refuse("Invalid token", "token_expired"),
        Err(TokenError::Invalid) => return refuse("Invalid token", "invalid_token"),
    };
    let session_id = random().map_err(|_| ConnectError::new("The server has no randomness"))?;
    socket.data().insert(Connected { username: claims.username, session_id });
    Ok(())
}

async fn connected(socket: Socket, State(app): State<App>) {
    let Some(me) = socket.data().get::<Connected>() else { return };
    // A client that has gone again needs no session.
    let _ = socket.emit("session:created", json!({ "sessionId": me.session_id }));
    save(&app, &socket, &me, None).await;
}

/// Writes what the client can have back.
async fn save(app: &App, socket: &Socket, me: &Connected, ended_at: Option<u64>) {
    let own = socket.id();
    let rooms = socket.rooms().into_iter().filter(|room| **room != *own.as_str());
    let rooms = rooms.map(|room| room.to_string()).collect();
    let session = Session { username: me.username.clone(), rooms, ended_at };
    if let Err(error) = app.store.save_session(me.session_id.clone(), session).await {
        tracing::error!(%error, "a session was not saved");
    }
}

fn me(socket: &Socket) -> Result<Connected, HandlerError> {
    let me = socket.data().get();
    me.ok_or_else(|| HandlerError::new("auth_required", "Authentication required"))
}

fn internal(error: anyhow::Error) -> HandlerError {
    tracing::error!(%error, "an event failed");
    HandlerError::new("internal", "The server failed.")
}

fn check_room(app: &App, room: &str) -> Result<(), HandlerError> {
    let max = app.config.room_characters_max;
    let count = room.chars().count();
    if room.trim().is_empty() || count > max || room.chars().any(char::is_control) {
        let message = format!("A room's name has 1 to {max} characters.");
        return Err(HandlerError::new("bad_room", message));
    }
    // Ids are names of rooms too: nobody may join somebody else's.
    if sockeye::SocketId::parse(room).is_some() {
        return Err(HandlerError::new("bad_room", "This name cannot be a room's."));
    }
    Ok(())
}

async fn join(
    socket: Socket,
    Data(room): Data<String>,
    State(app): State<App>,
    ack: Ack,
) -> Result<(), HandlerError> {
    let answer = enter(&app, &socket, &room).await;
    match &answer {
        Ok(reply) => ack.send(reply)?,
        Err(error) => ack.send(refusal(error))?,
    }
    if answer.is_ok() {
        let messages = app.store.history(&room, app.config.history_messages).map_err(internal)?;
        socket.emit("chat:history", json!({ "room": room, "messages": messages }))?;
    }
    Ok(())
}

fn refusal(error: &HandlerError) -> Value {
    json!({ "status": "error", "code": error.code(), "message": error.message() })
}

/// Puts the socket into a room and tells the others; the acknowledgement.
async fn enter(app: &App, socket: &Socket, room: &str) -> Result<Value, HandlerError> {
    let me = me(socket)?;
    check_room(app, room)?;
    if !socket.is_in(room) {
        if !socket.join(room) {
            let message = format!("You are in {} rooms already.", app.config.rooms_max);
            return Err(HandlerError::new("too_many_rooms", message));
        }
        if app.presence.join(room, &me.username) {
            let joined = json!({ "username": me.username, "room": room });
            socket.to(room).emit("chat:userJoined", &joined)?;
        }
        save(app, socket, &me, None).await;
    }
    Ok(json!({ "status": "ok", "room": room, "members": app.presence.members(room) }))
}

#[derive(Deserialize)]
struct NewMessage {
    room: String,
    text: String,
}

/// The message is on the disk before anyone hears of it.
async fn message(
    socket: Socket,
    Data(NewMessage { room, text }): Data<NewMessage>,
    State(app): State<App>,
) -> Result<Value, HandlerError> {
    let me = me(&socket)?;
    check_room(&app, &room)?;
    if !socket.is_in(&room) {
        return Err(HandlerError::new("not_a_member", "You are not in this room."));
    }
    let max = app.config.text_characters_max;
    if text.trim().is_empty() || text.chars().count() > max {
        let message = format!("A message has 1 to {max} characters.");
        return Err(HandlerError::new("bad_text", message));
    }
    app.messages.take(&me.username, Instant::now()).map_err(|wait| {
        HandlerError::new("too_fast", "You are sending too fast; please wait a moment.")
            .with_data(&json!({ "retryAfterMs": wait.as_millis() }))
    })?;
    let id = String::new();
    let message = Message { id, username: me.username, text, room, timestamp: now_ms() };
    let message = app.store.append(message).await.map_err(internal)?;
    socket.namespace().to(&message.room).emit("chat:message", &message)?;
    Ok(json!({ "status": "ok", "id": message.id }))
}

async fn typing(socket: Socket, Data(room): Data<String>) -> Result<(), HandlerError> {
    let me = me(&socket)?;
    if socket.is_in(&room) {
        let typing = json!({ "username": me.username, "room": room });
        socket.to(&room).volatile().emit("chat:typing", &typing)?;
    }
    Ok(())
}

async fn leave(
    socket: Socket,
    Data(room): Data<String>,
    State(app): State<App>,
) -> Result<Value, HandlerError> {
    let me = me(&socket)?;
    check_room(&app, &room)?;
    if !socket.is_in(&room) {
        return Err(HandlerError::new("not_a_member", "You are not in this room."));
    }
    socket.leave(&room);
    tell_left(&app, &socket, &me.username, &room);
    save(&app, &socket, &me, None).await;
    Ok(json!({ "status": "ok", "room": room }))
}

fn tell_left(app: &App, socket: &Socket, username: &str, room: &str) {
    if app.presence.leave(room, username) {
        let left = json!({ "username": username, "room": room });
        let _ = socket.to(room).emit("chat:userLeft", &left);
    }
}

/// Rejoins the rooms of a connection that was lost; the id works once.
async fn restore(
    socket: Socket,
    Data(id): Data<String>,
    State(app): State<App>,
) -> Result<Value, HandlerError> {
    let me = me(&socket)?;
    let since = now_ms().saturating_sub(app.config.restore_seconds * 1000);
    let taken = app.store.take_session(id, me.username.clone(), since).await.map_err(internal)?;
    let Some(session) = taken else {
        socket.emit("session:rejected", ())?;
        return Ok(json!({ "status": "error", "code": "rejected", "message": "Not restorable." }));
    };
    let mut rooms = Vec::new();
    for room in session.rooms {
        if enter(&app, &socket, &room).await.is_ok() {
            rooms.push(room);
        }
    }
    socket.emit("session:restored", json!({ "rooms": rooms }))?;
    Ok(json!({ "status": "ok", "rooms": rooms }))
}

async fn disconnecting(socket: Socket, State(app): State<App>) {
    let Some(me) = socket.data().get::<Connected>() else { return };
    let own = socket.id();
    for room in socket.rooms().into_iter().filter(|room| **room != *own.as_str()) {
        tell_left(&app, &socket, &me.username, &room);
    }
    save(&app, &socket, &me, Some(now_ms())).await;
    let since = now_ms().saturating_sub(app.config.restore_seconds * 1000);
    if let Err(error) = app.store.remove_sessions(since).await {
        tracing::error!(%error, "old sessions were not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_two_windows_is_there_once() {
        let presence = Presence::default();
        assert!(presence.join("room", "ann"));
        assert!(!presence.join("room", "ann"));
        assert!(presence.join("room", "ben"));
        assert_eq!(presence.members("room"), ["ann", "ben"]);
        assert!(!presence.leave("room", "ann"));
        assert!(presence.leave("room", "ann"));
        assert!(presence.leave("room", "ben"));
        assert!(presence.rooms.lock().is_empty());
    }
}
