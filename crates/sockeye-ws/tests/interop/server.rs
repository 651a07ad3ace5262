//! A server for peers that can only be scripted from their side, such as a browser: it answers as
//! `answers` says, and logs how each connection ended.
//! Knows nothing of who the peers are.

#![expect(clippy::print_stdout, reason = "the log is what the tests read")]

mod answers;

use std::error::Error;

use answers::{answer, compression};
use sockeye_ws::net::{self, Message, Server};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let listener = TcpListener::bind(args.next().ok_or("an address is missing")?).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let server = server(args.next().as_deref());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(server.clone(), stream));
    }
}

/// Lets in pages of this machine, and what is no page; compresses as the extension's parameters
/// say.
fn server(extension: Option<&str>) -> Server {
    let is_known = |own: &str| own.starts_with("http://127.0.0.1:");
    let builder = Server::builder()
        .protocols(["v2", "v1"])
        .origin_check(move |origin| origin.is_none_or(is_known));
    match extension {
        Some(extension) => builder.deflate(compression(extension)).build(),
        None => builder.build(),
    }
}

async fn serve(server: Server, stream: TcpStream) {
    let accepted = async {
        let handshake = server.receive(stream).await?;
        let target = handshake.request().uri().clone();
        Ok::<_, net::AcceptError>((target, handshake.accept().await?))
    };
    let (target, mut websocket) = match accepted.await {
        Ok(accepted) => accepted,
        Err(error) => return println!("not accepted: {error}"),
    };
    while let Some(received) = websocket.next().await {
        let answered = match received {
            Ok(Message::Close(None)) => return println!("{target} closed without a code"),
            Ok(Message::Close(Some(frame))) => {
                return println!("{target} closed with {} {:?}", frame.code, frame.reason);
            }
            Ok(message) => answer(&mut websocket, target.path(), message).await,
            Err(error) => Err(error),
        };
        if let Err(error) = answered {
            println!("{target} failed: {error}");
        }
    }
}
