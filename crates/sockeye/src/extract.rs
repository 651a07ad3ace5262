//! Extractors: what a handler's parameters can be, and how each gets its value.
//! Knows an event as its parts; does not know how handlers are run.

use std::any::type_name;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sockeye_proto::SocketId;
use sockeye_proto::socket::{ArgsCursor, EmitArgs, EncodedPacket, OwnedArgs};

use crate::error::{EmitError, Rejection};
use crate::handlers::Hook;
use crate::handshake::Handshake;
use crate::namespace::Namespace;
use crate::reason::DisconnectReason;
use crate::reply::AckTarget;
use crate::socket::Socket;

/// Marks handlers of events.
#[derive(Debug)]
pub enum OnEvent {}
/// Marks handlers of new connections, middlewares among them.
#[derive(Debug)]
pub enum OnConnect {}
/// Marks handlers of ends of connections.
#[derive(Debug)]
pub enum OnDisconnect {}

/// What a handler is called with; extractors take their values from it.
pub struct Parts<'a> {
    socket: &'a Socket,
    event: &'a str,
    args: Option<ArgsCursor<'a>>,
    /// The acknowledgement that nobody has taken.
    ack: Option<u64>,
    reason: Option<DisconnectReason>,
}

impl<'a> Parts<'a> {
    pub(crate) fn event(
        socket: &'a Socket,
        event: &'a str,
        args: ArgsCursor<'a>,
        ack: Option<u64>,
    ) -> Self {
        Self { socket, event, args: Some(args), ack, reason: None }
    }

    /// For hooks; `reason` where the socket ends.
    pub(crate) fn hook(socket: &'a Socket, hook: Hook, reason: Option<DisconnectReason>) -> Self {
        Self { socket, event: hook.name(), args: None, ack: None, reason }
    }

    /// The socket that the handler serves.
    pub fn socket(&self) -> &Socket {
        self.socket
    }

    /// The event's name (`connection`, `disconnecting` and `disconnect` for hooks).
    pub fn event_name(&self) -> &str {
        self.event
    }

    /// Takes the next argument of the event. A missing one is `null`.
    ///
    /// # Errors
    /// The argument is not a `T`.
    pub fn next_argument<T: DeserializeOwned>(&mut self) -> Result<T, Rejection> {
        self.cursor()?.next().map_err(|error| Rejection::of(&error))
    }

    fn cursor(&mut self) -> Result<&mut ArgsCursor<'a>, Rejection> {
        self.args.as_mut().ok_or_else(|| Rejection::new("there are no arguments here"))
    }

    /// The acknowledgement that the handler has left.
    pub(crate) fn ack(&self) -> Option<u64> {
        self.ack
    }

    pub(crate) fn ack_target(&self) -> Option<AckTarget> {
        let namespace = || self.socket.namespace().name_shared();
        self.ack.map(|id| AckTarget { namespace: namespace(), id })
    }
}

