//! The namespaces of one connection and the packets that come for them: which are legal now, and
//! when a packet with attachments is whole. Does not answer; the driver does.

use std::borrow::Cow;

use bytes::Bytes;

use super::args::Args;
use super::binary::check_placeholders;
use super::packet::{self, Parts, Violation, kind};
use super::parser::Packet;

/// What a peer may make a [`Multiplexer`] hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultiplexerLimits {
    /// Bounds the namespaces of one connection, joined or being joined. One more is
    /// [`Violation::TooManyNamespaces`]. Default: 64.
    pub namespaces_max: usize,
    /// Bounds the attachments of one packet. More are [`Violation::TooManyAttachments`]; none of
    /// them is waited for. Each attachment's size is bounded by the transport. Default: 10.
    pub attachments_max: usize,
    /// Bounds how deep the arrays and objects of a packet's JSON nest, its list of arguments
    /// included; what reads it later may recurse. Deeper ones are [`Violation::TooDeep`]. Above
    /// 120 nothing is gained: `serde_json` refuses to read what is deeper than 127. Default: 100.
    pub depth_max: usize,
}

impl Default for MultiplexerLimits {
    fn default() -> Self {
        Self { namespaces_max: 64, attachments_max: 10, depth_max: 100 }
    }
}

/// A packet for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// The client wants to join a namespace. The driver decides and says so with
    /// [`Multiplexer::handle_connect_accepted`] or [`Multiplexer::handle_connect_refused`].
    Connect {
        /// The namespace, with its slash.
        namespace: &'a str,
        /// The JSON object it gives to identify itself.
        auth: Option<&'a str>,
    },
    /// The client has left a namespace.
    Disconnect {
        /// The namespace.
        namespace: &'a str,
    },
    /// An event.
    Event {
        /// The namespace.
        namespace: &'a str,
        /// The acknowledgement it asks for.
        id: Option<u64>,
        /// Its name and arguments.
        event: Event<'a>,
    },
    /// The answer to an event of ours.
    Ack {
        /// The namespace.
        namespace: &'a str,
        /// Which event it answers.
        id: u64,
        /// Its arguments.
        args: Args<'a>,
    },
}

impl Incoming<'_> {
    fn has_args(&self) -> bool {
        matches!(self, Self::Event { .. } | Self::Ack { .. })
    }
}

/// An event that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its name; a number's digits where the name is a number.
    pub name: Cow<'a, str>,
    /// Its arguments.
    pub args: Args<'a>,
}

/// What is known of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The driver has not decided yet.
    Connecting,
    Connected,
    /// We have disconnected it. What the client sent before it heard of that is passed over.
    Left,
}

/// The server's side of a connection's Socket.IO packets.
///
/// ```text
///              CONNECT                 accepted
///   (unknown) ─────────► Connecting ─────────────► Connected
///       ▲                    │ refused                │   │ we disconnect
///       ├────────────────────┘                        │   ▼
///       └─────────────────────────────────────────────┘  Left ──CONNECT──► Connecting
///                       DISCONNECT
/// ```
#[derive(Debug)]
pub struct Multiplexer {
    limits: MultiplexerLimits,
    namespaces: Vec<(Box<str>, State)>,
    /// A packet whose attachments are not all here, or the last that became whole.
    binary: Option<Box<Binary>>,
}

#[derive(Debug)]
struct Binary {
    /// The packet; of one that another parser has read, its namespace and its JSON.
    text: String,
    expected: usize,
    attachments: Vec<Bytes>,
}

impl Binary {
    fn is_whole(&self) -> bool {
        self.attachments.len() == self.expected
    }
}

impl Multiplexer {
    /// Nothing is joined.
    pub fn new(limits: MultiplexerLimits) -> Self {
        Self { limits, namespaces: Vec::new(), binary: None }
    }

