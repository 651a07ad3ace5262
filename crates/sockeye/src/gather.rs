//! The flush at the end of a turn: outboxes that were pushed to are listed on the thread, and
//! written once by a task that runs behind the tasks that are ready now.
//! Knows connections only as things to flush.
//!
//! Sixteen messages in one write cost about a fifteenth each. The list is the thread's own, so
//! that several runtime threads share no lock.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::{Handle as Runtime, RuntimeFlavor};

use crate::connection::Peer;

type List = Arc<Mutex<Vec<Arc<Peer>>>>;

thread_local! {
    static LIST: List = List::default();
    /// The connection whose task runs on this thread now: it flushes itself when its turn ends.
    static CURRENT: Cell<*const Peer> = const { Cell::new(ptr::null()) };
}

/// Marks a connection's own turn until dropped.
pub(crate) struct Turn {
    outer: *const Peer,
}

impl Turn {
    pub(crate) fn begin(peer: &Arc<Peer>) -> Self {
        Self { outer: CURRENT.replace(Arc::as_ptr(peer)) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

/// Whether the running task is that connection's.
pub(crate) fn is_current(peer: &Peer) -> bool {
    ptr::eq(CURRENT.get(), peer)
}

/// Lists connections for the flush of this turn.
pub(crate) fn list(peers: impl IntoIterator<Item = Arc<Peer>>) {
    with_list(|list| list.extend(peers));
}

/// As [`list`], for many: `run` adds to the thread's list itself. It must not emit.
pub(crate) fn with_list(run: impl FnOnce(&mut Vec<Arc<Peer>>)) {
    LIST.with(|list| {
        let first = {
            let mut waiting = list.lock();
            let was_empty = waiting.is_empty();
            run(&mut waiting);
            was_empty && !waiting.is_empty()
        };
        if first {
            schedule(list);
        }
    });
}

fn schedule(list: &List) {
    let Ok(runtime) = Runtime::try_current() else {
        // A thread outside any runtime has no turn that could end.
        flush(list);
        return;
    };
    let end_of_turn = Flush(list.clone());
    // A worker of a multi-thread runtime runs a new task next, before those that are ready.
    let next = runtime.runtime_flavor() != RuntimeFlavor::CurrentThread;
    runtime.spawn(async move {
        if next {
            tokio::task::yield_now().await;
        }
        drop(end_of_turn);
    });
}

/// Flushes when dropped, so also when its runtime ends before the task has run: a list that
/// stayed full would never be scheduled again.
struct Flush(List);

impl Drop for Flush {
    fn drop(&mut self) {
        flush(&self.0);
    }
}

fn flush(list: &List) {
    let mut peers = std::mem::take(&mut *list.lock());
    for peer in peers.drain(..) {
        peer.flush();
    }
    // The room is used again by the next turn, unless that has begun already.
    let mut waiting = list.lock();
    if waiting.capacity() == 0 {
        *waiting = peers;
    }
}
