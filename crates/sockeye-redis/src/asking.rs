//! What buses over pub/sub ask Redis alike: to publish, and how many nodes hear a channel.
//! Does not know which messages.

use redis::{Pipeline, Value};
use sockeye::cluster::{BusError, Nodes};

use crate::redis::Commands;
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

/// The nodes that hear a channel beside this one, which is among them while it hears. Asks with
/// `PUBSUB`'s `NUMSUB` or `SHARDNUMSUB`.
pub(crate) async fn others(
    commands: &Commands,
    kind: &str,
    channel: &str,
) -> Result<Nodes, BusError> {
    let count = count(commands, kind, channel).await?;
    Ok(Nodes::Count(count.saturating_sub(1)))
}

async fn count(commands: &Commands, kind: &str, channel: &str) -> Result<usize, BusError> {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("PUBSUB").arg(kind).arg(channel);
    let answers = commands.run(&pipeline).await.map_err(BusError::new)?;
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
