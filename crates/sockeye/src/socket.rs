//! A socket: one client in one namespace, and all that a handler can do with it.
//! Does not know how packets travel; it pushes to its connection's outbox.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use indexmap::IndexSet;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use sockeye_proto::SocketId;
use sockeye_proto::engine::Transport;
use sockeye_proto::socket::{EmitArgs, EncodedPacket, OwnedArgs};
use tokio::sync::oneshot;

use crate::broadcast::{Broadcast, IntoRooms};
use crate::connection::{Command, Peer};
use crate::error::{AckError, EmitError};
use crate::extensions::Extensions;
use crate::extract::{OnDisconnect, OnEvent};
use crate::handler::{EventHandler, Handler, IntoReply};
use crate::handlers::Handlers;
use crate::handshake::Handshake;
use crate::namespace::Namespace;
use crate::outbox::Pushed;
use crate::rooms::RoomName;

const CONNECTING: u8 = 0;
const CONNECTED: u8 = 1;
const DISCONNECTED: u8 = 2;

/// One client in one namespace. Clones are handles to the same socket.
#[derive(Clone)]
pub struct Socket(Arc<Inner>);

struct Inner {
    id: SocketId,
    state: AtomicU8,
    namespace: Namespace,
    peer: Arc<Peer>,
    handshake: Arc<Handshake>,
    auth: Option<Box<str>>,
    joined: Mutex<Joined>,
    /// `None` until there is one: namespaces have handlers too, and most sockets are idle.
    handlers: RwLock<Option<Box<Handlers>>>,
    acks: Mutex<BTreeMap<u64, oneshot::Sender<OwnedArgs>>>,
    data: Extensions,
}

/// The rooms a socket is in, its own left out.
#[derive(Default)]
struct Joined {
    rooms: IndexSet<RoomName>,
    /// It has left the room of its own id.
    left_own: bool,
    /// The socket has left its namespace: it joins nothing any more.
    ended: bool,
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
            namespace,
            peer,
            handshake,
            auth: auth.map(Box::from),
            joined: Mutex::default(),
            handlers: RwLock::default(),
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

    /// Whether the socket has passed the middlewares and not been disconnected since.
    pub fn is_connected(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == CONNECTED
    }

    /// Listens to an event. A second handler for the same event replaces the first; a socket's
    /// handler comes before its namespace's ([`Namespace::on`]).
    pub fn on<H, M>(&self, event: impl Into<Cow<'static, str>>, handler: H)
    where
        H: Handler<OnEvent, M>,
        H::Output: IntoReply,
        M: 'static,
    {
        self.add_handler(|handlers| handlers.on(event.into(), handler));
    }

    /// Runs when the socket is being disconnected and is still in its rooms (Node's
    /// `disconnecting`), after the events that came before.
    pub fn on_disconnecting<H, M>(&self, handler: H)
    where
        H: Handler<OnDisconnect, M, Output = ()>,
        M: 'static,
    {
        self.add_handler(|handlers| handlers.on_disconnecting(handler));
    }

    /// Runs when the socket is disconnected and out of its rooms.
    pub fn on_disconnect<H, M>(&self, handler: H)
    where
        H: Handler<OnDisconnect, M, Output = ()>,
        M: 'static,
    {
        self.add_handler(|handlers| handlers.on_disconnect(handler));
    }

    /// Sends an event to this client. See [`EmitArgs`] for what `args` may be: `&value` is one
    /// argument, `("a", 1)` two, `()` none.
    ///
    /// # Errors
    /// The name is reserved, the arguments cannot be written, the socket is disconnected or its
    /// outbox full.
    pub fn emit(&self, event: &str, args: impl EmitArgs) -> Result<(), EmitError> {
        self.push(EncodedPacket::event(self.0.namespace.name(), None, event, &args)?, false)
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
        event: &str,
        args: impl EmitArgs,
    ) -> Result<T, AckError> {
        let emitter = Emitter { socket: self, volatile: false, timeout: None };
        emitter.emit_with_ack(event, args).await
    }

    /// The next emit waits for its acknowledgement for at most `timeout`.
    pub fn timeout(&self, timeout: Duration) -> Emitter<'_> {
        Emitter { socket: self, volatile: false, timeout: Some(timeout) }
    }

