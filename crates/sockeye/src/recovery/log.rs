//! The events of a namespace that clients may have missed, in their order, and what each client
//! has missed of them. Does not know sockets or sessions.
//!
//! A number is given and the event is pushed to its receivers under one lock: each client gets
//! offsets that grow, and an offset says that everything before it has come.

use std::collections::VecDeque;
use std::time::Duration;

use sockeye_proto::SocketId;
use sockeye_proto::socket::EncodedPacket;
use tokio::time::Instant;

use super::membership::Membership;
use super::offset::{Epoch, Offset};
use crate::rooms::Selection;

pub(super) struct Log {
    epoch: Epoch,
    limits: LogLimits,
    /// The number of the event that was recorded last. They count from 1, without gaps.
    head: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The last of the events that are not here any more.
    lost: Option<Gap>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct LogLimits {
    pub(super) packets_max: usize,
    pub(super) bytes_max: usize,
    pub(super) age_max: Duration,
}

struct Entry {
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
    pub(super) seq: u64,
    pub(super) at: Instant,
}

/// What a client must know to be told what it missed.
pub(super) struct Absence {
    /// It has everything up to here.
    pub(super) known: u64,
    /// When the end of its connection was noticed.
    pub(super) ended_at: Instant,
    /// What was sent before that has been received: a ping behind it was answered. How late an
    /// end is noticed says nothing, for a server that is busy may notice it at any time.
    pub(super) received_until: Instant,
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
        Self { epoch, limits, head: 0, entries: VecDeque::new(), bytes: 0, lost: None }
    }

    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// The number of the first event that is here, or will be.
    pub(super) fn first(&self) -> u64 {
        self.head + 1 - self.entries.len() as u64
    }

    /// Has an event sent with the offset that it gets; what was sent is kept.
    pub(super) fn record<E>(
        &mut self,
        reach: Reach,
        send: impl FnOnce(Offset) -> Result<EncodedPacket, E>,
    ) -> Result<(), E> {
        let packet = send(Offset { epoch: self.epoch, seq: self.head + 1 })?;
        self.head += 1;
        let now = Instant::now();
        let entry = Entry { packet, reach, at: now };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.trim(now);
        Ok(())
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
            self.lost = Some(Gap { seq: self.first(), at: entry.at });
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
    pub(super) fn known(&self, offset: Option<&str>, start: u64) -> Option<u64> {
        let Some(offset) = offset else { return Some(start) };
        let offset = Offset::parse(offset)?;
        if offset.epoch != self.epoch {
            // Told by an earlier server: it has got nothing from this one yet.
            return Some(start);
        }
        (offset.seq <= self.head).then(|| offset.seq.max(start))
    }

    /// Whether everything is here that the client may have missed.
    pub(super) fn is_complete(&self, membership: &Membership, absence: &Absence) -> bool {
        let Absence { known, received_until, .. } = *absence;
        let matters = |gap: &Gap| {
            // What was sent again when it was admitted is no older than that.
            let sent_at = gap.at.max(membership.admitted_at);
            gap.seq > known && sent_at >= received_until
        };
        ![self.lost, membership.gap].iter().flatten().any(matters)
    }

    /// What the client has missed, in its order.
    pub(super) fn missed(
        &self,
        membership: &Membership,
        known: u64,
    ) -> impl Iterator<Item = &EncodedPacket> {
        let first = self.first();
        let skipped = (known + 1).saturating_sub(first) as usize;
        self.entries.iter().enumerate().skip(skipped).filter_map(move |(at, entry)| {
            membership.is_reached(&entry.reach, first + at as u64).then_some(&entry.packet)
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

    fn absence(known: u64) -> Absence {
        ended(known, Instant::now())
    }

    /// A ping was answered two seconds before the end.
    fn ended(known: u64, ended_at: Instant) -> Absence {
        Absence { known, ended_at, received_until: ended_at - 2 * SECOND }
    }

    fn membership() -> Membership {
        Membership::new(SocketId::from_entropy([1; 15]), 0)
    }

    fn missed(log: &Log, known: u64) -> Vec<&str> {
        log.missed(&membership(), known).map(EncodedPacket::text).collect()
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
        assert_eq!(log.known(None, 2), Some(2));
        assert_eq!(log.known(Some("abcdefgh-4"), 2), Some(4));
        assert_eq!(log.known(Some("abcdefgh-1"), 2), Some(2), "of an earlier socket");
        assert_eq!(log.known(Some("zzzzzzzz-4"), 2), Some(2), "of an earlier server");
        assert_eq!(log.known(Some("abcdefgh-6"), 2), None);
        assert_eq!(log.known(Some("nonsense"), 2), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_let_go_too_early_is_known_to_be_lost() {
        let mut one = log(1, 1 << 20);
        record(&mut one, "x");
        for mut log in [log(3, 1 << 20), log(100, 3 * one.bytes)] {
            let old = membership();
            (0..5).for_each(|_| record(&mut log, "x"));
            assert_eq!((log.first(), log.head()), (3, 5));
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
        assert_eq!((log.bytes, log.first()), (0, 3));
        // Its end was noticed eight seconds after the last of them.
        let ended_at = Instant::now() - SECOND;
        assert!(log.is_complete(&membership, &ended(0, ended_at)));
    }
}
