//! A packet, encoded once for any number of receivers: one shared buffer that goes to a WebSocket
//! as it is, and that the long-polling form is made of. Does not know who receives it.

mod deflated;
mod foreign;
mod v3;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;
use sockeye_ws::frame::{Opcode, write_header};

use self::deflated::Deflated;
use super::args::OwnedArgs;
use super::emit::{ArgsWriter, EmitArgs, EncodeError};
use super::name::{Name, ToName};
use super::packet::{self, RESERVED_EVENTS, Violation, kind};
use crate::engine;

/// The longest header of an unmasked frame.
const HEADER_BYTES_MAX: usize = 10;
/// A thread keeps the buffer that packets are written in up to this size.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// One packet, ready to be sent to anyone. A clone is one atomic increment.
///
/// ```
/// use sockeye_proto::socket::EncodedPacket;
///
/// let packet = EncodedPacket::event("/chat", None, "greeting", &("hello", 1))?;
/// assert_eq!(packet.text(), r#"2/chat,["greeting","hello",1]"#);
/// # Ok::<(), sockeye_proto::socket::EncodeError>(())
/// ```
#[derive(Clone)]
pub struct EncodedPacket(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    /// The WebSocket frames, whole: what one write sends.
    wire: Box<[u8]>,
    /// The Engine.IO text packet within them.
    text: Range<usize>,
    /// The payloads of the binary frames within them.
    attachments: Box<[Range<usize>]>,
    /// Whether it may be compressed, whatever carries it.
    compress: bool,
    /// Whether many get it: where it is compressed then, it is by itself.
    for_many: bool,
    /// A Socket.IO packet that no other parser has encoded.
    is_json: bool,
    /// Other forms of it, once someone needs them.
    forms: OnceLock<Box<Forms>>,
}

/// What goes to other clients in place of the plain frames.
#[derive(Clone, Default)]
struct Forms {
    deflated: Deflated,
    /// For clients of Engine.IO 3, with attachments as binary frames or in base64; the latter two
    /// compressed.
    v3: [OnceLock<Box<[u8]>>; 2],
    v3_deflated: [OnceLock<Box<Deflated>>; 2],
}

impl EncodedPacket {
    /// An event, with an acknowledgement id if one is wanted.
    ///
    /// # Errors
    /// The name is reserved, or an argument cannot be JSON.
    pub fn event(
        namespace: &str,
        id: Option<u64>,
        event: impl ToName,
        args: &(impl EmitArgs + ?Sized),
    ) -> Result<Self, EncodeError> {
        let event = allowed(event.to_name())?;
        Self::with_args(kind::EVENT, namespace, id, Some(&event), args)
    }

    /// An event whose arguments are JSON already: elements with commas between, whose
    /// placeholders count from 0.
    pub fn event_raw(
        namespace: &str,
        id: Option<u64>,
        event: &str,
        args_json: &str,
        attachments: &[Bytes],
    ) -> Self {
        let event = Name::from(event);
        Self::with_args(kind::EVENT, namespace, id, Some(&event), &Raw(args_json, attachments))
            .expect("JSON as it is can be written")
    }

    /// An event whose whole list `["event",…]` is JSON already, with placeholders that count from
    /// 0.
    ///
    /// # Errors
    /// It is no list that begins with text or a number, or the name is reserved.
    pub fn event_list(
        namespace: &str,
        id: Option<u64>,
        list: &RawValue,
        attachments: &[Bytes],
    ) -> Result<Self, Violation> {
        let elements = list.get().strip_prefix('[').and_then(|list| list.strip_suffix(']'));
        packet::split_event(elements.ok_or(Violation::InvalidPayload)?.trim_ascii())?;
        Ok(Self::with_list(namespace, id, list.get(), attachments))
    }

    /// The same event as this one's (an event), with another acknowledgement id or none.
    pub fn event_again(&self, namespace: &str, id: Option<u64>) -> Self {
        let attachments: Vec<_> = self.attachments().map(Bytes::copy_from_slice).collect();
        Self::with_list(namespace, id, self.json(), &attachments)
    }

    fn with_list(namespace: &str, id: Option<u64>, list: &str, attachments: &[Bytes]) -> Self {
        let mut buffer = new_buffer();
        write_prefix(&mut buffer, attachments.len(), kind::EVENT, namespace, id);
        buffer.extend_from_slice(list.as_bytes());
        finish(buffer, attachments, true)
    }

