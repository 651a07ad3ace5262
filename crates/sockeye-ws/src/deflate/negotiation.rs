//! The negotiation of permessage-deflate (RFC 7692 §5, §7.1): offers, answers, and what is agreed.
//! Does not know the header's grammar or how messages are compressed.

use std::fmt::{self, Write as _};

use super::Settings;
use super::options::{Options, WindowBits};
use crate::compressed::write_alone;
use crate::connection::MessageRef;

/// The extension's name.
pub(crate) const NAME: &str = "permessage-deflate";

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// What both sides keep to: the outcome of the negotiation, and how our own side compresses.
///
/// Displayed it is a server's answer, the value of its `Sec-WebSocket-Extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    /// `None` stands for 15 that the answer does not mention.
    server_max_window_bits: Option<WindowBits>,
    client_max_window_bits: Option<WindowBits>,
    pub(super) level: u8,
    pub(super) mem_level: u8,
    threshold_bytes: u32,
}

/// What is wrong with a parameter in an offer or an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// The extension has no such parameter.
    #[error("the parameter {0:?} is unknown")]
    Unknown(String),
    /// A parameter that is there twice.
    #[error("the parameter {0} is there twice")]
    Repeated(&'static str),
    /// A flag with a value, or a number that is none between 8 and 15.
    #[error("the parameter {0} has an invalid value")]
    Value(&'static str),
    /// A window larger than was offered.
    #[error("the parameter {0} is larger than what was offered")]
    TooLarge(&'static str),
    /// A server that answers without it declines what was offered.
    #[error("the parameter {0} was offered and is missing in the answer")]
    Missing(&'static str),
}

impl Agreed {
    /// Whether the server compresses each message by itself.
    pub fn server_no_context_takeover(&self) -> bool {
        self.server_no_context_takeover
    }

    /// Whether the client compresses each message by itself.
    pub fn client_no_context_takeover(&self) -> bool {
        self.client_no_context_takeover
    }

    /// The window of what the server sends.
    pub fn server_max_window_bits(&self) -> WindowBits {
        self.server_max_window_bits.unwrap_or(WindowBits::MAX)
    }

    /// The window of what the client sends.
    pub fn client_max_window_bits(&self) -> WindowBits {
        self.client_max_window_bits.unwrap_or(WindowBits::MAX)
    }

    /// How long a message must be in bytes to be compressed by itself.
    pub fn threshold_bytes(&self) -> usize {
        self.threshold_bytes as usize
    }

    /// The window that a server needs for a message of this length by itself: the largest one where
    /// the message fits in the agreed one, since nothing can refer further back than it is long.
    /// What was compressed for the one connection serves every other of which this says the same.
    pub fn window_alone(&self, payload_len: usize) -> WindowBits {
        let window = self.server_max_window_bits();
        if payload_len <= window.bytes() { WindowBits::MAX } else { window }
    }

    /// Appends a server's message as one frame that is compressed by itself, as
    /// [`Frame`](crate::Frame) has it, for who keeps such frames in a way of its own. `false`: it
    /// is too short, or compression makes it no shorter, and nothing was appended.
    ///
    /// On a connection that keeps a context for what the server sends, whoever compresses with
    /// that must be told: [`Compressor::forget`](super::Compressor::forget).
    pub fn encode_alone(&self, out: &mut Vec<u8>, message: MessageRef<'_>) -> bool {
        let (opcode, payload) = message.parts();
        if opcode.is_control() || payload.is_empty() || !self.is_long_enough(payload.len()) {
            return false;
        }
        Settings::alone(self, self.server_max_window_bits(), payload.len())
            .is_some_and(|settings| write_alone(out, opcode, payload, None, settings))
    }

    /// Whether a message is long enough to be compressed by itself.
    pub(crate) fn is_long_enough(&self, payload_len: usize) -> bool {
        payload_len >= self.threshold_bytes as usize
    }

    fn new(parameters: Parameters, options: &Options) -> Self {
        Self {
            server_no_context_takeover: parameters.server_no_context_takeover,
            client_no_context_takeover: parameters.client_no_context_takeover,
            server_max_window_bits: parameters.server_max_window_bits,
            client_max_window_bits: parameters.client_max_window_bits.flatten(),
            level: options.level.clamp(1, 9),
            mem_level: options.mem_level.clamp(1, 9),
            threshold_bytes: u32::try_from(options.threshold_bytes).unwrap_or(u32::MAX),
        }
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Parameters {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: self.server_max_window_bits,
            client_max_window_bits: self.client_max_window_bits.map(Some),
        }
        .fmt(formatter)
    }
}

/// The parameters as they stand in the header. In an offer `client_max_window_bits` may be there
/// without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<WindowBits>,
    client_max_window_bits: Option<Option<WindowBits>>,
}

impl Parameters {
    /// RFC 7692 §7.1: unknown parameters, values that are none and repetitions make an offer or an
    /// answer invalid.
    fn parse<'a>(
        parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, ParameterError> {
        let mut parsed = Self::default();
        for (name, value) in parameters {
            match name {
                SERVER_NO_CONTEXT_TAKEOVER => set_flag(
                    &mut parsed.server_no_context_takeover,
                    SERVER_NO_CONTEXT_TAKEOVER,
                    value,
                )?,
                CLIENT_NO_CONTEXT_TAKEOVER => set_flag(
                    &mut parsed.client_no_context_takeover,
                    CLIENT_NO_CONTEXT_TAKEOVER,
                    value,
                )?,
                SERVER_MAX_WINDOW_BITS => {
                    let bits = value.and_then(WindowBits::parse);
                    let bits = bits.ok_or(ParameterError::Value(SERVER_MAX_WINDOW_BITS))?;
                    set(&mut parsed.server_max_window_bits, SERVER_MAX_WINDOW_BITS, bits)?;
                }
                CLIENT_MAX_WINDOW_BITS => {
                    let bits = value.map(|value| {
                        WindowBits::parse(value)
                            .ok_or(ParameterError::Value(CLIENT_MAX_WINDOW_BITS))
                    });
                    let bits = bits.transpose()?;
                    set(&mut parsed.client_max_window_bits, CLIENT_MAX_WINDOW_BITS, bits)?;
                }
                unknown => return Err(ParameterError::Unknown(unknown.to_owned())),
            }
        }
        Ok(parsed)
    }

    /// What a client with these options offers. That we can be told a window goes without saying.
    fn offered(options: &Options) -> Self {
        let limited = |bits| (bits < WindowBits::MAX).then_some(bits);
        Self {
            server_no_context_takeover: options.server_no_context_takeover,
            client_no_context_takeover: options.client_no_context_takeover,
            server_max_window_bits: limited(options.server_max_window_bits),
            client_max_window_bits: Some(limited(options.client_max_window_bits)),
        }
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(NAME)?;
        if self.server_no_context_takeover {
            write!(formatter, "; {SERVER_NO_CONTEXT_TAKEOVER}")?;
        }
        if self.client_no_context_takeover {
            write!(formatter, "; {CLIENT_NO_CONTEXT_TAKEOVER}")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(formatter, "; {SERVER_MAX_WINDOW_BITS}={bits}")?;
        }
        match self.client_max_window_bits {
            Some(Some(bits)) => write!(formatter, "; {CLIENT_MAX_WINDOW_BITS}={bits}"),
            Some(None) => write!(formatter, "; {CLIENT_MAX_WINDOW_BITS}"),
            None => Ok(()),
        }
    }
}

fn set_flag(
    flag: &mut bool,
    name: &'static str,
    value: Option<&str>,
) -> Result<(), ParameterError> {
    if value.is_some() {
        return Err(ParameterError::Value(name));
    }
    if std::mem::replace(flag, true) { Err(ParameterError::Repeated(name)) } else { Ok(()) }
}

fn set<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), ParameterError> {
    if slot.replace(value).is_some() { Err(ParameterError::Repeated(name)) } else { Ok(()) }
}

/// A client's valid offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer(Parameters);

impl Offer {
    /// Reads the parameters of an offer, names with values.
    pub(crate) fn parse<'a>(
        parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, ParameterError> {
        Parameters::parse(parameters).map(Self)
    }

    /// What a server with these options makes of the offer; `None`: declined.
    pub(crate) fn accept(self, options: &Options) -> Option<Agreed> {
        let Self(offer) = self;
        // RFC 7692 §7.1.2.1: the answer has "the same or smaller value as the offer"; also 15, for
        // without it the offer counts as declined. `ws` refuses an offer below its own setting;
        // nothing is lost by following the client.
        let own = options.server_max_window_bits;
        let server_max_window_bits = match offer.server_max_window_bits {
            Some(bits) => Some(bits.min(own)),
            None => (own < WindowBits::MAX).then_some(own),
        };
        // There is no compressor for 256 bytes; one for 512 would refer too far back.
        if server_max_window_bits == Some(WindowBits::MIN) {
            return None;
        }
        // RFC 7692 §7.1.2.2: "If a received extension negotiation offer doesn't have the
        // "client_max_window_bits" extension parameter, the corresponding extension negotiation
        // response to the offer MUST NOT include" it.
        let client_max_window_bits = match offer.client_max_window_bits {
            Some(bits) => bits.unwrap_or(WindowBits::MAX).min(options.client_max_window_bits),
            None if options.client_max_window_bits < WindowBits::MAX => return None,
            None => WindowBits::MAX,
        };
        let parameters = Parameters {
            // RFC 7692 §7.1.1: both may be answered without being offered. `ws` can be told to
            // refuse a client that wants no contexts; whoever keeps one can do without.
            server_no_context_takeover: offer.server_no_context_takeover
                || options.server_no_context_takeover,
            client_no_context_takeover: offer.client_no_context_takeover
                || options.client_no_context_takeover,
            server_max_window_bits,
            client_max_window_bits: (client_max_window_bits < WindowBits::MAX)
                .then_some(Some(client_max_window_bits)),
        };
        Some(Agreed::new(parameters, options))
    }
}

/// The value of a client's `Sec-WebSocket-Extensions`: the offers, the preferred one first.
pub(crate) fn offers_value(offers: &[Options]) -> String {
    let mut value = String::new();
    for offer in offers.iter().map(Parameters::offered) {
        let separator = if value.is_empty() { "" } else { ", " };
        write!(value, "{separator}{offer}").expect("a String takes everything");
    }
    value
}

/// Holds the parameters of a server's answer against the offers. It is the answer to the first that
/// it fits; if it fits none, the error is about the preferred one.
pub(crate) fn verify_answer<'a>(
    parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    preferred: &Options,
    others: &[Options],
) -> Result<Agreed, ParameterError> {
    let answer = Parameters::parse(parameters)?;
    fit(answer, preferred)
        .or_else(|error| others.iter().find_map(|options| fit(answer, options).ok()).ok_or(error))
}

