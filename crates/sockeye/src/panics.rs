//! What the application's code does wrong inside the server's: caught where it is called.
//! Does not know what was called.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Something that the application gave has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// A panic ends what `run` does and nothing else. What that held is dropped with it, so nothing
/// broken is seen again.
pub(crate) fn catch<R>(run: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(drop_quietly)
}

/// Drops what the application gave, which may panic.
pub(crate) fn discard<T>(value: T) {
    if catch(move || drop(value)).is_err() {
        warn_of_drop();
    }
}

/// Something that the application gave has panicked when it was dropped.
pub(crate) fn warn_of_drop() {
    tracing::warn!("a value of the application panicked when it was dropped");
}

/// What was panicked with may panic when it is dropped.
fn drop_quietly(payload: Box<dyn std::any::Any + Send>) -> Panicked {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    Panicked
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Worse;

    impl Drop for Worse {
        fn drop(&mut self) {
            panic!("in the drop of what was panicked with");
        }
    }

    #[test]
    fn whatever_is_panicked_with_is_caught() {
        assert_eq!(catch(|| 1), Ok(1));
        assert_eq!(catch(|| panic!("on purpose")), Err::<(), _>(Panicked));
        assert_eq!(catch(|| std::panic::panic_any(Worse)), Err::<(), _>(Panicked));
    }
}
