//! Which of an outbox's waiting packets a newer one of the same key may replace.
//! Does not know the packets; the outbox says where each stands, and what has left.

use std::collections::HashMap;
use std::sync::Arc;

/// What makes two packets one, within a namespace; a cheap clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: Arc<str>,
    pub(crate) key: Arc<str>,
}

/// The places of the packets that may be replaced. It is there only while some wait.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Counted from the first packet that ever waited, so that they stay as packets leave.
    numbers: HashMap<Key, u64>,
    /// The number of the packet that waits first.
    first: u64,
}

impl Places {
    /// Numbers begin here: a packet may still come before the first.
    const START: u64 = 1 << 32;

    pub(crate) fn new() -> Self {
        Self { numbers: HashMap::new(), first: Self::START }
    }

    /// The index, among those that wait, of the packet with this key.
    pub(crate) fn index(&self, key: &Key) -> Option<usize> {
        self.numbers.get(key)?.checked_sub(self.first)?.try_into().ok()
    }

    /// A packet with this key stands at this index; an older one is no longer replaced.
    pub(crate) fn set(&mut self, key: Key, index: usize) {
        // Keys whose packets have left are forgotten in one go, when half may have.
        if self.numbers.len() > 2 * index + 8 {
            self.numbers.retain(|_, number| *number >= self.first);
        }
        self.numbers.insert(key, self.first + index as u64);
    }

    /// So many packets have left, from the first on, or from the one behind it where that is
    /// being sent: it is not replaced any more.
    pub(crate) fn advance(&mut self, count: usize) {
        self.first += count as u64;
    }

    /// A packet was put before the first.
    pub(crate) fn retreat(&mut self) {
        self.first -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key { namespace: "/".into(), key: number.to_string().into() }
    }

    #[test]
    fn places_follow_what_leaves() {
        let mut places = Places::new();
        places.set(key(1), 0);
        places.set(key(2), 3);
        assert_eq!((places.index(&key(1)), places.index(&key(2))), (Some(0), Some(3)));
        assert_eq!(places.index(&key(3)), None);
        places.retreat();
        assert_eq!((places.index(&key(1)), places.index(&key(2))), (Some(1), Some(4)));
        places.advance(2);
        assert_eq!((places.index(&key(1)), places.index(&key(2))), (None, Some(2)));
        let other = Key { namespace: "/other".into(), ..key(2) };
        assert_eq!(places.index(&other), None);
    }

    #[test]
    fn keys_of_what_has_left_are_forgotten() {
        let mut places = Places::new();
        for number in 0..10_000 {
            places.set(key(number), 1);
            places.advance(1);
        }
        assert!(places.numbers.len() < 20, "{} keys", places.numbers.len());
    }
}