/// A handler's parameter. `K` says for which handlers: [`OnEvent`], [`OnConnect`],
/// [`OnDisconnect`].
///
/// ```
/// use sockeye::{FromParts, OnEvent, Parts, Rejection};
///
/// struct Room(String);
///
/// impl FromParts<OnEvent> for Room {
///     fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
///         let name: String = parts.next_argument()?;
///         if name.len() > 64 {
///             return Err(Rejection::new("a room's name has at most 64 characters"));
///         }
///         Ok(Self(name))
///     }
/// }
/// ```
///
/// Everywhere:
/// * [`Socket`], [`SocketId`], [`Namespace`]: whom the event concerns.
/// * [`Arc<Handshake>`](Handshake): the request that opened the connection.
/// * [`Auth<T>`]: what the client gave as `auth`.
/// * [`State<T>`], [`Extension<T>`]: what the server, or the socket, keeps for handlers.
/// * `Option<T>` of an extractor: `None` where there is nothing, that is no (further) argument or
///   `null`, no `auth`, no such value, no acknowledgement wanted. What is wrong is an error still.
/// * `Result<T, Rejection>` of an extractor: the handler is called in any case, and sees what was
///   wrong.
///
/// Of events:
/// * [`Data<T>`], [`Args<T>`], [`RawArgs`]: arguments, also with [`Binary`](crate::Binary) in them.
/// * [`EventName`]: the event's name.
/// * [`Ack`]: its acknowledgement.
///
/// Of ends of connections:
/// * [`DisconnectReason`]: why the socket ends.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an extractor here",
    label = "not what this handler can be given",
    note = "everywhere: `Socket`, `SocketId`, `Namespace`, `Arc<Handshake>`, `Auth<T>`, \
            `State<T>`, `Extension<T>`; for events: `Data<T>`, `Args<T>`, `RawArgs`, `EventName`, \
            `Ack`; for disconnections: `DisconnectReason`; `Option` and \
            `Result<_, Rejection>` of them",
    note = "`T` is owned (`DeserializeOwned`); `State` and `Extension` ask for `Clone` too"
)]
pub trait FromParts<K>: Sized {
    /// Makes the value.
    ///
    /// # Errors
    /// Why it cannot be made; the handler is then not called.
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection>;

    /// Makes the value of an `Option<Self>`: `None` where there is nothing to make it of. What is
    /// there and wrong is an error all the same. Default: there always is something.
    ///
    /// # Errors
    /// As [`from_parts`](Self::from_parts).
    fn from_parts_if_any(parts: &mut Parts<'_>) -> Result<Option<Self>, Rejection> {
        Self::from_parts(parts).map(Some)
    }
}

macro_rules! of_the_socket {
    ($($type:ty: $socket:ident => $value:expr;)*) => {
        $(impl<K> FromParts<K> for $type {
            fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
                let $socket = parts.socket;
                Ok($value)
            }
        })*
    };
}

of_the_socket! {
    Socket: socket => socket.clone();
    SocketId: socket => socket.id();
    Namespace: socket => socket.namespace().clone();
    Arc<Handshake>: socket => socket.handshake_shared().clone();
}

/// The next argument of the event, as a `T`: the first `Data` of a handler is the first argument,
/// the second the second. A missing argument is `null`, so `Option<T>` may be left out.
#[derive(Clone, Copy, Debug)]
pub struct Data<T>(pub T);

impl<T: DeserializeOwned> FromParts<OnEvent> for Data<T> {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        parts.next_argument().map(Self)
    }

    fn from_parts_if_any(parts: &mut Parts<'_>) -> Result<Option<Self>, Rejection> {
        Ok(parts.next_argument::<Option<T>>()?.map(Self))
    }
}

/// All (remaining) arguments, as a tuple, a `Vec<T>` or another type that a list makes.
#[derive(Clone, Copy, Debug)]
pub struct Args<T>(pub T);

impl<T: DeserializeOwned> FromParts<OnEvent> for Args<T> {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        parts.cursor()?.rest().map(Self).map_err(|error| Rejection::of(&error))
    }

    fn from_parts_if_any(parts: &mut Parts<'_>) -> Result<Option<Self>, Rejection> {
        if parts.cursor()?.is_empty() { Ok(None) } else { Self::from_parts(parts).map(Some) }
    }
}

/// All (remaining) arguments as they came, unread: valid JSON, with the binary attachments beside
/// it. They can be emitted again as they are.
#[derive(Clone, Debug)]
pub struct RawArgs(pub OwnedArgs);

impl FromParts<OnEvent> for RawArgs {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        Ok(Self(parts.cursor()?.rest_owned()))
    }
}

/// The event's name.
#[derive(Clone, Debug)]
pub struct EventName(pub String);

impl FromParts<OnEvent> for EventName {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        Ok(Self(parts.event.to_owned()))
    }
}

/// What the client gave as `auth` on connection, as a `T`. Without any it is an empty object.
#[derive(Clone, Copy, Debug)]
pub struct Auth<T>(pub T);

