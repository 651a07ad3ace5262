//! Frames built by hand, legal or not, and a pair of machines on a virtual clock.
//! Does not use the crate's encoder for what the tests want to be wrong.

use std::time::{Duration, Instant};

use proptest::sample::Index;
use sockeye_ws::deflate::{Agreed, Options, WindowBits};
use sockeye_ws::handshake::client::{Request, Response, ResponseError};
use sockeye_ws::handshake::server::{self, HandshakeError};
use sockeye_ws::handshake::{HttpVersion, Url};
use sockeye_ws::{Closed, Connection, Event, Limits, MaskingKey, MessageRef, Role, SendError};

pub(crate) const KEY: MaskingKey = [0x37, 0xFA, 0x21, 0x3D];

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
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

/// Text that compresses well and differs from others.
pub(crate) fn text(number: usize, len: usize) -> String {
    let line = format!(r#"{{"id":{number},"text":"the quick brown fox {}"}} "#, number * 7919);
    line.chars().cycle().take(len).collect()
}

/// Bytes that cannot be compressed.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut random = 7_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// `bytes` in parts, cut anywhere, also twice at the same place.
pub(crate) fn split<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter().map(|end| &bytes[std::mem::replace(&mut start, end)..end]).collect()
}

/// Appends a message to `role` as one frame for each part, with a ping behind each but the last,
/// and the events of these pings.
pub(crate) fn push_fragments(
    role: Role,
    first: u8,
    parts: &[&[u8]],
    bytes: &mut Vec<u8>,
    events: &mut Vec<Event<'static>>,
) {
    for (index, part) in parts.iter().enumerate() {
        let opcode = if index == 0 { first } else { CONTINUATION };
        if index + 1 == parts.len() {
            bytes.extend(frame_to(role, FIN | opcode, part));
        } else {
            bytes.extend(frame_to(role, opcode, part));
            bytes.extend(frame_to(role, FIN | PING, &[index as u8]));
            events.push(Event::Ping(vec![index as u8].into()));
        }
    }
}

/// Appends a message as `role` sends it.
pub(crate) fn encode(
    connection: &mut Connection,
    role: Role,
    out: &mut Vec<u8>,
    message: MessageRef<'_>,
) -> Result<(), SendError> {
    match role {
        Role::Client => connection.encode_masked(out, message, KEY),
        Role::Server => connection.encode(out, message),
    }
}

pub(crate) fn peer_of(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

pub(crate) fn bits(bits: u8) -> WindowBits {
    WindowBits::new(bits).expect("8 to 15")
}

/// Options that ask the peer for nothing, so that contexts are kept.
pub(crate) fn takeover() -> Options {
    Options {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        ..Options::default()
    }
}

/// What a server with these options answers to the values of `Sec-WebSocket-Extensions`.
pub(crate) fn answer_to(
    values: &[&str],
    options: Options,
) -> Result<Option<Agreed>, HandshakeError> {
    let mut headers = vec![
        ("host", "localhost"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    headers.extend(values.iter().map(|value| ("sec-websocket-extensions", *value)));
    let mut accept = server::verify("GET", HttpVersion::Http11, |name| {
        let all = headers.iter().filter(move |(own, _)| *own == name);
        all.map(|(_, value)| value.as_bytes())
    })?;
    let agreed = accept.negotiate_deflate(&options);
    let response = String::from_utf8(accept.response(None, &[]).unwrap()).unwrap();
    let line = response.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
    assert_eq!(line, agreed.map(|agreed| agreed.to_string()).as_deref());
    Ok(agreed)
}

pub(crate) fn request(offers: &[Options]) -> Request {
    let request = Request::new(Url::parse("ws://localhost").unwrap(), *b"the sample nonce");
    offers.iter().fold(request, |request, options| request.deflate(*options))
}

pub(crate) fn offer_of(options: Options) -> String {
    let request = String::from_utf8(request(&[options]).encode().unwrap()).unwrap();
    let line = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
    line.expect("an offer").to_owned()
}

/// What a client makes of the answer to its offers.
pub(crate) fn verify(
    offers: &[Options],
    answers: &[&str],
) -> Result<Option<Agreed>, ResponseError> {
    let mut headers = vec![
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];
    headers.extend(answers.iter().map(|value| ("sec-websocket-extensions", *value)));
    let header = |name| {
        let all = headers.iter().filter(move |(own, _)| *own == name);
        all.map(|(_, value): &(&str, &str)| value.as_bytes())
    };
    let request = request(offers);
    let Response { deflate, .. } = request.verify_response(101, header)?;
    assert_eq!(request.verify(101, header), Ok(None));
    Ok(deflate)
}

/// What the two sides agree on: the client's view and the server's.
pub(crate) fn agree(client: Options, server: Options) -> Option<(Agreed, Agreed)> {
    let for_server = answer_to(&[&offer_of(client)], server).unwrap()?;
    let for_client = verify(&[client], &[&for_server.to_string()]).unwrap().expect("an answer");
    Some((for_client, for_server))
}

/// A connection of either role between sides with the same options, which have to agree.
pub(crate) fn deflating(role: Role, options: Options, limits: Limits) -> Connection {
    let (client, server) = agree(options, options).expect("an agreement");
    let agreed = if role == Role::Client { client } else { server };
    Connection::new(role, limits).with_deflate(Some(agreed))
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

    /// With permessage-deflate, if the sides agree on it.
    pub(crate) fn with_deflate(client: Options, server: Options) -> Self {
        let agreed = agree(client, server);
        let mut pair = Self::new();
        pair.client = pair.client.with_deflate(agreed.map(|(client, _)| client));
        pair.server = pair.server.with_deflate(agreed.map(|(_, server)| server));
        pair
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
