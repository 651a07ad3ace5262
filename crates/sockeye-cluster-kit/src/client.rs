//! A client in memory, which speaks Socket.IO over a WebSocket as the official one does.
//! Does not know clusters.

use std::collections::VecDeque;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use sockeye::{Server, SocketId};
use sockeye_ws::net::{Client as Opening, Message, WebSocket};
use tokio::io::DuplexStream;

use crate::cluster::{LOOK_INTERVAL, LOOKS_MAX};

const STREAM_BYTES: usize = 64 * 1024;

/// One client in one namespace.
pub struct Client {
    socket: WebSocket<DuplexStream>,
    namespace: String,
    id: SocketId,
    claim: Claim,
    waiting: VecDeque<Event>,
}

/// What a client says of the socket that it had, to go on with it.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// The private id; `None` where there is no connection state recovery.
    pub pid: Option<String>,
    /// The last argument of the last event, if that was text.
    pub offset: Option<String>,
}

/// An event that came.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The name and the arguments, with placeholders for attachments.
    pub list: Value,
    /// The attachments.
    pub attachments: Vec<Bytes>,
    /// Where an acknowledgement is wanted.
    pub id: Option<u64>,
}

impl Claim {
    /// Goes on at a server, as soon as that has the socket.
    ///
    /// # Panics
    /// That never comes.
    pub async fn come_back(&self, io: &Server) -> Client {
        for _ in 0..LOOKS_MAX {
            let (client, is_recovered) = Client::take_up(io, self).await;
            if is_recovered {
                return client;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        panic!("the socket is nowhere to be had");
    }
}

impl Client {
    /// Connects to `/`.
    pub async fn join(io: &Server) -> Self {
        Self::join_namespace(io, "/", "null").await
    }

    /// Connects to `/` and claims the socket that a client had. Returns whether it has it.
    pub async fn take_up(io: &Server, claim: &Claim) -> (Self, bool) {
        let mut auth = serde_json::Map::new();
        for (name, value) in [("pid", &claim.pid), ("offset", &claim.offset)] {
            auth.extend(value.as_ref().map(|value| (name.to_owned(), value.as_str().into())));
        }
        let auth = Value::Object(auth).to_string();
        let mut client = Self::join_namespace(io, "/", &auth).await;
        let is_recovered = client.claim.pid.is_some() && client.claim.pid == claim.pid;
        client.claim.offset = claim.offset.clone();
        (client, is_recovered)
    }

    /// Connects to a namespace, with this JSON as `auth`.
    pub async fn join_namespace(io: &Server, namespace: &str, auth: &str) -> Self {
        let io = io.clone();
        let open = |_| {
            let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
            let service = TowerToHyperService::new(io.service());
            let serving = http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
            // A client that vanishes is an error to hyper, and none here.
            tokio::spawn(async { drop(serving.with_upgrades().await) });
            std::future::ready(Ok(ours))
        };
        let url = "ws://localhost/socket.io/?EIO=4&transport=websocket&colour=blue";
        let opening = Opening::new(url).header("X-Kit", "yes");
        let mut socket = opening.connect_over(open).await.expect("the handshake is accepted");
        let open = next_text(&mut socket).await.expect("the open packet");
        assert!(open.starts_with("0{"), "{open}");
        let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        let auth = if auth == "null" { "" } else { auth };
        socket.send(format!("40{prefix}{auth}")).await.expect("it is open");
        let connect = next_text(&mut socket).await.expect("the CONNECT is answered");
        let json = connect.strip_prefix(&format!("40{prefix}")).expect("it is accepted");
        let json: Value = serde_json::from_str(json).expect("an object");
        let id = json["sid"].as_str().and_then(SocketId::parse).expect("an id");
        let claim = Claim { pid: json["pid"].as_str().map(str::to_owned), offset: None };
        Self { socket, namespace: prefix, id, claim, waiting: VecDeque::new() }
    }

    /// Its public id.
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// Loses its connection, and whatever of it has not been read.
    pub fn lose(self) -> Claim {
        self.claim
    }

    /// What it would say to go on with its socket.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Sends an event: the JSON of its list.
    pub async fn emit(&mut self, list: &str) {
        let packet = format!("42{}{list}", self.namespace);
        self.socket.send(packet).await.expect("it is open");
    }

    /// Answers an event: the JSON of the arguments.
    pub async fn answer(&mut self, event: &Event, json: &str) {
        let id = event.id.expect("an answer is wanted");
        let packet = format!("43{}{id}{json}", self.namespace);
        self.socket.send(packet).await.expect("it is open");
    }

    /// Answers an event with bytes.
    pub async fn answer_binary(&mut self, event: &Event, bytes: &'static [u8]) {
        let id = event.id.expect("an answer is wanted");
        let json = r#"[{"_placeholder":true,"num":0}]"#;
        let packet = format!("461-{}{id}{json}", self.namespace);
        self.socket.send(packet).await.expect("it is open");
        self.socket.send(Message::binary(bytes)).await.expect("it is open");
    }

    /// The next event; `None` when the namespace is left or the connection has ended.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(event);
        }
        loop {
            let text = next_text(&mut self.socket).await?;
            if text == "2" {
                self.socket.send("3").await.ok()?;
                continue;
            }
            if text.starts_with("41") {
                return None;
            }
            let event = self.read(&text).await;
            if self.claim.pid.is_some() && event.id.is_none() {
                // As the official client does, whatever the text means.
                let last = event.list.as_array().and_then(|list| list.last()?.as_str());
                self.claim.offset = last.map(str::to_owned).or(self.claim.offset.take());
            }
            return Some(event);
        }
    }

    async fn read(&mut self, text: &str) -> Event {
        let (count, rest) = match text.strip_prefix("45") {
            Some(rest) => {
                let (count, rest) = rest.split_once('-').expect("a number of attachments");
                (count.parse().expect("a number"), rest)
            }
            None => (0, text.strip_prefix("42").unwrap_or_else(|| panic!("what is {text}?"))),
        };
        let rest = rest.strip_prefix(self.namespace.as_str()).expect("its namespace");
        let json = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let id = rest[..rest.len() - json.len()].parse().ok();
        let mut attachments = Vec::new();
        for _ in 0..count {
            match self.socket.next().await.expect("an attachment").expect("no error") {
                Message::Binary(bytes) => attachments.push(bytes),
                other => panic!("what is {other:?}?"),
            }
        }
        Event { list: serde_json::from_str(json).expect("JSON"), attachments, id }
    }

    /// Asserts that the next event is this one.
    pub async fn expect(&mut self, list: Value) -> Event {
        let event = self.next().await.expect("an event");
        assert_eq!(event.list, list);
        event
    }

    /// Asserts that nothing came before the event `mark`, which somebody emits to everyone.
    pub async fn expect_nothing_before(&mut self, mark: &str) {
        self.expect(serde_json::json!([mark])).await;
    }
}

async fn next_text(socket: &mut WebSocket<DuplexStream>) -> Option<String> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(text.as_str().to_owned()),
            Message::Close(_) => return None,
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("what is {other:?}?"),
        }
    }
}