impl<K, T: DeserializeOwned> FromParts<K> for Auth<T> {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        parts
            .socket
            .auth()
            .map(Self)
            .map_err(|error| Rejection::of(&format_args!("auth is not what was expected: {error}")))
    }

    fn from_parts_if_any(parts: &mut Parts<'_>) -> Result<Option<Self>, Rejection> {
        let has_auth = parts.socket.has_auth();
        has_auth.then(|| <Self as FromParts<K>>::from_parts(parts)).transpose()
    }
}

/// A clone of what [`ServerBuilder::state`](crate::ServerBuilder::state) was given.
#[derive(Clone, Copy, Debug)]
pub struct State<T>(pub T);

/// A clone of the socket's own value of type `T`, which somebody has put into
/// [`Socket::data`]: a middleware that has found out who it is, for example.
///
/// ```
/// use sockeye::{Auth, ConnectError, Extension, Reply, Server, Socket};
///
/// #[derive(Clone)]
/// struct User(String);
///
/// let io = Server::default();
/// io.middleware(async |socket: Socket, Auth(name): Auth<String>| {
///     socket.data().insert(User(name));
///     Ok::<_, ConnectError>(())
/// });
/// io.on("whoami", async |Extension(User(name)): Extension<User>| Reply(name));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Extension<T>(pub T);

macro_rules! kept {
    ($($name:ident: $owner:literal, $socket:ident => $extensions:expr;)*) => {
        $(impl<K, T: Clone + Send + Sync + 'static> FromParts<K> for $name<T> {
            fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
                let value = <Self as FromParts<K>>::from_parts_if_any(parts)?;
                value.ok_or_else(|| {
                    let name = type_name::<T>();
                    Rejection::new(format!(concat!("the ", $owner, " has no {}"), name))
                })
            }

            fn from_parts_if_any(parts: &mut Parts<'_>) -> Result<Option<Self>, Rejection> {
                let $socket = parts.socket;
                Ok($extensions.get::<T>().map(Self))
            }
        })*
    };
}

kept! {
    State: "server's state", socket => socket.namespace().state();
    Extension: "socket's data", socket => socket.data();
}

impl FromParts<OnDisconnect> for DisconnectReason {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        parts.reason.ok_or_else(|| Rejection::new("nothing was disconnected"))
    }
}

/// Answers the client by hand; with this parameter, what the handler returns is not sent, and no
/// further listener of the event can answer.
///
/// Nothing leaves if it is dropped without [`send`](Self::send), or if the client asked for no
/// acknowledgement.
#[derive(Debug)]
pub struct Ack {
    socket: Socket,
    id: Option<u64>,
}

impl Ack {
    /// Whether the client waits for an answer.
    pub fn is_wanted(&self) -> bool {
        self.id.is_some()
    }

    /// Answers; each acknowledgement once, which the `self` sees to.
    ///
    /// # Errors
    /// The arguments cannot be written, or the socket is gone.
    pub fn send(self, args: impl EmitArgs) -> Result<(), EmitError> {
        let Some(id) = self.id else { return Ok(()) };
        let packet = EncodedPacket::ack(self.socket.namespace().name(), id, &args)?;
        self.socket.push(packet)
    }
}

impl FromParts<OnEvent> for Ack {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        Ok(Self { socket: parts.socket.clone(), id: parts.ack.take() })
    }

    fn from_parts_if_any(parts: &mut Parts<'_>) -> Result<Option<Self>, Rejection> {
        Ok(Some(Self::from_parts(parts)?).filter(Self::is_wanted))
    }
}

impl<K, T: FromParts<K>> FromParts<K> for Option<T> {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        T::from_parts_if_any(parts)
    }
}

impl<K, T: FromParts<K>> FromParts<K> for Result<T, Rejection> {
    /// The handler is called in any case and sees what was wrong.
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        Ok(T::from_parts(parts))
    }
}
