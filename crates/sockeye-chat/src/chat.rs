//! The chat's events: joining, messages, typing, leaving, restoring.
//! Does not know HTTP; whoever gets past the middleware is signed in.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use sockeye::{Ack, Auth, ConnectError, Data, HandlerError, Rejection, Server, Socket, State};

use crate::app::App;
use crate::limits::Limiter;
use crate::presence::{Presence, say};
use crate::refusal::{FAILED, INTERNAL, Refusal, retry_after_ms};
use crate::store::{Message, Store};
use crate::tokens::{Claims, TokenError, hash, now_ms, random};

/// The longest key of a message, in characters.
const KEY_CHARACTERS_MAX: usize = 64;

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

/// The token is checked here, once: the connection may outlive it.
async fn authenticate(
    socket: Socket,
    auth: Result<Auth<Credentials>, Rejection>,
    State(app): State<App>,
) -> Result<(), ConnectError> {
    let refuse = |message: &str, code: &str| {
        Err(ConnectError::new(message).with_data(&json!({ "code": code })))
    };
    let token = match auth {
        Ok(Auth(Credentials { token: Some(token) })) if !token.is_empty() => token,
        Ok(_) => return refuse("Authentication required", "auth_required"),
        Err(_) => return refuse("Invalid token", "invalid_token"),
    };
    let claims = match app.tokens.verify(&token) {
        Ok(claims) => claims,
        Err(TokenError::Expired) => return refuse("Invalid token", "token_expired"),
        Err(TokenError::Invalid) => return refuse("Invalid token", "invalid_token"),
    };
    let admitted = app.events.admit(&app.store, &claims.username).await.map_err(|error| {
        tracing::error!(error = format!("{error:#}"), "the store failed");
        ConnectError::new(FAILED).with_data(&json!({ "code": INTERNAL }))
    })?;
    admitted.map_err(|wait| {
        let data = json!({ "code": "too_fast", "retryAfterMs": retry_after_ms(wait) });
        ConnectError::new("Too many connections").with_data(&data)
    })?;
    socket.data().insert(claims);
    Ok(())
}

/// The session is on the disk before the client hears of it.
async fn connected(socket: Socket, State(app): State<App>) {
    let Some(Claims { username, .. }) = socket.data().get() else { return };
    let made = async {
        let id = random()?;
        let me = Presence::new(&app, &socket, username, hash(&id));
        socket.data().insert(me.clone());
        app.store.add_session(me.session().to_owned(), me.as_session(None, None)).await?;
        anyhow::Ok(id)
    };
    match made.await {
        // A client that has gone again needs no session.
        Ok(id) => drop(socket.emit("session:created", json!({ "sessionId": id }))),
        Err(error) => tracing::error!(error = format!("{error:#}"), "a session was not made"),
    }
}

/// Writes what the client can have back: the rooms it is in, and `more`.
async fn save(app: &App, me: &Presence, more: Option<&str>) {
    let session = me.as_session(more, None);
    // Talking goes on where the disk takes nothing; it is only not restored after a crash.
    if let Err(error) = app.store.save_session(me.session().to_owned(), session).await {
        tracing::error!(error = format!("{error:#}"), "a session was not saved");
    }
}

fn me(socket: &Socket) -> Result<Arc<Presence>, Refusal> {
    let me = socket.data().get();
    me.ok_or_else(|| Refusal::new("auth_required", "Authentication required"))
}

/// Holds something against the limit of its user.
async fn admit(app: &App, limiter: &Limiter, me: &Presence) -> Result<(), Refusal> {
    let admitted = limiter.admit(&app.store, me.username()).await;
    admitted.map_err(Refusal::internal)?.map_err(Refusal::too_fast)
}

fn check_room(app: &App, room: &str) -> Result<(), Refusal> {
    let max = app.config.room_characters_max;
    if is_blank(room) || room.chars().count() > max {
        let message = format!("A room's name has 1 to {max} characters.");
        return Err(Refusal::new("bad_room", message));
    }
    if room.chars().any(char::is_control) {
        return Err(Refusal::new("bad_room", "A room's name is one line of text."));
    }
    // Two rooms whose names look the same would be taken for one.
    if room.chars().any(is_hidden) {
        let message = "A room's name has no invisible characters.";
        return Err(Refusal::new("bad_room", message));
    }
    // Ids are names of rooms too: nobody may join somebody else's.
    if sockeye::SocketId::parse(room).is_some() {
        let message = "A room's name cannot be exactly 20 letters, digits, - or _.";
        return Err(Refusal::new("bad_room", message));
    }
    Ok(())
}

/// Whether there is nothing to see. Joiners and variation selectors belong to words and emoji, but
/// are nothing by themselves.
fn is_blank(text: &str) -> bool {
    let joins = |c| matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}');
    text.chars().all(|c| c.is_whitespace() || is_hidden(c) || joins(c))
}

/// Whether a character has no form of its own, or turns round what stands beside it.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'
        | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}')
}

fn check_member(app: &App, me: &Presence, room: &str) -> Result<(), Refusal> {
    check_room(app, room)?;
    if me.is_in(room) {
        return Ok(());
    }
    Err(Refusal::new("not_a_member", "You are not in this room."))
}

