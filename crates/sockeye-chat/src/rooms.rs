//! The rooms as the chat has them: who is here, and in which order a room hears of things.
//! Does not know the wire or the disk; what is told, and how, its callers bring along.
//!
//! Whatever a room hears in an order that matters (messages, who joined, who left, a joiner's
//! history) is told while the room is locked. Messages wait in the room in the order of their
//! ids, which is the order on the disk; whoever comes to the room next delivers them. So all
//! members see one order, it is the history's, and a joiner gets each message once: in the
//! history or live.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use anyhow::Result;
use parking_lot::Mutex;

use crate::store::Message;

/// Rooms share a lock with a few others, never with all.
const DRAWERS: usize = 64;

/// All rooms that somebody is in.
pub(crate) struct Rooms {
    drawers: [Mutex<HashMap<String, Room>>; DRAWERS],
    hasher: RandomState,
}

/// A room that somebody is in.
pub(crate) struct Room {
    /// The connections of each user: one with two windows is here once.
    connections: BTreeMap<String, usize>,
    /// On the disk, and not told yet.
    waiting: VecDeque<Message>,
    /// The id up to which messages belong to a joiner's history; later ones come live.
    delivered: u64,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { drawers: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl Rooms {
    /// Locks a room, which is made if nobody is in it. `newest` is the newest id on the disk:
    /// older messages were nobody's to hear live.
    ///
    /// # Errors
    /// Those of `newest`.
    pub(crate) fn enter<T>(
        &self,
        name: &str,
        newest: impl FnOnce() -> Result<u64>,
        then: impl FnOnce(&mut Room) -> T,
    ) -> Result<T> {
        let mut drawer = self.drawer(name).lock();
        if !drawer.contains_key(name) {
            let delivered = newest()?;
            let room = Room { connections: BTreeMap::new(), waiting: VecDeque::new(), delivered };
            drawer.insert(name.to_owned(), room);
        }
        Ok(visit(&mut drawer, name, then).expect("it was made if it was not there"))
    }

    /// Locks a room; `None` if nobody is in it.
    pub(crate) fn visit<T>(&self, name: &str, then: impl FnOnce(&mut Room) -> T) -> Option<T> {
        visit(&mut self.drawer(name).lock(), name, then)
    }

    /// Lets a message wait that has just come to the disk. Called in the order of the ids; one
    /// that has been here before is passed over.
    pub(crate) fn enqueue(&self, message: &Message) {
        self.visit(&message.room, |room| {
            let newest = room.waiting.back().map_or(room.delivered, |waiting| waiting.id);
            if message.id > newest {
                room.waiting.push_back(message.clone());
            }
        });
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
    if room.connections.is_empty() {
        drawer.remove(name);
    }
    Some(result)
}

impl Room {
    /// Returns whether it is the user's first connection here.
    pub(crate) fn add(&mut self, username: &str) -> bool {
        let connections = self.connections.entry(username.to_owned()).or_default();
        *connections += 1;
        *connections == 1
    }

    /// Returns whether it was the user's last connection here.
    pub(crate) fn remove(&mut self, username: &str) -> bool {
        let Some(connections) = self.connections.get_mut(username) else { return false };
        *connections -= 1;
        let last = *connections == 0;
        if last {
            self.connections.remove(username);
        }
        last
    }

    /// The names of the users here, sorted.
    pub(crate) fn members(&self) -> Vec<&str> {
        self.connections.keys().map(String::as_str).collect()
    }

    /// Tells the messages that wait, oldest first.
    pub(crate) fn deliver(&mut self, mut tell: impl FnMut(&Message)) {
        for message in self.waiting.drain(..) {
            tell(&message);
            self.delivered = message.id;
        }
    }

    /// The newest id that everybody here has been told.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64) -> Message {
        let (username, text) = ("ann".into(), format!("message {id}"));
        Message { id, username, text, room: "room".into(), timestamp: 1 }
    }

    fn join(rooms: &Rooms, username: &str) -> bool {
        rooms.enter("room", || Ok(7), |room| room.add(username)).expect("an id")
    }

    fn leave(rooms: &Rooms, username: &str) -> bool {
        rooms.visit("room", |room| room.remove(username)).expect("somebody is in")
    }

    fn delivered(rooms: &Rooms) -> Vec<u64> {
        let mut told = Vec::new();
        rooms.visit("room", |room| room.deliver(|message| told.push(message.id)));
        told
    }

    #[test]
    fn a_user_with_two_windows_is_there_once() {
        let rooms = Rooms::default();
        assert!(join(&rooms, "ann"));
        assert!(!join(&rooms, "ann"));
        assert!(join(&rooms, "ben"));
        let members = rooms.visit("room", |room| room.members().join(" "));
        assert_eq!(members.as_deref(), Some("ann ben"));
        assert!(!leave(&rooms, "ann"));
        assert!(leave(&rooms, "ann"));
        assert!(leave(&rooms, "ben"));
        assert!(rooms.visit("room", |_| ()).is_none(), "an empty room is forgotten");
    }

    #[test]
    fn messages_are_told_once_and_in_order() {
        let rooms = Rooms::default();
        rooms.enqueue(&message(6));
        join(&rooms, "ann");
        for id in [7, 8, 9, 8] {
            rooms.enqueue(&message(id));
        }
        assert_eq!(delivered(&rooms), [8, 9], "7 was on the disk when the room was made");
        rooms.enqueue(&message(9));
        assert_eq!(delivered(&rooms), [] as [u64; 0]);
        assert_eq!(rooms.visit("room", |room| room.delivered()), Some(9));
    }
}
