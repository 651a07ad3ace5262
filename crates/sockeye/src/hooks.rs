//! What an application may decide on the way of a request: whom to let in, under which id, with
//! which response headers; and what it is told of. Does not know how requests are served.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use http::header::HeaderMap;
use http::request::Parts;
use sockeye_proto::engine::{Revision, Transport};

use crate::builder::ServerBuilder;
use crate::handler::BoxFuture;
use crate::socket::Socket;

type AllowRequest = Arc<dyn Fn(Parts) -> BoxFuture<Result<(), Refusal>> + Send + Sync>;
type GenerateId = Arc<dyn Fn(Parts) -> BoxFuture<Result<String, String>> + Send + Sync>;
type Headers = Arc<dyn Fn(&mut HeaderMap, &Parts) + Send + Sync>;
type OnConnectionError = Arc<dyn Fn(&ConnectionError<'_>) + Send + Sync>;
type OnUpgrade = Arc<dyn Fn(&Socket) + Send + Sync>;

/// The hooks of a server; [`ServerBuilder`] documents them.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) allow_request: Option<AllowRequest>,
    pub(crate) generate_id: Option<GenerateId>,
    pub(crate) initial_headers: Option<Headers>,
    pub(crate) headers: Option<Headers>,
    pub(crate) connection_error: Option<OnConnectionError>,
    pub(crate) upgrade: Option<OnUpgrade>,
}

impl Hooks {
    /// Whether any may want to see a request of a session that is open already.
    pub(crate) fn see_requests(&self) -> bool {
        self.headers.is_some() || self.connection_error.is_some()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("allow_request", &self.allow_request.is_some())
            .field("generate_id", &self.generate_id.is_some())
            .field("initial_headers", &self.initial_headers.is_some())
            .field("headers", &self.headers.is_some())
            .field("connection_error", &self.connection_error.is_some())
            .field("upgrade", &self.upgrade.is_some())
            .finish()
    }
}

/// Why [`allow_request`](ServerBuilder::allow_request) refuses a client. Made of the message that
/// the client is told; the default one is `Forbidden`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    pub(crate) message: Option<String>,
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { message: Some(message) }
    }
}

/// A request that was refused, as
/// [`on_connection_error`](ServerBuilder::on_connection_error) is told.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectionError<'a> {
    /// The request. Its headers and query may hold secrets.
    pub request: &'a Parts,
    /// Engine.IO's number, 0 to 5; `None` for what only this server refuses, which has a status of
    /// its own (429, 503 …) and no code.
    pub code: Option<u8>,
    /// What the client is told.
    pub message: &'a str,
    /// What exactly was wrong.
    pub context: ConnectionErrorContext<'a>,
}

/// What was wrong with a refused request: the `context` of Node's `connection_error`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionErrorContext<'a> {
    /// The transport is missing, unknown or not allowed (code 0).
    Transport {
        /// What the query named.
        transport: Option<Cow<'a, str>>,
    },
    /// There is no such session (code 1).
    Session {
        /// What the query named.
        sid: Cow<'a, str>,
    },
    /// A session is opened by GET (code 2).
    Method {
        /// What was used.
        method: &'a str,
    },
    /// The origin has control characters (code 3, `INVALID_ORIGIN`).
    InvalidOrigin {
        /// The origin's bytes.
        origin: &'a [u8],
    },
    /// The transport is not the session's (code 3, `TRANSPORT_MISMATCH`).
    TransportMismatch {
        /// What the query named.
        transport: Cow<'a, str>,
        /// What carries the session.
        previous: Transport,
    },
    /// The revision is not the session's (code 3, `PROTOCOL_MISMATCH`).
    ProtocolMismatch {
        /// What the query named.
        protocol: u8,
        /// What the session was opened with.
        previous: u8,
    },
    /// A WebSocket handshake that is none (code 3, `TRANSPORT_HANDSHAKE_ERROR`).
    TransportHandshake {
        /// What it lacks; `None` where a plain GET asked for a WebSocket.
        error: Option<String>,
    },
    /// No id could be made for the session (code 3, `ID_GENERATION_ERROR`).
    IdGeneration {
        /// Why.
        error: &'a str,
    },
    /// [`Cors`](crate::Cors) does not allow the origin (code 4).
    CrossOrigin {
        /// The origin's bytes.
        origin: &'a [u8],
    },
    /// [`allow_request`](ServerBuilder::allow_request) refused (code 4).
    Refused,
    /// The client speaks a revision that the server does not (code 5).
    Protocol {
        /// The revision; what is not 4 counts as 3.
        protocol: u8,
    },
    /// A limit is reached or the server is draining (no code).
    Unavailable,
}

