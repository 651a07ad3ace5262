//! What the nodes of a cluster say to each other, as types: who, in which namespace, what.
//! Does not know bytes: each bus has an encoding of its own. Does not know who waits for an answer.
//!
//! The messages are those of Node's cluster adapters, so that every one of them has a place in
//! each of Node's encodings. JSON inside a message is text that has been found valid (a
//! [`RawValue`]), with a placeholder `{"_placeholder":true,"num":n}` for the attachment `n`: a bus
//! that speaks JSON embeds it as it is, one that speaks another encoding reads it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use sockeye_proto::socket::{EmitArgs, EncodeError, EncodedPacket, OwnedArgs, ToName, Violation};
use sockeye_proto::{RecoveryId, SocketId};

use super::forwarding::Forward;
use super::log::{KeptSession, LiveSession};
use crate::rooms::RoomName;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id of this text.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// Names a node: one server. Ours are 16 hexadecimal digits; those of others (Node's `uid`)
    /// may be any text.
    NodeId
}

id! {
    /// Names a request, for its answers. Ours are 16 hexadecimal digits; those of others may be
    /// any text.
    RequestId
}

impl NodeId {
    /// The sender's id of an emitter, a process that serves no sockets. It is not a node: nobody
    /// waits for its answers.
    pub const EMITTER: &str = "emitter";
}

/// One message, about one namespace.
#[derive(Clone, Debug)]
pub struct ClusterMessage {
    /// Who says it. `None` where the encoding does not tell: the classic Redis adapter's answers,
    /// and the requests of its emitter.
    pub sender: Option<NodeId>,
    /// The namespace, with its slash.
    pub namespace: Arc<str>,
    /// What is said.
    pub body: ClusterBody,
}

/// What a [`ClusterMessage`] says. What has a `request` is answered with the same id, to the
/// sender alone where a bus can do that; an answer whose request nobody knows is passed over.
#[derive(Clone, Debug)]
pub enum ClusterBody {
    /// "I have come": every other node answers with a [`Heartbeat`](Self::Heartbeat) at once.
    /// Only on a bus that wants heartbeats ([`Presence::Heartbeats`](super::Presence)).
    InitialHeartbeat,
    /// "I am here." Only on a bus that wants heartbeats.
    Heartbeat,
    /// "I am going." Only on a bus that wants heartbeats.
    Leave,
    /// Send an event to the sockets that the options select.
    Broadcast {
        /// The event.
        event: ClusterEvent,
        /// Whom it reaches.
        options: BroadcastOptions,
        /// Where acknowledgements are wanted: the answer is one
        /// [`BroadcastClientCount`](Self::BroadcastClientCount), 0 too, then a
        /// [`BroadcastAck`](Self::BroadcastAck) for each client that answers before
        /// [`BroadcastFlags::timeout`] is over.
        request: Option<RequestId>,
    },
    /// How many clients the sender has asked for an acknowledgement.
    BroadcastClientCount {
        /// The broadcast's request.
        request: RequestId,
        /// The clients.
        count: usize,
    },
    /// One client's acknowledgement.
    BroadcastAck {
        /// The broadcast's request.
        request: RequestId,
        /// Which client, where the encoding tells (none of Node's does).
        socket: Option<SocketId>,
        /// Its first argument; no more of them travel.
        answer: OwnedArgs,
    },
    /// Make the sockets that the options select join rooms. There is no answer.
    SocketsJoin {
        /// Which sockets.
        options: BroadcastOptions,
        /// What they join.
        rooms: Vec<RoomName>,
    },
    /// Make the sockets that the options select leave rooms. There is no answer.
    SocketsLeave {
        /// Which sockets.
        options: BroadcastOptions,
        /// What they leave.
        rooms: Vec<RoomName>,
    },
    /// Disconnect the sockets that the options select. There is no answer.
    DisconnectSockets {
        /// Which sockets.
        options: BroadcastOptions,
        /// Whether the connections beneath are closed, too.
        close: bool,
    },
    /// Tell the sockets that the options select.
    FetchSockets {
        /// The request.
        request: RequestId,
        /// Which sockets.
        options: BroadcastOptions,
    },
    /// The answer to [`FetchSockets`](Self::FetchSockets).
    FetchSocketsResponse {
        /// Its request.
        request: RequestId,
        /// The sockets of the sender that were selected.
        sockets: Vec<SocketDetails>,
    },
    /// An event for the servers themselves.
    ServerSideEmit {
        /// Its name, and behind it its arguments. Names that clients' events must not have are
        /// possible here.
        event: OwnedArgs,
        /// Where an answer is wanted.
        request: Option<RequestId>,
    },
    /// The answer to [`ServerSideEmit`](Self::ServerSideEmit).
    ServerSideEmitResponse {
        /// Its request.
        request: RequestId,
        /// The first argument of the answer; no more of them travel.
        answer: OwnedArgs,
    },
    /// Tell all rooms, those of socket ids too. Only the classic Redis adapter asks it
    /// (`allRooms`); we do not.
    ListRooms {
        /// The request.
        request: RequestId,
    },
    /// The answer to [`ListRooms`](Self::ListRooms).
    ListRoomsResponse {
        /// Its request.
        request: RequestId,
        /// The rooms.
        rooms: Vec<RoomName>,
    },
    /// Tell the ids of the sockets in any of the rooms (of all, if there are none). Only the
    /// classic Redis adapter asks it (`allSockets`, `sockets`); we do not.
    ListSockets {
        /// The request.
        request: RequestId,
        /// The rooms.
        rooms: Vec<RoomName>,
    },
    /// The answer to [`ListSockets`](Self::ListSockets).
    ListSocketsResponse {
        /// Its request.
        request: RequestId,
        /// The ids.
        sockets: Vec<SocketId>,
    },
    /// Change one socket. Only older classic Redis adapters ask it (`remoteJoin`, `remoteLeave`,
    /// `remoteDisconnect`); we do not. The node that has the socket answers, and no other.
    ChangeSocket {
        /// The request.
        request: RequestId,
        /// The socket.
        socket: SocketId,
        /// What becomes of it.
        change: SocketChange,
    },
    /// The answer to [`ChangeSocket`](Self::ChangeSocket): it is done.
    ChangeSocketResponse {
        /// Its request.
        request: RequestId,
    },
    /// About requests of clients whose sessions live on other nodes. Only between Sockeye's nodes,
    /// and only with [`forward_requests`](crate::ServerBuilder::forward_requests); what else hears
    /// it must pass it over. To one node, but for what says who is there.
    Forward(Forward),
    /// To be kept in the log's place for sessions, behind what was said before; not for other
    /// nodes. Only a bus with a [log](super::ClusterLog) is given it.
    KeepSession(Box<KeptSession>),
    /// The session of a socket that lives, to be entered beside those: as it would go on if this
    /// node were killed. Only a bus whose log [wants them](super::ClusterLog::live_session_lease)
    /// is given it.
    EnterSession(Box<LiveSession>),
    /// What was entered of a socket goes: it has ended for good.
    ForgetSession(RecoveryId),
}

