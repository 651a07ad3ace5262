//! Broadcasts in a cluster: what other nodes are told, and what they are asked.
//! Does not know what carries it.

use std::time::Duration;

use sockeye_proto::socket::EncodedPacket;

use super::{Broadcast, IntoRooms};
use crate::acks::Acks;
use crate::cluster::{
    Answer, BroadcastOptions, ClusterBody, ClusterEvent, Delivery, Incomplete, LogOffset,
    RemoteSocket, incoming,
};
use crate::rooms::RoomName;

/// What is done to sockets.
enum Act {
    Join(Vec<RoomName>),
    Leave(Vec<RoomName>),
    Disconnect { close: bool },
}

impl Act {
    fn body(&self, options: BroadcastOptions) -> ClusterBody {
        match self {
            Self::Join(rooms) => ClusterBody::SocketsJoin { options, rooms: rooms.clone() },
            Self::Leave(rooms) => ClusterBody::SocketsLeave { options, rooms: rooms.clone() },
            Self::Disconnect { close } => ClusterBody::DisconnectSockets { options, close: *close },
        }
    }

    fn run(&self, broadcast: &Broadcast) {
        match self {
            Self::Join(rooms) => broadcast.sockets_join_here(rooms),
            Self::Leave(rooms) => broadcast.sockets_leave_here(rooms),
            Self::Disconnect { close } => broadcast.disconnect_sockets_here(*close),
        }
    }
}

impl Broadcast {
    /// The sockets that it reaches, on all nodes of the cluster. The other nodes are waited for for
    /// at most [`cluster_request_timeout`](crate::ServerBuilder::cluster_request_timeout); see
    /// [`timeout`](Self::timeout) for another limit. A node that goes is not waited for.
    ///
    /// # Errors
    /// A node did not answer, or could not be asked; the sockets of the others are there.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn fetch_sockets(&self) -> Result<Vec<RemoteSocket>, Incomplete<RemoteSocket>> {
        self.fetch_within(self.namespace.config().cluster.request_timeout).await
    }

    /// Makes every socket that it reaches join rooms.
    pub fn sockets_join(&self, rooms: impl IntoRooms) {
        self.act(Act::Join(rooms.collect()));
    }

    /// Makes every socket that it reaches leave rooms.
    pub fn sockets_leave(&self, rooms: impl IntoRooms) {
        self.act(Act::Leave(rooms.collect()));
    }

    /// Disconnects every socket that it reaches; see [`Socket::disconnect`].
    ///
    /// [`Socket::disconnect`]: crate::Socket::disconnect
    pub fn disconnect_sockets(&self, close: bool) {
        self.act(Act::Disconnect { close });
    }

    pub(crate) fn sockets_join_here(&self, rooms: &[RoomName]) {
        for socket in self.sockets() {
            socket.join(rooms);
        }
    }

    pub(crate) fn sockets_leave_here(&self, rooms: &[RoomName]) {
        for socket in self.sockets() {
            socket.leave(rooms);
        }
    }

    pub(crate) fn disconnect_sockets_here(&self, close: bool) {
        for socket in self.sockets() {
            socket.disconnect(close);
        }
    }

    /// Tells the other nodes, then does it here; behind a log, when it has been told.
    fn act(&self, act: Act) {
        let body = (!self.is_local).then(|| act.body(self.options(None)));
        self.tell_then(body, move |this, _| act.run(this));
    }

    /// Sends a packet to the members on all nodes.
    pub(super) fn send_to_all_nodes(&self, packet: EncodedPacket) {
        let body = (!self.is_local).then(|| ClusterBody::Broadcast {
            event: ClusterEvent::of(packet.clone()),
            options: self.options(None),
            request: None,
        });
        self.tell_then(body, move |this, offset| this.deliver(&packet, offset));
    }

    fn tell_then(
        &self,
        body: Option<ClusterBody>,
        here: impl FnOnce(&Self, Option<LogOffset>) + Send + 'static,
    ) {
        let Some(link) = self.namespace.link() else { return here(self, None) };
        let name = self.namespace.name_shared();
        if !link.has_log() {
            if let Some(body) = body {
                link.say(&name, body);
            }
            return here(self, None);
        }
        let this = self.clone();
        let delivery = Box::new(move |offset: Option<LogOffset>| here(&this, offset));
        match body {
            Some(body) => link.say_then(&name, body, delivery),
            None => link.then(&name, delivery),
        }
    }

    /// Asks the members on all nodes; `packet` has the id of this node's question.
    pub(super) fn ask_all_nodes<T>(
        &self,
        id: u64,
        packet: EncodedPacket,
        limit: Duration,
    ) -> Acks<T> {
        let Some(link) = self.namespace.link() else { return self.ask_here(id, &packet, limit) };
        let name = self.namespace.name_shared();
        let body = |request| ClusterBody::Broadcast {
            event: ClusterEvent::of(packet.clone()),
            options: self.options(Some(limit)),
            request: Some(request),
        };
        if !link.has_log() {
            let remote = (!self.is_local).then(|| link.ask(&name, body));
            return self.ask_here(id, &packet, limit).with_nodes(remote);
        }
        let (acks, question) = self.namespace.acks().prepare(id, limit);
        let (this, question_packet) = (self.clone(), packet.clone());
        let delivery: Delivery = Box::new(move |_| {
            question.send(|ask| this.push_question(&question_packet, ask));
        });
        if self.is_local {
            link.then(&name, delivery);
            return acks;
        }
        acks.with_nodes(Some(link.ask_then(&name, body, Some(delivery))))
    }

    pub(super) async fn fetch_within(
        &self,
        limit: Duration,
    ) -> Result<Vec<RemoteSocket>, Incomplete<RemoteSocket>> {
        let mut answers: Vec<_> = self.sockets().into_iter().map(RemoteSocket::here).collect();
        let Some(link) = self.namespace.link().filter(|_| !self.is_local) else {
            return Ok(answers);
        };
        let options = self.options(None);
        let ask = |request| ClusterBody::FetchSockets { request, options };
        let mut asked = link.ask(&self.namespace.name_shared(), ask);
        let mut missing = 0;
        let all = async {
            while let Some(answer) = asked.next().await {
                match answer {
                    Answer::Sockets(sockets) => {
                        let remote = |details| RemoteSocket::new(self.namespace.clone(), details);
                        answers.extend(sockets.into_iter().map(remote));
                    }
                    Answer::Failed => missing = 1,
                    Answer::Ack(..) | Answer::Emitted(_) => {}
                }
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            missing = asked.give_up().nodes;
        }
        if missing > 0 { Err(Incomplete { answers, missing }) } else { Ok(answers) }
    }

    fn options(&self, timeout: Option<Duration>) -> BroadcastOptions {
        incoming::options(&self.selection, &self.way, self.compress, timeout)
    }
}
