//! WebSocket frames by hand, and a machine that is read to its end. Does not use the crate's own
//! encoder: what both got wrong would not be seen.

use std::time::Instant;

use sockeye_ws::{Connection, Event, Limits, MaskingKey, Role};

/// The opcode of a continuation.
pub const CONTINUATION: u8 = 0x0;
/// The opcode of a text message.
pub const TEXT: u8 = 0x1;
/// The opcode of a binary message.
pub const BINARY: u8 = 0x2;
/// The opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// The opcode of a ping.
pub const PING: u8 = 0x9;
/// The opcode of a pong.
pub const PONG: u8 = 0xA;

/// How many bytes hold a frame's length, if the length allows.
#[derive(Clone, Copy, Debug, arbitrary::Arbitrary)]
pub enum LengthForm {
    /// As few as possible.
    Shortest,
    /// Two, or more where two are too few.
    Two,
    /// Eight.
    Eight,
}

/// Appends a frame as the peer of `to` sends it: masked to a server, plain to a client.
pub fn write(
    out: &mut Vec<u8>,
    to: Role,
    (fin, opcode): (bool, u8),
    form: LengthForm,
    key: MaskingKey,
    payload: &[u8],
) {
    let masked = if to == Role::Server { 0x80 } else { 0 };
    out.push(u8::from(fin) << 7 | opcode);
    match (form, payload.len()) {
        (LengthForm::Shortest, len @ 0..126) => out.push(masked | len as u8),
        (LengthForm::Shortest | LengthForm::Two, len @ 0..65_536) => {
            out.push(masked | 126);
            out.extend((len as u16).to_be_bytes());
        }
        (_, len) => {
            out.push(masked | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    if to == Role::Server {
        out.extend(key);
        out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        out.extend(payload);
    }
}

/// What a machine made of its input: the events, and what it then wanted sent, unmasked.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// In order.
    pub events: Vec<Event<'static>>,
    /// Whole frames.
    pub transmit: Vec<u8>,
}

/// Reads `chunks` one after the other.
pub fn read(role: Role, limits: Limits, chunks: &[&[u8]], now: Instant) -> Outcome {
    read_into(Connection::new(role, limits), role, chunks, now)
}

/// Reads `chunks` one after the other into a connection of this role.
pub fn read_into(
    mut connection: Connection,
    role: Role,
    chunks: &[&[u8]],
    now: Instant,
) -> Outcome {
    let mut events = Vec::new();
    for chunk in chunks {
        let mut input = chunk.to_vec();
        events.extend(connection.handle_input(&mut input, now).map(Event::into_owned));
    }
    Outcome { events, transmit: transmit(&mut connection, role) }
}

/// What the machine wants sent; a client's frames with a masking key that changes nothing.
pub fn transmit(connection: &mut Connection, role: Role) -> Vec<u8> {
    match role {
        Role::Client => connection.poll_transmit_masked(|| [0; 4]),
        Role::Server => connection.poll_transmit(),
    }
    .unwrap_or_default()
}

/// The other side.
pub fn peer_of(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}