async fn join(
    socket: Socket,
    Data(room): Data<String>,
    State(app): State<App>,
    ack: Ack,
) -> Result<(), HandlerError> {
    // Answered by hand: before the history, and both before anything live.
    let mut ack = Some(ack);
    let entered = enter(&app, &socket, &room, &mut ack).await;
    if let (Err(refusal), Some(ack)) = (&entered, ack) {
        ack.send(refusal.to_ack())?;
    }
    Ok(entered?)
}

async fn enter(
    app: &App,
    socket: &Socket,
    room: &str,
    ack: &mut Option<Ack>,
) -> Result<(), Refusal> {
    let me = me(socket)?;
    check_room(app, room)?;
    admit(app, &app.events, &me).await?;
    if !me.is_in(room) {
        if me.room_count() >= app.config.rooms_max {
            return Err(Refusal::too_many_rooms(app.config.rooms_max));
        }
        // Before the answer: whoever has been told of a join has it back after a crash.
        save(app, &me, Some(room)).await;
    }
    // Histories of many rooms must not wait all at once: the client takes one after the other.
    socket.drained().await;
    me.come_in(socket, room, ack, true).await
}

#[derive(Deserialize)]
#[serde(expecting = "an object with room and text")]
struct NewMessage {
    room: String,
    text: String,
    /// Chosen by the client, another for each message: the same one again, after an
    /// acknowledgement was lost, is the same message and is acknowledged again.
    key: Option<String>,
}

/// The message is stored before anyone hears of it.
async fn message(
    socket: Socket,
    Data(NewMessage { room, text, key }): Data<NewMessage>,
    State(app): State<App>,
) -> Result<Value, Refusal> {
    let me = me(&socket)?;
    check_member(&app, &me, &room)?;
    check_text(&app, &text, key.as_deref())?;
    admit(&app, &app.messages, &me).await?;
    let namespace = socket.namespace().clone();
    // In a task of its own: what is stored is told even if its author's connection is dropped.
    let told = tokio::spawn(async move {
        let username = me.username().to_owned();
        say(&app, &namespace, Message { id: 0, username, text, room, timestamp: 0 }, key).await
    });
    let id =
        told.await.map_err(anyhow::Error::from).and_then(|told| told).map_err(Refusal::internal)?;
    Ok(json!({ "status": "ok", "id": id.to_string() }))
}

fn check_text(app: &App, text: &str, key: Option<&str>) -> Result<(), Refusal> {
    let max = app.config.text_characters_max;
    if is_blank(text) || text.chars().count() > max {
        let message = format!("A message has 1 to {max} characters.");
        return Err(Refusal::new("bad_text", message));
    }
    if key.is_some_and(|key| !(1..=KEY_CHARACTERS_MAX).contains(&key.chars().count())) {
        let message = format!("A message's key has 1 to {KEY_CHARACTERS_MAX} characters.");
        return Err(Refusal::new("bad_key", message));
    }
    Ok(())
}

async fn typing(
    socket: Socket,
    Data(room): Data<String>,
    State(app): State<App>,
) -> Result<Value, Refusal> {
    let me = me(&socket)?;
    check_member(&app, &me, &room)?;
    admit(&app, &app.events, &me).await?;
    let typing = json!({ "username": me.username(), "room": room });
    socket.to(&room).local().volatile().emit("chat:typing", &typing)?;
    if let Store::Redis(redis) = &app.store {
        redis.tell_typing(&room, me.username()).await.map_err(Refusal::internal)?;
    }
    Ok(json!({ "status": "ok" }))
}

async fn leave(
    socket: Socket,
    Data(room): Data<String>,
    State(app): State<App>,
) -> Result<Value, Refusal> {
    let me = me(&socket)?;
    check_member(&app, &me, &room)?;
    me.go_out(Some(&socket), &room);
    save(&app, &me, None).await;
    Ok(json!({ "status": "ok", "room": room }))
}

/// Rejoins the rooms of a connection that was lost; the id works once.
async fn restore(
    socket: Socket,
    id: Result<Data<String>, Rejection>,
    State(app): State<App>,
) -> Result<Value, Refusal> {
    let me = me(&socket)?;
    admit(&app, &app.events, &me).await?;
    // What is no text is no id that we gave.
    let from = id.map(|Data(id)| hash(&id)).unwrap_or_default();
    let since = app.restorable_since();
    let moved = app.store.move_session(from, me.session().to_owned(), since).await;
    let Some(earlier) = moved.map_err(Refusal::internal)? else {
        socket.emit("session:rejected", ())?;
        let message = "There is no session to restore.";
        return Err(Refusal::new("session_rejected", message));
    };
    let (mut restored, count) = (Vec::new(), earlier.len());
    for room in earlier {
        if me.come_in(&socket, &room, &mut None, false).await.is_ok() {
            restored.push(room);
        }
    }
    if restored.len() < count {
        save(&app, &me, None).await;
    }
    socket.emit("session:restored", json!({ "rooms": restored }))?;
    Ok(json!({ "status": "ok", "rooms": restored }))
}

async fn disconnecting(socket: Socket, State(app): State<App>) {
    let Ok(me) = me(&socket) else { return };
    let session = me.as_session(None, Some(now_ms()));
    for room in &session.rooms {
        me.go_out(Some(&socket), room);
    }
    if let Err(error) = app.store.save_session(me.session().to_owned(), session).await {
        tracing::error!(error = format!("{error:#}"), "a session was not saved");
    }
}
