//! Which nodes there are in each namespace, by what is heard of them. Pure: the time comes in.
//! Does not know requests; whoever hears that a node is gone tells them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::NodeId;

/// The nodes of one namespace that are believed in. What else claims to be one is passed over: the
/// names come from outside.
const NODES_MAX: usize = 10_000;
/// How often it is looked who has fallen silent.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The heartbeats of one node, its own and those of others.
pub(super) struct Heartbeats {
    interval: Duration,
    timeout: Duration,
    sweep: Option<Instant>,
    namespaces: HashMap<Arc<str>, Members>,
}

struct Members {
    /// When each of the others was heard last.
    heard: HashMap<NodeId, Instant>,
    /// When we said something last.
    said: Instant,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The namespaces in which we must say that we are here.
    pub(super) heartbeats: Vec<Arc<str>>,
    /// Who has fallen silent, and where.
    pub(super) gone: Vec<(Arc<str>, NodeId)>,
}

impl Heartbeats {
    pub(super) fn new(interval: Duration, timeout: Duration) -> Self {
        Self { interval, timeout, sweep: None, namespaces: HashMap::new() }
    }

    /// We are in a namespace, and say so now.
    pub(super) fn subscribe(&mut self, namespace: Arc<str>, now: Instant) {
        self.namespaces.insert(namespace, Members { heard: HashMap::new(), said: now });
        self.sweep.get_or_insert(now + SWEEP_INTERVAL.min(self.timeout));
    }

    pub(super) fn unsubscribe(&mut self, namespace: &str) {
        self.namespaces.remove(namespace);
        if self.namespaces.is_empty() {
            self.sweep = None;
        }
    }

    /// We said something to all.
    pub(super) fn handle_said(&mut self, namespace: &str, now: Instant) {
        if let Some(members) = self.namespaces.get_mut(namespace) {
            members.said = now;
        }
    }

    /// Another one said something.
    pub(super) fn handle_heard(&mut self, namespace: &str, node: &NodeId, now: Instant) {
        let Some(members) = self.namespaces.get_mut(namespace) else { return };
        if let Some(heard) = members.heard.get_mut(node) {
            *heard = now;
        } else if members.heard.len() < NODES_MAX {
            members.heard.insert(node.clone(), now);
        }
    }

    /// Another one has gone.
    pub(super) fn handle_left(&mut self, namespace: &str, node: &NodeId) {
        if let Some(members) = self.namespaces.get_mut(namespace) {
            members.heard.remove(node);
        }
    }

    pub(super) fn nodes(&self, namespace: &str) -> Vec<NodeId> {
        let members = self.namespaces.get(namespace);
        members.map(|members| members.heard.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let said = self.namespaces.values().map(|members| members.said + self.interval).min();
        said.into_iter().chain(self.sweep).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        for (namespace, members) in &mut self.namespaces {
            if now >= members.said + self.interval {
                members.said = now;
                due.heartbeats.push(namespace.clone());
            }
        }
        if self.sweep.is_some_and(|sweep| now >= sweep) {
            self.sweep = Some(now + SWEEP_INTERVAL.min(self.timeout));
            for (namespace, members) in &mut self.namespaces {
                let silent = |heard: &Instant| now >= *heard + self.timeout;
                let gone = members.heard.extract_if(|_, heard| silent(heard));
                due.gone.extend(gone.map(|(node, _)| (namespace.clone(), node)));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_node_is_gone_and_we_are_not_silent() {
        let start = Instant::now();
        let at = |seconds: u32| start + SECOND * seconds;
        let mut heartbeats = Heartbeats::new(SECOND * 5, SECOND * 10);
        assert_eq!(heartbeats.poll_timeout(), None);
        let root: Arc<str> = "/".into();
        heartbeats.subscribe(root.clone(), start);
        let [a, b] = ["a", "b"].map(NodeId::new);
        heartbeats.handle_heard("/", &a, start);
        heartbeats.handle_heard("/", &b, at(1));
        heartbeats.handle_heard("/other", &b, at(1));
        heartbeats.handle_said("/", at(3));
        assert_eq!(heartbeats.nodes("/").len(), 2);
        assert_eq!(heartbeats.nodes("/other"), []);
        let (mut said, mut gone) = (Vec::new(), Vec::new());
        while let Some(next) = heartbeats.poll_timeout().filter(|next| *next < at(20)) {
            let due = heartbeats.handle_timeout(next);
            said.extend(due.heartbeats.iter().map(|_| (next - start).as_secs()));
            gone.extend(due.gone.into_iter().map(|(_, node)| ((next - start).as_secs(), node)));
        }
        assert_eq!(said, [8, 13, 18]);
        assert_eq!(gone, [(10, a), (11, b)]);
        heartbeats.unsubscribe("/");
        assert_eq!(heartbeats.poll_timeout(), None);
    }

    #[test]
    fn the_names_of_nodes_come_from_outside_and_are_bounded() {
        let mut heartbeats = Heartbeats::new(SECOND, SECOND);
        heartbeats.subscribe("/".into(), Instant::now());
        for number in 0..=NODES_MAX {
            heartbeats.handle_heard("/", &NodeId::new(number.to_string()), Instant::now());
        }
        assert_eq!(heartbeats.nodes("/").len(), NODES_MAX);
        heartbeats.handle_left("/", &NodeId::new("0"));
        assert_eq!(heartbeats.nodes("/").len(), NODES_MAX - 1);
    }
}
