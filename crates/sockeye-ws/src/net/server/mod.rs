//! A WebSocket server: its options, and the ways a connection comes about.
//! Does not know what happens on a connection; that is the application's.

mod accept;
#[cfg(feature = "axum")]
mod axum;
mod builder;
mod checks;
mod refusal;
mod serve;
#[cfg(feature = "hyper")]
mod upgrade;

use std::sync::Arc;

use tokio::sync::watch;

use builder::Config;

#[cfg(feature = "axum")]
pub use self::axum::WebSocketUpgrade;
pub use accept::Handshake;
pub use builder::{ServerBuilder, VerifyFuture};
pub use refusal::{AcceptError, Refusal};
#[cfg(feature = "hyper")]
pub use upgrade::Upgrade;

/// A server: options that are the same for all its connections. Cheap to clone; clones are one
/// server.
///
/// It does not listen by itself. A stream becomes a connection by [`accept`](Self::accept), a
/// request that hyper or axum serves by `upgrade`, and what arrives at a listener by
/// [`serve`](Self::serve).
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    closing: watch::Sender<bool>,
}

impl Server {
    /// A server with the options' defaults.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A server with options.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Lets nobody in any more: handshakes are answered with 503, and [`serve`](Self::serve)
    /// ends. Connections that exist go on; closing them is their tasks' affair.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    /// Whether [`close`](Self::close) has been called.
    pub fn is_closing(&self) -> bool {
        *self.shared.closing.borrow()
    }

    /// Waits until [`close`](Self::close) is called: for whoever accepts connections by hand, and
    /// for the tasks that serve them.
    ///
    /// ```no_run
    /// use std::pin::pin;
    ///
    /// use sockeye_ws::CloseCode;
    /// use sockeye_ws::net::{Error, Server, WebSocket};
    /// use tokio::net::TcpStream;
    ///
    /// async fn echo(server: Server, mut websocket: WebSocket<TcpStream>) -> Result<(), Error> {
    ///     let mut closing = pin!(server.closing());
    ///     loop {
    ///         tokio::select! {
    ///             received = websocket.next() => match received {
    ///                 Some(message) if websocket.is_open() => websocket.send(message?).await?,
    ///                 Some(message) => drop(message?),
    ///                 None => return Ok(()),
    ///             },
    ///             () = &mut closing, if websocket.is_open() => {
    ///                 websocket.start_close(CloseCode::GOING_AWAY, "")?;
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.shared.closing.subscribe();
        async move {
            // A server that no clone is left of will not be closed any more.
            if closing.wait_for(|closing| *closing).await.is_err() {
                std::future::pending().await
            }
        }
    }

    fn from_config(config: Config) -> Self {
        Self { shared: Arc::new(Shared { config, closing: watch::Sender::new(false) }) }
    }

    fn config(&self) -> &Config {
        &self.shared.config
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}
