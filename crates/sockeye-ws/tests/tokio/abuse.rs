//! Peers that mean harm, over real loopback: what they can make a server hold is bounded, they are
//! told what RFC 6455 says, and others are served meanwhile. (Handshakes are `server`'s.)

use std::time::Duration;

use sockeye_ws::Limits;
use sockeye_ws::net::{Client, Error, KeepAlive, Server, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::*;

/// How a connection of the server ended, and the most it ever had waiting to be sent.
struct Ended {
    error: Option<Error>,
    buffered_max: usize,
}

/// A server that echoes; its port, and the ends of its connections.
async fn echo_server(server: Server) -> (u16, UnboundedReceiver<Ended>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, ends) = unbounded_channel();
    let handler = move |websocket, _| {
        let sender = sender.clone();
        async move { drop(sender.send(echo(websocket).await)) }
    };
    tokio::spawn(async move { server.serve(listener, handler).await });
    (port, ends)
}

async fn echo(mut websocket: WebSocket<TcpStream>) -> Ended {
    let mut ended = Ended { error: None, buffered_max: 0 };
    while let Some(received) = websocket.next().await {
        ended.buffered_max = ended.buffered_max.max(websocket.buffered_amount());
        let sent = match received {
            Ok(message) if message.is_data() => websocket.send(message).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        ended.error = ended.error.or(sent.err());
    }
    ended
}

/// A raw client behind its handshake.
async fn raw_client(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    write(&mut stream, request.as_bytes()).await;
    read_response(&mut stream).await;
    stream
}

/// Others are served: a round trip on a connection of its own.
async fn assert_serves_others(port: u16) {
    let client = Client::new(&format!("ws://127.0.0.1:{port}/"));
    let mut websocket = client.connect().await.unwrap();
    websocket.send("others").await.unwrap();
    assert_eq!(websocket.next().await.unwrap().unwrap().as_text(), Some("others"));
    websocket.close(None, "").await.unwrap();
}

/// Writes as much as the server takes, and returns its last frame.
async fn flood(mut stream: TcpStream, bytes: Vec<u8>) -> (u8, Vec<u8>) {
    let (mut reader, mut writer) = stream.split();
    let writing = async { drop(writer.write_all(&bytes).await) };
    let ((), frame) = tokio::join!(writing, read_frame(&mut reader));
    frame.expect("a close frame, not a reset")
}

#[tokio::test]
async fn ws_cve_2026_48779_fragment_floods_get_1008() {
    let (port, mut ends) = echo_server(Server::new()).await;
    for payload in [&b""[..], b"x"] {
        let stream = raw_client(port).await;
        let mut bytes = masked(0x02, payload);
        for _ in 0..50_000 {
            bytes.extend(masked(CONTINUATION, payload));
        }
        let (frame, ()) = tokio::join!(flood(stream, bytes), assert_serves_others(port));
        assert_eq!(frame, (FIN_CLOSE, b"\x03\xF0".to_vec()));
        let (one, other) = (ends.recv().await.unwrap(), ends.recv().await.unwrap());
        let errors = [one.error, other.error].into_iter().flatten().count();
        assert_eq!(errors, 1, "the flood ends in an error, the other in order");
    }
}

#[tokio::test]
async fn h104_ping_floods_with_a_peer_that_reads_nothing_are_bounded() {
    let limits = Limits { close_timeout: Duration::from_millis(200), ..Limits::default() };
    let (port, mut ends) = echo_server(Server::builder().limits(limits).build()).await;
    let mut stream = raw_client(port).await;
    let ping = masked(FIN_PING, &[b'x'; 125]);
    let flooding = tokio::spawn(async move {
        // Ends when the server has closed.
        while stream.write_all(&ping).await.is_ok() {}
    });
    let ended = ends.recv().await.unwrap();
    assert!(matches!(ended.error, Some(Error::Protocol(_))), "{:?}", ended.error);
    assert!(ended.buffered_max < 200_000, "{} bytes waited", ended.buffered_max);
    flooding.await.unwrap();
    assert_serves_others(port).await;
}

#[tokio::test]
async fn a_peer_that_sends_and_never_reads_is_not_read_from_either() {
    let server = Server::builder().write_buffer_bytes_max(10_000).build();
    let (port, mut ends) = echo_server(server).await;
    let mut stream = raw_client(port).await;
    let message = masked(FIN_BINARY, &[7; 1000]);
    let mut sent = 0;
    // The kernel's buffers take some megabytes; then the server reads no more, and neither do they.
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(500), stream.write_all(&message)).await
    {
        written.unwrap();
        sent += 1;
        assert!(sent < 1_000_000, "the server reads on and on");
    }
    assert_serves_others(port).await;
    assert!(ends.recv().await.unwrap().error.is_none(), "that was the other one");
    drop(stream);
    let ended = ends.recv().await.unwrap();
    assert!(ended.error.is_some(), "it was cut off");
    assert!(ended.buffered_max <= 12_000, "{} bytes waited", ended.buffered_max);
}

#[tokio::test]
async fn half_open_peers_are_found_by_keep_alive() {
    let keep_alive =
        // Whoever answers has seconds for it.
        KeepAlive { interval: Duration::from_millis(50), timeout: Duration::from_secs(5) };
    let (port, mut ends) = echo_server(Server::builder().keep_alive(keep_alive).build()).await;
    let mut silent = raw_client(port).await;
    let ended = ends.recv().await.unwrap();
    assert!(matches!(ended.error, Some(Error::KeepAliveTimeout)), "{:?}", ended.error);
    // It was asked, and told nothing more.
    assert_eq!(read_frame(&mut silent).await.unwrap(), (FIN_PING, vec![]));
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    assert_serves_others(port).await;
}

#[tokio::test]
async fn a_declared_length_above_the_limit_gets_1009_before_it_is_sent() {
    let (port, mut ends) = echo_server(Server::new()).await;
    let mut stream = raw_client(port).await;
    write(&mut stream, b"\x82\xFF\x00\x00\x00\x00\xFF\xFF\xFF\xFF").await;
    assert_eq!(read_frame(&mut stream).await.unwrap(), (FIN_CLOSE, b"\x03\xF1".to_vec()));
    drop(stream);
    assert!(matches!(ends.recv().await.unwrap().error, Some(Error::Protocol(_))));
}
