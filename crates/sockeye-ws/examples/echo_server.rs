//! An echo server: greets each client, returns what it sends, and logs who came and how it ended.
//! Knows nothing of TLS or HTTP beyond the handshake.
//!
//! ```text
//! cargo run --example echo_server -- 127.0.0.1:9001
//! ```
//!
//! Then, with any client, `ws://127.0.0.1:9001/`.

#![expect(clippy::print_stdout, reason = "the log is what it shows")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use sockeye_ws::net::{AcceptError, KeepAlive, Message, Server};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    run(TcpListener::bind(address).await?).await
}

/// Accepts for as long as the program runs.
pub async fn run(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    println!("listening on ws://{}", listener.local_addr()?);
    // Peers that went away without a word are found within 40 seconds.
    let keep_alive =
        KeepAlive { interval: Duration::from_secs(30), timeout: Duration::from_secs(10) };
    let server = Server::builder().keep_alive(keep_alive).build();
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(server.clone(), stream, peer));
    }
}

async fn serve(server: Server, stream: TcpStream, peer: SocketAddr) {
    match greet_and_echo(&server, stream, peer).await {
        Ok(()) => {}
        Err(error) => println!("{peer}: not accepted: {error}"),
    }
}

async fn greet_and_echo(
    server: &Server,
    stream: TcpStream,
    peer: SocketAddr,
) -> Result<(), AcceptError> {
    let handshake = server.receive(stream).await?;
    println!("{peer}: asks for {}", handshake.request().uri());
    let mut websocket = handshake.accept().await?;

    // Queued; it leaves with the first write, or while we wait.
    let _ = websocket.feed(format!("hello, {peer}")).await;
    while let Some(received) = websocket.next().await {
        match received {
            Ok(Message::Close(None)) => println!("{peer}: closed, without a code"),
            Ok(Message::Close(Some(frame))) => {
                println!("{peer}: closed with {} {:?}", frame.code, frame.reason);
            }
            // Pings were answered already.
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(message) => {
                // What is queued leaves when `next` has nothing more to read, in one write.
                if let Err(error) = websocket.feed(message).await {
                    println!("{peer}: {error}");
                }
            }
            Err(error) => println!("{peer}: {error}"),
        }
    }
    Ok(())
}
