//! The tower layer and service: which requests are the server's. Does not know what they ask for.

mod answering;
mod client_files;
mod compression;
mod forwarding;
mod opening;
mod polling;
mod refusal;
mod serve;
mod websocket;

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Full};
use tower_layer::Layer;
use tower_service::Service;

use self::answering::OwnFuture;
use crate::server::Server;

pub(crate) use self::client_files::ClientFiles;
pub use self::serve::{Serve, serve};

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
        ResponseFuture(if self.takes(&request) {
            Way::Own(self.answer(request, None))
        } else {
            Way::Inner(Box::pin(self.inner.call(request)))
        })
    }
}

impl<S> SocketIoService<S> {
    fn takes<B>(&self, request: &Request<B>) -> bool {
        is_below(request.uri().path(), &self.server.config().path)
    }

    /// Begins to answer a request of the server's own. `peer` is who made it, where that is known
    /// and the request does not tell.
    fn answer<B>(&self, request: Request<B>, peer: Option<SocketAddr>) -> OwnFuture
    where
        B: Body + Send + Unpin + 'static,
        B::Data: Buf + Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        answering::begin(&self.server, request, peer)
    }
}

/// The future of [`SocketIoService`].
pub struct ResponseFuture<F>(Way<F>);

enum Way<F> {
    Own(OwnFuture),
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
        match &mut self.get_mut().0 {
            Way::Own(answer) => answer.poll(cx).map(|answer| Ok(answer.map(Either::Left))),
            Way::Inner(inner) => {
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
