//! Compressors and decompressors between two messages, shared by the connections of a thread.
//! Does not know what they work on; a connection that keeps a context has a compressor of its own.

use std::cell::RefCell;

use zlib_rs::Inflate;

use super::deflater::{Deflater, Settings};

/// How many of each kind a thread keeps: some 380 KB for each compressor, 40 KB for each
/// decompressor. One is enough unless messages come and go in parts, or windows differ.
const KEPT_MAX: usize = 4;

/// How much is inflated at once.
const SCRATCH_BYTES: usize = 64 << 10;

#[derive(Default)]
struct Pool {
    inflaters: Vec<Inflate>,
    deflaters: Vec<Deflater>,
    scratch: Vec<u8>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// A decompressor that has seen nothing.
pub(super) fn take_inflater() -> Inflate {
    match POOL.with_borrow_mut(|pool| pool.inflaters.pop()) {
        Some(mut inflater) => {
            inflater.reset(false);
            inflater
        }
        // With the largest window, whatever was agreed: were a smaller one broken, it would depend
        // on how the bytes happen to arrive whether that is noticed.
        None => Inflate::new(false, 15),
    }
}

pub(super) fn return_inflater(inflater: Inflate) {
    // While a thread ends its pool may be gone already.
    let _ = POOL.try_with(|pool| keep(&mut pool.borrow_mut().inflaters, inflater));
}

/// A compressor that has seen nothing.
pub(crate) fn take_deflater(settings: Settings) -> Deflater {
    let kept = POOL.with_borrow_mut(|pool| {
        let found = pool.deflaters.iter().rposition(|kept| kept.settings() == settings)?;
        Some(pool.deflaters.remove(found))
    });
    match kept {
        Some(mut deflater) => {
            deflater.reset();
            deflater
        }
        None => Deflater::new(settings),
    }
}

pub(crate) fn return_deflater(deflater: Deflater) {
    let _ = POOL.try_with(|pool| keep(&mut pool.borrow_mut().deflaters, deflater));
}

/// Lends the buffer that is inflated into.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut scratch = POOL.with_borrow_mut(|pool| std::mem::take(&mut pool.scratch));
    scratch.resize(SCRATCH_BYTES, 0);
    let result = work(&mut scratch);
    POOL.with_borrow_mut(|pool| pool.scratch = scratch);
    result
}

/// The one that was used last is used next; what has not been used for long makes room.
fn keep<T>(kept: &mut Vec<T>, item: T) {
    if kept.len() >= KEPT_MAX {
        kept.remove(0);
    }
    kept.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::WindowBits;

    fn kept() -> (usize, usize) {
        POOL.with_borrow(|pool| (pool.inflaters.len(), pool.deflaters.len()))
    }

    #[test]
    fn a_thread_keeps_a_few_of_each() {
        let inflaters: Vec<_> = (0..10).map(|_| take_inflater()).collect();
        assert_eq!(kept(), (0, 0));
        inflaters.into_iter().for_each(return_inflater);
        assert_eq!(kept(), (KEPT_MAX, 0));
        return_inflater(take_inflater());
        assert_eq!(kept(), (KEPT_MAX, 0));
    }

    #[test]
    fn a_compressor_is_used_again_by_those_with_the_same_settings() {
        let settings = |bits| Settings {
            window_bits: WindowBits::new(bits).expect("8 to 15"),
            level: 1,
            mem_level: 1,
        };
        return_deflater(take_deflater(settings(9)));
        return_deflater(take_deflater(settings(10)));
        assert_eq!(kept(), (0, 2));
        return_deflater(take_deflater(settings(9)));
        assert_eq!(kept(), (0, 2));
        for bits in 9..=15 {
            return_deflater(take_deflater(settings(bits)));
        }
        assert_eq!(kept(), (0, KEPT_MAX));
    }
}
