//! An echo server: greets each client, returns what it sends, and logs who came and how it ended.
//! Knows nothing of TLS or HTTP beyond the handshake.
//!
//! ```text
//! cargo run --example echo_server -- 127.0.0.1:9001
//! ```
//!
//! Then, with any client, `ws://127.0.0.1:9001/`. Ctrl-c ends it: clients are told with close code
//! 1001 that it goes away, and have five seconds to say goodbye.

#![expect(clippy::print_stdout, reason = "the log is what it shows")]

use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use sockeye_ws::CloseCode;
use sockeye_ws::net::{AcceptError, KeepAlive, Message, Server};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long clients get to say goodbye when the server goes away.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    run(TcpListener::bind(address).await?).await
}

/// Serves until ctrl-c.
pub async fn run(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // The system tells of none: the program runs until it is killed.
            std::future::pending::<()>().await;
        }
    };
    run_until(ctrl_c, GOODBYE_MAX, listener).await
}

/// Serves until `stop` is done, and then until all clients have said goodbye or their time is over.
pub async fn run_until(
    stop: impl Future<Output = ()>,
    goodbye_max: Duration,
    listener: TcpListener,
) -> Result<(), Box<dyn Error>> {
    println!("listening on ws://{}", listener.local_addr()?);
    // Peers that went away without a word are found within 40 seconds.
    let keep_alive =
        KeepAlive { interval: Duration::from_secs(30), timeout: Duration::from_secs(10) };
    let server = Server::builder().keep_alive(keep_alive).build();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted?;
                stream.set_nodelay(true)?;
                connections.spawn(serve(server.clone(), stream, peer));
            }
            // A task that has ended is forgotten.
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }

    println!("going away; there are {} clients", connections.len());
    // Nobody gets in any more: not at the door, and not who is in the middle of a handshake. Who is
    // in hears of it.
    drop(listener);
    server.close();
    let goodbyes = async { while connections.join_next().await.is_some() {} };
    if timeout(goodbye_max, goodbyes).await.is_err() {
        println!("{} clients have not said goodbye", connections.len());
    }
    // The set, dropped, ends the tasks that are left, and with them their connections.
    Ok(())
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
    let mut closing = pin!(server.closing());
    let handshake = server.receive(stream).await?;
    println!("{peer}: asks for {}", handshake.request().uri());
    let mut websocket = handshake.accept().await?;

    // Queued; it leaves with the first write, or while we wait.
    let _ = websocket.feed(format!("hello, {peer}")).await;
    loop {
        let received = tokio::select! {
            received = websocket.next() => received,
            () = &mut closing, if websocket.is_open() => {
                // `next` writes the close frame, and ends with the client's.
                let started = websocket.start_close(CloseCode::GOING_AWAY, "the server stops");
                started.expect("a close frame can carry both");
                continue;
            }
        };
        match received {
            None => return Ok(()),
            Some(Ok(Message::Close(None))) => println!("{peer}: closed, without a code"),
            Some(Ok(Message::Close(Some(frame)))) => {
                println!("{peer}: closed with {} {:?}", frame.code, frame.reason);
            }
            // Pings were answered already.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            // Behind our close frame nothing can be sent.
            Some(Ok(_)) if !websocket.is_open() => {}
            Some(Ok(message)) => {
                // What is queued leaves when `next` has nothing more to read, in one write.
                if let Err(error) = websocket.feed(message).await {
                    println!("{peer}: {error}");
                }
            }
            Some(Err(error)) => println!("{peer}: {error}"),
        }
    }
}