    /// The next emit is dropped if the client cannot take it this instant: nothing may be waiting
    /// before it, and over long-polling a GET must be waiting.
    pub fn volatile(&self) -> Emitter<'_> {
        Emitter { socket: self, volatile: true, timeout: None }
    }

    /// Joins rooms. After a disconnection nothing happens. Before the connection is admitted (in
    /// a middleware) the rooms are kept for when it is.
    ///
    /// Returns false if a room was refused because the socket is in
    /// [`rooms_max`](crate::ServerBuilder::rooms_max) already.
    pub fn join(&self, rooms: impl IntoRooms) -> bool {
        let inner = &*self.0;
        let mut joined = inner.joined.lock();
        let mut fits = true;
        rooms.each(|room| {
            if joined.ended || joined.rooms.contains(&room) {
                return;
            }
            if joined.rooms.len() >= inner.namespace.config().rooms_max {
                fits = false;
                return;
            }
            // A socket that is not admitted yet is reached by no broadcast.
            if self.is_connected() {
                inner.namespace.rooms().join(inner.id, &inner.peer, &room);
            }
            if *room == *inner.id.as_str() {
                joined.left_own = false;
            } else {
                joined.rooms.insert(room);
            }
        });
        fits
    }

    /// Leaves rooms; one that it is not in is passed over.
    pub fn leave(&self, rooms: impl IntoRooms) {
        let mut joined = self.0.joined.lock();
        rooms.each(|room| {
            joined.rooms.swap_remove(&room);
            joined.left_own |= *room == *self.0.id.as_str();
            self.0.namespace.rooms().leave(&self.0.id, &room);
        });
    }

    /// The rooms it is in, the one of its own id first; none after the disconnection.
    pub fn rooms(&self) -> Vec<RoomName> {
        let joined = self.0.joined.lock();
        if joined.ended {
            return Vec::new();
        }
        let own = (!joined.left_own).then(|| RoomName::from(self.0.id.as_str()));
        own.into_iter().chain(joined.rooms.iter().cloned()).collect()
    }

    /// Whether it is in the room.
    pub fn is_in(&self, room: &str) -> bool {
        let joined = self.0.joined.lock();
        if self.0.id.as_str() == room {
            return !joined.ended && !joined.left_own;
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
            self.0.peer.push(EncodedPacket::disconnect(self.0.namespace.name()), false);
            self.0.peer.command(Command::Disconnect { id: self.0.id, close });
        }
    }

    /// Waits until the client has taken enough for at most half of
    /// [`outbox_bytes_max`](crate::ServerBuilder::outbox_bytes_max) to wait.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn drained(&self) {
        self.0.peer.wait_drained(self.0.namespace.config().outbox_bytes_max / 2).await;
    }

    pub(crate) fn push(&self, packet: EncodedPacket, volatile: bool) -> Result<(), EmitError> {
        if self.0.state.load(Ordering::Acquire) == DISCONNECTED {
            return Err(EmitError::Disconnected);
        }
        match self.0.peer.push(packet, volatile) {
            Pushed::Closed | Pushed::Overflowed => Err(EmitError::Disconnected),
            Pushed::Full => Err(EmitError::OutboxFull),
            Pushed::Queued | Pushed::First | Pushed::WakeTask | Pushed::Dropped => Ok(()),
        }
    }

    /// Emits with an acknowledgement.
    fn request(&self, event: &str, args: &impl EmitArgs) -> Result<PendingAck, EmitError> {
        let id = self.0.namespace.next_ack_id();
        let packet = EncodedPacket::event(self.0.namespace.name(), Some(id), event, args)?;
        let (answer, waiting) = oneshot::channel();
        self.0.acks.lock().insert(id, answer);
        let pending = PendingAck { socket: self.clone(), id, waiting };
        self.push(packet, false)?;
        Ok(pending)
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

    pub(crate) fn handler(&self, event: &str) -> Option<Arc<dyn EventHandler>> {
        let own = self.own_handler(|handlers| handlers.event(event));
        own.or_else(|| self.0.namespace.handlers().read().event(event))
    }

    /// One of the handlers that this socket has for itself.
    pub(crate) fn own_handler<T>(&self, find: impl FnOnce(&Handlers) -> Option<T>) -> Option<T> {
        self.0.handlers.read().as_deref().and_then(find)
    }

    fn add_handler(&self, add: impl FnOnce(&mut Handlers)) {
        add(self.0.handlers.write().get_or_insert_default());
    }

    /// The middlewares have let it in: joins the rooms it asked for meanwhile.
    pub(crate) fn admit(&self) {
        let inner = &*self.0;
        let joined = inner.joined.lock();
        inner.state.store(CONNECTED, Ordering::Release);
        inner.namespace.rooms().add(inner.id, inner.peer.clone());
        for room in &joined.rooms {
            inner.namespace.rooms().join(inner.id, &inner.peer, room);
        }
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
    }

    /// Leaves every room and the namespace, and frees what waits for this socket.
    pub(crate) fn leave_all(&self) {
        let rooms = {
            let mut joined = self.0.joined.lock();
            joined.ended = true;
            std::mem::take(&mut joined.rooms)
        };
        self.0.namespace.rooms().remove(&self.0.id, rooms);
        self.forget_acks();
    }

    /// Nobody will answer any more: those who wait are told.
    pub(crate) fn forget_acks(&self) {
        let acks = std::mem::take(&mut *self.0.acks.lock());
        drop(acks);
        self.0.namespace.acks().forget(self.0.id);
    }

    /// Handlers may hold the socket that holds them.
    pub(crate) fn forget_handlers(&self) {
        let handlers = std::mem::take(&mut *self.0.handlers.write());
        drop(handlers);
    }
}

