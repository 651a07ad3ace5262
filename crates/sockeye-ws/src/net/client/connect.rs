//! The steps from a URL to a connection: the way to the server, the handshake, redirects.
//! Does not know how proxies and TLS work, only when they are needed.

use std::io;

use http::{Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::response::read_body;
use super::{Client, ConnectError, UnexpectedResponse};
use crate::connection::{Connection, Role};
use crate::handshake::Url;
use crate::handshake::client::{Request, ResponseError};
use crate::net::head::{HeadFailure, header_map, read_head};
use crate::net::keys::nonce;
use crate::net::{AnyStream, WebSocket, trace};

/// What must not reach another server than the one it was meant for.
const SECRET_HEADERS: [&str; 2] = ["Authorization", "Cookie"];

type Connected<S> = (WebSocket<S>, Response<()>);

/// What a server has answered.
enum Answer<S> {
    Connected(Connected<S>),
    Other(Box<UnexpectedResponse>),
}

impl Client {
    /// Connects: opens a TCP stream, through the proxy if there is one, encrypts it for `wss:`,
    /// and does the opening handshake. Small messages leave at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what is wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves nothing behind but a closed stream.
    pub async fn connect(&self) -> Result<WebSocket<AnyStream>, ConnectError> {
        Ok(self.connect_with_response().await?.0)
    }

    /// [`connect`](Self::connect), with the server's response: its headers.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what is wrong.
    pub async fn connect_with_response(
        &self,
    ) -> Result<(WebSocket<AnyStream>, Response<()>), ConnectError> {
        self.within_time(self.follow(|url| self.open(url))).await
    }

    /// Connects over streams of the caller's own, one for each redirect and the first: TCP with
    /// options of its own, Unix sockets, other TLS libraries, a network in memory. For `wss:` the
    /// stream is encrypted already.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what is wrong.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use sockeye_ws::net::{Client, ConnectError};
    /// # async fn example() -> Result<(), ConnectError> {
    /// let client = Client::new("ws://chat.internal/");
    /// let websocket = client.connect_over(|_url| tokio::net::UnixStream::connect("/run/chat"));
    /// # websocket.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_over<S, F>(
        &self,
        open: impl Fn(Url) -> F,
    ) -> Result<WebSocket<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        F: Future<Output = io::Result<S>>,
    {
        Ok(self.connect_over_with_response(open).await?.0)
    }

    /// [`connect_over`](Self::connect_over), with the server's response: its headers.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what is wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves nothing behind but a closed stream.
    pub async fn connect_over_with_response<S, F>(
        &self,
        open: impl Fn(Url) -> F,
    ) -> Result<(WebSocket<S>, Response<()>), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        F: Future<Output = io::Result<S>>,
    {
        let open = |url| {
            let opening = open(url);
            async { opening.await.map_err(ConnectError::Io) }
        };
        self.within_time(self.follow(open)).await
    }

    async fn within_time<T>(
        &self,
        connect: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        // On the heap, and freed when it is done: the task that goes on stays small.
        let connect = Box::pin(trace::in_connect_span(connect));
        let result = timeout(self.handshake_timeout, connect).await;
        result.unwrap_or(Err(ConnectError::Timeout))
    }

    /// The usual way to a server.
    async fn open(&self, url: Url) -> Result<AnyStream, ConnectError> {
        // What cannot be encrypted is found before anybody is called.
        #[cfg(not(feature = "rustls"))]
        if url.is_secure() {
            return Err(ConnectError::TlsMissing);
        }
        #[cfg(feature = "rustls")]
        let encryption = match url.is_secure() {
            true => Some(super::tls::Encryption::new(self.tls.as_ref(), &url)?),
            false => None,
        };
        let tcp = match &self.proxy {
            Some(proxy) => super::proxy::open(proxy, &url, self.head_limits).await?,
            None => TcpStream::connect((url.host(), url.port())).await?,
        };
        tcp.set_nodelay(true)?;
        #[cfg(feature = "rustls")]
        if let Some(encryption) = encryption {
            return encryption.encrypt(tcp).await;
        }
        Ok(tcp.into())
    }

    /// Does handshakes until one succeeds or leads nowhere.
    async fn follow<S, F>(&self, open: impl Fn(Url) -> F) -> Result<Connected<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        F: Future<Output = Result<S, ConnectError>>,
    {
        let mut url = self.url.clone()?;
        let mut headers = self.headers.clone();
        for redirects in 0.. {
            let request = self.request(&url, &headers);
            // What cannot be sent is found before anybody is called.
            let bytes = request.encode()?;
            let stream = open(url.clone()).await?;
            let response = match self.shake_hands(stream, &request, &bytes).await? {
                Answer::Connected(connected) => return Ok(connected),
                Answer::Other(response) => response,
            };
            let Some(location) = response.redirects_to().filter(|_| self.redirects_max > 0) else {
                return Err(ConnectError::Unexpected(response));
            };
            if redirects == self.redirects_max {
                break;
            }
            let next = url.redirect(location).map_err(ConnectError::Redirect)?;
            if !next.may_know_secrets_of(&url) {
                let is_secret = |name: &str| {
                    SECRET_HEADERS.iter().any(|secret| secret.eq_ignore_ascii_case(name))
                };
                headers.retain(|(name, _)| !is_secret(name));
            }
            url = next;
        }
        Err(ConnectError::TooManyRedirects)
    }

    async fn shake_hands<S>(
        &self,
        mut stream: S,
        request: &Request,
        bytes: &[u8],
    ) -> Result<Answer<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(bytes).await?;
        stream.flush().await?;

        let read = read_head(&mut stream, self.head_limits).await;
        let (reader, early) = read.map_err(|failure| match failure {
            HeadFailure::Head(error) => ConnectError::Response(error.into()),
            HeadFailure::End => ConnectError::Left,
            HeadFailure::Io(error) => ConnectError::Io(error),
        })?;
        let head = reader.response().map_err(ResponseError::from)?;
        let headers = header_map(&head.headers).map_err(ResponseError::from)?;
        let status = StatusCode::from_u16(head.status);
        let verified = request.verify_response(head.status, |name| head.headers.all(name));
        let chosen = match verified {
            Ok(chosen) => chosen,
            Err(ResponseError::Status(code)) => {
                let status = status.map_err(|_| ResponseError::Status(code))?;
                let (bytes_max, time_max) = (self.body_bytes_max, self.body_timeout);
                let body = read_body(&mut stream, early, &headers, bytes_max, time_max).await;
                return Ok(Answer::Other(Box::new(UnexpectedResponse { status, headers, body })));
            }
            Err(error) => return Err(error.into()),
        };
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.version_mut() = Version::HTTP_11;
        *response.headers_mut() = headers;
        let connection = Connection::new(Role::Client, self.limits).with_deflate(chosen.deflate);
        let websocket = WebSocket::from_connection(stream, connection, early, &self.options);
        Ok(Answer::Connected((websocket.with_protocol(chosen.protocol), response)))
    }

    fn request(&self, url: &Url, headers: &[(String, String)]) -> Request {
        let mut request = Request::new(url.clone(), nonce());
        if let Some(origin) = &self.origin {
            request = request.origin(origin);
        }
        for protocol in &self.protocols {
            request = request.protocol(protocol);
        }
        if let Some(options) = self.deflate {
            request = request.deflate(options);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request
    }
}

impl UnexpectedResponse {
    fn redirects_to(&self) -> Option<&str> {
        let location = self.headers.get(http::header::LOCATION)?.to_str().ok()?;
        matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308).then_some(location)
    }
}