/// What a [`ClusterBody::ChangeSocket`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketChange {
    /// It joins a room.
    Join(RoomName),
    /// It leaves a room.
    Leave(RoomName),
    /// It is disconnected.
    Disconnect {
        /// Whether the connection beneath is closed, too.
        close: bool,
    },
}

/// Which sockets a message is about (Node's `opts`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BroadcastOptions {
    /// The members of any of these rooms; without any, everyone in the namespace. A socket's id is
    /// a room, too.
    pub rooms: Vec<RoomName>,
    /// Less the members of these.
    pub except: Vec<RoomName>,
    /// How an event is sent to them.
    pub flags: BroadcastFlags,
}

/// How an event is sent (Node's `opts.flags`). `local` is not among them: what is local is said to
/// nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroadcastFlags {
    /// Passes over a client that cannot take it this instant. On the wire only where it is true.
    pub volatile: bool,
    /// Whether it may be compressed. On the wire only where it is false.
    pub compress: bool,
    /// For how long acknowledgements are waited for, on the wire in whole milliseconds; only with
    /// a request.
    pub timeout: Option<Duration>,
    /// The key of [`Broadcast::conflate`](crate::Broadcast::conflate). Not Node's, which passes it
    /// over: `conflate` on the wire.
    pub conflate: Option<Arc<str>>,
    /// Whether it is for the one socket whose id is the only room, and for nobody else in a room of
    /// that name: what a node emits to one of its sockets, said to all because of the log. Not
    /// Node's, which sends such an event to all who are in the room: `direct` on the wire, only
    /// where it is true.
    pub direct: bool,
}

impl Default for BroadcastFlags {
    fn default() -> Self {
        Self { volatile: false, compress: true, timeout: None, conflate: None, direct: false }
    }
}

/// A socket of another node, as [`ClusterBody::FetchSocketsResponse`] has it.
#[derive(Clone, Debug)]
pub struct SocketDetails {
    /// Its id.
    pub id: SocketId,
    /// The handshake as Node writes it:
    /// `{headers, time, address, xdomain, secure, issued, url, query, auth}`.
    pub handshake: Box<RawValue>,
    /// Its rooms, the one of its own id among them.
    pub rooms: Vec<RoomName>,
    /// Its data (Node's `socket.data`): one argument, `{}` where none has been set.
    pub data: OwnedArgs,
}

/// An event on its way between nodes. It is encoded once: its clients' packet and all messages
/// about it share one buffer, and a clone is one atomic increment.
#[derive(Clone)]
pub struct ClusterEvent(EncodedPacket);

impl ClusterEvent {
    /// The event of a list `["event",…]`, as it came from another node.
    ///
    /// # Errors
    /// The list does not begin with text or a number, or its name is reserved.
    pub fn new(namespace: &str, list: &RawValue, attachments: &[Bytes]) -> Result<Self, Violation> {
        EncodedPacket::event_list(namespace, None, list, attachments).map(Self)
    }

    /// The event of a name and arguments, as [`Broadcast::emit`](crate::Broadcast::emit) takes
    /// them.
    ///
    /// # Errors
    /// The name is reserved, or the arguments cannot be written as JSON.
    pub fn encode(
        namespace: &str,
        event: impl ToName,
        args: &impl EmitArgs,
    ) -> Result<Self, EncodeError> {
        EncodedPacket::event(namespace, None, event, args).map(Self)
    }

    pub(crate) fn of(packet: EncodedPacket) -> Self {
        Self(packet)
    }

    /// The clients' packet. With a request it may ask for an acknowledgement by an id that means
    /// something to its sender only.
    pub(crate) fn packet(&self) -> &EncodedPacket {
        &self.0
    }

    /// Its JSON: the list `["event",…]` of the name and the arguments.
    pub fn json(&self) -> &str {
        self.0.json()
    }

    /// The binary attachments, in the order of their placeholders' numbers.
    pub fn attachments(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.attachments()
    }
}

impl fmt::Debug for ClusterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterEvent({}, {} attachments)", self.json(), self.attachments().len())
    }
}
