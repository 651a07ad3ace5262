//! What is told through `tracing`, where the feature is on.
//! Knows nothing of subscribers; without the feature nothing of it is compiled.

use super::{Error, Message};

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
