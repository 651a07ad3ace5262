//! The streams as a log: what stands in them is read again, and sessions have keys beside them.
//! Does not know what is missed.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use sockeye::cluster::{
    BusError, BusFuture, ClusterLog, ClusterSession, KeptSession, LogOffset, RecoveryId, TakeLogged,
};
use tokio::sync::Semaphore;

use super::live::LEASE;
use super::reading::{entry, first_entry, first_id};
use super::{StreamsBus, StreamsOptions, list, text};
use crate::wire::UnwritableError;
use crate::wire::sessions::{decode_session, encode_session};
use crate::wire::streams::{decode_entry, stream_of};

/// How many clients read a stream at a time: one that is read holds up what is published.
const READINGS_MAX: usize = 4;
/// How many entries are read again in one round trip.
const PAGE_LEN: usize = 250;

/// A hundred years.
const MILLIS_MAX: u64 = 100 * 366 * 86_400_000;

/// The streams of a bus.
pub(super) struct Log {
    bus: StreamsBus,
    readings: Semaphore,
}

impl Log {
    pub(super) fn of(bus: StreamsBus) -> Self {
        Self { bus, readings: Semaphore::new(READINGS_MAX) }
    }

    fn stream(&self, namespace: &str) -> String {
        let options = &self.bus.0.options;
        stream_of(&options.stream_name, options.stream_count, namespace)
    }

    async fn run(&self, command: Cmd) -> Result<Value, BusError> {
        let mut commands = Pipeline::new();
        commands.add_command(command);
        let mut answers = self.bus.0.commands.run(&commands).await.map_err(BusError::new)?;
        Ok(answers.pop().unwrap_or(Value::Nil))
    }

    async fn read_all(
        &self,
        namespace: &str,
        after: LogOffset,
        until: LogOffset,
        take: &mut TakeLogged<'_>,
    ) -> Result<bool, BusError> {
        // It is never closed.
        let _reading = self.readings.acquire().await.map_err(BusError::new)?;
        let stream = self.stream(namespace);
        let mut behind = after;
        while behind < until {
            let mut command = Cmd::new();
            command.arg("XRANGE").arg(&stream).arg(format!("({behind}")).arg(until.to_string());
            command.arg("COUNT").arg(PAGE_LEN);
            let page = self.run(command).await?;
            for entry in list(&page) {
                let Some((offset, fields)) = id_and_fields(entry) else { continue };
                behind = offset;
                let found = self::entry(fields);
                // What cannot be read was passed over when it came, too.
                let Some(message) =
                    (found.nsp == namespace).then(|| decode_entry(&found).ok()).flatten()
                else {
                    continue;
                };
                if !take(offset, message) {
                    return Ok(false);
                }
            }
            if list(&page).len() < PAGE_LEN {
                break;
            }
        }
        // Asked last: what went while it was read is noticed, too.
        let first = first_id(&self.run(first_entry(&stream)).await?);
        Ok(first.is_some_and(|first| first <= after))
    }
}

fn id_and_fields(entry: &Value) -> Option<(LogOffset, &[Value])> {
    match list(entry) {
        [id, fields] => Some((LogOffset::parse(text(id)?)?, list(fields))),
        _ => None,
    }
}

impl ClusterLog for Log {
    fn position(&self, namespace: &str) -> Option<LogOffset> {
        self.bus.0.running.get()?.reader.position(&self.stream(namespace))
    }

    fn read<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        after: LogOffset,
        until: LogOffset,
        take: &'a mut TakeLogged<'_>,
    ) -> BusFuture<'a, Result<bool, BusError>> {
        Box::pin(self.read_all(namespace, after, until, take))
    }

    fn take_session<'a>(
        &'a self,
        id: &'a RecoveryId,
    ) -> BusFuture<'a, Result<Option<ClusterSession>, BusError>> {
        Box::pin(async move {
            if let Some(live) = &self.bus.0.live {
                return live.take(id).await;
            }
            let mut command = Cmd::new();
            command.arg("GETDEL").arg(key(&self.bus.0.options.session_key_prefix, id));
            let answer = self.run(command).await?;
            text(&answer).map(decode_session).transpose().map_err(BusError::new)
        })
    }

    fn live_session_lease(&self) -> Option<Duration> {
        self.bus.0.live.as_ref().map(|_| LEASE)
    }
}

/// Adds the command that keeps a session.
pub(super) fn add_session(
    kept: &KeptSession,
    options: &StreamsOptions,
    commands: &mut Pipeline,
) -> Result<(), UnwritableError> {
    let session = encode_session(&kept.session)?;
    let key = key(&options.session_key_prefix, &kept.session.id);
    commands.cmd("SET").arg(key).arg(session).arg("PX").arg(millis(kept.time));
    Ok(())
}

/// The key of a session.
pub(super) fn key(prefix: &str, id: &RecoveryId) -> String {
    format!("{prefix}{}", id.as_str())
}

/// A time for Redis, which knows none that is over, nor one beyond what it can count.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, MILLIS_MAX)
}
