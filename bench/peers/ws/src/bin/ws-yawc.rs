//! Peer: yawc, which checks UTF-8 as the others do. DEFLATE=1: level 3, as ours, from 1024 bytes
//! on, without context takeover, with its pool of compressors. TUNED=1: buffers as in its
//! benchmark.
use peer_ws::{Ended, Library, MESSAGE_BYTES_MAX, env, serve_library};
use tokio::net::TcpStream;
use yawc::{CompressionLevel, DeflatePool, Frame, OpCode, Options, Role, WebSocket};

struct Yawc;

impl Library for Yawc {
    type Connection = WebSocket<TcpStream>;
    type Item = Frame;
    type Message = Frame;

    fn message(frame: Frame) -> Result<Option<Frame>, Ended> {
        match frame.opcode() {
            OpCode::Text | OpCode::Binary => Ok(Some(frame)),
            OpCode::Close => Err(Ended),
            _ => Ok(None),
        }
    }
}

fn main() {
    let mut options =
        Options::default().with_limits(MESSAGE_BYTES_MAX, 2 * MESSAGE_BYTES_MAX).with_utf8();
    if env("TUNED", "1") {
        options = options.with_read_buffer_capacity(128 << 10).with_backpressure_boundary(64 << 10);
    }
    if env("DEFLATE", "1") {
        options = options
            .with_compression_level(CompressionLevel::new(3))
            .server_no_context_takeover()
            .client_no_context_takeover()
            .with_deflate_pool(DeflatePool::new(4))
            .with_compression_threshold(1024);
    }
    serve_library::<Yawc>(true, move |upgraded| {
        let extensions = upgraded.extensions;
        let mut options = options.clone();
        if extensions.is_none() {
            options = options.without_compression();
        }
        WebSocket::from_stream_with_extensions(upgraded.stream, Role::Server, extensions, options)
            .ok()
    });
}
