//! Dynamic namespaces: names that a pattern or a predicate lets clients make, and what all of
//! those have in common. Does not know connections; they ask it for a namespace by name.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use indexmap::IndexMap;
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use sockeye_proto::socket::{ArgsWriter, EmitArgs, EncodeError, ToName};

use crate::broadcast::{Broadcast, IntoRooms};
use crate::erased::Listener;
use crate::error::EmitError;
use crate::extract::OnConnect;
use crate::handler::{BoxFuture, Handler};
use crate::handshake::Handshake;
use crate::namespace::Namespace;
use crate::reply::IntoAdmission;

/// A client's wish for a namespace that does not exist yet.
#[derive(Clone)]
pub struct NamespaceRequest {
    name: Arc<str>,
    auth: Option<Arc<str>>,
    handshake: Arc<Handshake>,
}

impl NamespaceRequest {
    pub(crate) fn new(name: &str, auth: Option<&str>, handshake: Arc<Handshake>) -> Self {
        Self { name: name.into(), auth: auth.map(Arc::from), handshake }
    }

    /// The name, with its slash.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the client gave as `auth`, read as a `T`; without any, an empty object is read.
    ///
    /// # Errors
    /// It is not a `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.auth.as_deref().unwrap_or("{}"))
    }

    /// The request that opened the connection.
    pub fn handshake(&self) -> &Handshake {
        &self.handshake
    }
}

impl fmt::Debug for NamespaceRequest {
    /// `auth` may hold secrets: it is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A pattern of [`Server::of_pattern`](crate::Server::of_pattern) cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("not a pattern of namespaces: {0}")]
pub struct PatternError(#[from] matchit::InsertError);

type Predicate = dyn Fn(NamespaceRequest) -> BoxFuture<bool> + Send + Sync;

enum Names {
    Pattern(matchit::Router<()>),
    Predicate(Box<Predicate>),
}

/// The namespaces that clients make under one rule; made by
/// [`Server::of_pattern`](crate::Server::of_pattern) and
/// [`Server::of_matching`](crate::Server::of_matching). Clones are handles to the same one.
///
/// Each child begins with the middlewares and handlers that its parent has at that moment, as in
/// Node; what is broadcast here reaches every child.
#[derive(Clone)]
pub struct ParentNamespace(Arc<Inner>);

struct Inner {
    /// What children are made like. No client is ever in it.
    template: Namespace,
    names: Names,
    children: RwLock<IndexMap<Arc<str>, Namespace>>,
}

impl fmt::Debug for ParentNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParentNamespace")
            .field("children", &self.0.children.read().len())
            .finish_non_exhaustive()
    }
}

impl ParentNamespace {
    pub(crate) fn of_pattern(template: Namespace, pattern: &str) -> Result<Self, PatternError> {
        let mut router = matchit::Router::new();
        router.insert(crate::namespace::with_slash(pattern).into_owned(), ())?;
        Ok(Self::new(template, Names::Pattern(router)))
    }

    pub(crate) fn of_matching<F, Fut>(template: Namespace, matches: F) -> Self
    where
        F: Fn(NamespaceRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        let matches = move |request| -> BoxFuture<bool> { Box::pin(matches(request)) };
        Self::new(template, Names::Predicate(Box::new(matches)))
    }

    fn new(template: Namespace, names: Names) -> Self {
        Self(Arc::new(Inner { template, names, children: RwLock::default() }))
    }

    /// [`Namespace::middleware`] of the children that are made from now on.
    pub fn middleware<H, M>(&self, middleware: H)
    where
        H: Handler<OnConnect, M>,
        H::Output: IntoAdmission,
        M: 'static,
    {
        self.0.template.middleware(middleware);
    }

    /// [`Namespace::on_connection`] of the children that are made from now on.
    pub fn on_connection<H, M>(&self, handler: H) -> Listener
    where
        H: Handler<OnConnect, M, Output = ()>,
        M: 'static,
    {
        self.0.template.on_connection(handler)
    }

    /// The children there are now, in the order in which they were made.
    pub fn children(&self) -> Vec<Namespace> {
        self.0.children.read().values().cloned().collect()
    }

