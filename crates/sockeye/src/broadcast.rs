//! Broadcasts: whom they reach, and the walk that pushes one encoded packet to all of them.
//! Knows rooms and outboxes; does not call back into sockets to send.

mod nodes;

use std::sync::Arc;
use std::time::Duration;

use sockeye_proto::SocketId;
use sockeye_proto::socket::{EmitArgs, EncodeError, EncodedPacket, Name, ToName, UnfinishedEvent};

use crate::acks::Acks;
use crate::cluster::{Incomplete, LogOffset, RemoteSocket};
use crate::conflation::Key;
use crate::error::EmitError;
use crate::gather;
use crate::namespace::Namespace;
use crate::outbox::{Pushed, Way};
use crate::outgoing::Shown;
use crate::recovery::{Reach, Recovery};
use crate::rooms::{RoomName, Selection};
use crate::socket::Socket;

/// Whom an emit reaches. Made by [`Namespace::to`], [`Socket::to`] and their like; every method
/// returns a changed copy, so one can be kept and used again.
///
/// A socket in several of the rooms gets the packet once; `except` wins over `to`.
#[derive(Clone)]
#[must_use = "nothing is sent before `emit`"]
pub struct Broadcast {
    namespace: Namespace,
    selection: Selection,
    way: Way,
    compress: bool,
    /// Whether other nodes of the cluster are left out.
    is_local: bool,
}

impl std::fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broadcast")
            .field("namespace", &self.namespace.name())
            .field("rooms", &self.selection.rooms)
            .field("except", &self.selection.except)
            .field("way", &self.way)
            .finish_non_exhaustive()
    }
}

impl Broadcast {
    pub(crate) fn new(namespace: Namespace) -> Self {
        Self::with(namespace, Selection::default(), Way::Always, true)
    }

    pub(crate) fn with(
        namespace: Namespace,
        selection: Selection,
        way: Way,
        compress: bool,
    ) -> Self {
        Self { namespace, selection, way, compress, is_local: false }
    }

    pub(crate) fn except_id(mut self, id: SocketId) -> Self {
        self.selection.except_ids.push(id);
        self
    }

