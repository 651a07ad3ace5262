//! A client's connection: packets in and out, over WebSocket, over long-polling, or over the one
//! and then the other. Does not know what packets mean, but for those of Engine.IO alone.
//!
//! It speaks HTTP with hyper and reads payloads by itself.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sockeye_ws::CloseCode;
use sockeye_ws::net::{AnyStream, Client, Message, WebSocket};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

const SEPARATOR: char = '\u{1e}';

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    WebSocket,
    Polling,
    /// It begins with long-polling.
    Upgrade,
}

impl Way {
    /// A third of the clients each.
    pub(crate) fn of(client: u64) -> Self {
        match client % 3 {
            0 => Self::WebSocket,
            1 => Self::Polling,
            _ => Self::Upgrade,
        }
    }
}

pub(crate) enum Line {
    WebSocket(Box<WebSocket<AnyStream>>),
    Polling(Box<Polling>),
}

pub(crate) enum Incoming {
    Packet(String),
    /// It can go over to this, by [`Line::switch`].
    Ready(Box<WebSocket<AnyStream>>),
}

impl Line {
    /// The connection, and the open packet. An error is the network's.
    pub(crate) async fn open(
        address: SocketAddr,
        way: Way,
        patience: Duration,
    ) -> Result<(Self, String)> {
        if way == Way::WebSocket {
            let mut websocket = connect(address, "", patience).await?;
            let open = timeout(patience, next(&mut websocket)).await??;
            return Ok((Self::WebSocket(Box::new(websocket)), open));
        }
        let (polling, open) = timeout(patience, Polling::open(address)).await??;
        Ok((Self::Polling(Box::new(polling)), open))
    }

    /// Begins to go over to WebSocket. Where that fails, the session goes on over long-polling.
    pub(crate) fn upgrade(&mut self, patience: Duration) {
        if let Self::Polling(polling) = self {
            let (address, sid) = (polling.address, polling.sid.clone());
            polling.requests.spawn(async move {
                let probed = async {
                    let mut websocket = connect(address, &sid, patience).await?;
                    websocket.send("2probe").await?;
                    ensure!(timeout(patience, next(&mut websocket)).await?? == "3probe");
                    Ok(Box::new(websocket))
                };
                Ok(Done::Probed(probed.await.ok()))
            });
        }
    }

    /// # Cancel safety
    /// Dropped, nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Incoming> {
        match self {
            Self::WebSocket(websocket) => Ok(Incoming::Packet(next(websocket).await?)),
            Self::Polling(polling) => polling.next().await,
        }
    }

    /// Over long-polling it leaves with the next POST, which is one at a time.
    pub(crate) async fn send(&mut self, packet: String) -> Result<()> {
        match self {
            Self::WebSocket(websocket) => Ok(websocket.send(packet).await?),
            Self::Polling(polling) => {
                polling.unsent.push(packet);
                polling.post();
                Ok(())
            }
        }
    }

    /// Goes over to WebSocket, with what has not left yet.
    pub(crate) async fn switch(&mut self, mut websocket: Box<WebSocket<AnyStream>>) -> Result<()> {
        let Self::Polling(polling) = self else { bail!("it goes over twice") };
        websocket.send("5").await?;
        for packet in std::mem::take(&mut polling.unsent) {
            websocket.send(packet).await?;
        }
        *self = Self::WebSocket(websocket);
        Ok(())
    }

    /// Leaves, as a client does that has nothing more to say.
    pub(crate) async fn close(self, patience: Duration) -> Result<()> {
        match self {
            Self::WebSocket(mut websocket) => {
                timeout(patience, websocket.close(CloseCode::NORMAL, "")).await??;
            }
            Self::Polling(mut polling) => {
                polling.unsent.push("1".into());
                polling.post();
                let posted = async {
                    while polling.is_posting {
                        // What the GET brings is of no interest any more, its end neither.
                        let done = polling.requests.join_next().await;
                        if let Done::Posted = done.context("a POST is under way")??? {
                            polling.is_posting = false;
                            polling.post();
                        }
                    }
                    Ok::<_, anyhow::Error>(())
                };
                timeout(patience, posted).await??;
            }
        }
        Ok(())
    }
}

async fn connect(address: SocketAddr, sid: &str, limit: Duration) -> Result<WebSocket<AnyStream>> {
    let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket{sid}");
    Ok(Client::new(&url).handshake_timeout(limit).connect().await?)
}

