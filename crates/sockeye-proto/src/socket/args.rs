//! Arguments of events and acknowledgements: validated JSON that nobody has read yet, and the
//! cursor that reads it. Does not know which packet they came in.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::binary::with_attachments;
use super::emit::{ArgsWriter, EmitArgs, EncodeError};

/// Arguments as they came: the JSON of the list's elements without its brackets, and the
/// attachments that placeholders in it stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args<'a> {
    json: &'a str,
    attachments: Vec<Bytes>,
}

/// [`Args`] that own their text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedArgs {
    json: Box<str>,
    attachments: Vec<Bytes>,
}

impl<'a> Args<'a> {
    /// `json` is valid: elements with commas between.
    pub(super) fn new(json: &'a str, attachments: Vec<Bytes>) -> Self {
        Self { json, attachments }
    }

    /// The elements' JSON, with commas between them.
    pub fn raw(&self) -> &'a str {
        self.json
    }

    /// The binary attachments, in the order of their placeholders' numbers.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Reads them one by one.
    pub fn cursor(&self) -> ArgsCursor<'_> {
        ArgsCursor { rest: self.json, attachments: &self.attachments, index: 0 }
    }

    /// A copy that owns its text; the attachments are shared.
    pub fn to_owned_args(&self) -> OwnedArgs {
        self.clone().into_owned()
    }

    /// The same, owning its text.
    pub fn into_owned(self) -> OwnedArgs {
        OwnedArgs { json: self.json.into(), attachments: self.attachments }
    }
}

impl OwnedArgs {
    /// `json` is valid: elements with commas between.
    pub(super) fn new(json: &str, attachments: Vec<Bytes>) -> Self {
        Self { json: json.into(), attachments }
    }

    /// One argument, with placeholders in it that count from 0.
    pub fn one(json: &RawValue, attachments: Vec<Bytes>) -> Self {
        Self::new(json.get(), attachments)
    }

    /// What a list holds, with placeholders in it that count from 0; `None` if it is no list.
    pub fn list(json: &RawValue, attachments: Vec<Bytes>) -> Option<Self> {
        let elements = json.get().strip_prefix('[')?.strip_suffix(']')?;
        Some(Self::new(elements.trim_ascii(), attachments))
    }

    /// Writes arguments as an emit does.
    ///
    /// # Errors
    /// They cannot be JSON.
    pub fn write(args: &(impl EmitArgs + ?Sized)) -> Result<Self, EncodeError> {
        let (mut json, mut attachments) = (Vec::new(), Vec::new());
        args.write(&mut ArgsWriter::new(&mut json, &mut attachments, false))?;
        let json = std::str::from_utf8(&json).expect("JSON is UTF-8");
        Ok(Self::new(json, attachments))
    }

    /// The first of them alone, with all attachments.
    pub fn into_first(self) -> Self {
        let len = element_len(self.json.as_bytes());
        if len == self.json.len() {
            return self;
        }
        Self::new(self.json[..len].trim_ascii(), self.attachments)
    }

    /// The elements' JSON, with commas between them.
    pub fn raw(&self) -> &str {
        &self.json
    }

    /// The binary attachments, in the order of their placeholders' numbers.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Reads them one by one.
    pub fn cursor(&self) -> ArgsCursor<'_> {
        ArgsCursor { rest: &self.json, attachments: &self.attachments, index: 0 }
    }
}

/// Reads arguments, one after the other or all that are left.
#[derive(Clone, Debug)]
pub struct ArgsCursor<'a> {
    rest: &'a str,
    attachments: &'a [Bytes],
    /// How many have been read.
    index: usize,
}

/// An argument is not of the expected type.
#[derive(Debug)]
pub struct ArgError {
    index: Option<usize>,
    error: serde_json::Error,
}

impl fmt::Display for ArgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "argument {}: {}", index + 1, self.error),
            None => write!(f, "arguments: {}", self.error),
        }
    }
}

impl std::error::Error for ArgError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<'a> ArgsCursor<'a> {
    /// Reads the next argument. A missing one is `null`, as `undefined` is in JavaScript.
    ///
    /// # Errors
    /// It is not a `T`; the cursor is then behind it all the same.
    #[expect(clippy::should_implement_trait, reason = "each argument has a type of its own")]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<T, ArgError> {
        let index = self.index;
        self.index += 1;
        let text = self.take();
        let text = if text.is_empty() { "null" } else { text };
        with_attachments(self.attachments, || serde_json::from_str(text))
            .map_err(|error| ArgError { index: Some(index), error })
    }

    /// Reads all that are left as one list: a tuple, a `Vec<T>`.
    ///
    /// # Errors
    /// They are not a `T`.
    pub fn rest<T: DeserializeOwned>(&mut self) -> Result<T, ArgError> {
        let list = format!("[{}]", std::mem::take(&mut self.rest));
        with_attachments(self.attachments, || serde_json::from_str(&list))
            .map_err(|error| ArgError { index: None, error })
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.rest.trim_ascii().is_empty()
    }

    /// All that are left, unread.
    pub fn rest_owned(&mut self) -> OwnedArgs {
        let json = std::mem::take(&mut self.rest).into();
        OwnedArgs { json, attachments: self.attachments.to_vec() }
    }

    /// The text of the next argument; empty if there is none.
    fn take(&mut self) -> &'a str {
        let rest = self.rest;
        let end = element_len(rest.as_bytes());
        self.rest = rest.get(end + 1..).unwrap_or("");
        rest[..end].trim_ascii()
    }
}

