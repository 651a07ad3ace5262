//! All data in Redis, for any number of processes: each change is one script, which Redis runs as
//! a whole. Does not know sockets; `link` has the connections and hears the rooms.
//!
//! Redis gives everything that a room hears in an order that matters (messages, who joined, who
//! left) a number, one after the other over all rooms; a message's number is its id. What has
//! happened is published to the room's channel under its number by the script that made it
//! happen, and each node tells its own members in that order. A connection that hears hears
//! everything in order; after it was lost the node asks for what it has missed. So all members,
//! on whatever node, hear one order, which is that of the ids and of the history.

mod event;
mod hearing;
mod link;
mod place;
mod scripts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::Pipeline;
use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::json;
use sockeye::Namespace;
use tokio::sync::mpsc::UnboundedReceiver;

use self::link::{Job, Link};
pub(crate) use self::place::check_url;
use super::HISTORY_BYTES_MAX;
use super::rows::{Message, Session, SignIn, User, json as to_json, read, readable};
use crate::config::Config;
use crate::rooms::Rooms;
use crate::tokens::{now_ms, random};

/// A node of the chat.
pub(crate) struct Redis {
    link: Arc<Link>,
    /// Until there are rooms to hear.
    jobs: Mutex<Option<UnboundedReceiver<Job>>>,
    messages_max: String,
    restore_ms: u64,
}

impl Redis {
    /// Connects. The rooms are heard once it is told of them.
    ///
    /// # Errors
    /// Redis is not there, or does not let us in.
    pub(crate) async fn open(url: &str, config: &Config) -> Result<Self> {
        let restore_ms = config.restore_seconds * 1000;
        let node = random()?[..20].to_owned();
        let (link, jobs) = Link::new(url, node, config)?;
        link.open().await.with_context(|| format!("cannot use {}", link.place()))?;
        let redis = Self {
            link: Arc::new(link),
            jobs: Mutex::new(Some(jobs)),
            messages_max: config.redis_room_messages_max.to_string(),
            restore_ms,
        };
        // Whatever is wrong with Redis shows soon enough.
        if redis.begin().await.unwrap_or(false) {
            let (place, prefix) = (redis.link.place(), &config.redis_prefix);
            tracing::warn!("there is no chat in {place} under {prefix:?} yet: a new one begins");
        }
        Ok(redis)
    }

    /// Whether there was no chat; of many nodes that begin one, one is told.
    async fn begin(&self) -> Result<bool> {
        let mut commands = Pipeline::new();
        // Before there was `begun`, these told of a chat.
        commands.cmd("EXISTS").arg(self.link.name("seq")).arg(self.link.name("secret"));
        commands.cmd("SET").arg(self.link.name("begun")).arg(now_ms()).arg("NX");
        let (known, begun): (u64, Option<String>) = self.link.query(&commands).await?;
        Ok(known == 0 && begun.is_some())
    }

    /// Hears these rooms from now on, and tells their members in the namespace.
    pub(crate) fn start(&self, rooms: Arc<Rooms>, namespace: Namespace) {
        if let Some(jobs) = self.jobs.lock().take() {
            tokio::spawn(self.link.clone().run(jobs, rooms, namespace));
        }
    }

    /// The node ends: what it had left goes, and the others are told.
    pub(crate) async fn depart(&self) -> Result<()> {
        self.link.depart().await
    }

    /// Returns when it is well.
    pub(crate) async fn until_well(&self) {
        self.link.until_hearing().await;
    }

    pub(crate) fn is_well(&self) -> bool {
        self.link.is_hearing()
    }

    /// What all nodes sign access tokens with: the first one made it up.
    pub(crate) async fn secret(&self) -> Result<String> {
        let name = self.link.name("secret");
        let mut commands = Pipeline::new();
        commands.cmd("SET").arg(&name).arg(random()?).arg("NX").ignore();
        commands.cmd("GET").arg(&name);
        let (secret,) = self.link.query(&commands).await?;
        Ok(secret)
    }

    pub(crate) async fn add_user(&self, user: &User) -> Result<bool> {
        let mut commands = Pipeline::new();
        let name = self.user_name(&user.username);
        commands.cmd("SET").arg(name).arg(to_json(user)?).arg("NX");
        let (set,): (Option<String>,) = self.link.query(&commands).await?;
        Ok(set.is_some())
    }

    pub(crate) async fn user(&self, username: &str) -> Result<Option<User>> {
        let mut commands = Pipeline::new();
        commands.cmd("GET").arg(self.user_name(username));
        let (row,): (Option<Vec<u8>>,) = self.link.query(&commands).await?;
        row.map(|row| read(&row)).transpose()
    }

    fn user_name(&self, username: &str) -> String {
        self.link.name(&format!("user:{}", username.to_lowercase()))
    }

