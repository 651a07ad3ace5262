//! Messages as applications hold them: owned, cheap to clone, text checked.
//! Knows nothing of frames; `driver` turns messages into them and back.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

use crate::close::CloseCode;
use crate::utf8::{self, InvalidUtf8};

/// A message or a control frame, received or to be sent.
///
/// It owns its data; a clone shares them. From a text it becomes a text message, from bytes a
/// binary one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(Text),
    /// A binary message.
    Binary(Bytes),
    /// A ping. One that is received has been answered already; one to be sent holds at most 125
    /// bytes.
    Ping(Bytes),
    /// A pong, asked for or not. One to be sent holds at most 125 bytes.
    Pong(Bytes),
    /// The closing handshake, with the code and the reason if the frame has any. Received it is
    /// the last message; sent it is as good as
    /// [`start_close`](super::WebSocket::start_close).
    Close(Option<CloseFrame>),
}

/// What a close frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The status code.
    pub code: CloseCode,
    /// The reason, for a log; often empty, at most 123 bytes.
    pub reason: Text,
}

/// A part of a message that is received as it arrives, or a control frame that stands between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePart {
    /// The part's data; of a text whole characters. A control frame is whole.
    pub message: Message,
    /// Whether the message begins with it.
    pub first: bool,
    /// Whether the message ends with it.
    pub last: bool,
}

impl From<Message> for MessagePart {
    /// A message that is its only part.
    fn from(message: Message) -> Self {
        Self { message, first: true, last: true }
    }
}

impl Message {
    /// A text message.
    pub fn text(text: impl Into<Text>) -> Self {
        Self::Text(text.into())
    }

    /// A binary message.
    pub fn binary(data: impl Into<Bytes>) -> Self {
        Self::Binary(data.into())
    }

    /// Whether this is text or binary: what the peer's application sent, not its library.
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Binary(_))
    }

    /// The text of a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a text message, moved out.
    pub fn into_text(self) -> Option<Text> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The payload; a close frame's is its reason.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(frame) => frame.as_ref().map_or(b"", |frame| frame.reason.as_bytes()),
        }
    }

    /// The payload, moved out.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(frame) => frame.map_or_else(Bytes::new, |frame| frame.reason.into()),
        }
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Bytes> for Message {
    fn from(data: Bytes) -> Self {
        Self::Binary(data)
    }
}

impl From<Vec<u8>> for Message {
    fn from(data: Vec<u8>) -> Self {
        Self::Binary(data.into())
    }
}

impl From<&[u8]> for Message {
    /// With a copy.
    fn from(data: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(data))
    }
}

/// A text that is shared by its clones: [`Bytes`] that are known to be UTF-8.
///
/// It derefs to `str`. From a `String` it is made without a copy, from a `&str` with one.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(ByteString);

impl Text {
    /// A text that lives as long as the program; nothing is copied.
    pub const fn from_static(text: &'static str) -> Self {
        Self(ByteString::from_static(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(formatter)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<Cow<'_, str>> for Text {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<Text> for Bytes {
    fn from(text: Text) -> Self {
        text.0.into_bytes()
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.into()
    }
}

impl TryFrom<Bytes> for Text {
    type Error = InvalidUtf8;

    fn try_from(bytes: Bytes) -> Result<Self, InvalidUtf8> {
        utf8::validate(&bytes)?;
        // It has just been found to be valid; the string's own, slower look cannot fail.
        ByteString::try_from(bytes).map(Self).map_err(|_| InvalidUtf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_made_without_a_copy_from_what_owns_its_bytes() {
        let string = String::from("a text that lies on the heap");
        let address = string.as_ptr();
        let text = Text::from(string);
        assert_eq!((text.as_ptr(), text.clone().as_ptr()), (address, address));
        let bytes = Bytes::from(text);
        assert_eq!(bytes.as_ptr(), address);
        let text = Text::try_from(bytes).expect("it was a text");
        assert_eq!((text.as_ptr(), &text), (address, &"a text that lies on the heap".into()));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(Text::try_from(Bytes::from_static(b"\xED\xA0\x80")), Err(InvalidUtf8));
    }

    #[test]
    fn the_payload_of_each_kind() {
        let bytes = Bytes::from_static(b"x");
        let close = CloseFrame { code: CloseCode::NORMAL, reason: "x".into() };
        for message in [
            Message::text("x"),
            Message::binary(bytes.clone()),
            Message::Ping(bytes.clone()),
            Message::Pong(bytes),
            Message::Close(Some(close)),
        ] {
            assert_eq!(message.as_bytes(), b"x");
            assert_eq!(message.clone().into_bytes(), "x");
            let is_text = matches!(message, Message::Text(_));
            assert_eq!(message.as_text().is_some(), is_text);
            assert_eq!(message.clone().into_text(), is_text.then(|| "x".into()));
            assert_eq!(message.is_data(), is_text || matches!(message, Message::Binary(_)));
        }
        assert_eq!(Message::Close(None).into_bytes(), "");
        assert_eq!(Message::from(&b"x"[..]), Message::binary("x"));
    }
}
