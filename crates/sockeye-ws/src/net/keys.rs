//! Randomness: the masking keys of a client's frames and the nonce of its handshake.
//! Does not know frames. Keys come from the operating system, many with one call.

use std::cell::RefCell;

use crate::mask::MaskingKey;

/// How many keys one call to the operating system yields.
const KEYS: usize = 256;

struct Pool {
    keys: [MaskingKey; KEYS],
    /// How many of `keys` have not been handed out.
    left: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { keys: [[0; 4]; KEYS], left: 0 }) };
}

/// A masking key that no one can foresee (RFC 6455 §5.3, §10.3).
///
/// # Panics
///
/// Where the operating system has no randomness: a key that can be foreseen must not be used.
pub(super) fn masking_key() -> MaskingKey {
    POOL.with_borrow_mut(|pool| {
        if pool.left == 0 {
            fill(pool.keys.as_flattened_mut());
            pool.left = KEYS;
        }
        pool.left -= 1;
        pool.keys[pool.left]
    })
}

/// The nonce of a handshake (RFC 6455 §4.1).
///
/// # Panics
///
/// As [`masking_key`].
pub(super) fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    fill(&mut nonce);
    nonce
}

fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has randomness");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_do_not_repeat_when_the_pool_is_filled_again() {
        let keys: HashSet<_> = (0..4 * KEYS).map(|_| masking_key()).collect();
        // Of 1,024 random keys two are equal once in eight thousand runs; never this many.
        assert!(keys.len() > 4 * KEYS - 4, "{} different keys", keys.len());
        assert_ne!(nonce(), nonce());
    }
}
