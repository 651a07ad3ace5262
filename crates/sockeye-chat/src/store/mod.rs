//! All data, in one file: users, sign-ins, messages, restorable sessions.
//! Does not know HTTP or sockets.
//!
//! One thread writes. It takes what has come while it was busy into one transaction, so many
//! messages share one fsync; a write is answered when its transaction is on the disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result, anyhow};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::tokens::now_ms;

const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");
const SIGN_INS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sign_ins");
const MESSAGES: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("messages");
const SESSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// The transactions that one commit takes at the most.
const GROUP_MAX: usize = 1024;

/// An account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct User {
    /// Its id.
    pub(crate) id: String,
    /// Its name as it was typed.
    pub(crate) username: String,
    /// The password's argon2id hash.
    pub(crate) hash: String,
}

/// A sign-in and the refresh token that continues it. An older token of the same sign-in is a
/// stolen one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SignIn {
    /// Whose it is.
    pub(crate) username: String,
    /// The hash of the token that is good now.
    pub(crate) token_hash: String,
    /// When it ends unless it is used, in seconds since 1970.
    pub(crate) expires_at: u64,
}

/// A message.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its id, larger than those of the messages before it; text in JSON, where numbers are
    /// exact only up to 2^53.
    #[serde(with = "decimal")]
    pub(crate) id: u64,
    /// Who wrote it.
    pub(crate) username: String,
    /// What.
    pub(crate) text: String,
    /// Where.
    pub(crate) room: String,
    /// When, in milliseconds since 1970.
    pub(crate) timestamp: u64,
}

/// What a client can have back after it lost its connection. Its key is a hash of the id that the
/// client has.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Session {
    /// Whose it is.
    pub(crate) username: String,
    /// The rooms it was in.
    pub(crate) rooms: Vec<String>,
    /// When the connection ended, in milliseconds since 1970; `None` while it lives.
    pub(crate) ended_at: Option<u64>,
}

impl Session {
    /// Whether it lives or ended after `since`.
    fn is_open(&self, since: u64) -> bool {
        self.ended_at.is_none_or(|ended| ended > since)
    }
}

type Job = Box<dyn FnOnce(&WriteTransaction) -> Done + Send>;
/// Answers a job once its transaction is on the disk, or is not.
type Done = Box<dyn FnOnce(bool) + Send>;

/// The handle of the file.
#[derive(Clone)]
pub(crate) struct Store {
    database: Arc<Database>,
    jobs: Sender<Job>,
}

