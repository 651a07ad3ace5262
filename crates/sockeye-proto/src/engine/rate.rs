//! How fast a peer may send: packets and bytes per second. Does not know the packets, nor what is
//! done with a peer that is too fast.

use std::time::{Duration, Instant};

/// What a peer may send in a second, on average. What it has not sent in the second before, it may
/// send at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Packets per second, at least 1; `None` for any number.
    pub packets: Option<u32>,
    /// Bytes per second, at least 1; `None` for any number.
    pub bytes: Option<u32>,
}

impl Rates {
    /// Whether nothing is limited.
    pub fn are_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// What a peer has sent lately.
///
/// A leaky bucket each for packets and bytes, of one second's share: what comes is always counted
/// whole, and where that is too much nothing more is to be read until
/// [`ready_at`](Self::ready_at).
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    rates: Rates,
    /// When all that came would have been due at these rates.
    packets_due: Instant,
    bytes_due: Instant,
}

/// How much earlier than due something may come.
const BURST: Duration = Duration::from_secs(1);

impl RateLimit {
    /// Nothing has come.
    pub fn new(rates: Rates, now: Instant) -> Self {
        Self { rates, packets_due: now, bytes_due: now }
    }

    /// So much came.
    pub fn charge(&mut self, packets: usize, bytes: usize, now: Instant) {
        let count = |due: &mut Instant, rate: Option<u32>, amount: usize| {
            if let Some(rate) = rate {
                let seconds = amount as f64 / f64::from(rate.max(1));
                *due = (*due).max(now) + Duration::from_secs_f64(seconds);
            }
        };
        count(&mut self.packets_due, self.rates.packets, packets);
        count(&mut self.bytes_due, self.rates.bytes, bytes);
    }

    /// When more may be read, if not now.
    pub fn ready_at(&self, now: Instant) -> Option<Instant> {
        let due = self.packets_due.max(self.bytes_due);
        (due > now + BURST).then(|| due - BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_of_one_second_then_the_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(Rates { packets: Some(10), bytes: None }, start);
        for _ in 0..10 {
            limit.charge(1, 1000, start);
            assert_eq!(limit.ready_at(start), None);
        }
        limit.charge(1, 1000, start);
        assert_eq!(limit.ready_at(start), Some(start + SECOND / 10));
        let next = start + SECOND / 10;
        assert_eq!(limit.ready_at(next), None);
        limit.charge(1, 1000, next);
        assert_eq!(limit.ready_at(next), Some(next + SECOND / 10));
        // A second of silence is a burst again, and a minute is no more than that.
        let later = start + 60 * SECOND;
        limit.charge(11, 0, later);
        assert_eq!(limit.ready_at(later), Some(later + SECOND / 10));
    }

    #[test]
    fn bytes_are_counted_whole_and_paid_off() {
        let start = Instant::now();
        let mut limit = RateLimit::new(Rates { packets: Some(1000), bytes: Some(1000) }, start);
        limit.charge(1, 5000, start);
        assert_eq!(limit.ready_at(start), Some(start + 4 * SECOND));
        assert_eq!(limit.ready_at(start + 4 * SECOND), None);
    }

    #[test]
    fn without_rates_nothing_is_limited() {
        let now = Instant::now();
        assert!(Rates::default().are_unlimited());
        let mut limit = RateLimit::new(Rates::default(), now);
        limit.charge(usize::MAX, usize::MAX, now);
        assert_eq!(limit.ready_at(now), None);
    }
}
