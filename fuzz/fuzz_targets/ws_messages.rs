//! Messages in legal frames: however they are fragmented, masked and cut into reads, they arrive as
//! they were, up to the first limit or rule that is broken. The model is the RFC's text, not speed.

#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sockeye_fuzz::chunks;
use sockeye_fuzz::frames::{self, LengthForm};
use sockeye_ws::{CloseCode, Closed, Event, Limits, MaskingKey, ProtocolError, Role};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_server: bool,
    message_bytes_max: u8,
    fragments_max: u8,
    pending_pongs_max: u8,
    sizes: [u8; 6],
    sent: Vec<Sent<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Sent<'a> {
    /// Behind each fragment but the last may come a ping.
    Message {
        is_text: bool,
        fragments: Vec<(Piece<'a>, Option<&'a [u8]>)>,
    },
    Ping(Piece<'a>),
    Pong(Piece<'a>),
    Close(Piece<'a>),
}

/// A frame's payload, and how it is written.
#[derive(Arbitrary, Debug)]
struct Piece<'a> {
    payload: &'a [u8],
    form: LengthForm,
    key: MaskingKey,
}

fuzz_target!(|input: Input<'_>| {
    let role = if input.is_server { Role::Server } else { Role::Client };
    let limits = Limits {
        message_bytes_max: usize::from(input.message_bytes_max),
        streamed_bytes_max: u64::MAX,
        fragments_max: u32::from(input.fragments_max),
        pending_pongs_max: u32::from(input.pending_pongs_max),
        close_timeout: Duration::from_secs(1),
    };
    let mut model = Model { role, limits, bytes: Vec::new(), events: Vec::new(), pings: 0 };
    if let Err(end) = input.sent.iter().try_for_each(|sent| model.send(sent)) {
        model.events.push(Event::Closed(end));
    }
    let now = Instant::now();
    let cut = frames::read(role, limits, &chunks(&model.bytes, &input.sizes), now);
    assert_eq!(cut.events, model.events);
    assert_eq!(frames::read(role, limits, &[&model.bytes], now), cut);
});

/// The bytes that were sent, and what they must mean.
struct Model {
    role: Role,
    limits: Limits,
    bytes: Vec<u8>,
    events: Vec<Event<'static>>,
    pings: u32,
}

impl Model {
    /// Sends it; an error is how the connection ends.
    fn send(&mut self, sent: &Sent<'_>) -> Result<(), Closed> {
        match sent {
            Sent::Message { is_text, fragments } => self.send_message(*is_text, fragments),
            Sent::Ping(piece) => self.ping(piece),
            Sent::Pong(piece) => {
                let payload = self.control(frames::PONG, piece);
                self.events.push(Event::Pong(payload.into()));
                Ok(())
            }
            Sent::Close(piece) => {
                let payload = self.control(frames::CLOSE, piece);
                Err(end(&payload))
            }
        }
    }

    fn send_message(
        &mut self,
        is_text: bool,
        fragments: &[(Piece<'_>, Option<&[u8]>)],
    ) -> Result<(), Closed> {
        let mut message = Vec::new();
        for (index, (piece, ping)) in fragments.iter().enumerate() {
            let is_last = index + 1 == fragments.len();
            let opcode = match (index, is_text) {
                (0, true) => frames::TEXT,
                (0, false) => frames::BINARY,
                _ => frames::CONTINUATION,
            };
            self.frame((is_last, opcode), piece, piece.payload);
            message.extend_from_slice(piece.payload);
            if message.len() > self.limits.message_bytes_max {
                return Err(broken(ProtocolError::MessageTooLong));
            }
            if index >= self.limits.fragments_max as usize {
                return Err(broken(ProtocolError::TooManyFragments));
            }
            // What can become a text is not refused before its end.
            if is_text
                && let Err(error) = str::from_utf8(&message)
                && (is_last || error.error_len().is_some())
            {
                return Err(broken(ProtocolError::InvalidText));
            }
            if let (false, Some(payload)) = (is_last, ping) {
                self.ping(&Piece { payload, ..*piece })?;
            }
        }
        if fragments.is_empty() {
            return Ok(());
        }
        self.events.push(match is_text {
            true => Event::Text(String::from_utf8(message).expect("it was checked").into()),
            false => Event::Binary(message.into()),
        });
        Ok(())
    }

    fn ping(&mut self, piece: &Piece<'_>) -> Result<(), Closed> {
        let payload = self.control(frames::PING, piece);
        if self.pings == self.limits.pending_pongs_max {
            return Err(broken(ProtocolError::TooManyPings));
        }
        self.pings += 1;
        self.events.push(Event::Ping(payload.into()));
        Ok(())
    }

    /// A control frame with as much of the payload as it may have.
    fn control(&mut self, opcode: u8, piece: &Piece<'_>) -> Vec<u8> {
        let payload = &piece.payload[..piece.payload.len().min(125)];
        let piece = Piece { form: LengthForm::Shortest, ..*piece };
        self.frame((true, opcode), &piece, payload);
        payload.to_vec()
    }

    fn frame(&mut self, first: (bool, u8), piece: &Piece<'_>, payload: &[u8]) {
        frames::write(&mut self.bytes, self.role, first, piece.form, piece.key, payload);
    }
}

/// How a close frame with this payload ends the connection (RFC 6455 §5.5.1, §7.4).
fn end(payload: &[u8]) -> Closed {
    let clean = |code, reason: &str| Closed {
        code: CloseCode(code),
        reason: reason.to_owned(),
        clean: true,
        error: None,
    };
    let [high, low, reason @ ..] = payload else {
        return match payload {
            [] => clean(1005, ""),
            _ => broken(ProtocolError::CloseTooShort),
        };
    };
    let code = u16::from_be_bytes([*high, *low]);
    match (code, str::from_utf8(reason)) {
        (1004..=1006 | 1015, _) => broken(ProtocolError::InvalidCloseCode(code)),
        (1000..=1014 | 3000..=4999, Ok(reason)) => clean(code, reason),
        (1000..=1014 | 3000..=4999, Err(_)) => broken(ProtocolError::InvalidCloseReason),
        _ => broken(ProtocolError::InvalidCloseCode(code)),
    }
}

/// How breaking this rule ends it (RFC 6455 §7.4.1).
fn broken(error: ProtocolError) -> Closed {
    let code = match error {
        ProtocolError::InvalidText | ProtocolError::InvalidCloseReason => 1007,
        ProtocolError::TooManyFragments | ProtocolError::TooManyPings => 1008,
        ProtocolError::MessageTooLong => 1009,
        _ => 1002,
    };
    Closed { code: CloseCode(code), reason: String::new(), clean: false, error: Some(error) }
}