    /// Adds rooms: the broadcast reaches the members of any of its rooms. A socket's id is the
    /// name of a room with that socket in it.
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        rooms.each(|room| self.selection.rooms.push(room));
        self
    }

    /// Leaves out the members of these rooms.
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        rooms.each(|room| self.selection.except.push(room));
        self
    }

    /// Leaves the other nodes of the cluster out: the broadcast reaches sockets of this node only.
    pub fn local(mut self) -> Self {
        self.is_local = true;
        self
    }

    /// Passes over every client that cannot take the packet this instant; see
    /// [`Socket::volatile`].
    pub fn volatile(mut self) -> Self {
        self.way = Way::Volatile;
        self
    }

    /// Whether it may be compressed; see [`Socket::compress`].
    pub fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    /// Replaces what waits under the same key for a client that is slow, at each of the clients
    /// for itself; see [`Socket::conflate`].
    pub fn conflate(mut self, key: impl Into<Arc<str>>) -> Self {
        let namespace = self.namespace.name_shared();
        self.way = Way::Latest(Key { namespace, key: key.into() });
        self
    }

    /// Asks for acknowledgements, which are waited for for at most `limit`: see
    /// [`TimedBroadcast::emit_with_ack`]. (Node gives up after a millisecond where no time is
    /// named; here it must be.)
    pub fn timeout(self, limit: Duration) -> TimedBroadcast {
        TimedBroadcast { broadcast: self, limit }
    }

    /// Sends an event. It is encoded once, however many it reaches.
    ///
    /// # Errors
    /// The name is reserved or the arguments cannot be written. A client that is too slow is no
    /// error here: its own outbox policy applies to it.
    pub fn emit(&self, event: impl ToName, args: impl EmitArgs) -> Result<(), EmitError> {
        let name = event.to_name();
        if self.namespace.link().is_none()
            && let Some(recovery) = self.namespace.recovery()
        {
            return self.emit_recoverable(recovery, &name, &args);
        }
        let packet = self.encode(None, &name, &args)?;
        self.show(&name, &packet);
        if self.namespace.link().is_some() {
            self.send_to_all_nodes(packet);
        } else {
            // What cannot be written is the emitter's to know.
            self.push(&self.namespace.config().parser.encode(packet)?);
        }
        Ok(())
    }

    /// As [`emit`](Self::emit) where there is one node, on which what clients miss is kept. It is
    /// encoded once here, too: the offset is the same for all.
    fn emit_recoverable(
        &self,
        recovery: &Recovery,
        name: &Name<'_>,
        args: &impl EmitArgs,
    ) -> Result<(), EmitError> {
        let event = UnfinishedEvent::new(self.namespace.name(), name, args)?.for_many();
        let event = if self.compress { event } else { event.without_compression() };
        if self.namespace.has_outgoing() {
            self.show(name, &event.clone().finish());
        }
        Ok(self.record(recovery, event)?)
    }

    fn record(&self, recovery: &Recovery, event: UnfinishedEvent) -> Result<(), EncodeError> {
        let parser = &self.namespace.config().parser;
        if !matches!(self.way, Way::Always) {
            self.push(&parser.encode(event.finish_without_offset())?);
            return Ok(());
        }
        let reach = Reach::Selection(self.selection.clone());
        recovery.record(reach, |offset| {
            let packet = parser.encode(event.finish_with_offset(offset))?;
            self.push(&packet);
            Ok(packet)
        })
    }

    /// Sends an event to this node's members; `offset` is where it stands in the cluster's log.
    /// A node that keeps what its own clients miss has offsets of its own.
    pub(crate) fn deliver(&self, packet: &EncodedPacket, offset: Option<LogOffset>) {
        let Some(recovery) = self.namespace.recovery() else {
            if let Some(packet) = self.for_clients(packet) {
                self.push(&packet);
            }
            return;
        };
        let event = UnfinishedEvent::again(packet);
        let sent = if recovery.is_shared() {
            self.record_shared(recovery, event, offset)
        } else {
            self.record(recovery, event)
        };
        if let Err(error) = sent {
            tracing::error!(%error, "an event cannot be written");
        }
    }

    /// As [`record`](Self::record), where the cluster's log gives the offsets.
    fn record_shared(
        &self,
        recovery: &Recovery,
        event: UnfinishedEvent,
        offset: Option<LogOffset>,
    ) -> Result<(), EncodeError> {
        let parser = &self.namespace.config().parser;
        match offset.filter(|_| matches!(self.way, Way::Always)) {
            Some(offset) => {
                let reach = Reach::Selection(self.selection.clone());
                recovery.record_at(offset, reach, |offset| {
                    let packet = parser.encode(event.finish_with_offset(offset))?;
                    self.push(&packet);
                    Ok::<_, EncodeError>(packet)
                })?;
            }
            None => {
                let packet = parser.encode(event.finish_without_offset())?;
                if matches!(self.way, Way::Always) && !self.is_local {
                    recovery.pass_unlogged(|| self.push(&packet));
                } else {
                    recovery.pass(offset, || self.push(&packet));
                }
            }
        }
        Ok(())
    }

    fn push(&self, packet: &EncodedPacket) {
        gather::with_list(|list| {
            self.namespace.rooms().for_each(&self.selection, |_, peer| {
                peer.push_listed(packet, &self.way, list);
            });
        });
    }

    /// Sends the event `message`; see [`emit`](Self::emit).
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn send(&self, args: impl EmitArgs) -> Result<(), EmitError> {
        self.emit("message", args)
    }

    /// Makes the packet, for all that it reaches.
    fn encode(
        &self,
        id: Option<u64>,
        name: &Name<'_>,
        args: &impl EmitArgs,
    ) -> Result<EncodedPacket, EmitError> {
        Ok(self.dress(EncodedPacket::event(self.namespace.name(), id, name, args)?))
    }

    /// A packet as all that it reaches get it.
    pub(crate) fn dress(&self, packet: EncodedPacket) -> EncodedPacket {
        let packet = packet.for_many();
        if self.compress { packet } else { packet.without_compression() }
    }

    /// Asks this node's members for acknowledgements; `packet` has the id.
    pub(crate) fn ask_here<T>(&self, id: u64, packet: &EncodedPacket, limit: Duration) -> Acks<T> {
        self.namespace.acks().ask(id, limit, |ask| self.push_question(packet, ask))
    }

    fn push_question(&self, packet: &EncodedPacket, ask: &mut dyn FnMut(SocketId)) {
        let Some(packet) = self.for_clients(packet) else { return };
        gather::with_list(|list| {
            self.namespace.rooms().for_each(&self.selection, |id, peer| {
                match peer.push_listed(&packet, &self.way, list) {
                    Pushed::Queued | Pushed::First | Pushed::WakeTask => ask(*id),
                    Pushed::Dropped | Pushed::Full | Pushed::Overflowed | Pushed::Closed => {}
                }
            });
        });
    }

    /// The packet as clients have it. Only an application's parser, or JSON that is none, fails.
    fn for_clients(&self, packet: &EncodedPacket) -> Option<EncodedPacket> {
        let encoded = self.namespace.config().parser.encode(packet.clone());
        encoded.inspect_err(|error| tracing::error!(%error, "an event cannot be written")).ok()
    }

    /// Shows the event to the catch-alls of outgoing events of those that it reaches.
    fn show(&self, name: &Name<'_>, packet: &EncodedPacket) {
        if self.namespace.has_outgoing() {
            let shown = Shown::new(name, packet);
            self.sockets().iter().for_each(|socket| socket.show(&shown));
        }
    }

    /// As [`show`](Self::show), of an event of another node.
    pub(crate) fn show_packet(&self, packet: &EncodedPacket) {
        if self.namespace.has_outgoing()
            && let Some(shown) = Shown::of(packet)
        {
            self.sockets().iter().for_each(|socket| socket.show(&shown));
        }
    }

    /// The sockets of this node that it reaches; [`fetch_sockets`](Self::fetch_sockets) has those
    /// of all.
    pub fn sockets(&self) -> Vec<Socket> {
        let ids = self.namespace.rooms().ids(&self.selection);
        ids.iter().filter_map(|id| self.namespace.socket(id)).collect()
    }
}

