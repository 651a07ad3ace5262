//! All data in one file: users, sign-ins, messages, restorable sessions.
//! Does not know HTTP or sockets; `writer` knows how transactions come about.
//!
//! A write is answered when it is on the disk. Reading looks at the newest transaction and waits
//! for no writer; what is hot takes microseconds, what is not may wait for the disk.

#[cfg(test)]
mod tests;
mod writer;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction,
};

use self::writer::Writer;
use super::HISTORY_BYTES_MAX;
use super::rows::{Message, Session, SignIn, User, json, read, readable};
use crate::tokens::now_ms;

const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");
const SIGN_INS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sign_ins");
const MESSAGES: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("messages");
const SESSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
/// The ids of messages by day, author, room and the key that their sender gave.
const SENT: TableDefinition<'_, (u64, &str, &str, &str), u64> = TableDefinition::new("sent");

const DAY_MS: u64 = 24 * 3600 * 1000;
/// What one transaction sweeps, so that messages need not wait long behind it.
const SWEPT_AT_ONCE: usize = 1000;

/// The handle of the file.
#[derive(Clone)]
pub(crate) struct Embedded {
    writer: Writer,
}

impl Embedded {
    /// Opens the file in this folder, or makes it, readable by its owner alone. `now` is when
    /// connections that lived in an earlier process count as ended.
    ///
    /// # Errors
    /// The file cannot be opened, or another process has it.
    pub(crate) fn open(folder: &Path, now: u64) -> Result<Self> {
        let path = folder.join("chat.redb");
        let database = open_file(&path, true)?;
        let place = path.display().to_string();
        let opened = Self::with(database, move || open_file(&path, false), now);
        opened.with_context(|| format!("cannot write to {place}"))
    }

    /// `open` is called when the disk has failed.
    fn with(
        database: Database,
        open: impl Fn() -> Result<Database> + Send + Sync + 'static,
        now: u64,
    ) -> Result<Self> {
        let transaction = database.begin_write()?;
        transaction.open_table(USERS)?;
        transaction.open_table(SIGN_INS)?;
        transaction.open_table(MESSAGES)?;
        transaction.open_table(COUNTERS)?;
        transaction.open_table(SENT)?;
        end_sessions(&transaction, now)?;
        transaction.commit()?;
        Ok(Self { writer: Writer::start(database, open)? })
    }

    /// Whether reading works, and writing did the last time.
    pub(crate) fn is_well(&self) -> bool {
        self.writer.is_well() && self.newest_id().is_ok()
    }

    /// Adds a user; false if the name is taken (in whatever case).
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn add_user(&self, user: User) -> Result<bool> {
        let job = move |transaction: &WriteTransaction| {
            let mut users = transaction.open_table(USERS)?;
            let key = user.username.to_lowercase();
            if users.get(key.as_str())?.is_some() {
                return Ok(false);
            }
            users.insert(key.as_str(), json(&user)?.as_slice())?;
            Ok(true)
        };
        self.writer.write(job).await
    }

