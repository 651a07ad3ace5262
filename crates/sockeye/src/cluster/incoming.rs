//! What messages of other nodes do here: to rooms and sockets, to listeners of servers' events, to
//! requests that wait. Does not know what carried them.

use std::sync::Arc;
use std::time::Duration;

use sockeye_proto::SocketId;

use super::bus::RoomInterest;
use super::link::{Answer, Link};
use super::log::LogOffset;
use super::message::{
    BroadcastFlags, BroadcastOptions, ClusterBody, ClusterEvent, ClusterMessage, NodeId, RequestId,
    SocketChange,
};
use super::remote;
use super::requests::Part;
use crate::broadcast::Broadcast;
use crate::conflation::Key;
use crate::namespace::Namespace;
use crate::outbox::Way;
use crate::room_events::{Change, RoomEvent};
use crate::rooms::{RoomName, Selection};
use crate::server::Server;
use crate::socket::Socket;

/// How long acknowledgements are waited for where the message does not say.
const ACKS_TIMEOUT: Duration = Duration::from_secs(5);

/// A message came from another node.
pub(super) fn handle(server: &Server, message: ClusterMessage, offset: Option<LogOffset>) {
    let Some(link) = server.link() else { return };
    // Other nodes have namespaces that this one has not, and a bus may hear of more than it asked
    // for.
    let Some(namespace) = server.find_namespace(&message.namespace) else { return };
    link.handle_heard(&message);
    let sender = message.sender.as_ref();
    if let ClusterBody::Forward(forward) = &message.body {
        if let (Some(forwarding), Some(sender)) = (link.forwarding(), sender) {
            forwarding.handle(server, sender, forward);
        }
        return;
    }
    let here = Here { link, namespace };
    match message.body {
        ClusterBody::InitialHeartbeat | ClusterBody::Heartbeat | ClusterBody::Leave => {}
        ClusterBody::Broadcast { event, options, request: None } => {
            here.broadcast(&event, options, offset.filter(|_| here.link.has_log()));
        }
        ClusterBody::Broadcast { event, options, request: Some(request) } => {
            here.ask_clients(&event, options, request, sender);
        }
        ClusterBody::SocketsJoin { options, rooms } => {
            here.select(options).sockets_join_here(&rooms);
        }
        ClusterBody::SocketsLeave { options, rooms } => {
            here.select(options).sockets_leave_here(&rooms);
        }
        ClusterBody::DisconnectSockets { options, close } => {
            here.select(options).disconnect_sockets_here(close);
        }
        ClusterBody::FetchSockets { request, options } => {
            let hidden = &here.link.config().hidden_headers;
            let sockets = here.select(options).sockets();
            let sockets = sockets.iter().map(|socket| remote::details(socket, hidden)).collect();
            here.answer(sender, ClusterBody::FetchSocketsResponse { request, sockets });
        }
        ClusterBody::ServerSideEmit { event, request } => {
            let reply = request.map(|request| (here.link.clone(), request, sender.cloned()));
            here.namespace.server_side().handle(&here.namespace, &event, reply);
        }
        ClusterBody::ListRooms { request } => {
            let rooms = here.namespace.rooms().names();
            here.answer(sender, ClusterBody::ListRoomsResponse { request, rooms });
        }
        ClusterBody::ListSockets { request, rooms } => {
            let options = BroadcastOptions { rooms, ..BroadcastOptions::default() };
            let sockets = here.namespace.rooms().ids(&selection(options));
            here.answer(sender, ClusterBody::ListSocketsResponse { request, sockets });
        }
        ClusterBody::ChangeSocket { request, socket, change } => {
            // Whoever does not have it says nothing.
            if let Some(socket) = here.namespace.socket(&socket) {
                change_socket(&socket, change);
                here.answer(sender, ClusterBody::ChangeSocketResponse { request });
            }
        }
        body => here.handle_answer(sender, body),
    }
}

fn change_socket(socket: &Socket, change: SocketChange) {
    match change {
        SocketChange::Join(room) => {
            socket.join(room);
        }
        SocketChange::Leave(room) => {
            socket.leave(room);
        }
        SocketChange::Disconnect { close } => socket.disconnect(close),
    }
}

struct Here<'a> {
    link: &'a Arc<Link>,
    namespace: Namespace,
}

