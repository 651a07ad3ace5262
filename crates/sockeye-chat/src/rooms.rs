//! The rooms as the chat has them: who is here, and in which order a room hears of things.
//! Does not know the wire or the store; what is told, and how, its callers bring along.
//!
//! Whatever a room hears in an order that matters (messages, who joined, who left, a joiner's
//! history) is told while the room is locked. It waits in the room in the order of its numbers,
//! which for messages are their ids; whoever comes to the room next delivers it. So all members
//! see one order, it is the history's, and a joiner gets each message once: in the history or
//! live.
//!
//! A chat of one process has all connections of a room here. One of many has some of them, and
//! learns from the others who else is there; `told` is then where it stands in what all are told.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use anyhow::Result;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::store::{HISTORY_BYTES_MAX, Message};

/// Rooms share a lock with a few others, never with all.
const DRAWERS: usize = 64;

/// All rooms that somebody here is in.
pub(crate) struct Rooms {
    drawers: [Mutex<HashMap<String, Room>>; DRAWERS],
    hasher: RandomState,
    /// The messages that a joiner gets at the most.
    history_max: usize,
}

/// What a room is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Message(Message),
    /// The user's first connection came.
    Joined(String),
    /// The user's last connection went.
    Left(String),
}

/// A room that somebody here is in, or on the way into.
pub(crate) struct Room {
    /// Those who are in, wherever, and those who have connections here.
    users: BTreeMap<String, Here>,
    /// Not told yet, each with its number; 0 for what is not numbered.
    waiting: VecDeque<(u64, Event)>,
    /// The number up to which everybody here has been told; a joiner's history ends there. `None`
    /// before anything is heard.
    told: Option<u64>,
    /// Whether everything is heard. What comes waits otherwise.
    is_live: bool,
    /// Connections of all users here.
    connections: usize,
    /// Connections on the way in, and the newest messages that were told meanwhile.
    joining: usize,
    recent: VecDeque<Message>,
    history_max: usize,
    /// Wait until something has been told.
    waiters: Vec<(u64, oneshot::Sender<()>)>,
}

#[derive(Default)]
struct Here {
    /// One with two windows is in once.
    connections: usize,
    /// Whether the room has been told that the user is in.
    is_member: bool,
}

impl Rooms {
    /// No rooms. A joiner gets so many messages.
    pub(crate) fn new(history_max: usize) -> Self {
        let drawers = std::array::from_fn(|_| Mutex::default());
        Self { drawers, hasher: RandomState::new(), history_max }
    }

    /// Locks a room, which is made if nobody is in it. `newest` is the number of the newest thing
    /// that was anybody's to hear; where it is none, others must tell.
    ///
    /// # Errors
    /// Those of `newest`.
    pub(crate) fn enter<T>(
        &self,
        name: &str,
        newest: impl FnOnce() -> Result<Option<u64>>,
        then: impl FnOnce(&mut Room) -> T,
    ) -> Result<T> {
        let mut drawer = self.drawer(name).lock();
        if !drawer.contains_key(name) {
            drawer.insert(name.to_owned(), Room::new(newest()?, self.history_max));
        }
        Ok(visit(&mut drawer, name, then).expect("it was made if it was not there"))
    }

    /// Locks a room; `None` if nobody is in it.
    pub(crate) fn visit<T>(&self, name: &str, then: impl FnOnce(&mut Room) -> T) -> Option<T> {
        visit(&mut self.drawer(name).lock(), name, then)
    }

    /// Locks every room, one after the other.
    pub(crate) fn visit_all(&self, mut then: impl FnMut(&str, &mut Room)) {
        for drawer in &self.drawers {
            drawer.lock().iter_mut().for_each(|(name, room)| then(name, room));
        }
    }

    /// Returns when everybody here has been told of this number, or nobody is here; `false` as
    /// soon as nothing is heard.
    pub(crate) async fn until_told(&self, name: &str, number: u64) -> bool {
        let wait = self.visit(name, |room| {
            if room.is_live && room.told >= Some(number) {
                return None;
            }
            let (told, wait) = oneshot::channel();
            if room.is_live {
                room.waiters.push((number, told));
            }
            Some(wait)
        });
        match wait.flatten() {
            Some(wait) => wait.await.is_ok(),
            None => true,
        }
    }

