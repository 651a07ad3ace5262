//! How many nodes hear a channel. Does not know why.

use redis::{Pipeline, Value};
use sockeye::cluster::BusError;

use crate::redis::Commands;

/// Asks with `PUBSUB`'s `NUMSUB` or `SHARDNUMSUB`.
pub(crate) async fn count(
    commands: &Commands,
    kind: &str,
    channel: &str,
) -> Result<usize, BusError> {
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
