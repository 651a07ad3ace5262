//! Requests of clients whose sessions live on other nodes: which node is asked, who waits for its
//! answer, and (`serving.rs`) what others ask here. Does not know HTTP.
//!
//! A session's id names its node, so a request goes to one node and nobody is asked around. What a
//! client can make the cluster do is one message there and one back for each request of its own.

mod directory;
mod message;
mod serving;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sockeye_proto::SessionId;
use sockeye_proto::engine::{RequestError, Revision};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::directory::Directory;
pub(crate) use self::directory::Tag;
pub use self::message::Forward;
use self::message::Said;
pub(crate) use self::message::{Answer, Forwarded};
use self::serving::Held;
use super::bus::Envelope;
use super::message::{ClusterBody, ClusterMessage, NodeId};
use super::node::ClusterNode;
use super::queue::Queue;
use crate::config::ForwardingConfig;

/// The namespace that the messages are about: every node has it.
const ROOT: &str = "/";
/// For so long after it has begun to hear of the others, a node does not know that a node which it
/// has not heard of is none.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// One node's part in it.
pub(crate) struct Forwarding {
    node: ClusterNode,
    tag: Tag,
    queue: Arc<Queue>,
    limits: ForwardingConfig,
    root: Arc<str>,
    state: Mutex<State>,
    /// Bodies of POSTs that are on their way.
    body_bytes: AtomicUsize,
    /// A node has been heard of, or a request is over.
    changed: Notify,
    /// The time of the next deadline may have changed.
    rearmed: Notify,
}

struct State {
    directory: Directory,
    settled_at: Instant,
    last_number: u64,
    /// Of our clients' requests.
    waiting: HashMap<u64, Waiting>,
    /// Requests of our clients that are under way, also those that are not asked yet.
    under_way: usize,
    /// What other nodes wait for.
    held: HashMap<(NodeId, u64), Held>,
}

struct Waiting {
    owner: NodeId,
    session: SessionId,
    waiter: oneshot::Sender<Result<Answer, NotForwarded>>,
}

/// Why a request cannot be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotForwarded {
    /// Its session lives nowhere.
    Unknown,
    /// Too many are under way, or too much.
    Busy,
    /// The bus does not carry it, or no answer came in time.
    Failed,
}

impl Forwarding {
    pub(super) fn new(node: ClusterNode, queue: Arc<Queue>, limits: ForwardingConfig) -> Self {
        let now = Instant::now();
        let directory = Directory::new(limits.interval, limits.timeout, now.into_std());
        let state = State {
            directory,
            settled_at: now + SETTLE_TIME,
            last_number: 0,
            waiting: HashMap::new(),
            under_way: 0,
            held: HashMap::new(),
        };
        Self {
            tag: Tag::of_node(node.id()).expect("our own id"),
            node,
            queue,
            limits,
            root: ROOT.into(),
            state: Mutex::new(state),
            body_bytes: AtomicUsize::new(0),
            changed: Notify::new(),
            rearmed: Notify::new(),
        }
    }

    /// What the ids of this node's sessions end with.
    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    /// How many requests of our clients are under way.
    pub(super) fn under_way(&self) -> usize {
        self.state.lock().under_way
    }

    /// Says that we are here, each interval, and notes who is not any more, until the queue is
    /// closed.
    pub(super) async fn keep_time(self: Arc<Self>) {
        // A bus that has not begun to hear says when it has.
        if !self.node.is_deaf() {
            self.say(None, Said::Here { is_new: true });
        }
        while !self.queue.is_closed() {
            let rearmed = self.rearmed.notified();
            let next = self.state.lock().directory.poll_timeout();
            tokio::select! {
                () = rearmed => continue,
                () = tokio::time::sleep_until(Instant::from_std(next)) => {}
            }
            let due = self.state.lock().directory.handle_timeout(Instant::now().into_std());
            if due.say {
                self.say(None, Said::Here { is_new: false });
            }
            due.gone.iter().for_each(|node| self.handle_gone(node));
        }
    }

    /// Says goodbye; nobody answers any more.
    pub(super) fn leave(&self) {
        self.fail_asked(None);
        self.say(None, Said::Leave);
    }

    /// The queue has been closed.
    pub(super) fn end(&self) {
        self.rearmed.notify_one();
    }

