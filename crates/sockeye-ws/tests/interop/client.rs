//! A client for servers that can only be scripted from their side: it answers as `answers` says,
//! and prints how the connection ended.
//! Knows nothing of who the server is.

#![expect(clippy::print_stdout, reason = "how it ended is what the tests read")]

mod answers;

use std::error::Error;

use answers::{answer, compression};
use sockeye_ws::net::{Client, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: interop_client URL [EXTENSION]")?;
    let path = match url.strip_suffix("/parts") {
        Some(_) => "/parts",
        None => "/",
    };
    let mut client = Client::new(&url);
    if let Some(extension) = args.next() {
        client = client.deflate(compression(&extension));
    }
    let mut websocket = client.connect().await?;
    while let Some(received) = websocket.next().await {
        match received? {
            Message::Close(None) => println!("closed without a code"),
            Message::Close(Some(frame)) => println!("closed with {} {}", frame.code, frame.reason),
            message => answer(&mut websocket, path, message).await?,
        }
    }
    Ok(())
}
