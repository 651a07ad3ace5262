//! Sockets of other nodes: what is told of them, and what can be done to them from here.
//! Does not know how they are asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use sockeye_proto::SocketId;
use sockeye_proto::socket::{EmitArgs, OwnedArgs, ToName};

use super::message::SocketDetails;
use crate::broadcast::{Broadcast, IntoRooms};
use crate::error::{AckError, EmitError};
use crate::namespace::Namespace;
use crate::rooms::RoomName;
use crate::socket::{SharedData, Socket};

/// A socket of any node of the cluster, as it was when it was asked for
/// ([`Broadcast::fetch_sockets`]). What is done to it reaches it wherever it is.
#[derive(Clone)]
pub struct RemoteSocket {
    namespace: Namespace,
    id: SocketId,
    rooms: Vec<RoomName>,
    data: OwnedArgs,
    origin: Origin,
}

#[derive(Clone)]
enum Origin {
    Here(Socket),
    There { handshake: Box<RawValue> },
}

impl RemoteSocket {
    pub(crate) fn new(namespace: Namespace, details: SocketDetails) -> Self {
        let SocketDetails { id, handshake, rooms, data } = details;
        Self { namespace, id, rooms, data, origin: Origin::There { handshake } }
    }

    /// One of this node.
    pub(crate) fn here(socket: Socket) -> Self {
        Self {
            namespace: socket.namespace().clone(),
            id: socket.id(),
            rooms: socket.rooms(),
            data: data(&socket),
            origin: Origin::Here(socket),
        }
    }

    /// Its id.
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// The socket itself, where it is one of this node.
    pub fn local(&self) -> Option<&Socket> {
        match &self.origin {
            Origin::Here(socket) => Some(socket),
            Origin::There { .. } => None,
        }
    }

    /// The request that opened its connection, as Node has it. Of a socket of another node, without
    /// what that node hides
    /// ([`cluster_hidden_headers`](crate::ServerBuilder::cluster_hidden_headers)).
    ///
    /// # Errors
    /// The other node told something else.
    pub fn handshake(&self) -> serde_json::Result<HandshakeDetails> {
        match &self.origin {
            Origin::Here(socket) => Ok(handshake(socket, &[])),
            Origin::There { handshake } => serde_json::from_str(handshake.get()),
        }
    }

    /// The rooms that it was in, the one of its own id among them.
    pub fn rooms(&self) -> &[RoomName] {
        &self.rooms
    }

    /// What was set with [`Socket::set_shared_data`], read as a `T`; without any, an empty object
    /// is read.
    ///
    /// # Errors
    /// It is not a `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, crate::ArgError> {
        self.data.cursor().next()
    }

    /// Sends it an event.
    ///
    /// # Errors
    /// As [`Broadcast::emit`].
    pub fn emit(&self, event: impl ToName, args: impl EmitArgs) -> Result<(), EmitError> {
        self.reach().emit(event, args)
    }

    /// The next emit waits for its acknowledgement for at most `limit`.
    pub fn timeout(&self, limit: Duration) -> RemoteEmitter<'_> {
        RemoteEmitter { socket: self, limit }
    }

    /// Makes it join rooms.
    pub fn join(&self, rooms: impl IntoRooms) {
        self.reach().sockets_join(rooms);
    }

    /// Makes it leave rooms.
    pub fn leave(&self, rooms: impl IntoRooms) {
        self.reach().sockets_leave(rooms);
    }

    /// Disconnects it; see [`Socket::disconnect`].
    pub fn disconnect(&self, close: bool) {
        self.reach().disconnect_sockets(close);
    }

    fn reach(&self) -> Broadcast {
        self.namespace.to(self.id)
    }
}

impl fmt::Debug for RemoteSocket {
    /// The handshake may hold secrets: it is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSocket")
            .field("id", &self.id)
            .field("rooms", &self.rooms)
            .field("is_local", &self.local().is_some())
            .finish_non_exhaustive()
    }
}

/// An emit to a [`RemoteSocket`] that waits for its acknowledgement; made by
/// [`RemoteSocket::timeout`].
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is sent before `emit_with_ack`"]
pub struct RemoteEmitter<'a> {
    socket: &'a RemoteSocket,
    limit: Duration,
}

