//! The opening handshake, for clients that speak correctly.
use base64::{Engine, prelude::BASE64_STANDARD};
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::Upgraded;

const HEAD_BYTES_MAX: usize = 4096;
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

pub async fn accept(mut stream: TcpStream, deflate: bool) -> Option<Upgraded> {
    let head = read_head(&mut stream).await?;
    let mut lines = head.split("\r\n");
    let target = lines.next()?.split(' ').nth(1)?;
    let header = |name: &str| {
        lines.clone().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    };
    #[cfg(feature = "count-heap")]
    if target == "/heap" {
        let heap = crate::ALLOCATOR.current_usage();
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{heap}");
        stream.write_all(answer.as_bytes()).await.ok()?;
        return None;
    }
    let key = header("sec-websocket-key")?;
    let offered =
        header("sec-websocket-extensions").is_some_and(|v| v.contains("permessage-deflate"));
    let extensions = (deflate && offered).then_some(DEFLATE);
    let accept = BASE64_STANDARD.encode(Sha1::digest(format!("{key}{GUID}")));
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n"
    );
    if let Some(extensions) = extensions {
        answer.push_str(&format!("Sec-WebSocket-Extensions: {extensions}\r\n"));
    }
    answer.push_str("\r\n");
    stream.write_all(answer.as_bytes()).await.ok()?;
    let broadcast = target == "/broadcast";
    Some(Upgraded { stream, broadcast, extensions })
}

/// The load generator sends nothing behind the head before it is answered.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(head).ok()
}
