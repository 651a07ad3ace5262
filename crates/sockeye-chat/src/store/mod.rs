//! All data, in one of two places: a file that one process has for itself, or a Redis that any
//! number of processes share. Does not know HTTP or sockets.

mod embedded;
mod redis;
mod rows;

use std::sync::Arc;

use anyhow::{Context, Result};

pub(crate) use self::embedded::Embedded;
pub(crate) use self::redis::{Redis, check_url};
pub(crate) use self::rows::{Message, Session, SignIn, User};

/// The bytes of a history, but for one message that is longer: a quarter of what may wait for a
/// client, so that a joiner always has room for it.
pub(crate) const HISTORY_BYTES_MAX: usize = 1 << 20;

/// The handle of all data.
#[derive(Clone)]
pub(crate) enum Store {
    /// This process is the whole chat.
    Embedded(Embedded),
    /// This process is one node of it.
    Redis(Arc<Redis>),
}

impl Store {
    /// Whether reading and writing work.
    pub(crate) fn is_well(&self) -> bool {
        match self {
            Self::Embedded(file) => file.is_well(),
            Self::Redis(redis) => redis.is_well(),
        }
    }

    /// Adds a user; false if the name is taken (in whatever case).
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn add_user(&self, user: User) -> Result<bool> {
        match self {
            Self::Embedded(file) => file.add_user(user).await,
            Self::Redis(redis) => redis.add_user(&user).await,
        }
    }

    /// The user of this name, in whatever case.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn user(&self, username: &str) -> Result<Option<User>> {
        match self {
            Self::Embedded(file) => file.user(username),
            Self::Redis(redis) => redis.user(username).await,
        }
    }

    /// Keeps a new sign-in. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn add_sign_in(&self, id: String, sign_in: SignIn, now: u64) -> Result<()> {
        match self {
            Self::Embedded(file) => file.add_sign_in(id, sign_in).await,
            Self::Redis(redis) => redis.add_sign_in(&id, &sign_in, now).await,
        }
    }

    /// Replaces a sign-in's token. `None`: there is none, it has expired, or the token was an
    /// older one, which ends the sign-in. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn rotate(
        &self,
        id: String,
        old: String,
        new: SignIn,
        now: u64,
    ) -> Result<Option<String>> {
        match self {
            Self::Embedded(file) => file.rotate(id, old, new, now).await,
            Self::Redis(redis) => redis.rotate(&id, &old, &new, now).await,
        }
    }

    /// Ends a sign-in.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn end_sign_in(&self, id: String) -> Result<()> {
        match self {
            Self::Embedded(file) => file.end_sign_in(id).await,
            Self::Redis(redis) => redis.end_sign_in(&id).await,
        }
    }

    /// The last `count` messages of a room, within [`HISTORY_BYTES_MAX`], oldest first. Read off
    /// the async threads: the disk may be slow where nobody was for long.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn history(&self, room: &str, count: usize) -> Result<Vec<Message>> {
        match self {
            Self::Embedded(file) => {
                let (file, room) = (file.clone(), room.to_owned());
                let reading = tokio::task::spawn_blocking(move || file.history(&room, count));
                reading.await.context("the history was not read")?
            }
            Self::Redis(redis) => redis.history(room, count).await,
        }
    }

    /// Makes the session of a new connection.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn add_session(&self, key: String, session: Session) -> Result<()> {
        match self {
            Self::Embedded(file) => file.add_session(key, session).await,
            Self::Redis(redis) => redis.add_session(&key, &session).await,
        }
    }

    /// Writes a session as it is now. One that has been restored meanwhile stays gone: its id
    /// works once.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn save_session(&self, key: String, session: Session) -> Result<()> {
        match self {
            Self::Embedded(file) => file.save_session(key, session).await,
            Self::Redis(redis) => redis.save_session(&key, &session).await,
        }
    }

    /// Moves an earlier session's rooms to the session `to` and returns them, if it is the same
    /// user's and ended after `since`, or lives. Another user's stays as it is.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn move_session(
        &self,
        from: String,
        to: String,
        since: u64,
    ) -> Result<Option<Vec<String>>> {
        match self {
            Self::Embedded(file) => file.move_session(from, to, since).await,
            // What has ended goes there by itself.
            Self::Redis(redis) => redis.move_session(&from, &to).await,
        }
    }

    /// Removes sessions that ended before `since`, sign-ins that ended before `now` (in
    /// seconds), and keys of messages older than yesterday's.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn sweep(&self, since: u64, now: u64) -> Result<()> {
        match self {
            Self::Embedded(file) => file.sweep(since, now).await,
            // Everything there has its time to live.
            Self::Redis(_) => Ok(()),
        }
    }
}
