//! The events of a namespace that clients may have missed, in their order, and what each client
//! has missed of them. Does not know sockets or sessions.
//!
//! A position is given and the event is pushed to its receivers under one lock: each client gets
//! offsets that grow, and an offset says that everything before it has come.
//!
//! Positions are counted here, or they are those of the log of a cluster's bus. Of that this one is
//! the end, as far as it has been heard: what stands before may be read there.

use std::collections::VecDeque;
use std::time::Duration;

use sockeye_proto::SocketId;
use sockeye_proto::socket::EncodedPacket;
use tokio::time::Instant;

use super::membership::Membership;
use super::offset::{Epoch, Offset, Position};
use crate::rooms::Selection;

pub(super) struct Log {
    numbering: Numbering,
    limits: LogLimits,
    /// The position of the event that was delivered last.
    head: Position,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The last of the events that are not here any more.
    lost: Option<Gap>,
    /// When an event was delivered last that ought to be in the cluster's log and, for all that is
    /// known, is not.
    unlogged_at: Option<Instant>,
}

/// Who gives the positions.
#[derive(Clone, Copy)]
enum Numbering {
    /// They count here from 1, without gaps.
    Own(Epoch),
    /// The log of the cluster's bus.
    Cluster,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct LogLimits {
    pub(super) packets_max: usize,
    pub(super) bytes_max: usize,
    pub(super) age_max: Duration,
}

struct Entry {
    position: Position,
    packet: EncodedPacket,
    reach: Reach,
    at: Instant,
}

/// Whom a recorded event reaches.
#[derive(Clone)]
pub(crate) enum Reach {
    /// One socket.
    Socket(SocketId),
    /// As a broadcast has it.
    Selection(Selection),
}

/// Where something ends that is not known any more, and when that was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    pub(super) seq: Position,
    pub(super) at: Instant,
}

/// What a client must know to be told what it missed.
pub(super) struct Absence {
    /// It has everything up to here, or is given it from elsewhere.
    pub(super) known: Position,
    /// When the end of its connection was noticed.
    pub(super) ended_at: Instant,
    /// What was sent before that has been received: a ping behind it was answered. How late an
    /// end is noticed says nothing, for a server that is busy may notice it at any time. `None`
    /// where all that is known of it is in `known`.
    pub(super) received_until: Option<Instant>,
}

impl Entry {
    fn bytes(&self) -> usize {
        let names = match &self.reach {
            Reach::Socket(_) => 0,
            Reach::Selection(Selection { rooms, except, .. }) => {
                rooms.iter().chain(except).map(|room| room.len()).sum()
            }
        };
        self.packet.held_bytes() + size_of::<Self>() + names
    }
}

impl Log {
    pub(super) fn new(epoch: Epoch, limits: LogLimits) -> Self {
        Self::with(Numbering::Own(epoch), limits)
    }

    /// The end of the log of a cluster. Nothing is known yet of what stands in that.
    pub(super) fn of_cluster(limits: LogLimits) -> Self {
        let lost = Some(Gap { seq: Position::MAX, at: Instant::now() });
        Self { lost, ..Self::with(Numbering::Cluster, limits) }
    }

    fn with(numbering: Numbering, limits: LogLimits) -> Self {
        Self {
            numbering,
            limits,
            head: Position::default(),
            entries: VecDeque::new(),
            bytes: 0,
            lost: None,
            unlogged_at: None,
        }
    }

    pub(super) fn head(&self) -> Position {
        self.head
    }

    /// What stands before is in no log any more.
    pub(super) fn first(&self) -> Position {
        match self.numbering {
            Numbering::Own(_) => self.entries.front().map_or(self.head, |entry| entry.position),
            Numbering::Cluster => Position::default(),
        }
    }

    /// Has an event sent with the offset that it gets; what was sent is kept.
    pub(super) fn record<E>(
        &mut self,
        reach: Reach,
        send: impl FnOnce(Offset) -> Result<EncodedPacket, E>,
    ) -> Result<(), E> {
        let position = Position::new(0, self.head.second() + 1);
        self.record_at(position, reach, send)
    }

