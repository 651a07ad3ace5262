//! The text of one Socket.IO packet, taken apart:
//! `type[attachments-][/namespace,][id][json]`.
//! Does not know what came before it; `multiplexer` does.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::args::string_len;

/// Event names that Socket.IO keeps for itself: never emitted, never accepted.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// The digits of packet types.
pub(super) mod kind {
    pub(crate) const CONNECT: u8 = b'0';
    pub(crate) const DISCONNECT: u8 = b'1';
    pub(crate) const EVENT: u8 = b'2';
    pub(crate) const ACK: u8 = b'3';
    pub(crate) const CONNECT_ERROR: u8 = b'4';
    pub(crate) const BINARY_EVENT: u8 = b'5';
    pub(crate) const BINARY_ACK: u8 = b'6';
    /// From `EVENT` to `BINARY_EVENT`, from `ACK` to `BINARY_ACK`.
    pub(crate) const TO_BINARY: u8 = BINARY_EVENT - EVENT;
}

/// The peer broke the Socket.IO protocol; the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The text does not begin with a packet type.
    #[error("unknown packet type")]
    UnknownType,
    /// A namespace that does not begin with a slash, or has a comma in it. (JSON packets cannot
    /// name one.)
    #[error("invalid namespace")]
    InvalidNamespace,
    /// Text where the [`Parser`](super::Parser) has binary messages, or the other way round: the
    /// client has another parser.
    #[error("the message is none of this parser's; the client has another one")]
    WrongParser,
    /// Only a server refuses connections.
    #[error("a client must not send CONNECT_ERROR")]
    ConnectErrorFromClient,
    /// A binary packet without the number of its attachments, or with 0.
    #[error("illegal attachments")]
    IllegalAttachments,
    /// More attachments than [`MultiplexerLimits::attachments_max`](super::MultiplexerLimits).
    #[error("too many attachments")]
    TooManyAttachments,
    /// An acknowledgement's id that does not fit 64 bits. (Node rounds such ids, and so answers
    /// to another one.)
    #[error("the acknowledgement id is too large")]
    IdTooLarge,
    /// The packet's JSON is not what its type asks for.
    #[error("invalid payload")]
    InvalidPayload,
    /// JSON that nests deeper than [`MultiplexerLimits::depth_max`](super::MultiplexerLimits).
    #[error("the payload nests too deep")]
    TooDeep,
    /// An event named like one of [`RESERVED_EVENTS`].
    #[error("reserved event name")]
    ReservedEvent,
    /// A placeholder that names no attachment, or one that another names too.
    #[error("illegal placeholder")]
    IllegalPlaceholder,
    /// Text while attachments are outstanding.
    #[error("got plaintext data when reconstructing a packet")]
    TextWhileReconstructing,
    /// An attachment that no packet announced.
    #[error("got binary data when not reconstructing a packet")]
    StrayBinary,
    /// A second CONNECT to a namespace that is joined already.
    #[error("the namespace is joined already")]
    AlreadyConnected,
    /// A packet for a namespace that was never joined.
    #[error("the namespace is not joined")]
    NotConnected,
    /// More namespaces than [`MultiplexerLimits::namespaces_max`](super::MultiplexerLimits).
    #[error("too many namespaces")]
    TooManyNamespaces,
}

/// A packet's parts, its JSON unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) kind: u8,
    pub(super) attachments: usize,
    pub(super) namespace: &'a str,
    pub(super) id: Option<u64>,
    pub(super) json: &'a str,
}