impl Store {
    /// Opens the file in this folder, or makes it. `now` is when connections that lived in an
    /// earlier process count as ended.
    ///
    /// # Errors
    /// The file cannot be opened; another process may have it.
    pub(crate) fn open(folder: &Path, now: u64) -> Result<Self> {
        let path = folder.join("chat.redb");
        let database = Database::create(&path).with_context(|| {
            format!("cannot open {}; does another server use it?", path.display())
        })?;
        let transaction = database.begin_write()?;
        transaction.open_table(USERS)?;
        transaction.open_table(SIGN_INS)?;
        transaction.open_table(MESSAGES)?;
        transaction.open_table(COUNTERS)?;
        end_sessions(&transaction, now)?;
        transaction.commit()?;
        let database = Arc::new(database);
        let (jobs, waiting) = channel();
        let writer = database.clone();
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_all(&writer, &waiting))?;
        Ok(Self { database, jobs })
    }

    /// Whether reading works.
    pub(crate) fn is_well(&self) -> bool {
        self.database.begin_read().is_ok()
    }

    /// Adds a user; false if the name is taken (in whatever case).
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn add_user(&self, user: User) -> Result<bool> {
        self.write(move |transaction| {
            let mut users = transaction.open_table(USERS)?;
            let key = user.username.to_lowercase();
            if users.get(key.as_str())?.is_some() {
                return Ok(false);
            }
            users.insert(key.as_str(), json(&user)?.as_slice())?;
            Ok(true)
        })
        .await
    }

    /// The user of this name, in whatever case.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn user(&self, username: &str) -> Result<Option<User>> {
        let users = self.database.begin_read()?.open_table(USERS)?;
        users.get(username.to_lowercase().as_str())?.map(|row| read(row.value())).transpose()
    }

    /// Keeps a new sign-in.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn add_sign_in(&self, id: String, sign_in: SignIn) -> Result<()> {
        self.write(move |transaction| {
            let mut table = transaction.open_table(SIGN_INS)?;
            table.insert(id.as_str(), json(&sign_in)?.as_slice())?;
            Ok(())
        })
        .await
    }

    /// Replaces a sign-in's token. `None`: there is none, it has expired, or the token was an
    /// older one, which ends the sign-in.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn rotate(
        &self,
        id: String,
        old: String,
        new: SignIn,
        now: u64,
    ) -> Result<Option<String>> {
        self.write(move |transaction| {
            let mut table = transaction.open_table(SIGN_INS)?;
            let Some(row) = table.get(id.as_str())?.map(|row| row.value().to_vec()) else {
                return Ok(None);
            };
            let kept: SignIn = read(&row)?;
            if kept.token_hash != old || kept.expires_at <= now {
                table.remove(id.as_str())?;
                return Ok(None);
            }
            let new = SignIn { username: kept.username.clone(), ..new };
            table.insert(id.as_str(), json(&new)?.as_slice())?;
            Ok(Some(kept.username))
        })
        .await
    }

    /// Ends a sign-in.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn end_sign_in(&self, id: String) -> Result<()> {
        self.write(move |transaction| {
            transaction.open_table(SIGN_INS)?.remove(id.as_str())?;
            Ok(())
        })
        .await
    }

    /// Adds a message and gives it its id and time. When this returns it is on the disk, and
    /// `written` has been called: for all messages in the order of their ids.
    ///
    /// # Errors
    /// The disk failed; the message may or may not be there later.
    pub(crate) async fn append(
        &self,
        mut message: Message,
        written: impl FnOnce(&Message) + Send + 'static,
    ) -> Result<Message> {
        let job = move |transaction: &WriteTransaction| {
            let mut counters = transaction.open_table(COUNTERS)?;
            let id = counters.get("messages")?.map_or(0, |row| row.value()) + 1;
            counters.insert("messages", id)?;
            message.id = id;
            message.timestamp = now_ms();
            let mut messages = transaction.open_table(MESSAGES)?;
            messages.insert((message.room.as_str(), id), json(&message)?.as_slice())?;
            Ok(message)
        };
        self.write_then(job, written).await
    }

    /// The id of the newest message.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn newest_id(&self) -> Result<u64> {
        let counters = self.database.begin_read()?.open_table(COUNTERS)?;
        Ok(counters.get("messages")?.map_or(0, |row| row.value()))
    }

    /// The last messages of a room up to the id `until`, oldest first.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn history(&self, room: &str, until: u64, count: usize) -> Result<Vec<Message>> {
        let messages = self.database.begin_read()?.open_table(MESSAGES)?;
        let rows = messages.range((room, 0)..=(room, until))?.rev().take(count);
        let mut history = rows.map(|row| read(row?.1.value())).collect::<Result<Vec<Message>>>()?;
        history.reverse();
        Ok(history)
    }

    /// Makes the session of a new connection.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn add_session(&self, key: String, session: Session) -> Result<()> {
        self.write(move |transaction| put_session(transaction, &key, &session)).await
    }

    /// Writes a session as it is now. One that has been restored meanwhile stays gone: its id
    /// works once.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn save_session(&self, key: String, session: Session) -> Result<()> {
        self.write(move |transaction| match take_session(transaction, &key)? {
            Some(_) => put_session(transaction, &key, &session),
            None => Ok(()),
        })
        .await
    }

    /// Moves an earlier session's rooms to the session `to` and returns them, if it is the same
    /// user's and ended after `since`, or lives. Another user's stays as it is.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn move_session(
        &self,
        from: String,
        to: String,
        since: u64,
    ) -> Result<Option<Vec<String>>> {
        self.write(move |transaction| {
            let Some(mut now) = take_session(transaction, &to)? else { return Ok(None) };
            let earlier = take_session(transaction, &from)?;
            let rooms = match earlier {
                Some(earlier) if earlier.username != now.username => {
                    put_session(transaction, &from, &earlier)?;
                    None
                }
                Some(earlier) if earlier.is_open(since) => Some(earlier.rooms),
                _ => None,
            };
            let mut more = rooms.clone().unwrap_or_default();
            more.retain(|room| !now.rooms.contains(room));
            now.rooms.append(&mut more);
            put_session(transaction, &to, &now)?;
            Ok(rooms)
        })
        .await
    }

    /// Removes sessions that ended before `since`, and sign-ins that ended before `now`, in
    /// seconds.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn sweep(&self, since: u64, now: u64) -> Result<()> {
        self.write(move |transaction| {
            transaction.open_table(SESSIONS)?.retain(|_, row| {
                let session: Result<Session> = read(row);
                session.is_ok_and(|session| session.is_open(since))
            })?;
            transaction.open_table(SIGN_INS)?.retain(|_, row| {
                let sign_in: Result<SignIn> = read(row);
                sign_in.is_ok_and(|sign_in| sign_in.expires_at > now)
            })?;
            Ok(())
        })
        .await
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&WriteTransaction) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write_then(job, |_| {}).await
    }

    /// Runs a job in the next transaction, and `written` on the same thread once that is on the
    /// disk, before the jobs after it.
    async fn write_then<T: Send + 'static>(
        &self,
        job: impl FnOnce(&WriteTransaction) -> Result<T> + Send + 'static,
        written: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T> {
        let (answer, waiting) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let result = job(transaction);
            Box::new(move |committed| {
                let result = match result {
                    Ok(_) if !committed => Err(anyhow!("the data could not be written")),
                    result => result.inspect(written),
                };
                // Nobody waits any more where the client has gone.
                let _ = answer.send(result);
            })
        });
        self.jobs.send(job).map_err(|_| anyhow!("the store has ended"))?;
        waiting.await.context("the store has ended")?
    }
}

