//! The server: namespaces, sessions and settings; the handle that an application holds.
//! Does not know HTTP; the service brings it connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sockeye_proto::engine::{CloseReason, Transport};
use sockeye_proto::socket::{EmitArgs, ToName};
use sockeye_proto::{SessionId, SocketId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::broadcast::{Broadcast, IntoRooms};
use crate::builder::ServerBuilder;
use crate::cluster::{BusError, ClusterHealth, Forwarding, Link};
use crate::config::Config;
use crate::connection::{Command, Peer};
use crate::erased::Listener;
use crate::error::{EmitError, HandlerError};
use crate::extract::OnConnect;
use crate::handler::Handler;
use crate::metrics;
use crate::namespace::{Namespace, Shared, with_slash};
use crate::parent::{NamespaceRequest, ParentNamespace, PatternError};
use crate::reason::DisconnectReason;
use crate::registry::Registry;
use crate::reply::IntoAdmission;
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
    namespaces: Registry,
    sessions: Mutex<Sessions>,
    admission: Admission,
    is_draining: AtomicBool,
    /// A connection's task has ended.
    ended: Notify,
}

/// The sessions there are.
#[derive(Default)]
struct Sessions {
    peers: HashMap<SessionId, Arc<Peer>>,
    /// How many of them are over WebSocket.
    websockets: usize,
}

/// A server that may have gone, for what outlives it.
pub(crate) struct WeakServer(Weak<Inner>);

impl WeakServer {
    pub(crate) fn upgrade(&self) -> Option<Server> {
        self.0.upgrade().map(Server)
    }
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
        let link = shared.link.clone();
        let server = Self(Arc::new(Inner {
            shared,
            namespaces,
            root,
            sessions: Mutex::default(),
            admission: Admission::default(),
            is_draining: AtomicBool::new(false),
            ended: Notify::new(),
        }));
        if let Some(link) = link {
            link.start(WeakServer(Arc::downgrade(&server.0)));
        }
        server
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