/// How far the first element of a valid list reaches: up to a comma outside strings and brackets.
fn element_len(json: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => at += string_len(&json[at..]) - 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

/// The length of the string that a JSON text begins with, its quotes included. One that does not
/// end, in a text that is not valid, has all that is left.
pub(super) fn string_len(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(rest) = json.get(at..)
        && let Some(found) = memchr::memchr2(b'"', b'\\', rest)
    {
        at += found + 1;
        if json[at - 1] == b'"' {
            return at;
        }
        // Whatever is escaped is no quote; there may be nothing behind the backslash.
        at += 1;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Binary;

    fn args(json: &str) -> Args<'_> {
        Args::new(json, Vec::new())
    }

    #[test]
    fn the_length_of_a_string() {
        for (json, len) in [
            (r#""","#, 2),
            (r#""a"b"#, 3),
            (r#""a\"b\\""#, 8),
            // In a text that is not valid a string need not end.
            (r#"""#, 1),
            (r#""a"#, 2),
            (r#""a\"#, 3),
            (r#""a\""#, 4),
        ] {
            assert_eq!(string_len(json.as_bytes()), len, "{json}");
        }
    }

    #[test]
    fn arguments_are_read_one_by_one() {
        let args = args(r#""a, \"b\"" , {"x":[1,2,{"y":"}"}]},3"#);
        let mut cursor = args.cursor();
        assert_eq!(cursor.next::<String>().expect("text"), "a, \"b\"");
        assert_eq!(cursor.next::<serde_json::Value>().expect("JSON")["x"][1], 2);
        assert_eq!(cursor.next::<u8>().expect("a number"), 3);
        assert_eq!(cursor.next::<Option<u8>>().expect("nothing"), None);
        let error = cursor.next::<u8>().expect_err("nothing is no number");
        assert!(error.to_string().starts_with("argument 5:"), "{error}");
    }

    #[test]
    fn a_wrong_argument_is_passed_over() {
        let args = args("\"a\",2");
        let mut cursor = args.cursor();
        assert!(cursor.next::<u8>().is_err());
        assert_eq!(cursor.next::<u8>().expect("a number"), 2);
    }

    #[test]
    fn the_rest_is_a_list() {
        let args = args("1,\"a\",[2]");
        let mut cursor = args.cursor();
        assert_eq!(cursor.next::<u8>().expect("a number"), 1);
        assert_eq!(cursor.clone().rest_owned().raw(), "\"a\",[2]");
        assert_eq!(cursor.rest::<(String, Vec<u8>)>().expect("two"), ("a".into(), vec![2]));
        assert!(cursor.is_empty());
        assert_eq!(cursor.rest::<Vec<u8>>().expect("none"), Vec::<u8>::new());
        assert!(!self::args("null").cursor().is_empty());
    }

    #[test]
    fn arguments_can_be_made() {
        let raw = |json: &str| serde_json::from_str::<Box<RawValue>>(json).expect("JSON");
        let list = OwnedArgs::list(&raw(r#"[ "a,b" , [1] ]"#), Vec::new()).expect("a list");
        assert_eq!(list.raw(), r#""a,b" , [1]"#);
        assert_eq!(list.into_first().raw(), r#""a,b""#);
        assert_eq!(OwnedArgs::list(&raw("{}"), Vec::new()), None);
        assert_eq!(OwnedArgs::one(&raw(" 1 "), Vec::new()).into_first().raw(), "1");
        let args = (Binary::from(vec![7]), "x");
        let written = OwnedArgs::write(&args).expect("JSON");
        assert_eq!(written.cursor().rest::<(Binary, String)>().expect("two"), (args.0, "x".into()));
        assert_eq!(OwnedArgs::write(&()).expect("JSON"), OwnedArgs::default());
    }

    #[test]
    fn placeholders_are_attachments() {
        let json = r#"{"_placeholder":true,"num":1},[{"num":0,"_placeholder":true}]"#;
        let args = Args::new(json, vec![Bytes::from_static(b"zero"), Bytes::from_static(b"one")]);
        let mut cursor = args.cursor();
        assert_eq!(&*cursor.next::<Binary>().expect("binary"), b"one");
        assert_eq!(&*cursor.next::<Vec<Binary>>().expect("a list")[0], b"zero");
        let stringified =
            super::tests::args(r#"{"type":"Buffer","data":[0,255]},{"type":"x","data":[]}"#);
        let mut cursor = stringified.cursor();
        assert_eq!(&*cursor.next::<Binary>().expect("a Buffer"), [0, 255]);
        assert!(cursor.next::<Binary>().is_err());
    }
}
