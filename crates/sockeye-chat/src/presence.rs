//! Where a connection is: the rooms it came into, until it leaves them or ends, however it ends.
//! Does not know events; what a client may do is decided before.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use serde_json::json;
use sockeye::{Ack, Namespace, Socket};

use crate::app::App;
use crate::refusal::Refusal;
use crate::rooms::{Event, Room};
use crate::store::{Message, Session, Store};

/// What the server knows of a connection.
pub(crate) struct Presence {
    app: App,
    namespace: Namespace,
    username: String,
    /// The key of its session: the hash of the id, which only the client keeps.
    session: String,
    rooms: Mutex<BTreeSet<String>>,
}

impl Presence {
    pub(crate) fn new(app: &App, socket: &Socket, username: String, session: String) -> Arc<Self> {
        Arc::new(Self {
            app: app.clone(),
            namespace: socket.namespace().clone(),
            username,
            session,
            rooms: Mutex::default(),
        })
    }

    pub(crate) fn username(&self) -> &str {
        &self.username
    }

    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    pub(crate) fn is_in(&self, room: &str) -> bool {
        self.rooms.lock().contains(room)
    }

    pub(crate) fn room_count(&self) -> usize {
        self.rooms.lock().len()
    }

    /// What the client can have back: the rooms it is in, and `more`.
    pub(crate) fn as_session(&self, more: Option<&str>, ended_at: Option<u64>) -> Session {
        let mut rooms = self.rooms.lock().clone();
        rooms.extend(more.map(str::to_owned));
        let username = self.username.clone();
        Session { username, rooms: rooms.into_iter().collect(), ended_at }
    }

    /// Comes into a room (again) and tells the others. Whoever brings an acknowledgement gets it
    /// with who is here, then the history if it is wanted, which ends where the live messages
    /// begin, and then those. The acknowledgement is left where it was not given.
    ///
    /// # Errors
    /// There are too many rooms, the store failed, or the client is gone.
    pub(crate) async fn come_in(
        &self,
        socket: &Socket,
        room: &str,
        ack: &mut Option<Ack>,
        wants_history: bool,
    ) -> Result<(), Refusal> {
        let app = &self.app;
        let mut joining = Joining::begin(self, room).await.map_err(Refusal::internal)?;
        let mut history = None;
        if wants_history {
            let read = app.store.history(room, app.config.history_messages).await;
            history = Some(read.map_err(Refusal::internal)?);
        }
        if !self.is_in(room) {
            // Before the others are told of a coming that is none.
            if self.room_count() >= app.config.rooms_max {
                return Err(Refusal::too_many_rooms(app.config.rooms_max));
            }
            joining.count().await.map_err(Refusal::internal)?;
        }
        let entered = app.rooms.visit(room, |here| {
            deliver(&self.namespace, room, here);
            if joining.is_counted && self.rooms.lock().insert(room.to_owned()) {
                if !socket.join(room) {
                    self.rooms.lock().remove(room);
                    return Err(Refusal::too_many_rooms(app.config.rooms_max));
                }
                // From now on it is this connection's.
                joining.is_counted = false;
            }
            if let Some(ack) = ack.take() {
                ack.send(json!({ "status": "ok", "room": room, "members": here.members() }))?;
            }
            if let Some(history) = history {
                let messages = here.complete(history);
                socket.emit("chat:history", json!({ "room": room, "messages": messages }))?;
            }
            Ok(())
        });
        entered.context("a room went while it was joined").map_err(Refusal::internal)?
    }

    /// Leaves a room and tells the others, if it was the user's last connection there.
    pub(crate) fn go_out(&self, socket: Option<&Socket>, room: &str) {
        if !self.rooms.lock().remove(room) {
            return;
        }
        self.app.rooms.visit(room, |here| {
            deliver(&self.namespace, room, here);
            if let Some(socket) = socket {
                socket.leave(room);
            }
            self.subtract(room, here);
        });
    }

    /// One connection of the user is less in the room.
    fn subtract(&self, room: &str, here: &mut Room) {
        if !here.remove(&self.username) {
            return;
        }
        match &self.app.store {
            Store::Embedded(_) => {
                here.enqueue(0, Event::Left(self.username.clone()));
                deliver(&self.namespace, room, here);
            }
            Store::Redis(redis) => redis.settle_later(room, Some(&self.username)),
        }
    }
}

/// A connection on its way into a room; dropped, it has turned back.
struct Joining<'a> {
    me: &'a Presence,
    room: &'a str,
    /// Whether it counts as one of the user's, but is not in yet.
    is_counted: bool,
}

impl<'a> Joining<'a> {
    /// From now on no message of the room is missed.
    async fn begin(me: &'a Presence, room: &'a str) -> Result<Self> {
        let newest = || match &me.app.store {
            Store::Embedded(file) => file.newest_id().map(Some),
            Store::Redis(_) => Ok(None),
        };
        let is_live = me.app.rooms.enter(room, newest, |here| {
            here.begin_joining();
            here.is_live()
        })?;
        let joining = Self { me, room, is_counted: false };
        if let Store::Redis(redis) = &me.app.store
            && !is_live
        {
            redis.follow(room).await?;
        }
        Ok(joining)
    }

