//! When a socket was in which rooms, in positions of its namespace's log: what tells which of the
//! recorded events were for it. Does not know the events.

use std::collections::{HashMap, VecDeque};

use sockeye_proto::SocketId;
use tokio::time::Instant;

use super::log::{Gap, Reach};
use super::offset::Position;
use crate::rooms::{RoomName, Selection};

/// How many past stays a socket remembers. Of one that leaves more rooms than this while their
/// events may still be on their way, what it missed cannot be told.
const PAST_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Membership {
    socket: SocketId,
    /// What was recorded up to here is not for it, or it has it.
    pub(super) start: Position,
    /// When it was admitted: what it had missed was sent then, however old it was.
    pub(super) admitted_at: Instant,
    /// Since when it is in the room of its own id.
    own: Option<Position>,
    /// Since when it is in the others.
    since: HashMap<RoomName, Position>,
    /// Stays that are over, the one that ended first at the front.
    past: VecDeque<Stay>,
    /// Where a stay ended that is forgotten.
    pub(super) gap: Option<Gap>,
}

#[derive(Clone, Debug)]
pub(super) struct Stay {
    pub(super) room: RoomName,
    pub(super) since: Position,
    pub(super) until: Gap,
}

impl Membership {
    /// A socket that has been admitted at `start`.
    pub(super) fn new(socket: SocketId, start: Position) -> Self {
        Self {
            socket,
            start,
            admitted_at: Instant::now(),
            own: Some(start),
            since: HashMap::new(),
            past: VecDeque::new(),
            gap: None,
        }
    }

    /// As it was on another node: since when it is in which rooms, its own among them, and the
    /// stays that are over.
    pub(super) fn of_parts(
        socket: SocketId,
        start: Position,
        since: impl IntoIterator<Item = (RoomName, Position)>,
        past: impl IntoIterator<Item = (RoomName, Position, Position)>,
        gap: Option<Position>,
    ) -> Self {
        let mut membership = Self::new(socket, start);
        let ended = |seq| Gap { seq, at: membership.admitted_at };
        membership.gap = gap.map(ended);
        let stay = |(room, since, until)| Stay { room, since, until: ended(until) };
        membership.past = past.into_iter().map(stay).collect();
        membership.own = None;
        since.into_iter().for_each(|(room, since)| membership.join(&room, since));
        membership
    }

    /// Since when it is in a room.
    pub(super) fn since(&self, room: &RoomName) -> Option<Position> {
        if self.is_own(room) { self.own } else { self.since.get(room).copied() }
    }

    /// The stays that are over, as far as they are remembered.
    pub(super) fn past(&self) -> impl Iterator<Item = &Stay> {
        self.past.iter()
    }

    pub(super) fn socket(&self) -> SocketId {
        self.socket
    }

    pub(crate) fn is_in_own(&self) -> bool {
        self.own.is_some()
    }

    /// It joins a room behind what has been recorded up to `seq`.
    pub(crate) fn join(&mut self, room: &RoomName, seq: Position) {
        if self.is_own(room) {
            self.own.get_or_insert(seq);
        } else {
            self.since.entry(room.clone()).or_insert(seq);
        }
    }

    /// It leaves a room; what was recorded up to `until` was for it still. What stands before
    /// `first` is not recorded any more.
    pub(crate) fn leave(&mut self, room: &RoomName, until: Gap, first: Position) {
        let since = self.forget(room);
        let Some(since) = since.filter(|since| *since < until.seq) else { return };
        while self.past.front().is_some_and(|stay| stay.until.seq < first) {
            self.past.pop_front();
        }
        if self.past.len() >= PAST_MAX {
            self.gap = self.past.pop_front().map(|stay| stay.until);
        }
        self.past.push_back(Stay { room: room.clone(), since, until });
    }

    /// It is as if it had not been in the room. Returns since when it was.
    pub(crate) fn forget(&mut self, room: &RoomName) -> Option<Position> {
        if self.is_own(room) { self.own.take() } else { self.since.remove(room) }
    }

