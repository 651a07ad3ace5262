//! Requests that wait for the answers of other nodes: who has answered, and when all have.
//! Pure: the time comes in, and who listens is a value that is dropped when a request is over.
//!
//! ```text
//! begin → who is there? → waits for each node → [acks: for each client that a node counted] → over
//!                            node gone: not for that one; counted again: not for those missing
//! ```

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bus::Nodes;
use super::message::{NodeId, RequestId};

/// How often the nodes are counted again while a request waits for some.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Requests<W> {
    open: HashMap<RequestId, Request<W>>,
}

struct Request<W> {
    namespace: Arc<str>,
    expected: Expected,
    /// The nodes that have answered and said who they are.
    answered: BTreeSet<NodeId>,
    /// The answers that did not tell whose they are.
    unnamed: usize,
    /// The clients that each node has asked, less those that answered.
    clients: HashMap<Option<NodeId>, i64>,
    /// When it is looked again who is there.
    next_count: Option<Instant>,
    waiter: W,
}

enum Expected {
    /// It is being found out.
    Unknown,
    /// These have not answered.
    Nodes(BTreeSet<NodeId>),
    /// So many will answer.
    Count {
        nodes: usize,
        /// How many had answered when fewer nodes were counted than were asked.
        suspected: Option<usize>,
    },
}

/// What an answer says of who is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All that a node has to say, or how many of its clients will answer.
    Node { clients: usize },
    /// One client.
    Client,
}

/// What never came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The nodes that said nothing.
    pub(crate) nodes: usize,
    /// The clients that nodes had asked.
    pub(crate) clients: usize,
}

impl<W> Default for Requests<W> {
    fn default() -> Self {
        Self { open: HashMap::new() }
    }
}

impl<W> Requests<W> {
    pub(super) fn begin(&mut self, id: RequestId, namespace: Arc<str>, waiter: W) {
        let request = Request {
            namespace,
            expected: Expected::Unknown,
            answered: BTreeSet::new(),
            unnamed: 0,
            clients: HashMap::new(),
            next_count: None,
            waiter,
        };
        self.open.insert(id, request);
    }

    /// The other nodes, which say by themselves when they go.
    pub(super) fn handle_members(&mut self, id: &RequestId, nodes: Vec<NodeId>) {
        if let Some(request) = self.open.get_mut(id) {
            request.handle_nodes(Nodes::Known(nodes));
            self.end_if_done(id);
        }
    }

    /// The other nodes, found out for the first time or again.
    pub(super) fn handle_nodes(&mut self, id: &RequestId, nodes: Nodes, now: Instant) {
        if let Some(request) = self.open.get_mut(id) {
            request.handle_nodes(nodes);
            request.next_count = Some(now + RECOUNT_INTERVAL);
            self.end_if_done(id);
        }
    }

    /// An answer came; `tell` hands it to who waits. One whose request is not open, or of a node
    /// that has answered, is passed over.
    pub(super) fn handle_answer(
        &mut self,
        id: &RequestId,
        sender: Option<&NodeId>,
        part: Part,
        tell: impl FnOnce(&W),
    ) {
        let Some(request) = self.open.get_mut(id) else { return };
        if request.take(sender, part) {
            tell(&request.waiter);
            self.end_if_done(id);
        }
    }

    /// A node is gone from a namespace: nobody waits for it.
    pub(super) fn handle_left(&mut self, namespace: &str, node: &NodeId) {
        let concerned = |request: &Request<W>| &*request.namespace == namespace;
        self.open.retain(|_, request| {
            if concerned(request) {
                request.forget(node);
            }
            !request.is_done()
        });
    }

    /// A request cannot be answered: who waits is told by `tell`.
    pub(super) fn fail(&mut self, id: &RequestId, tell: impl FnOnce(&W)) {
        if let Some(request) = self.open.remove(id) {
            tell(&request.waiter);
        }
    }

    /// Nobody waits any more. Returns what never came.
    pub(super) fn give_up(&mut self, id: &RequestId) -> Missing {
        self.open.remove(id).map(|request| request.missing()).unwrap_or_default()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.open.values().filter_map(|request| request.next_count).min()
    }

