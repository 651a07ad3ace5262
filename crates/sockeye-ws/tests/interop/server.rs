//! A server for peers that can only be scripted from their side, such as a browser: it echoes, and
//! at some paths does what the messages say. It logs how each connection ended.
//! Knows nothing of who the peers are.
//!
//! | path | what a message is answered with |
//! |---|---|
//! | `/close` | the closing handshake, with the code and the reason that it names |
//! | `/ping` | a ping with its payload, and when the pong has come its payload as a text |
//! | `/parts` | itself in fragments, with a ping between each two |
//! | others | itself |

#![expect(clippy::print_stdout, reason = "the log is what the tests read")]

use std::error::Error;

use sockeye_ws::net::{self, Message, Server, WebSocket};
use sockeye_ws::{CloseCode, deflate};
use tokio::net::{TcpListener, TcpStream};

/// How many characters or bytes a fragment has.
const PART_LEN: usize = 1000;

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

/// Lets pages of this machine in; `compression` is "alone" (each message by itself), "takeover" or
/// none.
fn server(compression: Option<&str>) -> Server {
    let builder = Server::builder()
        .protocols(["v2", "v1"])
        .origin_check(|origin| origin.is_some_and(|own| own.starts_with("http://127.0.0.1:")));
    let keeps = compression == Some("takeover");
    let options = deflate::Options {
        server_no_context_takeover: !keeps,
        client_no_context_takeover: !keeps,
        ..deflate::Options::default()
    };
    match compression {
        Some(_) => builder.deflate(options).build(),
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

async fn answer(
    websocket: &mut WebSocket<TcpStream>,
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

async fn send_parts(
    websocket: &mut WebSocket<TcpStream>,
    parts: Vec<Message>,
) -> Result<(), net::Error> {
    let count = parts.len();
    for (number, part) in (1..).zip(parts) {
        websocket.send_part(part, number == count).await?;
        websocket.send(Message::Ping("between".into())).await?;
    }
    Ok(())
}