    /// An acknowledgement.
    ///
    /// # Errors
    /// An argument cannot be JSON.
    pub fn ack(
        namespace: &str,
        id: u64,
        args: &(impl EmitArgs + ?Sized),
    ) -> Result<Self, EncodeError> {
        Self::with_args(kind::ACK, namespace, Some(id), None, args)
    }

    /// An acknowledgement whose arguments are JSON already.
    pub fn ack_raw(namespace: &str, id: u64, args_json: &str, attachments: &[Bytes]) -> Self {
        Self::with_args(kind::ACK, namespace, Some(id), None, &Raw(args_json, attachments))
            .expect("JSON as it is can be written")
    }

    /// Tells a client that it is connected to a namespace: `json` is `{"sid":…}`.
    pub fn connect(namespace: &str, json: &str) -> Self {
        Self::with_json(kind::CONNECT, namespace, json)
    }

    /// Refuses a connection to a namespace: `json` is `{"message":…}`.
    pub fn connect_error(namespace: &str, json: &str) -> Self {
        Self::with_json(kind::CONNECT_ERROR, namespace, json)
    }

    /// Tells a client that it is disconnected from a namespace.
    pub fn disconnect(namespace: &str) -> Self {
        Self::with_json(kind::DISCONNECT, namespace, "")
    }

    /// An Engine.IO packet of its own: open, ping, noop, close …
    pub fn engine(packet: &engine::Packet<'_>) -> Self {
        let mut buffer = new_buffer();
        packet.encode_text(&mut buffer);
        finish(buffer, &[], false).for_many()
    }

    /// Whole WebSocket frames, such as a pong or a close frame. They have no long-polling form.
    pub fn frames(frames: Vec<u8>) -> Self {
        Self(Arc::new(Inner::new(frames, 0..0, Box::default(), false))).without_compression()
    }

    /// The same packet, which goes uncompressed to everyone.
    #[must_use]
    pub fn without_compression(mut self) -> Self {
        Arc::make_mut(&mut self.0).compress = false;
        self
    }

    /// The same packet, which goes to many: where it is compressed, one form serves all of them,
    /// also those that have a context of their own.
    #[must_use]
    pub fn for_many(mut self) -> Self {
        Arc::make_mut(&mut self.0).for_many = true;
        self
    }

    pub(super) fn is_for_many(&self) -> bool {
        self.0.for_many
    }

    /// Whether it may be compressed, whatever carries it.
    pub fn may_be_compressed(&self) -> bool {
        self.0.compress
    }

    /// All WebSocket frames of it, as a server sends them: the text, then each attachment.
    #[inline]
    pub fn wire(&self) -> &[u8] {
        &self.0.wire
    }