    fn drawer(&self, name: &str) -> &Mutex<HashMap<String, Room>> {
        // The upper bits: the maps behind use the lower ones.
        &self.drawers[(self.hasher.hash_one(name) >> 58) as usize % DRAWERS]
    }
}

fn visit<T>(
    drawer: &mut HashMap<String, Room>,
    name: &str,
    then: impl FnOnce(&mut Room) -> T,
) -> Option<T> {
    let room = drawer.get_mut(name)?;
    let result = then(room);
    if room.connections == 0 && room.joining == 0 {
        drawer.remove(name);
    }
    Some(result)
}

impl Room {
    fn new(told: Option<u64>, history_max: usize) -> Self {
        Self {
            users: BTreeMap::new(),
            waiting: VecDeque::new(),
            told,
            is_live: told.is_some(),
            connections: 0,
            joining: 0,
            recent: VecDeque::new(),
            history_max,
            waiters: Vec::new(),
        }
    }

    /// Somebody is on the way in: from now on no message is missed.
    pub(crate) fn begin_joining(&mut self) {
        self.joining += 1;
    }

    /// Somebody came in or turned back.
    pub(crate) fn end_joining(&mut self) {
        self.joining -= 1;
        if self.joining == 0 {
            self.recent = VecDeque::new();
        }
    }

    /// The history of somebody who began to join before it was read: it ends where the live
    /// messages begin.
    pub(crate) fn complete(&self, mut history: Vec<Message>) -> Vec<Message> {
        let read = history.last().map_or(0, |message| message.id);
        history.retain(|message| Some(message.id) <= self.told);
        history.extend(self.recent.iter().filter(|message| message.id > read).cloned());
        let mut bytes = 0;
        let newest = history.iter().rev().take(self.history_max).take_while(|message| {
            let is_first = bytes == 0;
            bytes += message.bytes();
            is_first || bytes <= HISTORY_BYTES_MAX
        });
        let count = newest.count();
        history.drain(..history.len() - count);
        history
    }

    /// Returns whether it is the user's first connection here.
    pub(crate) fn add(&mut self, username: &str) -> bool {
        let here = self.users.entry(username.to_owned()).or_default();
        here.connections += 1;
        self.connections += 1;
        here.connections == 1
    }

    /// Returns whether it was the user's last connection here.
    pub(crate) fn remove(&mut self, username: &str) -> bool {
        let Some(here) = self.users.get_mut(username) else { return false };
        if here.connections == 0 {
            return false;
        }
        here.connections -= 1;
        self.connections -= 1;
        let last = here.connections == 0;
        if last && !here.is_member {
            self.users.remove(username);
        }
        last
    }

    /// Whether the user has connections here.
    pub(crate) fn has(&self, username: &str) -> bool {
        self.users.get(username).is_some_and(|here| here.connections > 0)
    }

    /// The users who have connections here.
    pub(crate) fn users(&self) -> impl Iterator<Item = &str> {
        let here = self.users.iter().filter(|(_, here)| here.connections > 0);
        here.map(|(username, _)| username.as_str())
    }

    /// The names of the users who are in, sorted.
    pub(crate) fn members(&self) -> Vec<&str> {
        let members = self.users.iter().filter(|(_, here)| here.is_member);
        members.map(|(username, _)| username.as_str()).collect()
    }

    /// Lets something wait. Called in the order of the numbers; what has been here before is
    /// passed over.
    pub(crate) fn enqueue(&mut self, number: u64, event: Event) {
        self.waiting.push_back((number, event));
    }

    /// Tells what waits, oldest first.
    pub(crate) fn deliver(&mut self, mut tell: impl FnMut(&Event)) {
        if !self.is_live {
            return;
        }
        while let Some((number, event)) = self.waiting.pop_front() {
            if number != 0 && Some(number) <= self.told {
                continue;
            }
            if self.note(&event) {
                tell(&event);
            }
            self.told = self.told.max(Some(number));
        }
        let told = self.told;
        for (_, waiter) in self.waiters.extract_if(.., |(number, _)| Some(*number) <= told) {
            // Who waited may be gone.
            let _ = waiter.send(());
        }
    }

