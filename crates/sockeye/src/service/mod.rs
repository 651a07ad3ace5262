//! The tower layer and service: which requests are the server's, and what of them is answered
//! here. Does not know packets; a session's requests go to its connection's task.

mod client_files;
mod compression;
mod forwarding;
mod opening;
mod polling;
mod refusal;
mod websocket;

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use http_body::Body;
use http_body_util::{Either, Full};
use sockeye_proto::engine::{Query, RequestError, RequestView, SessionView, Verified, verify};
use sockeye_proto::engine::{Revision, Transport};
use tower_layer::Layer;
use tower_service::Service;

use self::refusal::Refused;
use crate::address::peer_address;
use crate::config::Config;
use crate::cors::Verdict;
use crate::handshake::Handshake;
use crate::metrics;
use crate::outbox::Encoding;
use crate::server::Server;

pub(crate) use self::client_files::ClientFiles;

/// Puts the server in front of another service; made by [`Server::layer`].
#[derive(Clone, Debug)]
pub struct SocketIoLayer {
    server: Server,
}

impl SocketIoLayer {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

impl<S> Layer<S> for SocketIoLayer {
    type Service = SocketIoService<S>;

    fn layer(&self, inner: S) -> SocketIoService<S> {
        SocketIoService::new(inner, self.server.clone())
    }
}

/// Answers Socket.IO's requests and hands the others on; made by [`Server::layer`] and
/// [`Server::service`].
#[derive(Clone, Debug)]
pub struct SocketIoService<S> {
    inner: S,
    server: Server,
}

impl<S> SocketIoService<S> {
    pub(crate) fn new(inner: S, server: Server) -> Self {
        Self { inner, server }
    }
}

type OwnBody = Full<Bytes>;
type Answer = Response<OwnBody>;

impl<S, B, R> Service<Request<B>> for SocketIoService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Either<OwnBody, R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_below(request.uri().path(), &self.server.config().path) {
            ResponseFuture::Own(Box::pin(answer(self.server.clone(), request)))
        } else {
            ResponseFuture::Inner(Box::pin(self.inner.call(request)))
        }
    }
}

/// The future of [`SocketIoService`].
pub enum ResponseFuture<F> {
    #[doc(hidden)]
    Own(Pin<Box<dyn Future<Output = Answer> + Send>>),
    #[doc(hidden)]
    Inner(Pin<Box<F>>),
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture")
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Either<OwnBody, R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Own(answer) => {
                answer.as_mut().poll(cx).map(|answer| Ok(answer.map(Either::Left)))
            }
            Self::Inner(inner) => {
                inner.as_mut().poll(cx).map_ok(|response| response.map(Either::Right))
            }
        }
    }
}

/// What stands behind [`Server::service`]: 404 for everything.
#[derive(Clone, Copy, Debug)]
pub struct NotFound;

impl<B> Service<Request<B>> for NotFound {
    type Response = Response<OwnBody>;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(plain(StatusCode::NOT_FOUND, "")))
    }
}

/// `path` ends with a slash; the request's may leave that one out.
fn is_below(request: &str, path: &str) -> bool {
    request.starts_with(path) || path.strip_suffix('/') == Some(request)
}

/// A request, and what is known of it.
struct Checked {
    server: Server,
    parts: request::Parts,
    is_upgrade: bool,
    is_cross_origin: bool,
    /// It opens a session.
    is_initial: bool,
    /// It is for one of the client's files, which is no affair of the hooks.
    is_for_file: bool,
}

async fn answer<B>(server: Server, request: Request<B>) -> Answer
where
    B: Body + Send + Unpin,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    let is_upgrade = is_upgrade(&parts.headers);
    let verdict = server.config().cors.check(&parts.headers);
    let is_cross_origin = matches!(verdict, Verdict::Allowed(_));
    let (is_initial, is_for_file) = (false, false);
    let mut checked =
        Checked { server, parts, is_upgrade, is_cross_origin, is_initial, is_for_file };
    let answered = if verdict == Verdict::Denied {
        // Checked on every request, also where a session is named: a page of another origin must
        // not speak for a session whose id has leaked.
        Err(Refused::CrossOrigin)
    } else if is_cross_origin && checked.parts.method == Method::OPTIONS {
        Ok(checked.preflight())
    } else if let Some(answer) = checked.client_file().await {
        checked.is_for_file = true;
        Ok(answer)
    } else {
        dispatch(&mut checked, body).await
    };
    let mut answer = answered.unwrap_or_else(|refused| checked.refuse(&refused));
    if let Verdict::Allowed(origin) = &verdict {
        checked.config().cors.write_headers(origin, answer.headers_mut());
    }
    checked.run_headers_hooks(&mut answer);
    answer
}

