//! Rate limits by key: token buckets, in bounded memory whoever chooses the keys.
//! Does not know what is limited, but for its name.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The keys that are remembered at the most: about 10 MB.
const KEYS_MAX: usize = 65_536;

/// Lets each key do something so often, with a burst.
pub(crate) struct Limiter {
    /// What is limited, for those who count.
    what: &'static str,
    per_second: f64,
    burst: f64,
    keys_max: usize,
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// `per_second` on average, `burst` at once.
    pub(crate) fn new(what: &'static str, per_second: f64, burst: f64) -> Self {
        Self { what, per_second, burst, keys_max: KEYS_MAX, buckets: Mutex::default() }
    }

    /// Whether `key` may do it now; if not, how long it must wait.
    ///
    /// # Errors
    /// The time until the next one is allowed.
    pub(crate) fn take(&self, key: &str, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= self.keys_max && !buckets.contains_key(key) {
            self.forget_half(&mut buckets, now);
        }
        let fresh = || Bucket { tokens: self.burst, at: now };
        let bucket = buckets.entry(key.to_owned()).or_insert_with(fresh);
        bucket.tokens = bucket.filled(self, now);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            metrics::counter!("chat_limited_total", "what" => self.what).increment(1);
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Forgets the fuller half of the buckets, and with it the least: to be forgotten is to be
    /// full again. Who is being held back stays so, until as many others have spent as much. And
    /// as it is half of them, the work for each new key stays the same.
    fn forget_half(&self, buckets: &mut HashMap<String, Bucket>, now: Instant) {
        let mut levels: Vec<f64> =
            buckets.values().map(|bucket| bucket.filled(self, now)).collect();
        let middle = levels.len() / 2;
        let (_, &mut median, _) = levels.select_nth_unstable_by(middle, f64::total_cmp);
        buckets.retain(|_, bucket| bucket.filled(self, now) < median);
    }
}

impl Bucket {
    fn filled(&self, limiter: &Limiter, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + passed * limiter.per_second).min(limiter.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let limiter = Limiter::new("tests", 2.0, 3.0);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take("a", start), Ok(()));
        }
        assert_eq!(limiter.take("a", start), Err(Duration::from_millis(500)));
        assert_eq!(limiter.take("b", start), Ok(()), "each key for itself");
        assert_eq!(limiter.take("a", start + Duration::from_millis(500)), Ok(()));
        assert!(limiter.take("a", start + Duration::from_millis(600)).is_err());
    }

    #[test]
    fn keys_that_an_attacker_chooses_take_bounded_memory_and_free_nobody() {
        let limiter = Limiter { keys_max: 100, ..Limiter::new("tests", 1.0, 2.0) };
        let now = Instant::now();
        assert_eq!(limiter.take("guesser", now), Ok(()));
        assert_eq!(limiter.take("guesser", now), Ok(()));
        for key in 0..10_000 {
            assert_eq!(limiter.take(&key.to_string(), now), Ok(()));
            assert!(limiter.buckets.lock().len() <= 100);
        }
        assert!(limiter.take("guesser", now).is_err(), "it has spent more than any of them");
    }
}
