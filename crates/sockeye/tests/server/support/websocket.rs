//! A WebSocket client on the protocol crate's machine, for sessions of its own and for upgrades.

use std::collections::VecDeque;
use std::time::Instant;

use sockeye_ws::deflate;
use sockeye_ws::handshake::Url;
use sockeye_ws::handshake::client::Request;
use sockeye_ws::handshake::head::{HeadLimits, HeadReader};
use sockeye_ws::{Connection, Event, Limits, MessageRef, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Host, Stream};

const KEY: [u8; 4] = [1, 2, 3, 4];

pub(crate) struct WebSocket {
    stream: Box<dyn Stream>,
    machine: Connection,
    received: VecDeque<String>,
    /// How long the binary messages were that came.
    pub(crate) attachments: Vec<usize>,
    /// All bytes that came behind the handshake.
    pub(crate) bytes: usize,
    /// Binary messages stand apart: most clients get none.
    received_binary: VecDeque<Vec<u8>>,
    /// How many pongs came.
    pongs: usize,
}

impl WebSocket {
    /// Opens a session and joins `/`.
    pub(crate) async fn join(host: &Host) -> Self {
        let mut client = Self::open(host, "").await.expect("the handshake is accepted");
        let open = client.next().await.expect("the open packet");
        assert!(open.starts_with("0{"), "{open}");
        client.send("40").await;
        let connect = client.next().await.expect("the CONNECT is answered");
        assert!(connect.starts_with("40{\"sid\":"), "{connect}");
        client
    }

    /// The opening handshake, for the session `sid` if it names one. The head of a refusal is the
    /// error.
    pub(crate) async fn open(host: &Host, sid: &str) -> Result<Self, String> {
        let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
        Self::open_with(host, &sid, &[]).await
    }

    /// As [`open`](Self::open), with more behind the query, and more headers.
    pub(crate) async fn open_with(
        host: &Host,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, String> {
        let headers: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "GET /socket.io/?EIO=4&transport=websocket{query} HTTP/1.1\r\nHost: localhost\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        Self::open_by(host, head.as_bytes(), None).await
    }

    /// As [`open_with`](Self::open_with), with an offer of permessage-deflate. Joins nothing.
    pub(crate) async fn open_deflated(
        host: &Host,
        query: &str,
        offer: deflate::Options,
    ) -> Result<Self, String> {
        let url = format!("ws://localhost/socket.io/?EIO=4&transport=websocket{query}");
        let request = Request::new(Url::parse(&url).expect("a URL"), [7; 16]).deflate(offer);
        let head = request.encode().expect("a valid request");
        Self::open_by(host, &head, Some(&request)).await
    }

    async fn open_by(host: &Host, head: &[u8], request: Option<&Request>) -> Result<Self, String> {
        let mut stream = host.connect().await;
        stream.write_all(head).await.map_err(|error| error.to_string())?;
        let mut reader = HeadReader::new(HeadLimits::default());
        let mut buffer = vec![0; 4096];
        let (count, end) = loop {
            let count = stream.read(&mut buffer).await.map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("the stream ended".into());
            }
            if let Some(end) = reader.push(&buffer[..count]).map_err(|error| error.to_string())? {
                break (count, end);
            }
        };
        let head = reader.response().map_err(|error| error.to_string())?;
        if head.status != 101 {
            return Err(head.status.to_string());
        }
        let agreed = request.and_then(|request| {
            let verified = request.verify_response(head.status, |name| head.headers.all(name));
            verified.expect("the answer fits the offer").deflate
        });
        let machine = Connection::new(Role::Client, Limits::default()).with_deflate(agreed);
        let (received, received_binary) = (VecDeque::new(), VecDeque::new());
        let (attachments, bytes) = (Vec::new(), 0);
        let pongs = 0;
        let mut client =
            Self { stream, machine, received, attachments, bytes, received_binary, pongs };
        client.handle_input(&mut buffer[end..count]);
        Ok(client)
    }

    /// Sends a packet; a stream that has ended takes it to nowhere.
    pub(crate) async fn send(&mut self, packet: &str) {
        let frame = self.encode(packet);
        self.write(&frame).await;
    }

    /// As [`send`](Self::send), for a binary message.
    pub(crate) async fn send_binary(&mut self, data: &[u8]) {
        let mut frame = Vec::new();
        let _ = self.machine.encode_masked(&mut frame, MessageRef::Binary(data), KEY);
        self.write(&frame).await;
    }

    /// A packet's frame, as [`send`](Self::send) sends it; nothing where the connection has ended.
    pub(crate) fn encode(&mut self, packet: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        // One that has ended encodes nothing.
        let _ = self.machine.encode_masked(&mut frame, MessageRef::Text(packet), KEY);
        frame
    }

    /// Sends frames as they are.
    pub(crate) async fn write(&mut self, frames: &[u8]) {
        let _ = self.stream.write_all(frames).await;
    }

    /// The next packet; `None` when the connection has ended.
    ///
    /// # Cancel safety
    /// Dropped, nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.next_of(|client| client.received.pop_front()).await
    }

    /// As [`next`](Self::next), the next binary message.
    pub(crate) async fn next_binary(&mut self) -> Option<Vec<u8>> {
        self.next_of(|client| client.received_binary.pop_front()).await
    }

    /// As [`next`](Self::next), the next pong.
    pub(crate) async fn next_pong(&mut self) -> Option<()> {
        self.next_of(|client| (client.pongs > 0).then(|| client.pongs -= 1)).await
    }

    async fn next_of<T>(&mut self, pop: impl Fn(&mut Self) -> Option<T>) -> Option<T> {
        let mut buffer = [0; 512];
        loop {
            if let Some(packet) = pop(self) {
                return Some(packet);
            }
            if self.machine.is_closed() {
                self.answer().await;
                return None;
            }
            match self.stream.read(&mut buffer).await {
                Ok(count) if count > 0 => self.handle_input(&mut buffer[..count]),
                _ => drop(self.machine.handle_eof()),
            }
        }
    }

    /// The code that the server closed with, once [`next`](Self::next) has seen the end.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.machine.closed().map(|closed| closed.code.0)
    }

    /// Whether [`next`](Self::next) has seen the end.
    pub(crate) fn has_ended(&self) -> bool {
        self.machine.is_closed()
    }

    /// Begins the closing handshake.
    pub(crate) async fn close(&mut self) {
        self.machine.close(None, "", Instant::now()).expect("no code is valid");
        self.answer().await;
    }

    fn handle_input(&mut self, input: &mut [u8]) {
        self.bytes += input.len();
        for event in self.machine.handle_input(input, Instant::now()) {
            match event {
                Event::Text(text) => self.received.push_back(text.into_owned()),
                Event::Binary(data) => {
                    self.attachments.push(data.len());
                    self.received_binary.push_back(data.into_owned());
                }
                Event::Pong(_) => self.pongs += 1,
                Event::Ping(_) | Event::Closed(_) => {}
            }
        }
    }

    async fn answer(&mut self) {
        if let Some(frames) = self.machine.poll_transmit_masked(|| KEY) {
            let _ = self.stream.write_all(&frames).await;
        }
    }
}