impl Here<'_> {
    fn answer(&self, to: Option<&NodeId>, body: ClusterBody) {
        self.link.answer(&self.namespace.name_shared(), to, body);
    }

    fn select(&self, mut options: BroadcastOptions) -> Broadcast {
        let flags = std::mem::take(&mut options.flags);
        let compress = flags.compress;
        let way = way(&self.namespace, flags);
        Broadcast::with(self.namespace.clone(), selection(options), way, compress)
    }

    fn broadcast(
        &self,
        event: &ClusterEvent,
        options: BroadcastOptions,
        offset: Option<LogOffset>,
    ) {
        if let Some(socket) = one_socket(&options) {
            let packet = event.packet().clone();
            let packet = if options.flags.compress { packet } else { packet.without_compression() };
            return self.namespace.deliver_to_socket(&packet, socket, offset);
        }
        let broadcast = self.select(options);
        let packet = broadcast.dress(event.packet().clone());
        broadcast.show_packet(&packet);
        broadcast.deliver(&packet, offset);
    }

    /// Asks the clients of this node, and passes their answers on.
    fn ask_clients(
        &self,
        event: &ClusterEvent,
        options: BroadcastOptions,
        request: RequestId,
        sender: Option<&NodeId>,
    ) {
        let limit = options.flags.timeout.unwrap_or(ACKS_TIMEOUT);
        let broadcast = self.select(options);
        let id = self.namespace.next_ack_id();
        let packet = event.packet().event_again(self.namespace.name(), Some(id));
        let packet = broadcast.dress(packet);
        broadcast.show_packet(&packet);
        let mut acks = broadcast.ask_here::<()>(id, &packet, limit);
        let count = acks.asked();
        self.answer(sender, ClusterBody::BroadcastClientCount { request: request.clone(), count });
        if count == 0 {
            return;
        }
        let (link, to, namespace) =
            (self.link.clone(), sender.cloned(), self.namespace.name_shared());
        tokio::spawn(async move {
            while let Some((socket, answer)) = acks.next_raw().await {
                // Who asked knows by the time limit of those who say nothing.
                let Ok(answer) = answer else { continue };
                let request = request.clone();
                let answer = answer.into_first();
                let body = ClusterBody::BroadcastAck { request, socket, answer };
                link.answer(&namespace, to.as_ref(), body);
            }
        });
    }

    fn handle_answer(&self, sender: Option<&NodeId>, body: ClusterBody) {
        const NODE: Part = Part::Node { clients: 0 };
        let (request, part, answer) = match body {
            ClusterBody::BroadcastClientCount { request, count } => {
                (request, Part::Node { clients: count }, None)
            }
            ClusterBody::BroadcastAck { request, socket, answer } => {
                (request, Part::Client, Some(Answer::Ack(socket, answer)))
            }
            ClusterBody::FetchSocketsResponse { request, sockets } => {
                (request, NODE, Some(Answer::Sockets(sockets)))
            }
            ClusterBody::ServerSideEmitResponse { request, answer } => {
                (request, NODE, Some(Answer::Emitted(answer)))
            }
            // What we never ask has no answers; all others are handled elsewhere.
            _ => return,
        };
        self.link.handle_answer(&request, sender, part, answer);
    }
}

/// What other nodes are told of a broadcast.
pub(crate) fn options(
    selection: &Selection,
    way: &Way,
    compress: bool,
    timeout: Option<Duration>,
) -> BroadcastOptions {
    let ids = selection.except_ids.iter().map(|id| RoomName::from(id.as_str()));
    let flags = BroadcastFlags {
        direct: false,
        volatile: matches!(way, Way::Volatile),
        conflate: if let Way::Latest(key) = way { Some(key.key.clone()) } else { None },
        compress,
        timeout,
    };
    BroadcastOptions {
        rooms: selection.rooms.to_vec(),
        except: selection.except.iter().cloned().chain(ids).collect(),
        flags,
    }
}

/// The socket that an event is for which its node emits to it alone.
pub(crate) fn one_socket(options: &BroadcastOptions) -> Option<SocketId> {
    match options.rooms.as_slice() {
        [room] if options.flags.direct => SocketId::parse(room),
        _ => None,
    }
}

pub(crate) fn selection(options: BroadcastOptions) -> Selection {
    Selection { rooms: options.rooms.into(), except: options.except.into(), ..Selection::default() }
}

fn way(namespace: &Namespace, flags: BroadcastFlags) -> Way {
    match flags.conflate {
        _ if flags.volatile => Way::Volatile,
        Some(key) => Way::Latest(Key { namespace: namespace.name_shared(), key }),
        None => Way::Always,
    }
}

/// Tells the bus of a room, if it wants to know.
pub(crate) fn tell_bus(link: &Link, namespace: &Arc<str>, change: &Change) {
    match link.room_interest() {
        RoomInterest::None => return,
        RoomInterest::Named if change.is_own => return,
        RoomInterest::Named | RoomInterest::All => {}
    }
    match &change.event {
        RoomEvent::Created { room } => link.bus().room_created(namespace, room),
        RoomEvent::Deleted { room } => link.bus().room_deleted(namespace, room),
        RoomEvent::Joined { .. } | RoomEvent::Left { .. } => {}
    }
}