    /// Takes a place for one request; it holds it until it is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<UnderWay, NotForwarded> {
        let mut state = self.state.lock();
        if state.under_way >= self.limits.requests_max {
            return Err(NotForwarded::Busy);
        }
        state.under_way += 1;
        Ok(UnderWay { forwarding: self.clone(), body_bytes: 0, held: None })
    }

    /// Says something; false if the queue does not take it.
    fn say(&self, to: Option<&NodeId>, said: Said) -> bool {
        let forward = Forward(said);
        // What is forwarded must leave room for broadcasts; alone it always fits.
        let (len, waits) = (forward.body_len(), self.queue.bytes());
        if len > 0 && waits > 0 && waits + len > self.queue.bytes_max() / 2 {
            return false;
        }
        let body = ClusterBody::Forward(forward);
        let sender = Some(self.node.id().clone());
        let message = ClusterMessage { sender, namespace: self.root.clone(), body };
        self.queue.push(Some(Envelope { to: to.cloned(), message }), None)
    }

    fn handle_heard(&self, node: &NodeId) {
        if self.state.lock().directory.handle_heard(node, Instant::now().into_std()) {
            self.changed.notify_waiters();
            self.rearmed.notify_one();
        }
    }

    /// A node has gone: its sessions are gone, and so are the clients that it spoke for.
    pub(super) fn handle_gone(&self, node: &NodeId) {
        let mut state = self.state.lock();
        state.directory.handle_left(node);
        let waiting: Vec<_> =
            state.waiting.extract_if(|_, waiting| waiting.owner == *node).collect();
        let held: Vec<_> = state.held.extract_if(|(relay, _), _| relay == node).collect();
        drop(state);
        for (_, Waiting { waiter, .. }) in waiting {
            // Whoever asked is just being dropped.
            let _ = waiter.send(Err(NotForwarded::Unknown));
        }
        // Dropping them says so.
        drop(held);
    }

    /// Nothing is heard any more, so no answer either; or (`false`) it is again, and what was
    /// answered meanwhile has come to nobody.
    pub(super) fn set_deaf(&self, is_deaf: bool) {
        self.fail_asked(None);
        if !is_deaf {
            self.state.lock().settled_at = Instant::now() + SETTLE_TIME;
            self.say(None, Said::Here { is_new: true });
        }
    }

    /// Fails all requests, or those that one node was asked: it hears from now on, and they may
    /// have come to nobody, which no answer would ever tell. The clients lose their sessions,
    /// whether something was lost or not.
    fn fail_asked(&self, node: Option<&NodeId>) {
        let mut state = self.state.lock();
        let is_asked = |waiting: &Waiting| node.is_none_or(|node| waiting.owner == *node);
        let waiting: Vec<_> = state.waiting.extract_if(|_, waiting| is_asked(waiting)).collect();
        drop(state);
        for (_, Waiting { owner, session, waiter }) in waiting {
            let _ = waiter.send(Err(NotForwarded::Failed));
            self.say(Some(&owner), Said::Broken { session });
        }
    }

    /// A message could not be published.
    pub(super) fn handle_unpublished(&self, message: &ClusterMessage) {
        if let ClusterBody::Forward(Forward(Said::Request { number, .. })) = message.body
            && let Some(Waiting { waiter, .. }) = self.state.lock().waiting.remove(&number)
        {
            let _ = waiter.send(Err(NotForwarded::Failed));
        }
    }

    fn handle_answer(&self, sender: &NodeId, number: u64, answer: &Answer) {
        let mut state = self.state.lock();
        if state.waiting.get(&number).is_some_and(|waiting| waiting.owner == *sender)
            && let Some(Waiting { waiter, session, .. }) = state.waiting.remove(&number)
        {
            drop(state);
            if let Err(Ok(Answer::Payload(_))) = waiter.send(Ok(answer.clone())) {
                self.say(Some(sender), Said::Broken { session });
            }
        }
    }

    fn are_waiting(&self, some: &[(u64, NodeId)]) -> bool {
        let state = self.state.lock();
        some.iter().any(|(number, _)| state.waiting.contains_key(number))
    }

    /// Ends the GETs that our clients wait with, without harm to their sessions; returns when they
    /// have been answered, at the latest after `limit`. What comes meanwhile is not waited for.
    pub(crate) async fn release(&self, limit: Duration) {
        let waiting: Vec<_> = {
            let state = self.state.lock();
            state.waiting.iter().map(|(number, it)| (*number, it.owner.clone())).collect()
        };
        for (number, owner) in &waiting {
            self.say(Some(owner), Said::Release { number: *number });
        }
        let all = async {
            loop {
                let changed = self.changed.notified();
                if !self.are_waiting(&waiting) {
                    return;
                }
                changed.await;
            }
        };
        // Those that are left fail when the bus is closed.
        let _ = tokio::time::timeout(limit, all).await;
    }
}

/// A request of a client that is being forwarded, and its place.
pub(crate) struct UnderWay {
    forwarding: Arc<Forwarding>,
    body_bytes: usize,
    /// What its session cannot do without, and is here alone.
    held: Option<(Vec<NodeId>, SessionId)>,
}

