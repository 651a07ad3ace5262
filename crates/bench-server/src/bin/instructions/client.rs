//! A client on a stream in memory that does as little as it can: its frames are made beforehand,
//! and what comes is looked at no further than its beginning.

use std::error::Error;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use sockeye::Server;
use sockeye_ws::{Connection, Limits, MessageRef, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const STREAM_BYTES: usize = 64 << 10;
const HEAD: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub(crate) struct Client {
    stream: DuplexStream,
    received: Vec<u8>,
}

impl Client {
    /// Opens a session by WebSocket and joins the default namespace.
    pub(crate) async fn join(io: &Server) -> Result<Self, Box<dyn Error>> {
        let (stream, theirs) = tokio::io::duplex(STREAM_BYTES);
        let service = TowerToHyperService::new(io.service());
        let serving = http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
        tokio::spawn(async { drop(serving.with_upgrades().await) });
        let mut client = Self { stream, received: Vec::new() };
        client.send(HEAD.as_bytes()).await?;
        while !client.received.ends_with(b"\r\n\r\n") {
            client.read_byte().await?;
        }
        client.received.clear();
        client.receive("0{").await?;
        client.send(&frame("40")?).await?;
        client.receive("40{").await?;
        Ok(client)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Waits for a frame with a short payload that begins like this.
    pub(crate) async fn receive(&mut self, beginning: &str) -> Result<(), Box<dyn Error>> {
        let (from, to) = loop {
            let place = match self.received[..] {
                [_, 126, high, low, ..] => {
                    Some((4, 4 + usize::from(u16::from_be_bytes([high, low]))))
                }
                [_, len, ..] if len < 126 => Some((2, 2 + usize::from(len))),
                _ => None,
            };
            match place.filter(|(_, to)| *to <= self.received.len()) {
                Some(range) => break range,
                None => self.read().await?,
            }
        };
        let payload = &self.received[from..to];
        if !payload.starts_with(beginning.as_bytes()) {
            return Err(String::from_utf8_lossy(payload).into());
        }
        self.received.drain(..to);
        Ok(())
    }

    /// Of the head, behind which the first frame follows.
    async fn read_byte(&mut self) -> Result<(), Box<dyn Error>> {
        self.received.push(self.stream.read_u8().await?);
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Box<dyn Error>> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err("the server ended the connection".into()),
            _ => Ok(()),
        }
    }
}

/// A text as a client sends it.
pub(crate) fn frame(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    let mut client = Connection::new(Role::Client, Limits::default());
    client.encode_masked(&mut bytes, MessageRef::Text(text), [0x37, 0xFA, 0x21, 0x3D])?;
    Ok(bytes)
}
