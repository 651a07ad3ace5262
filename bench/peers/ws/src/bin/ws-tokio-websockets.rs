//! Peer: tokio-websockets, which finds its SIMD instructions by itself.
use peer_ws::{Ended, Library, MESSAGE_BYTES_MAX, serve_library};
use tokio::net::TcpStream;
use tokio_websockets::{Error, Limits, Message, ServerBuilder, WebSocketStream};

struct TokioWebsockets;

impl Library for TokioWebsockets {
    type Connection = WebSocketStream<TcpStream>;
    type Item = Result<Message, Error>;
    type Message = Message;

    fn message(item: Self::Item) -> Result<Option<Message>, Ended> {
        let message = item.map_err(|_| Ended)?;
        Ok((message.is_text() || message.is_binary()).then_some(message))
    }
}

fn main() {
    serve_library::<TokioWebsockets>(false, |upgraded| {
        let limits = Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX));
        Some(ServerBuilder::new().limits(limits).serve(upgraded.stream))
    });
}
