//! JSON with placeholders, written as MessagePack; and the few values that go around it.
//! Does not know packets.

use rmp::encode;
use serde::de::Error as _;

use crate::socket::args::string_len;
use crate::socket::emit::EncodeError;

/// Reading recurses; JSON that anybody can read nests no deeper (`serde_json`: 127).
const DEPTH_MAX: usize = 128;

const VEC: &str = "memory takes all that is written";

/// Appends one JSON value; in it placeholders with the numbers of `attachments` become binary
/// data.
///
/// # Errors
/// It is no JSON, or it nests deeper than 128. What has been appended by then means nothing.
pub fn write_json<A: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    json: &str,
    attachments: &[A],
) -> Result<(), EncodeError> {
    let mut writer = Writer { json, at: 0, out, attachments, depth: 0 };
    writer.value()?;
    writer.skip_space();
    if writer.at < json.len() {
        return Err(invalid("trailing characters"));
    }
    Ok(())
}

/// Appends text.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    encode::write_str(out, text).expect(VEC);
}

/// Appends an integer in the shortest form.
pub fn write_uint(out: &mut Vec<u8>, value: u64) {
    encode::write_uint(out, value).expect(VEC);
}

/// Appends what an array of `len` elements begins with.
pub fn write_array_len(out: &mut Vec<u8>, len: u32) {
    encode::write_array_len(out, len).expect(VEC);
}

/// Appends what a map of `len` entries begins with.
pub fn write_map_len(out: &mut Vec<u8>, len: u32) {
    encode::write_map_len(out, len).expect(VEC);
}

fn invalid(what: &str) -> EncodeError {
    EncodeError::Json(serde_json::Error::custom(what))
}

/// JSON on its way: it is text that is valid already or nearly so. What is not is found where it
/// matters; a stray comma may pass.
struct Writer<'a, A> {
    json: &'a str,
    at: usize,
    out: &'a mut Vec<u8>,
    attachments: &'a [A],
    depth: usize,
}

