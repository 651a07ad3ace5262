//! A long-polling request that the connection's task has been told of, and its answer.
//! Does not know HTTP, nor whether the client speaks to this node or to another one.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::peer::{Command, GetAnswer, Peer, PostAnswer};

/// Waits for the task. Dropped before the answer has come, its client has gone.
pub(crate) struct Asked<T> {
    peer: Option<Arc<Peer>>,
    waiting: oneshot::Receiver<T>,
    aborted: fn() -> Command,
}

impl Asked<GetAnswer> {
    pub(crate) fn get(peer: Arc<Peer>) -> Self {
        let (answer, waiting) = oneshot::channel();
        peer.command(Command::Get(answer));
        Self { peer: Some(peer), waiting, aborted: || Command::GetAborted }
    }
}

impl Asked<PostAnswer> {
    /// A POST whose body has come.
    pub(crate) fn post(peer: Arc<Peer>, body: Bytes, is_binary: bool) -> Self {
        let (answer, waiting) = oneshot::channel();
        peer.command(Command::Post(answer));
        peer.command(Command::PostBody { body, is_binary });
        Self { peer: Some(peer), waiting, aborted: || Command::PostAborted { gone: true } }
    }
}

impl<T> Asked<T> {
    /// The answer; `None` if the session ended before it took the request.
    pub(crate) async fn answer(mut self) -> Option<T> {
        let answer = (&mut self.waiting).await;
        self.peer = None;
        answer.ok()
    }
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        if let Some(peer) = self.peer.take() {
            peer.command((self.aborted)());
        }
    }
}