    /// A text message came. `None`: the packet's attachments are outstanding, or it means nothing.
    ///
    /// # Errors
    /// The client broke the protocol; the connection must be closed.
    pub fn handle_text<'a>(&mut self, text: &'a str) -> Result<Option<Incoming<'a>>, Violation> {
        // Whatever comes of this text, the packet before it is over.
        if self.binary.take().is_some_and(|binary| !binary.is_whole()) {
            return Err(Violation::TextWhileReconstructing);
        }
        let parts = packet::split(text, self.limits.attachments_max)?;
        if parts.attachments > 0 {
            // All that can be wrong with it is found before anything is waited for. How deep it
            // nests is bounded by the reading, before the placeholders are looked for recursively.
            read(&parts, Vec::new(), self.limits.depth_max)?;
            check_placeholders(parts.json, parts.attachments)
                .map_err(|error| placeholder_violation(&error))?;
            self.binary = Some(Box::new(Binary {
                text: text.to_owned(),
                expected: parts.attachments,
                attachments: Vec::new(),
            }));
            return Ok(None);
        }
        let Some(incoming) = read(&parts, Vec::new(), self.limits.depth_max)? else {
            check_joined(&mut self.namespaces, parts.namespace)?;
            return Ok(None);
        };
        admit(&mut self.namespaces, self.limits, incoming)
    }

    /// A binary message came. `None`: more attachments are outstanding.
    ///
    /// # Errors
    /// The client broke the protocol; the connection must be closed.
    pub fn handle_binary(&mut self, data: Bytes) -> Result<Option<Incoming<'_>>, Violation> {
        let Some(binary) = &mut self.binary else { return Err(Violation::StrayBinary) };
        if binary.is_whole() {
            return Err(Violation::StrayBinary);
        }
        binary.attachments.push(data);
        if !binary.is_whole() {
            return Ok(None);
        }
        let attachments = std::mem::take(&mut binary.attachments);
        binary.expected = 0;
        let Self { namespaces, binary, limits } = self;
        let text = binary.as_ref().map_or("", |binary| &binary.text);
        let parts = packet::split(text, limits.attachments_max)?;
        match read(&parts, attachments, limits.depth_max)? {
            Some(incoming) => admit(namespaces, *limits, incoming),
            None => check_joined(namespaces, parts.namespace).map(|()| None),
        }
    }

    /// A packet came that another parser than JSON has read ([`Parser::handle`](super::Parser)).
    /// `None`: it means nothing.
    ///
    /// # Errors
    /// The client broke the protocol; the connection must be closed.
    pub fn handle_packet(
        &mut self,
        packet: Packet<'static>,
    ) -> Result<Option<Incoming<'_>>, Violation> {
        let Packet { kind, namespace, id, json, attachments } = packet;
        if !namespace.starts_with('/') || namespace.contains(',') {
            return Err(Violation::InvalidNamespace);
        }
        if attachments.len() > self.limits.attachments_max {
            return Err(Violation::TooManyAttachments);
        }
        let kind = kind.digit();
        let parts =
            Parts { kind, attachments: attachments.len(), namespace: &namespace, id, json: &json };
        if !attachments.is_empty() {
            // As for JSON: the reading bounds what is looked through recursively.
            if read(&parts, Vec::new(), self.limits.depth_max)?.is_none_or(|i| !i.has_args()) {
                return Err(Violation::InvalidPayload);
            }
            check_placeholders(&json, attachments.len())
                .map_err(|error| placeholder_violation(&error))?;
        }
        let namespace_len = namespace.len();
        let mut text = namespace.into_owned();
        text.push_str(&json);
        // What is handed out borrows from what is kept here until the driver is done with it.
        let binary = Box::new(Binary { text, expected: 0, attachments: Vec::new() });
        let text = &self.binary.insert(binary).text;
        let (namespace, json) = text.split_at(namespace_len);
        let parts = Parts { kind, attachments: 0, namespace, id, json };
        let attachments = attachments.into_iter().map(|data| data.into_owned().into()).collect();
        match read(&parts, attachments, self.limits.depth_max)? {
            Some(incoming) => admit(&mut self.namespaces, self.limits, incoming),
            None => check_joined(&mut self.namespaces, namespace).map(|()| None),
        }
    }

    pub(super) fn limits(&self) -> MultiplexerLimits {
        self.limits
    }

    /// The driver is done with the packet that it was handed last. A packet with attachments was
    /// borrowed from a text that is kept here: it is freed, where otherwise the next text would.
    pub fn handle_packet_done(&mut self) {
        self.binary.take_if(|binary| binary.is_whole());
    }

    /// The client need not say that it wants to join a namespace: the driver decides as if it had.
    pub fn handle_joining(&mut self, namespace: &str) {
        if find(&mut self.namespaces, namespace).is_none() {
            self.namespaces.reserve_exact(1);
            self.namespaces.push((namespace.into(), State::Connecting));
        }
    }

    /// The driver lets the client into a namespace.
    pub fn handle_connect_accepted(&mut self, namespace: &str) {
        if let Some(state) = find(&mut self.namespaces, namespace) {
            *state = State::Connected;
        }
    }

    /// The driver refuses the client; it may try again.
    pub fn handle_connect_refused(&mut self, namespace: &str) {
        self.namespaces.retain(|(name, _)| **name != *namespace);
    }

    /// The driver has disconnected the client from a namespace.
    pub fn handle_disconnect(&mut self, namespace: &str) {
        if let Some(state) = find(&mut self.namespaces, namespace) {
            *state = State::Left;
        }
    }

    /// Whether no namespace is joined or being joined.
    pub fn is_empty(&self) -> bool {
        self.namespaces.iter().all(|(_, state)| *state == State::Left)
    }
}