impl<'a, A: AsRef<[u8]>> Writer<'a, A> {
    fn value(&mut self) -> Result<(), EncodeError> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => {
                let text = self.string()?;
                self.text(text)
            }
            Some(b'[') => self.nested(Self::array),
            Some(b'{') => self.nested(Self::object),
            Some(b't') => self.literal("true", |out| encode::write_bool(out, true)),
            Some(b'f') => self.literal("false", |out| encode::write_bool(out, false)),
            Some(b'n') => self.literal("null", encode::write_nil),
            _ => self.number(),
        }
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(invalid("it nests too deep"));
        }
        self.at += 1;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), EncodeError> {
        let start = self.out.len();
        self.out.push(0);
        let mut count = 0;
        while !self.ends_with(b']', count)? {
            self.value()?;
            count += 1;
        }
        set_len(self.out, start, count, [0x90, 0xdc, 0xdd])
    }

    fn object(&mut self) -> Result<(), EncodeError> {
        let start = self.out.len();
        self.out.push(0);
        let mut count = 0;
        let (mut is_placeholder, mut num) = (false, None);
        while !self.ends_with(b'}', count)? {
            if self.peek() != Some(b'"') {
                return Err(invalid("a key is no text"));
            }
            let key = self.string()?;
            self.text(key)?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(invalid("expected a colon"));
            }
            self.at += 1;
            self.skip_space();
            let value = self.at;
            self.value()?;
            match key {
                "_placeholder" => is_placeholder = &self.json[value..self.at] == "true",
                "num" => num = self.json[value..self.at].parse::<usize>().ok(),
                _ => {}
            }
            count += 1;
        }
        let attachment = num.filter(|_| is_placeholder).and_then(|num| self.attachments.get(num));
        if let Some(attachment) = attachment {
            self.out.truncate(start);
            encode::write_bin(self.out, attachment.as_ref()).expect(VEC);
            return Ok(());
        }
        set_len(self.out, start, count, [0x80, 0xde, 0xdf])
    }

    /// Passes over what stands before the next of `count` elements so far; whether it is the end.
    fn ends_with(&mut self, end: u8, count: usize) -> Result<bool, EncodeError> {
        self.skip_space();
        match self.peek() {
            Some(byte) if byte == end => {
                self.at += 1;
                return Ok(true);
            }
            Some(b',') if count > 0 => {
                self.at += 1;
                self.skip_space();
            }
            Some(_) if count == 0 => {}
            _ => return Err(invalid("expected a comma or the end")),
        }
        Ok(false)
    }

    /// Passes over a string; what is between its quotes.
    fn string(&mut self) -> Result<&'a str, EncodeError> {
        let rest = &self.json[self.at..];
        let len = string_len(rest.as_bytes());
        self.at += len;
        let inner = (len >= 2).then(|| rest.get(1..len - 1)).flatten();
        inner.filter(|_| rest.as_bytes()[len - 1] == b'"').ok_or_else(|| invalid("endless text"))
    }

    fn text(&mut self, inner: &str) -> Result<(), EncodeError> {
        if inner.contains('\\') {
            write_str(self.out, &unescape(inner).ok_or_else(|| invalid("invalid escape"))?);
        } else {
            write_str(self.out, inner);
        }
        Ok(())
    }

    fn literal<E>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), EncodeError> {
        if !self.json[self.at..].starts_with(name) {
            return Err(invalid("expected a value"));
        }
        self.at += name.len();
        write(self.out).map_err(|_| invalid(VEC))
    }

    fn number(&mut self) -> Result<(), EncodeError> {
        let rest = &self.json[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let len = rest.as_bytes().iter().take_while(|byte| is_part(byte)).count();
        self.at += len;
        let number = &rest[..len];
        if let Ok(value) = number.parse::<u64>() {
            write_uint(self.out, value);
        } else if let Ok(value) = number.parse::<i64>() {
            encode::write_sint(self.out, value).expect(VEC);
        } else {
            write_float(self.out, number.parse().map_err(|_| invalid("expected a value"))?);
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }
}

/// A number that is not written as an integer; one that is an integer all the same leaves as one,
/// as JavaScript has no other. Beyond 64 bits it is a float: notepack writes a 0 there.
fn write_float(out: &mut Vec<u8>, value: f64) {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if value.fract() != 0.0 || !(-TWO_63..TWO_63 * 2.0).contains(&value) {
        encode::write_f64(out, value).expect(VEC);
    } else if value < 0.0 {
        encode::write_sint(out, value as i64).expect(VEC);
    } else {
        write_uint(out, value as u64);
    }
}

/// Puts the length of an array or a map where one byte was left for it.
fn set_len(
    out: &mut Vec<u8>,
    start: usize,
    count: usize,
    [fix, len16, len32]: [u8; 3],
) -> Result<(), EncodeError> {
    if count < 16 {
        out[start] = fix | count as u8;
    } else if let Ok(count) = u16::try_from(count) {
        let [high, low] = count.to_be_bytes();
        out.splice(start..=start, [len16, high, low]);
    } else {
        let count = u32::try_from(count).map_err(|_| invalid("too many elements"))?;
        let header = std::iter::once(len32).chain(count.to_be_bytes());
        out.splice(start..=start, header);
    }
    Ok(())
}

/// The text of a JSON string. A lone surrogate, which is no text, becomes U+FFFD.
fn unescape(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        text.push(match escape {
            b'"' | b'\\' | b'/' => escape.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first;
                (first, rest) = hex(rest)?;
                let second = rest.strip_prefix("\\u").and_then(hex);
                let pair = second.and_then(|(second, behind)| {
                    let mut decoded = char::decode_utf16([first, second]);
                    let decoded = decoded.next()?.ok().filter(|c| c.len_utf16() == 2)?;
                    Some((decoded, behind))
                });
                if let Some((decoded, behind)) = pair {
                    rest = behind;
                    decoded
                } else {
                    char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
            }
            _ => return None,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// Four hexadecimal digits, and what is behind them.
fn hex(text: &str) -> Option<(u16, &str)> {
    let digits = text.get(..4).filter(|digits| !digits.starts_with('+'))?;
    Some((u16::from_str_radix(digits, 16).ok()?, &text[4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(json: &str, attachments: &[&[u8]]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        write_json(&mut out, json, attachments).ok().map(|()| out)
    }

    #[test]
    fn every_kind_of_value() {
        for (json, expected) in [
            (" null ", &b"\xc0"[..]),
            ("true", b"\xc3"),
            ("false", b"\xc2"),
            ("0", b"\x00"),
            ("-0.0", b"\x00"),
            ("127", b"\x7f"),
            ("128", b"\xcc\x80"),
            ("256", b"\xcd\x01\x00"),
            ("65536", b"\xce\x00\x01\x00\x00"),
            ("4294967296", b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
            ("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
            ("-32", b"\xe0"),
            ("-33", b"\xd0\xdf"),
            ("-129", b"\xd1\xff\x7f"),
            ("-32769", b"\xd2\xff\xff\x7f\xff"),
            ("-9223372036854775808", b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
            ("2.0", b"\x02"),
            ("1e2", b"\x64"),
            ("1.5", b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"),
            // Beyond 64 bits.
            ("18446744073709551616", b"\xcb\x43\xf0\x00\x00\x00\x00\x00\x00"),
            ("1e300", b"\xcb\x7e\x37\xe4\x3c\x88\x00\x75\x9c"),
            ("1e999", b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"),
            (r#""""#, b"\xa0"),
            (r#""a\"\\\/\b\f\n\r\t\u0000""#, b"\xaaa\"\\/\x08\x0c\n\r\t\0"),
            (r#""\u00e9é""#, b"\xa4\xc3\xa9\xc3\xa9"),
            (r#""\ud83d\ude00""#, b"\xa4\xf0\x9f\x98\x80"),
            // Lone surrogates are no text.
            (r#""\ud83d""#, b"\xa3\xef\xbf\xbd"),
            (r#""\ude00\u0041""#, b"\xa4\xef\xbf\xbdA"),
            (r#""\ud83d\ud83d\ude00""#, b"\xa7\xef\xbf\xbd\xf0\x9f\x98\x80"),
            (" [ 1 , [ ] ] ", b"\x92\x01\x90"),
            (r#"{"a" : {} , "b":[1]}"#, b"\x82\xa1a\x80\xa1b\x91\x01"),
        ] {
            assert_eq!(write(json, &[]).as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn long_lists_and_objects() {
        for (count, header) in
            [(15, &b"\x9f"[..]), (16, b"\xdc\x00\x10"), (65_536, b"\xdd\x00\x01\x00\x00")]
        {
            let json = format!("[[{}],7]", vec!["1"; count].join(","));
            let expected = [&b"\x92"[..], header, &vec![1; count], b"\x07"].concat();
            assert!(write(&json, &[]) == Some(expected), "{count}");
        }
        let json = format!("{{{}}}", vec![r#""":0"#; 16].join(","));
        let expected = [&b"\xde\x00\x10"[..], &b"\xa0\x00".repeat(16)].concat();
        assert_eq!(write(&json, &[]), Some(expected));
    }

    #[test]
    fn placeholders_become_what_they_stand_for() {
        let placeholder = |num| format!(r#"{{"_placeholder":true,"num":{num}}}"#);
        let [zero, one] = [0, 1].map(placeholder);
        let json = format!(r#"[{one},{{"a":{zero}}}]"#);
        let both = write(&json, &[b"0", b"11"]);
        assert_eq!(both.as_deref(), Some(&b"\x92\xc4\x0211\x81\xa1a\xc4\x010"[..]));
        // An object that only looks like one stays an object.
        for json in [&zero, &zero.replace("true", "1"), &zero.replace('0', "-1")] {
            let written = write(json, &[]).expect("JSON");
            assert!(written.starts_with(b"\x82\xac_placeholder"), "{json}");
        }
    }

    #[test]
    fn binary_data_can_be_inlined() {
        let json = r#"{"a":[{"_placeholder":true,"num":0},1.5]}"#;
        let inlined = crate::socket::msgpack::inline_json(json, &[&[0, 255][..]]);
        let expected = r#"{"a":[{"type":"Buffer","data":[0,255]},1.5]}"#;
        assert_eq!(inlined.expect("JSON"), expected);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for json in [
            "",
            " ",
            "x",
            "[",
            "[1",
            "[1 2]",
            "[,1]",
            "]",
            "{",
            "{1:2}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u+123\"",
            "1 2",
            "tru",
            "-",
            "1e",
            "1-1",
            "nul",
            "\"\\",
            "[1,,2]",
            "{,}",
        ] {
            assert_eq!(write(json, &[]), None, "{json}");
        }
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(write(&nested(128), &[]).is_some());
        assert_eq!(write(&nested(129), &[]), None);
        assert_eq!(write(&"[".repeat(200_000), &[]), None);
    }
}
