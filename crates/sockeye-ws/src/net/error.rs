//! Why an established connection failed, or what was asked of it could not be done.
//! Knows nothing of opening handshakes; `server` and `client` have their own errors.

use std::io;

use crate::close::CloseCode;
use crate::error::{CloseError, ProtocolError, SendError};

/// Why a connection ended other than by a closing handshake, or why it did not take something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke the protocol or a limit. It was told so with the error's
    /// [close code](ProtocolError::close_code).
    #[error("the peer broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The message cannot be sent: the connection is closing, or a control frame is too long.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A close frame cannot carry the code or the reason.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    /// The stream ended without a close frame.
    #[error("the peer ended the connection without a close frame")]
    Lost,
    /// The peer did not answer our close frame within
    /// [`Limits::close_timeout`](crate::Limits::close_timeout).
    #[error("the peer did not answer the close frame in time")]
    CloseTimeout,
    /// Nothing came from the peer after a ping, or it took nothing, for longer than
    /// [`KeepAlive`](super::KeepAlive) allows.
    #[error("the peer gave no sign of life in time")]
    KeepAliveTimeout,
}

/// Who is to blame for an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer did what it must not.
    Peer,
    /// Our own application asked for what cannot be.
    Caller,
    /// The network, or a peer that went away; also a message that came too late to be sent, which
    /// no application can rule out.
    Environment,
}

impl Error {
    /// Who is to blame.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Protocol(_) => Fault::Peer,
            Self::Send(SendError::Closing)
            | Self::Io(_)
            | Self::Lost
            | Self::CloseTimeout
            | Self::KeepAliveTimeout => Fault::Environment,
            Self::Send(_) | Self::Close(_) => Fault::Caller,
        }
    }

    /// The close code that this end of a connection counts as: the one that was sent for a
    /// protocol error, else 1006. `None` where it is not the end, or not what ended the connection.
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Protocol(error) => Some(error.close_code()),
            Self::Send(_) | Self::Close(_) => None,
            Self::Io(_) | Self::Lost | Self::CloseTimeout | Self::KeepAliveTimeout => {
                Some(CloseCode::ABNORMAL)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_callers_and_the_environment_are_told_apart() {
        for (error, fault, code) in [
            (Error::from(ProtocolError::InvalidText), Fault::Peer, Some(1007)),
            (Error::from(SendError::ControlTooLong), Fault::Caller, None),
            // With two halves, the peer may close before a message is sent, whatever one does.
            (Error::from(SendError::Closing), Fault::Environment, None),
            (Error::from(CloseError::ReasonTooLong), Fault::Caller, None),
            (Error::from(io::Error::other("x")), Fault::Environment, Some(1006)),
            (Error::Lost, Fault::Environment, Some(1006)),
        ] {
            assert_eq!((error.fault(), error.close_code().map(|code| code.0)), (fault, code));
        }
    }
}
