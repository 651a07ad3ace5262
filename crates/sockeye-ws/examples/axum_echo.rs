//! An echo in an axum application, beside an ordinary page.
//! Knows only what axum hands to a handler.
//!
//! ```text
//! cargo run --example axum_echo -- 127.0.0.1:9001
//! ```
//!
//! Then `ws://127.0.0.1:9001/echo`.

#![expect(clippy::print_stdout, reason = "where it listens is what it shows")]

use std::error::Error;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{any, get};
use sockeye_ws::net::{AnyStream, Server, WebSocket, WebSocketUpgrade};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    run(TcpListener::bind(address).await?).await
}

/// Serves for as long as the program runs.
pub async fn run(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let address = listener.local_addr()?;
    println!("listening on http://{address}, and on ws://{address}/echo");
    let server = Server::builder().protocols(["echo"]).build();
    let app = Router::new()
        .route("/", get(|| async { "There is an echo at /echo." }))
        .route("/echo", any(echo))
        .with_state(server);
    Ok(axum::serve(listener, app).await?)
}

async fn echo(State(server): State<Server>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.accept(&server, return_all).await
}

async fn return_all(mut websocket: WebSocket<AnyStream>) {
    while let Some(Ok(message)) = websocket.next().await {
        if message.is_data() && websocket.feed(message).await.is_err() {
            break;
        }
    }
}
