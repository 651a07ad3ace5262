//! Reads the streams, on a connection of its own: from their ends when it begins, and from where it
//! was when Redis comes back, or a stream is at another node. Does not know what the entries mean.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use sockeye::cluster::LogOffset;
use tokio::sync::watch;
use tokio::time::sleep;

use super::log::millis;
use super::{Ears, StreamsOptions, list, text};
use crate::commands::Commands;
use crate::redis::{Place, Redis};
use crate::subscriber::{RETRY_FIRST, RETRY_LAST, jittered};
use crate::wire::streams::{Entry, decode_entry, stream_names};

/// What Redis may take beyond the time that a reading waits for entries.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads until it is closed or dropped.
pub(super) struct Reader {
    is_closed: watch::Sender<bool>,
    /// How many connections do not know yet from where on they read.
    unbegun: watch::Sender<usize>,
    positions: Arc<Positions>,
}

/// Up to where each stream has been read: everything before has been handed on.
#[derive(Default)]
struct Positions(Mutex<HashMap<String, LogOffset>>);

impl Reader {
    pub(super) fn start(
        redis: Redis,
        commands: &Arc<Commands>,
        options: &StreamsOptions,
        ears: &Arc<Ears>,
    ) -> Self {
        let names = stream_names(&options.stream_name, options.stream_count);
        // In a cluster each stream may be at another node.
        let at_once = if redis.seeds().is_some() { 1 } else { names.len() };
        let groups: Vec<&[String]> = names.chunks(at_once).collect();
        let is_closed = watch::channel(false).0;
        let unbegun = watch::channel(groups.len()).0;
        ears.readers_away.store(groups.len(), Ordering::Release);
        let positions = Arc::<Positions>::default();
        for group in groups {
            let reading = Reading {
                redis: redis.clone(),
                commands: commands.clone(),
                streams: group.iter().map(|name| (name.clone(), None)).collect(),
                count: options.read_count,
                block: options.block_time,
                ears: ears.clone(),
                unbegun: Some(unbegun.clone()),
                asked: None,
                is_reading: false,
                positions: positions.clone(),
            };
            let mut closed = is_closed.subscribe();
            tokio::spawn(async move {
                tokio::select! {
                    never = reading.run() => match never {},
                    // An error says that the reader has been dropped.
                    _ = closed.wait_for(|is_closed| *is_closed) => {}
                }
            });
        }
        Self { is_closed, unbegun, positions }
    }

    /// Waits until it knows from where on it reads.
    pub(super) async fn begun(&self) {
        // The sender lives as long as this.
        let _ = self.unbegun.subscribe().wait_for(|unbegun| *unbegun == 0).await;
    }

    /// Up to where a stream has been read; `None` before it is known where reading begins.
    pub(super) fn position(&self, stream: &str) -> Option<LogOffset> {
        self.positions.0.lock().get(stream).copied()
    }

    pub(super) fn close(&self) {
        self.is_closed.send_replace(true);
    }
}

struct Reading {
    redis: Redis,
    commands: Arc<Commands>,
    /// The name of each, and the last entry that was read.
    streams: Vec<(String, Option<String>)>,
    count: u64,
    block: Duration,
    ears: Arc<Ears>,
    /// It is to be told once when it has begun.
    unbegun: Option<watch::Sender<usize>>,
    /// The node that has the stream already, while its slot is on the way there.
    asked: Option<Arc<str>>,
    is_reading: bool,
    positions: Arc<Positions>,
}

impl Reading {
    async fn run(mut self) -> Infallible {
        let mut retry = RETRY_FIRST;
        loop {
            let Err(error) = self.read(&mut retry).await;
            tracing::debug!(%error, "the streams cannot be read");
            self.set_reading(false);
            self.follow(&error);
            sleep(jittered(retry)).await;
            retry = (retry * 2).min(RETRY_LAST);
        }
    }

