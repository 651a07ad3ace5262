//! What becomes of a handler's result: an acknowledgement, or the verdict of a middleware.
//! Does not know sockets; whoever ran the handler sends what it comes to.

use std::any::TypeId;
use std::sync::Arc;

use serde::Serialize;
use sockeye_proto::socket::{EmitArgs, EncodedPacket};

use crate::error::{ConnectError, HandlerError};

/// What a listener may return: nothing, [`Reply`], or a `Result` whose value becomes the
/// acknowledgement's argument and whose error becomes its error object.
///
/// Of several listeners of one event the first that has something to say answers. `()` and
/// `Ok(())` say nothing: if nobody has answered when the last one is done, the acknowledgement is
/// sent without arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an acknowledgement",
    label = "a listener cannot return this",
    note = "return `()`, `Reply(value)` or `Result<T, E>` with `T: Serialize` or `T = Reply<_>`, \
            and `E: Into<HandlerError>`"
)]
pub trait IntoReply {
    /// Writes the acknowledgement; `None` if there is nothing to say or nobody asked.
    ///
    /// # Errors
    /// The handler's own error, or that its value cannot be written.
    fn into_reply(self, target: Option<&AckTarget>) -> Result<Option<EncodedPacket>, HandlerError>;
}

/// Which acknowledgement a reply answers.
#[derive(Clone, Debug)]
pub struct AckTarget {
    pub(crate) namespace: Arc<str>,
    pub(crate) id: u64,
}

impl AckTarget {
    fn reply(&self, args: &impl EmitArgs) -> Result<EncodedPacket, HandlerError> {
        EncodedPacket::ack(&self.namespace, self.id, args)
            .map_err(|error| HandlerError::unanswerable(&error))
    }
}

/// A handler's answer, with as many arguments as `T` has (see
/// [`EmitArgs`](crate::EmitArgs)): `Reply(("one", 2))`.
#[derive(Clone, Copy, Debug)]
pub struct Reply<T>(pub T);

impl IntoReply for () {
    fn into_reply(self, _: Option<&AckTarget>) -> Result<Option<EncodedPacket>, HandlerError> {
        Ok(None)
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
        // `Ok(())` says that there is nothing to say, not `null`.
        if TypeId::of::<T>() == TypeId::of::<()>() {
            return Ok(None);
        }
        Reply(&value).into_reply(target)
    }
}

impl<T: EmitArgs, E: Into<HandlerError>> IntoReply for Result<Reply<T>, E> {
    fn into_reply(self, target: Option<&AckTarget>) -> Result<Option<EncodedPacket>, HandlerError> {
        self.map_err(Into::into)?.into_reply(target)
    }
}

/// What a middleware of connections returns.
#[diagnostic::on_unimplemented(
    message = "a middleware of connections cannot return `{Self}`",
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

/// What a middleware of events returns.
#[diagnostic::on_unimplemented(
    message = "a middleware of events cannot return `{Self}`",
    note = "return `Result<(), E>` with `E: Into<HandlerError>`"
)]
pub trait IntoVerdict {
    /// Lets the event through or refuses it.
    ///
    /// # Errors
    /// Why it is refused.
    fn into_verdict(self) -> Result<(), HandlerError>;
}

impl<E: Into<HandlerError>> IntoVerdict for Result<(), E> {
    fn into_verdict(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}
