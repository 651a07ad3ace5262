//! What buses ask Redis alike: to take a batch of messages, and how many nodes hear a channel.
//! Does not know which messages.

use redis::{Pipeline, RedisError, Value};
use sockeye::cluster::{BusError, Nodes, Offsets};

use crate::commands::Commands;
use crate::slots::slot;
use crate::wire::{Publication, UnwritableError};

/// A batch of messages as commands for one round trip. What becomes of each is told apart: a
/// message that cannot be written, or that Redis refuses, takes no other with it.
#[derive(Default)]
pub(crate) struct Sending {
    commands: Pipeline,
    messages: Vec<Written>,
}

enum Written {
    Command,
    /// There is nothing to say.
    Nothing,
    Not(UnwritableError),
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsent {
    #[error(transparent)]
    Unwritable(#[from] UnwritableError),
    #[error(transparent)]
    Refused(#[from] RedisError),
}

/// What was answered to a message; nothing where there was nothing to say.
pub(crate) type Answer = Result<Value, Unsent>;

impl Sending {
    /// Adds a message by at most one command.
    pub(crate) fn add(&mut self, write: impl FnOnce(&mut Pipeline) -> Result<(), UnwritableError>) {
        let count = self.commands.len();
        let written = match write(&mut self.commands) {
            Ok(()) if self.commands.len() > count => Written::Command,
            Ok(()) => Written::Nothing,
            Err(error) => Written::Not(error),
        };
        self.messages.push(written);
    }

    /// # Cancel safety
    /// The messages may or may not be sent.
    pub(crate) async fn run(self, commands: &Commands) -> Vec<Answer> {
        let mut answers = commands.run_each(&self.commands).await.into_iter();
        let answer = |written| match written {
            Written::Command => Ok(answers.next().unwrap_or(Ok(Value::Nil))?),
            Written::Nothing => Ok(Value::Nil),
            Written::Not(error) => Err(error.into()),
        };
        self.messages.into_iter().map(answer).collect()
    }
}

/// What a bus says of a batch; `offsets` are of those that were sent.
pub(crate) fn outcome(answers: Vec<Answer>, offsets: Offsets) -> Result<Offsets, BusError> {
    let (mut why, mut unsent) = (None, Vec::new());
    for (place, answer) in answers.into_iter().enumerate() {
        if let Err(error) = answer {
            why.get_or_insert(error);
            unsent.push(place);
        }
    }
    match why {
        None => Ok(offsets),
        Some(why) => Err(BusError::of_some(why, unsent, offsets)),
    }
}

/// Sends all of them as `verb`s, `PUBLISH` or `SPUBLISH`.
pub(crate) async fn publish(
    commands: &Commands,
    verb: &str,
    all: impl IntoIterator<Item = Result<Publication, UnwritableError>>,
) -> Result<Offsets, BusError> {
    let mut sending = Sending::default();
    for publication in all {
        sending.add(|commands| {
            let Publication { channel, payload } = publication?;
            commands.cmd(verb).arg(channel).arg(payload);
            Ok(())
        });
    }
    outcome(sending.run(commands).await, Offsets::new())
}

/// The nodes that hear a channel beside this one, which is among them while it hears; the channel
/// is one of sharded pub/sub or not.
pub(crate) async fn others(
    commands: &Commands,
    is_sharded: bool,
    channel: &str,
) -> Result<Nodes, BusError> {
    let count = count(commands, is_sharded, channel).await?;
    Ok(Nodes::Count(count.saturating_sub(1)))
}

async fn count(commands: &Commands, is_sharded: bool, channel: &str) -> Result<usize, BusError> {
    let kind = if is_sharded { "SHARDNUMSUB" } else { "NUMSUB" };
    let mut pipeline = Pipeline::new();
    pipeline.cmd("PUBSUB").arg(kind).arg(channel);
    let slot = is_sharded.then(|| slot(channel.as_bytes()));
    let Some(nodes) = commands.hearers(slot).await.map_err(BusError::new)? else {
        return read(&commands.run(&pipeline).await.map_err(BusError::new)?);
    };
    // In a cluster each counts its own connections. One that is away has none.
    let answers = commands.ask_each(nodes, &pipeline).await;
    if answers.is_empty() {
        return Err(BusError::new("no node of Redis tells a number"));
    }
    answers.iter().map(|answers| read(answers)).sum()
}

fn read(answers: &[Value]) -> Result<usize, BusError> {
    let count = answers.first().and_then(|answer| match answer {
        // RESP3 may tell it as a map.
        Value::Map(entries) => entries.first().map(|(_, count)| count),
        Value::Array(list) => list.get(1),
        _ => None,
    });
    match count {
        Some(Value::Int(count)) => usize::try_from(*count).map_err(BusError::new),
        _ => Err(BusError::new("Redis did not tell a number")),
    }
}