    /// The next connection goes to where the stream is said to be.
    fn follow(&mut self, error: &RedisError) {
        self.asked = None;
        match (error.redirect_node(), error.kind()) {
            (Some((address, _)), ErrorKind::Server(ServerErrorKind::Ask)) => {
                self.asked = Some(address.into());
            }
            (Some((address, slot)), _) => self.commands.note_move(slot, address.into()),
            (None, _) => self.commands.note_doubt(),
        }
    }

    fn set_reading(&mut self, is_reading: bool) {
        if self.is_reading != is_reading {
            self.is_reading = is_reading;
            self.ears.set_reading(is_reading);
        }
    }

    async fn read(&mut self, retry: &mut Duration) -> RedisResult<Infallible> {
        let place = match &self.asked {
            Some(address) => Place::Node(address.clone()),
            None => self.commands.place(&self.streams[0].0).await?,
        };
        let timeout = self.block.saturating_add(ANSWER_TIMEOUT);
        let connection = &mut self.redis.connect(&place, |_| {}, Some(timeout)).await?;
        self.find_ends(connection).await?;
        self.look_for_beginnings(connection).await?;
        self.look_for_gaps(connection).await?;
        self.set_reading(true);
        if let Some(unbegun) = self.unbegun.take() {
            unbegun.send_modify(|unbegun| *unbegun -= 1);
        }
        *retry = RETRY_FIRST;
        loop {
            let mut command = Cmd::new();
            // To Redis none is one without end.
            let block = millis(self.block);
            command.arg("XREAD").arg("COUNT").arg(self.count).arg("BLOCK").arg(block);
            command.arg("STREAMS");
            command.arg(self.streams.iter().map(|(name, _)| name).collect::<Vec<_>>());
            let last = |(_, last): &(String, Option<String>)| last.clone().unwrap_or("0-0".into());
            command.arg(self.streams.iter().map(last).collect::<Vec<_>>());
            let answer = self.ask(connection, command).await?;
            self.take(&answer).await;
            if pairs(&answer).is_empty() {
                self.look_for_beginnings(connection).await?;
            } else if self.is_full(&answer) {
                // Others may write faster than this one reads.
                self.look_for_gaps(connection).await?;
            }
        }
    }

    /// What was there before is not read.
    async fn find_ends(&mut self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        for index in 0..self.streams.len() {
            if self.streams[index].1.is_none() {
                let end = self.find_end(connection, index).await?;
                self.begin_at(index, end);
            }
        }
        Ok(())
    }

    /// The last entry of a stream that has any.
    async fn find_end(
        &self,
        connection: &mut MultiplexedConnection,
        index: usize,
    ) -> RedisResult<LogOffset> {
        let mut command = Cmd::new();
        let name = &self.streams[index].0;
        command.arg("XREVRANGE").arg(name).arg("+").arg("-").arg("COUNT").arg(1);
        let answer = self.ask(connection, command).await?;
        Ok(first_id(&answer).unwrap_or_default())
    }

    fn begin_at(&mut self, index: usize, end: LogOffset) {
        let (name, last) = &mut self.streams[index];
        let end = last.insert(end.to_string());
        self.positions.set(name, end);
    }

    /// A stream that was taken away, or lost with its Redis, may begin anew before where this one
    /// is: its ids are those of a clock. What comes then is read on.
    async fn look_for_beginnings(
        &mut self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        for index in 0..self.streams.len() {
            let last = self.streams[index].1.as_deref().and_then(LogOffset::parse);
            let end = self.find_end(connection, index).await?;
            // Of who is recovered by positions these would be others.
            if last.is_some_and(|last| end < last) && !self.ears.has_log {
                tracing::warn!(stream = self.streams[index].0, "the stream begins anew");
                self.begin_at(index, end);
            }
        }
        Ok(())
    }

    /// Whether there may have been more than an answer could hold.
    fn is_full(&self, answer: &Value) -> bool {
        let is_full = |entries: &Value| list(entries).len() as u64 >= self.count;
        pairs(answer).iter().any(|(_, entries)| is_full(entries))
    }