async fn next(websocket: &mut WebSocket<AnyStream>) -> Result<String> {
    loop {
        match websocket.next().await.context("the connection has ended")?? {
            Message::Text(text) => return Ok(text.as_str().to_owned()),
            Message::Close(_) => bail!("the server closed the connection"),
            _ => {}
        }
    }
}

/// What a session's tasks have come to.
enum Done {
    Got(Http, Vec<String>),
    Posted,
    /// A WebSocket that the server has answered the probe over, if it has.
    Probed(Option<Box<WebSocket<AnyStream>>>),
}

pub(crate) struct Polling {
    address: SocketAddr,
    sid: String,
    /// Ended with the session.
    requests: JoinSet<Result<Done>>,
    is_getting: bool,
    is_posting: bool,
    /// While this waits, nothing new is asked.
    probed: Option<Box<WebSocket<AnyStream>>>,
    received: VecDeque<String>,
    unsent: Vec<String>,
}

impl Polling {
    async fn open(address: SocketAddr) -> Result<(Self, String)> {
        let (http, body) =
            Http::open(address).await?.request(Method::GET, "", String::new()).await?;
        let mut packets = body.split(SEPARATOR).map(str::to_owned);
        let open = packets.next().unwrap_or_default();
        let told: Value = serde_json::from_str(open.get(1..).unwrap_or_default())?;
        let mut polling = Self {
            address,
            sid: told["sid"].as_str().context("a session has an id")?.to_owned(),
            requests: JoinSet::new(),
            is_getting: false,
            is_posting: false,
            probed: None,
            received: packets.collect(),
            unsent: Vec::new(),
        };
        polling.get(http);
        Ok((polling, open))
    }

    /// Asks for packets.
    fn get(&mut self, http: Http) {
        self.is_getting = true;
        let sid = self.sid.clone();
        self.requests.spawn(async move {
            let (http, body) = http.request(Method::GET, &sid, String::new()).await?;
            Ok(Done::Got(http, body.split(SEPARATOR).map(str::to_owned).collect()))
        });
    }

    /// Sends what has gathered, over a connection of its own.
    fn post(&mut self) {
        if self.is_posting || self.unsent.is_empty() || self.probed.is_some() {
            return;
        }
        self.is_posting = true;
        let body = std::mem::take(&mut self.unsent).join(&SEPARATOR.to_string());
        let (address, sid) = (self.address, self.sid.clone());
        self.requests.spawn(async move {
            let http = Http::open(address).await?;
            let (_, answer) = http.request(Method::POST, &sid, body).await?;
            ensure!(answer == "ok", "a POST was answered {answer}");
            Ok(Done::Posted)
        });
    }

    async fn next(&mut self) -> Result<Incoming> {
        loop {
            if let Some(packet) = self.received.pop_front() {
                match &*packet {
                    // It releases a GET.
                    "6" => continue,
                    "1" => bail!("the server closed the session"),
                    _ => return Ok(Incoming::Packet(packet)),
                }
            }
            if !self.is_getting
                && !self.is_posting
                && let Some(websocket) = self.probed.take()
            {
                return Ok(Incoming::Ready(websocket));
            }
            match self.requests.join_next().await.context("nothing is asked")??? {
                Done::Got(http, packets) => {
                    self.is_getting = false;
                    self.received.extend(packets);
                    if self.probed.is_none() {
                        self.get(http);
                    }
                }
                Done::Posted => {
                    self.is_posting = false;
                    self.post();
                }
                Done::Probed(probed) => self.probed = probed,
            }
        }
    }
}

/// A connection for one request at a time.
struct Http {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Http {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender.
        tokio::spawn(connection);
        Ok(Self { address, sender })
    }

    /// The body of a 200, and the connection for the next request.
    async fn request(mut self, method: Method, sid: &str, body: String) -> Result<(Self, String)> {
        if self.sender.ready().await.is_err() {
            // It was closed while nothing was asked.
            self = Self::open(self.address).await?;
        }
        let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
        let request = Request::builder()
            .method(method)
            .uri(format!("/socket.io/?EIO=4&transport=polling{sid}"))
            .header("host", self.address.to_string())
            .body(Full::from(body))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == 200, "a request was answered {status}");
        Ok((self, String::from_utf8(body.to_vec()).context("a payload is UTF-8")?))
    }
}
