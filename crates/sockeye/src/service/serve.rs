//! A listener's connections, served by hyper's HTTP/1. Does not know sessions.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tower_service::Service;

use super::{OwnBody, ResponseFuture, SocketIoService, Way};
use crate::address::PeerAddr;

/// Unless [`Serve::head_timeout`] says otherwise.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long nothing is accepted after the process ran out of what a connection needs.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves the connections of a listener over HTTP/1.1: a server alone ([`Server::service`]) or in
/// front of an application ([`Server::wrap`]).
///
/// Every HTTP server that can upgrade a connection can serve [`Server::layer`]. This one is the
/// quickest for long-polling: a request comes to its session without passing through a router, and
/// its answer leaves in one piece. It is hyper's, without TLS and HTTP/2, which browsers do not
/// speak without TLS either. The application's requests have the peer's address as the extension
/// [`PeerAddr`](crate::PeerAddr) (with the feature `axum` as its `ConnectInfo`, too).
///
/// It ends with the future: dropped, nothing more is accepted, and connections go on.
///
/// # Errors
/// None at present: what cannot be accepted is passed over, and where the process has run out of
/// files, accepting goes on after a second.
///
/// # Example
/// ```no_run
/// # async fn run() -> std::io::Result<()> {
/// let io = sockeye::Server::default();
/// let app = axum::Router::new().route("/health", axum::routing::get(|| async { "fine" }));
/// let listener = sockeye::listen("127.0.0.1:3000").await?;
/// sockeye::serve(listener, io.wrap(app)).await
/// # }
/// ```
///
/// [`Server::service`]: crate::Server::service
/// [`Server::wrap`]: crate::Server::wrap
/// [`Server::layer`]: crate::Server::layer
pub fn serve<S>(listener: TcpListener, service: SocketIoService<S>) -> Serve<S> {
    Serve { listener, service, head_timeout: HEAD_TIMEOUT, signal: None }
}

/// What [`serve`] returns: to be awaited.
#[must_use = "nothing is served until it is awaited"]
pub struct Serve<S> {
    listener: TcpListener,
    service: SocketIoService<S>,
    head_timeout: Duration,
    signal: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> std::fmt::Debug for Serve<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl<S> Serve<S> {
    /// How long a connection may wait for a request's head, be it that a client says nothing or
    /// that it says it slowly; then it is closed. It is looked at once in so long, so that it may
    /// be twice as long. Default: 30 s.
    ///
    /// # Panics
    /// If it is zero.
    pub fn head_timeout(mut self, head_timeout: Duration) -> Self {
        assert!(!head_timeout.is_zero(), "a head takes time");
        self.head_timeout = head_timeout;
        self
    }

    /// Ends when `signal` does: nothing more is accepted, connections are closed when they have
    /// answered the request that they are at, and then it returns. WebSockets and sessions are the
    /// server's affair: [`Server::drain`](crate::Server::drain) and
    /// [`Server::shutdown`](crate::Server::shutdown).
    pub fn with_graceful_shutdown(
        mut self,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.signal = Some(Box::pin(signal));
        self
    }
}

impl<S, R> IntoFuture for Serve<S>
where
    S: Service<Request<Incoming>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { listener, service, head_timeout, signal } = self;
        Box::pin(async move {
            let ending = Arc::new(Ending::default());
            // Each connection holds a sender: when all have gone there is nothing to receive.
            let (served, mut all_served) = mpsc::channel(1);
            let accepting = accept(&listener, service, head_timeout, &ending, &served);
            match signal {
                None => accepting.await,
                Some(signal) => tokio::select! {
                    () = accepting => {}
                    () = signal => {}
                },
            }
            drop((listener, served));
            ending.begin();
            all_served.recv().await;
            Ok(())
        })
    }
}

/// Whether connections are to end.
#[derive(Default)]
struct Ending {
    has_begun: AtomicBool,
    beginning: Notify,
}

impl Ending {
    fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.beginning.notify_waiters();
    }
}

async fn accept<S, R>(
    listener: &TcpListener,
    service: SocketIoService<S>,
    head_timeout: Duration,
    ending: &Arc<Ending>,
    served: &mpsc::Sender<()>,
) where
    S: Service<Request<Incoming>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let service = Served { service: service.clone(), peer };
                let (ending, served) = (ending.clone(), served.clone());
                tokio::spawn(async move {
                    // How a connection ends is its client's affair.
                    let _ = serve_connection(stream, service, head_timeout, &ending).await;
                    drop(served);
                });
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The client was gone before it was accepted.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve_connection<S, R>(
    stream: TcpStream,
    service: Served<S>,
    head_timeout: Duration,
    ending: &Ending,
) -> hyper::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut http = http1::Builder::new();
    // Heads and payloads are small: one write(2) of what has been put together is cheaper than one
    // of two pieces.
    http.writev(false);
    let ticks = Ticks::default();
    http.timer(ticks.clone()).header_read_timeout(head_timeout);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let mut beginning = pin!(ending.beginning.notified());
    let mut tick = pin!(tokio::time::sleep(head_timeout));
    let (mut is_first, mut is_ending) = (true, false);
    poll_fn(|cx| {
        // This task's waker stays the same: who wakes it is told once, and each turn only asks
        // whether something has happened.
        let is_first = std::mem::take(&mut is_first);
        let begins = is_first && beginning.as_mut().poll(cx).is_ready();
        if !is_ending && (begins || ending.has_begun.load(Ordering::Acquire)) {
            is_ending = true;
            connection.as_mut().graceful_shutdown();
        }
        if is_first || tick.is_elapsed() {
            while tick.as_mut().poll(cx).is_ready() {
                ticks.0.fetch_add(1, Ordering::Relaxed);
                tick.as_mut().reset(tokio::time::Instant::now() + head_timeout);
            }
        }
        connection.as_mut().poll(cx)
    })
    .await
}

/// The clock by which hyper waits for heads: it ticks once in the time that they may take. A timer
/// of the runtime for each head would cost more than its parsing.
#[derive(Clone, Debug, Default)]
struct Ticks(Arc<AtomicU32>);

impl Timer for Ticks {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Waiting { ticks: self.0.clone(), since: self.0.load(Ordering::Relaxed) })
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(Duration::ZERO)
    }
}

/// Ready at the second tick, since the first may come at once.
struct Waiting {
    ticks: Arc<AtomicU32>,
    since: u32,
}

impl Sleep for Waiting {}

impl Future for Waiting {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        // Each tick polls the connection, and with it this: it needs no waker.
        match self.ticks.load(Ordering::Relaxed).wrapping_sub(self.since) {
            0 | 1 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}

/// The service of one connection.
struct Served<S> {
    service: SocketIoService<S>,
    peer: SocketAddr,
}

impl<S, R> hyper::service::Service<Request<Incoming>> for Served<S>
where
    S: Service<Request<Incoming>, Response = Response<R>> + Clone,
{
    type Response = Response<Either<OwnBody, R>>;
    type Error = S::Error;
    type Future = ResponseFuture<TowerToHyperServiceFuture<S, Request<Incoming>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let Self { service, peer } = self;
        if service.takes(&request) {
            return ResponseFuture(Way::Own(service.answer(request, Some(*peer))));
        }
        let extensions = request.extensions_mut();
        extensions.insert(PeerAddr(*peer));
        #[cfg(feature = "axum")]
        extensions.insert(axum::extract::ConnectInfo(*peer));
        let inner = TowerToHyperService::new(service.inner.clone());
        ResponseFuture(Way::Inner(Box::pin(hyper::service::Service::call(&inner, request))))
    }
}