impl UnderWay {
    /// The nodes on which a session may live: one, but where two have the same tag.
    ///
    /// # Errors
    /// It lives nowhere; or nobody can know, as this node is deaf.
    pub(crate) async fn owners(&self, session: &SessionId) -> Result<Vec<NodeId>, NotForwarded> {
        let tag = Tag::of_session(session);
        loop {
            let changed = self.forwarding.changed.notified();
            let settled_at = {
                let state = self.forwarding.state.lock();
                let owners = state.directory.find(tag);
                // What one of our own ids says has been looked up already.
                let is_over = tag == self.forwarding.tag || Instant::now() >= state.settled_at;
                if !owners.is_empty() {
                    return Ok(owners);
                } else if is_over && self.forwarding.node.is_deaf() {
                    return Err(NotForwarded::Failed);
                } else if is_over {
                    return Err(NotForwarded::Unknown);
                }
                state.settled_at
            };
            // Whoever comes: it is looked again.
            let _ = tokio::time::timeout_at(settled_at, changed).await;
        }
    }

    /// So many more bytes of a body have come; false if there is no room for them.
    pub(crate) fn take_bytes(&mut self, bytes: usize) -> bool {
        let Forwarding { body_bytes, limits, .. } = &*self.forwarding;
        self.body_bytes += bytes;
        body_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= limits.bytes_max
    }

    /// Asks the session's node.
    ///
    /// # Cancel safety
    /// Dropped, the node is told that the client has gone.
    pub(crate) async fn ask(
        &self,
        owners: &[NodeId],
        session: SessionId,
        revision: Revision,
        request: Forwarded,
        limit: Duration,
    ) -> Result<Answer, NotForwarded> {
        for owner in owners {
            let request = request.clone();
            let asked = Asked::new(&self.forwarding, owner.clone(), session, revision, request)?;
            let answer = asked.answer(limit).await?;
            if answer != Answer::Refused(RequestError::SessionUnknown) {
                return Ok(answer);
            }
        }
        Err(NotForwarded::Unknown)
    }

    /// A part of a POST's body is here, or a payload that has not left. Dropped before
    /// [`let_go`](Self::let_go), the client has gone, and its session ends.
    pub(crate) fn hold(&mut self, owners: &[NodeId], session: SessionId) {
        self.held = Some((owners.to_vec(), session));
    }

    /// It has come whole, or is refused; or it leaves.
    pub(crate) fn let_go(&mut self) {
        self.held = None;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some((owners, session)) = self.held.take() {
            for owner in owners {
                self.forwarding.say(Some(&owner), Said::Broken { session });
            }
        }
        self.forwarding.body_bytes.fetch_sub(self.body_bytes, Ordering::Relaxed);
        self.forwarding.state.lock().under_way -= 1;
        // Nobody waits for it but a node that has just come, or goes.
        self.forwarding.changed.notify_waiters();
    }
}

/// A request that a node has been asked.
struct Asked<'a> {
    forwarding: &'a Forwarding,
    number: u64,
    owner: NodeId,
    session: SessionId,
    is_get: bool,
    answer: oneshot::Receiver<Result<Answer, NotForwarded>>,
}

impl<'a> Asked<'a> {
    fn new(
        forwarding: &'a Forwarding,
        owner: NodeId,
        session: SessionId,
        revision: Revision,
        request: Forwarded,
    ) -> Result<Self, NotForwarded> {
        let (waiter, answer) = oneshot::channel();
        let is_get = matches!(request, Forwarded::Get);
        let mut state = forwarding.state.lock();
        if !state.directory.knows(&owner) {
            return Err(NotForwarded::Unknown);
        }
        state.last_number += 1;
        let number = state.last_number;
        state.waiting.insert(number, Waiting { owner: owner.clone(), session, waiter });
        drop(state);
        let said = Said::Request { number, session, revision, request };
        if forwarding.say(Some(&owner), said) {
            return Ok(Self { forwarding, number, owner, session, is_get, answer });
        }
        forwarding.state.lock().waiting.remove(&number);
        Err(NotForwarded::Busy)
    }

    async fn answer(mut self, limit: Duration) -> Result<Answer, NotForwarded> {
        match tokio::time::timeout(limit, &mut self.answer).await {
            Ok(answer) => answer.unwrap_or(Err(NotForwarded::Failed)),
            Err(_) => Err(NotForwarded::Failed),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let (number, session) = (self.number, self.session);
        let is_waiting = self.forwarding.state.lock().waiting.remove(&number).is_some();
        if is_waiting {
            let said = match self.is_get {
                true => Said::GetAborted { number, session },
                false => Said::Aborted { number },
            };
            self.forwarding.say(Some(&self.owner), said);
            return;
        }
        // What came a moment ago is taken by nobody.
        self.answer.close();
        if let Ok(Ok(Answer::Payload(_))) = self.answer.try_recv() {
            self.forwarding.say(Some(&self.owner), Said::Broken { session });
        }
    }
}
