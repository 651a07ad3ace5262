//! The chat's events: joining, messages, typing, leaving, restoring.
//! Does not know HTTP; whoever gets past the middleware is signed in.

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use sockeye::{
    Ack, Auth, ConnectError, Data, HandlerError, Namespace, Rejection, Server, Socket, State,
};

use crate::app::App;
use crate::rooms::Room;
use crate::store::{Message, Session};
use crate::tokens::{TokenError, hash, now_ms, random};

const INTERNAL: &str = "internal";

/// What a connection is.
#[derive(Clone)]
struct Connected {
    username: String,
    /// The hash of the session's id, which only the client keeps.
    session: String,
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
    // What clients do wrong they are told; the log has what the server did wrong.
    io.on_error(|socket, event, error| {
        if error.code() == INTERNAL {
            tracing::error!(socket = %socket.id(), event, %error, "an event failed");
        } else {
            tracing::debug!(socket = %socket.id(), event, code = error.code(), "refused");
        }
    });
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
    // The session is made when the connection is admitted.
    socket.data().insert(Connected { username: claims.username, session: String::new() });
    Ok(())
}

/// The session is on the disk before the client hears of it.
async fn connected(socket: Socket, State(app): State<App>) {
    let Some(Connected { username, .. }) = socket.data().get() else { return };
    let made = async {
        let id = random()?;
        let me = Connected { username, session: hash(&id) };
        let session = Session { username: me.username.clone(), rooms: Vec::new(), ended_at: None };
        app.store.add_session(me.session.clone(), session).await?;
        socket.data().insert(me);
        anyhow::Ok(id)
    };
    match made.await {
        // A client that has gone again needs no session.
        Ok(id) => drop(socket.emit("session:created", json!({ "sessionId": id }))),
        Err(error) => tracing::error!(%error, "a session was not made"),
    }
}

/// Writes what the client can have back: the rooms it is in, and `more`.
async fn save(app: &App, socket: &Socket, me: &Connected, more: Option<&str>) {
    let mut rooms = rooms(socket);
    if let Some(more) = more.filter(|more| !socket.is_in(more)) {
        rooms.push(more.to_owned());
    }
    let session = Session { username: me.username.clone(), rooms, ended_at: None };
    if let Err(error) = app.store.save_session(me.session.clone(), session).await {
        tracing::error!(%error, "a session was not saved");
    }
}

/// The rooms that a socket is in, without the one of its id.
fn rooms(socket: &Socket) -> Vec<String> {
    let own = socket.id();
    let rooms = socket.rooms().into_iter().filter(|room| **room != *own.as_str());
    rooms.map(|room| room.to_string()).collect()
}

fn me(socket: &Socket) -> Result<Connected, HandlerError> {
    let me = socket.data().get();
    me.ok_or_else(|| HandlerError::new("auth_required", "Authentication required"))
}

