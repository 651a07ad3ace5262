//! Acknowledgements of broadcasts: one packet asks many sockets, their answers come as a stream.
//! Does not know rooms or outboxes; whoever broadcasts says whom it asked.
//!
//! A namespace keeps what was asked, not each socket: an idle socket holds nothing for it, and an
//! entry goes when all have answered, when its time is over, or when nobody listens any more.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use sockeye_proto::SocketId;
use sockeye_proto::socket::OwnedArgs;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::cluster::{Answer as ClusterAnswer, Asked as AskedNodes};
use crate::error::AckError;

/// The answer of one socket, or `None` when it has gone.
type Answer = (SocketId, Option<OwnedArgs>);

/// The same, of a socket of any node, or why there is none.
type Raw = (Option<SocketId>, Result<OwnedArgs, AckError>);

/// The broadcasts of one namespace that wait for answers, by acknowledgement id.
#[derive(Clone, Default)]
pub(crate) struct AckTable(Arc<Mutex<HashMap<u64, Arc<Asked>>>>);

/// One such broadcast.
#[derive(Default)]
struct Asked(Mutex<State>);

#[derive(Default)]
struct State {
    /// Those who have not answered. Ordered, so that those who never do are told in one order.
    pending: BTreeSet<SocketId>,
    /// `None` when the question has been sent and everything has been said.
    answers: Option<mpsc::UnboundedSender<Answer>>,
}

impl AckTable {
    /// Asks: `send` sends the packet and adds each socket that it was sent to. No answer is lost,
    /// however soon it comes.
    pub(crate) fn ask<T>(
        &self,
        id: u64,
        limit: Duration,
        send: impl FnOnce(&mut dyn FnMut(SocketId)),
    ) -> Acks<T> {
        let (mut acks, question) = self.prepare(id, limit);
        acks.count = question.send(send);
        acks
    }

    /// As [`ask`](Self::ask), where the question is sent later. Until then there is no end.
    pub(crate) fn prepare<T>(&self, id: u64, limit: Duration) -> (Acks<T>, Question) {
        let (sender, answers) = mpsc::unbounded_channel();
        let asked = Arc::new(Asked::default());
        asked.0.lock().answers = Some(sender);
        self.0.lock().insert(id, asked.clone());
        let question = Question(asked.clone());
        let timer = Box::pin(tokio::time::sleep(limit));
        let entry = Entry { table: self.clone(), id, asked };
        let (remote, overdue) = (None, Vec::new());
        (Acks { entry, count: 0, answers, remote, timer, overdue, types: PhantomData }, question)
    }

    /// An answer came from a socket. One that was not asked, or has answered, is passed over.
    pub(crate) fn acknowledge(&self, id: u64, socket: SocketId, args: OwnedArgs) {
        let asked = self.0.lock().get(&id).cloned();
        if let Some(asked) = asked {
            asked.0.lock().settle(socket, Some(args));
        }
    }

    /// A socket has gone: nobody waits for its answers.
    pub(crate) fn forget(&self, socket: SocketId) {
        let all: Vec<_> = {
            let table = self.0.lock();
            if table.is_empty() {
                return;
            }
            table.values().cloned().collect()
        };
        all.iter().for_each(|asked| asked.0.lock().settle(socket, None));
    }
}

/// A question that has not been sent.
pub(crate) struct Question(Arc<Asked>);

impl Question {
    /// Sends it as [`AckTable::ask`] does. Returns how many were asked.
    pub(crate) fn send(self, send: impl FnOnce(&mut dyn FnMut(SocketId))) -> usize {
        let mut count = 0;
        let mut state = self.0.0.lock();
        send(&mut |socket| {
            count += 1;
            state.pending.insert(socket);
        });
        if state.answers.is_none() {
            // Nobody waits any more.
            state.pending.clear();
        }
        count
    }
}

impl Drop for Question {
    /// It has been sent, or will not be.
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        if state.pending.is_empty() {
            state.answers = None;
        }
    }
}

impl Asked {
    /// Nobody is waited for any more. Returns those who have not answered, last first.
    fn give_up(&self) -> Vec<SocketId> {
        let mut state = self.0.lock();
        state.answers = None;
        std::mem::take(&mut state.pending).into_iter().rev().collect()
    }
}

impl State {
    fn settle(&mut self, socket: SocketId, answer: Option<OwnedArgs>) {
        if !self.pending.remove(&socket) {
            return;
        }
        if let Some(answers) = &self.answers {
            // Whoever listened is just being dropped.
            let _ = answers.send((socket, answer));
        }
        if self.pending.is_empty() {
            self.answers = None;
        }
    }
}

/// A place in the table, given back when dropped.
struct Entry {
    table: AckTable,
    id: u64,
    asked: Arc<Asked>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.0.lock().remove(&self.id);
    }
}

/// The answers to a broadcast, in the order in which they come: a [`Stream`] of each socket that
/// was asked and its answer's first argument, or why there is none. Each socket comes once.
/// A socket of another node has no id where the cluster's bus does not carry it (Redis buses, as
/// Node's, do not): `None`.
/// Made by [`TimedBroadcast::emit_with_ack`](crate::TimedBroadcast::emit_with_ack).
///
/// When the time is over, those who have not answered come with [`AckError::Timeout`]; a socket
/// that goes comes with [`AckError::Disconnected`] at once (one of another node runs out of time,
/// as with Node's adapters), a node that did not say whom it asked with [`AckError::Node`]; a node
/// that is known to have gone is not waited for. Dropped, it forgets the answers that
/// are still to come.
#[must_use = "the answers come by iterating"]
pub struct Acks<T> {
    entry: Entry,
    /// The sockets of this node that were asked.
    count: usize,
    answers: mpsc::UnboundedReceiver<Answer>,
    /// The other nodes, until all have answered.
    remote: Option<AskedNodes>,
    timer: Pin<Box<Sleep>>,
    /// Those whose time is over and who have not been told yet, last first.
    overdue: Vec<(Option<SocketId>, AckError)>,
    types: PhantomData<fn() -> T>,
}