impl ConnectionErrorContext<'_> {
    /// The official name of what does not fit, where it has one (code 3).
    pub fn name(&self) -> Option<&'static str> {
        use sockeye_proto::engine::BadRequest;
        Some(match self {
            Self::InvalidOrigin { .. } => BadRequest::InvalidOrigin.name(),
            Self::TransportMismatch { previous, .. } => {
                BadRequest::TransportMismatch(*previous).name()
            }
            Self::ProtocolMismatch { .. } => BadRequest::ProtocolMismatch(Revision::V4).name(),
            Self::TransportHandshake { .. } => BadRequest::TransportHandshake.name(),
            Self::IdGeneration { .. } => BadRequest::IdGeneration.name(),
            _ => return None,
        })
    }
}

impl ServerBuilder {
    /// Asks whether to let a client in: for each request that wants to open a session, over
    /// long-polling and over WebSocket, and for no other. `Err` refuses it with code 4 and the
    /// message given (status 403; 400 over WebSocket, before the 101). Everything that the query
    /// and the headers tell is checked before, [`Cors`](crate::Cors) too. It may wait, for at most
    /// [`handshake_timeout`](Self::handshake_timeout). Default: everyone is let in.
    ///
    /// ```
    /// # use sockeye::{Refusal, Server};
    /// let io = Server::builder()
    ///     .allow_request(async |request: http::request::Parts| {
    ///         match request.headers.get("x-api-key") {
    ///             Some(_) => Ok(()),
    ///             None => Err(Refusal::from("an API key is needed")),
    ///         }
    ///     })
    ///     .build();
    /// ```
    pub fn allow_request<F, Fut, E>(mut self, hook: F) -> Self
    where
        F: Fn(Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Refusal>,
    {
        self.config.hooks.allow_request = Some(Arc::new(move |request| {
            let allowed = hook(request);
            Box::pin(async move { allowed.await.map_err(Into::into) })
        }));
        self
    }

    /// Makes the ids of sessions, which are secrets: who knows one can act as its client. An id
    /// must have 20 characters of `A-Z a-z 0-9 - _`, as sticky balancers and cluster adapters rely
    /// on it, and be in use by no other session. An error, or an id that is none, refuses the
    /// client with code 3. It may wait, for at most
    /// [`handshake_timeout`](Self::handshake_timeout). Default: 120 random bits.
    pub fn generate_id<F, Fut, E>(mut self, hook: F) -> Self
    where
        F: Fn(Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.config.hooks.generate_id = Some(Arc::new(move |request| {
            let id = hook(request);
            Box::pin(async move { id.await.map_err(|error| error.into().to_string()) })
        }));
        self
    }

    /// Changes the headers of the response that opens a session: once per session, before
    /// [`headers`](Self::headers), and not where the client is refused. Default: nothing is
    /// changed.
    pub fn initial_headers(
        mut self,
        hook: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static,
    ) -> Self {
        self.config.hooks.initial_headers = Some(Arc::new(hook));
        self
    }

    /// Changes the headers of each response with status 200 or 101: what a session's GETs and
    /// POSTs are answered with, and what WebSockets are opened with. Those of a 101 that RFC 6455
    /// asks for must be left alone. Default: nothing is changed.
    pub fn headers(
        mut self,
        hook: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static,
    ) -> Self {
        self.config.hooks.headers = Some(Arc::new(hook));
        self
    }

    /// Sees each connected socket of a connection that has gone over from long-polling to
    /// WebSocket: [`Socket::transport`] says so from now on. Called between two packets, so it
    /// must not wait. A socket that connects later never sees a change, and none is told of.
    /// Default: nobody is.
    pub fn on_upgrade(mut self, hook: impl Fn(&Socket) + Send + Sync + 'static) -> Self {
        self.config.hooks.upgrade = Some(Arc::new(hook));
        self
    }

    /// Is told of each request that is refused, before the client is. Default: nobody is, and
    /// nothing is gathered.
    pub fn on_connection_error(
        mut self,
        hook: impl Fn(&ConnectionError<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.config.hooks.connection_error = Some(Arc::new(hook));
        self
    }
}
