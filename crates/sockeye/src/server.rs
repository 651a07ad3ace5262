//! The server: namespaces, sessions and settings; the handle that an application holds.
//! Does not know HTTP; the service brings it connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sockeye_proto::engine::Transport;
use sockeye_proto::socket::EmitArgs;
use sockeye_proto::{SessionId, SocketId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::broadcast::{Broadcast, IntoRooms};
use crate::builder::ServerBuilder;
use crate::config::Config;
use crate::connection::{Command, Peer};
use crate::error::{EmitError, HandlerError};
use crate::extract::{OnConnect, OnDisconnect, OnEvent};
use crate::handler::{Handler, IntoAdmission, IntoReply};
use crate::namespace::{Namespace, Shared};
use crate::reason::DisconnectReason;
use crate::service::{NotFound, SocketIoLayer, SocketIoService};
use crate::socket::Socket;

/// How often a draining server closes some of its sessions, on average.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

/// A Socket.IO server. Clones are handles to the same one.
///
/// Its own `on_connection`, `to`, `emit` … are those of the namespace `/`; [`of`](Self::of) gives
/// the others.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    root: Namespace,
    namespaces: RwLock<HashMap<Arc<str>, Namespace>>,
    sessions: Mutex<Sessions>,
    admission: Admission,
    is_draining: AtomicBool,
    /// A session has ended.
    ended: Notify,
}

/// The sessions there are.
#[derive(Default)]
struct Sessions {
    peers: HashMap<SessionId, Arc<Peer>>,
    /// How many of them are over WebSocket.
    websockets: usize,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", self.config()).finish_non_exhaustive()
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::builder().build()
    }
}

