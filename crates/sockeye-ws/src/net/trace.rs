//! What is told through `tracing`, where the feature is on.
//! Knows nothing of subscribers; without the feature nothing of it is compiled.

use super::server::AcceptError;
use super::{Error, Message};

/// The span that a server's handshake runs in.
pub(super) fn in_accept_span<F: Future>(handshake: F) -> impl Future<Output = F::Output> {
    #[cfg(feature = "tracing")]
    let handshake =
        tracing::Instrument::instrument(handshake, tracing::debug_span!("websocket.accept"));
    handshake
}

/// The span that a client's handshake runs in.
pub(super) fn in_connect_span<F: Future>(handshake: F) -> impl Future<Output = F::Output> {
    #[cfg(feature = "tracing")]
    let handshake =
        tracing::Instrument::instrument(handshake, tracing::debug_span!("websocket.connect"));
    handshake
}

/// A server has let a client in.
#[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "there is no one to tell"))]
pub(super) fn accepted(protocol: Option<&str>) {
    #[cfg(feature = "tracing")]
    tracing::debug!(protocol, "a client was let in");
}

/// A server has not let a client in.
#[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "there is no one to tell"))]
pub(super) fn refused(error: &AcceptError) {
    #[cfg(feature = "tracing")]
    tracing::debug!(%error, "a client was not let in");
}

/// A connection has ended.
#[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "there is no one to tell"))]
pub(super) fn ended(item: &Result<Message, Error>) {
    #[cfg(feature = "tracing")]
    match item {
        Ok(Message::Close(Some(frame))) => {
            tracing::debug!(code = frame.code.0, reason = %frame.reason, "the peer has closed");
        }
        Ok(_) => tracing::debug!("the peer has closed, without a code"),
        Err(error) => tracing::debug!(%error, "the connection has failed"),
    }
}
