//! Handshakes on a stream of our own: the request read, answered, and within its time.
//! Does not know which requests are let in.

use std::fmt;
use std::time::Duration;

use http::{Method, Request, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::{AcceptError, Refusal, Server};
use crate::deadline;
use crate::handshake::HttpVersion;
use crate::handshake::head::{HeadError, RequestHead};
use crate::handshake::server::HandshakeError;
use crate::net::head::{HeadFailure, header_map, read_head};
use crate::net::incoming::poll_discard;
use crate::net::timer::now;
use crate::net::{WebSocket, trace};

/// A valid request for a connection, not answered yet: to be [accepted](Self::accept) or
/// [refused](Self::refuse).
///
/// Dropped, it closes the stream without an answer.
pub struct Handshake<S> {
    /// On the heap, so that the task it is handed to stays small.
    pending: Box<Pending<S>>,
}

struct Pending<S> {
    server: Server,
    stream: S,
    request: Request<()>,
    early: Vec<u8>,
    deadline: Instant,
}

impl Server {
    /// Does the whole handshake on a stream: reads the request, checks it, answers it. For `wss:`
    /// the stream is one that TLS has been accepted on (`tokio_rustls::TlsAcceptor`), within a time
    /// that is the caller's to bound.
    ///
    /// What is wrong with a request its client is told, by status and body. All of it takes at
    /// most [`handshake_timeout`](super::ServerBuilder::handshake_timeout), and
    /// [`refusal_timeout`](super::ServerBuilder::refusal_timeout) for a refusal to arrive.
    ///
    /// # Errors
    ///
    /// [`AcceptError`] says why there is no connection.
    pub fn accept<S>(
        &self,
        stream: S,
    ) -> impl Future<Output = Result<WebSocket<S>, AcceptError>> + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server = self.clone();
        // On the heap, and freed when it is done: the task that goes on stays small.
        Box::pin(trace::in_accept_span(async {
            server.receive_within_time(stream).await?.pending.accept().await
        }))
    }

    /// Reads a request and checks that it is a WebSocket handshake, but does not answer it yet:
    /// [`Handshake::request`] can be looked at first.
    ///
    /// # Errors
    ///
    /// [`AcceptError`] says why there is no valid request.
    ///
    /// # Example
    ///
    /// The path decides what is served:
    ///
    /// ```no_run
    /// # use sockeye_ws::net::{AcceptError, Refusal, Server, WebSocket, http::StatusCode};
    /// # use tokio::net::{TcpListener, TcpStream};
    /// # async fn chat(_: WebSocket<TcpStream>, _room: &str) {}
    /// # async fn prices(_: WebSocket<TcpStream>) {}
    /// async fn handle(server: Server, stream: TcpStream) -> Result<(), AcceptError> {
    ///     let handshake = server.receive(stream).await?;
    ///     let path = handshake.request().uri().path().to_owned();
    ///     match path.strip_prefix("/chat/") {
    ///         Some(room) => chat(handshake.accept().await?, room).await,
    ///         None if path == "/prices" => prices(handshake.accept().await?).await,
    ///         None => handshake.refuse(Refusal::new(StatusCode::NOT_FOUND)).await,
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # async fn example(listener: TcpListener) -> std::io::Result<()> {
    /// let server = Server::new();
    /// loop {
    ///     let (stream, peer) = listener.accept().await?;
    ///     stream.set_nodelay(true)?;
    ///     let handling = handle(server.clone(), stream);
    ///     tokio::spawn(async move {
    ///         if let Err(error) = handling.await {
    ///             println!("{peer}: {error}");
    ///         }
    ///     });
    /// }
    /// # }
    /// ```
    pub fn receive<S>(
        &self,
        stream: S,
    ) -> impl Future<Output = Result<Handshake<S>, AcceptError>> + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        Box::pin(trace::in_accept_span(self.clone().receive_within_time(stream)))
    }

    async fn receive_within_time<S>(self, mut stream: S) -> Result<Handshake<S>, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let deadline = deadline::after(now(), self.config().handshake_timeout).into();
        let read = timeout_at(deadline, self.read_request(&mut stream)).await;
        match read.unwrap_or(Err(AcceptError::Timeout)) {
            Ok((request, early)) => {
                let pending = Pending { server: self, stream, request, early, deadline };
                Ok(Handshake { pending: Box::new(pending) })
            }
            Err(error) => Err(fail(stream, error, self.config().refusal_timeout).await),
        }
    }

    async fn read_request<S>(&self, stream: &mut S) -> Result<(Request<()>, Vec<u8>), AcceptError>
    where
        S: AsyncRead + Unpin,
    {
        let read = read_head(stream, self.config().head_limits).await;
        let (reader, early) = read.map_err(|failure| match failure {
            HeadFailure::Head(error) => HandshakeError::from(error).into(),
            HeadFailure::End => AcceptError::Left,
            HeadFailure::Io(error) => AcceptError::Io(error),
        })?;
        let request = reader.request().and_then(|head| request(&head));
        let request = request.map_err(HandshakeError::from)?;
        Self::verify(&request)?;
        Ok((request, early))
    }
}

