//! Where a connection is: the rooms it came into, until it leaves them or ends, however it ends.
//! Does not know events; what a client may do is decided before.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::json;
use sockeye::{Ack, Namespace, Socket};

use crate::app::App;
use crate::refusal::Refusal;
use crate::rooms::Room;
use crate::store::{Message, Session};

/// What the server knows of a connection.
pub(crate) struct Presence {
    app: App,
    namespace: Namespace,
    username: String,
    /// The key of its session: the hash of the id, which only the client keeps.
    session: String,
    rooms: Mutex<BTreeSet<String>>,
}

/// The last messages of a room.
pub(crate) struct History {
    /// The newest message on the disk, in whatever room, when it was read.
    until: u64,
    messages: Vec<Message>,
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
    /// with who is here, then the history, which ends where the live messages begin, and then
    /// those. The acknowledgement is left where it was not given.
    ///
    /// # Errors
    /// There are too many rooms, the disk failed, or the client is gone.
    pub(crate) fn come_in(
        &self,
        socket: &Socket,
        room: &str,
        ack: &mut Option<Ack>,
        history: Option<History>,
    ) -> Result<(), Refusal> {
        let newest = || self.app.store.newest_id();
        let entered = self.app.rooms.enter(room, newest, |here| {
            deliver(&self.namespace, here);
            let history = history.map(|history| self.complete(history, room, here)).transpose();
            let history = history.map_err(Refusal::internal)?;
            if !self.is_in(room) {
                if !socket.join(room) {
                    return Err(Refusal::too_many_rooms(self.app.config.rooms_max));
                }
                self.rooms.lock().insert(room.to_owned());
                if here.add(&self.username) {
                    let joined = json!({ "username": self.username, "room": room });
                    socket.to(room).emit("chat:userJoined", &joined)?;
                }
            }
            if let Some(ack) = ack.take() {
                ack.send(json!({ "status": "ok", "room": room, "members": here.members() }))?;
            }
            if let Some(messages) = history {
                socket.emit("chat:history", json!({ "room": room, "messages": messages }))?;
            }
            Ok(())
        });
        entered.map_err(Refusal::internal)?
    }

    /// The history was read before the room was locked. What has been delivered meanwhile is
    /// added: so little, and so fresh, that it is read from memory.
    fn complete(&self, history: History, room: &str, here: &Room) -> Result<Vec<Message>> {
        let History { until, mut messages } = history;
        let delivered = here.delivered();
        messages.retain(|message| message.id <= delivered);
        if delivered > until {
            let count = self.app.config.history_messages;
            messages.extend(self.app.store.history(room, until + 1..=delivered, count)?);
            messages.drain(..messages.len().saturating_sub(count));
        }
        Ok(messages)
    }

    /// Leaves a room and tells the others, if it was the user's last connection there.
    pub(crate) fn go_out(&self, socket: Option<&Socket>, room: &str) {
        if !self.rooms.lock().remove(room) {
            return;
        }
        self.app.rooms.visit(room, |here| {
            deliver(&self.namespace, here);
            if let Some(socket) = socket {
                socket.leave(room);
            }
            if here.remove(&self.username) {
                let left = json!({ "username": self.username, "room": room });
                let told = self.namespace.to(room).emit("chat:userLeft", &left);
                told.unwrap_or_else(|error| tracing::error!(%error, "a leave was not told"));
            }
        });
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

/// Reads a room's history off the async threads: the disk may be slow where nobody was for long,
/// and whoever waits for the room, the store's thread among them, must not wait for that.
///
/// # Errors
/// The disk failed.
pub(crate) async fn read_history(app: &App, room: &str) -> Result<History> {
    let (app, room) = (app.clone(), room.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        let until = app.store.newest_id()?;
        let messages = app.store.history(&room, 0..=until, app.config.history_messages)?;
        Ok(History { until, messages })
    });
    reading.await.context("the history was not read")?
}

/// Tells a room what is on the disk and has not been told.
pub(crate) fn deliver(namespace: &Namespace, here: &mut Room) {
    here.deliver(|message| {
        let told = namespace.to(&message.room).emit("chat:message", message);
        told.unwrap_or_else(|error| tracing::error!(%error, "a message was not told"));
    });
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
        let app = App::open(config).expect("an app");
        let io = app.server();
        let mut router = app.router(&io);
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
        let store = app.store.clone();
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