    /// The requests for which the nodes must be counted again.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<(RequestId, Arc<str>)> {
        let mut due = Vec::new();
        for (id, request) in &mut self.open {
            if request.next_count.is_some_and(|next_count| now >= next_count) {
                request.next_count = Some(now + RECOUNT_INTERVAL);
                due.push((id.clone(), request.namespace.clone()));
            }
        }
        due
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn end_if_done(&mut self, id: &RequestId) {
        if self.open.get(id).is_some_and(Request::is_done) {
            self.open.remove(id);
        }
    }
}

impl<W> Request<W> {
    fn answered_len(&self) -> usize {
        self.answered.len() + self.unnamed
    }

    /// Counts an answer; false if it is one too many.
    fn take(&mut self, sender: Option<&NodeId>, part: Part) -> bool {
        match part {
            Part::Client => {
                // It may overtake the count of its node: in a Redis Cluster, Node's servers publish
                // each by whichever node of Redis.
                let is_early = self.waits_for(sender);
                if !is_early && !self.clients.contains_key(&sender.cloned()) {
                    return false;
                }
                let asked = self.clients.entry(sender.cloned()).or_default();
                *asked -= 1;
                *asked >= 0 || is_early
            }
            Part::Node { clients } => {
                match sender {
                    Some(node) if !self.answered.insert(node.clone()) => return false,
                    Some(node) => {
                        if let Expected::Nodes(nodes) = &mut self.expected {
                            nodes.remove(node);
                        }
                    }
                    None => self.unnamed += 1,
                }
                let asked = self.clients.entry(sender.cloned()).or_default();
                // What is told comes from outside.
                *asked = asked.saturating_add(i64::try_from(clients).unwrap_or(i64::MAX));
                true
            }
        }
    }

    /// Whether a node has still to answer; of one that does not say who it is, whether any has.
    fn waits_for(&self, sender: Option<&NodeId>) -> bool {
        let has_answered = sender.is_some_and(|node| self.answered.contains(node));
        match &self.expected {
            Expected::Unknown => !has_answered,
            Expected::Nodes(nodes) => sender.map_or(!nodes.is_empty(), |node| nodes.contains(node)),
            Expected::Count { nodes, .. } => !has_answered && self.answered_len() < *nodes,
        }
    }

    fn handle_nodes(&mut self, found: Nodes) {
        let answered = self.answered_len();
        match (&mut self.expected, found) {
            (Expected::Unknown, Nodes::Known(nodes)) => {
                let silent = nodes.into_iter().filter(|node| !self.answered.contains(node));
                self.expected = Expected::Nodes(silent.collect());
            }
            (Expected::Unknown, Nodes::Count(nodes)) => {
                self.expected = Expected::Count { nodes, suspected: None };
            }
            (Expected::Nodes(waiting), Nodes::Known(nodes)) => {
                waiting.retain(|node| nodes.contains(node));
                let is_there =
                    |node: &Option<NodeId>| node.as_ref().is_none_or(|node| nodes.contains(node));
                self.clients.retain(|node, _| is_there(node));
            }
            // Fewer than were asked, and all of them may have answered: or one of those who have
            // is the one that has gone. Whoever is left has another interval's time.
            (Expected::Count { nodes, suspected }, Nodes::Count(count)) => {
                if count >= *nodes || answered < count {
                    *suspected = None;
                } else if *suspected == Some(answered) {
                    *nodes = answered;
                } else {
                    *suspected = Some(answered);
                }
            }
            (Expected::Nodes(_), Nodes::Count(_)) | (Expected::Count { .. }, Nodes::Known(_)) => {}
        }
    }

    fn forget(&mut self, node: &NodeId) {
        if let Expected::Nodes(nodes) = &mut self.expected {
            nodes.remove(node);
        }
        self.clients.remove(&Some(node.clone()));
    }