impl RemoteEmitter<'_> {
    /// Sends an event and waits for its acknowledgement, whose first argument is read as a `T`.
    ///
    /// # Errors
    /// As [`Broadcast::emit`]; and no answer in time, a socket that has gone, an answer that is
    /// not a `T`.
    ///
    /// # Cancel safety
    /// Dropped, it forgets the acknowledgement; the event has been sent.
    pub async fn emit_with_ack<T: DeserializeOwned>(
        self,
        event: impl ToName,
        args: impl EmitArgs,
    ) -> Result<T, AckError> {
        let mut acks = self.socket.reach().timeout(self.limit).emit_with_ack(event, args)?;
        acks.next().await.map_or(Err(AckError::Disconnected), |(_, answer)| answer)
    }
}

/// The request that opened a connection, as nodes tell each other (Node's `handshake`). What a node
/// does not tell has its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HandshakeDetails {
    /// The headers, names in lower case. Of several with one name the values are joined by `, `,
    /// or (from Node, `set-cookie`) are a list.
    pub headers: BTreeMap<String, serde_json::Value>,
    /// When the request came, as JavaScript prints a date.
    pub time: String,
    /// The client's address.
    pub address: String,
    /// Whether a page of another origin made the request.
    pub xdomain: bool,
    /// Whether it came over TLS that ended in that server; of ours always false.
    pub secure: bool,
    /// When the request came, in milliseconds since 1970.
    pub issued: u64,
    /// The path and query.
    pub url: String,
    /// The query; of several parameters with one name a list.
    pub query: BTreeMap<String, serde_json::Value>,
    /// What the client gave as `auth`.
    pub auth: serde_json::Value,
}

/// What other nodes are told of a socket.
pub(super) fn details(socket: &Socket, hidden: &[String]) -> SocketDetails {
    let handshake = handshake(socket, hidden);
    SocketDetails {
        id: socket.id(),
        handshake: to_raw_value(&handshake).expect("text, numbers and JSON can be written as JSON"),
        rooms: socket.rooms(),
        data: data(socket),
    }
}

/// An empty object where none has been set, as in Node.
fn data(socket: &Socket) -> OwnedArgs {
    SharedData::of(socket.data())
}

fn handshake(socket: &Socket, hidden: &[String]) -> HandshakeDetails {
    let handshake = socket.handshake();
    let mut headers = BTreeMap::new();
    let shown = |name: &str| !hidden.iter().any(|hidden| hidden.eq_ignore_ascii_case(name));
    for (name, value) in handshake.headers().filter(|(name, _)| shown(name)) {
        match headers.entry(name.to_owned()).or_insert(serde_json::Value::Null) {
            serde_json::Value::String(values) => values.extend([", ", value]),
            first => *first = value.into(),
        }
    }
    let mut query = BTreeMap::new();
    for (name, value) in sockeye_proto::engine::query_pairs(handshake.query()) {
        let value = serde_json::Value::String(value.into_owned());
        match query.entry(name.into_owned()).or_insert(serde_json::Value::Null) {
            first @ serde_json::Value::Null => *first = value,
            serde_json::Value::Array(values) => values.push(value),
            first => *first = vec![first.take(), value].into(),
        }
    }
    let issued = handshake.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    HandshakeDetails {
        headers,
        time: js_date(issued.as_secs()),
        address: handshake.client_ip().map(|ip| ip.to_string()).unwrap_or_default(),
        xdomain: handshake.is_cross_origin(),
        secure: false,
        issued: u64::try_from(issued.as_millis()).unwrap_or(u64::MAX),
        url: handshake.url().to_owned(),
        query,
        auth: socket.auth().unwrap_or_else(|_| serde_json::json!({})),
    }
}

/// A time as JavaScript prints it, in UTC.
fn js_date(secs: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = secs / 86_400;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 0;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < len {
            break;
        }
        day -= len;
        month += 1;
    }
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    let (weekday, month, day) = (DAYS[(days % 7) as usize], MONTHS[month], day + 1);
    let date = format!("{weekday} {month} {day:02} {year}");
    format!("{date} {hour:02}:{minute:02}:{second:02} GMT+0000 (Coordinated Universal Time)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_as_javascript_prints_them() {
        let utc = |text: &str| format!("{text} GMT+0000 (Coordinated Universal Time)");
        for (secs, text) in [
            (0, "Thu Jan 01 1970 00:00:00"),
            (951_782_400, "Tue Feb 29 2000 00:00:00"),
            (1_709_251_199, "Thu Feb 29 2024 23:59:59"),
            (1_735_689_599, "Tue Dec 31 2024 23:59:59"),
            (1_795_425_201, "Mon Nov 23 2026 09:13:21"),
            (4_107_542_400, "Mon Mar 01 2100 00:00:00"),
        ] {
            assert_eq!(js_date(secs), utc(text), "{secs}");
        }
    }
}
