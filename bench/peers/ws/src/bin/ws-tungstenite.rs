//! Peer: tokio-tungstenite. TUNED=1: buffers of 4 KiB and eager writes, in place of its 128 KiB.
use peer_ws::{Ended, Library, MESSAGE_BYTES_MAX, env, serve_library};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{Role, WebSocketConfig},
    },
};

struct Tungstenite;

impl Library for Tungstenite {
    type Connection = WebSocketStream<TcpStream>;
    type Item = Result<Message, Error>;
    type Message = Message;

    fn message(item: Self::Item) -> Result<Option<Message>, Ended> {
        let message = item.map_err(|_| Ended)?;
        Ok((message.is_text() || message.is_binary()).then_some(message))
    }
}

fn main() {
    let mut config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    if env("TUNED", "1") {
        config = config.read_buffer_size(4096).write_buffer_size(4096);
    }
    serve_library::<Tungstenite>(false, move |upgraded| {
        let make = WebSocketStream::from_raw_socket(upgraded.stream, Role::Server, Some(config));
        futures_util::FutureExt::now_or_never(make)
    });
}