    /// Whether that is news.
    fn note(&mut self, event: &Event) -> bool {
        match event {
            Event::Message(message) => {
                if self.joining > 0 {
                    self.recent.push_back(message.clone());
                    if self.recent.len() > self.history_max {
                        self.recent.pop_front();
                    }
                }
                true
            }
            Event::Joined(username) => {
                let here = self.users.entry(username.clone()).or_default();
                !std::mem::replace(&mut here.is_member, true)
            }
            Event::Left(username) => {
                let Some(here) = self.users.get_mut(username) else { return false };
                let was_member = std::mem::replace(&mut here.is_member, false);
                if here.connections == 0 {
                    self.users.remove(username);
                }
                was_member
            }
        }
    }

    /// The number up to which everybody here has been told.
    pub(crate) fn told(&self) -> Option<u64> {
        self.told
    }

    /// Whether everything is heard.
    pub(crate) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Nothing is heard any more, until it is made up for.
    pub(crate) fn lose(&mut self) {
        self.is_live = false;
        self.waiting.clear();
        self.waiters.clear();
    }

    /// Tells a part of the messages that were missed, oldest first.
    pub(crate) fn make_up_part(&mut self, messages: Vec<Message>, mut tell: impl FnMut(&Event)) {
        for message in messages {
            self.told = Some(message.id);
            let event = Event::Message(message);
            self.note(&event);
            tell(&event);
        }
    }

