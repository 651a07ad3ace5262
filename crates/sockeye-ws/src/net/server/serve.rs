//! Accepts what arrives at a TCP listener: one task for each connection.
//! Does not know what the application does in it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::Server;
use crate::net::WebSocket;

/// How long to wait when the process has no file descriptor left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Accepts connections until [`close`](Self::close) is called, and runs `handler` for each, in
    /// a task of its own: with the connection once its handshake is done, and the peer's address.
    ///
    /// A handshake that fails is told to its client and goes no further. To see the request, or
    /// the failures, accept by hand: [`receive`](Self::receive) has an example.
    ///
    /// Small messages leave at once (`TCP_NODELAY`).
    ///
    /// Clients that connect faster than they are accepted wait in the listener's backlog.
    /// `TcpListener::bind` asks for room for 1,024 (and the system may give less: Linux's
    /// `net.core.somaxconn`); in a burst of more the system drops requests to connect, which
    /// clients repeat after a second. `TcpSocket::listen` takes another number.
    pub async fn serve<H, F>(&self, listener: TcpListener, handler: H)
    where
        H: Fn(WebSocket<TcpStream>, SocketAddr) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut closing = self.shared.closing.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = closing.wait_for(|closing| *closing) => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !is_of_one_connection(&error) {
                        tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    }
                    continue;
                }
            };
            // A socket that is gone already shows in the handshake.
            let _ = stream.set_nodelay(true);
            let (server, handler) = (self.clone(), handler.clone());
            tokio::spawn(async move {
                if let Ok(websocket) = server.accept(stream).await {
                    drop(server);
                    handler(websocket, peer).await;
                }
            });
        }
    }
}

/// Whether the failure is over with this connection, or the next one would meet it too.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