impl Server {
    /// Settings first.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    pub(crate) fn new(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let name: Arc<str> = Arc::from("/");
        let root = Namespace::new(name.clone(), shared.clone());
        Self(Arc::new(Inner {
            shared,
            namespaces: RwLock::new(HashMap::from([(name, root.clone())])),
            root,
            sessions: Mutex::default(),
            admission: Admission::default(),
            is_draining: AtomicBool::new(false),
            ended: Notify::new(),
        }))
    }

    /// The namespace of this name, made if there is none. A missing leading slash is added.
    pub fn of(&self, name: &str) -> Namespace {
        let name = if name.starts_with('/') { name.to_owned() } else { format!("/{name}") };
        let name: Arc<str> = Arc::from(name);
        let mut namespaces = self.0.namespaces.write();
        let shared = &self.0.shared;
        let make = || Namespace::new(name.clone(), shared.clone());
        namespaces.entry(name.clone()).or_insert_with(make).clone()
    }

    /// A tower layer that answers requests below [`path`](ServerBuilder::path) and hands the
    /// others on.
    pub fn layer(&self) -> SocketIoLayer {
        SocketIoLayer::new(self.clone())
    }

    /// A tower service that answers requests below [`path`](ServerBuilder::path), and others with
    /// 404: for hyper without a framework (`hyper_util::service::TowerToHyperService`).
    pub fn service(&self) -> SocketIoService<NotFound> {
        SocketIoService::new(NotFound, self.clone())
    }

    /// [`Namespace::middleware`] of `/`.
    pub fn middleware<H, M>(&self, middleware: H)
    where
        H: Handler<OnConnect, M>,
        H::Output: IntoAdmission,
        M: 'static,
    {
        self.0.root.middleware(middleware);
    }

    /// [`Namespace::on_connection`] of `/`.
    pub fn on_connection<H, M>(&self, handler: H)
    where
        H: Handler<OnConnect, M, Output = ()>,
        M: 'static,
    {
        self.0.root.on_connection(handler);
    }

    /// [`Namespace::on`] of `/`.
    pub fn on<H, M>(&self, event: impl Into<std::borrow::Cow<'static, str>>, handler: H)
    where
        H: Handler<OnEvent, M>,
        H::Output: IntoReply,
        M: 'static,
    {
        self.0.root.on(event, handler);
    }

    /// [`Namespace::on_disconnecting`] of `/`.
    pub fn on_disconnecting<H, M>(&self, handler: H)
    where
        H: Handler<OnDisconnect, M, Output = ()>,
        M: 'static,
    {
        self.0.root.on_disconnecting(handler);
    }

    /// [`Namespace::on_disconnect`] of `/`.
    pub fn on_disconnect<H, M>(&self, handler: H)
    where
        H: Handler<OnDisconnect, M, Output = ()>,
        M: 'static,
    {
        self.0.root.on_disconnect(handler);
    }

    /// Sees every handler's failure in every namespace: the socket, the event's name (or
    /// `connection`, `disconnecting`, `disconnect`, `middleware`), and what went wrong. Without a
    /// hook failures are logged as warnings. A second hook replaces the first.
    pub fn on_error(&self, hook: impl Fn(&Socket, &str, &HandlerError) + Send + Sync + 'static) {
        *self.0.shared.on_error.write() = Some(Arc::new(hook));
    }

    /// [`Namespace::broadcast`] of `/`.
    pub fn broadcast(&self) -> Broadcast {
        self.0.root.broadcast()
    }

    /// [`Namespace::to`] of `/`.
    pub fn to(&self, rooms: impl IntoRooms) -> Broadcast {
        self.0.root.to(rooms)
    }

    /// [`Namespace::except`] of `/`.
    pub fn except(&self, rooms: impl IntoRooms) -> Broadcast {
        self.0.root.except(rooms)
    }

    /// [`Namespace::emit`] of `/`.
    ///
    /// # Errors
    /// As [`Broadcast::emit`].
    pub fn emit(&self, event: &str, args: impl EmitArgs) -> Result<(), EmitError> {
        self.0.root.emit(event, args)
    }

    /// How many sessions (clients, over whichever transport) there are.
    pub fn session_count(&self) -> usize {
        self.0.sessions.lock().peers.len()
    }

    /// How many sessions there are over this transport.
    pub fn session_count_over(&self, transport: Transport) -> usize {
        let sessions = self.0.sessions.lock();
        match transport {
            Transport::WebSocket => sessions.websockets,
            Transport::Polling => sessions.peers.len() - sessions.websockets,
        }
    }

    /// Whether the server is ending ([`drain`](Self::drain), [`shutdown`](Self::shutdown)): what
    /// a readiness probe says no to.
    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Acquire)
    }

    /// Ends the service: new handshakes are refused with 503, each socket is disconnected with
    /// [`DisconnectReason::ServerShuttingDown`], what waits for a client is still sent, and
    /// handlers finish. Returns when all sessions have ended, or after `limit`; whether all had.
    ///
    /// The HTTP server is the caller's, to be stopped beside it. Calling it again waits again.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.drain(Duration::ZERO, limit).await
    }

    /// As [`shutdown`](Self::shutdown), with the sessions that there are closed little by little
    /// over the time `over`, in random order: closed all at once, clients come back all at once.
    /// Until then they go on as before. Returns when all sessions have ended, or `limit` after
    /// the last was closed; whether all had.
    ///
    /// # Cancel safety
    /// Dropped, it closes no more sessions and goes on refusing new ones; calling it again goes on
    /// with the rest.
    pub async fn drain(&self, over: Duration, limit: Duration) -> bool {
        self.0.is_draining.store(true, Ordering::Release);
        self.close_in_batches(over).await;
        let all = async {
            loop {
                let ended = self.0.ended.notified();
                if self.session_count() == 0 {
                    return;
                }
                ended.await;
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }

    async fn close_in_batches(&self, over: Duration) {
        // A map's order is random already.
        let mut peers: Vec<_> = self.0.sessions.lock().peers.values().cloned().collect();
        let (all, begun) = (peers.len(), Instant::now());
        while begun.elapsed() < over && self.session_count() > 0 {
            let mut jitter = [0];
            // Without randomness the batches are regular.
            let _ = getrandom::fill(&mut jitter);
            let part = 0.5 + f32::from(jitter[0]) / 255.0;
            let left = over.saturating_sub(begun.elapsed());
            tokio::time::sleep(DRAIN_INTERVAL.mul_f32(part).min(left)).await;
            let part = begun.elapsed().as_secs_f64() / over.as_secs_f64();
            let stay = all - ((all as f64 * part) as usize).min(all);
            for peer in peers.drain(stay.min(peers.len())..) {
                peer.command(Command::Close(DisconnectReason::ServerShuttingDown));
            }
        }
        // The rest, and those whose handshake was under way when this began.
        let rest: Vec<_> = self.0.sessions.lock().peers.values().cloned().collect();
        for peer in rest {
            peer.command(Command::Close(DisconnectReason::ServerShuttingDown));
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.shared.config
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<Namespace> {
        self.0.namespaces.read().get(name).cloned()
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.0.admission
    }

    pub(crate) fn session(&self, id: &SessionId) -> Option<Arc<Peer>> {
        self.0.sessions.lock().peers.get(id).cloned()
    }

    /// Adds a session, unless another one has its id.
    #[must_use]
    pub(crate) fn register(&self, id: SessionId, peer: &Arc<Peer>, transport: Transport) -> bool {
        {
            let mut sessions = self.0.sessions.lock();
            match sessions.peers.entry(id) {
                Entry::Occupied(_) => return false,
                Entry::Vacant(entry) => entry.insert(peer.clone()),
            };
            sessions.websockets += usize::from(transport == Transport::WebSocket);
        }
        // A handshake that was under way when the server began to end.
        if self.is_draining() {
            peer.command(Command::Close(DisconnectReason::ServerShuttingDown));
        }
        true
    }

    /// A session of long-polling goes on over WebSocket.
    pub(crate) fn register_upgrade(&self) {
        self.0.sessions.lock().websockets += 1;
    }

    /// Removes a session, if it is there, from those over `transport`.
    pub(crate) fn unregister(&self, id: &SessionId, transport: Transport) {
        let mut sessions = self.0.sessions.lock();
        if sessions.peers.remove(id).is_some() {
            sessions.websockets -= usize::from(transport == Transport::WebSocket);
            drop(sessions);
            self.0.ended.notify_waiters();
        }
    }

    /// Secret: 120 random bits. Fails where the system has no randomness to give.
    pub(crate) fn new_session_id(&self) -> Result<SessionId, getrandom::Error> {
        let mut entropy = [0; 15];
        getrandom::fill(&mut entropy)?;
        Ok(SessionId::from_entropy(entropy))
    }

    pub(crate) fn new_socket_id(&self) -> SocketId {
        let mut entropy = [0; 15];
        getrandom::fill(&mut entropy).expect("the system gave randomness for the session's id");
        SocketId::from_entropy(entropy)
    }
}
