//! A client that sends a JSON value and prints the values that come, until the server closes or
//! says nothing for a while. Knows no protocol but JSON in text messages.
//!
//! ```text
//! cargo run --example json_client -- ws://127.0.0.1:9001/ '{"subscribe": "fish"}'
//! ```

#![expect(clippy::print_stdout, reason = "what comes is what it shows")]

use std::error::Error;
use std::time::Duration;

use serde_json::Value;
use sockeye_ws::CloseCode;
use sockeye_ws::net::{Client, Message};
use tokio::time::timeout;

/// How long it waits for another value.
const SILENCE_MAX: Duration = Duration::from_secs(2);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: json_client URL JSON";
    let url = std::env::args().nth(1).ok_or(usage)?;
    let value: Value = std::env::args().nth(2).ok_or(usage)?.parse()?;
    for value in run(&url, &value).await? {
        println!("{value:#}");
    }
    Ok(())
}

/// Sends `value` and returns the values that come.
pub async fn run(url: &str, value: &Value) -> Result<Vec<Value>, Box<dyn Error>> {
    let mut websocket =
        Client::new(url).handshake_timeout(Duration::from_secs(5)).connect().await?;
    websocket.send(value.to_string()).await?;
    let mut values = Vec::new();
    while let Ok(Some(received)) = timeout(SILENCE_MAX, websocket.next()).await {
        match received? {
            // What is no JSON, such as a greeting, is shown as a string.
            Message::Text(text) => {
                values.push(text.parse().unwrap_or_else(|_| Value::from(text.as_str())));
            }
            Message::Close(_) => return Ok(values),
            _ => {}
        }
    }
    websocket.close(CloseCode::NORMAL, "that was all").await?;
    Ok(values)
}
