//! The name of an event as an application writes it: text, or a whole number.
//! Does not know which names are reserved.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The name of an event: `"message"`, `String`, or a whole number as in `emit(7, …)`.
///
/// A number leaves as a JSON number. As in JavaScript, whoever listens to `7` hears `"7"` too.
///
/// ```
/// use sockeye_proto::socket::{EncodedPacket, Name};
///
/// let packet = EncodedPacket::event("/", None, 7, &"seven")?;
/// assert_eq!(packet.text(), r#"2[7,"seven"]"#);
/// assert_eq!(Name::from(7).into_text(), Name::from("7").into_text());
/// # Ok::<(), sockeye_proto::socket::EncodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name<'a>(Kind<'a>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind<'a> {
    Text(Cow<'a, str>),
    Number(i64),
}

/// What names an event that is emitted: text (`&str`, `String` …) or a whole number. See [`Name`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the name of an event",
    note = "a name is text (`&str`, `String`, …) or a whole number of up to 32 bits, or `i64`"
)]
pub trait ToName {
    /// The name.
    fn to_name(&self) -> Name<'_>;
}

impl<'a> Name<'a> {
    /// The text, or the number's digits.
    pub fn into_text(self) -> Cow<'a, str> {
        match self.0 {
            Kind::Text(text) => text,
            Kind::Number(number) => Cow::Owned(number.to_string()),
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Kind::Text(text) => Some(text),
            Kind::Number(_) => None,
        }
    }

    /// Appends it as JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Kind::Text(text) => write_text(out, text),
            Kind::Number(number) => {
                out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            }
        }
    }
}

/// Most names need no escapes.
fn write_text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("text can be written to memory as JSON");
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Text(text) => f.write_str(text),
            Kind::Number(number) => number.fmt(f),
        }
    }
}

macro_rules! text {
    ($($type:ty;)*) => {
        $(impl ToName for $type {
            fn to_name(&self) -> Name<'_> {
                Name(Kind::Text(Cow::Borrowed(self)))
            }
        })*
    };
}

text! {
    str;
    String;
    Box<str>;
    Arc<str>;
    Cow<'_, str>;
}

macro_rules! number {
    ($($type:ty)*) => {
        $(impl ToName for $type {
            fn to_name(&self) -> Name<'_> {
                Name::from(*self)
            }
        }

        impl From<$type> for Name<'_> {
            fn from(number: $type) -> Self {
                Self(Kind::Number(number.into()))
            }
        })*
    };
}

number!(i8 i16 i32 i64 u8 u16 u32);

impl ToName for Name<'_> {
    fn to_name(&self) -> Name<'_> {
        match &self.0 {
            Kind::Text(text) => text.to_name(),
            Kind::Number(number) => number.to_name(),
        }
    }
}

impl<T: ToName + ?Sized> ToName for &T {
    fn to_name(&self) -> Name<'_> {
        (**self).to_name()
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(text: &'a str) -> Self {
        Self(Kind::Text(Cow::Borrowed(text)))
    }
}

impl From<String> for Name<'_> {
    fn from(text: String) -> Self {
        Self(Kind::Text(Cow::Owned(text)))
    }
}

impl<'a> From<Cow<'a, str>> for Name<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self(Kind::Text(text))
    }
}
