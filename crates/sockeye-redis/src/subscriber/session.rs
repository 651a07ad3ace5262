//! A link's connections, one after the other: what is wanted is subscribed to on each anew, and a
//! message to itself, which must come back through Redis, proves that it hears.
//! Does not know what comes.
//!
//! ```text
//!                 connected                  the probe came back
//!  Connecting ────────────────► Subscribing ──────────────────────► Hearing ──┐ something else
//!      ▲                            │    ▲                            │   ▲───┘ is wanted
//!      │                            │    └────────────────────────────┤
//!      └────────────────────────────┴─────────────────────────────────┘ the server gives up one
//!        the connection is lost, or a probe does not come back in time
//! ```

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, PushInfo, PushKind, RedisResult, ServerErrorKind, Value};
use tokio::time::timeout;

use super::link::Shared;
use super::{Incoming, Kind, RETRY_FIRST, RETRY_LAST, Subscription, jittered};
use crate::line::server_error;
use crate::redis::Place;
use crate::slots::{Redirect, number_for, slot};

/// How often it is proven that messages come.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a probe, and the answer to subscriptions, may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many are subscribed to in one round trip.
const BATCH: usize = 500;

/// Keeps the link's subscriptions until it is closed.
pub(super) async fn run(link: Arc<Shared>) {
    let mut retry = RETRY_FIRST;
    let mut probes = 0;
    let mut is_news = true;
    while !link.state.lock().is_closed {
        let mut session = Session { link: &link, probes, probe: None, was_hearing: false };
        let result = session.hear().await;
        probes = session.probes;
        let was_hearing = session.was_hearing;
        if link.state.lock().is_closed {
            return;
        }
        match result {
            Err(why) if is_news || was_hearing => {
                tracing::warn!(why, place = ?link.place, "Redis' messages are not heard");
            }
            Err(why) => tracing::debug!(why, place = ?link.place, "nor now"),
            Ok(()) => {}
        }
        is_news = false;
        link.fail();
        retry = if was_hearing { RETRY_FIRST } else { (retry * 2).min(RETRY_LAST) };
        tokio::time::sleep(jittered(retry)).await;
    }
}

/// One connection's life.
struct Session<'a> {
    link: &'a Arc<Shared>,
    /// How many there were, on this and earlier ones.
    probes: u64,
    /// What the last one came by.
    probe: Option<Subscription>,
    was_hearing: bool,
}

impl Session<'_> {
    /// Returns when nothing is heard any more.
    async fn hear(&mut self) -> Result<(), String> {
        let link = self.link;
        let pushed = receiver(Arc::downgrade(link), link.begin());
        let connecting = link.redis.connect(&link.place, pushed, Some(PROBE_TIMEOUT));
        let mut connection = connecting.await.map_err(|error| error.to_string())?;
        let mut retry = RETRY_FIRST;
        let mut is_idle = false;
        loop {
            if link.state.lock().is_closed {
                return Ok(());
            }
            if link.state.lock().is_lost {
                return Err("the connection was lost".into());
            }
            let (changes, version) = link.changes();
            let reconciled = self.reconcile(&mut connection, &changes).await;
            reconciled.map_err(|error| error.to_string())?;
            let mut is_whole = !link.put_back(changes);
            let must_prove = link.state.lock().must_prove;
            if is_whole && (must_prove || is_idle) {
                is_whole = self.prove(&mut connection).await?;
            }
            self.was_hearing |= is_whole;
            link.set_hearing(is_whole, version);
            let pause = match is_whole {
                true => PROBE_INTERVAL,
                false => jittered(retry),
            };
            retry = if is_whole { RETRY_FIRST } else { (retry * 2).min(RETRY_LAST) };
            // What changes during this is seen at once: it leaves a permit.
            is_idle = timeout(pause, link.changed.notified()).await.is_err();
            if link.is_bereft() {
                // All nodes are, by the same slot.
                tokio::time::sleep(jittered(RETRY_FIRST)).await;
            }
        }
    }

    /// Subscribes to what is wanted and gives up the rest, as far as the server lets it.
    async fn reconcile(
        &self,
        connection: &mut MultiplexedConnection,
        changes: &[(Subscription, bool)],
    ) -> RedisResult<()> {
        for batch in changes.chunks(BATCH) {
            let mut pipeline = Pipeline::new();
            for (subscription, is_wanted) in batch {
                let verb = if *is_wanted { subscription.verb() } else { subscription.undo_verb() };
                // One channel each: in a cluster each may have another slot.
                pipeline.cmd(verb).arg(&*subscription.name);
            }
            self.ask(connection, &pipeline).await?;
        }
        Ok(())
    }

    /// What has been done the server says by itself; an answer may also belong to another question,
    /// where it has given something up meanwhile. So the errors alone are looked at.
    async fn ask(
        &self,
        connection: &mut MultiplexedConnection,
        pipeline: &Pipeline,
    ) -> RedisResult<()> {
        let count = pipeline.cmd_iter().count();
        let answers = connection.req_packed_commands(pipeline, 0, count).await?;
        for error in answers.iter().filter_map(server_error) {
            let Place::Node(address) = &self.link.place else {
                return Err(error.clone().into());
            };
            match Redirect::read(error, address) {
                Some(Redirect::Moved(slot, to)) => self.link.commands.note_move(slot, to),
                None if error.kind() == Some(ServerErrorKind::ClusterDown) => {
                    self.link.commands.note_doubt();
                }
                _ => return Err(error.clone().into()),
            }
        }
        Ok(())
    }

    /// Publishes something to itself, by the way of all that is published, and waits for it.
    /// False: the way is another now.
    async fn prove(&mut self, connection: &mut MultiplexedConnection) -> Result<bool, String> {
        let (link, last) = (self.link, self.probe.take());
        let aim = {
            let mut state = link.state.lock();
            state.must_prove = false;
            state.proof.take().or_else(|| state.any())
        };
        let probe = self.probe_for(aim.as_ref());
        let mut pipeline = Pipeline::new();
        if let Some(last) = last.filter(|last| *last != probe) {
            pipeline.cmd(last.undo_verb()).arg(&*last.name);
        }
        pipeline.cmd(probe.verb()).arg(&*probe.name);
        let asked = self.ask(connection, &pipeline).await;
        asked.map_err(|error| error.to_string())?;
        if let (Place::Node(here), Kind::Shard) = (&link.place, probe.kind)
            && link
                .commands
                .known()
                .is_some_and(|map| map.owner(slot(probe.name.as_bytes())) != Some(here))
        {
            link.state.lock().must_prove = true;
            return Ok(false);
        }
        self.probes += 1;
        let number = self.probes;
        let verb = if link.probe.is_sharded { "SPUBLISH" } else { "PUBLISH" };
        let mut publish = Pipeline::new();
        publish.cmd(verb).arg(&*probe.name).arg(number);
        self.probe = Some(probe);
        let coming = async {
            link.commands.run(&publish).await.map_err(|error| error.to_string())?;
            self.until_proven(number).await
        };
        timeout(PROBE_TIMEOUT, coming).await.map_err(|_| "a probe did not come back")?
    }

    async fn until_proven(&self, number: u64) -> Result<bool, String> {
        let link = self.link;
        loop {
            let changed = link.changed.notified();
            {
                let state = link.state.lock();
                if state.is_lost || state.is_closed {
                    return Err("the connection was lost".to_owned());
                }
                // What else has changed meanwhile is looked at next. A subscription that was lost
                // may have been the probe's.
                if state.proven >= number || state.must_prove {
                    link.changed.notify_one();
                    return Ok(!state.must_prove);
                }
            }
            changed.await;
        }
    }

    /// The probe that goes the way of something that is wanted: in a cluster, through its slot.
    fn probe_for(&self, aim: Option<&Subscription>) -> Subscription {
        let probe = &self.link.probe;
        if !probe.is_sharded {
            return Subscription::channel(&probe.name);
        }
        let is_cluster = self.link.place != Place::Only;
        let Some(aim) = aim.filter(|_| is_cluster) else { return Subscription::shard(&probe.name) };
        let name = format!("{}#", probe.name);
        let number = number_for(&name, slot(aim.name.as_bytes())).unwrap_or_default();
        Subscription::shard(&format!("{name}{number}"))
    }
}

