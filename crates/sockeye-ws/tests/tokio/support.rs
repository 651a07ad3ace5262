//! Pairs of connections in memory, streams that stutter, and raw peers.
//! Raw peers build their frames by hand, legal or not.

use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use sockeye_ws::net::{Message, Options, WebSocket};
use sockeye_ws::{Connection, Limits, Role};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const CONTINUATION: u8 = 0x00;
pub(crate) const FIN_TEXT: u8 = 0x81;
pub(crate) const FIN_BINARY: u8 = 0x82;
pub(crate) const FIN_CLOSE: u8 = 0x88;
pub(crate) const FIN_PING: u8 = 0x89;
pub(crate) const FIN_PONG: u8 = 0x8A;

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A frame as a client sends it.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, 0x80, payload.len());
    bytes.extend_from_slice(&KEY);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A frame as a server sends it.
pub(crate) fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, 0, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

fn header(first: u8, masked: u8, len: usize) -> Vec<u8> {
    match len {
        0..126 => vec![first, masked | len as u8],
        126..65_536 => [&[first, masked | 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, masked | 127][..], &(len as u64).to_be_bytes()].concat(),
    }
}

/// The next frame a server sends: its first byte and its payload.
pub(crate) async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(u8, Vec<u8>)> {
    let first = stream.read_u8().await?;
    let len = match stream.read_u8().await? {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        len => u64::from(len),
    };
    let mut payload = vec![0; len as usize];
    stream.read_exact(&mut payload).await?;
    Ok((first, payload))
}

/// What is left of a stream after a server's close frame: nothing may follow but its end.
pub(crate) async fn assert_ended<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("the stream ends in order");
    assert_eq!(rest, b"", "nothing follows the close frame");
}

pub(crate) fn machine(role: Role, limits: Limits) -> Connection {
    Connection::new(role, limits)
}

/// A server's connection whose peer is raw.
pub(crate) fn server(limits: Limits, options: &Options) -> (WebSocket<DuplexStream>, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 << 10);
    (WebSocket::from_connection(near, machine(Role::Server, limits), [], options), far)
}

/// Both sides of a connection, a server and a client.
pub(crate) fn pair(buffer: usize) -> (WebSocket<DuplexStream>, WebSocket<DuplexStream>) {
    let (near, far) = tokio::io::duplex(buffer);
    let options = Options::default();
    let machine = |role| machine(role, Limits::default());
    let server = WebSocket::from_connection(near, machine(Role::Server), [], &options);
    (server, WebSocket::from_connection(far, machine(Role::Client), [], &options))
}

/// The messages up to the end, and whether the end was a closing handshake.
pub(crate) async fn drain<S: AsyncRead + AsyncWrite + Unpin>(
    websocket: &mut WebSocket<S>,
) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(message) = websocket.next().await {
        messages.push(message.expect("the connection does not fail"));
    }
    messages
}

/// Polls once and drops the future: it is cancelled wherever it waits.
pub(crate) fn poll_and_drop<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// One end of a pipe in memory that says "not yet" before each operation and then lets few bytes
/// through: every byte is a place where a future can be dropped.
#[derive(Debug)]
pub(crate) struct Stutter {
    incoming: Arc<Mutex<VecDeque<u8>>>,
    outgoing: Arc<Mutex<VecDeque<u8>>>,
    bytes_max: usize,
    reads: u64,
    writes: u64,
}

/// Two ends.
pub(crate) fn stutter(bytes_max: usize) -> (Stutter, Stutter) {
    let (there, back) = (Arc::default(), Arc::default());
    let end = |incoming: &Arc<_>, outgoing: &Arc<_>| Stutter {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        bytes_max,
        reads: 0,
        writes: 0,
    };
    (end(&there, &back), end(&back, &there))
}

impl AsyncRead for Stutter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads += 1;
        let mut incoming = self.incoming.lock().expect("no test panics while it holds the lock");
        if self.reads % 2 == 1 || incoming.is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = incoming.len().min(self.bytes_max).min(buffer.remaining());
        let bytes: Vec<u8> = incoming.drain(..count).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stutter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        if self.writes % 2 == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = bytes.len().min(self.bytes_max);
        let mut outgoing = self.outgoing.lock().expect("no test panics while it holds the lock");
        outgoing.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Writes frames as a raw peer.
pub(crate) async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("the other side reads");
}

/// The two ends of a TCP connection over loopback.
pub(crate) async fn loopback() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("the listener accepts").0, far.expect("loopback connects"))
}

/// A whole response: for a 101 its head, and nothing of what follows it; else up to the end.
pub(crate) async fn read_response<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        response.push(stream.read_u8().await.expect("a whole head"));
    }
    if !response.starts_with(b"HTTP/1.1 101 ") {
        stream.read_to_end(&mut response).await.expect("the stream ends in order");
    }
    String::from_utf8(response).expect("a response is a text")
}