    /// As [`record`](Self::record), where it is known where the event stands.
    pub(super) fn record_at<E>(
        &mut self,
        position: Position,
        reach: Reach,
        send: impl FnOnce(Offset) -> Result<EncodedPacket, E>,
    ) -> Result<(), E> {
        let offset = match self.numbering {
            Numbering::Own(epoch) => Offset::Own { epoch, seq: position.second() },
            Numbering::Cluster => Offset::Cluster(position),
        };
        let packet = send(offset)?;
        self.pass(position);
        let now = Instant::now();
        let entry = Entry { position, packet, reach, at: now };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.trim(now);
        Ok(())
    }

    /// An event of the cluster's log has been delivered, or will not be, and is not kept.
    pub(super) fn pass(&mut self, position: Position) {
        self.head = position;
        if self.lost.is_some_and(|lost| lost.seq == Position::MAX) {
            // From here on all is heard.
            self.lost = Some(Gap { seq: position, at: Instant::now() });
        }
    }

    /// The cluster's log has been read up to here, and all behind it will be here.
    pub(super) fn begin(&mut self, read_to: Position) {
        if self.head == Position::default() {
            self.pass(read_to);
        }
    }

    /// What stands in the cluster's log up to here is not here.
    pub(super) fn forget(&mut self, until: Position) {
        while self.entries.front().is_some_and(|entry| entry.position <= until) {
            self.bytes -= self.entries.pop_front().map_or(0, |entry| entry.bytes());
        }
        let is_unknown = |lost: Gap| lost.seq == Position::MAX;
        if !self.lost.is_some_and(|lost| lost.seq > until && !is_unknown(lost)) {
            self.lost = Some(Gap { seq: until, at: Instant::now() });
        }
        self.head = self.head.max(until);
    }

    /// An event that ought to be in the cluster's log has been delivered without it.
    pub(super) fn note_unlogged(&mut self) {
        self.unlogged_at = Some(Instant::now());
    }

    pub(super) fn unlogged_at(&self) -> Option<Instant> {
        self.unlogged_at
    }

    /// Up to where all has been received by one who has received what was sent before `until`;
    /// `read_to` is up to where the cluster's log has been read. `None` if that is not known.
    pub(super) fn received(&self, until: Instant, read_to: Position) -> Option<Position> {
        let count = self.entries.partition_point(|entry| entry.at < until);
        if count == self.entries.len() {
            return Some(self.head.max(read_to));
        }
        match count.checked_sub(1) {
            Some(last) => Some(self.entries[last].position),
            None => self.lost.filter(|lost| lost.at < until).map(|lost| lost.seq),
        }
    }