/// Forgets an acknowledgement that nobody waits for any more.
struct PendingAck {
    socket: Socket,
    id: u64,
    waiting: oneshot::Receiver<OwnedArgs>,
}

impl PendingAck {
    async fn answer(mut self, limit: Duration) -> Result<OwnedArgs, AckError> {
        let answer = tokio::time::timeout(limit, &mut self.waiting).await;
        answer.map_err(|_| AckError::Timeout)?.map_err(|_| AckError::Disconnected)
    }
}

impl Drop for PendingAck {
    fn drop(&mut self) {
        self.socket.0.acks.lock().remove(&self.id);
    }
}

/// An emit to one socket, with options; see [`Socket::timeout`] and [`Socket::volatile`].
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is sent before `emit`"]
pub struct Emitter<'a> {
    socket: &'a Socket,
    volatile: bool,
    timeout: Option<Duration>,
}

impl Emitter<'_> {
    /// Makes it volatile: see [`Socket::volatile`].
    pub fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// Sends an event; see [`Socket::emit`].
    ///
    /// # Errors
    /// As [`Socket::emit`]. A volatile event that is dropped is no error.
    pub fn emit(self, event: &str, args: impl EmitArgs) -> Result<(), EmitError> {
        let namespace = self.socket.0.namespace.name();
        self.socket.push(EncodedPacket::event(namespace, None, event, &args)?, self.volatile)
    }

    /// Sends an event and waits for its acknowledgement; see [`Socket::emit_with_ack`].
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    ///
    /// # Cancel safety
    /// Dropped, it forgets the acknowledgement; the event has been sent.
    pub async fn emit_with_ack<T: DeserializeOwned>(
        self,
        event: &str,
        args: impl EmitArgs,
    ) -> Result<T, AckError> {
        let answer = self.emit_with_ack_args(event, args).await?;
        answer.cursor().next().map_err(|error| AckError::Data(error.to_string()))
    }

    /// As [`emit_with_ack`](Self::emit_with_ack), with all arguments of the answer.
    ///
    /// # Errors
    /// As [`Socket::emit_with_ack`].
    ///
    /// # Cancel safety
    /// Dropped, it forgets the acknowledgement; the event has been sent.
    pub async fn emit_with_ack_args(
        self,
        event: &str,
        args: impl EmitArgs,
    ) -> Result<OwnedArgs, AckError> {
        let default = self.socket.0.namespace.config().ack_timeout;
        let pending = self.socket.request(event, &args)?;
        drop(args);
        pending.answer(self.timeout.unwrap_or(default)).await
    }
}