/// The writing thread.
fn write_all(database: &Database, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut done: Vec<Done> = Vec::new();
        let committed = (|| -> Result<()> {
            let transaction = database.begin_write()?;
            done.push(first(&transaction));
            done.extend(jobs.try_iter().take(GROUP_MAX).map(|job| job(&transaction)));
            transaction.commit()?;
            Ok(())
        })();
        if let Err(error) = &committed {
            tracing::error!(%error, "a transaction was not written");
        }
        done.into_iter().for_each(|answer| answer(committed.is_ok()));
    }
}

/// Connections of an earlier process have ended, at the latest now.
fn end_sessions(transaction: &WriteTransaction, now: u64) -> Result<()> {
    let mut sessions = transaction.open_table(SESSIONS)?;
    let mut lived = Vec::new();
    for row in sessions.iter()? {
        let (id, session) = row?;
        let session: Session = read(session.value())?;
        if session.ended_at.is_none() {
            lived.push((id.value().to_owned(), Session { ended_at: Some(now), ..session }));
        }
    }
    for (id, session) in lived {
        sessions.insert(id.as_str(), json(&session)?.as_slice())?;
    }
    Ok(())
}

fn take_session(transaction: &WriteTransaction, key: &str) -> Result<Option<Session>> {
    let row = transaction.open_table(SESSIONS)?.remove(key)?.map(|row| row.value().to_vec());
    row.map(|row| read(&row)).transpose()
}

fn put_session(transaction: &WriteTransaction, key: &str, session: &Session) -> Result<()> {
    transaction.open_table(SESSIONS)?.insert(key, json(session)?.as_slice())?;
    Ok(())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

fn read<T: DeserializeOwned>(row: &[u8]) -> Result<T> {
    serde_json::from_slice(row).context("a stored row cannot be read")
}

/// A number as text in JSON.
mod decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(super) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