    /// Everything is heard again, or for the first time: tells the `messages` that were missed,
    /// oldest first, and who came and went, as at `number` these are the members. Then what came
    /// since. `number` is below what was told before where Redis has lost its data.
    pub(crate) fn make_up(
        &mut self,
        number: u64,
        members: &[String],
        messages: Vec<Message>,
        mut tell: impl FnMut(&Event),
    ) {
        self.is_live = true;
        let now: BTreeSet<&str> = members.iter().map(String::as_str).collect();
        let before: BTreeSet<&str> = self.members().into_iter().collect();
        let left = before.difference(&now).map(|name| Event::Left((*name).to_owned()));
        let joined = now.difference(&before).map(|name| Event::Joined((*name).to_owned()));
        let changes: Vec<Event> = left.chain(joined).collect();
        let missed = messages.into_iter().map(Event::Message);
        // At the first time nobody is here who could be told.
        let is_first = self.told.is_none();
        for event in missed.chain(changes) {
            if self.note(&event) && !is_first {
                tell(&event);
            }
        }
        self.told = Some(number);
        self.deliver(tell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64) -> Message {
        let (username, text) = ("ann".into(), format!("message {id}"));
        Message { id, username, text, room: "room".into(), timestamp: 1 }
    }

    fn rooms() -> Rooms {
        Rooms::new(3)
    }

    fn join(rooms: &Rooms, username: &str) -> bool {
        let join = |room: &mut Room| {
            let first = room.add(username);
            if first {
                room.enqueue(0, Event::Joined(username.into()));
                room.deliver(|_| {});
            }
            first
        };
        rooms.enter("room", || Ok(Some(7)), join).expect("a number")
    }

    fn leave(rooms: &Rooms, username: &str) -> bool {
        rooms.visit("room", |room| room.remove(username)).expect("somebody is in")
    }

    fn send(rooms: &Rooms, id: u64) {
        rooms.visit("room", |room| room.enqueue(id, Event::Message(message(id))));
    }

    fn brief(event: &Event) -> String {
        match event {
            Event::Message(message) => message.id.to_string(),
            Event::Joined(username) => format!("+{username}"),
            Event::Left(username) => format!("-{username}"),
        }
    }

    fn delivered(rooms: &Rooms) -> Vec<String> {
        let mut told = Vec::new();
        rooms.visit("room", |room| room.deliver(|event| told.push(brief(event))));
        told
    }

    #[test]
    fn a_user_with_two_windows_is_there_once() {
        let rooms = rooms();
        assert!(join(&rooms, "ann"));
        assert!(!join(&rooms, "ann"));
        assert!(join(&rooms, "ben"));
        let members = rooms.visit("room", |room| room.members().join(" "));
        assert_eq!(members.as_deref(), Some("ann ben"));
        assert!(!leave(&rooms, "ann"));
        assert!(leave(&rooms, "ann"));
        assert!(!leave(&rooms, "ann"), "she has gone");
        assert!(leave(&rooms, "ben"));
        assert!(rooms.visit("room", |_| ()).is_none(), "an empty room is forgotten");
    }

    #[test]
    fn messages_are_told_once_and_in_order() {
        let rooms = rooms();
        send(&rooms, 6);
        join(&rooms, "ann");
        for id in [7, 8, 9, 8] {
            send(&rooms, id);
        }
        assert_eq!(delivered(&rooms), ["8", "9"], "7 was stored when the room was made");
        send(&rooms, 9);
        assert_eq!(delivered(&rooms), [] as [&str; 0]);
        assert_eq!(rooms.visit("room", |room| room.told()), Some(Some(9)));
    }

    #[test]
    fn a_history_ends_where_the_live_messages_begin() {
        let rooms = rooms();
        join(&rooms, "ann");
        let complete = |history: &[u64]| {
            let history = history.iter().map(|id| message(*id)).collect();
            let whole = rooms.visit("room", |room| room.complete(history)).expect("a room");
            whole.iter().map(|message| message.id).collect::<Vec<_>>()
        };
        rooms.visit("room", Room::begin_joining);
        assert_eq!(complete(&[6, 7, 8]), [6, 7], "8 comes live");
        for id in 8..=9 {
            send(&rooms, id);
        }
        delivered(&rooms);
        assert_eq!(complete(&[6, 7]), [7, 8, 9], "told since it was read, three at the most");
        assert_eq!(complete(&[6, 7, 8]), [7, 8, 9], "nothing twice");
        assert_eq!(complete(&[]), [8, 9]);
        rooms.visit("room", Room::end_joining);
        assert_eq!(complete(&[9]), [9]);
    }

    #[test]
    fn what_was_missed_is_made_up_for() {
        let rooms = rooms();
        let make_up = |number, members: &[&str], messages: &[u64]| {
            let members: Vec<String> = members.iter().map(|name| (*name).to_owned()).collect();
            let messages = messages.iter().map(|id| message(*id)).collect();
            let mut told = Vec::new();
            let tell = |event: &Event| told.push(brief(event));
            rooms.visit("room", |room| room.make_up(number, &members, messages, tell));
            told
        };
        rooms.enter("room", || Ok(None), |room| room.add("ann")).expect("a number");
        for id in [8, 11] {
            send(&rooms, id);
        }
        assert_eq!(delivered(&rooms), [] as [&str; 0], "nobody knows what was before");
        assert_eq!(make_up(10, &["ann", "ben"], &[]), ["11"], "8 is history");
        assert_eq!(rooms.visit("room", |room| room.members().join(" ")).unwrap(), "ann ben");
        rooms.visit("room", Room::lose);
        send(&rooms, 16);
        assert_eq!(make_up(15, &["ann", "carl"], &[12, 14]), ["12", "14", "-ben", "+carl", "16"]);
        rooms.visit("room", Room::lose);
        send(&rooms, 2);
        assert_eq!(make_up(1, &["ann"], &[]), ["-carl", "2"], "its numbers begin anew");
    }

    #[tokio::test]
    async fn who_waits_learns_that_it_was_told_or_that_nothing_is_heard() {
        let rooms = rooms();
        assert!(rooms.until_told("room", 9).await, "nobody is there to be told");
        join(&rooms, "ann");
        assert!(rooms.until_told("room", 7).await);
        let (told, ()) = tokio::join!(rooms.until_told("room", 9), async {
            send(&rooms, 9);
            delivered(&rooms);
        });
        assert!(told);
        let (told, _) =
            tokio::join!(rooms.until_told("room", 10), async { rooms.visit("room", Room::lose) });
        assert!(!told);
        assert!(!rooms.until_told("room", 7).await, "it does not wait for better times");
    }
}