    fn missing(&self) -> Missing {
        let nodes = match &self.expected {
            // Nobody knows; at least it was not found out.
            Expected::Unknown => 1,
            Expected::Nodes(nodes) => nodes.len(),
            Expected::Count { nodes, .. } => nodes.saturating_sub(self.answered_len()),
        };
        let asked = self.clients.values().map(|asked| (*asked).max(0));
        let clients = asked.fold(0, i64::saturating_add);
        Missing { nodes, clients: usize::try_from(clients).unwrap_or(usize::MAX) }
    }

    fn is_done(&self) -> bool {
        self.missing() == Missing::default()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// A request that waits, and how many answers it was told; `None` when it is over.
    struct Fixture {
        requests: Requests<Rc<Cell<usize>>>,
        told: Rc<Cell<usize>>,
        now: Instant,
    }

    const NODE: Part = Part::Node { clients: 0 };

    impl Fixture {
        fn new() -> Self {
            let mut requests = Requests::default();
            let told = Rc::new(Cell::new(0));
            requests.begin(RequestId::new("r"), "/".into(), told.clone());
            Self { requests, told, now: Instant::now() }
        }

        fn id() -> RequestId {
            RequestId::new("r")
        }

        fn known(nodes: &[&str]) -> Self {
            let mut fixture = Self::new();
            let nodes = nodes.iter().map(|node| NodeId::new(*node)).collect();
            fixture.nodes(Nodes::Known(nodes));
            fixture
        }

        fn nodes(&mut self, nodes: Nodes) {
            self.requests.handle_nodes(&Self::id(), nodes, self.now);
        }

        fn answer(&mut self, sender: Option<&str>, part: Part) {
            let sender = sender.map(NodeId::new);
            let tell = |told: &Rc<Cell<usize>>| told.set(told.get() + 1);
            self.requests.handle_answer(&Self::id(), sender.as_ref(), part, tell);
        }

        fn is_open(&self) -> bool {
            Rc::strong_count(&self.told) == 2
        }

        /// Counts again, as often as it is due in two seconds.
        fn recount(&mut self, count: usize) {
            let end = self.now + 2 * RECOUNT_INTERVAL;
            while let Some(next) = self.requests.poll_timeout().filter(|next| *next <= end) {
                self.now = next;
                for (id, _) in self.requests.handle_timeout(next) {
                    self.requests.handle_nodes(&id, Nodes::Count(count), next);
                }
            }
        }
    }

    /// What another node says of its clients comes from outside.
    #[test]
    fn more_clients_than_can_be_counted_are_very_many() {
        let mut asked = Fixture::new();
        asked.nodes(Nodes::Count(3));
        for _ in 0..3 {
            asked.answer(None, Part::Node { clients: usize::MAX });
        }
        assert!(asked.is_open());
        let mut asked = Fixture::known(&["a", "b"]);
        for node in ["a", "b"] {
            asked.answer(Some(node), Part::Node { clients: usize::MAX });
        }
        assert!(asked.requests.give_up(&Fixture::id()).clients > 1 << 32);
    }

    #[test]
    fn it_is_over_when_all_have_answered() {
        let mut asked = Fixture::known(&["a", "b"]);
        asked.answer(Some("a"), NODE);
        asked.answer(Some("a"), NODE);
        assert!(asked.is_open(), "an answer counts once");
        asked.answer(Some("b"), NODE);
        assert!(!asked.is_open());
        assert_eq!(asked.told.get(), 2);
        assert!(!Fixture::known(&[]).is_open(), "nobody is there");
    }

    #[test]
    fn h75_nobody_waits_for_a_node_that_has_gone() {
        let mut asked = Fixture::known(&["a", "b"]);
        asked.requests.handle_left("/other", &NodeId::new("b"));
        asked.answer(Some("a"), Part::Node { clients: 2 });
        asked.answer(Some("a"), Part::Client);
        asked.requests.handle_left("/", &NodeId::new("b"));
        assert!(asked.is_open(), "a client of a has not answered");
        asked.requests.handle_left("/", &NodeId::new("a"));
        assert!(!asked.is_open());
    }

    #[test]
    fn clients_are_waited_for_when_their_node_has_counted_them() {
        let mut asked = Fixture::known(&["a", "b"]);
        asked.answer(Some("a"), Part::Node { clients: 1 });
        asked.answer(Some("b"), NODE);
        assert!(asked.is_open());
        asked.answer(Some("b"), Part::Client);
        assert_eq!(asked.told.get(), 2, "b has asked nobody");
        asked.answer(Some("a"), Part::Client);
        assert!(!asked.is_open());
    }

    #[test]
    fn a_client_may_overtake_the_count_of_its_node() {
        for (nodes, name) in [
            (Nodes::Known(vec![NodeId::new("a"), NodeId::new("b")]), Some(["a", "b"])),
            (Nodes::Count(2), None),
        ] {
            let [a, b] = name.map_or([None; 2], |names| names.map(Some));
            for early in [true, false] {
                let mut asked = Fixture::new();
                if early {
                    asked.answer(a, Part::Client);
                }
                asked.nodes(nodes.clone());
                if !early {
                    asked.answer(a, Part::Client);
                }
                asked.answer(b, NODE);
                asked.answer(a, Part::Node { clients: 2 });
                assert!(asked.is_open(), "one client of a has not answered");
                asked.answer(a, Part::Client);
                assert!(!asked.is_open());
                assert_eq!(asked.told.get(), 4);
            }
        }
    }

    #[test]
    fn what_comes_before_the_nodes_are_known_counts() {
        let mut asked = Fixture::new();
        asked.answer(Some("a"), NODE);
        assert!(asked.is_open());
        asked.nodes(Nodes::Known(vec![NodeId::new("a")]));
        assert!(!asked.is_open());
        let mut asked = Fixture::new();
        asked.answer(None, NODE);
        asked.answer(None, NODE);
        asked.nodes(Nodes::Count(2));
        assert!(!asked.is_open());
    }

    #[test]
    fn answers_without_names_are_counted() {
        let mut asked = Fixture::new();
        asked.nodes(Nodes::Count(2));
        asked.answer(None, Part::Node { clients: 1 });
        asked.answer(None, Part::Node { clients: 1 });
        asked.answer(None, Part::Client);
        assert_eq!(asked.requests.give_up(&Fixture::id()), Missing { nodes: 0, clients: 1 });
    }

    #[test]
    fn h75_a_node_that_is_not_counted_again_is_not_waited_for() {
        let mut asked = Fixture::new();
        asked.nodes(Nodes::Count(3));
        asked.answer(None, NODE);
        asked.recount(3);
        assert!(asked.is_open());
        asked.recount(2);
        assert!(asked.is_open(), "one of the two that are left has not answered");
        asked.answer(None, NODE);
        asked.recount(2);
        assert!(!asked.is_open());
    }

    #[test]
    fn h75_known_nodes_are_looked_for_again() {
        let mut asked = Fixture::known(&["a", "b"]);
        asked.answer(Some("a"), Part::Node { clients: 1 });
        let due = asked.requests.poll_timeout().expect("there is a next look");
        let due = asked.requests.handle_timeout(due);
        assert_eq!(due, [(Fixture::id(), "/".into())]);
        asked.nodes(Nodes::Known(vec![NodeId::new("a")]));
        assert!(asked.is_open(), "a client of a has not answered");
        asked.nodes(Nodes::Known(Vec::new()));
        assert!(!asked.is_open());
    }

    #[test]
    fn what_never_came_is_told() {
        let mut asked = Fixture::known(&["a", "b", "c"]);
        asked.answer(Some("a"), Part::Node { clients: 3 });
        asked.answer(Some("a"), Part::Client);
        assert_eq!(asked.requests.give_up(&Fixture::id()), Missing { nodes: 2, clients: 2 });
        assert_eq!(asked.requests.len(), 0);
        let mut failed = Fixture::new();
        failed.requests.fail(&Fixture::id(), |told| told.set(9));
        assert_eq!((failed.told.get(), failed.is_open()), (9, false));
    }
}