    /// Whether the event that was recorded as number `seq` was for this socket.
    pub(super) fn is_reached(&self, reach: &Reach, seq: Position) -> bool {
        let Selection { rooms, except, except_ids } = match reach {
            Reach::Socket(id) => return *id == self.socket,
            Reach::Selection(selection) => selection,
        };
        (rooms.is_empty() || rooms.iter().any(|room| self.was_in(room, seq)))
            && !except.iter().any(|room| self.was_in(room, seq))
            && !except_ids.contains(&self.socket)
    }

    fn was_in(&self, room: &RoomName, seq: Position) -> bool {
        self.since(room).is_some_and(|since| since < seq)
            || self
                .past
                .iter()
                .any(|stay| stay.room == *room && stay.since < seq && seq <= stay.until.seq)
    }

    fn is_own(&self, room: &str) -> bool {
        self.socket.as_str() == room
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(number: u8) -> SocketId {
        SocketId::from_entropy([number; 15])
    }

    fn at(seq: u64) -> Position {
        Position::new(0, seq)
    }

    fn until(seq: u64) -> Gap {
        Gap { seq: at(seq), at: Instant::now() + Duration::from_secs(seq) }
    }

    fn to(rooms: &[&str]) -> Reach {
        let rooms = rooms.iter().map(|room| RoomName::from(*room)).collect();
        Reach::Selection(Selection { rooms, ..Selection::default() })
    }

    #[test]
    fn what_was_recorded_during_a_stay_was_for_it() {
        let mut membership = Membership::new(id(1), at(10));
        let room = RoomName::from("a");
        membership.join(&room, at(12));
        membership.join(&room, at(13));
        membership.leave(&room, until(14), at(1));
        membership.join(&room, at(16));
        let reached = |seq| membership.is_reached(&to(&["b", "a"]), at(seq));
        let seqs: Vec<_> = (10..20).filter(|seq| reached(*seq)).collect();
        assert_eq!(seqs, [13, 14, 17, 18, 19]);
        let except = Selection { except: [room].into_iter().collect(), ..Selection::default() };
        let except = Reach::Selection(except);
        assert!(!membership.is_reached(&except, at(13)) && membership.is_reached(&except, at(15)));
        assert!(membership.is_reached(&to(&[]), at(11)));
        assert!(membership.is_reached(&to(&[id(1).as_str()]), at(11)));
        assert!(!membership.is_reached(&Reach::Socket(id(2)), at(11)));
    }

    #[test]
    fn its_own_room_is_one_too() {
        let mut membership = Membership::new(id(1), at(10));
        let own = RoomName::from(id(1).as_str());
        membership.leave(&own, until(11), at(1));
        assert!(!membership.is_in_own());
        let reached = |seq| membership.is_reached(&to(&[id(1).as_str()]), at(seq));
        assert!(reached(11) && !reached(12));
        assert!(membership.is_reached(&Reach::Socket(id(1)), at(12)), "it is still the socket");
    }

    #[test]
    fn what_is_forgotten_of_many_stays_is_known() {
        let mut membership = Membership::new(id(1), at(0));
        for number in 1..=PAST_MAX as u64 + 3 {
            let room = RoomName::from(number.to_string());
            membership.join(&room, at(number - 1));
            membership.leave(&room, until(number), at(1));
        }
        assert_eq!(membership.past.len(), PAST_MAX);
        assert_eq!(membership.gap.map(|gap| gap.seq), Some(at(3)));
        // What the log has no more needs no memory here.
        let room = RoomName::from("last");
        membership.join(&room, at(100));
        membership.leave(&room, until(101), at(60));
        assert_eq!(membership.past.front().map(|stay| stay.until.seq), Some(at(60)));
        // Nothing was recorded meanwhile.
        let len = membership.past.len();
        membership.join(&room, at(101));
        membership.leave(&room, until(101), at(60));
        assert_eq!(membership.past.len(), len);
    }
}
