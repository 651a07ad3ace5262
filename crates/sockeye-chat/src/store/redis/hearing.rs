//! What a node hears of the rooms that somebody there is in, as long as one connection lasts.
//! Does not know leases.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, PushInfo, PushKind, Value};
use serde_json::json;
use sockeye::Namespace;
use tokio::sync::Notify;

use super::event::{Published, parse};
use super::link::{Job, Link};
use crate::presence::{deliver, tell};
use crate::rooms::Rooms;
use crate::store::rows::readable;

/// Rooms, or changes, that one command is about at the most: Redis does nothing else meanwhile.
const AT_ONCE: usize = 100;
/// Missed messages of a room that are asked for at once.
const MISSED_AT_ONCE: usize = 200;

/// The rooms here, and where their members are told.
#[derive(Clone)]
pub(super) struct Hall {
    pub(super) rooms: Arc<Rooms>,
    pub(super) namespace: Namespace,
}

/// The connection that hears.
pub(super) struct Hearing<'a> {
    link: &'a Link,
    hall: &'a Hall,
    connection: MultiplexedConnection,
    /// The rooms whose channels are subscribed to.
    heard: HashSet<String>,
}

impl<'a> Hearing<'a> {
    /// Connects; `lost` is told when the connection is.
    pub(super) async fn open(
        link: &'a Arc<Link>,
        hall: &'a Hall,
        lost: Arc<Notify>,
    ) -> Result<Self> {
        let (of, within) = (link.clone(), hall.clone());
        let connection = link.connect(move |push| hear(&of, &within, &lost, &push)).await?;
        Ok(Self { link, hall, connection, heard: HashSet::new() })
    }

    /// Whether the connection lives.
    pub(super) async fn prove(&mut self) -> Result<()> {
        Ok(self.connection.req_packed_command(&redis::cmd("PING")).await.map(drop)?)
    }

    /// Has Redis know who is in which rooms here, and hears them all.
    pub(super) async fn begin(&mut self) -> Result<()> {
        let mut rooms = BTreeSet::new();
        let mut here = BTreeSet::new();
        self.hall.rooms.visit_all(|name, room| {
            rooms.insert(name.to_owned());
            here.extend(room.users().map(|user| (name.to_owned(), user.to_owned())));
        });
        self.subscribe(&rooms).await?;
        let entries: Vec<String> = self.link.entries().await?;
        let known = entries.iter().filter_map(|entry| entry.split_once('\n'));
        let known: BTreeSet<_> =
            known.map(|(room, user)| (room.to_owned(), user.to_owned())).collect();
        let changed: Vec<_> = here.symmetric_difference(&known).cloned().collect();
        self.change(&changed).await?;
        self.sync(rooms.into_iter().collect()).await
    }

    /// Does what was asked for, as the rooms are by now, and answers.
    pub(super) async fn settle(&mut self, jobs: Vec<Job>) -> Result<()> {
        let (mut new, mut dumb, mut gone) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for job in &jobs {
            match self.hall.rooms.visit(&job.room, |room| room.is_live()) {
                Some(is_live) => {
                    if !self.heard.contains(&job.room) {
                        new.insert(job.room.clone());
                    }
                    if !is_live {
                        dumb.insert(job.room.clone());
                    }
                }
                None if self.heard.contains(&job.room) => drop(gone.insert(job.room.clone())),
                None => {}
            }
        }
        self.subscribe(&new).await?;
        let changed = jobs.iter().filter_map(|job| Some((job.room.clone(), job.user.clone()?)));
        let changed: Vec<_> = changed.collect();
        let mut told = self.change(&changed).await?.into_iter();
        self.sync(dumb.into_iter().collect()).await?;
        for job in jobs {
            let number = if job.user.is_some() { told.next().unwrap_or(0) } else { 0 };
            if let Some(answer) = job.answer {
                // Who asked may be gone.
                let _ = answer.send(number);
            }
        }
        self.unsubscribe(gone).await
    }

