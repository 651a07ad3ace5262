//! Which nodes take forwarded requests, by what is heard of them; and which of them a session
//! lives on, by its id. Pure: the time comes in. Does not know requests.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sockeye_proto::SessionId;

use super::super::message::NodeId;

/// The nodes that are believed in: their names come from outside.
const NODES_MAX: usize = 10_000;

/// The end of the ids of a node's sessions: 4 of their 20 characters, which say where they live.
/// 96 bits of an id stay random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag([u8; 3]);

impl Tag {
    /// The first 24 of the 64 bits of a node's id; `None` where the id is none of ours.
    pub(super) fn of_node(node: &NodeId) -> Option<Self> {
        let id = node.as_str();
        let is_ours = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(id, 16).ok().filter(|_| is_ours)?;
        let [a, b, c, ..] = number.to_be_bytes();
        Some(Self([a, b, c]))
    }

    pub(super) fn of_session(id: &SessionId) -> Self {
        let [.., a, b, c] = id.to_entropy();
        Self([a, b, c])
    }

    /// Makes random bytes those of an id of this node's.
    pub(crate) fn mark(self, entropy: &mut [u8; 15]) {
        entropy[12..].copy_from_slice(&self.0);
    }
}

pub(super) struct Directory {
    interval: Duration,
    timeout: Duration,
    /// When each was heard last. Two nodes may have one tag: one pair in 16 million.
    nodes: HashMap<Tag, Vec<(NodeId, Instant)>>,
    len: usize,
    /// When we said that we are here.
    said: Instant,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// We must say that we are here.
    pub(super) say: bool,
    /// Who has fallen silent.
    pub(super) gone: Vec<NodeId>,
}

impl Directory {
    /// We have just said that we are here.
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, nodes: HashMap::new(), len: 0, said: now }
    }

    /// A node said something. Returns whether it is new.
    pub(super) fn handle_heard(&mut self, node: &NodeId, now: Instant) -> bool {
        let Some(tag) = Tag::of_node(node) else { return false };
        let known =
            self.nodes.get_mut(&tag).and_then(|all| all.iter_mut().find(|it| it.0 == *node));
        if let Some((_, heard)) = known {
            *heard = now;
            return false;
        }
        let is_new = self.len < NODES_MAX;
        if is_new {
            self.len += 1;
            self.nodes.entry(tag).or_default().push((node.clone(), now));
        }
        is_new
    }

    /// A node has gone.
    pub(super) fn handle_left(&mut self, node: &NodeId) {
        self.nodes.retain(|_, all| {
            all.retain(|(other, _)| other != node);
            !all.is_empty()
        });
        self.count();
    }

    /// Where a session may live.
    pub(super) fn find(&self, tag: Tag) -> Vec<NodeId> {
        let all = self.nodes.get(&tag).into_iter().flatten();
        all.map(|(node, _)| node.clone()).collect()
    }

    pub(super) fn knows(&self, node: &NodeId) -> bool {
        let tag = Tag::of_node(node);
        let all = tag.and_then(|tag| self.nodes.get(&tag)).into_iter().flatten();
        all.into_iter().any(|(other, _)| other == node)
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        let heard = self.nodes.values().flatten().map(|(_, heard)| *heard + self.timeout);
        heard.chain([self.said + self.interval]).min().expect("there is one")
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        let say = now >= self.said + self.interval;
        if say {
            self.said = now;
        }
        let mut gone = Vec::new();
        let timeout = self.timeout;
        self.nodes.retain(|_, all| {
            let silent = all.extract_if(.., |(_, heard)| now >= *heard + timeout);
            gone.extend(silent.map(|(node, _)| node));
            !all.is_empty()
        });
        self.count();
        Due { say, gone }
    }

    fn count(&mut self) {
        self.len = self.nodes.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(node: &NodeId, random: u8) -> SessionId {
        let mut entropy = [random; 15];
        Tag::of_node(node).expect("it is one of ours").mark(&mut entropy);
        SessionId::from_entropy(entropy)
    }

    #[test]
    fn the_id_of_a_session_says_where_it_lives() {
        for name in ["0123456789abcdef", "ffffffffffffffff", "0000000000000000", "fbefbe0000000000"]
        {
            let node = NodeId::new(name);
            for random in [0, 1, 0x7f, 0xff] {
                assert_eq!(Some(Tag::of_session(&id(&node, random))), Tag::of_node(&node));
            }
        }
        for foreign in ["", "by_2Ua", "0123456789abcdeg", "0123456789abcdef0", "+123456789abcdef"] {
            assert_eq!(Tag::of_node(&NodeId::new(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn silent_nodes_are_gone_and_we_are_not_silent() {
        let start = Instant::now();
        let at = |seconds: u32| start + SECOND * seconds;
        let mut directory = Directory::new(SECOND * 3, SECOND * 10, start);
        // The same tag.
        let [a, b] = ["0123456789abcdef", "012345ffffffffff"].map(NodeId::new);
        assert!(directory.handle_heard(&a, at(0)));
        assert!(directory.handle_heard(&b, at(1)));
        assert!(!directory.handle_heard(&b, at(2)));
        assert_eq!(directory.find(Tag::of_session(&id(&a, 3))), [a.clone(), b.clone()]);
        let (mut said, mut gone) = (Vec::new(), Vec::new());
        while directory.poll_timeout() < at(15) {
            let next = directory.poll_timeout();
            let due = directory.handle_timeout(next);
            said.extend(due.say.then(|| (next - start).as_secs()));
            gone.extend(due.gone.into_iter().map(|node| ((next - start).as_secs(), node)));
        }
        assert_eq!(said, [3, 6, 9, 12]);
        assert_eq!(gone, [(10, a.clone()), (12, b)]);
        assert!(!directory.knows(&a) && directory.find(Tag::of_session(&id(&a, 3))).is_empty());
    }

    #[test]
    fn the_names_of_nodes_come_from_outside_and_are_bounded() {
        let now = Instant::now();
        let mut directory = Directory::new(SECOND, SECOND, now);
        let node = |number: usize| NodeId::new(format!("{number:016x}"));
        for number in 0..=NODES_MAX {
            directory.handle_heard(&node(number << 40), now);
        }
        assert!(directory.knows(&node(0)) && !directory.knows(&node(NODES_MAX << 40)));
        directory.handle_left(&node(0));
        assert!(directory.handle_heard(&node(NODES_MAX << 40), now));
    }
}