impl<S> Handshake<S> {
    /// The request: method, target and headers.
    pub fn request(&self) -> &Request<()> {
        &self.pending.request
    }

    /// The stream it came on.
    pub fn stream(&self) -> &S {
        &self.pending.stream
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Handshake<S> {
    /// Runs the server's checks, answers the request, and makes the stream a connection.
    ///
    /// # Errors
    ///
    /// [`AcceptError`] says why there is none.
    pub fn accept(self) -> impl Future<Output = Result<WebSocket<S>, AcceptError>> + use<S> {
        Box::pin(trace::in_accept_span(self.pending.accept()))
    }

    /// Answers the request with a refusal.
    pub async fn refuse(self, refusal: Refusal) {
        let Pending { server, stream, .. } = *self.pending;
        let refusal_timeout = server.config().refusal_timeout;
        let _ = Box::pin(fail(stream, refusal.into(), refusal_timeout)).await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pending<S> {
    async fn accept(mut self: Box<Self>) -> Result<WebSocket<S>, AcceptError> {
        let deadline = self.deadline;
        let admitted = async {
            let admitted = self.server.admit(&self.request).await?;
            self.stream.write_all(&admitted.response).await?;
            self.stream.flush().await?;
            Ok(admitted)
        };
        match timeout_at(deadline, admitted).await.unwrap_or(Err(AcceptError::Timeout)) {
            Ok(admitted) => {
                trace::accepted(admitted.protocol.as_deref());
                let Self { stream, server, early, .. } = *self;
                let options = &server.config().options;
                let websocket =
                    WebSocket::from_connection(stream, admitted.connection, early, options);
                Ok(websocket.with_protocol(admitted.protocol.as_deref()))
            }
            Err(error) => {
                let refusal_timeout = self.server.config().refusal_timeout;
                Err(fail(self.stream, error, refusal_timeout).await)
            }
        }
    }
}

impl<S> fmt::Debug for Handshake<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Handshake").field("uri", self.request().uri()).finish()
    }
}

/// Tells the client why, if it can be told, and gives it a moment to hear it: a socket that is
/// closed while bytes arrive is reset, and a reset may overtake the answer.
async fn fail<S>(mut stream: S, error: AcceptError, time_max: Duration) -> AcceptError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    trace::refused(&error);
    if let Some(refusal) = error.refusal() {
        let answer = async {
            stream.write_all(&refusal.into_bytes()).await?;
            stream.shutdown().await?;
            std::future::poll_fn(|cx| poll_discard(&mut stream, cx)).await;
            Ok::<_, std::io::Error>(())
        };
        // Who does not take the answer does without.
        let _ = timeout(time_max, answer).await;
    }
    error
}

/// The head in the types of the `http` crate, which hold each part against HTTP's grammar.
fn request(head: &RequestHead<'_>) -> Result<Request<()>, HeadError> {
    let mut request = Request::new(());
    *request.method_mut() =
        Method::from_bytes(head.method.as_bytes()).map_err(|_| HeadError::Malformed)?;
    *request.uri_mut() = head.target.parse::<Uri>().map_err(|_| HeadError::Malformed)?;
    *request.version_mut() = match head.version {
        HttpVersion::Http10 => Version::HTTP_10,
        HttpVersion::Http11 => Version::HTTP_11,
    };
    *request.headers_mut() = header_map(&head.headers)?;
    Ok(request)
}
