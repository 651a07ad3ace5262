//! A client that returns to the server what it sends, until the server closes.
//! The interoperability tests drive it; beside `echo_server` it shows the other role.
//!
//! ```text
//! cargo run --example echo_client -- ws://127.0.0.1:9001/
//! ```

#![expect(clippy::print_stdout, reason = "how it ended is what it shows")]

use std::error::Error;

use sockeye_ws::net::{Message, connect};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: echo_client URL")?;
    let mut websocket = connect(&url).await?;
    while let Some(received) = websocket.next().await {
        match received? {
            Message::Close(None) => println!("closed without a code"),
            Message::Close(Some(frame)) => println!("closed with {} {}", frame.code, frame.reason),
            message if message.is_data() => websocket.feed(message).await?,
            _ => {}
        }
    }
    Ok(())
}
