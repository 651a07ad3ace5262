//! Frames built by hand, legal or not, and a pair of machines on a virtual clock.
//! Does not use the crate's encoder for what the tests want to be wrong.

use std::time::{Duration, Instant};

use sockeye_ws::{Closed, Connection, Event, Limits, MaskingKey, Role};

pub(crate) const KEY: MaskingKey = [0x37, 0xFA, 0x21, 0x3D];

pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// A frame as the peer of `role` sends it: masked to a server, plain to a client.
pub(crate) fn frame_to(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head_to(role, first, payload.len() as u64);
    match role {
        Role::Client => bytes.extend_from_slice(payload),
        Role::Server => {
            bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
    }
    bytes
}

/// The header of such a frame.
pub(crate) fn head_to(role: Role, first: u8, payload_len: u64) -> Vec<u8> {
    let masked = if role == Role::Server { 0x80 } else { 0 };
    let mut bytes = match payload_len {
        0..126 => vec![first, masked | payload_len as u8],
        126..65_536 => [&[first, masked | 126][..], &(payload_len as u16).to_be_bytes()].concat(),
        _ => [&[first, masked | 127][..], &payload_len.to_be_bytes()].concat(),
    };
    if role == Role::Server {
        bytes.extend_from_slice(&KEY);
    }
    bytes
}

/// A frame from a client.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_to(Role::Server, first, payload)
}

pub(crate) fn server(limits: Limits) -> Connection {
    Connection::new(Role::Server, limits)
}

/// The events of `bytes`, read in one piece.
pub(crate) fn read(connection: &mut Connection, bytes: &[u8]) -> Vec<Event<'static>> {
    read_at(connection, bytes, Instant::now())
}

pub(crate) fn read_at(
    connection: &mut Connection,
    bytes: &[u8],
    now: Instant,
) -> Vec<Event<'static>> {
    let mut input = bytes.to_vec();
    connection.handle_input(&mut input, now).map(Event::into_owned).collect()
}

/// What the machine wants sent, whichever its role; a client's frames masked with [`KEY`].
pub(crate) fn transmit(connection: &mut Connection, role: Role) -> Vec<u8> {
    match role {
        Role::Client => connection.poll_transmit_masked(|| KEY),
        Role::Server => connection.poll_transmit(),
    }
    .unwrap_or_default()
}

pub(crate) fn closed<'a>(events: &'a [Event<'a>]) -> Option<&'a Closed> {
    match events.last() {
        Some(Event::Closed(closed)) => Some(closed),
        _ => None,
    }
}

/// A client and a server, the bytes under way between them, and a clock that stands still until it
/// is moved.
pub(crate) struct Pair {
    pub(crate) client: Connection,
    pub(crate) server: Connection,
    pub(crate) client_events: Vec<Event<'static>>,
    pub(crate) server_events: Vec<Event<'static>>,
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_server: Vec<u8>,
    pub(crate) now: Instant,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self {
            client: Connection::new(Role::Client, Limits::default()),
            server: Connection::new(Role::Server, Limits::default()),
            client_events: Vec::new(),
            server_events: Vec::new(),
            to_client: Vec::new(),
            to_server: Vec::new(),
            now: Instant::now(),
        }
    }

    /// Puts on the wire what the machines want sent.
    pub(crate) fn send(&mut self) {
        self.to_server.extend(transmit(&mut self.client, Role::Client));
        self.to_client.extend(transmit(&mut self.server, Role::Server));
    }

    /// Lets everything arrive, and the answers to it, until the wire is quiet.
    pub(crate) fn settle(&mut self) {
        self.send();
        while !self.to_client.is_empty() || !self.to_server.is_empty() {
            let bytes = std::mem::take(&mut self.to_server);
            self.server_events.extend(read_at(&mut self.server, &bytes, self.now));
            let bytes = std::mem::take(&mut self.to_client);
            self.client_events.extend(read_at(&mut self.client, &bytes, self.now));
            self.send();
        }
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now += time;
    }
}
