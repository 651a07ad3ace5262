//! A long-polling request that the connection's task has been told of, and its answer.
//! Does not know HTTP, nor whether the client speaks to this node or to another one.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::peer::{Command, GetAnswer, Peer, PostAnswer};

/// Waits for the task. Dropped before the answer has come, its client has gone.
pub(crate) struct Asked<T> {
    peer: Option<Arc<Peer>>,
    waiting: oneshot::Receiver<T>,
    /// What the task is told then; an answer that has come since is lost.
    aborted: fn(Option<T>) -> Command,
}

impl Asked<GetAnswer> {
    pub(crate) fn get(peer: Arc<Peer>) -> Self {
        let (answer, waiting) = oneshot::channel();
        peer.command(Command::Get(answer));
        Self { peer: Some(peer), waiting, aborted: get_aborted }
    }
}

impl Asked<PostAnswer> {
    /// A POST whose body has come.
    pub(crate) fn post(peer: Arc<Peer>, body: Bytes, is_binary: bool) -> Self {
        let (answer, waiting) = oneshot::channel();
        peer.command(Command::WholePost { answer, body, is_binary });
        Self { peer: Some(peer), waiting, aborted: |_| Command::PostAborted { gone: true } }
    }
}

impl<T> Asked<T> {
    /// The answer; `None` if the session ended before it took the request.
    pub(crate) async fn answer(mut self) -> Option<T> {
        poll_fn(|cx| self.poll_answer(cx)).await.0
    }

    /// As [`answer`](Self::answer), and who was asked; not to be called again when it was ready.
    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<(Option<T>, Arc<Peer>)> {
        let answer = ready!(Pin::new(&mut self.waiting).poll(cx));
        let peer = self.peer.take().expect("it was not ready before");
        Poll::Ready((answer.ok(), peer))
    }
}

/// A GET's payload that is not on its way yet. Dropped before it is, its client has gone, and what
/// is in it is lost.
pub(crate) struct Leaving(Option<Arc<Peer>>);

impl Leaving {
    pub(crate) fn of(peer: Arc<Peer>) -> Self {
        Self(Some(peer))
    }

    /// It leaves.
    pub(crate) fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(peer) = self.0.take() {
            peer.command(Command::GetLost);
        }
    }
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        if let Some(peer) = self.peer.take() {
            self.waiting.close();
            peer.command((self.aborted)(self.waiting.try_recv().ok()));
        }
    }
}

fn get_aborted(answer: Option<GetAnswer>) -> Command {
    match answer {
        Some(GetAnswer::Payload(_)) => Command::GetLost,
        Some(GetAnswer::Refused) | None => Command::GetAborted,
    }
}