    /// Counts as one of the user's connections; returns when everybody here has been told.
    async fn count(&mut self) -> Result<()> {
        let Self { me, room, .. } = self;
        self.is_counted = true;
        me.app.rooms.visit(room, |here| {
            let is_first = here.add(&me.username);
            if is_first && matches!(me.app.store, Store::Embedded(_)) {
                deliver(&me.namespace, room, here);
                here.enqueue(0, Event::Joined(me.username.clone()));
                deliver(&me.namespace, room, here);
            }
        });
        if let Store::Redis(redis) = &me.app.store {
            let number = redis.settle(room, &me.username).await?;
            ensure!(me.app.rooms.until_told(room, number).await, "Redis went away");
        }
        Ok(())
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        let Self { me, room, is_counted } = self;
        me.app.rooms.visit(room, |here| {
            if *is_counted {
                me.subtract(room, here);
            }
            here.end_joining();
        });
        if let Store::Redis(redis) = &me.app.store {
            // Nobody may be left who would hear it.
            redis.settle_later(room, None);
        }
    }
}

impl Drop for Presence {
    /// Where the connection ended without its hooks, as after a disk that hung, nobody stays
    /// behind as a ghost.
    fn drop(&mut self) {
        let rooms = self.rooms.lock().clone();
        for room in rooms {
            self.go_out(None, &room);
        }
    }
}

/// Stores a message and tells it; returns its id. If its author has sent one with this key to this
/// room, today or yesterday, it is that one.
///
/// # Errors
/// The store failed; the message may or may not be there later.
pub(crate) async fn say(
    app: &App,
    namespace: &Namespace,
    message: Message,
    key: Option<String>,
) -> Result<u64> {
    match &app.store {
        Store::Embedded(file) => {
            let rooms = app.rooms.clone();
            let written = move |message: &Message| {
                let event = Event::Message(message.clone());
                rooms.visit(&message.room, |here| here.enqueue(message.id, event));
            };
            let message = file.append(message, key, written).await?;
            let room = message.room.as_str();
            app.rooms.visit(room, |here| deliver(namespace, room, here));
            Ok(message.id)
        }
        Store::Redis(redis) => {
            let id = redis.append(&message, key.as_deref()).await?;
            // It is stored: where nothing is heard now, it is told later.
            app.rooms.until_told(&message.room, id).await;
            Ok(id)
        }
    }
}

/// Tells a room what it has not been told.
pub(crate) fn deliver(namespace: &Namespace, room: &str, here: &mut Room) {
    here.deliver(|event| tell(namespace, room, event));
}

/// Tells those who are in a room here. The other nodes tell their own.
pub(crate) fn tell(namespace: &Namespace, room: &str, event: &Event) {
    let change = |username| json!({ "username": username, "room": room });
    let here = namespace.to(room).local();
    let told = match event {
        Event::Message(message) => here.emit("chat:message", message),
        Event::Joined(username) => here.emit("chat:userJoined", change(username)),
        Event::Left(username) => here.emit("chat:userLeft", change(username)),
    };
    told.unwrap_or_else(|error| tracing::error!(%error, room, "an event was not told"));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower_service::Service;

    use super::*;
    use crate::config::Config;

    /// One request of a long-polling client.
    async fn request(router: &mut Router, method: &str, session: &str, body: String) -> String {
        let uri = format!("/socket.io/?EIO=4&transport=polling{session}");
        let request = Request::builder().method(method).uri(uri).body(Body::from(body));
        let answer = router.call(request.expect("a request")).await.expect("an answer");
        let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        String::from_utf8(body.to_vec()).expect("text")
    }

    async fn until(condition: impl Fn() -> bool) {
        let met = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), met).await.expect("it comes to that");
    }

    #[tokio::test]
    async fn a_connection_that_ends_without_its_hooks_leaves_no_ghost() {
        let folder = std::env::temp_dir().join(format!("sockeye-ghost-{}", std::process::id()));
        let data = format!("--data-dir={}", folder.display());
        let config = Config::load(["sockeye-chat", &data].map(Into::into)).expect("settings");
        let app = App::open(config).await.expect("an app");
        let io = app.server();
        let mut router = app.router(&io).layer(io.layer());
        let open = request(&mut router, "GET", "", String::new()).await;
        let session = format!("&sid={}", open.split('"').nth(3).expect("a session's id"));
        let (token, _) = app.tokens.issue("1", "ann").expect("a token");
        let connect = format!("40{{\"token\":\"{token}\"}}");
        request(&mut router, "POST", &session, connect).await;
        request(&mut router, "POST", &session, "42[\"chat:join\",\"room\"]".into()).await;
        until(|| app.rooms.visit("room", |here| here.members() == ["ann"]) == Some(true)).await;

        // The disk hangs, with a message of hers on its way.
        let (go_on, gate) = std::sync::mpsc::channel::<()>();
        let (begun, hangs) = tokio::sync::oneshot::channel();
        let Store::Embedded(store) = app.store.clone() else { panic!("it has a file") };
        let (username, text, room) = ("ben".into(), "slow".into(), "elsewhere".into());
        let message = Message { id: 0, username, text, room, timestamp: 0 };
        let hanging = tokio::spawn(async move {
            let hang = move |_: &Message| {
                begun.send(()).expect("somebody waits");
                gate.recv().expect("it goes on");
            };
            store.append(message, None, hang).await
        });
        hangs.await.expect("it hangs");
        let hers = "42[\"chat:message\",{\"room\":\"room\",\"text\":\"hers\"}]";
        request(&mut router, "POST", &session, hers.into()).await;
        request(&mut router, "POST", &session, "1".into()).await;
        until(|| io.session_count() == 0).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::time::resume();
        until(|| io.of("/").socket_count() == 0).await;
        go_on.send(()).expect("the store waits");
        hanging.await.expect("done").expect("written");
        until(|| app.rooms.visit("room", |_| ()).is_none()).await;
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
