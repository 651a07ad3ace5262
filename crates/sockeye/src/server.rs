//! The server: namespaces, sessions and settings; the handle that an application holds.
//! Does not know HTTP; the service brings it connections.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
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
use crate::namespace::{Namespace, Shared, with_slash};
use crate::parent::{NamespaceRequest, ParentNamespace, PatternError};
use crate::reason::DisconnectReason;
use crate::registry::Registry;
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
    namespaces: Registry,
    sessions: Mutex<HashMap<SessionId, Arc<Peer>>>,
    /// The connections whose tasks run: after its session has ended, a connection still sends
    /// what waits and has its handlers finish.
    open: AtomicUsize,
    is_shutting_down: AtomicBool,
    /// A connection's task has ended.
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
        let namespaces = Registry::default();
        let root = namespaces.of("/", |name| Namespace::new(name, shared.clone()));
        Self(Arc::new(Inner {
            shared,
            namespaces,
            root,
            sessions: Mutex::default(),
            open: AtomicUsize::new(0),
            is_shutting_down: AtomicBool::new(false),
            ended: Notify::new(),
        }))
    }

    /// The namespace of this name, made if there is none. A missing leading slash is added. Where
    /// a pattern of [`of_pattern`](Self::of_pattern) takes the name, it is made as its child.
    pub fn of(&self, name: &str) -> Namespace {
        let shared = &self.0.shared;
        let make = |name| Namespace::new(name, shared.clone());
        self.0.namespaces.of(&with_slash(name), make)
    }

    /// Lets clients make namespaces whose names a pattern takes: `/room-{id}`,
    /// `/{tenant}/news`. `{name}` stands for one or more characters other than `/`
    /// ([`Namespace::param`] has them), a last `{*rest}` for all that is left.
    ///
    /// Rules are asked in the order in which they were added; the first that takes a name makes
    /// its namespace. One that clients made goes with its last socket
    /// ([`cleanup_empty_child_namespaces`](ServerBuilder::cleanup_empty_child_namespaces)).
    ///
    /// # Errors
    /// The pattern cannot be one.
    pub fn of_pattern(&self, pattern: &str) -> Result<ParentNamespace, PatternError> {
        let parent = ParentNamespace::of_pattern(self.template(), pattern)?;
        self.0.namespaces.add_parent(parent.clone());
        Ok(parent)
    }

    /// Lets clients make namespaces that a predicate lets them make; see
    /// [`of_pattern`](Self::of_pattern). It sees each wish for a namespace that there is not.
    ///
    /// ```
    /// # let io = sockeye::Server::default();
    /// let workspaces = io.of_matching(async |wish: sockeye::NamespaceRequest| {
    ///     wish.name().strip_prefix("/workspace-").is_some_and(|id| id.parse::<u32>().is_ok())
    /// });
    /// workspaces.on_connection(async |socket: sockeye::Socket| {
    ///     println!("{} is in {}", socket.id(), socket.namespace().name());
    /// });
    /// ```
    pub fn of_matching<F, Fut>(&self, matches: F) -> ParentNamespace
    where
        F: Fn(NamespaceRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        let parent = ParentNamespace::of_matching(self.template(), matches);
        self.0.namespaces.add_parent(parent.clone());
        parent
    }

    fn template(&self) -> Namespace {
        let name = format!("/_{}", self.0.namespaces.parents_len());
        Namespace::new(name.into(), self.0.shared.clone())
    }

    /// Sees every namespace but `/` that is made, also by clients (Node's `new_namespace`).
    /// A second hook replaces the first.
    pub fn on_new_namespace(&self, hook: impl Fn(&Namespace) + Send + Sync + 'static) {
        self.0.namespaces.set_hook(hook);
    }

    /// The namespaces there are, in no particular order.
    pub fn namespaces(&self) -> Vec<Namespace> {
        self.0.namespaces.namespaces()
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
    /// handlers finish. Returns when all of that is done, or after `limit`; whether it was.
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
                if self.0.open.load(Ordering::Acquire) == 0 {
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

    /// A socket wants to be in a namespace; it is, until [`leave`](Self::leave).
    pub(crate) fn enter(&self, name: &str) -> Option<Namespace> {
        self.0.namespaces.enter(name)
    }

    /// As [`enter`](Self::enter), where there is no such namespace: `None` if no rule could make
    /// one.
    pub(crate) fn enter_new(
        &self,
        request: NamespaceRequest,
    ) -> Option<impl Future<Output = Option<Namespace>> + Send + 'static + use<>> {
        let server = self.clone();
        (self.0.namespaces.parents_len() > 0).then_some(async move {
            let max = server.config().dynamic_namespaces_max;
            server.0.namespaces.enter_new(request, max).await
        })
    }

    /// A socket is gone from a namespace.
    pub(crate) fn leave(&self, namespace: &Namespace) {
        let cleanup = self.config().cleanup_empty_child_namespaces;
        self.0.namespaces.leave(namespace.name(), cleanup);
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
        self.0.open.fetch_add(1, Ordering::AcqRel);
        self.0.sessions.lock().insert(id, peer);
    }

    pub(crate) fn unregister(&self, id: &SessionId) {
        self.0.sessions.lock().remove(id);
    }

    /// Once for each [`register`](Self::register), when the connection's task is done.
    pub(crate) fn connection_ended(&self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use tower_service::Service;

    use super::*;
    use crate::extract::State;

    async fn request(io: &Server, method: &str, session: &str, body: &'static str) -> String {
        let uri = format!("/socket.io/?EIO=4&transport=polling{session}");
        let request = http::Request::builder().method(method).uri(uri);
        let request = request.body(Full::new(Bytes::from_static(body.as_bytes())));
        let answer = io.service().call(request.expect("a request")).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8(body.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn shutdown_waits_for_the_last_handler() {
        let gate = Arc::new(Notify::new());
        let io = Server::builder().state(gate.clone()).build();
        io.on_disconnect(async |State(gate): State<Arc<Notify>>| gate.notified().await);
        let open = request(&io, "GET", "", "").await;
        let id = open.split('"').nth(3).expect("a session's id");
        let session = format!("&sid={id}");
        request(&io, "POST", &session, "40").await;
        assert!(request(&io, "GET", &session, "").await.starts_with("40{"));
        let get = request(&io, "GET", &session, "");
        let mut shutdown = pin!(io.shutdown(Duration::from_secs(3600)));
        let begun = poll_fn(|cx| Poll::Ready(shutdown.as_mut().poll(cx).is_ready())).await;
        assert!(!begun, "there is a connection");
        get.await;
        while io.session_count() > 0 {
            tokio::task::yield_now().await;
        }
        let done = poll_fn(|cx| Poll::Ready(shutdown.as_mut().poll(cx).is_ready())).await;
        assert!(!done, "the handler is not");
        gate.notify_one();
        assert!(shutdown.await);
    }
}