async fn dispatch<B>(checked: &mut Checked, body: B) -> Result<Answer, Refused>
where
    B: Body + Send + Unpin,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let verified = checked.verify();
    if verified == Err(RequestError::SessionUnknown)
        && let Some(forwarding) = checked.server.forwarding()
    {
        return forwarding::answer(checked, forwarding, body).await;
    }
    match verified? {
        Verified::Handshake(transport, revision) => {
            checked.is_initial = true;
            let admitted = opening::admit(checked, revision).await?;
            match transport {
                Transport::Polling => polling::open(checked, admitted).await,
                Transport::WebSocket => websocket::open(checked, admitted),
            }
        }
        Verified::Session(id, Transport::WebSocket) => websocket::upgrade(checked, &id),
        Verified::Session(id, Transport::Polling) => {
            let peer = checked.server.session(&id).ok_or(RequestError::SessionUnknown)?;
            match checked.parts.method {
                Method::GET => polling::get(checked, &peer).await,
                Method::POST => polling::post(checked, &peer, body).await,
                // Node's answer to a method that a session does not have.
                _ => Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, "")),
            }
        }
    }
}

impl Checked {
    fn config(&self) -> &Config {
        self.server.config()
    }

    fn verify(&self) -> Result<Verified, RequestError> {
        let query = Query::parse(self.parts.uri.query().unwrap_or(""));
        let view = RequestView {
            query: &query,
            method: self.parts.method.as_str(),
            origin: self.parts.headers.get(header::ORIGIN).map(HeaderValue::as_bytes),
            is_upgrade: self.is_upgrade,
            transports: &self.config().transports,
        };
        verify(&view, |id| {
            let peer = self.server.session(id)?;
            let polling = peer.outbox().is_polling();
            let transport = if polling { Transport::Polling } else { Transport::WebSocket };
            Some(SessionView { transport, revision: peer.outbox().revision() })
        })
    }

    /// What a client of this revision takes, as far as its query says.
    fn encoding(&self, revision: Revision) -> Encoding {
        match revision {
            Revision::V4 => Encoding::Plain,
            Revision::V3 => {
                let base64 = Query::parse(self.parts.uri.query().unwrap_or("")).b64;
                Encoding::V3 { base64, agreed: None }
            }
        }
    }

    /// What the session's sockets will know of this request.
    fn handshake(&self) -> Handshake {
        let from = &self.config().client_address;
        let client = if from.is_peer() { None } else { from.of(&self.parts) };
        Handshake::new(&self.parts, peer_address(&self.parts), client, self.is_cross_origin)
    }

    /// One of the client's files, if they are served and it is asked for.
    async fn client_file(&self) -> Option<Answer> {
        let files = self.config().client_files.as_ref().filter(|_| !self.is_upgrade)?;
        let name = self.parts.uri.path().strip_prefix(&*self.config().path)?;
        Some(files.answer(files.file(name)?, &self.parts).await)
    }

    fn preflight(&self) -> Answer {
        let mut answer = plain(StatusCode::NO_CONTENT, "");
        self.config().cors.write_preflight_headers(&self.parts.headers, answer.headers_mut());
        answer
    }

    fn refuse(&self, refused: &Refused) -> Answer {
        metrics::request_refused(refused.name());
        if let Some(hook) = &self.config().hooks.connection_error {
            refused.report(&**hook, &self.parts);
        }
        refused.answer(self.is_upgrade)
    }

    fn run_headers_hooks(&self, answer: &mut Answer) {
        let hooks = &self.config().hooks;
        if self.is_for_file {
            return;
        }
        if !matches!(answer.status(), StatusCode::OK | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        if let Some(hook) = hooks.initial_headers.as_ref().filter(|_| self.is_initial) {
            hook(answer.headers_mut(), &self.parts);
        }
        if let Some(hook) = &hooks.headers {
            hook(answer.headers_mut(), &self.parts);
        }
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_the_path_captures_what_is_below_it_and_nothing_beside() {
        let config = |path| Server::builder().path(path).build().config().path.clone();
        for path in ["/socket.io/", "/socket.io", "socket.io"] {
            let path = config(path);
            for below in ["/socket.io/", "/socket.io", "/socket.io/any/thing"] {
                assert!(is_below(below, &path), "{below}");
            }
            for beside in ["/", "/socket.iofoo", "/socket.i", "/a/socket.io/", "/SOCKET.IO/"] {
                assert!(!is_below(beside, &path), "{beside}");
            }
        }
        for everything in ["/", ""] {
            assert!(is_below("/", &config(everything)) && is_below("/any", &config(everything)));
        }
    }
}