/// All answers to a broadcast; see [`Acks::collect`].
#[derive(Debug)]
pub struct CollectedAcks<T> {
    /// Those that came, in their order.
    pub answers: Vec<(Option<SocketId>, T)>,
    /// The sockets (and nodes) that gave none, and why.
    pub failures: Vec<(Option<SocketId>, AckError)>,
}

impl<T> Acks<T> {
    /// How many sockets of this node were asked.
    pub(crate) fn asked(&self) -> usize {
        self.count
    }

    /// Waits for other nodes, too.
    pub(crate) fn with_nodes(mut self, remote: Option<AskedNodes>) -> Self {
        self.remote = remote;
        self
    }

    /// The next answer, unread.
    pub(crate) async fn next_raw(&mut self) -> Option<Raw> {
        std::future::poll_fn(|cx| self.poll_raw(cx)).await
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<Option<Raw>> {
        let named = |(socket, args): Answer| (Some(socket), args.ok_or(AckError::Disconnected));
        loop {
            // What has come goes first, also when the time is over.
            if let Poll::Ready(Some(answer)) = self.answers.poll_recv(cx) {
                return Poll::Ready(Some(named(answer)));
            }
            if let Poll::Ready(Some(answer)) = self.poll_remote(cx) {
                return Poll::Ready(Some(answer));
            }
            if let Some((socket, error)) = self.overdue.pop() {
                return Poll::Ready(Some((socket, Err(error))));
            }
            if self.remote.is_none() && self.entry.asked.0.lock().answers.is_none() {
                // An answer may have come between the two looks.
                return self.answers.poll_recv(cx).map(|last| last.map(named));
            }
            ready!(self.timer.as_mut().poll(cx));
            self.give_up();
        }
    }

    fn poll_remote(&mut self, cx: &mut Context<'_>) -> Poll<Option<Raw>> {
        let Some(remote) = &mut self.remote else { return Poll::Ready(None) };
        let answer = match ready!(remote.poll_next(cx)) {
            Some(ClusterAnswer::Ack(socket, args)) => (socket, Ok(args)),
            Some(_) => (None, Err(AckError::Node)),
            None => {
                self.remote = None;
                return Poll::Ready(None);
            }
        };
        Poll::Ready(Some(answer))
    }

    /// The time is over.
    fn give_up(&mut self) {
        let missing = self.remote.take().map(|mut remote| remote.give_up()).unwrap_or_default();
        self.overdue.extend((0..missing.nodes).map(|_| (None, AckError::Node)));
        self.overdue.extend((0..missing.clients).map(|_| (None, AckError::Timeout)));
        let here = self.entry.asked.give_up().into_iter();
        self.overdue.extend(here.map(|socket| (Some(socket), AckError::Timeout)));
    }
}

impl<T: DeserializeOwned> Acks<T> {
    /// The next answer; `None` when every socket that was asked has come.
    ///
    /// # Cancel safety
    /// Dropped, nothing is lost.
    pub async fn next(&mut self) -> Option<(Option<SocketId>, Result<T, AckError>)> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Waits until every socket has answered, gone, or run out of time. What has come is there in
    /// any case.
    pub async fn collect(mut self) -> CollectedAcks<T> {
        let mut all = CollectedAcks { answers: Vec::new(), failures: Vec::new() };
        while let Some((socket, answer)) = self.next().await {
            match answer {
                Ok(answer) => all.answers.push((socket, answer)),
                Err(error) => all.failures.push((socket, error)),
            }
        }
        all
    }
}

impl<T: DeserializeOwned> Stream for Acks<T> {
    type Item = (Option<SocketId>, Result<T, AckError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(self.poll_raw(cx));
        Poll::Ready(answer.map(|(socket, answer)| (socket, answer.and_then(read))))
    }
}

fn read<T: DeserializeOwned>(args: OwnedArgs) -> Result<T, AckError> {
    args.cursor().next().map_err(|error| AckError::Data(error.to_string()))
}

impl<T> fmt::Debug for Acks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.entry.asked.0.lock().pending.len();
        f.debug_struct("Acks").field("pending", &pending).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_what_is_over() {
        let table = AckTable::default();
        let limit = Duration::from_secs(1);
        let ids = [1, 2].map(|number| SocketId::from_entropy([number; 15]));
        let answered: Acks<()> = table.ask(1, limit, |ask| ids.into_iter().for_each(ask));
        let timed_out: Acks<()> = table.ask(2, limit, |ask| ids.into_iter().for_each(ask));
        let dropped: Acks<()> = table.ask(3, limit, |ask| ids.into_iter().for_each(ask));
        ids.iter().for_each(|id| table.acknowledge(1, *id, OwnedArgs::default()));
        assert_eq!(answered.collect().await.answers.len(), 2);
        table.forget(ids[0]);
        let failures = timed_out.collect().await.failures;
        assert!(matches!(failures[..], [(_, AckError::Disconnected), (_, AckError::Timeout)]));
        assert_eq!(table.0.lock().len(), 1);
        drop(dropped);
        assert!(table.0.lock().is_empty());
    }
}
