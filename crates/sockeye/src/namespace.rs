//! A namespace: its sockets, rooms, middlewares and handlers.
//! Does not know connections; sockets come admitted by their connection's task.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use sockeye_proto::SocketId;
use sockeye_proto::socket::{EmitArgs, EncodedPacket, ToName, UnfinishedEvent};

use crate::acks::AckTable;
use crate::broadcast::{Broadcast, IntoRooms};
use crate::cluster::server_side::ServerSide;
use crate::cluster::{BusError, Link, LogOffset, RoomInterest, incoming};
use crate::config::Config;
use crate::erased::{Admitting, Erased, Hooking, Listener, Middleware};
use crate::error::{ConnectError, EmitError, HandlerError};
use crate::extensions::Extensions;
use crate::extract::{OnConnect, Parts};
use crate::handler::Handler;
use crate::handlers::{Handlers, Hook, Lists};
use crate::listening::Listens;
use crate::metrics;
use crate::outbox::Way;
use crate::panics;
use crate::recovery::{Changed, Reach, Recovery};
use crate::reply::IntoAdmission;
use crate::room_events::RoomEvent;
use crate::rooms::Rooms;
use crate::socket::Socket;

/// What all namespaces of a server share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) state: Extensions,
    pub(crate) on_error: RwLock<Option<ErrorHook>>,
    /// The other servers, where there are some.
    pub(crate) link: Option<Arc<Link>>,
}

/// Sees every handler's failure: the socket, the event's name, the error.
pub(crate) type ErrorHook = Arc<dyn Fn(&Socket, &str, &HandlerError) + Send + Sync>;