    /// The user of this name, in whatever case.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn user(&self, username: &str) -> Result<Option<User>> {
        let key = username.to_lowercase();
        self.read(|transaction| {
            let row = transaction.open_table(USERS)?.get(key.as_str())?;
            row.map(|row| read(row.value())).transpose()
        })
    }

    /// Keeps a new sign-in.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn add_sign_in(&self, id: String, sign_in: SignIn) -> Result<()> {
        let job = move |transaction: &WriteTransaction| {
            let mut table = transaction.open_table(SIGN_INS)?;
            table.insert(id.as_str(), json(&sign_in)?.as_slice())?;
            Ok(())
        };
        self.writer.write(job).await
    }

    /// Replaces a sign-in's token. `None`: there is none, it has expired, or the token was an
    /// older one, which ends the sign-in. `now` is in seconds.
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
        if !self.has_sign_in(&id)? {
            return Ok(None);
        }
        let job = move |transaction: &WriteTransaction| {
            let mut table = transaction.open_table(SIGN_INS)?;
            let row = table.get(id.as_str())?.and_then(|row| readable::<SignIn>(row.value()));
            let kept = row.filter(|kept| kept.token_hash == old && kept.expires_at > now);
            let Some(kept) = kept else {
                table.remove(id.as_str())?;
                return Ok(None);
            };
            let new = SignIn { username: kept.username.clone(), ..new };
            table.insert(id.as_str(), json(&new)?.as_slice())?;
            Ok(Some(kept.username))
        };
        self.writer.write(job).await
    }

    /// Ends a sign-in.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn end_sign_in(&self, id: String) -> Result<()> {
        if !self.has_sign_in(&id)? {
            return Ok(());
        }
        let job = move |transaction: &WriteTransaction| {
            transaction.open_table(SIGN_INS)?.remove(id.as_str())?;
            Ok(())
        };
        self.writer.write(job).await
    }

    /// Whoever makes up an id costs no write.
    fn has_sign_in(&self, id: &str) -> Result<bool> {
        self.read(|transaction| Ok(transaction.open_table(SIGN_INS)?.get(id)?.is_some()))
    }

    /// Adds a message and gives it its id and time. If its author has sent one with this key to
    /// this room, today or yesterday, that one is returned instead. When this returns it is on
    /// the disk, and `written` has been called: for new messages in the order of their ids.
    ///
    /// # Errors
    /// The disk failed; the message may or may not be there later.
    pub(crate) async fn append(
        &self,
        mut message: Message,
        key: Option<String>,
        written: impl FnOnce(&Message) + Send + 'static,
    ) -> Result<Message> {
        let job = move |transaction: &WriteTransaction| {
            message.timestamp = now_ms();
            let day = message.timestamp / DAY_MS;
            let mut messages = transaction.open_table(MESSAGES)?;
            let (room, username) = (message.room.as_str(), message.username.as_str());
            if let Some(key) = &key {
                let sent = transaction.open_table(SENT)?;
                for day in [day, day.saturating_sub(1)] {
                    let Some(id) = sent.get((day, username, room, key.as_str()))? else { continue };
                    if let Some(row) = messages.get((room, id.value()))? {
                        return read(row.value());
                    }
                }
            }
            let mut counters = transaction.open_table(COUNTERS)?;
            let id = counters.get("messages")?.map_or(0, |row| row.value()) + 1;
            counters.insert("messages", id)?;
            message.id = id;
            messages.insert((room, id), json(&message)?.as_slice())?;
            if let Some(key) = &key {
                transaction.open_table(SENT)?.insert((day, username, room, key.as_str()), id)?;
            }
            Ok(message)
        };
        self.writer.write_then(job, written).await
    }

    /// The id of the newest message.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn newest_id(&self) -> Result<u64> {
        self.read(|transaction| {
            let row = transaction.open_table(COUNTERS)?.get("messages")?;
            Ok(row.map_or(0, |row| row.value()))
        })
    }

    /// The last `count` messages of a room, within [`HISTORY_BYTES_MAX`], oldest first.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn history(&self, room: &str, count: usize) -> Result<Vec<Message>> {
        let keys = (room, 0)..=(room, u64::MAX);
        self.read(|transaction| {
            let messages = transaction.open_table(MESSAGES)?;
            let (mut history, mut bytes) = (Vec::new(), 0);
            for row in messages.range(keys)?.rev().take(count) {
                let (_, row) = row?;
                bytes += row.value().len();
                if bytes > HISTORY_BYTES_MAX && !history.is_empty() {
                    break;
                }
                // One that cannot be read must not hide the others.
                history.extend(readable::<Message>(row.value()));
            }
            history.reverse();
            Ok(history)
        })
    }

    /// Makes the session of a new connection.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn add_session(&self, key: String, session: Session) -> Result<()> {
        self.writer.write(move |transaction| put_session(transaction, &key, &session)).await
    }

    /// Writes a session as it is now. One that has been restored meanwhile stays gone: its id
    /// works once.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn save_session(&self, key: String, session: Session) -> Result<()> {
        let job = move |transaction: &WriteTransaction| match take_session(transaction, &key)? {
            Some(_) => put_session(transaction, &key, &session),
            None => Ok(()),
        };
        self.writer.write(job).await
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
        let job = move |transaction: &WriteTransaction| {
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
        };
        self.writer.write(job).await
    }

    /// Removes sessions that ended before `since`, sign-ins that ended before `now` (in
    /// seconds), and keys of messages older than yesterday's. Looks for them without holding
    /// writers up, and writes nothing if there are none.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn sweep(&self, since: u64, now: u64) -> Result<()> {
        loop {
            let store = self.clone();
            let look = move || store.swept(since, now);
            let swept = tokio::task::spawn_blocking(look).await??;
            if swept.is_empty() {
                return Ok(());
            }
            self.writer.write(move |transaction| swept.remove(transaction)).await?;
        }
    }

    /// What a sweep would remove, or a part of it.
    fn swept(&self, since: u64, now: u64) -> Result<Swept> {
        self.read(|transaction| {
            let mut swept = Swept::default();
            for row in transaction.open_table(SESSIONS)?.range::<&str>(..)? {
                let (key, row) = row?;
                if readable::<Session>(row.value()).is_none_or(|row| !row.is_open(since)) {
                    swept.sessions.push(key.value().to_owned());
                }
                if swept.sessions.len() == SWEPT_AT_ONCE {
                    break;
                }
            }
            for row in transaction.open_table(SIGN_INS)?.range::<&str>(..)? {
                let (key, row) = row?;
                if readable::<SignIn>(row.value()).is_none_or(|row| row.expires_at <= now) {
                    swept.sign_ins.push(key.value().to_owned());
                }
                if swept.sign_ins.len() == SWEPT_AT_ONCE {
                    break;
                }
            }
            let yesterday = (now * 1000 / DAY_MS).saturating_sub(1);
            let sent = transaction.open_table(SENT)?;
            for row in sent.range(..(yesterday, "", "", ""))?.take(SWEPT_AT_ONCE) {
                let (key, _) = row?;
                let (day, username, room, key) = key.value();
                swept.sent.push((day, username.to_owned(), room.to_owned(), key.to_owned()));
            }
            Ok(swept)
        })
    }

    /// A failure may be one of the disk, after which the file must be opened again.
    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        let result = self.writer.begin_read().and_then(|transaction| look(&transaction));
        result.inspect_err(|_| self.writer.check())
    }
}

