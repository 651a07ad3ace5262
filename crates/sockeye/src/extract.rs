//! Extractors: what a handler's parameters can be, and how each gets its value.
//! Knows an event as its parts; does not know how handlers are run.

use serde::de::DeserializeOwned;
use sockeye_proto::socket::{ArgsCursor, EmitArgs, OwnedArgs};

use crate::error::{EmitError, Rejection};
use crate::handler::AckTarget;
use crate::reason::DisconnectReason;
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
    ack: Option<AckTarget>,
    reason: Option<DisconnectReason>,
}

impl<'a> Parts<'a> {
    pub(crate) fn event(
        socket: &'a Socket,
        event: &'a str,
        args: ArgsCursor<'a>,
        ack: Option<AckTarget>,
    ) -> Self {
        Self { socket, event, args: Some(args), ack, reason: None }
    }

    pub(crate) fn connect(socket: &'a Socket) -> Self {
        Self { socket, event: "connection", args: None, ack: None, reason: None }
    }

    pub(crate) fn disconnect(socket: &'a Socket, reason: DisconnectReason) -> Self {
        Self { socket, event: "disconnect", args: None, ack: None, reason: Some(reason) }
    }

    /// The socket that the handler serves.
    pub fn socket(&self) -> &Socket {
        self.socket
    }

    /// The event's name (`connection` and `disconnect` for those hooks).
    pub fn event_name(&self) -> &str {
        self.event
    }

    /// Takes the next argument of the event. A missing one is `null`.
    ///
    /// # Errors
    /// The argument is not a `T`.
    pub fn next_argument<T: DeserializeOwned>(&mut self) -> Result<T, Rejection> {
        self.cursor()?.next().map_err(|error| Rejection::new(error.to_string()))
    }

    fn cursor(&mut self) -> Result<&mut ArgsCursor<'a>, Rejection> {
        self.args.as_mut().ok_or_else(|| Rejection::new("there are no arguments here"))
    }

    pub(crate) fn take_ack(&mut self) -> Option<AckTarget> {
        self.ack.take()
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an extractor here",
    note = "events have `Data<T>`, `Args<T>`, `RawArgs`, `Ack`, `EventName`; ends of connections \
            have `DisconnectReason`; all have `Socket`, `Auth<T>`, `State<T>`"
)]
pub trait FromParts<K>: Sized {
    /// Makes the value.
    ///
    /// # Errors
    /// Why it cannot be made; the handler is then not called.
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection>;
}

impl<K> FromParts<K> for Socket {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        Ok(parts.socket.clone())
    }
}

/// The next argument of the event, as a `T`: the first `Data` of a handler is the first argument,
/// the second the second. A missing argument is `null`, so `Option<T>` may be left out.
#[derive(Clone, Copy, Debug)]
pub struct Data<T>(pub T);

impl<T: DeserializeOwned> FromParts<OnEvent> for Data<T> {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        parts.next_argument().map(Self)
    }
}

/// All (remaining) arguments, as a tuple, a `Vec<T>` or another type that a list makes.
#[derive(Clone, Copy, Debug)]
pub struct Args<T>(pub T);

impl<T: DeserializeOwned> FromParts<OnEvent> for Args<T> {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        parts.cursor()?.rest().map(Self).map_err(|error| Rejection::new(error.to_string()))
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
            .map_err(|error| Rejection::new(format!("auth is not what was expected: {error}")))
    }
}

/// A clone of what [`ServerBuilder::state`](crate::ServerBuilder::state) was given.
#[derive(Clone, Copy, Debug)]
pub struct State<T>(pub T);

impl<K, T: Clone + Send + Sync + 'static> FromParts<K> for State<T> {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        let state = parts.socket.namespace().state().get::<T>();
        state.map(Self).ok_or_else(|| {
            let name = std::any::type_name::<T>();
            Rejection::new(format!("the server has no state of type {name}"))
        })
    }
}

impl FromParts<OnDisconnect> for DisconnectReason {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        parts.reason.ok_or_else(|| Rejection::new("nothing was disconnected"))
    }
}

/// Answers the client by hand; with this parameter, what the handler returns is not sent.
///
/// Dropped without [`send`](Self::send), or sent by a client that asked for no acknowledgement,
/// nothing leaves.
#[derive(Debug)]
pub struct Ack {
    socket: Socket,
    target: Option<AckTarget>,
}

impl Ack {
    /// Whether the client waits for an answer.
    pub fn is_wanted(&self) -> bool {
        self.target.is_some()
    }

    /// Answers; each acknowledgement once, which the `self` sees to.
    ///
    /// # Errors
    /// The arguments cannot be written, or the socket is gone.
    pub fn send(self, args: impl EmitArgs) -> Result<(), EmitError> {
        let Some(target) = self.target else { return Ok(()) };
        let packet =
            sockeye_proto::socket::EncodedPacket::ack(&target.namespace, target.id, &args)?;
        self.socket.push(packet, false)
    }
}

impl FromParts<OnEvent> for Ack {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        Ok(Self { socket: parts.socket.clone(), target: parts.ack.take() })
    }
}

impl<K, T: FromParts<K>> FromParts<K> for Result<T, Rejection> {
    /// The handler is called in any case and sees what was wrong.
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        Ok(T::from_parts(parts))
    }
}