/// What a connection calls with all that comes.
fn receiver(link: Weak<Shared>, connection: u64) -> impl Fn(PushInfo) + Send + Sync + use<> {
    move |info| {
        let Some(link) = link.upgrade() else { return };
        if link.connection.load(Ordering::Acquire) != connection {
            return;
        }
        if info.kind == PushKind::Disconnection {
            return link.lose();
        }
        let texts = info.data.iter().map(text);
        let (subscription, channel, payload) = match (&info.kind, &info.data[..]) {
            (PushKind::Message | PushKind::SMessage, [channel, Value::BulkString(payload)]) => {
                (text(channel), text(channel), payload)
            }
            (PushKind::PMessage, [pattern, channel, Value::BulkString(payload)]) => {
                (text(pattern), text(channel), payload)
            }
            (kind, _) => {
                if let (Some((kind, is_confirmed)), Some(name)) =
                    (confirmation(kind), texts.flatten().next())
                {
                    link.confirm(Subscription { kind, name: name.into() }, is_confirmed);
                }
                return;
            }
        };
        let (Some(subscription), Some(channel)) = (subscription, channel) else { return };
        if channel.starts_with(&link.probe.name) {
            let number = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
            let mut state = link.state.lock();
            state.proven = state.proven.max(number.unwrap_or(0));
            drop(state);
            return link.changed.notify_one();
        }
        link.listener.handle(Incoming { subscription, channel, payload });
    }
}

/// What a push says that has begun or ended.
fn confirmation(kind: &PushKind) -> Option<(Kind, bool)> {
    match kind {
        PushKind::Subscribe => Some((Kind::Channel, true)),
        PushKind::PSubscribe => Some((Kind::Pattern, true)),
        PushKind::SSubscribe => Some((Kind::Shard, true)),
        PushKind::Unsubscribe => Some((Kind::Channel, false)),
        PushKind::PUnsubscribe => Some((Kind::Pattern, false)),
        PushKind::SUnsubscribe => Some((Kind::Shard, false)),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

impl Subscription {
    fn verb(&self) -> &'static str {
        match self.kind {
            Kind::Channel => "SUBSCRIBE",
            Kind::Pattern => "PSUBSCRIBE",
            Kind::Shard => "SSUBSCRIBE",
        }
    }

    fn undo_verb(&self) -> &'static str {
        match self.kind {
            Kind::Channel => "UNSUBSCRIBE",
            Kind::Pattern => "PUNSUBSCRIBE",
            Kind::Shard => "SUNSUBSCRIBE",
        }
    }
}
