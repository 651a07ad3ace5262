//! The machine against a model that knows whole frames only: what arrives in any pieces, what its
//! own side does meanwhile, and time that passes, in any order. Payloads are short; `properties`
//! has others, and `pair` both sides.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sockeye_ws::{
    CloseCode, Closed, Connection, Event, Limits, MessageRef, ProtocolError, Role, SendError,
};

use crate::items::roles;
use crate::support::*;

const LIMITS: Limits = Limits {
    message_bytes_max: 20,
    streamed_bytes_max: 0,
    fragments_max: 3,
    pending_pongs_max: 2,
    close_timeout: Duration::from_secs(2),
};

/// What happens to the machine.
#[derive(Clone, Debug)]
enum Step {
    /// So many bytes more of what the peer sends.
    Arrive(usize),
    Seconds(u64),
    Eof,
    Close(Option<CloseCode>),
    Transmit,
    Encode(bool),
    Fragment(bool, bool),
}

/// The first byte of a frame, and its payload.
type Frame = (u8, Vec<u8>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let code = option::of(Just(CloseCode::GOING_AWAY));
    let step = prop_oneof![
        12 => (1..20_usize).prop_map(Step::Arrive),
        2 => (0..3_u64).prop_map(Step::Seconds),
        1 => Just(Step::Eof),
        1 => code.prop_map(Step::Close),
        3 => Just(Step::Transmit),
        2 => any::<bool>().prop_map(Step::Encode),
        3 => any::<(bool, bool)>().prop_map(|(text, fin)| Step::Fragment(text, fin)),
    ];
    vec(step, 1..40)
}

/// Mostly legal frames of a peer's.
fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![FIN | TEXT, FIN | BINARY, TEXT, BINARY]),
        6 => prop::sample::select(vec![CONTINUATION, FIN | CONTINUATION]),
        4 => prop::sample::select(vec![FIN | PING, FIN | PONG]),
        1 => any::<u8>(),
    ];
    let frame = (first, "[a-z]{0,9}").prop_map(|(first, text)| (first, text.into_bytes()));
    let payloads: [&[u8]; 4] = [b"", b"\x03\xE8bye", b"\x03\xED", b"x"];
    let close = prop::sample::select(payloads.to_vec());
    let close = close.prop_map(|payload| (FIN | CLOSE, payload.to_vec()));
    vec(prop_oneof![12 => frame, 1 => close], 0..20)
}

/// What RFC 6455 says, frame by frame.
struct Model {
    role: Role,
    now: Instant,
    deadline: Option<Instant>,
    closed: Option<Closed>,
    /// What the peer has still to send, and how many bytes of the first one have arrived.
    frames: VecDeque<Frame>,
    arrived: usize,
    /// The kind of the message under way, what there is of it, and its frames.
    message: Option<(u8, Vec<u8>, u32)>,
    sending: Option<bool>,
    transmit: Vec<Frame>,
}

impl Model {
    fn is_open(&self) -> bool {
        self.closed.is_none() && self.deadline.is_none()
    }