    /// A tower service that answers requests below [`path`](ServerBuilder::path), and hands the
    /// others to `inner`: for [`serve`](crate::serve), or wherever a layer cannot be added.
    pub fn wrap<S>(&self, inner: S) -> SocketIoService<S> {
        SocketIoService::new(inner, self.clone())
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
    pub fn on_connection<H, M>(&self, handler: H) -> Listener
    where
        H: Handler<OnConnect, M, Output = ()>,
        M: 'static,
    {
        self.0.root.on_connection(handler)
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
    pub fn emit(&self, event: impl ToName, args: impl EmitArgs) -> Result<(), EmitError> {
        self.0.root.emit(event, args)
    }

    /// [`Namespace::send`] of `/`.
    ///
    /// # Errors
    /// As [`Broadcast::emit`].
    pub fn send(&self, args: impl EmitArgs) -> Result<(), EmitError> {
        self.0.root.send(args)
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

    /// Sets the gauges of what waits in the outboxes, which are sums over all sessions, and of what
    /// connection state recovery keeps: call it before each scrape. It looks at each session and
    /// each namespace once; see
    /// [`metrics`](ServerBuilder::metrics).
    pub fn sample_metrics(&self) {
        let peers: Vec<_> = self.0.sessions.lock().peers.values().cloned().collect();
        let bytes = peers.iter().map(|peer| peer.outbox().bytes());
        let (sum, max) = bytes.fold((0, 0), |(sum, max), bytes| (sum + bytes, bytes.max(max)));
        metrics::outboxes(sum, max);
        if self.config().recovery.is_some() {
            let namespaces = self.namespaces();
            let held = namespaces.iter().filter_map(|namespace| Some(namespace.recovery()?.held()));
            let (sessions, bytes) = held.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            metrics::kept(sessions, bytes);
        }
    }

    /// Ends the service: new handshakes are refused with 503, each socket is disconnected with
    /// [`DisconnectReason::ServerShuttingDown`], what waits for a client is still sent, and
    /// handlers finish. Returns when all of that is done, or after `limit`; whether it was.
    ///
    /// The HTTP server is the caller's, to be stopped beside it (axum's `with_graceful_shutdown`):
    /// it has the answers to the last GETs when this returns, and may not have sent them yet.
    /// Calling it again waits again.
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.drain(Duration::ZERO, limit).await
    }

    /// As [`shutdown`](Self::shutdown), with the sessions that there are closed little by little
    /// over the time `over`, in random order: closed all at once, clients come back all at once.
    /// Until then they go on as before. Returns when all of it is done, or `limit` after the last
    /// was closed; whether it was.
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
                if self.0.admission.is_empty() {
                    return;
                }
                ended.await;
            }
        };
        let begun = Instant::now();
        let are_gone = tokio::time::timeout(limit, all).await.is_ok();
        let Some(link) = self.link() else { return are_gone };
        if let Some(forwarding) = link.forwarding() {
            forwarding.release(limit.saturating_sub(begun.elapsed())).await;
        }
        link.close(self.namespaces().iter().map(Namespace::name_shared));
        let limit = limit.saturating_sub(begun.elapsed());
        are_gone && tokio::time::timeout(limit, link.closed()).await.is_ok()
    }

    async fn close_in_batches(&self, over: Duration) {
        // A map's order is random already.
        let mut peers: Vec<_> = self.0.sessions.lock().peers.values().cloned().collect();
        let (all, begun) = (peers.len(), Instant::now());
        while begun.elapsed() < over && !self.0.admission.is_empty() {
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

    /// How the link to the cluster is; `None` for a server without one.
    pub fn cluster_health(&self) -> Option<ClusterHealth> {
        self.link().map(|link| link.health())
    }

    /// [`Namespace::node_count`] of `/`.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn node_count(&self) -> Result<usize, BusError> {
        self.0.root.node_count().await
    }

    /// Where requests for sessions of other nodes are forwarded.
    pub(crate) fn forwarding(&self) -> Option<&Arc<Forwarding>> {
        self.link()?.forwarding()
    }

    pub(crate) fn link(&self) -> Option<&Arc<Link>> {
        self.0.shared.link.as_ref()
    }

    /// The namespace of this name, if there is one.
    pub(crate) fn find_namespace(&self, name: &str) -> Option<Namespace> {
        self.0.namespaces.find(name)
    }

    /// The namespace `/`.
    pub(crate) fn root(&self) -> &Namespace {
        &self.0.root
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

    /// Has someone look after what a namespace keeps for clients that lost their connections, for
    /// as long as there is any of it or anyone in the namespace.
    pub(crate) fn sweep(&self, namespace: &Namespace) {
        let Some(recovery) = namespace.recovery() else { return };
        if !recovery.begin_sweeping() {
            return;
        }
        let (server, namespace, recovery) = (self.clone(), namespace.clone(), recovery.clone());
        tokio::spawn(async move {
            let is_needed = || recovery.sweep() || namespace.socket_count() > 0;
            let mut sweep_at = Instant::now() + recovery.sweep_interval();
            loop {
                tokio::select! {
                    () = recovery.changed() => {
                        namespace.enter_changed();
                        continue;
                    }
                    () = tokio::time::sleep_until(sweep_at) => {}
                }
                sweep_at = Instant::now() + recovery.sweep_interval();
                if is_needed() {
                    continue;
                }
                recovery.end_sweeping();
                // Somebody may have come in between.
                if !is_needed() || !recovery.begin_sweeping() {
                    break;
                }
            }
            if server.config().cleanup_empty_child_namespaces {
                server.0.namespaces.remove_unused(namespace.name());
            }
        });
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
        metrics::connection_opened(transport);
        // A handshake that was under way when the server began to end.
        if self.is_draining() {
            peer.command(Command::Close(DisconnectReason::ServerShuttingDown));
        }
        true
    }

    /// A session of long-polling goes on over WebSocket.
    pub(crate) fn register_upgrade(&self) {
        self.0.sessions.lock().websockets += 1;
        metrics::connection_upgraded();
    }

    /// Removes a session, if it is there, from those over `transport`.
    pub(crate) fn unregister(&self, id: &SessionId, transport: Transport, reason: CloseReason) {
        let mut sessions = self.0.sessions.lock();
        if sessions.peers.remove(id).is_some() {
            sessions.websockets -= usize::from(transport == Transport::WebSocket);
            metrics::connection_closed(transport, reason);
        }
    }

    /// A place has been given back.
    pub(crate) fn connection_ended(&self) {
        self.0.ended.notify_waiters();
    }

    /// Secret: 120 random bits, or 96 and where the session lives. Fails where the system has no
    /// randomness to give.
    pub(crate) fn new_session_id(&self) -> Result<SessionId, getrandom::Error> {
        let mut entropy = [0; 15];
        getrandom::fill(&mut entropy)?;
        if let Some(forwarding) = self.forwarding() {
            forwarding.tag().mark(&mut entropy);
        }
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