/// A namespace of a server. Clones are handles to the same one.
#[derive(Clone)]
pub struct Namespace(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    /// What its pattern found in its name.
    params: Vec<(String, String)>,
    shared: Arc<Shared>,
    rooms: Rooms,
    sockets: RwLock<HashMap<SocketId, Socket>>,
    middlewares: RwLock<Vec<Arc<dyn Middleware>>>,
    handlers: Handlers,
    /// Whether there have been any. Events of sockets that have all their handlers themselves
    /// take no lock that other threads take too.
    has_handlers: AtomicBool,
    /// How many have catch-alls of outgoing events: the sockets, and the namespace itself.
    outgoing_count: AtomicUsize,
    /// The next acknowledgement id.
    next_ack: AtomicU64,
    acks: AckTable,
    /// Where it is on.
    recovery: Option<Arc<Recovery>>,
    server_side: ServerSide,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl Namespace {
    pub(crate) fn new(name: Arc<str>, shared: Arc<Shared>) -> Self {
        Self::with(name, Vec::new(), shared, Vec::new(), Handlers::default())
    }

    /// A new one with the middlewares and handlers that this one has now.
    pub(crate) fn child(&self, name: Arc<str>, params: Vec<(String, String)>) -> Self {
        let middlewares = self.0.middlewares.read().clone();
        let handlers = self.0.handlers.duplicate();
        Self::with(name, params, self.0.shared.clone(), middlewares, handlers)
    }

    fn with(
        name: Arc<str>,
        params: Vec<(String, String)>,
        shared: Arc<Shared>,
        middlewares: Vec<Arc<dyn Middleware>>,
        handlers: Handlers,
    ) -> Self {
        let has_outgoing = handlers.read(Lists::has_outgoing);
        let recovery = Recovery::new(&shared.config, &name, shared.link.as_ref());
        Self(Arc::new(Inner {
            name,
            params,
            shared,
            rooms: Rooms::new(),
            sockets: RwLock::default(),
            middlewares: RwLock::new(middlewares),
            has_handlers: AtomicBool::new(has_outgoing.is_some()),
            outgoing_count: AtomicUsize::new(has_outgoing.unwrap_or(false).into()),
            handlers,
            next_ack: AtomicU64::new(0),
            acks: AckTable::default(),
            recovery,
            server_side: ServerSide::default(),
        }))
    }

    /// Its name, with the leading slash.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What stands in the place of `{name}` in the pattern that made it
    /// ([`Server::of_pattern`](crate::Server::of_pattern)).
    pub fn param(&self, name: &str) -> Option<&str> {
        self.0.params.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// Runs before a socket is admitted, after the middlewares added earlier; the first that
    /// refuses ends the chain. A chain that has begun does not see middlewares added later.
    pub fn middleware<H, M>(&self, middleware: H)
    where
        H: Handler<OnConnect, M>,
        H::Output: IntoAdmission,
        M: 'static,
    {
        self.0.middlewares.write().push(Arc::new(Erased::<H, M, _>::new(Admitting, middleware)));
    }

    /// Runs for each admitted socket, after the client has been told; several one after the other,
    /// in the order in which they were added. The socket's events wait until they are done, so
    /// none is missed by listeners that they add.
    pub fn on_connection<H, M>(&self, handler: H) -> Listener
    where
        H: Handler<OnConnect, M, Output = ()>,
        M: 'static,
    {
        let role = Hooking::<OnConnect>(PhantomData);
        self.add_handler(role, handler, |lists, handler| lists.add_hook(Hook::Connection, handler))
    }

    /// To everyone in the namespace.
    pub fn broadcast(&self) -> Broadcast {
        Broadcast::new(self.clone())
    }

    /// To everyone in the rooms. A socket's id is the name of a room with that socket in it.
    pub fn to(&self, rooms: impl IntoRooms) -> Broadcast {
        self.broadcast().to(rooms)
    }

    /// To everyone but those in the rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> Broadcast {
        self.broadcast().except(rooms)
    }

    /// Sends an event to everyone.
    ///
    /// # Errors
    /// As [`Broadcast::emit`].
    pub fn emit(&self, event: impl ToName, args: impl EmitArgs) -> Result<(), EmitError> {
        self.broadcast().emit(event, args)
    }

    /// Sends the event `message` to everyone.
    ///
    /// # Errors
    /// As [`Broadcast::emit`].
    pub fn send(&self, args: impl EmitArgs) -> Result<(), EmitError> {
        self.broadcast().send(args)
    }

    /// The connected socket with this id.
    pub fn socket(&self, id: &SocketId) -> Option<Socket> {
        self.0.sockets.read().get(id).cloned()
    }

    /// All connected sockets.
    pub fn sockets(&self) -> Vec<Socket> {
        self.0.sockets.read().values().cloned().collect()
    }

    /// How many sockets are connected.
    pub fn socket_count(&self) -> usize {
        self.0.sockets.read().len()
    }

    /// How many rooms there are, those of socket ids not counted.
    pub fn room_count(&self) -> usize {
        self.0.rooms.len()
    }

    /// Sees what happens to rooms: each that comes and goes, each socket that joins and leaves
    /// (Node's adapter events `create-room` …). Several hooks see all of it, one after the other.
    /// An event is told when what made it has been done, at the latest when that returns, so a
    /// hook may use sockets and rooms; of one room, in its order. While there is no hook it costs
    /// nothing.
    ///
    /// ```
    /// # let io = sockeye::Server::default();
    /// use sockeye::RoomEvent;
    ///
    /// io.of("/chat").on_room_event(|event| {
    ///     if let RoomEvent::Created { room } = event {
    ///         println!("somebody is in {room}");
    ///     }
    /// });
    /// ```
    pub fn on_room_event(&self, hook: impl Fn(&RoomEvent) + Send + Sync + 'static) {
        self.0.rooms.watch().add_hook(hook);
    }

    /// How many servers of the cluster have this namespace, this one among them.
    ///
    /// # Errors
    /// The cluster's bus could not count them.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn node_count(&self) -> Result<usize, BusError> {
        match self.link() {
            Some(link) => link.node_count(&self.0.name).await,
            None => Ok(1),
        }
    }

    /// Other servers' messages about it are wanted from now on.
    pub(crate) fn subscribe(&self) {
        if let Some(link) = self.link() {
            if link.room_interest() != RoomInterest::None {
                self.0.rooms.watch().turn_on();
            }
            link.subscribe(&self.0.name);
        }
    }

    pub(crate) fn unsubscribe(&self) {
        if let Some(link) = self.link() {
            link.unsubscribe(&self.0.name);
        }
    }

    #[inline]
    pub(crate) fn link(&self) -> Option<&Arc<Link>> {
        self.0.shared.link.as_ref()
    }

    pub(crate) fn server_side(&self) -> &ServerSide {
        &self.0.server_side
    }

    /// Tells what has happened to rooms. No lock of sockets or rooms may be held.
    #[inline]
    pub(crate) fn tell_room_events(&self) {
        if self.0.rooms.watch().is_on() {
            self.0.rooms.watch().tell(|change| {
                if let Some(link) = self.link() {
                    incoming::tell_bus(link, &self.0.name, change);
                }
            });
        }
    }

    pub(crate) fn name_shared(&self) -> Arc<str> {
        self.0.name.clone()
    }

    pub(crate) fn rooms(&self) -> &Rooms {
        &self.0.rooms
    }

    /// Looks into the handlers, if there are any.
    #[inline]
    pub(crate) fn read_handlers(&self, read: impl FnOnce(&Lists)) {
        if self.0.has_handlers.load(Ordering::Acquire) {
            self.0.handlers.read(read);
        }
    }

    /// Whether anyone looks at outgoing events.
    pub(crate) fn has_outgoing(&self) -> bool {
        self.0.outgoing_count.load(Ordering::Relaxed) > 0
    }

    /// Counts one who has catch-alls of outgoing events now, or has no more.
    pub(crate) fn count_outgoing(&self, had: bool, has: bool) {
        match (had, has) {
            (false, true) => drop(self.0.outgoing_count.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.0.outgoing_count.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.shared.config
    }

    pub(crate) fn state(&self) -> &Extensions {
        &self.0.shared.state
    }

    /// Counted for the whole namespace, so that one packet can ask many sockets.
    pub(crate) fn next_ack_id(&self) -> u64 {
        self.0.next_ack.fetch_add(1, Ordering::Relaxed)
    }

    /// What clients may have missed, where connection state recovery is on.
    #[inline]
    pub(crate) fn recovery(&self) -> Option<&Arc<Recovery>> {
        self.0.recovery.as_ref()
    }

    /// As [`recovery`](Self::recovery), where events get their offsets from the cluster's log: what
    /// is sent to clients is sent in its order.
    #[inline]
    pub(crate) fn shared_recovery(&self) -> Option<(&Arc<Link>, &Arc<Recovery>)> {
        let recovery = self.recovery().filter(|recovery| recovery.is_shared())?;
        Some((self.link()?, recovery))
    }

    /// What others would be told of a socket, should this node be killed, has changed.
    pub(crate) fn note_changed(&self, socket: SocketId) {
        if let Some(recovery) = self.recovery() {
            recovery.note_changed(socket);
        }
    }

    /// Enters the sessions that have changed where all nodes see them.
    pub(crate) fn enter_changed(&self) {
        let Some(recovery) = self.recovery() else { return };
        match recovery.take_changed() {
            Changed::All => self.sockets().iter().for_each(Socket::enter_session),
            Changed::These(sockets) => {
                let sockets = sockets.iter().filter_map(|socket| self.socket(socket));
                sockets.for_each(|socket| socket.enter_session());
            }
        }
    }

    /// Delivers what a node has emitted to one socket, and said to all because of the cluster's
    /// log. The socket may have been taken up here since.
    pub(crate) fn deliver_to_socket(
        &self,
        packet: &EncodedPacket,
        id: SocketId,
        offset: Option<LogOffset>,
    ) {
        let event = UnfinishedEvent::again(packet);
        let push = |packet| {
            if let Some(socket) = self.socket(&id) {
                socket.deliver(packet, &Way::Always);
            }
        };
        match (self.shared_recovery(), offset) {
            (Some((_, recovery)), Some(offset)) => {
                // Nothing fails: a socket that is not here gets it when it is.
                let _ = recovery.record_at(offset, Reach::Socket(id), |offset| {
                    let packet = event.finish_with_offset(offset);
                    push(packet.clone());
                    Ok::<_, EmitError>(packet)
                });
            }
            (Some((_, recovery)), None) => {
                recovery.pass_unlogged(|| push(event.finish_without_offset()));
            }
            (None, _) => push(event.finish()),
        }
    }

    /// The broadcasts that wait for acknowledgements.
    pub(crate) fn acks(&self) -> &AckTable {
        &self.0.acks
    }

    /// Tells the error hook.
    pub(crate) fn report(&self, socket: &Socket, event: &str, error: &HandlerError) {
        metrics::handler_failed();
        let hook = self.0.shared.on_error.read().clone();
        let told = hook.map(|hook| panics::catch(|| hook(socket, event, error)));
        if told != Some(Ok(())) {
            tracing::warn!(socket = %socket.id(), event, %error, "a handler failed");
        }
        if told == Some(Err(panics::Panicked)) {
            tracing::error!(socket = %socket.id(), event, "the error hook panicked");
        }
    }

    /// The middlewares there are now, one after the other; `None` if there are none.
    pub(crate) fn admission(
        &self,
        socket: &Socket,
    ) -> Option<impl Future<Output = Result<(), ConnectError>> + Send + 'static + use<>> {
        let middlewares = self.0.middlewares.read().clone();
        let socket = socket.clone();
        (!middlewares.is_empty()).then_some(async move {
            for middleware in middlewares {
                let admission =
                    middleware.call(&mut Parts::hook(&socket, Hook::Connection, None))?;
                admission.await?;
            }
            Ok(())
        })
    }

    pub(crate) fn insert(&self, socket: &Socket) {
        self.0.sockets.write().insert(socket.id(), socket.clone());
        metrics::socket_connected();
    }

    pub(crate) fn remove(&self, id: &SocketId) {
        let removed = self.0.sockets.write().remove(id);
        if removed.is_some() {
            metrics::socket_gone();
        }
    }
}

impl Listens for Namespace {
    fn handlers(&self) -> &Handlers {
        &self.0.handlers
    }

    fn changed(&self, had_outgoing: bool, has_outgoing: bool) {
        self.0.has_handlers.store(true, Ordering::Release);
        self.count_outgoing(had_outgoing, has_outgoing);
    }
}

/// A namespace's name begins with a slash, whether or not it was written.
pub(crate) fn with_slash(name: &str) -> Cow<'_, str> {
    if name.starts_with('/') { name.into() } else { format!("/{name}").into() }
}
