//! Handlers: async functions whose parameters are extractors, and what becomes of their results.
//! Does not know when they run; the connection's task polls them.

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;
use sockeye_proto::socket::{EmitArgs, EncodedPacket};

use crate::error::{ConnectError, HandlerError, Rejection};
use crate::extract::{FromParts, OnConnect, OnDisconnect, OnEvent, Parts};

/// A future that a connection's task polls.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An async function of up to eight extractors, for events ([`OnEvent`]), new connections
/// ([`OnConnect`]) or ends of connections ([`OnDisconnect`]).
///
/// It is implemented for async functions and closures; there is nothing to implement by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "must be an async function whose parameters are all extractors",
    note = "every parameter must implement `FromParts`: `Socket`, `Data<T>`, `Ack`, `State<T>` …",
    note = "an event handler returns `()`, `Reply<T>` or `Result<T, impl Into<HandlerError>>`",
    note = "its future must be `Send`, and must not borrow what the closure owns"
)]
pub trait Handler<K, M>: Send + Sync + 'static {
    /// What it returns.
    type Output;
    /// Its future.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Extracts the arguments and makes the future.
    ///
    /// # Errors
    /// The first extractor's that cannot make its value.
    fn call(&self, parts: &mut Parts<'_>) -> Result<Self::Future, Rejection>;
}

macro_rules! handler {
    ($($name:ident)*) => {
        impl<F, Fut, K, $($name),*> Handler<K, ($($name,)*)> for F
        where
            F: Fn($($name),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            $($name: FromParts<K>,)*
        {
            type Output = Fut::Output;
            type Future = Fut;

            #[allow(non_snake_case, unused_variables)]
            fn call(&self, parts: &mut Parts<'_>) -> Result<Fut, Rejection> {
                $(let $name = $name::from_parts(parts)?;)*
                Ok(self($($name),*))
            }
        }
    };
}

handler!();
handler!(A);
handler!(A B);
handler!(A B C);
handler!(A B C D);
handler!(A B C D E);
handler!(A B C D E G);
handler!(A B C D E G H);
handler!(A B C D E G H I);

/// What an event handler may return: nothing, [`Reply`], or a `Result` whose value becomes the
/// acknowledgement's argument and whose error becomes its error object.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an acknowledgement",
    note = "return `()`, `Reply(value)` or `Result<T, E>` with `T: Serialize` and \
            `E: Into<HandlerError>`"
)]
pub trait IntoReply {
    /// Writes the acknowledgement `id` of `namespace`.
    ///
    /// # Errors
    /// The handler's own error, or that its value cannot be written.
    fn into_reply(self, target: Option<&AckTarget>) -> Result<Option<EncodedPacket>, HandlerError>;
}

/// Which acknowledgement a reply answers.
#[derive(Clone, Debug)]
pub struct AckTarget {
    pub(crate) namespace: std::sync::Arc<str>,
    pub(crate) id: u64,
}

impl AckTarget {
    pub(crate) fn reply(&self, args: &impl EmitArgs) -> Result<EncodedPacket, HandlerError> {
        EncodedPacket::ack(&self.namespace, self.id, args)
            .map_err(|error| HandlerError::unanswerable(&error))
    }

    pub(crate) fn refuse(&self, error: &HandlerError) -> EncodedPacket {
        EncodedPacket::ack_raw(&self.namespace, self.id, &error.to_json(), &[])
    }
}

/// A handler's answer, with as many arguments as `T` has (see
/// [`EmitArgs`](crate::EmitArgs)): `Reply(("one", 2))`.
#[derive(Clone, Copy, Debug)]
pub struct Reply<T>(pub T);

impl IntoReply for () {
    /// An acknowledgement without arguments: the event was handled.
    fn into_reply(self, target: Option<&AckTarget>) -> Result<Option<EncodedPacket>, HandlerError> {
        target.map(|target| target.reply(&())).transpose()
    }
}

