//! Why a socket was disconnected, in the official strings.

use std::fmt;

use sockeye_proto::engine::CloseReason;

use crate::error::Rejection;
use crate::extract::{FromParts, OnDisconnect, Parts};

/// Why a socket left its namespace. [`as_str`](Self::as_str) is the string that Node's
/// `disconnect` event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// The connection broke, or broke the transport's rules (`transport error`).
    TransportError,
    /// The client closed the connection or it was cut (`transport close`).
    TransportClose,
    /// The server closed the connection: a protocol violation, a full outbox (`forced close`).
    ForcedClose,
    /// No pong came within `ping_timeout` (`ping timeout`).
    PingTimeout,
    /// A packet could not be read (`parse error`).
    ParseError,
    /// [`Server::shutdown`](crate::Server::shutdown) (`server shutting down`).
    ServerShuttingDown,
    /// The client left the namespace (`client namespace disconnect`).
    ClientNamespaceDisconnect,
    /// [`Socket::disconnect`](crate::Socket::disconnect) (`server namespace disconnect`).
    ServerNamespaceDisconnect,
}

impl DisconnectReason {
    /// Whether the connection ended, and its sockets with it.
    fn is_of_connection(self) -> bool {
        match self {
            Self::TransportError
            | Self::TransportClose
            | Self::ForcedClose
            | Self::PingTimeout
            | Self::ParseError => true,
            Self::ServerShuttingDown
            | Self::ClientNamespaceDisconnect
            | Self::ServerNamespaceDisconnect => false,
        }
    }

    /// Whether a socket that ended so may be taken up again
    /// ([`connection_state_recovery`](crate::ServerBuilder::connection_state_recovery)): neither
    /// side has meant it to end. After `parse error` a client would come to it again.
    pub fn is_recoverable(self) -> bool {
        match self {
            Self::TransportError
            | Self::TransportClose
            | Self::ForcedClose
            | Self::PingTimeout
            | Self::ServerShuttingDown => true,
            Self::ParseError
            | Self::ClientNamespaceDisconnect
            | Self::ServerNamespaceDisconnect => false,
        }
    }

    /// The official string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransportError => CloseReason::TransportError.as_str(),
            Self::TransportClose => CloseReason::TransportClose.as_str(),
            Self::ForcedClose => CloseReason::ForcedClose.as_str(),
            Self::PingTimeout => CloseReason::PingTimeout.as_str(),
            Self::ParseError => CloseReason::ParseError.as_str(),
            Self::ServerShuttingDown => "server shutting down",
            Self::ClientNamespaceDisconnect => "client namespace disconnect",
            Self::ServerNamespaceDisconnect => "server namespace disconnect",
        }
    }
}

/// What exactly ended the connection, in words for people and logs (Node's second argument of
/// `disconnect`): an extractor of `on_disconnecting` and `on_disconnect`. `None` where only the
/// socket ended, by either side's wish, or the whole server.
///
/// ```
/// # use sockeye::{CloseDescription, DisconnectReason, Server};
/// # let io = Server::default();
/// io.on_disconnect(async |reason: DisconnectReason, CloseDescription(why): CloseDescription| {
///     println!("{reason}: {}", why.unwrap_or_default());
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseDescription(pub Option<String>);

impl FromParts<OnDisconnect> for CloseDescription {
    fn from_parts(parts: &mut Parts<'_>) -> Result<Self, Rejection> {
        let reason = DisconnectReason::from_parts(parts)?;
        let description = parts.socket().peer().description();
        Ok(Self(description.filter(|_| reason.is_of_connection()).map(str::to_owned)))
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<CloseReason> for DisconnectReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::TransportError => Self::TransportError,
            CloseReason::TransportClose => Self::TransportClose,
            CloseReason::ForcedClose => Self::ForcedClose,
            CloseReason::PingTimeout => Self::PingTimeout,
            CloseReason::ParseError => Self::ParseError,
        }
    }
}
