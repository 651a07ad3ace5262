//! Handlers: async functions whose parameters are extractors.
//! Does not know when they run; the connection's task polls them.

use std::future::Future;
use std::pin::Pin;

use crate::error::Rejection;
use crate::extract::{FromParts, Parts};

/// A future that a connection's task polls.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An async function of up to eight extractors, for events ([`OnEvent`](crate::OnEvent)), new
/// connections ([`OnConnect`](crate::OnConnect)) or ends of connections
/// ([`OnDisconnect`](crate::OnDisconnect)).
///
/// It is implemented for async functions, for async closures that capture nothing, and for
/// closures that return a future; there is nothing to implement by hand. An async closure that
/// captures something lends it to its future, which stable Rust cannot require to be `Send`:
/// [`with`] hands a handler a clone of what it needs instead, and [`State`](crate::State) a clone
/// of what all handlers share.
///
/// ```
/// use sockeye::{Data, HandlerError, Server, Socket, State, with};
///
/// #[derive(Clone)]
/// struct Database;
///
/// async fn rename(socket: Socket, Data(name): Data<String>) -> Result<(), HandlerError> {
///     socket.data().insert(name);
///     Ok(())
/// }
///
/// let io = Server::builder().state(Database).build();
/// io.on_connection(async |socket: Socket| {
///     socket.on("rename", rename);
///     socket.on("load", async |State(_database): State<Database>| {});
///     let joined = std::time::Instant::now();
///     socket.on("age", with(joined, async |joined: std::time::Instant| {
///         Ok::<_, HandlerError>(joined.elapsed().as_secs())
///     }));
///     socket.on("age-too", move || async move {
///         Ok::<_, HandlerError>(joined.elapsed().as_secs())
///     });
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler here",
    label = "must be an async function whose parameters, at most eight, are all extractors",
    note = "every parameter must implement `FromParts`: `Socket`, `Data<T>`, `Ack`, `State<T>` …; \
            handlers of connections and disconnections have no arguments and no `Ack`",
    note = "an async closure must not capture anything: pass what it needs by \
            `with(value, async |value: Value, …| …)`, or return a future: \
            `move |…| {{ let value = value.clone(); async move {{ … }} }}`",
    note = "its future must be `Send`: nothing that is not may live across an `.await`"
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

/// A handler with a value of its own; made by [`with`].
#[derive(Clone, Copy, Debug)]
pub struct With<S, F> {
    value: S,
    handler: F,
}

/// Gives a handler a clone of `value` as its first parameter, at each call: what a closure would
/// capture. Several values are a tuple.
///
/// ```
/// # use sockeye::{Data, HandlerError, Server, Socket, with};
/// # use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// # let io = Server::default();
/// let count = Arc::new(AtomicU64::new(0));
/// io.on("count", with((count, 10), async |(count, step): (Arc<AtomicU64>, u64)| {
///     Ok::<_, HandlerError>(count.fetch_add(step, Ordering::Relaxed))
/// }));
/// ```
pub fn with<S, F>(value: S, handler: F) -> With<S, F>
where
    S: Clone + Send + Sync + 'static,
{
    With { value, handler }
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

        #[diagnostic::do_not_recommend]
        impl<S, F, Fut, K, $($name),*> Handler<K, (S, ($($name,)*))> for With<S, F>
        where
            S: Clone + Send + Sync + 'static,
            F: Fn(S, $($name),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            $($name: FromParts<K>,)*
        {
            type Output = Fut::Output;
            type Future = Fut;

            #[allow(non_snake_case, unused_variables)]
            fn call(&self, parts: &mut Parts<'_>) -> Result<Fut, Rejection> {
                $(let $name = $name::from_parts(parts)?;)*
                Ok((self.handler)(self.value.clone(), $($name),*))
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
