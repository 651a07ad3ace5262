//! What buses over pub/sub ask Redis alike: to publish, and how many nodes hear a channel.
//! Does not know which messages.

use redis::{Pipeline, Value};
use sockeye::cluster::{BusError, Nodes};

use crate::commands::Commands;
use crate::slots::slot;
use crate::wire::{Publication, UnwritableError};

/// All of them as `verb`s, `PUBLISH` or `SPUBLISH`, for one round trip.
pub(crate) fn publications(
    verb: &str,
    all: impl IntoIterator<Item = Result<Publication, UnwritableError>>,
) -> Result<Pipeline, BusError> {
    let mut commands = Pipeline::new();
    for publication in all {
        let Publication { channel, payload } = publication.map_err(BusError::new)?;
        commands.cmd(verb).arg(channel).arg(payload);
    }
    Ok(commands)
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
