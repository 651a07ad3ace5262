//! Rooms of one namespace: who is in which, and the walk over the members of a broadcast.
//! Does not know sockets or namespaces; a member is an id and the connection to send to.
//!
//! Every socket is in the room of its own id. That room is not stored: a name that is a member's
//! id stands for it, which saves a map per idle socket.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use indexmap::IndexMap;
use parking_lot::RwLock;
use smallvec::SmallVec;
use sockeye_proto::SocketId;

use crate::connection::Peer;
use crate::metrics;
use crate::room_events::RoomWatch;

/// The name of a room; a cheap clone.
pub type RoomName = Arc<str>;

const SHARDS: usize = 16;

struct Member {
    peer: Arc<Peer>,
    /// Whether the member is (still) in the room of its own id.
    in_own_room: bool,
}

type Room = IndexMap<SocketId, Arc<Peer>>;
type Shard = RwLock<std::collections::HashMap<RoomName, Room>>;

pub(crate) struct Rooms {
    members: RwLock<IndexMap<SocketId, Member>>,
    shards: [Shard; SHARDS],
    hasher: RandomState,
    watch: RoomWatch,
}

/// Whom a broadcast reaches: members of any of `rooms` (of the namespace, if there are none),
/// less those in `except` or `except_ids`.
#[derive(Clone, Default)]
pub(crate) struct Selection {
    pub(crate) rooms: SmallVec<[RoomName; 1]>,
    pub(crate) except: SmallVec<[RoomName; 1]>,
    pub(crate) except_ids: SmallVec<[SocketId; 1]>,
}

impl Rooms {
    pub(crate) fn new() -> Self {
        Self {
            members: RwLock::default(),
            shards: std::array::from_fn(|_| Shard::default()),
            hasher: RandomState::new(),
            watch: RoomWatch::default(),
        }
    }

    /// Who is told what changes; after each change, when no lock is held, they must be.
    pub(crate) fn watch(&self) -> &RoomWatch {
        &self.watch
    }

    fn shard(&self, room: &str) -> &Shard {
        // The upper bits: the maps behind use the lower ones.
        &self.shards[(self.hasher.hash_one(room) >> 60) as usize % SHARDS]
    }

    /// A socket has connected: it is in the namespace and in the room of its id.
    pub(crate) fn add(&self, id: SocketId, peer: Arc<Peer>) {
        let own = self.watched_own(&id);
        let mut members = self.members.write();
        members.insert(id, Member { peer, in_own_room: true });
        if let Some((room, is_stored)) = own {
            self.watch.joined(&room, id, !is_stored);
        }
    }

    /// A socket is gone, from the namespace and from `rooms`.
    pub(crate) fn remove(&self, id: &SocketId, rooms: impl IntoIterator<Item = RoomName>) {
        let own = self.watched_own(id);
        let mut members = self.members.write();
        let removed = members.swap_remove(id);
        if let Some((room, is_stored)) = own
            && removed.is_some_and(|member| member.in_own_room)
        {
            self.watch.left(&room, *id, !is_stored);
        }
        drop(members);
        for room in rooms {
            self.leave(id, &room);
        }
    }

    /// Returns whether the socket was not in the room before.
    pub(crate) fn join(&self, id: SocketId, peer: &Arc<Peer>, room: &RoomName) -> bool {
        if id.as_str() == &**room {
            return self.set_in_own_room(&id, true);
        }
        let mut shard = self.shard(room).write();
        let members = shard.entry(room.clone()).or_default();
        let is_first = members.is_empty();
        if is_first {
            metrics::room_created();
        }
        let is_new = members.insert(id, peer.clone()).is_none();
        if is_new && self.watch.is_on() {
            self.watch.joined(room, id, is_first && !self.is_own(room));
        }
        is_new
    }

    /// Returns whether the socket was in the room. The last one to leave takes the room along.
    pub(crate) fn leave(&self, id: &SocketId, room: &str) -> bool {
        if id.as_str() == room {
            return self.set_in_own_room(id, false);
        }
        let mut shard = self.shard(room).write();
        let Some(members) = shard.get_mut(room) else { return false };
        let was_in = members.swap_remove(id).is_some();
        let is_empty = members.is_empty();
        if is_empty {
            metrics::room_deleted();
            shard.remove(room);
        }
        if was_in && self.watch.is_on() {
            let room = RoomName::from(room);
            self.watch.left(&room, *id, is_empty && !self.is_own(&room));
        }
        was_in
    }