    fn end(&mut self, code: u16, reason: &str, error: Option<ProtocolError>) -> Event<'static> {
        let is_clean = error.is_none() && code != CloseCode::ABNORMAL.0;
        let code = CloseCode(code);
        let closed = Closed { code, reason: reason.into(), clean: is_clean, error };
        if self.is_open() && code != CloseCode::ABNORMAL {
            let has_code = code != CloseCode::NO_STATUS;
            let payload = if has_code { code.0.to_be_bytes().to_vec() } else { Vec::new() };
            self.transmit.push((FIN | CLOSE, payload));
        }
        self.closed = Some(closed.clone());
        Event::Closed(closed)
    }

    fn fail(&mut self, error: ProtocolError) -> Event<'static> {
        self.end(error.close_code().0, "", Some(error))
    }

    fn time_out(&mut self) -> Option<Event<'static>> {
        let is_over = self.closed.is_none() && self.deadline.is_some_and(|at| self.now >= at);
        is_over.then(|| self.end(CloseCode::ABNORMAL.0, "", None))
    }

    fn arrive(&mut self, mut count: usize) -> Vec<Event<'static>> {
        let mut events: Vec<_> = self.time_out().into_iter().collect();
        while self.closed.is_none() && count > 0 {
            let Some((first, payload)) = self.frames.front().cloned() else { break };
            let before = self.arrived;
            let len = frame_to(self.role, first, &payload).len();
            self.arrived = (before + count).min(len);
            count -= self.arrived - before;
            let header_len = len - payload.len();
            let passes = |at: usize| before < at && at <= self.arrived;
            let (begins, is_headed, is_whole) = (passes(2), passes(header_len), passes(len));
            let mut verdict = Ok(None);
            if begins {
                verdict = self.begin(first, payload.len());
            }
            if verdict.is_ok() && is_headed {
                verdict = self.count_fragment(first);
            }
            if verdict.is_ok() && is_whole {
                self.frames.pop_front();
                self.arrived = 0;
                verdict = self.complete(first, payload);
            }
            match verdict {
                Ok(event) => events.extend(event),
                Err(error) => events.push(self.fail(error)),
            }
        }
        events
    }

    /// The first two bytes tell nearly all.
    fn begin(&self, first: u8, len: usize) -> Result<Option<Event<'static>>, ProtocolError> {
        let opcode = first & 0xF;
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(ProtocolError::ReservedOpcode(opcode));
        }
        if first & 0x70 != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        if opcode >= CLOSE {
            let is_whole = first & FIN != 0;
            return if is_whole { Ok(None) } else { Err(ProtocolError::FragmentedControl) };
        }
        match (&self.message, opcode) {
            (None, CONTINUATION) => Err(ProtocolError::UnexpectedContinuation),
            (Some(_), TEXT | BINARY) => Err(ProtocolError::UnfinishedMessage),
            (message, _) => {
                let before = message.as_ref().map_or(0, |(_, begun, _)| begun.len());
                let fits = before + len <= LIMITS.message_bytes_max;
                if fits { Ok(None) } else { Err(ProtocolError::MessageTooLong) }
            }
        }
    }

    fn count_fragment(&mut self, first: u8) -> Result<Option<Event<'static>>, ProtocolError> {
        let before = self.message.as_ref().map_or(0, |(_, _, count)| *count);
        if first & 0xF < CLOSE && before == LIMITS.fragments_max {
            return Err(ProtocolError::TooManyFragments);
        }
        Ok(None)
    }

    fn complete(
        &mut self,
        first: u8,
        payload: Vec<u8>,
    ) -> Result<Option<Event<'static>>, ProtocolError> {
        match first & 0xF {
            PING => {
                let pongs = self.transmit.iter().filter(|(first, _)| *first == FIN | PONG).count();
                if self.is_open() {
                    if pongs == LIMITS.pending_pongs_max as usize {
                        return Err(ProtocolError::TooManyPings);
                    }
                    self.transmit.push((FIN | PONG, payload.clone()));
                }
                Ok(Some(Event::Ping(payload.into())))
            }
            PONG => Ok(Some(Event::Pong(payload.into()))),
            CLOSE => match payload[..] {
                [] => Ok(Some(self.end(CloseCode::NO_STATUS.0, "", None))),
                [_] => Err(ProtocolError::CloseTooShort),
                [high, low, ref reason @ ..] => match u16::from_be_bytes([high, low]) {
                    1000 => Ok(Some(self.end(1000, str::from_utf8(reason).expect("ASCII"), None))),
                    // Letters are too large, and 1005 may not be sent.
                    code => Err(ProtocolError::InvalidCloseCode(code)),
                },
            },
            opcode => {
                let (kind, mut message, count) =
                    self.message.take().unwrap_or((opcode, Vec::new(), 0));
                message.extend(payload);
                if first & FIN == 0 {
                    self.message = Some((kind, message, count + 1));
                    return Ok(None);
                }
                Ok(Some(match kind {
                    TEXT => Event::Text(String::from_utf8(message).expect("ASCII").into()),
                    _ => Event::Binary(message.into()),
                }))
            }
        }
    }

    /// What is sent as a fragment, or the last one; or why not.
    fn fragment(&mut self, text: bool, fin: bool) -> Result<u8, SendError> {
        if !self.is_open() {
            return Err(SendError::Closing);
        }
        let kind = if text { TEXT } else { BINARY };
        let opcode = match self.sending {
            Some(begun) if begun != text => return Err(SendError::OtherKind),
            Some(_) => CONTINUATION,
            None => kind,
        };
        self.sending = (!fin).then_some(text);
        Ok(if fin { FIN | opcode } else { opcode })
    }
}

/// The frames that one side has sent, unmasked.
fn sent(role: Role, mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let len = usize::from(second & 0x7F);
        let (mask, rest) = match role {
            Role::Client => rest.split_at(4),
            Role::Server => (&[0; 4][..], rest),
        };
        let (payload, behind) = rest.split_at(len);
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key);
        frames.push((*first, payload.collect()));
        bytes = behind;
    }
    frames
}

