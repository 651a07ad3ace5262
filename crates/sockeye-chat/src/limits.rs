//! Rate limits by key: token buckets, forgotten when they are full again.
//! Does not know what is limited.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A full bucket needs no memory; so many keys are looked through for those.
const KEYS_MAX: usize = 10_000;

/// Lets each key do something so often, with a burst.
pub(crate) struct Limiter {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// `per_second` on average, `burst` at once.
    pub(crate) fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, buckets: Mutex::default() }
    }

    /// Whether `key` may do it now; if not, how long it must wait.
    ///
    /// # Errors
    /// The time until the next one is allowed.
    pub(crate) fn take(&self, key: &str, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= KEYS_MAX {
            buckets.retain(|_, bucket| bucket.filled(self, now) < self.burst);
        }
        let fresh = || Bucket { tokens: self.burst, at: now };
        let bucket = buckets.entry(key.to_owned()).or_insert_with(fresh);
        bucket.tokens = bucket.filled(self, now);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
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
        let limiter = Limiter::new(2.0, 3.0);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take("a", start), Ok(()));
        }
        assert_eq!(limiter.take("a", start), Err(Duration::from_millis(500)));
        assert_eq!(limiter.take("b", start), Ok(()), "each key for itself");
        assert_eq!(limiter.take("a", start + Duration::from_millis(500)), Ok(()));
        assert!(limiter.take("a", start + Duration::from_millis(600)).is_err());
    }
}