    /// Returns whether that is a change.
    fn set_in_own_room(&self, id: &SocketId, is_in: bool) -> bool {
        let own = self.watched_own(id);
        let mut members = self.members.write();
        let Some(member) = members.get_mut(id) else { return false };
        let is_change = std::mem::replace(&mut member.in_own_room, is_in) != is_in;
        match own {
            Some((room, is_stored)) if is_change && is_in => {
                self.watch.joined(&room, *id, !is_stored);
            }
            Some((room, is_stored)) if is_change => self.watch.left(&room, *id, !is_stored),
            _ => {}
        }
        is_change
    }

    /// Where somebody looks: the room of an id, and whether others are in it, too. Asked before
    /// the members are locked, as a room is locked before them elsewhere.
    fn watched_own(&self, id: &SocketId) -> Option<(RoomName, bool)> {
        self.watch.is_on().then(|| {
            let is_stored = self.shard(id.as_str()).read().contains_key(id.as_str());
            (RoomName::from(id.as_str()), is_stored)
        })
    }

    /// Whether it is the room of a member's own id.
    fn is_own(&self, room: &str) -> bool {
        let is_in = |id| self.members.read().get(&id).is_some_and(|member| member.in_own_room);
        SocketId::parse(room).is_some_and(is_in)
    }

    /// The names of all rooms, those of socket ids too.
    pub(crate) fn names(&self) -> Vec<RoomName> {
        let mut names = HashSet::new();
        for (id, member) in &*self.members.read() {
            if member.in_own_room {
                names.insert(RoomName::from(id.as_str()));
            }
        }
        for shard in &self.shards {
            names.extend(shard.read().keys().cloned());
        }
        names.into_iter().collect()
    }

    /// The ids of the sockets that a selection reaches, in no particular order.
    pub(crate) fn ids(&self, selection: &Selection) -> Vec<SocketId> {
        let mut ids = Vec::new();
        self.for_each(selection, |id, _| ids.push(*id));
        ids
    }

    /// How many named rooms there are, own-id rooms not counted.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Whether anybody is in any of the rooms (in the namespace, if there are none).
    pub(crate) fn has_any(&self, rooms: &[RoomName]) -> bool {
        match rooms {
            [] => !self.members.read().is_empty(),
            rooms => rooms
                .iter()
                .any(|room| self.shard(room).read().contains_key(room) || self.is_own(room)),
        }
    }

    /// Visits every socket of the selection once.
    pub(crate) fn for_each(
        &self,
        selection: &Selection,
        mut visit: impl FnMut(&SocketId, &Arc<Peer>),
    ) {
        let excluded = self.excluded(selection);
        let mut visit = |id: &SocketId, peer: &Arc<Peer>| {
            let named = selection.except_ids.contains(id);
            if !named && !excluded.as_ref().is_some_and(|excluded| excluded.contains(id)) {
                visit(id, peer);
            }
        };
        match selection.rooms.as_slice() {
            [] => self.members.read().iter().for_each(|(id, member)| visit(id, &member.peer)),
            [room] => self.for_each_in(room, &mut visit),
            rooms => {
                // A socket in several of the rooms is reached once.
                let mut seen = HashSet::new();
                for room in rooms {
                    self.for_each_in(room, |id, peer| {
                        if seen.insert(*id) {
                            visit(id, peer);
                        }
                    });
                }
            }
        }
    }

    fn excluded(&self, selection: &Selection) -> Option<HashSet<SocketId>> {
        if selection.except.is_empty() {
            return None;
        }
        let mut excluded = HashSet::new();
        for room in &selection.except {
            self.for_each_in(room, |id, _| {
                excluded.insert(*id);
            });
        }
        Some(excluded)
    }