/// A [`Broadcast`] that waits for acknowledgements; made by [`Broadcast::timeout`].
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `emit_with_ack`"]
pub struct TimedBroadcast {
    broadcast: Broadcast,
    limit: Duration,
}

impl TimedBroadcast {
    /// Sends an event, encoded once, and returns the stream of the acknowledgements, whose first
    /// arguments are read as `T`s. Nobody reached is an empty stream.
    ///
    /// ```
    /// # async fn example(io: sockeye::Server) -> Result<(), sockeye::EmitError> {
    /// use std::time::Duration;
    ///
    /// let asked = io.to("room").timeout(Duration::from_secs(5));
    /// let all = asked.emit_with_ack::<bool>("ready?", ())?.collect().await;
    /// println!("{} of {}", all.answers.len(), all.answers.len() + all.failures.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Broadcast::emit`]. A client whose outbox is full, or that cannot take a volatile event
    /// now, was not asked and is not waited for.
    ///
    /// # Panics
    /// Outside a tokio runtime with a timer.
    pub fn emit_with_ack<T>(
        &self,
        event: impl ToName,
        args: impl EmitArgs,
    ) -> Result<Acks<T>, EmitError> {
        let Broadcast { namespace, .. } = &self.broadcast;
        let name = event.to_name();
        let id = namespace.next_ack_id();
        let packet = self.broadcast.encode(Some(id), &name, &args)?;
        self.broadcast.show(&name, &packet);
        if namespace.link().is_some() {
            return Ok(self.broadcast.ask_all_nodes(id, packet, self.limit));
        }
        let packet = namespace.config().parser.encode(packet)?;
        Ok(self.broadcast.ask_here(id, &packet, self.limit))
    }

    /// As [`Broadcast::fetch_sockets`], within this limit.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn fetch_sockets(&self) -> Result<Vec<RemoteSocket>, Incomplete<RemoteSocket>> {
        self.broadcast.fetch_within(self.limit).await
    }
}

/// One room or several: `"a"`, `String`, a [`SocketId`], arrays, slices and `Vec`s of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no rooms",
    note = "a room is a `&str`, `String` or `SocketId`; several are an array, a slice or a `Vec`"
)]
pub trait IntoRooms {
    /// Calls `take` with each.
    fn each(self, take: impl FnMut(RoomName));

    /// All of them.
    fn collect(self) -> Vec<RoomName>
    where
        Self: Sized,
    {
        let mut rooms = Vec::new();
        self.each(|room| rooms.push(room));
        rooms
    }
}

macro_rules! one_room {
    ($($type:ty: $name:ident => $room:expr;)*) => {
        $(impl IntoRooms for $type {
            fn each(self, mut take: impl FnMut(RoomName)) {
                let $name = self;
                take($room);
            }
        })*
    };
}

one_room! {
    &str: name => Arc::from(name);
    String: name => Arc::from(name);
    &String: name => Arc::from(name.as_str());
    RoomName: name => name;
    &RoomName: name => name.clone();
    SocketId: id => Arc::from(id.as_str());
    &SocketId: id => Arc::from(id.as_str());
}

impl<T> IntoRooms for &[T]
where
    for<'a> &'a T: IntoRooms,
{
    fn each(self, mut take: impl FnMut(RoomName)) {
        self.iter().for_each(|room| room.each(&mut take));
    }
}

impl<T> IntoRooms for &Vec<T>
where
    for<'a> &'a T: IntoRooms,
{
    fn each(self, take: impl FnMut(RoomName)) {
        self.as_slice().each(take);
    }
}

impl<T: IntoRooms> IntoRooms for Vec<T> {
    fn each(self, mut take: impl FnMut(RoomName)) {
        self.into_iter().for_each(|room| room.each(&mut take));
    }
}

impl<T: IntoRooms, const N: usize> IntoRooms for [T; N] {
    fn each(self, mut take: impl FnMut(RoomName)) {
        self.into_iter().for_each(|room| room.each(&mut take));
    }
}

impl IntoRooms for &&str {
    fn each(self, mut take: impl FnMut(RoomName)) {
        take(Arc::from(*self));
    }
}