fn internal(error: anyhow::Error) -> HandlerError {
    tracing::error!(%error, "the store failed");
    HandlerError::new(INTERNAL, "The server failed.")
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

fn check_member(app: &App, socket: &Socket, room: &str) -> Result<(), HandlerError> {
    check_room(app, room)?;
    if socket.is_in(room) {
        return Ok(());
    }
    Err(HandlerError::new("not_a_member", "You are not in this room."))
}

async fn join(
    socket: Socket,
    Data(room): Data<String>,
    State(app): State<App>,
    ack: Ack,
) -> Result<(), HandlerError> {
    // Answered by hand: before the history, and both before anything live.
    let mut ack = Some(ack);
    let outcome = enter(&app, &socket, &room, &mut ack).await;
    match (outcome, ack) {
        (Err(error), Some(ack)) => Ok(ack.send(refusal(&error))?),
        (outcome, _) => outcome,
    }
}

fn refusal(error: &HandlerError) -> Value {
    json!({ "status": "error", "code": error.code(), "message": error.message() })
}

async fn enter(
    app: &App,
    socket: &Socket,
    room: &str,
    ack: &mut Option<Ack>,
) -> Result<(), HandlerError> {
    let me = me(socket)?;
    check_room(app, room)?;
    if !socket.is_in(room) && rooms(socket).len() >= app.config.rooms_max {
        return Err(too_many_rooms(app));
    }
    // Before the answer: whoever has been told of a join has it back after a crash.
    save(app, socket, &me, Some(room)).await;
    come_in(app, socket, &me, room, ack)
}

fn too_many_rooms(app: &App) -> HandlerError {
    let message = format!("You are in {} rooms already.", app.config.rooms_max);
    HandlerError::new("too_many_rooms", message)
}

/// Puts the socket into a room and tells the others. Whoever asked for it with an acknowledgement
/// gets that and then the history, which ends where the live messages begin.
fn come_in(
    app: &App,
    socket: &Socket,
    me: &Connected,
    room: &str,
    ack: &mut Option<Ack>,
) -> Result<(), HandlerError> {
    let count = app.config.history_messages;
    let entered = app.rooms.enter(
        room,
        || app.store.newest_id(),
        |here| {
            deliver(socket.namespace(), here);
            let messages = match ack {
                Some(_) => app.store.history(room, here.delivered(), count).map_err(internal)?,
                None => Vec::new(),
            };
            if !socket.is_in(room) {
                if !socket.join(room) {
                    return Err(too_many_rooms(app));
                }
                if here.add(&me.username) {
                    let joined = json!({ "username": me.username, "room": room });
                    socket.to(room).emit("chat:userJoined", &joined)?;
                }
            }
            if let Some(ack) = ack.take() {
                ack.send(json!({ "status": "ok", "room": room, "members": here.members() }))?;
                socket.emit("chat:history", json!({ "room": room, "messages": messages }))?;
            }
            Ok(())
        },
    );
    entered.map_err(internal)?
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
    check_member(&app, &socket, &room)?;
    let max = app.config.text_characters_max;
    if text.trim().is_empty() || text.chars().count() > max {
        let message = format!("A message has 1 to {max} characters.");
        return Err(HandlerError::new("bad_text", message));
    }
    app.messages.take(&me.username, Instant::now()).map_err(|wait| {
        HandlerError::new("too_fast", "You are sending too fast; please wait a moment.")
            .with_data(&json!({ "retryAfterMs": wait.as_millis() }))
    })?;
    let namespace = socket.namespace().clone();
    // In a task of its own: what is on the disk is told even if its author's connection is dropped.
    let told = tokio::spawn(async move {
        let message = Message { id: 0, username: me.username, text, room, timestamp: 0 };
        let queue = app.clone();
        let written = move |message: &Message| queue.rooms.enqueue(message);
        let message = app.store.append(message, written).await?;
        app.rooms.visit(&message.room, |here| deliver(&namespace, here));
        anyhow::Ok(message.id)
    });
    let id = told.await.map_err(anyhow::Error::from).and_then(|told| told).map_err(internal)?;
    Ok(json!({ "status": "ok", "id": id.to_string() }))
}

/// Tells a room what is on the disk and has not been told.
fn deliver(namespace: &Namespace, here: &mut Room) {
    here.deliver(|message| {
        let told = namespace.to(&message.room).emit("chat:message", message);
        told.unwrap_or_else(|error| tracing::error!(%error, "a message was not told"));
    });
}

async fn typing(
    socket: Socket,
    Data(room): Data<String>,
    State(app): State<App>,
) -> Result<Value, HandlerError> {
    let me = me(&socket)?;
    check_member(&app, &socket, &room)?;
    let typing = json!({ "username": me.username, "room": room });
    socket.to(&room).volatile().emit("chat:typing", &typing)?;
    Ok(json!({ "status": "ok" }))
}

async fn leave(
    socket: Socket,
    Data(room): Data<String>,
    State(app): State<App>,
) -> Result<Value, HandlerError> {
    let me = me(&socket)?;
    check_member(&app, &socket, &room)?;
    go_out(&app, &socket, &me.username, &room);
    save(&app, &socket, &me, None).await;
    Ok(json!({ "status": "ok", "room": room }))
}

/// Takes the socket out of a room and tells the others, if it was the user's last one there.
fn go_out(app: &App, socket: &Socket, username: &str, room: &str) {
    app.rooms.visit(room, |here| {
        deliver(socket.namespace(), here);
        socket.leave(room);
        if here.remove(username) {
            let left = json!({ "username": username, "room": room });
            let told = socket.to(room).emit("chat:userLeft", &left);
            told.unwrap_or_else(|error| tracing::error!(%error, "a leave was not told"));
        }
    });
}

/// Rejoins the rooms of a connection that was lost; the id works once.
async fn restore(
    socket: Socket,
    id: Result<Data<String>, Rejection>,
    State(app): State<App>,
) -> Result<Value, HandlerError> {
    let me = me(&socket)?;
    // What is no text is no id that we gave.
    let from = id.map(|Data(id)| hash(&id)).unwrap_or_default();
    let since = app.restorable_since();
    let moved = app.store.move_session(from, me.session.clone(), since).await.map_err(internal)?;
    let Some(earlier) = moved else {
        socket.emit("session:rejected", ())?;
        let message = "There is no session to restore.";
        return Err(HandlerError::new("session_rejected", message));
    };
    let (mut restored, count) = (Vec::new(), earlier.len());
    for room in earlier {
        if come_in(&app, &socket, &me, &room, &mut None).is_ok() {
            restored.push(room);
        }
    }
    if restored.len() < count {
        save(&app, &socket, &me, None).await;
    }
    socket.emit("session:restored", json!({ "rooms": restored }))?;
    Ok(json!({ "status": "ok", "rooms": restored }))
}

async fn disconnecting(socket: Socket, State(app): State<App>) {
    let Some(me) = socket.data().get::<Connected>() else { return };
    let rooms = rooms(&socket);
    for room in &rooms {
        go_out(&app, &socket, &me.username, room);
    }
    let session = Session { username: me.username, rooms, ended_at: Some(now_ms()) };
    if let Err(error) = app.store.save_session(me.session, session).await {
        tracing::error!(%error, "a session was not saved");
    }
}
