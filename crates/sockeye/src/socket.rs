//! A socket: one client in one namespace, and all that a handler can do with it.
//! Does not know how packets travel; it pushes to its connection's outbox.

mod emitter;
mod joined;
mod recovering;
mod shared_data;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sockeye_proto::SocketId;
use sockeye_proto::engine::Transport;
use sockeye_proto::socket::{ArgError, EmitArgs, EncodeError, EncodedPacket, OwnedArgs, ToName};
use tokio::sync::oneshot;

use self::joined::JoinedRooms;
use crate::broadcast::{Broadcast, IntoRooms};
use crate::connection::{Command, Peer};
use crate::erased::EventHandler;
use crate::error::{AckError, EmitError, HandlerError};
use crate::extensions::Extensions;
use crate::handlers::{Handlers, Hook, HookHandlers, Lists, Others, Steps};
use crate::handshake::Handshake;
use crate::listening::Listens;
use crate::namespace::Namespace;
use crate::outbox::{Pushed, Way};
use crate::outgoing::Shown;
use crate::panics;
use crate::recovery::Recoverable;
use crate::rooms::RoomName;

pub use emitter::Emitter;
pub(crate) use shared_data::SharedData;

const CONNECTING: u8 = 0;
const CONNECTED: u8 = 1;
const DISCONNECTED: u8 = 2;
/// Its handlers have been forgotten: nothing is called any more.
const GONE: u8 = 3;

/// One client in one namespace. Clones are handles to the same socket.
#[derive(Clone)]
pub struct Socket(Arc<Inner>);

struct Inner {
    id: SocketId,
    state: AtomicU8,
    /// It has left the room of its own id. As the next, it is used with `joined` locked; there it
    /// would take eight times the room.
    left_own: AtomicBool,
    /// The socket has left its namespace: it joins nothing any more.
    has_left: AtomicBool,
    namespace: Namespace,
    peer: Arc<Peer>,
    handshake: Arc<Handshake>,
    auth: Option<Box<str>>,
    joined: Mutex<Joined>,
    handlers: Handlers,
    acks: Mutex<BTreeMap<u64, oneshot::Sender<OwnedArgs>>>,
    data: Extensions,
}

/// The rooms a socket is in, its own left out.
#[derive(Default)]
struct Joined {
    rooms: JoinedRooms,
    /// Only where there is connection state recovery.
    recoverable: Option<Box<Recoverable>>,
}

impl Inner {
    fn left_own(&self) -> bool {
        self.left_own.load(Ordering::Relaxed)
    }

    fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.0.id)
            .field("namespace", &self.0.namespace.name())
            .finish_non_exhaustive()
    }
}

impl Socket {
    pub(crate) fn new(
        id: SocketId,
        namespace: Namespace,
        peer: Arc<Peer>,
        handshake: Arc<Handshake>,
        auth: Option<&str>,
    ) -> Self {
        Self(Arc::new(Inner {
            id,
            state: AtomicU8::new(CONNECTING),
            left_own: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            namespace,
            peer,
            handshake,
            auth: auth.map(Box::from),
            joined: Mutex::default(),
            handlers: Handlers::default(),
            acks: Mutex::default(),
            data: Extensions::default(),
        }))
    }

    /// The public id: fresh for each namespace, never the (secret) session id.
    pub fn id(&self) -> SocketId {
        self.0.id
    }

    /// The namespace it is in.
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// What carries the connection now.
    pub fn transport(&self) -> Transport {
        let polling = self.0.peer.outbox().is_polling();
        if polling { Transport::Polling } else { Transport::WebSocket }
    }

    /// The request that opened the connection.
    pub fn handshake(&self) -> &Handshake {
        &self.0.handshake
    }

    pub(crate) fn handshake_shared(&self) -> &Arc<Handshake> {
        &self.0.handshake
    }

    pub(crate) fn has_auth(&self) -> bool {
        self.0.auth.is_some()
    }