    pub(crate) async fn add_sign_in(&self, id: &str, sign_in: &SignIn, now: u64) -> Result<()> {
        let name = self.link.name(&format!("sign-in:{id}"));
        let mut commands = Pipeline::new();
        commands.atomic();
        commands.cmd("HSET").arg(&name).arg("username").arg(&sign_in.username);
        commands.arg("hash").arg(&sign_in.token_hash).ignore();
        commands.cmd("EXPIRE").arg(&name).arg(sign_in.expires_at.saturating_sub(now)).ignore();
        self.link.query(&commands).await
    }

    pub(crate) async fn rotate(
        &self,
        id: &str,
        old: &str,
        new: &SignIn,
        now: u64,
    ) -> Result<Option<String>> {
        let lasts = new.expires_at.saturating_sub(now).to_string();
        let args = [id, old, new.token_hash.as_str(), lasts.as_str()];
        self.link.run_script(&self.link.scripts.rotate, &args).await
    }

    pub(crate) async fn end_sign_in(&self, id: &str) -> Result<()> {
        let mut commands = Pipeline::new();
        commands.cmd("DEL").arg(self.link.name(&format!("sign-in:{id}"))).ignore();
        self.link.query(&commands).await
    }

    /// Adds a message and returns its id. If its author has sent one with this key to this room,
    /// today or yesterday, that one's is returned instead. All nodes are told of a new one.
    ///
    /// # Errors
    /// Redis failed; the message may or may not be there later.
    pub(crate) async fn append(&self, message: &Message, key: Option<&str>) -> Result<u64> {
        let Message { username, text, room, .. } = message;
        // Redis puts the id and the time in front.
        let fields = json!({ "username": username, "text": text, "room": room }).to_string();
        let rest = fields.strip_prefix('{').context("an object begins with a brace")?;
        let args = [room, username, key.unwrap_or_default(), rest, &self.messages_max];
        let begun = Instant::now();
        let id = self.link.run_script(&self.link.scripts.append, &args).await;
        metrics::histogram!("chat_redis_append_seconds").record(begun.elapsed());
        id
    }

    pub(crate) async fn history(&self, room: &str, count: usize) -> Result<Vec<Message>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let args = [room, &count.to_string(), &HISTORY_BYTES_MAX.to_string()];
        let rows: Vec<Vec<u8>> = self.link.run_script(&self.link.scripts.history, &args).await?;
        Ok(rows.iter().rev().filter_map(|row| readable(row)).collect())
    }

    pub(crate) async fn add_session(&self, key: &str, session: &Session) -> Result<()> {
        self.link.sessions.lock().insert(key.to_owned());
        let rooms = session.rooms.join("\n");
        let args = [self.link.node(), key, &session.username, &rooms];
        self.link.run_script(&self.link.scripts.add_session, &args).await
    }

    pub(crate) async fn save_session(&self, key: &str, session: &Session) -> Result<()> {
        let mut ends = String::new();
        if session.ended_at.is_some() {
            self.link.sessions.lock().remove(key);
            ends = self.restore_ms.to_string();
        }
        let args = [self.link.node(), key, &session.rooms.join("\n"), &ends];
        self.link.run_script(&self.link.scripts.save_session, &args).await
    }

    pub(crate) async fn move_session(&self, from: &str, to: &str) -> Result<Option<Vec<String>>> {
        let script = &self.link.scripts.move_session;
        let rooms: Option<String> = self.link.run_script(script, &[from, to]).await?;
        let lines = |rooms: String| rooms.lines().map(str::to_owned).collect();
        Ok(rooms.map(lines))
    }

    /// Whether `key` may do it now, counted over all nodes; if not, how long it must wait.
    ///
    /// # Errors
    /// Redis failed.
    pub(crate) async fn take(
        &self,
        key: &str,
        per_second: f64,
        burst: f64,
    ) -> Result<Result<(), Duration>> {
        let args = [key, &format!("{:.0}", 1e6 / per_second), &format!("{burst:.0}")];
        let micros = self.link.run_script(&self.link.scripts.take, &args).await?;
        Ok(if micros == 0 { Ok(()) } else { Err(Duration::from_micros(micros)) })
    }

    /// Tells the other nodes that somebody types, if they can hear it at once.
    pub(crate) async fn tell_typing(&self, room: &str, username: &str) -> Result<()> {
        let mut commands = Pipeline::new();
        let event = event::typing(self.link.node(), username);
        commands.cmd("PUBLISH").arg(self.link.channel(room)).arg(event).ignore();
        self.link.query(&commands).await
    }

    /// Returns when this node hears the room.
    ///
    /// # Errors
    /// Redis failed.
    pub(crate) async fn follow(&self, room: &str) -> Result<()> {
        self.link.ask(Job::new(room, None)).await.map(drop)
    }

    /// Has Redis know whether the user is in the room on this node; returns the number of what
    /// the room was told last then.
    ///
    /// # Errors
    /// Redis failed.
    pub(crate) async fn settle(&self, room: &str, username: &str) -> Result<u64> {
        self.link.ask(Job::new(room, Some(username))).await
    }

    /// As [`settle`](Self::settle), later; also after a time without Redis.
    pub(crate) fn settle_later(&self, room: &str, username: Option<&str>) {
        self.link.tell(Job::new(room, username));
    }
}
