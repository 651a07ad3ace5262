//! Things that are done one after the other, in the order in which they were added, by whichever
//! thread is there. Does not know what is done.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Things to do in their order. Nothing is done under its lock, so what is done may add more, and
/// comes back without waiting for it.
pub(crate) struct Sequence<T>(Mutex<State<T>>);

struct State<T> {
    waiting: VecDeque<T>,
    is_running: bool,
}

impl<T> Default for Sequence<T> {
    fn default() -> Self {
        Self(Mutex::new(State { waiting: VecDeque::new(), is_running: false }))
    }
}

impl<T> Sequence<T> {
    /// Adds one, for the next [`run`](Self::run).
    pub(crate) fn add(&self, item: T) {
        self.0.lock().waiting.push_back(item);
    }

    /// Does what waits, unless somebody is doing so: then that one does it.
    pub(crate) fn run(&self, mut act: impl FnMut(T)) {
        if std::mem::replace(&mut self.0.lock().is_running, true) {
            return;
        }
        let _running = Running(self);
        loop {
            let mut state = self.0.lock();
            let Some(item) = state.waiting.pop_front() else {
                state.is_running = false;
                return;
            };
            drop(state);
            act(item);
        }
    }
}

/// Lets others go on where what is done panics.
struct Running<'a, T>(&'a Sequence<T>);

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.lock().is_running = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn what_is_added_meanwhile_comes_in_its_order() {
        let sequence = Sequence::default();
        let mut done = Vec::new();
        [1, 2].into_iter().for_each(|item| sequence.add(item));
        sequence.run(|item| {
            done.push(item);
            if item < 3 {
                sequence.add(item + 10);
                sequence.run(|_| unreachable!("it is running"));
            }
        });
        assert_eq!(done, [1, 2, 11, 12]);
    }

    #[test]
    fn a_panic_does_not_stop_it_for_ever() {
        let sequence = Sequence::default();
        [1, 2].into_iter().for_each(|item| sequence.add(item));
        let run = || sequence.run(|item| assert_ne!(item, 1, "on purpose"));
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        let mut rest = Vec::new();
        sequence.run(|item| rest.push(item));
        assert_eq!(rest, [2]);
    }
}