pub(super) fn split(text: &str, attachments_max: usize) -> Result<Parts<'_>, Violation> {
    let kind = *text.as_bytes().first().ok_or(Violation::UnknownType)?;
    if !(kind::CONNECT..=kind::BINARY_ACK).contains(&kind) {
        return Err(Violation::UnknownType);
    }
    let mut rest = &text[1..];
    let mut attachments = 0;
    if matches!(kind, kind::BINARY_EVENT | kind::BINARY_ACK) {
        let digits;
        (digits, rest) = split_digits(rest);
        rest = rest.strip_prefix('-').ok_or(Violation::IllegalAttachments)?;
        // CVE-2026-33151: the number decides how much is waited for, so it is bounded here.
        attachments = match digits.parse() {
            Ok(0) => return Err(Violation::IllegalAttachments),
            Ok(count) if count <= attachments_max => count,
            Ok(_) => return Err(Violation::TooManyAttachments),
            Err(_) if digits.is_empty() => return Err(Violation::IllegalAttachments),
            Err(_) => return Err(Violation::TooManyAttachments),
        };
    }
    let mut namespace = "/";
    if rest.starts_with('/') {
        // The comma may be missing where nothing follows.
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    }
    let (digits, json) = split_digits(rest);
    let id = match digits {
        "" => None,
        digits => Some(digits.parse().map_err(|_| Violation::IdTooLarge)?),
    };
    Ok(Parts { kind, attachments, namespace, id, json })
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Checks that `json` is JSON, and no deeper than `depth_max`.
fn validate(json: &str, depth_max: usize) -> Result<(), Violation> {
    let bytes = json.as_bytes();
    // Few texts have brackets enough to be too deep; only those are looked at closely.
    if memchr::memchr2_iter(b'[', b'{', bytes).nth(depth_max).is_some() && depth(bytes) > depth_max
    {
        return Err(Violation::TooDeep);
    }
    serde_json::from_str::<IgnoredAny>(json).map_err(|_| Violation::InvalidPayload)?;
    Ok(())
}

/// How deep the brackets nest, those in strings left out. The text need not be valid.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => at += string_len(&json[at..]) - 1,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// A CONNECT's payload: nothing, or an object.
pub(super) fn read_auth(json: &str, depth_max: usize) -> Result<Option<&str>, Violation> {
    if json.is_empty() {
        return Ok(None);
    }
    if !json.trim_ascii_start().starts_with('{') {
        return Err(Violation::InvalidPayload);
    }
    validate(json, depth_max)?;
    Ok(Some(json))
}

/// An acknowledgement's payload: nothing, or a list. Returns the JSON between its brackets.
pub(super) fn read_list(json: &str, depth_max: usize) -> Result<&str, Violation> {
    if json.is_empty() {
        return Ok("");
    }
    validate(json, depth_max)?;
    let json = json.trim_ascii();
    let inner = json.strip_prefix('[').and_then(|json| json.strip_suffix(']'));
    Ok(inner.ok_or(Violation::InvalidPayload)?.trim_ascii())
}

/// An event's payload: a list that begins with its name. Returns the name and the JSON of the
/// arguments behind it; `None` for no payload, which is tolerated and means nothing.
pub(super) fn read_event(
    json: &str,
    depth_max: usize,
) -> Result<Option<(Cow<'_, str>, &str)>, Violation> {
    if json.is_empty() {
        return Ok(None);
    }
    split_event(read_list(json, depth_max)?).map(Some)
}

