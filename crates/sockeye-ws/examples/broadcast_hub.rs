//! A hub: what one client sends goes to all. A slow client delays nobody.
//! Knows nothing of rooms or names.
//!
//! ```text
//! cargo run --example broadcast_hub -- 127.0.0.1:9001
//! ```

#![expect(clippy::print_stdout, reason = "where it listens is what it shows")]

use std::error::Error;

use sockeye_ws::CloseCode;
use sockeye_ws::net::{Error as WebSocketError, Message, Server, WebSocket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};

/// How many messages a client may be behind before it is sent away.
const BEHIND_MAX: usize = 256;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    run(TcpListener::bind(address).await?).await
}

/// Serves for as long as the program runs.
pub async fn run(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    println!("listening on ws://{}", listener.local_addr()?);
    // A clone of a message shares its bytes: they are there once, however many clients wait.
    let hub = Sender::<Message>::new(BEHIND_MAX);
    let handler = move |mut websocket, _peer| {
        let (hub, messages) = (hub.clone(), hub.subscribe());
        async move {
            // How a client ended is its own affair.
            let _ = join(&mut websocket, &hub, messages).await;
        }
    };
    Server::new().serve(listener, handler).await;
    Ok(())
}

async fn join(
    websocket: &mut WebSocket<TcpStream>,
    hub: &Sender<Message>,
    mut messages: Receiver<Message>,
) -> Result<(), WebSocketError> {
    loop {
        tokio::select! {
            // Cancel safe: if the other branch is first, nothing is lost.
            received = websocket.next() => match received {
                Some(message) => {
                    let message = message?;
                    if message.is_data() {
                        // There is always one who receives: the sender itself.
                        let _ = hub.send(message);
                    }
                }
                None => return Ok(()),
            },
            message = messages.recv() => match message {
                Ok(message) => send_all_that_wait(websocket, message, &mut messages).await?,
                Err(RecvError::Lagged(_)) => {
                    return websocket.close(CloseCode::POLICY, "too slow").await;
                }
                Err(RecvError::Closed) => return websocket.close(CloseCode::GOING_AWAY, "").await,
            },
        }
    }
}

/// Messages that wait together leave together, in one write.
async fn send_all_that_wait(
    websocket: &mut WebSocket<TcpStream>,
    first: Message,
    messages: &mut broadcast::Receiver<Message>,
) -> Result<(), WebSocketError> {
    websocket.feed(first).await?;
    while let Ok(message) = messages.try_recv() {
        websocket.feed(message).await?;
    }
    websocket.flush().await
}