    fn for_each_in(&self, room: &str, mut visit: impl FnMut(&SocketId, &Arc<Peer>)) {
        if let Some(members) = self.shard(room).read().get(room) {
            members.iter().for_each(|(id, peer)| visit(id, peer));
        }
        if let Some(own) = SocketId::parse(room)
            && let Some(member) = self.members.read().get(&own)
            && member.in_own_room
        {
            visit(&own, &member.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::config::OutboxPolicy;
    use crate::outbox::{Encoding, Exit, Outbox};

    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    /// A room: one of a few names, or that of a socket's id.
    #[derive(Clone, Copy, Debug)]
    enum Name {
        Named(usize),
        Own(u8),
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8),
        Remove(u8),
        Join(u8, Name),
        Leave(u8, Name),
        Select { rooms: Vec<Name>, except: Vec<Name>, except_ids: Vec<u8> },
    }

    fn name() -> impl Strategy<Value = Name> {
        prop_oneof![3 => (0..NAMES.len()).prop_map(Name::Named), 1 => (0..6_u8).prop_map(Name::Own)]
    }

    fn step() -> impl Strategy<Value = Step> {
        let rooms = vec(name(), 0..3);
        let select = (rooms, vec(name(), 0..2), vec(0..6_u8, 0..2));
        prop_oneof![
            2 => (0..6_u8).prop_map(Step::Add),
            1 => (0..6_u8).prop_map(Step::Remove),
            4 => (0..6_u8, name()).prop_map(|(id, room)| Step::Join(id, room)),
            2 => (0..6_u8, name()).prop_map(|(id, room)| Step::Leave(id, room)),
            4 => select.prop_map(|(rooms, except, except_ids)| {
                Step::Select { rooms, except, except_ids }
            }),
        ]
    }

    fn id(number: u8) -> SocketId {
        SocketId::from_entropy([number; 15])
    }

    fn room(name: Name) -> RoomName {
        match name {
            Name::Named(index) => NAMES[index].into(),
            Name::Own(number) => id(number).as_str().into(),
        }
    }

    /// The same with nothing clever: each socket and its rooms.
    type Model = BTreeMap<SocketId, BTreeSet<RoomName>>;

    fn model_ids(model: &Model, selection: &Selection) -> Vec<SocketId> {
        let in_any =
            |of: &BTreeSet<RoomName>, rooms: &[RoomName]| rooms.iter().any(|r| of.contains(r));
        let reached = model.iter().filter(|(id, of)| {
            (selection.rooms.is_empty() || in_any(of, &selection.rooms))
                && !in_any(of, &selection.except)
                && !selection.except_ids.contains(id)
        });
        reached.map(|(id, _)| *id).collect()
    }

    fn model_len(model: &Model) -> usize {
        let own: BTreeSet<RoomName> = model.keys().map(|id| id.as_str().into()).collect();
        model.values().flatten().filter(|r| !own.contains(*r)).collect::<BTreeSet<_>>().len()
    }

    proptest! {
        #[test]
        fn rooms_equal_a_naive_model(steps in vec(step(), 0..60)) {
            let rooms = Rooms::new();
            let mut model = Model::new();
            let exit = Exit::polling(Encoding::Plain);
            let peer = Arc::new(Peer::new(Outbox::new(exit, 1, OutboxPolicy::Refuse)));
            for step in steps {
                match step {
                    Step::Add(number) if !model.contains_key(&id(number)) => {
                        rooms.add(id(number), peer.clone());
                        model.insert(id(number), BTreeSet::from([id(number).as_str().into()]));
                    }
                    Step::Remove(number) => {
                        let joined = model.remove(&id(number)).unwrap_or_default();
                        rooms.remove(&id(number), joined);
                    }
                    // A socket joins and leaves while it is there, and joins no other's id: that
                    // room is stored by its name, and counted.
                    Step::Join(number, name) => {
                        if let Some(joined) = model.get_mut(&id(number)) {
                            let fresh = joined.insert(room(name));
                            prop_assert_eq!(rooms.join(id(number), &peer, &room(name)), fresh);
                        }
                    }
                    Step::Leave(number, name) => {
                        if let Some(joined) = model.get_mut(&id(number)) {
                            let was_in = joined.remove(&room(name));
                            prop_assert_eq!(rooms.leave(&id(number), &room(name)), was_in);
                        }
                    }
                    Step::Select { rooms: to, except, except_ids } => {
                        let selection = Selection {
                            rooms: to.into_iter().map(room).collect(),
                            except: except.into_iter().map(room).collect(),
                            except_ids: except_ids.into_iter().map(id).collect(),
                        };
                        let mut ids = rooms.ids(&selection);
                        let rooms_alone = selection.rooms.clone();
                        let all = Selection { rooms: rooms_alone, ..Selection::default() };
                        let is_any = !model_ids(&model, &all).is_empty();
                        prop_assert_eq!(rooms.has_any(&selection.rooms), is_any);
                        ids.sort();
                        prop_assert_eq!(ids, model_ids(&model, &selection));
                    }
                    Step::Add(_) => {}
                }
            }
            for (id, joined) in std::mem::take(&mut model) {
                rooms.remove(&id, joined);
            }
            prop_assert_eq!(rooms.len(), model_len(&model));
            prop_assert!(rooms.ids(&Selection::default()).is_empty());
        }
    }
}
