//! A client that loses its connection and comes back, with offsets as the official client keeps
//! them. Does not know what it ought to receive.

use serde_json::{Map, Value, json};

use super::{Host, WebSocket};

#[derive(Default)]
pub(crate) struct Returning {
    host: Option<Host>,
    namespace: String,
    /// What it identifies itself with, beside the private id and the offset.
    pub(crate) auth: Map<String, Value>,
    pub(crate) sid: String,
    pub(crate) pid: Option<String>,
    pub(crate) offset: Option<String>,
    pub(crate) is_recovered: bool,
    connection: Option<WebSocket>,
    is_connected: bool,
    /// Events that came before the CONNECT: it handles them behind that, whenever it comes.
    early: Vec<(Vec<Value>, bool)>,
    received: Vec<Vec<Value>>,
    acks: u32,
}

impl Returning {
    /// A client that has joined `/`.
    pub(crate) async fn join(host: &Host) -> Self {
        Self::join_namespace(host, "").await
    }

    /// A client that has joined a namespace, whose name ends in a comma unless it is empty.
    pub(crate) async fn join_namespace(host: &Host, namespace: &str) -> Self {
        let (host, namespace) = (Some(host.clone()), namespace.to_owned());
        let mut client = Self { host, namespace, ..Self::default() };
        client.connect().await;
        client
    }

    /// Opens a connection and says which socket it had. Returns whether the CONNECT was accepted.
    pub(crate) async fn try_connect(&mut self) -> bool {
        let host = self.host.as_ref().expect("it was made with one");
        let mut connection = WebSocket::open(host, "").await.expect("the handshake is accepted");
        let open = connection.next().await.expect("the open packet");
        assert!(open.starts_with("0{"), "{open}");
        let mut auth = Map::new();
        if let Some(pid) = &self.pid {
            auth.insert("pid".into(), json!(pid));
            auth.extend(self.offset.clone().map(|offset| ("offset".into(), json!(offset))));
        }
        auth.extend(self.auth.clone());
        connection.send(&format!("40{}{}", self.namespace, Value::Object(auth))).await;
        self.connection = Some(connection);
        loop {
            let packet = self.next().await.expect("the CONNECT is answered");
            if packet.starts_with("40") || packet.starts_with("44") {
                return self.is_connected;
            }
        }
    }

    /// As [`try_connect`](Self::try_connect), which must be accepted. Returns whether it goes on
    /// with the socket that it had.
    pub(crate) async fn connect(&mut self) -> bool {
        assert!(self.try_connect().await, "the CONNECT is accepted");
        self.is_recovered
    }

    /// Loses its connection, and whatever of it has not been read.
    pub(crate) async fn lose(&mut self) {
        self.connection = None;
        self.is_connected = false;
        // The server takes notice.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }

    /// Loses its connection and comes back.
    pub(crate) async fn come_back(&mut self) -> bool {
        self.lose().await;
        self.connect().await
    }

    pub(crate) async fn send(&mut self, packet: &str) {
        self.connection.as_mut().expect("a connection").send(packet).await;
    }

    /// Receives everything that was sent to it so far: the answer of an event that nobody listens
    /// to would never come, so it asks one that is there (see [`answering`]).
    pub(crate) async fn catch_up(&mut self) {
        self.acks += 1;
        let (namespace, acks) = (self.namespace.clone(), self.acks);
        self.send(&format!("42{namespace}{acks}[\"answer\"]")).await;
        let answer = format!("43{namespace}{acks}[]");
        while self.next().await.expect("the answer comes") != answer {}
    }

    /// The next packet, handled as the official client does; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let packet = self.connection.as_mut()?.next().await?;
        if packet == "2" {
            self.send("3").await;
        }
        let kind = packet.get(..2).unwrap_or_default();
        let Some(body) = packet.get(2..).and_then(|rest| rest.strip_prefix(&*self.namespace))
        else {
            return Some(packet);
        };
        match kind {
            "40" => {
                let connect: Value = serde_json::from_str(body).expect("JSON");
                let pid = connect["pid"].as_str().map(str::to_owned);
                self.sid = connect["sid"].as_str().expect("an id").to_owned();
                self.is_recovered = pid.is_some() && pid == self.pid;
                self.pid = pid;
                self.is_connected = true;
                for (event, asks) in std::mem::take(&mut self.early) {
                    self.handle(event, asks);
                }
            }
            "42" => {
                let list = body.find('[').expect("a list");
                let event = serde_json::from_str(&body[list..]).expect("JSON");
                if self.is_connected {
                    self.handle(event, list > 0);
                } else {
                    self.early.push((event, list > 0));
                }
            }
            _ => {}
        }
        Some(packet)
    }

    /// The events that it has handled since the last call.
    pub(crate) fn take(&mut self) -> Vec<String> {
        let events = std::mem::take(&mut self.received);
        events.into_iter().map(|event| Value::Array(event).to_string()).collect()
    }

    /// How many events it has handled since the last [`take`](Self::take).
    pub(crate) fn received(&self) -> usize {
        self.received.len()
    }

    fn handle(&mut self, event: Vec<Value>, asks: bool) {
        // Where an acknowledgement is asked for, its function is the last argument.
        if self.pid.is_some()
            && !asks
            && let Some(Value::String(last)) = event.last()
        {
            self.offset = Some(last.clone());
        }
        self.received.push(event);
    }
}

/// Events without what was added to them: an offset, or a `null` in its place.
pub(crate) fn without_offsets(events: Vec<String>) -> Vec<String> {
    let without = |event: String| {
        let mut event: Vec<Value> = serde_json::from_str(&event).expect("a list");
        event.pop();
        Value::Array(event).to_string()
    };
    events.into_iter().map(without).collect()
}

/// Has every namespace's server answer the event that [`Returning::catch_up`] sends.
pub(crate) fn answering(io: &sockeye::Server) {
    io.on("answer", async || ());
}
