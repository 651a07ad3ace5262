//! What the first bytes of a server's message say that it is.
//! Does not know connections, nor where a frame ends.
use crate::raw;

/// What a finished server message was.
#[derive(Clone, Copy, Debug)]
pub enum Msg {
    Ack(u32),
    Event(u32),
    /// compressed or otherwise not looked into
    Opaque,
    /// a raw WebSocket message
    Data(raw::Data),
}

#[derive(Clone, Copy)]
pub(super) enum Cur {
    None,
    OpenPacket,
    Ping,
    Connect,
    ConnectError,
    Close,
    Noop,
    User(Msg),
}

/// The first bytes of a message: what it is.
pub(super) fn classify(b0: u8, h: &[u8]) -> Cur {
    match b0 & 15 {
        8 => return Cur::Close,
        1 => {}
        _ => return Cur::Noop,
    }
    if b0 & 0x40 != 0 {
        return Cur::User(Msg::Opaque);
    }
    match h {
        [b'4', b'3', ..] => {
            let mut at = 2;
            if h.get(2) == Some(&b'/') {
                at = h.iter().position(|&c| c == b',').map_or(2, |p| p + 1);
            }
            let id = h[at..]
                .iter()
                .take_while(|c| c.is_ascii_digit())
                .fold(0u32, |a, &c| a.wrapping_mul(10).wrapping_add((c - b'0') as u32));
            Cur::User(Msg::Ack(id))
        }
        [b'4', b'2', ..] => {
            // 42["event","<8 digits>...  - or with a JSON document: the first eight digits in a row
            let mut run = 0;
            let mut v = 0u32;
            for &c in &h[2..] {
                if c.is_ascii_digit() {
                    v = v.wrapping_mul(10).wrapping_add((c - b'0') as u32);
                    run += 1;
                    if run == 8 {
                        return Cur::User(Msg::Event(v));
                    }
                } else {
                    run = 0;
                    v = 0;
                }
            }
            Cur::User(Msg::Opaque)
        }
        [b'4', b'0', ..] => Cur::Connect,
        [b'4', b'4', ..] => Cur::ConnectError,
        [b'0', ..] => Cur::OpenPacket,
        [b'2', ..] => Cur::Ping,
        [b'1', ..] => Cur::Close,
        _ => Cur::Noop,
    }
}