    /// Lets go of what is too old or too much.
    pub(super) fn trim(&mut self, now: Instant) {
        let LogLimits { packets_max, bytes_max, age_max, .. } = self.limits;
        while let Some(entry) = self.entries.front() {
            let is_old = now.saturating_duration_since(entry.at) >= age_max;
            if !is_old && self.entries.len() <= packets_max && self.bytes <= bytes_max {
                break;
            }
            self.bytes -= entry.bytes();
            self.lost = Some(Gap { seq: entry.position, at: entry.at });
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// What the events that are kept hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Up to where a client knows everything that says it stands at `offset` and whose socket was
    /// admitted at `start`. `None` if it cannot be so.
    pub(super) fn known(&self, offset: Option<&str>, start: Position) -> Option<Position> {
        let Some(offset) = offset else { return Some(start) };
        let Numbering::Own(own) = self.numbering else {
            return Position::parse(offset).map(|offset| offset.max(start));
        };
        let (epoch, seq) = Offset::parse(offset)?;
        if epoch != own {
            // Told by an earlier server: it has got nothing from this one yet.
            return Some(start);
        }
        let offset = Position::new(0, seq);
        (offset <= self.head).then(|| offset.max(start))
    }

    /// Whether everything is here that the client may have missed.
    pub(super) fn is_complete(&self, membership: &Membership, absence: &Absence) -> bool {
        let Absence { known, received_until, .. } = *absence;
        let matters = |gap: &Gap| {
            // What was sent again when it was admitted is no older than that.
            let sent_at = gap.at.max(membership.admitted_at);
            gap.seq > known && received_until.is_none_or(|until| sent_at >= until)
        };
        ![self.lost, membership.gap].iter().flatten().any(matters)
    }

    /// What the client has missed, in its order.
    pub(super) fn missed(
        &self,
        membership: &Membership,
        known: Position,
    ) -> impl Iterator<Item = &EncodedPacket> {
        let skipped = self.entries.partition_point(|entry| entry.position <= known);
        self.entries.range(skipped..).filter_map(|entry| {
            membership.is_reached(&entry.reach, entry.position).then_some(&entry.packet)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use sockeye_proto::socket::UnfinishedEvent;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn log(packets_max: usize, bytes_max: usize) -> Log {
        let limits = LogLimits { packets_max, bytes_max, age_max: 10 * SECOND };
        Log::new(Epoch::new("abcdefgh"), limits)
    }

    fn record(log: &mut Log, text: &str) {
        let event = UnfinishedEvent::new("/", "e", &text).expect("JSON");
        let reach = Reach::Selection(Selection::default());
        let sent =
            log.record(reach, |offset| Ok::<_, Infallible>(event.finish_with_offset(offset)));
        sent.expect("it is sent");
    }

    fn at(seq: u64) -> Position {
        Position::new(0, seq)
    }

    fn absence(known: u64) -> Absence {
        ended(known, Instant::now())
    }

    /// A ping was answered two seconds before the end.
    fn ended(known: u64, ended_at: Instant) -> Absence {
        let received_until = Some(ended_at - 2 * SECOND);
        Absence { known: at(known), ended_at, received_until }
    }

    fn membership() -> Membership {
        Membership::new(SocketId::from_entropy([1; 15]), at(0))
    }

    fn missed(log: &Log, known: u64) -> Vec<&str> {
        log.missed(&membership(), at(known)).map(EncodedPacket::text).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn offsets_count_what_was_delivered() {
        let mut log = log(100, 10_000);
        record(&mut log, "a");
        let reach = Reach::Socket(SocketId::from_entropy([1; 15]));
        log.record(reach, |_| Err(())).expect_err("it was refused");
        record(&mut log, "b");
        let all = [r#"2["e","a","abcdefgh-1"]"#, r#"2["e","b","abcdefgh-2"]"#];
        assert_eq!(missed(&log, 0), all);
        assert_eq!(missed(&log, 1), all[1..]);
        assert!(missed(&log, 2).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_offsets_say() {
        let mut log = log(100, 10_000);
        (0..5).for_each(|_| record(&mut log, "x"));
        assert_eq!(log.known(None, at(2)), Some(at(2)));
        assert_eq!(log.known(Some("abcdefgh-4"), at(2)), Some(at(4)));
        assert_eq!(log.known(Some("abcdefgh-1"), at(2)), Some(at(2)), "of an earlier socket");
        assert_eq!(log.known(Some("zzzzzzzz-4"), at(2)), Some(at(2)), "of an earlier server");
        assert_eq!(log.known(Some("abcdefgh-6"), at(2)), None);
        assert_eq!(log.known(Some("nonsense"), at(2)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_let_go_too_early_is_known_to_be_lost() {
        let mut one = log(1, 1 << 20);
        record(&mut one, "x");
        for mut log in [log(3, 1 << 20), log(100, 3 * one.bytes)] {
            let old = membership();
            (0..5).for_each(|_| record(&mut log, "x"));
            assert_eq!((log.first(), log.head()), (at(3), at(5)));
            assert!(!log.is_complete(&old, &absence(1)));
            assert!(log.is_complete(&old, &absence(2)));
            // It came before a ping that was answered: it has been received, if it was for it.
            tokio::time::advance(2 * SECOND).await;
            assert!(!log.is_complete(&old, &absence(1)));
            tokio::time::advance(SECOND).await;
            assert!(log.is_complete(&old, &absence(1)));
            // Unless it was sent again to one that has come back since.
            assert!(!log.is_complete(&membership(), &absence(1)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_for_longer_than_it_can_be_asked_for() {
        let mut log = log(100, 1 << 20);
        let membership = membership();
        record(&mut log, "old");
        tokio::time::advance(9 * SECOND).await;
        record(&mut log, "new");
        tokio::time::advance(SECOND).await;
        log.trim(Instant::now());
        assert_eq!(missed(&log, 0), [r#"2["e","new","abcdefgh-2"]"#]);
        tokio::time::advance(9 * SECOND).await;
        log.trim(Instant::now());
        assert!(log.is_empty());
        assert_eq!((log.bytes, log.head()), (0, at(2)));
        // Its end was noticed eight seconds after the last of them.
        let ended_at = Instant::now() - SECOND;
        assert!(log.is_complete(&membership, &ended(0, ended_at)));
    }
}