    /// How many bytes of memory it holds, but for the forms of it that some clients need, which
    /// are about as long or shorter. It stays the same for as long as there is the packet.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        let counts = 2 * size_of::<usize>();
        let ranges = self.0.attachments.len() * size_of::<Range<usize>>();
        counts + size_of::<Inner>() + self.0.wire.len() + ranges
    }

    /// The length of the long-polling form in bytes.
    pub fn payload_len(&self) -> usize {
        let separator_and_b = 2;
        let binary = |range: &Range<usize>| range.len().div_ceil(3) * 4 + separator_and_b;
        let len = self.0.text.len() + self.0.attachments.iter().map(binary).sum::<usize>();
        // Binary data that is a packet itself has nothing before it.
        len - usize::from(self.0.text.is_empty() && len > 0)
    }

    /// Appends the long-polling form: the text, and behind separators each attachment as
    /// `b` and base64.
    pub fn write_payload(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.wire[self.0.text.clone()]);
        for (index, attachment) in self.attachments().enumerate() {
            if index > 0 || !self.0.text.is_empty() {
                out.push(engine::payload::SEPARATOR);
            }
            out.push(b'b');
            let start = out.len();
            out.resize(start + attachment.len().div_ceil(3) * 4, 0);
            STANDARD
                .encode_slice(attachment, &mut out[start..])
                .expect("the room is as long as base64 with padding is");
        }
    }

    /// The Socket.IO packet's text, without Engine.IO's `4`.
    pub fn text(&self) -> &str {
        let text = self.0.wire.get(self.0.text.start + 1..self.0.text.end).unwrap_or_default();
        std::str::from_utf8(text).expect("a packet's text is UTF-8")
    }

    /// The JSON of the Socket.IO packet: of an event its list, the name first. Empty if it has
    /// none.
    pub fn json(&self) -> &str {
        packet::split(self.text(), usize::MAX).map_or("", |parts| parts.json)
    }

    /// The binary attachments.
    pub fn attachments(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.attachments.iter().map(|range| &self.0.wire[range.clone()])
    }

    /// The name of an event; `None` for other packets.
    pub fn event_name(&self) -> Option<Cow<'_, str>> {
        let parts = packet::split(self.text(), usize::MAX).ok()?;
        if !matches!(parts.kind, kind::EVENT | kind::BINARY_EVENT) {
            return None;
        }
        packet::read_event(parts.json, usize::MAX).ok()?.map(|(name, _)| name)
    }

    /// An event's arguments, as its receiver will read them; `None` for other packets. It reads
    /// the text again and copies the attachments: for those who look on, not for sending.
    pub fn event_args(&self) -> Option<OwnedArgs> {
        let parts = packet::split(self.text(), usize::MAX).ok()?;
        if !matches!(parts.kind, kind::EVENT | kind::BINARY_EVENT) {
            return None;
        }
        let (_, json) = packet::read_event(parts.json, usize::MAX).ok()??;
        let attachments = self.attachments().map(Bytes::copy_from_slice).collect();
        Some(OwnedArgs::new(json, attachments))
    }

    fn with_args(
        packet: u8,
        namespace: &str,
        id: Option<u64>,
        event: Option<&Name<'_>>,
        args: &(impl EmitArgs + ?Sized),
    ) -> Result<Self, EncodeError> {
        let (buffer, attachments) = write_args(packet, namespace, id, event, args)?;
        Ok(finish_args(buffer, &attachments))
    }

    fn with_json(packet: u8, namespace: &str, json: &str) -> Self {
        let mut buffer = new_buffer();
        write_prefix(&mut buffer, 0, packet, namespace, None);
        buffer.extend_from_slice(json.as_bytes());
        finish(buffer, &[], true)
    }
}

impl fmt::Debug for EncodedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.0.wire[self.0.text.clone()]);
        write!(f, "EncodedPacket({text:?}, {} attachments)", self.0.attachments.len())
    }
}

impl Inner {
    fn new(
        wire: Vec<u8>,
        text: Range<usize>,
        attachments: Box<[Range<usize>]>,
        is_json: bool,
    ) -> Self {
        let wire = wire.into_boxed_slice();
        let forms = OnceLock::new();
        Self { wire, text, attachments, compress: true, for_many: false, is_json, forms }
    }

    fn forms(&self) -> &Forms {
        self.forms.get_or_init(Box::default)
    }
}

/// A name that an event may have.
pub(super) fn allowed(name: Name<'_>) -> Result<Name<'_>, EncodeError> {
    match name.as_text().filter(|name| RESERVED_EVENTS.contains(name)) {
        Some(reserved) => Err(EncodeError::Reserved(reserved.to_owned())),
        None => Ok(name),
    }
}

/// A packet up to its last argument, and its attachments.
pub(super) fn write_args(
    packet: u8,
    namespace: &str,
    id: Option<u64>,
    event: Option<&Name<'_>>,
    args: &(impl EmitArgs + ?Sized),
) -> Result<(Vec<u8>, Vec<Bytes>), EncodeError> {
    let mut buffer = new_buffer();
    write_prefix(&mut buffer, 0, packet, namespace, id);
    let json = buffer.len();
    buffer.push(b'[');
    if let Some(event) = event {
        event.write(&mut buffer);
    }
    let mut attachments = Vec::new();
    args.write(&mut ArgsWriter::new(&mut buffer, &mut attachments, event.is_some()))?;
    if !attachments.is_empty() {
        // Only now is it known to be a binary packet, whose prefix tells how many follow.
        let mut binary = new_buffer();
        write_prefix(&mut binary, attachments.len(), packet, namespace, id);
        binary.extend_from_slice(&buffer[json..]);
        buffer = binary;
    }
    Ok((buffer, attachments))
}

/// What [`write_args`] has made of an event.
pub(super) fn reopen(event: &EncodedPacket) -> (Vec<u8>, Vec<Bytes>) {
    let mut buffer = new_buffer();
    let text = &event.0.wire[event.0.text.clone()];
    buffer.extend_from_slice(text.strip_suffix(b"]").unwrap_or(text));
    (buffer, event.attachments().map(Bytes::copy_from_slice).collect())
}

/// Ends what [`write_args`] has begun.
pub(super) fn finish_args(mut buffer: Vec<u8>, attachments: &[Bytes]) -> EncodedPacket {
    buffer.push(b']');
    finish(buffer, attachments, true)
}

/// A buffer with room for the frame header in front. What is written in it is copied once it is
/// known how long it is, so that a packet that waits holds no more than it is; what is long and
/// fills its buffer stays there.
fn new_buffer() -> Vec<u8> {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    buffer.resize(HEADER_BYTES_MAX, 0);
    buffer
}

/// What stands before a packet's JSON; with attachments it is of the binary kind.
fn write_prefix(
    out: &mut Vec<u8>,
    attachments: usize,
    packet: u8,
    namespace: &str,
    id: Option<u64>,
) {
    if attachments == 0 {
        out.extend_from_slice(&[b'4', packet]);
    } else {
        out.extend_from_slice(&[b'4', packet + kind::TO_BINARY]);
        out.extend_from_slice(itoa::Buffer::new().format(attachments).as_bytes());
        out.push(b'-');
    }
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    }
}

