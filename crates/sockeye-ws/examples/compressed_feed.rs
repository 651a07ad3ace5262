//! A feed: all who listen get the same JSON document every so often, compressed once for all.
//! Knows nothing of who listens; what they send is ignored.
//!
//! ```text
//! cargo run --example compressed_feed -- 127.0.0.1:9001
//! ```

#![expect(clippy::print_stdout, reason = "where it listens is what it shows")]

use std::error::Error;
use std::time::Duration;

use serde_json::json;
use sockeye_ws::net::{Error as WebSocketError, Server, WebSocket};
use sockeye_ws::{CloseCode, Frame, deflate};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch::{self, Receiver};

/// How often there is news.
const INTERVAL: Duration = Duration::from_millis(200);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    run(TcpListener::bind(address).await?).await
}

/// Serves for as long as the program runs.
pub async fn run(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    println!("listening on ws://{}", listener.local_addr()?);
    // Without contexts (the default) what one client gets serves all who agreed to compress.
    let server = Server::builder().deflate(deflate::Options::default()).build();
    let (publisher, news) = watch::channel(document(0));
    tokio::spawn(async move {
        for number in 1.. {
            tokio::time::sleep(INTERVAL).await;
            publisher.send_replace(document(number));
        }
    });
    let handler = move |mut websocket, _peer| {
        let news = news.clone();
        async move {
            // How a listener ended is its own affair.
            let _ = feed(&mut websocket, news).await;
        }
    };
    server.serve(listener, handler).await;
    Ok(())
}

/// Whoever is slow misses a document, but never gets an old one.
async fn feed(
    websocket: &mut WebSocket<TcpStream>,
    mut news: Receiver<Frame>,
) -> Result<(), WebSocketError> {
    news.mark_changed();
    loop {
        tokio::select! {
            received = websocket.next() => match received {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
            changed = news.changed() => {
                if changed.is_err() {
                    return websocket.close(CloseCode::GOING_AWAY, "").await;
                }
                let frame = news.borrow_and_update().clone();
                websocket.send_frame(&frame).await?;
            }
        }
    }
}

/// Prices of many things, as JSON.
fn document(number: u64) -> Frame {
    let price = |thing: u64| {
        let price = (thing * 37 + number) % 100;
        json!({ "thing": format!("thing {thing}"), "price": price })
    };
    let prices: Vec<_> = (0..100).map(price).collect();
    Frame::text(&json!({ "number": number, "prices": prices }).to_string())
}