    /// To everyone in every child.
    pub fn broadcast(&self) -> ParentBroadcast {
        ParentBroadcast(self.children().iter().map(Namespace::broadcast).collect())
    }

    /// To everyone in these rooms of every child.
    pub fn to(&self, rooms: impl IntoRooms) -> ParentBroadcast {
        self.broadcast().to(rooms)
    }

    /// To everyone in every child but those in these rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> ParentBroadcast {
        self.broadcast().except(rooms)
    }

    /// Sends an event to everyone in every child; see [`ParentBroadcast::emit`].
    ///
    /// # Errors
    /// As [`Broadcast::emit`].
    pub fn emit(&self, event: impl ToName, args: impl EmitArgs) -> Result<(), EmitError> {
        self.broadcast().emit(event, args)
    }

    /// What children are made like.
    pub(crate) fn template(&self) -> &Namespace {
        &self.0.template
    }

    /// Whether the rule lets a client make this namespace.
    pub(crate) async fn matches(&self, request: &NamespaceRequest) -> bool {
        match &self.0.names {
            Names::Pattern(_) => self.has_pattern_for(request.name()),
            Names::Predicate(matches) => matches(request.clone()).await,
        }
    }

    /// Whether a pattern (not a predicate, which may want to see a client) takes this name.
    pub(crate) fn has_pattern_for(&self, name: &str) -> bool {
        matches!(&self.0.names, Names::Pattern(router) if router.at(name).is_ok())
    }

    /// A new child of this name.
    pub(crate) fn make(&self, name: Arc<str>) -> Namespace {
        let params = match &self.0.names {
            Names::Pattern(router) => router.at(&name).map_or_else(
                |_| Vec::new(),
                |found| found.params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            ),
            Names::Predicate(_) => Vec::new(),
        };
        let child = self.0.template.child(name.clone(), params);
        self.0.children.write().insert(name, child.clone());
        child
    }

    pub(crate) fn forget(&self, name: &str) {
        self.0.children.write().shift_remove(name);
    }
}

/// A broadcast to the children that a [`ParentNamespace`] had when it was made. As with
/// [`Broadcast`], every method returns a changed copy.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `emit`"]
pub struct ParentBroadcast(Vec<Broadcast>);

impl ParentBroadcast {
    /// As [`Broadcast::to`].
    pub fn to(self, rooms: impl IntoRooms) -> Self {
        let rooms = rooms.collect();
        self.map(|broadcast| broadcast.to(&rooms))
    }

    /// As [`Broadcast::except`].
    pub fn except(self, rooms: impl IntoRooms) -> Self {
        let rooms = rooms.collect();
        self.map(|broadcast| broadcast.except(&rooms))
    }

    /// As [`Broadcast::local`].
    pub fn local(self) -> Self {
        self.map(Broadcast::local)
    }

    /// As [`Broadcast::volatile`].
    pub fn volatile(self) -> Self {
        self.map(Broadcast::volatile)
    }

    /// As [`Broadcast::compress`].
    pub fn compress(self, compress: bool) -> Self {
        self.map(|broadcast| broadcast.compress(compress))
    }

    /// As [`Broadcast::conflate`].
    pub fn conflate(self, key: impl Into<Arc<str>>) -> Self {
        let key = key.into();
        self.map(|broadcast| broadcast.conflate(key.clone()))
    }

    /// Sends an event, encoded once for each child: its name is in the packet.
    ///
    /// # Errors
    /// As [`Broadcast::emit`].
    pub fn emit(&self, event: impl ToName, args: impl EmitArgs) -> Result<(), EmitError> {
        let event = event.to_name();
        self.0.iter().try_for_each(|broadcast| broadcast.emit(&event, Again(&args)))
    }

    fn map(self, change: impl FnMut(Broadcast) -> Broadcast) -> Self {
        Self(self.0.into_iter().map(change).collect())
    }
}

/// The same arguments for one more emit.
struct Again<'a, T>(&'a T);

impl<T: EmitArgs> EmitArgs for Again<'_, T> {
    fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        self.0.write(out)
    }
}