type Namespaces = Vec<(Box<str>, State)>;

fn find<'n>(namespaces: &'n mut Namespaces, namespace: &str) -> Option<&'n mut State> {
    namespaces.iter_mut().find(|(name, _)| **name == *namespace).map(|(_, state)| state)
}

/// Whether a packet that means nothing may come for this namespace.
fn check_joined(namespaces: &mut Namespaces, namespace: &str) -> Result<(), Violation> {
    match find(namespaces, namespace) {
        Some(State::Connected | State::Left) => Ok(()),
        _ => Err(Violation::NotConnected),
    }
}

/// Whether a packet is legal in the state of its namespace.
fn admit<'a>(
    namespaces: &mut Namespaces,
    limits: MultiplexerLimits,
    incoming: Incoming<'a>,
) -> Result<Option<Incoming<'a>>, Violation> {
    let namespace = match incoming {
        Incoming::Connect { namespace, .. } => {
            match find(namespaces, namespace) {
                Some(state @ State::Left) => *state = State::Connecting,
                Some(_) => return Err(Violation::AlreadyConnected),
                None => {
                    if namespaces.len() >= limits.namespaces_max {
                        namespaces.retain(|(_, state)| *state != State::Left);
                    }
                    if namespaces.len() >= limits.namespaces_max {
                        return Err(Violation::TooManyNamespaces);
                    }
                    // A list grows to four at once, and most clients join one.
                    namespaces.reserve_exact(1);
                    namespaces.push((namespace.into(), State::Connecting));
                }
            }
            return Ok(Some(incoming));
        }
        Incoming::Disconnect { namespace }
        | Incoming::Event { namespace, .. }
        | Incoming::Ack { namespace, .. } => namespace,
    };
    match find(namespaces, namespace) {
        Some(State::Connected) => {}
        Some(State::Left) => return Ok(None),
        Some(State::Connecting) | None => return Err(Violation::NotConnected),
    }
    if let Incoming::Disconnect { .. } = incoming {
        namespaces.retain(|(name, _)| **name != *namespace);
    }
    Ok(Some(incoming))
}

/// Reads the JSON that the packet's type asks for.
fn read<'a>(
    parts: &Parts<'a>,
    attachments: Vec<Bytes>,
    depth_max: usize,
) -> Result<Option<Incoming<'a>>, Violation> {
    let Parts { namespace, id, json, .. } = *parts;
    match parts.kind {
        kind::CONNECT | kind::DISCONNECT if id.is_some() => Err(Violation::InvalidPayload),
        kind::CONNECT => {
            let auth = packet::read_auth(json, depth_max)?;
            Ok(Some(Incoming::Connect { namespace, auth }))
        }
        kind::DISCONNECT if json.is_empty() => Ok(Some(Incoming::Disconnect { namespace })),
        kind::DISCONNECT => Err(Violation::InvalidPayload),
        kind::EVENT | kind::BINARY_EVENT => {
            let Some((name, args)) = packet::read_event(json, depth_max)? else { return Ok(None) };
            let event = Event { name, args: Args::new(args, attachments) };
            Ok(Some(Incoming::Event { namespace, id, event }))
        }
        kind::ACK | kind::BINARY_ACK => {
            let args = Args::new(packet::read_list(json, depth_max)?, attachments);
            // Without an id it answers nothing.
            Ok(id.map(|id| Incoming::Ack { namespace, id, args }))
        }
        kind::CONNECT_ERROR => Err(Violation::ConnectErrorFromClient),
        _ => Err(Violation::UnknownType),
    }
}