fn message(text: bool) -> MessageRef<'static> {
    if text { MessageRef::Text("own") } else { MessageRef::Binary(b"own") }
}

fn encode(
    connection: &mut Connection,
    out: &mut Vec<u8>,
    text: bool,
    fin: Option<bool>,
) -> Result<(), SendError> {
    match (connection.role(), fin) {
        (Role::Server, None) => connection.encode(out, message(text)),
        (Role::Client, None) => connection.encode_masked(out, message(text), KEY),
        (Role::Server, Some(fin)) => connection.encode_fragment(out, message(text), fin),
        (Role::Client, Some(fin)) => {
            connection.encode_fragment_masked(out, message(text), fin, KEY)
        }
    }
}

/// Does one step with both, and compares what comes of it.
fn step(
    model: &mut Model,
    connection: &mut Connection,
    bytes: &mut &[u8],
    step: &Step,
) -> Result<(), TestCaseError> {
    match *step {
        Step::Arrive(count) => {
            let (chunk, rest) = bytes.split_at(count.min(bytes.len()));
            *bytes = rest;
            let expected = if chunk.is_empty() { Vec::new() } else { model.arrive(chunk.len()) };
            prop_assert_eq!(read_at(connection, chunk, model.now), expected);
        }
        Step::Seconds(seconds) => {
            model.now += Duration::from_secs(seconds);
            let ended = connection.handle_timeout(model.now).map(Event::Closed);
            prop_assert_eq!(ended, model.time_out());
        }
        Step::Eof => {
            let is_end = model.closed.is_none();
            let ended = is_end.then(|| model.end(CloseCode::ABNORMAL.0, "", None));
            prop_assert_eq!(connection.handle_eof().map(Event::Closed), ended);
        }
        Step::Close(code) => {
            if model.is_open() {
                let payload = code.map_or_else(Vec::new, |code| code.0.to_be_bytes().to_vec());
                model.transmit.push((FIN | CLOSE, payload));
                model.deadline = Some(model.now + LIMITS.close_timeout);
            }
            prop_assert_eq!(connection.close(code, "", model.now), Ok(()));
        }
        Step::Transmit => {
            let frames = sent(model.role, &transmit(connection, model.role));
            prop_assert_eq!(frames, std::mem::take(&mut model.transmit));
        }
        Step::Encode(text) => {
            let is_free = model.is_open() && model.sending.is_none();
            let why_not =
                if model.is_open() { SendError::UnfinishedMessage } else { SendError::Closing };
            let expected = if is_free { model.fragment(text, true) } else { Err(why_not) };
            compare_sent(connection, text, None, expected)?;
        }
        Step::Fragment(text, fin) => {
            let expected = model.fragment(text, fin);
            compare_sent(connection, text, Some(fin), expected)?;
        }
    }
    prop_assert_eq!(connection.closed(), model.closed.as_ref());
    prop_assert_eq!(connection.is_open(), model.is_open());
    let deadline = model.deadline.filter(|_| model.closed.is_none());
    prop_assert_eq!(connection.poll_timeout(), deadline);
    Ok(())
}

fn compare_sent(
    connection: &mut Connection,
    text: bool,
    fin: Option<bool>,
    expected: Result<u8, SendError>,
) -> Result<(), TestCaseError> {
    let mut out = Vec::new();
    let encoded = encode(connection, &mut out, text, fin);
    prop_assert_eq!(encoded, expected.map(drop));
    let frames: Vec<_> = expected.into_iter().map(|first| (first, b"own".to_vec())).collect();
    prop_assert_eq!(sent(connection.role(), &out), frames);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_in_whatever_order_the_machine_does_what_the_model_does(
        role in roles(),
        frames in frames(),
        steps in steps(),
    ) {
        let bytes: Vec<u8> =
            frames.iter().flat_map(|(first, payload)| frame_to(role, *first, payload)).collect();
        let mut model = Model {
            role,
            now: Instant::now(),
            deadline: None,
            closed: None,
            frames: frames.into(),
            arrived: 0,
            message: None,
            sending: None,
            transmit: Vec::new(),
        };
        let mut connection = Connection::new(role, LIMITS);
        let mut rest = &bytes[..];
        for next in steps.iter().chain([&Step::Arrive(usize::MAX), &Step::Transmit]) {
            step(&mut model, &mut connection, &mut rest, next)?;
        }
    }
}
