//! What the programs that peers speak with do with messages, and how they are told to compress.
//! Knows neither role.
//!
//! | path | what a message is answered with |
//! |---|---|
//! | `/close` | the closing handshake, with the code and the reason that it names |
//! | `/ping` | a ping with its payload, and when the pong has come its payload as a text |
//! | `/parts` | itself in fragments, with a ping between each two |
//! | others | itself |

use sockeye_ws::CloseCode;
use sockeye_ws::deflate::{Options, WindowBits};
use sockeye_ws::net::{self, Message, WebSocket};
use tokio::io::{AsyncRead, AsyncWrite};

/// How many characters or bytes a fragment has.
const PART_LEN: usize = 1000;

/// The options that stand for `permessage-deflate` with these parameters, written as in its header.
pub(crate) fn compression(extension: &str) -> Options {
    let has = |name| extension.split("; ").any(|parameter| parameter == name);
    let bits = |name| {
        let mut values = extension.split("; ").filter_map(|own| own.strip_prefix(name));
        values.next().map_or(WindowBits::MAX, |bits| {
            bits.parse().ok().and_then(WindowBits::new).expect("a window of 8 to 15 bits")
        })
    };
    Options {
        server_no_context_takeover: has("server_no_context_takeover"),
        client_no_context_takeover: has("client_no_context_takeover"),
        server_max_window_bits: bits("server_max_window_bits="),
        client_max_window_bits: bits("client_max_window_bits="),
        ..Options::default()
    }
}

pub(crate) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    websocket: &mut WebSocket<S>,
    path: &str,
    message: Message,
) -> Result<(), net::Error> {
    match (path, message) {
        ("/ping", Message::Pong(payload)) => {
            websocket.send(format!("pong {}", String::from_utf8_lossy(&payload))).await
        }
        (_, Message::Pong(_) | Message::Ping(_) | Message::Close(_)) => Ok(()),
        ("/ping", Message::Text(payload)) => websocket.send(Message::Ping(payload.into())).await,
        ("/close", Message::Text(wish)) => {
            let (code, reason) = wish.split_once(' ').unwrap_or((&wish, ""));
            websocket.start_close(code.parse().ok().map(CloseCode), reason)?;
            Ok(())
        }
        ("/parts", Message::Text(text)) => {
            let chars: Vec<char> = text.chars().collect();
            let parts = chars.chunks(PART_LEN).map(|part| Message::text(String::from_iter(part)));
            send_parts(websocket, parts.collect()).await
        }
        ("/parts", Message::Binary(data)) => {
            let parts = data.chunks(PART_LEN).map(|part| Message::binary(part.to_vec()));
            send_parts(websocket, parts.collect()).await
        }
        (_, message) => websocket.feed(message).await,
    }
}

async fn send_parts<S: AsyncRead + AsyncWrite + Unpin>(
    websocket: &mut WebSocket<S>,
    parts: Vec<Message>,
) -> Result<(), net::Error> {
    let count = parts.len();
    for (number, part) in (1..).zip(parts) {
        websocket.send_part(part, number == count).await?;
        websocket.send(Message::Ping("between".into())).await?;
    }
    Ok(())
}