fn placeholder_violation(error: &serde_json::Error) -> Violation {
    if error.is_data() { Violation::IllegalPlaceholder } else { Violation::InvalidPayload }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined() -> Multiplexer {
        let mut multiplexer = Multiplexer::new(MultiplexerLimits::default());
        multiplexer.handle_text("0").expect("CONNECT");
        multiplexer.handle_connect_accepted("/");
        multiplexer
    }

    fn violation(multiplexer: &mut Multiplexer, text: &str) -> Violation {
        multiplexer.handle_text(text).expect_err(text)
    }

    #[test]
    fn h36_what_is_illegal_now() {
        assert_eq!(violation(&mut joined(), "0"), Violation::AlreadyConnected);
        assert_eq!(violation(&mut joined(), "2/other,[\"e\"]"), Violation::NotConnected);
        assert_eq!(violation(&mut joined(), "3/other,1[]"), Violation::NotConnected);
        assert_eq!(violation(&mut joined(), "1/other,"), Violation::NotConnected);
        // CVE-2024-38355: a packet only servers send.
        let error = violation(&mut joined(), "4{\"message\":\"x\"}");
        assert_eq!(error, Violation::ConnectErrorFromClient);
        let mut connecting = Multiplexer::new(MultiplexerLimits::default());
        connecting.handle_text("0").expect("CONNECT");
        assert_eq!(violation(&mut connecting, "2[\"e\"]"), Violation::NotConnected);
    }

    #[test]
    fn h38_an_event_without_json_means_nothing() {
        assert_eq!(joined().handle_text("2"), Ok(None));
        assert_eq!(violation(&mut joined(), "21.5[\"e\"]"), Violation::InvalidPayload);
    }

    #[test]
    fn an_acknowledgement_without_an_id_means_nothing() {
        assert_eq!(joined().handle_text("3[]"), Ok(None));
        assert_eq!(violation(&mut joined(), "3/other,[]"), Violation::NotConnected);
        for (text, expected) in
            [("61-[]", Ok(None)), ("61-/other,[]", Err(Violation::NotConnected))]
        {
            let mut multiplexer = joined();
            assert_eq!(multiplexer.handle_text(text), Ok(None));
            assert_eq!(multiplexer.handle_binary(Bytes::new()), expected, "{text}");
        }
    }

    #[test]
    fn h39_attachments() {
        let mut multiplexer = joined();
        let text = r#"52-["e",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#;
        assert_eq!(multiplexer.handle_text(text), Ok(None));
        assert_eq!(multiplexer.handle_binary(Bytes::from_static(b"a")), Ok(None));
        let Ok(Some(Incoming::Event { event, .. })) =
            multiplexer.handle_binary(Bytes::from_static(b"b"))
        else {
            panic!("the packet is whole");
        };
        assert_eq!(event.args.attachments(), [&b"a"[..], b"b"]);
        assert_eq!(multiplexer.handle_binary(Bytes::new()), Err(Violation::StrayBinary));

        let mut waiting = joined();
        waiting.handle_text(r#"51-["e",{"_placeholder":true,"num":0}]"#).expect("a binary packet");
        assert_eq!(violation(&mut waiting, "2[\"e\"]"), Violation::TextWhileReconstructing);
        assert_eq!(waiting.handle_binary(Bytes::new()), Err(Violation::StrayBinary));
        assert_eq!(joined().handle_binary(Bytes::new()), Err(Violation::StrayBinary));
    }

    #[test]
    fn nothing_is_kept_of_a_packet_that_is_done() {
        let mut multiplexer = joined();
        multiplexer.handle_text(r#"52-["e",{"_placeholder":true,"num":0}]"#).expect("a packet");
        multiplexer.handle_binary(Bytes::from_static(b"a")).expect("the first of two");
        // Not whole, it is still waited for.
        multiplexer.handle_packet_done();
        assert!(multiplexer.handle_binary(Bytes::from_static(b"b")).expect("whole").is_some());
        multiplexer.handle_packet_done();
        assert!(multiplexer.binary.is_none());
        assert_eq!(multiplexer.handle_binary(Bytes::new()), Err(Violation::StrayBinary));
    }

    #[test]
    fn cve_2022_2421_placeholder_numbers() {
        for num in ["1", "-1", "0.5", "\"0\"", "\"splice\"", "null", "{}", "99999999999999999999"] {
            let text = format!(r#"51-["e",{{"_placeholder":true,"num":{num}}}]"#);
            assert_eq!(violation(&mut joined(), &text), Violation::IllegalPlaceholder, "{num}");
        }
        let text = r#"51-["e",{"_placeholder":true}]"#;
        assert_eq!(violation(&mut joined(), text), Violation::IllegalPlaceholder);
    }

    #[test]
    fn an_attachment_has_one_placeholder_at_the_most() {
        let placeholder = |num| format!(r#"{{"_placeholder":true,"num":{num}}}"#);
        let [zero, one] = [placeholder(0), placeholder(1)];
        let handle = |text: &str| joined().handle_text(text).map(drop);
        assert_eq!(handle(&format!("52-[\"e\",{one},[{{\"a\":{zero}}}]]")), Ok(()));
        // One without any is tolerated, as Node does.
        assert_eq!(handle(&format!("52-[\"e\",{one}]")), Ok(()));
        for twice in [format!("{zero},{zero}"), format!("{one},{{\"a\":[{zero},{one}]}}")] {
            let text = format!("52-[\"e\",{twice}]");
            assert_eq!(handle(&text), Err(Violation::IllegalPlaceholder), "{text}");
        }
    }

    #[test]
    fn deep_placeholders_are_refused_without_recursion() {
        for depth in [98, 99, 200, 60_000] {
            let (open, close) = ("{\"_placeholder\":".repeat(depth), "}".repeat(depth));
            let text = format!("51-[\"e\",{open}1{close}]");
            let expected = if depth < 100 { Ok(None) } else { Err(Violation::TooDeep) };
            assert_eq!(joined().handle_text(&text), expected, "{depth}");
        }
    }

    #[test]
    fn cve_2026_33151_attachments_are_counted_before_they_come() {
        let text = "5451000000-[\"e\"]";
        assert_eq!(violation(&mut joined(), text), Violation::TooManyAttachments);
    }

    #[test]
    fn a_namespace_we_left_is_passed_over() {
        let mut multiplexer = joined();
        multiplexer.handle_disconnect("/");
        assert!(multiplexer.is_empty());
        assert_eq!(multiplexer.handle_text("2[\"late\"]"), Ok(None));
        assert_eq!(multiplexer.handle_text("1"), Ok(None));
        assert!(matches!(multiplexer.handle_text("0"), Ok(Some(Incoming::Connect { .. }))));
    }

    #[test]
    fn namespaces_are_bounded() {
        let limits = MultiplexerLimits { namespaces_max: 2, ..MultiplexerLimits::default() };
        let mut multiplexer = Multiplexer::new(limits);
        multiplexer.handle_text("0/a,").expect("one");
        multiplexer.handle_text("0/b,").expect("two");
        assert_eq!(violation(&mut multiplexer, "0/c,"), Violation::TooManyNamespaces);
        multiplexer.handle_connect_refused("/b");
        multiplexer.handle_text("0/c,").expect("a refused one does not count");
    }

    #[test]
    fn json_nests_as_deep_as_the_limit_says() {
        for (depth_max, depth, fits) in [(3, 3, true), (3, 4, false), (1, 1, true), (1, 2, false)] {
            let limits = MultiplexerLimits { depth_max, ..MultiplexerLimits::default() };
            let list = |inner: usize| format!("{}{}", "[".repeat(inner), "]".repeat(inner));
            let mut multiplexer = Multiplexer::new(limits);
            multiplexer.handle_text("0").expect("CONNECT");
            multiplexer.handle_connect_accepted("/");
            let event = format!("2[\"a\",{}]", list(depth - 1)).replace(",]", "]");
            for text in [event, format!("31{}", list(depth))] {
                let read = multiplexer.handle_text(&text);
                assert_eq!(read.is_ok(), fits, "{text} with {depth_max}");
                assert!(fits || read == Err(Violation::TooDeep), "{text}");
            }
        }
    }
}