/// Puts the frame header in front of the text, and the attachments' frames behind it.
fn finish(mut buffer: Vec<u8>, attachments: &[Bytes], is_json: bool) -> EncodedPacket {
    let text_end = buffer.len();
    let text_len = text_end - HEADER_BYTES_MAX;
    write_header(&mut buffer, Opcode::Text, text_len);
    let header_len = buffer.len() - text_end;
    let start = HEADER_BYTES_MAX - header_len;
    buffer.copy_within(text_end.., start);
    buffer.truncate(text_end);
    let frames: usize = attachments.iter().map(|data| HEADER_BYTES_MAX + data.len()).sum();
    // The header of a long text takes all the room in front.
    let fills = start == 0 && buffer.capacity() - text_end <= text_end / 8;
    let mut wire = if fills {
        buffer.reserve_exact(frames);
        buffer
    } else {
        let mut wire = Vec::with_capacity(text_end - start + frames);
        wire.extend_from_slice(&buffer[start..]);
        if buffer.capacity() <= SCRATCH_BYTES_MAX {
            SCRATCH.set(buffer);
        }
        wire
    };
    let attachments = attachments
        .iter()
        .map(|attachment| {
            write_header(&mut wire, Opcode::Binary, attachment.len());
            let start = wire.len();
            wire.extend_from_slice(attachment);
            start..wire.len()
        })
        .collect();
    let text = header_len..header_len + text_len;
    EncodedPacket(Arc::new(Inner::new(wire, text, attachments, is_json)))
}

/// Arguments that are JSON already.
struct Raw<'a>(&'a str, &'a [Bytes]);

