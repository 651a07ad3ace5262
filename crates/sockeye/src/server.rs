//! The server: namespaces, sessions and settings; the handle that an application holds.
//! Does not know HTTP; the service brings it connections.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sockeye_proto::socket::EmitArgs;
use sockeye_proto::{SessionId, SocketId};
use tokio::sync::Notify;

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
    sessions: Mutex<HashMap<SessionId, Arc<Peer>>>,
    is_shutting_down: AtomicBool,
    /// A session has ended.
    ended: Notify,
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
            is_shutting_down: AtomicBool::new(false),
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
        self.0.sessions.lock().len()
    }

    /// Ends the service: new handshakes are refused with 503, each socket is disconnected with
    /// [`DisconnectReason::ServerShuttingDown`], what waits for a client is still sent, and
    /// handlers finish. Returns when all sessions have ended, or after `limit`; whether all had.
    ///
    /// The HTTP server is the caller's, to be stopped beside it. Calling it again waits again.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.0.is_shutting_down.store(true, Ordering::Release);
        let peers: Vec<_> = self.0.sessions.lock().values().cloned().collect();
        for peer in peers {
            peer.command(Command::Close(DisconnectReason::ServerShuttingDown));
        }
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

    pub(crate) fn config(&self) -> &Config {
        &self.0.shared.config
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<Namespace> {
        self.0.namespaces.read().get(name).cloned()
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.0.is_shutting_down.load(Ordering::Acquire)
    }

    /// Whether one more session fits.
    pub(crate) fn has_room(&self) -> bool {
        self.session_count() < self.config().connections_max
    }

    pub(crate) fn session(&self, id: &SessionId) -> Option<Arc<Peer>> {
        self.0.sessions.lock().get(id).cloned()
    }

    pub(crate) fn register(&self, id: SessionId, peer: Arc<Peer>) {
        self.0.sessions.lock().insert(id, peer);
    }

    pub(crate) fn unregister(&self, id: &SessionId) {
        if self.0.sessions.lock().remove(id).is_some() {
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