/// Only at the start may a new chat begin (`may_begin`): a file that has gone since, as with a disk
/// that was taken away, may come back.
fn open_file(path: &Path, may_begin: bool) -> Result<Database> {
    let place = path.display();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(may_begin).truncate(false).mode(0o600);
    let file = options.open(path).with_context(|| format!("cannot open {place}"))?;
    if file.metadata().is_ok_and(|file| file.len() == 0) {
        ensure!(may_begin, "{place} has lost its data");
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        tracing::warn!("there is no chat in {} yet: a new one begins", whole.display());
    }
    let backend = FileBackend::new(file).with_context(|| format!("cannot open {place}"))?;
    match Database::builder().create_with_backend(backend) {
        Err(DatabaseError::DatabaseAlreadyOpen) => bail!("{place} is in use by another server"),
        opened => opened.with_context(|| format!("cannot open {place}")),
    }
}

/// Keys of rows that are good for nothing any more, and will never be again.
#[derive(Default)]
struct Swept {
    sessions: Vec<String>,
    sign_ins: Vec<String>,
    sent: Vec<(u64, String, String, String)>,
}

impl Swept {
    fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.sign_ins.is_empty() && self.sent.is_empty()
    }

    fn remove(&self, transaction: &WriteTransaction) -> Result<()> {
        let mut sessions = transaction.open_table(SESSIONS)?;
        for key in &self.sessions {
            sessions.remove(key.as_str())?;
        }
        let mut sign_ins = transaction.open_table(SIGN_INS)?;
        for key in &self.sign_ins {
            sign_ins.remove(key.as_str())?;
        }
        let mut sent = transaction.open_table(SENT)?;
        for (day, username, room, key) in &self.sent {
            sent.remove((*day, username.as_str(), room.as_str(), key.as_str()))?;
        }
        Ok(())
    }
}

/// Connections of an earlier process have ended, at the latest now.
fn end_sessions(transaction: &WriteTransaction, now: u64) -> Result<()> {
    let mut sessions = transaction.open_table(SESSIONS)?;
    let mut lived = Vec::new();
    for row in sessions.iter()? {
        let (id, session) = row?;
        let session = readable::<Session>(session.value());
        if let Some(session) = session.filter(|session| session.ended_at.is_none()) {
            lived.push((id.value().to_owned(), Session { ended_at: Some(now), ..session }));
        }
    }
    for (id, session) in lived {
        sessions.insert(id.as_str(), json(&session)?.as_slice())?;
    }
    Ok(())
}

fn take_session(transaction: &WriteTransaction, key: &str) -> Result<Option<Session>> {
    let mut sessions = transaction.open_table(SESSIONS)?;
    let row = sessions.remove(key)?;
    Ok(row.and_then(|row| readable(row.value())))
}

fn put_session(transaction: &WriteTransaction, key: &str, session: &Session) -> Result<()> {
    transaction.open_table(SESSIONS)?.insert(key, json(session)?.as_slice())?;
    Ok(())
}