/// Takes apart the elements of an event's list, which are valid JSON.
pub(super) fn split_event(list: &str) -> Result<(Cow<'_, str>, &str), Violation> {
    let (name, args) = match list.as_bytes() {
        [b'"', ..] => {
            let len = string_len(list.as_bytes());
            let inner = &list[1..len - 1];
            let name = if inner.contains('\\') {
                // A lone surrogate is valid JSON grammar, but no text.
                let name = serde_json::from_str::<String>(&list[..len]);
                Cow::Owned(name.map_err(|_| Violation::InvalidPayload)?)
            } else {
                Cow::Borrowed(inner)
            };
            if RESERVED_EVENTS.contains(&&*name) {
                return Err(Violation::ReservedEvent);
            }
            (name, &list[len..])
        }
        [b'-' | b'0'..=b'9', ..] => {
            let len = list.find(',').unwrap_or(list.len());
            (Cow::Borrowed(list[..len].trim_ascii()), &list[len..])
        }
        _ => return Err(Violation::InvalidPayload),
    };
    let args = args.trim_ascii_start();
    Ok((name, args.strip_prefix(',').unwrap_or(args).trim_ascii_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPTH_MAX: usize = 100;

    fn read_event(json: &str) -> Result<Option<(Cow<'_, str>, &str)>, Violation> {
        super::read_event(json, DEPTH_MAX)
    }

    fn read_auth(json: &str) -> Result<Option<&str>, Violation> {
        super::read_auth(json, DEPTH_MAX)
    }

    #[test]
    fn the_parts_of_a_packet() {
        let parts = |kind, attachments, namespace, id, json| {
            Ok(Parts { kind, attachments, namespace, id, json })
        };
        for (text, expected) in [
            ("0", parts(b'0', 0, "/", None, "")),
            ("0/admin", parts(b'0', 0, "/admin", None, "")),
            ("0/admin,{}", parts(b'0', 0, "/admin", None, "{}")),
            ("0/admin?x=1,", parts(b'0', 0, "/admin?x=1", None, "")),
            ("2/,[\"a\"]", parts(b'2', 0, "/", None, "[\"a\"]")),
            ("212[\"a\"]", parts(b'2', 0, "/", Some(12), "[\"a\"]")),
            ("51-/a,3[\"a\"]", parts(b'5', 1, "/a", Some(3), "[\"a\"]")),
            ("", Err(Violation::UnknownType)),
            ("7", Err(Violation::UnknownType)),
            ("x", Err(Violation::UnknownType)),
            ("5-[\"a\"]", Err(Violation::IllegalAttachments)),
            ("5[\"a\"]", Err(Violation::IllegalAttachments)),
            ("50-[\"a\"]", Err(Violation::IllegalAttachments)),
            ("511-[\"a\"]", Err(Violation::TooManyAttachments)),
            ("599999999999999999999-[", Err(Violation::TooManyAttachments)),
            ("299999999999999999999[\"a\"]", Err(Violation::IdTooLarge)),
        ] {
            assert_eq!(split(text, 10), expected, "{text}");
        }
    }

    #[test]
    fn h37_h38_event_names() {
        let read = |json| read_event(json).map(|e| e.map(|(name, args)| (name.into_owned(), args)));
        let event = |name: &str, args| Ok(Some((name.to_owned(), args)));
        for (json, expected) in [
            ("", Ok(None)),
            ("[\"a\"]", event("a", "")),
            (" [ \"a\" , 1 , 2 ] ", event("a", "1 , 2")),
            ("[\"a\\u0041\",1]", event("aA", "1")),
            ("[7,\"x\"]", event("7", "\"x\"")),
            ("[\"\"]", event("", "")),
            ("[]", Err(Violation::InvalidPayload)),
            ("[{}]", Err(Violation::InvalidPayload)),
            ("[null]", Err(Violation::InvalidPayload)),
            ("[true]", Err(Violation::InvalidPayload)),
            ("{\"a\":1}", Err(Violation::InvalidPayload)),
            (".5[\"a\"]", Err(Violation::InvalidPayload)),
            ("[\"a\"", Err(Violation::InvalidPayload)),
            ("[\"a\"]x", Err(Violation::InvalidPayload)),
            ("[\"disconnecting\"]", Err(Violation::ReservedEvent)),
            ("[\"\\u0063onnect\"]", Err(Violation::ReservedEvent)),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_recursion() {
        let nested = |depth: usize| format!("[\"a\",{}{}]", "[".repeat(depth), "]".repeat(depth));
        assert!(read_event(&nested(DEPTH_MAX - 1)).is_ok());
        assert_eq!(read_event(&nested(DEPTH_MAX)), Err(Violation::TooDeep));
        assert_eq!(read_event(&nested(200_000)), Err(Violation::TooDeep));
        let flat = format!("[\"a\"{}]", ",[]".repeat(5000));
        assert!(read_event(&flat).is_ok(), "many brackets are not deep");
        let text = format!("[\"a\",\"{}\"]", "[".repeat(5000));
        assert!(read_event(&text).is_ok(), "brackets in text are text");
    }

    #[test]
    fn a_text_that_ends_in_an_escape_is_refused() {
        // So many brackets are counted before anybody has found the text to be no JSON.
        for end in ["\"", "\"a", "\"\\", "\"a\\\"", "\\"] {
            let json = format!("[\"a\",{}{end}", "[]".repeat(DEPTH_MAX));
            assert_eq!(read_event(&json), Err(Violation::InvalidPayload), "{json}");
            assert_eq!(read_auth(&format!("{{{json}")), Err(Violation::InvalidPayload), "{json}");
        }
    }

    #[test]
    fn auth_is_an_object_or_absent() {
        assert_eq!(read_auth(""), Ok(None));
        assert_eq!(read_auth("{\"a\":1}"), Ok(Some("{\"a\":1}")));
        for json in ["[]", "\"x\"", "1", "null", "{\"a\":}"] {
            assert_eq!(read_auth(json), Err(Violation::InvalidPayload), "{json}");
        }
    }
}