impl EmitArgs for Raw<'_> {
    fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        out.raw(self.0, self.1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Binary;

    #[test]
    fn packets_have_the_official_form() {
        let event =
            EncodedPacket::event("/", Some(12), "a \"b\"", &("x", 1, [true])).expect("JSON");
        assert_eq!(event.text(), r#"212["a \"b\"","x",1,[true]]"#);
        let none = EncodedPacket::event("/admin", None, "e", &()).expect("JSON");
        assert_eq!(none.text(), r#"2/admin,["e"]"#);
        assert_eq!(EncodedPacket::ack("/", 7, &()).expect("JSON").text(), "37[]");
        assert_eq!(EncodedPacket::ack("/a", 7, &"x").expect("JSON").text(), r#"3/a,7["x"]"#);
        assert_eq!(EncodedPacket::connect("/", r#"{"sid":"s"}"#).text(), r#"0{"sid":"s"}"#);
        assert_eq!(EncodedPacket::disconnect("/a").text(), "1/a,");
    }

    #[test]
    fn wire_and_payload_carry_the_same() {
        let data = (Binary::from(vec![1, 2]), "x", vec![Binary::from(Vec::new())]);
        let packet = EncodedPacket::event("/", None, "e", &data).expect("JSON");
        let text = concat!(
            r#"52-["e",{"_placeholder":true,"num":0},"x","#,
            r#"[{"_placeholder":true,"num":1}]]"#
        );
        assert_eq!(packet.text(), text);
        let mut payload = Vec::new();
        packet.write_payload(&mut payload);
        assert_eq!(payload, format!("4{text}\x1ebAQI=\x1eb").into_bytes());
        assert_eq!(payload.len(), packet.payload_len());
        let wire = packet.wire();
        assert_eq!(wire[0], 0x81);
        assert!(wire.ends_with(&[0x82, 2, 1, 2, 0x82, 0]));
    }

    #[test]
    fn an_attachment_without_a_placeholder_is_passed_on_too() {
        for (args, text) in [("", r#"51-["e"]"#), ("1", r#"51-["e",1]"#)] {
            let packet =
                EncodedPacket::event_raw("/", None, "e", args, &[Bytes::from_static(b"x")]);
            assert_eq!(packet.text(), text);
            assert_eq!(packet.attachments().collect::<Vec<_>>(), [b"x"]);
        }
    }

    #[test]
    fn frame_headers_grow_with_the_text() {
        for (len, header) in [(10, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let overhead = r#"42["e",""]"#.len();
            let Some(fill) = usize::checked_sub(len, overhead) else { continue };
            let packet = EncodedPacket::event("/", None, "e", &"x".repeat(fill)).expect("JSON");
            assert_eq!(packet.wire().len(), header + len);
            assert!(packet.wire().ends_with(b"x\"]") || fill == 0);
        }
    }

    #[test]
    fn reserved_names_are_refused() {
        for name in RESERVED_EVENTS {
            let error = EncodedPacket::event("/", None, name, &()).expect_err("reserved");
            assert!(matches!(error, EncodeError::Reserved(_)));
        }
    }

    #[test]
    fn numbers_are_names_too() {
        for (name, text) in [(7, "2[7,1]"), (-1, "2[-1,1]")] {
            let packet = EncodedPacket::event("/", None, name, &1).expect("JSON");
            assert_eq!(packet.text(), text);
        }
        let packet = EncodedPacket::event("/", None, String::from("7"), &1).expect("JSON");
        assert_eq!(packet.text(), r#"2["7",1]"#);
    }

    #[test]
    fn the_arguments_of_an_event_can_be_read_again() {
        let args = ("x", Binary::from(vec![1]), vec![Binary::from(vec![2, 3])]);
        for (namespace, id) in [("/", None), ("/a", Some(3))] {
            let packet = EncodedPacket::event(namespace, id, "e", &args).expect("JSON");
            let read = packet.event_args().expect("an event");
            let read: (String, Binary, Vec<Binary>) = read.cursor().rest().expect("the same");
            assert_eq!(read, ("x".to_owned(), args.1.clone(), args.2.clone()));
        }
        let none = EncodedPacket::event("/", None, 7, &()).expect("JSON");
        assert_eq!(none.event_args(), Some(OwnedArgs::default()));
        assert_eq!(EncodedPacket::ack("/", 1, &args).expect("JSON").event_args(), None);
        assert_eq!(EncodedPacket::disconnect("/").event_args(), None);
    }

    #[test]
    fn an_event_can_be_made_of_its_list() {
        let raw = |json: &str| serde_json::from_str::<Box<RawValue>>(json).expect("JSON");
        let list = |json: &str| EncodedPacket::event_list("/a", Some(3), &raw(json), &[]);
        assert_eq!(list(r#" [7 , "x"] "#).expect("an event").text(), r#"2/a,3[7 , "x"]"#);
        for json in ["[]", "[null]", "{}", "1", r#"["connect"]"#, "\"[]\""] {
            assert!(list(json).is_err(), "{json}");
        }
        let args = ("x", Binary::from(vec![1]), [Binary::from(vec![2, 3])]);
        let packet = EncodedPacket::event("/", Some(12), "e", &args).expect("JSON");
        let attachments: Vec<_> = packet.attachments().map(Bytes::copy_from_slice).collect();
        let same = EncodedPacket::event_list("/", Some(12), &raw(packet.json()), &attachments);
        assert_eq!(same.expect("an event").wire(), packet.wire());
        let without = EncodedPacket::event("/b", None, "e", &args).expect("JSON");
        assert_eq!(packet.event_again("/b", None).wire(), without.wire());
    }

    #[test]
    fn h41_encoding_leaves_the_callers_data_alone() {
        let data = vec![Binary::from(vec![1])];
        let first = EncodedPacket::event("/", None, "e", &data).expect("JSON");
        let second = EncodedPacket::event("/", None, "e", &data).expect("JSON");
        assert_eq!(first.wire(), second.wire());
        assert_eq!(data, vec![Binary::from(vec![1])]);
    }
}
