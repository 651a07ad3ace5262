//! Headers whose values are lists: tokens, subprotocols, extensions (RFC 9110 §5.6, RFC 6455 §9.1).
//! Does not know what the entries mean. Each byte is looked at once, whatever the peer wrote.

use std::borrow::Cow;
use std::collections::BTreeSet;

/// The header's value does not follow its grammar.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Whether `bytes` are a token (RFC 9110 §5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether one of the comma-separated entries is `token`, in whatever case.
pub(super) fn contains<'a>(values: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    values
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|entry| entry.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// The subprotocols of `Sec-WebSocket-Protocol`, in order: tokens, none of them twice.
pub(super) fn protocols<'a>(
    values: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<&'a str>, Malformed> {
    let mut protocols = Vec::new();
    // Ordered, not hashed: no randomness in this crate, and no quadratic search either.
    let mut seen = BTreeSet::new();
    for entry in values.flat_map(|value| value.split(|byte| *byte == b',')) {
        let entry = entry.trim_ascii();
        if !is_token(entry) || !seen.insert(entry) {
            return Err(Malformed);
        }
        protocols.push(str::from_utf8(entry).map_err(|_| Malformed)?);
    }
    Ok(protocols)
}

/// An entry of `Sec-WebSocket-Extensions`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    parameters: Vec<Parameter<'a>>,
}

impl Extension<'_> {
    /// The parameters' names, with their values.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.parameters.iter().map(|parameter| (parameter.name, parameter.value.as_deref()))
    }
}

/// A parameter of an extension; a quoted value without its quotes.
#[derive(Debug, PartialEq, Eq)]
struct Parameter<'a> {
    name: &'a str,
    value: Option<Cow<'a, str>>,
}

/// Reads a value of `Sec-WebSocket-Extensions`, whose grammar is:
///
/// ```text
/// list = extension *( "," extension )      extension = token *( ";" parameter )
/// parameter = token [ "=" ( token / quoted token ) ]
/// ```
pub(super) fn extensions(value: &[u8]) -> Result<Vec<Extension<'_>>, Malformed> {
    let mut scanner = Scanner { rest: value };
    let mut extensions = Vec::new();
    loop {
        extensions.push(scanner.extension()?);
        if scanner.rest.is_empty() {
            return Ok(extensions);
        }
        if !scanner.eat(b',') {
            return Err(Malformed);
        }
    }
}

/// Reads a header's value from left to right. Between its steps optional whitespace is skipped.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn extension(&mut self) -> Result<Extension<'a>, Malformed> {
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.eat(b';') {
            let name = self.token()?;
            let value = if self.eat(b'=') { Some(self.parameter_value()?) } else { None };
            parameters.push(Parameter { name, value });
        }
        Ok(Extension { name, parameters })
    }

    fn skip_whitespace(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        self.skip_whitespace();
        let len = self.rest.iter().take_while(|byte| is_token_byte(**byte)).count();
        let (token, rest) = self.rest.split_at(len);
        if token.is_empty() {
            return Err(Malformed);
        }
        self.rest = rest;
        self.skip_whitespace();
        str::from_utf8(token).map_err(|_| Malformed)
    }

    fn parameter_value(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.skip_whitespace();
        if !self.eat(b'"') {
            return self.token().map(Cow::Borrowed);
        }
        // RFC 6455 §9.1: "When using the quoted-string syntax variant, the value after
        // quoted-string unescaping MUST conform to the 'token' ABNF."
        let mut value = String::new();
        loop {
            match self.rest {
                [b'"', rest @ ..] if !value.is_empty() => {
                    self.rest = rest;
                    self.skip_whitespace();
                    return Ok(Cow::Owned(value));
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] if is_token_byte(*byte) => {
                    self.rest = rest;
                    value.push(char::from(*byte));
                }
                _ => return Err(Malformed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_whatever_case_and_place() {
        let contains = |values: &[&'static str]| {
            contains(values.iter().map(|value| value.as_bytes()), "upgrade")
        };
        assert!(contains(&["Upgrade"]));
        assert!(contains(&["keep-alive, UPGRADE"]));
        assert!(contains(&["keep-alive", ",\tupgrade ,"]));
        assert!(!contains(&["upgrades", "up grade", ""]));
        assert!(!contains(&[]));
    }

    #[test]
    fn subprotocols() {
        let protocols =
            |values: &[&'static str]| protocols(values.iter().map(|value| value.as_bytes()));
        assert_eq!(protocols(&[]), Ok(vec![]));
        assert_eq!(protocols(&["chat"]), Ok(vec!["chat"]));
        assert_eq!(protocols(&["v2.chat , v1.chat", "!#$%&'*+-.^_`|~"]).unwrap().len(), 3);
        for malformed in ["", ",", "a,", ",a", "a,,b", "a b", "a;b", "\"a\"", "a, a", "é", "a\0"] {
            assert_eq!(protocols(&[malformed]), Err(Malformed), "{malformed:?}");
        }
        assert_eq!(protocols(&["a", "b, a"]), Err(Malformed));
    }

    #[test]
    fn extensions_that_follow_the_grammar() {
        for value in [
            "foo",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;server_max_window_bits=10,x",
            " a ;\tb = c ; d = \"e\" , f ",
            r#"a; b="\c\d""#,
            "__proto__; constructor=1",
        ] {
            assert!(extensions(value.as_bytes()).is_ok(), "{value:?}");
        }
    }

    #[test]
    fn extensions_that_do_not() {
        for value in [
            "",
            ",",
            "a,",
            ",a",
            "a,,b",
            "a;",
            ";a",
            "a;;b",
            "a; =b",
            "a; b=",
            "a; b=c d",
            "a b",
            "a=b",
            "a; b=\"\"",
            "a; b=\"c",
            "a; b=\"c d\"",
            "a; b=\"c\"d",
            r#"a; b="\""#,
            "a; b=\"é\"",
            "a; b=\"c\\\"",
            "a\0",
        ] {
            assert_eq!(extensions(value.as_bytes()), Err(Malformed), "{value:?}");
        }
    }

    #[test]
    fn the_parts_of_extensions() {
        let parameter =
            |name, value: Option<&'static str>| Parameter { name, value: value.map(Cow::Borrowed) };
        let extension = |name, parameters| Extension { name, parameters };
        let expected = vec![
            extension("permessage-deflate", vec![parameter("a", None), parameter("b", Some("10"))]),
            extension("__proto__", vec![parameter("c", Some("de"))]),
            extension("x", vec![]),
        ];
        let value = br#"permessage-deflate; a ; b = "1\0", __proto__;c=de ,x"#;
        assert_eq!(extensions(value), Ok(expected));
    }
}
