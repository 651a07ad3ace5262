//! Deadlines of durations that the caller chose, however long these are.
//! Does not know clocks; the time comes in.

use std::time::{Duration, Instant};

/// A hundred years, longer than any connection lasts. An `Instant` that lies further ahead may not
/// exist, and a runtime's timer may not be able to reckon with it.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The time after `duration`, or in a hundred years if that is later.
pub(crate) fn after(now: Instant, duration: Duration) -> Instant {
    now + duration.min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_exact_for_what_is_meant_and_never_overflows() {
        let now = Instant::now();
        for seconds in [0, 1, 86_400, 99 * 365 * 86_400] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(after(now, duration), now + duration);
        }
        for duration in [Duration::MAX, Duration::from_secs(i64::MAX as u64), FAR * 2] {
            assert_eq!(after(now, duration), now + FAR);
        }
    }
}
