//! What is told through `tracing`: handshakes in spans, refusals, and ends.
//! The subscriber is an ordinary one that writes to memory.

use std::io;
use std::sync::{Arc, Mutex};

use sockeye_ws::net::{Client, Server};
use tracing::Level;
use tracing::instrument::WithSubscriber;

use crate::support::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics while it holds the lock").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is told while a client connects to this server and closes.
async fn told(server: Server) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let (near, far) = loopback().await;
    let far = std::cell::Cell::new(Some(far));
    let client = Client::new("ws://localhost/");
    let serving = async {
        if let Ok(mut websocket) = server.accept(near).await {
            drain(&mut websocket).await;
        }
    };
    let asking = async {
        let open = |_| std::future::ready(Ok(far.take().expect("it connects once")));
        if let Ok(mut websocket) = client.connect_over(open).await {
            websocket.close(sockeye_ws::CloseCode(4000), "enough").await.unwrap();
        }
    };
    async { tokio::join!(serving, asking) }.with_subscriber(subscriber).await;
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn handshakes_and_ends_are_told() {
    let told = told(Server::new()).await;
    for line in [
        "websocket.accept: sockeye_ws::net::trace: a client was let in",
        "the peer has closed code=4000 reason=enough",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
}

#[tokio::test]
async fn refusals_are_told() {
    let server = Server::new();
    server.close();
    let told = told(server).await;
    let line = "websocket.accept: sockeye_ws::net::trace: a client was not let in \
                error=refused with status 503 Service Unavailable: the server is closing";
    assert!(told.contains(line), "{line} in {told}");
}