    pub(crate) fn auth_json(&self) -> Option<&str> {
        self.0.auth.as_deref()
    }

    /// What the client gave as `auth`, read as a `T`; without any, an empty object is read.
    ///
    /// # Errors
    /// It is not a `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.0.auth.as_deref().unwrap_or("{}"))
    }

    /// Values that belong to this socket, by their type.
    pub fn data(&self) -> &Extensions {
        &self.0.data
    }

    /// Sets what the whole cluster may know of this socket, as JSON (Node's `socket.data`): other
    /// nodes see it with [`Broadcast::fetch_sockets`]. What is in [`data`](Self::data) stays on
    /// this node.
    ///
    /// ```
    /// # fn example(socket: &sockeye::Socket) -> Result<(), sockeye::EncodeError> {
    /// socket.set_shared_data(&serde_json::json!({ "user": "ann" }))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn set_shared_data<T: Serialize + ?Sized>(&self, data: &T) -> Result<(), EncodeError> {
        self.0.data.insert(SharedData::new(OwnedArgs::write(&data)?));
        self.0.namespace.note_changed(self.0.id);
        Ok(())
    }

    /// What was set with [`set_shared_data`](Self::set_shared_data), read as a `T`; without any,
    /// `None`.
    ///
    /// # Errors
    /// It is not a `T`.
    pub fn shared_data<T: DeserializeOwned>(&self) -> Result<Option<T>, ArgError> {
        self.shared_data_raw().map(|data| data.cursor().next()).transpose()
    }

    pub(crate) fn shared_data_raw(&self) -> Option<OwnedArgs> {
        SharedData::find(&self.0.data)
    }

    /// Whether the socket has passed the middlewares and not been disconnected since.
    pub fn is_connected(&self) -> bool {
        self.state() == CONNECTED
    }

    /// Whether the socket has been disconnected, or a middleware has refused it: nothing can be
    /// sent any more. (Node's `disconnected` is true in a middleware already.)
    pub fn is_disconnected(&self) -> bool {
        self.state() >= DISCONNECTED
    }

    /// Sends an event to this client. See [`EmitArgs`] for what `args` may be: `&value` is one
    /// argument, `("a", 1)` two, `()` none.
    ///
    /// # Errors
    /// The name is reserved, the arguments cannot be written, the socket is disconnected or its
    /// outbox full.
    pub fn emit(&self, event: impl ToName, args: impl EmitArgs) -> Result<(), EmitError> {
        Emitter::of(self).emit(event, args)
    }

    /// Sends the event `message`; see [`emit`](Self::emit).
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn send(&self, args: impl EmitArgs) -> Result<(), EmitError> {
        self.emit("message", args)
    }

    /// Sends an event and waits for its acknowledgement, whose first argument is read as a `T`.
    /// Waits for at most [`ack_timeout`](crate::ServerBuilder::ack_timeout).
    ///
    /// # Errors
    /// As [`emit`](Self::emit); and no answer in time, disconnection before it, an answer that is
    /// not a `T`.
    ///
    /// # Cancel safety
    /// Dropped, it forgets the acknowledgement; the event has been sent.
    pub async fn emit_with_ack<T: DeserializeOwned>(
        &self,
        event: impl ToName,
        args: impl EmitArgs,
    ) -> Result<T, AckError> {
        Emitter::of(self).emit_with_ack(event, args).await
    }

    /// The next emit waits for its acknowledgement for at most `timeout`.
    pub fn timeout(&self, timeout: Duration) -> Emitter<'_> {
        Emitter::of(self).timeout(timeout)
    }

    /// The next emit is dropped if the client cannot take it this instant: nothing may be waiting
    /// before it, and over long-polling a GET must be waiting.
    pub fn volatile(&self) -> Emitter<'_> {
        Emitter::of(self).volatile()
    }

    /// Whether the next emit may be compressed; what is small by its kind, or secret beside what
    /// others write, had better not be. It says so to both ways of compression:
    /// [`per_message_deflate`](crate::ServerBuilder::per_message_deflate), and
    /// [`http_compression`](crate::ServerBuilder::http_compression), whose responses stay as they
    /// are if all packets in them shall. Default: true.
    ///
    /// ```
    /// # use sockeye::{Binary, EmitError, Socket};
    /// # fn example(socket: &Socket, photo: Binary) -> Result<(), EmitError> {
    /// socket.compress(false).emit("photo", photo)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn compress(&self, compress: bool) -> Emitter<'_> {
        Emitter::of(self).compress(compress)
    }

    /// The next emit replaces what waits for this client under the same key: prices, positions,
    /// progress, of which a slow client shall get the latest and not each.
    ///
    /// While an earlier event of the same key (and namespace) waits and nothing of it has left,
    /// the new one takes its place: at most one of each key waits. The place in the order is the
    /// earlier one's, so what was emitted behind a value never arrives before that value or a
    /// newer one. A client that keeps up gets the latest of each turn of the event loop, as what is
    /// emitted in one turn leaves together. Only events that were emitted with a key are replaced;
    /// they count for [`outbox_bytes_max`](crate::ServerBuilder::outbox_bytes_max) and follow its
    /// policy like any other.
    ///
    /// ```
    /// # fn example(socket: &sockeye::Socket) -> Result<(), sockeye::EmitError> {
    /// socket.conflate("price:ABC").emit("price", ("ABC", 101))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn conflate(&self, key: impl Into<Arc<str>>) -> Emitter<'_> {
        Emitter::of(self).conflate(key)
    }

    /// Joins rooms. After a disconnection nothing happens. Before the connection is admitted (in
    /// a middleware) the rooms are kept for when it is.
    ///
    /// Returns false if a room was refused because the socket is in
    /// [`rooms_max`](crate::ServerBuilder::rooms_max) already.
    pub fn join(&self, rooms: impl IntoRooms) -> bool {
        let inner = &*self.0;
        let mut fits = true;
        let mut joined = inner.joined.lock();
        rooms.each(|room| {
            if inner.has_left() || joined.rooms.contains(&room) {
                return;
            }
            if joined.rooms.len() >= inner.namespace.config().rooms_max {
                fits = false;
                return;
            }
            // A socket that is not admitted yet is reached by no broadcast.
            if self.is_connected() {
                let rooms = inner.namespace.rooms();
                match (inner.namespace.recovery(), &mut joined.recoverable) {
                    (Some(recovery), Some(recoverable)) => {
                        recovery.change_rooms(recoverable, |change| {
                            rooms.join(inner.id, &inner.peer, &room);
                            change.join(&room);
                        });
                    }
                    _ => drop(rooms.join(inner.id, &inner.peer, &room)),
                }
            }
            if *room == *inner.id.as_str() {
                inner.left_own.store(false, Ordering::Relaxed);
            } else {
                joined.rooms.insert(room);
            }
        });
        drop(joined);
        inner.namespace.note_changed(inner.id);
        inner.namespace.tell_room_events();
        fits
    }

    /// Leaves rooms; one that it is not in is passed over.
    pub fn leave(&self, rooms: impl IntoRooms) {
        let inner = &*self.0;
        let mut joined = inner.joined.lock();
        rooms.each(|room| {
            joined.rooms.remove(&room);
            if *room == *inner.id.as_str() {
                inner.left_own.store(true, Ordering::Relaxed);
            }
            let rooms = inner.namespace.rooms();
            match (inner.namespace.recovery(), &mut joined.recoverable) {
                // What a middleware takes it out of, it misses nothing of.
                (_, Some(recoverable)) if self.state() == CONNECTING => {
                    recoverable.membership().forget(&room);
                }
                (Some(recovery), Some(recoverable)) => {
                    recovery.change_rooms(recoverable, |change| {
                        rooms.leave(&inner.id, &room);
                        change.leave(&room);
                    });
                }
                _ => drop(rooms.leave(&inner.id, &room)),
            }
        });
        drop(joined);
        inner.namespace.note_changed(inner.id);
        inner.namespace.tell_room_events();
    }

    /// The rooms it is in, the one of its own id first; none after the disconnection.
    pub fn rooms(&self) -> Vec<RoomName> {
        let joined = self.0.joined.lock();
        if self.0.has_left() {
            return Vec::new();
        }
        let own = (!self.0.left_own()).then(|| RoomName::from(self.0.id.as_str()));
        own.into_iter().chain(joined.rooms.iter().cloned()).collect()
    }

    /// Whether it is in the room.
    pub fn is_in(&self, room: &str) -> bool {
        let joined = self.0.joined.lock();
        if self.0.id.as_str() == room {
            return !self.0.has_left() && !self.0.left_own();
        }
        joined.rooms.contains(room)
    }

    /// To everyone in the namespace but this socket.
    pub fn broadcast(&self) -> Broadcast {
        self.0.namespace.broadcast().except_id(self.0.id)
    }

    /// To everyone in the rooms but this socket.
    pub fn to(&self, rooms: impl IntoRooms) -> Broadcast {
        self.broadcast().to(rooms)
    }

    /// To everyone in the namespace but this socket and those in the rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> Broadcast {
        self.broadcast().except(rooms)
    }

    /// Disconnects the socket; with `close`, every socket of this client, and then closes the
    /// connection. What was emitted before still leaves. Events that wait are not handled.
    pub fn disconnect(&self, close: bool) {
        if self.end() {
            let this = self.clone();
            self.in_order(move || {
                let packet = EncodedPacket::disconnect(this.0.namespace.name());
                this.0.peer.tell(&this.0.namespace.config().parser, packet);
                this.0.peer.command(Command::Disconnect { id: this.0.id, close });
            });
        }
    }

    /// Waits until the client has taken enough for at most half of
    /// [`outbox_bytes_max`](crate::ServerBuilder::outbox_bytes_max) to wait. An event that is
    /// longer than the other half may not fit even then.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn drained(&self) {
        self.0.peer.wait_drained(self.0.namespace.config().outbox_bytes_max / 2).await;
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Sends a packet that is no event's.
    pub(crate) fn push(&self, packet: EncodedPacket) -> Result<(), EmitError> {
        self.push_by(packet, &Way::Always)
    }

    fn push_by(&self, packet: EncodedPacket, way: &Way) -> Result<(), EmitError> {
        if self.is_disconnected() {
            return Err(EmitError::Disconnected);
        }
        let packet = self.0.namespace.config().parser.encode(packet)?;
        match self.0.peer.push_by(packet, way) {
            Pushed::Closed | Pushed::Overflowed => Err(EmitError::Disconnected),
            Pushed::Full => Err(EmitError::OutboxFull),
            Pushed::Queued | Pushed::First | Pushed::WakeTask | Pushed::Dropped => Ok(()),
        }
    }

    /// An acknowledgement came. An unknown id (late, or made up) is passed over.
    pub(crate) fn acknowledge(&self, id: u64, args: OwnedArgs) {
        let waiting = self.0.acks.lock().remove(&id);
        match waiting {
            // Nobody waits any more where the emitter was dropped this instant.
            Some(waiting) => drop(waiting.send(args)),
            None => self.0.namespace.acks().acknowledge(id, self.0.id, args),
        }
    }

    /// What an event goes through, the namespace's first.
    pub(crate) fn steps(&self, event: &str) -> Steps {
        let steps = self.listeners(event);
        if !steps.others_before {
            return steps;
        }
        let mut others = Others::default();
        self.read_handlers(|lists| lists.find_others(&mut others));
        others.into()
    }

    /// The listeners alone.
    #[inline]
    pub(crate) fn listeners(&self, event: &str) -> Steps {
        let mut steps = Steps::default();
        self.read_handlers(|lists| lists.find(event, &mut steps));
        steps
    }

    /// The hooks of one kind, those of the namespace first.
    pub(crate) fn hooks(&self, hook: Hook) -> HookHandlers {
        let mut found = HookHandlers::new();
        self.read_handlers(|lists| lists.find_hooks(hook, &mut found));
        found
    }

    #[inline]
    fn read_handlers(&self, mut read: impl FnMut(&Lists)) {
        self.0.namespace.read_handlers(&mut read);
        self.0.handlers.read(read);
    }

    /// Takes off a listener of one event; whether nobody else has.
    pub(crate) fn claim(&self, listener: &Arc<dyn EventHandler>) -> bool {
        let claim = |lists: &mut Lists| lists.claim(listener);
        self.take_off(claim).flatten().is_some()
            || self.0.namespace.take_off(claim).flatten().is_some()
    }

    /// Shows an event that is sent to this socket to those who look at all of them.
    pub(crate) fn show(&self, event: &Shown) {
        let mut all = Vec::new();
        self.read_handlers(|lists| all.extend(lists.outgoing()));
        let outgoing = event.outgoing();
        for listener in all {
            if panics::catch(|| listener(self, &outgoing)).is_err() {
                self.0.namespace.report(self, outgoing.name(), &HandlerError::panicked());
            }
        }
    }

    fn state(&self) -> u8 {
        self.0.state.load(Ordering::Acquire)
    }

    /// Begins the end; false if it had ended before or was never admitted.
    pub(crate) fn end(&self) -> bool {
        let state = &self.0.state;
        state.compare_exchange(CONNECTED, DISCONNECTED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Refused by a middleware, or gone before they were done.
    pub(crate) fn refuse(&self) {
        self.0.state.store(DISCONNECTED, Ordering::Release);
        self.leave_all();
        // Last: from then on another connection may take it up, whose socket has the same id.
        self.put_session_back();
        self.forget_handlers();
    }

    /// Leaves every room and the namespace, and frees what waits for this socket.
    pub(crate) fn leave_all(&self) {
        let rooms = {
            let joined = &mut *self.0.joined.lock();
            let has_left = self.0.has_left.swap(true, Ordering::Relaxed);
            if let Some(recoverable) = &mut joined.recoverable
                && !has_left
            {
                recoverable.leave(&joined.rooms);
            }
            joined.rooms.take()
        };
        self.0.namespace.rooms().remove(&self.0.id, rooms);
        self.0.namespace.tell_room_events();
        self.forget_acks();
    }

    /// Nobody will answer any more: those who wait are told.
    pub(crate) fn forget_acks(&self) {
        let acks = std::mem::take(&mut *self.0.acks.lock());
        drop(acks);
        self.0.namespace.acks().forget(self.0.id);
    }

    /// Handlers may hold the socket that holds them. None is added any more.
    pub(crate) fn forget_handlers(&self) {
        self.0.state.store(GONE, Ordering::Release);
        if let Some(lists) = self.0.handlers.take() {
            self.changed(lists.has_outgoing(), false);
            panics::discard(lists);
        }
    }
}

impl Listens for Socket {
    fn handlers(&self) -> &Handlers {
        &self.0.handlers
    }

    fn may_change(&self) -> bool {
        self.state() != GONE
    }

    fn changed(&self, had_outgoing: bool, has_outgoing: bool) {
        self.0.namespace.count_outgoing(had_outgoing, has_outgoing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_socket_is_one_small_piece_of_memory() {
        let counts = 2 * size_of::<usize>();
        assert!(size_of::<Inner>() + counts <= 248, "{} bytes", size_of::<Inner>() + counts);
    }
}
