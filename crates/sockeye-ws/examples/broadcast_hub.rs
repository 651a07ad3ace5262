//! A hub: what one client sends goes to all. A slow client delays nobody.
//! Knows nothing of rooms or names.
//!
//! ```text
//! cargo run --example broadcast_hub -- 127.0.0.1:9001
//! ```

#![expect(clippy::print_stdout, reason = "where it listens is what it shows")]

use std::error::Error;

use sockeye_ws::net::{Error as WebSocketError, Message, Server, WebSocket};
use sockeye_ws::{CloseCode, Frame};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender};

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
    // A message becomes a frame once, and its clones share the bytes, however many clients wait.
    let hub = Sender::<Frame>::new(BEHIND_MAX);
    let handler = move |mut websocket, _peer| {
        let (hub, frames) = (hub.clone(), hub.subscribe());
        async move {
            // How a client ended is its own affair.
            let _ = join(&mut websocket, &hub, frames).await;
        }
    };
    Server::new().serve(listener, handler).await;
    Ok(())
}

async fn join(
    websocket: &mut WebSocket<TcpStream>,
    hub: &Sender<Frame>,
    mut frames: Receiver<Frame>,
) -> Result<(), WebSocketError> {
    loop {
        tokio::select! {
            // Cancel safe: if the other branch is first, nothing is lost.
            received = websocket.next() => match received {
                Some(message) => {
                    let frame = match message? {
                        Message::Text(text) => Frame::text(&text),
                        Message::Binary(data) => Frame::binary(&data),
                        _ => continue,
                    };
                    // There is always one who receives: the sender itself.
                    let _ = hub.send(frame);
                }
                None => return Ok(()),
            },
            frame = frames.recv() => match frame {
                Ok(frame) => {
                    if !send_all_that_wait(websocket, &frame, &mut frames).await? {
                        return send_away(websocket).await;
                    }
                }
                Err(RecvError::Lagged(_)) => return send_away(websocket).await,
                Err(RecvError::Closed) => return websocket.close(CloseCode::GOING_AWAY, "").await,
            },
        }
    }
}

async fn send_away(websocket: &mut WebSocket<TcpStream>) -> Result<(), WebSocketError> {
    websocket.close(CloseCode::POLICY, "too slow").await
}

/// Messages that wait together leave together, in one write. Returns false where there were more
/// than may wait: some of them are gone.
async fn send_all_that_wait(
    websocket: &mut WebSocket<TcpStream>,
    first: &Frame,
    frames: &mut Receiver<Frame>,
) -> Result<bool, WebSocketError> {
    websocket.feed_frame(first).await?;
    let all = loop {
        match frames.try_recv() {
            Ok(frame) => websocket.feed_frame(&frame).await?,
            Err(error) => break !matches!(error, TryRecvError::Lagged(_)),
        }
    };
    websocket.flush().await?;
    Ok(all)
}