impl<T: EmitArgs> IntoReply for Reply<T> {
    fn into_reply(self, target: Option<&AckTarget>) -> Result<Option<EncodedPacket>, HandlerError> {
        target.map(|target| target.reply(&self.0)).transpose()
    }
}

impl<T: Serialize + 'static, E: Into<HandlerError>> IntoReply for Result<T, E> {
    fn into_reply(self, target: Option<&AckTarget>) -> Result<Option<EncodedPacket>, HandlerError> {
        let value = self.map_err(Into::into)?;
        let Some(target) = target else { return Ok(None) };
        // `Ok(())` says that there is nothing to say, not `null`.
        let reply = if std::any::TypeId::of::<T>() == std::any::TypeId::of::<()>() {
            target.reply(&())
        } else {
            target.reply(&&value)
        };
        reply.map(Some)
    }
}

/// What a middleware returns.
#[diagnostic::on_unimplemented(
    message = "a middleware cannot return `{Self}`",
    note = "return `Result<(), E>` with `E: Into<ConnectError>`"
)]
pub trait IntoAdmission {
    /// Lets the connection in or refuses it.
    ///
    /// # Errors
    /// Why it is refused.
    fn into_admission(self) -> Result<(), ConnectError>;
}

impl<E: Into<ConnectError>> IntoAdmission for Result<(), E> {
    fn into_admission(self) -> Result<(), ConnectError> {
        self.map_err(Into::into)
    }
}

/// What an event handler comes to: the packet that answers, or its error.
pub(crate) type Outcome = Result<Option<EncodedPacket>, HandlerError>;

/// A started event handler.
pub(crate) struct Call {
    pub(crate) future: BoxFuture<Outcome>,
    /// Whom to tell if it panics; `None` also when the handler took the `Ack` to answer itself.
    pub(crate) target: Option<AckTarget>,
}

pub(crate) trait EventHandler: Send + Sync {
    fn call(&self, parts: &mut Parts<'_>) -> Result<Call, Rejection>;
}

pub(crate) trait ConnectHandler: Send + Sync {
    fn call(&self, parts: &mut Parts<'_>) -> Result<BoxFuture<()>, Rejection>;
}

pub(crate) trait Middleware: Send + Sync {
    fn call(&self, parts: &mut Parts<'_>)
    -> Result<BoxFuture<Result<(), ConnectError>>, Rejection>;
}

/// Hides a handler's type, and with it the types of its arguments.
pub(crate) struct Erased<H, M> {
    handler: H,
    types: std::marker::PhantomData<fn() -> M>,
}

impl<H, M> Erased<H, M> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler, types: std::marker::PhantomData }
    }
}

impl<H, M> EventHandler for Erased<H, M>
where
    H: Handler<OnEvent, M>,
    H::Output: IntoReply,
{
    fn call(&self, parts: &mut Parts<'_>) -> Result<Call, Rejection> {
        let future = self.handler.call(parts)?;
        // The handler may have taken the acknowledgement to answer it itself.
        let target = parts.take_ack();
        let answers = target.clone();
        let future = Box::pin(async move { future.await.into_reply(answers.as_ref()) });
        Ok(Call { future, target })
    }
}

impl<H, M> ConnectHandler for Erased<H, (OnConnect, M)>
where
    H: Handler<OnConnect, M, Output = ()>,
{
    fn call(&self, parts: &mut Parts<'_>) -> Result<BoxFuture<()>, Rejection> {
        Ok(Box::pin(self.handler.call(parts)?))
    }
}

impl<H, M> ConnectHandler for Erased<H, (OnDisconnect, M)>
where
    H: Handler<OnDisconnect, M, Output = ()>,
{
    fn call(&self, parts: &mut Parts<'_>) -> Result<BoxFuture<()>, Rejection> {
        Ok(Box::pin(self.handler.call(parts)?))
    }
}

impl<H, M> Middleware for Erased<H, M>
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
