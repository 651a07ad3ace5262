//! What has been appended to a log and waits until the log has been read so far, so that a node
//! delivers all that it hears in one order, its own events among those of others.
//! Does not know who reads.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::log::LogOffset;
use super::queue::Delivery;

/// By namespaces: those have an order each.
#[derive(Default)]
pub(super) struct Gate {
    waiting: HashMap<Arc<str>, VecDeque<Waiting>>,
    /// Whether somebody reads, so that it is known what has been read.
    is_reading: bool,
    /// What stands up to here may never be read.
    skipped: Option<LogOffset>,
}

struct Waiting {
    delivery: Delivery,
    /// Of what is in the log. What is not comes behind what was before it.
    offset: Option<LogOffset>,
    bytes: usize,
}

/// What is delivered now.
pub(super) struct Passed {
    pub(super) delivery: Delivery,
    pub(super) offset: Option<LogOffset>,
    /// What it held while it waited.
    pub(super) bytes: usize,
}

impl Gate {
    /// Whether somebody reads. While nobody does all passes at once, without its offset: of what
    /// others have appended before it nothing may have come yet.
    pub(super) fn set_reading(&mut self, is_reading: bool) -> Vec<Passed> {
        self.is_reading = is_reading;
        if is_reading { Vec::new() } else { self.pass_all() }
    }

    pub(super) fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// Something has been published, or could not be.
    pub(super) fn add(
        &mut self,
        namespace: Arc<str>,
        delivery: Delivery,
        offset: Option<LogOffset>,
        bytes: usize,
    ) -> Option<Passed> {
        if !self.is_reading {
            return Some(Passed { delivery, offset: None, bytes });
        }
        if offset.is_none() && !self.waiting.contains_key(&namespace) {
            return Some(Passed { delivery, offset, bytes });
        }
        if offset.is_some() && offset <= self.skipped {
            return Some(Passed { delivery, offset: None, bytes });
        }
        self.waiting.entry(namespace).or_default().push_back(Waiting { delivery, offset, bytes });
        None
    }

    /// The log of a namespace has been read up to an entry of this node. What waits up to there
    /// passes, and what came behind it and is not in the log; `None` if the entry does not wait.
    pub(super) fn read_to(&mut self, namespace: &str, offset: LogOffset) -> Option<Vec<Passed>> {
        let waiting = self.waiting.get_mut(namespace)?;
        let at = waiting.iter().position(|waiting| waiting.offset == Some(offset))?;
        let behind = waiting.iter().skip(at + 1).take_while(|waiting| waiting.offset.is_none());
        let count = at + 1 + behind.count();
        let passed = waiting.drain(..count).map(Waiting::pass).collect();
        if waiting.is_empty() {
            self.waiting.remove(namespace);
        }
        Some(passed)
    }

    /// Of what stands in the log up to here some has gone before it was read: what waits for that
    /// passes, without offsets, and all that was before it.
    pub(super) fn skip_to(&mut self, until: LogOffset) -> Vec<Passed> {
        self.skipped = self.skipped.max(Some(until));
        let mut passed = Vec::new();
        self.waiting.retain(|_, waiting| {
            let is_skipped =
                |waiting: &Waiting| waiting.offset.is_some_and(|offset| offset <= until);
            let last = waiting.iter().rposition(is_skipped);
            let behind = waiting.iter().skip(last.map_or(0, |last| last + 1));
            let count = last.map_or(0, |last| last + 1)
                + behind.take_while(|waiting| last.is_some() && waiting.offset.is_none()).count();
            let skipped = waiting.drain(..count).map(Waiting::pass);
            passed.extend(skipped.map(|passed| Passed { offset: None, ..passed }));
            !waiting.is_empty()
        });
        passed
    }

    /// All that waits passes, without offsets.
    pub(super) fn pass_all(&mut self) -> Vec<Passed> {
        let all = std::mem::take(&mut self.waiting).into_values().flatten();
        all.map(|waiting| Passed { offset: None, ..waiting.pass() }).collect()
    }
}

impl Waiting {
    fn pass(self) -> Passed {
        let Self { delivery, offset, bytes } = self;
        Passed { delivery, offset, bytes }
    }
}