    /// A stream keeps so many entries, and may have lost some before they were read.
    async fn look_for_gaps(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        for (name, last) in &self.streams {
            let answer = self.ask(connection, first_entry(name)).await?;
            let last = last.as_deref().and_then(LogOffset::parse);
            if let (Some(first), Some(last)) = (first_id(&answer), last)
                && last != LogOffset::default()
                && first > last
            {
                tracing::warn!(stream = name, "entries were lost before they were read");
                self.ears.node.skip_log(first);
            }
        }
        Ok(())
    }

    async fn ask(
        &self,
        connection: &mut MultiplexedConnection,
        command: Cmd,
    ) -> RedisResult<Value> {
        let mut pipeline = Pipeline::new();
        if self.asked.is_some() {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(command);
        let answers = connection.req_packed_commands(&pipeline, 0, pipeline.len()).await?;
        answers.into_iter().next_back().unwrap_or(Value::Nil).extract_error()
    }

    /// Hands on what a reading found.
    async fn take(&mut self, answer: &Value) {
        for (name, entries) in pairs(answer) {
            let stream = text(name)
                .and_then(|name| self.streams.iter_mut().find(|(known, _)| known == name));
            let Some((name, last)) = stream else { continue };
            for entry in list(entries) {
                let [id, fields] = list(entry) else { continue };
                let Some(id) = text(id) else { continue };
                *last = Some(id.to_owned());
                take_entry(&self.ears, id, list(fields)).await;
                self.positions.set(name, id);
            }
        }
    }
}

impl Positions {
    fn set(&self, stream: &str, id: &str) {
        let Some(offset) = LogOffset::parse(id) else { return };
        let mut positions = self.0.lock();
        match positions.get_mut(stream) {
            Some(position) => *position = offset,
            None => drop(positions.insert(stream.to_owned(), offset)),
        }
    }
}

/// The streams of an answer, and their entries: a map, or a list of pairs.
fn pairs(answer: &Value) -> Vec<(&Value, &Value)> {
    if let Value::Map(map) = answer {
        return map.iter().map(|(name, entries)| (name, entries)).collect();
    }
    let pair = |pair| match list(pair) {
        [name, entries] => Some((name, entries)),
        _ => None,
    };
    list(answer).iter().filter_map(pair).collect()
}

/// Asks for the first entry that a stream still has.
pub(super) fn first_entry(stream: &str) -> Cmd {
    let mut command = Cmd::new();
    command.arg("XRANGE").arg(stream).arg("-").arg("+").arg("COUNT").arg(1);
    command
}

/// The id of the first entry of an answer.
pub(super) fn first_id(answer: &Value) -> Option<LogOffset> {
    LogOffset::parse(text(list(list(answer).first()?).first()?)?)
}

async fn take_entry(ears: &Ears, id: &str, fields: &[Value]) {
    let entry = entry(fields);
    // As Node does: not a cluster's.
    if entry.nsp.is_empty() {
        return;
    }
    let offset = LogOffset::parse(id);
    if entry.uid == ears.node.id().as_str() {
        if let Some(offset) = offset {
            ears.node.deliver_logged(&entry.nsp, offset).await;
        }
        return;
    }
    match decode_entry(&entry) {
        Ok(message) => ears.node.receive_logged(message, offset),
        Err(error) => ears.node.reject(&error),
    }
}

pub(super) fn entry(fields: &[Value]) -> Entry {
    let mut entry = Entry::default();
    for pair in fields.chunks_exact(2) {
        let (Some(name), Some(value)) = (text(&pair[0]), text(&pair[1])) else { continue };
        match name {
            "uid" => entry.uid = value.to_owned(),
            "nsp" => entry.nsp = value.to_owned(),
            "type" => entry.kind = value.to_owned(),
            "data" => entry.data = Some(value.to_owned()),
            _ => {}
        }
    }
    entry
}
