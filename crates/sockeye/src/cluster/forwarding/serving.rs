//! What other nodes ask for clients whose sessions live here: the session's task is told as by a
//! request of this node's own. Does not know how questions and answers travel.

use std::sync::Arc;

use sockeye_proto::SessionId;
use sockeye_proto::engine::{BadRequest, RequestError, Revision, Transport};
use tokio::sync::oneshot;

use super::super::message::NodeId;
use super::message::{Answer, Forward, Forwarded, Said};
use super::{Forwarding, Tag};
use crate::connection::{Asked, Command, GetAnswer, Peer, PostAnswer};
use crate::server::Server;

/// A request that another node waits with.
pub(super) struct Held {
    peer: Arc<Peer>,
    /// Dropped, the client has gone.
    _abort: oneshot::Sender<()>,
}

/// What the session's task has been told of.
enum Told {
    Get(Asked<GetAnswer>),
    Post(Asked<PostAnswer>),
}

impl Forwarding {
    /// Another node says something.
    pub(in crate::cluster) fn handle(
        self: &Arc<Self>,
        server: &Server,
        sender: &NodeId,
        forward: &Forward,
    ) {
        if matches!(forward.0, Said::Leave) {
            return self.handle_gone(sender);
        }
        self.handle_heard(sender);
        match &forward.0 {
            Said::Here { is_new: false } | Said::Leave => {}
            Said::Here { is_new: true } => {
                self.fail_asked(Some(sender));
                self.say(Some(sender), Said::Here { is_new: false });
            }
            Said::Answer { number, answer } => self.handle_answer(sender, *number, answer),
            Said::Aborted { number } => {
                let held = self.state.lock().held.remove(&(sender.clone(), *number));
                drop(held);
            }
            Said::GetAborted { number, session } => {
                let held = self.state.lock().held.remove(&(sender.clone(), *number));
                if held.is_none()
                    && let Some(peer) = server.session(session)
                {
                    // It has been answered, to nobody.
                    peer.command(Command::GetLost);
                }
            }
            Said::Release { number } => {
                if let Some(held) = self.state.lock().held.get(&(sender.clone(), *number)) {
                    held.peer.command(Command::Release);
                }
            }
            // A bus that cannot speak to one node may speak to all.
            Said::Request { session, .. } | Said::Broken { session }
                if Tag::of_session(session) != self.tag => {}
            Said::Broken { session } => {
                if let Some(peer) = server.session(session) {
                    let (answer, _) = oneshot::channel();
                    peer.command(Command::Post(answer));
                    peer.command(Command::PostAborted { gone: true });
                }
            }
            Said::Request { number, session, revision, request } => {
                match tell(server, session, *revision, request) {
                    Ok((peer, told)) => self.hold(peer, told, sender.clone(), *number),
                    Err(answer) => {
                        self.say(Some(sender), Said::Answer { number: *number, answer });
                    }
                }
            }
        }
    }

    /// Answers when the session does, unless the client goes before.
    fn hold(self: &Arc<Self>, peer: Arc<Peer>, told: Told, relay: NodeId, number: u64) {
        let (abort, aborted) = oneshot::channel();
        let held = Held { peer: peer.clone(), _abort: abort };
        self.state.lock().held.insert((relay.clone(), number), held);
        let forwarding = self.clone();
        tokio::spawn(async move {
            let answer = tokio::select! {
                biased;
                answer = told.answer() => answer,
                // Dropping the request tells the task.
                _ = aborted => return,
            };
            let held = forwarding.state.lock().held.remove(&(relay.clone(), number));
            if held.is_none() && matches!(answer, Answer::Payload(_)) {
                // The client has gone in this moment.
                return peer.command(Command::GetLost);
            }
            drop(held);
            if !forwarding.say(Some(&relay), Said::Answer { number, answer }) {
                // What was in the answer is lost; the client must not go on without it.
                peer.describe("an answer for another node did not fit the queue");
                peer.command(Command::PostRefused);
            }
        });
    }
}

/// Tells the session's task of a request, or says why not.
fn tell(
    server: &Server,
    session: &SessionId,
    revision: Revision,
    request: &Forwarded,
) -> Result<(Arc<Peer>, Told), Answer> {
    let peer = server.session(session).ok_or(Answer::Refused(RequestError::SessionUnknown))?;
    let bad = |why| Err(Answer::Refused(RequestError::BadRequest(why)));
    if !peer.outbox().is_polling() {
        return bad(BadRequest::TransportMismatch(Transport::WebSocket));
    }
    if peer.outbox().revision() != revision {
        return bad(BadRequest::ProtocolMismatch(peer.outbox().revision()));
    }
    let told = match request {
        Forwarded::Get => Told::Get(Asked::get(peer.clone())),
        // CVE-2026-59725: as for a request of this node's own.
        Forwarded::Post { is_binary: true, .. } if revision == Revision::V4 => {
            peer.command(Command::PostRefused);
            return Err(Answer::BadRequest);
        }
        Forwarded::Post { body, is_binary } => {
            Told::Post(Asked::post(peer.clone(), body.clone(), *is_binary))
        }
    };
    Ok((peer, told))
}

impl Told {
    async fn answer(self) -> Answer {
        match self {
            Self::Get(asked) => match asked.answer().await {
                Some(GetAnswer::Payload(payload)) => Answer::Payload(payload),
                Some(GetAnswer::Refused) => Answer::BadRequest,
                None => Answer::Refused(RequestError::SessionUnknown),
            },
            Self::Post(asked) => match asked.answer().await {
                Some(PostAnswer::Handled) => Answer::Handled,
                Some(PostAnswer::Refused) => Answer::BadRequest,
                None => Answer::Refused(RequestError::SessionUnknown),
            },
        }
    }
}
