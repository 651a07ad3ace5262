//! Handlers whose types are hidden, and with them the types of their arguments; each says what
//! part it has in an event. Does not know when they run.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use sockeye_proto::socket::EncodedPacket;

use crate::error::{ConnectError, HandlerError, Rejection};
use crate::extract::{OnConnect, OnEvent, Parts};
use crate::handler::{BoxFuture, Handler};
use crate::reply::{AckTarget, IntoAdmission, IntoReply, IntoVerdict};

/// What a step of an event comes to: the packet that answers, or its error, which is large and
/// rare.
pub(crate) type Outcome = Result<Option<EncodedPacket>, Box<HandlerError>>;

/// The part of a handler in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sees the event and changes nothing.
    Observer,
    /// May refuse it.
    Middleware,
    Listener,
    /// A listener that hears one event.
    Once,
    /// A listener of which so many may run at one time, for one socket.
    Concurrent(u32),
}

impl Role {
    pub(crate) fn is_listener(self) -> bool {
        !matches!(self, Self::Observer | Self::Middleware)
    }
}

pub(crate) trait EventHandler: Send + Sync {
    fn role(&self) -> Role;

    /// Starts it. The future takes the acknowledgement along that the handler itself has left in
    /// `parts`.
    fn call(&self, parts: &mut Parts<'_>) -> Result<BoxFuture<Outcome>, Rejection>;
}

/// A handler of connections or of their ends.
pub(crate) trait HookHandler: Send + Sync {
    fn call(&self, parts: &mut Parts<'_>) -> Result<BoxFuture<()>, Rejection>;
}

/// A middleware of connections.
pub(crate) trait Middleware: Send + Sync {
    fn call(&self, parts: &mut Parts<'_>)
    -> Result<BoxFuture<Result<(), ConnectError>>, Rejection>;
}

/// A handler `H` in the role `R`.
pub(crate) struct Erased<H, M, R> {
    handler: H,
    role: R,
    types: PhantomData<fn() -> M>,
}

impl<H, M, R> Erased<H, M, R> {
    pub(crate) fn new(role: R, handler: H) -> Self {
        Self { handler, role, types: PhantomData }
    }
}

/// A role as a type, so that a handler in it is no larger than the handler.
pub(crate) trait RoleOf<T> {
    fn role(&self) -> Role;
    fn outcome(result: T, target: Option<&AckTarget>) -> Outcome;
}

pub(crate) struct Observing;
pub(crate) struct Judging;
pub(crate) struct Listening;
pub(crate) struct ListeningOnce;
pub(crate) struct ListeningConcurrently(u32);

impl ListeningConcurrently {
    pub(crate) fn at_most(limit: usize) -> Self {
        Self(u32::try_from(limit).unwrap_or(u32::MAX).max(1))
    }
}

/// The role of hooks of `K`.
pub(crate) struct Hooking<K>(pub(crate) PhantomData<fn() -> K>);
/// The role of middlewares of connections.
pub(crate) struct Admitting;

impl RoleOf<()> for Observing {
    fn role(&self) -> Role {
        Role::Observer
    }

    fn outcome((): (), _: Option<&AckTarget>) -> Outcome {
        Ok(None)
    }
}

impl<T: IntoVerdict> RoleOf<T> for Judging {
    fn role(&self) -> Role {
        Role::Middleware
    }

    fn outcome(result: T, _: Option<&AckTarget>) -> Outcome {
        result.into_verdict().map(|()| None).map_err(Box::new)
    }
}

macro_rules! listeners {
    ($($type:ident: $self:ident => $role:expr;)*) => {
        $(impl<T: IntoReply> RoleOf<T> for $type {
            fn role(&$self) -> Role {
                $role
            }

            fn outcome(result: T, target: Option<&AckTarget>) -> Outcome {
                result.into_reply(target).map_err(Box::new)
            }
        })*
    };
}

listeners! {
    Listening: self => Role::Listener;
    ListeningOnce: self => Role::Once;
    ListeningConcurrently: self => Role::Concurrent(self.0);
}

impl<H, M, R> EventHandler for Erased<H, M, R>
where
    H: Handler<OnEvent, M>,
    R: RoleOf<H::Output> + Send + Sync + 'static,
{
    fn role(&self) -> Role {
        self.role.role()
    }

    fn call(&self, parts: &mut Parts<'_>) -> Result<BoxFuture<Outcome>, Rejection> {
        let future = self.handler.call(parts)?;
        Ok(Box::pin(Step { future, target: parts.ack_target(), role: PhantomData::<R> }))
    }
}

pin_project_lite::pin_project! {
    /// A handler's future, and what becomes of its result. An async block would hold the future
    /// twice: as what it has captured, and as what it waits for.
    struct Step<F, R> {
        #[pin]
        future: F,
        target: Option<AckTarget>,
        role: PhantomData<R>,
    }
}

impl<F: Future, R: RoleOf<F::Output>> Future for Step<F, R> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let me = self.project();
        me.future.poll(cx).map(|result| R::outcome(result, me.target.as_ref()))
    }
}

impl<H, M, K> HookHandler for Erased<H, M, Hooking<K>>
where
    H: Handler<K, M, Output = ()>,
{
    fn call(&self, parts: &mut Parts<'_>) -> Result<BoxFuture<()>, Rejection> {
        Ok(Box::pin(self.handler.call(parts)?))
    }
}

impl<H, M> Middleware for Erased<H, M, Admitting>
where
    H: Handler<OnConnect, M>,
    H::Output: IntoAdmission,
{
    fn call(
        &self,
        parts: &mut Parts<'_>,
    ) -> Result<BoxFuture<Result<(), ConnectError>>, Rejection> {
        let future = self.handler.call(parts)?;
        Ok(Box::pin(async move { future.await.into_admission() }))
    }
}

/// One listener, catch-all, middleware of events or hook, to be taken off again by `off_listener`.
///
/// It names what was added and holds neither that nor the socket; dropping it changes nothing.
#[derive(Clone)]
pub struct Listener(Weak<dyn Send + Sync>);

impl Listener {
    pub(crate) fn of<T: Send + Sync + 'static>(handler: &Arc<T>) -> Self {
        let name: Weak<T> = Arc::downgrade(handler);
        Self(name)
    }

    /// Whether it names this one. Its place in memory is not used again while it is named.
    pub(crate) fn is<T: ?Sized>(&self, handler: &Arc<T>) -> bool {
        self.0.as_ptr().cast::<()>() == Arc::as_ptr(handler).cast::<()>()
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({:p})", self.0.as_ptr())
    }
}