/// Whether `answer` accepts what `options` offer, and what then counts for us.
fn fit(mut answer: Parameters, options: &Options) -> Result<Agreed, ParameterError> {
    let offer = Parameters::offered(options);
    // RFC 7692 §7.1.1.1, §7.1.2.1: a server accepts these by including them in its answer. It may
    // also include them unasked.
    if offer.server_no_context_takeover && !answer.server_no_context_takeover {
        return Err(ParameterError::Missing(SERVER_NO_CONTEXT_TAKEOVER));
    }
    if let Some(offered) = offer.server_max_window_bits {
        match answer.server_max_window_bits {
            None => return Err(ParameterError::Missing(SERVER_MAX_WINDOW_BITS)),
            Some(bits) if bits > offered => {
                return Err(ParameterError::TooLarge(SERVER_MAX_WINDOW_BITS));
            }
            Some(_) => {}
        }
    }
    // RFC 7692 §7.1.2.2: in an answer it has a value, and at most the one that was offered.
    let own = options.client_max_window_bits;
    match answer.client_max_window_bits {
        Some(None) => return Err(ParameterError::Value(CLIENT_MAX_WINDOW_BITS)),
        Some(Some(bits)) if bits > own => {
            return Err(ParameterError::TooLarge(CLIENT_MAX_WINDOW_BITS));
        }
        Some(Some(_)) => {}
        // Offered it was a hint of what we will do, and we do it.
        None => answer.client_max_window_bits = Some(Some(own)),
    }
    // RFC 7692 §7.1.1.2: a server may ask for it unasked, which `ws` can be told to refuse.
    answer.client_no_context_takeover |= options.client_no_context_takeover;
    Ok(Agreed::new(answer, options))
}