    /// Has Redis know of each of these whether they are in their room here. Returns for each the
    /// number of what the room was told last.
    async fn change(&self, changed: &[(String, String)]) -> Result<Vec<u64>> {
        let mut told = Vec::new();
        for part in changed.chunks(AT_ONCE) {
            let mut args = vec![self.link.node().to_owned()];
            for (room, user) in part {
                let is_here = self.hall.rooms.visit(room, |room| room.has(user)) == Some(true);
                let sign = if is_here { "+" } else { "-" };
                args.extend([sign.to_owned(), room.clone(), user.clone()]);
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let script = &self.link.scripts.change;
            told.extend(self.link.run_first::<Vec<u64>>(script, &args).await?);
        }
        Ok(told)
    }

    /// Makes up for what these rooms have missed; from now on they are live.
    async fn sync(&self, mut rooms: Vec<String>) -> Result<()> {
        while !rooms.is_empty() {
            let now = rooms.split_off(rooms.len().saturating_sub(AT_ONCE));
            let mut args = vec![MISSED_AT_ONCE.to_string()];
            let mut afters = BTreeMap::new();
            for room in now {
                let Some(after) = self.hall.rooms.visit(&room, |room| room.told()) else {
                    continue;
                };
                let text = after.map_or_else(String::new, |after| after.to_string());
                args.extend([room.clone(), text]);
                afters.insert(room, after);
            }
            let names: Vec<String> = args[1..].iter().step_by(2).cloned().collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let script = &self.link.scripts.sync;
            let answers = self.link.run_first::<Vec<Vec<String>>>(script, &args).await?;
            for (room, answer) in names.into_iter().zip(answers) {
                if !self.make_up(&room, answer)? {
                    rooms.push(room);
                }
            }
        }
        Ok(())
    }

    /// Whether that was all.
    fn make_up(&self, name: &str, answer: Vec<String>) -> Result<bool> {
        let mut words = answer.into_iter();
        let number: u64 = words.next().context("there is no number")?.parse()?;
        let count: usize = words.next().context("there is no count")?.parse()?;
        let members: Vec<String> = words.by_ref().take(count).collect();
        ensure!(members.len() == count, "there are fewer members than Redis says");
        let rows: Vec<String> = words.collect();
        let is_all = rows.len() < MISSED_AT_ONCE;
        let messages = rows.iter().filter_map(|row| readable(row.as_bytes())).collect();
        let namespace = &self.hall.namespace;
        self.hall.rooms.visit(name, |room| {
            if is_all {
                room.make_up(number, &members, messages, |event| tell(namespace, name, event));
            } else {
                room.make_up_part(messages, |event| tell(namespace, name, event));
            }
        });
        Ok(is_all)
    }

    async fn subscribe(&mut self, rooms: &BTreeSet<String>) -> Result<()> {
        self.command("SUBSCRIBE", rooms).await?;
        self.heard.extend(rooms.iter().cloned());
        Ok(())
    }

    async fn unsubscribe(&mut self, rooms: BTreeSet<String>) -> Result<()> {
        self.command("UNSUBSCRIBE", &rooms).await?;
        self.heard.retain(|room| !rooms.contains(room));
        Ok(())
    }

    async fn command(&mut self, command: &str, rooms: &BTreeSet<String>) -> Result<()> {
        let rooms: Vec<&String> = rooms.iter().collect();
        for part in rooms.chunks(AT_ONCE) {
            let mut commands = Pipeline::new();
            for room in part {
                // One channel each: each has an answer of its own.
                commands.cmd(command).arg(self.link.channel(room));
            }
            self.connection.req_packed_commands(&commands, 0, part.len()).await?;
        }
        Ok(())
    }
}

/// What Redis says by itself. While this runs nothing more is read: a node that is too slow is
/// cut off by Redis in the end, and makes up for what it missed.
fn hear(link: &Link, hall: &Hall, lost: &Notify, push: &PushInfo) {
    if push.kind == PushKind::Disconnection {
        return lost.notify_one();
    }
    let (PushKind::Message, [Value::BulkString(channel), Value::BulkString(payload)]) =
        (&push.kind, &push.data[..])
    else {
        return;
    };
    let Some(name) = std::str::from_utf8(channel).ok().and_then(|name| link.room(name)) else {
        return;
    };
    let namespace = &hall.namespace;
    match parse(payload) {
        Some(Published::Numbered { number, last, event }) => {
            let heard_all = hall.rooms.visit(name, |room| {
                let is_gap = room.is_live() && Some(last) > room.told();
                if is_gap {
                    room.lose();
                }
                room.enqueue(number, event);
                deliver(namespace, name, room);
                !is_gap
            });
            if heard_all == Some(false) {
                link.tell(Job::new(name, None));
            }
        }
        Some(Published::Typing { node, username }) if node != link.node() => {
            let typing = json!({ "username": username, "room": name });
            let told = namespace.to(name).local().volatile().emit("chat:typing", &typing);
            told.unwrap_or_else(|error| tracing::error!(%error, "typing was not told"));
        }
        Some(Published::Typing { .. }) => {}
        None => {
            metrics::counter!("chat_redis_foreign_total").increment(1);
            tracing::warn!(room = name, "something foreign was published to a room");
        }
    }
}
