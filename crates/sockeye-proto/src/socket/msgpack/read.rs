//! MessagePack, read into JSON with attachments. Never trusts a length: what is not there cannot
//! be made room for. Does not know packets.

use bytes::Bytes;
use rmp::Marker;

use super::ReadLimits;
use super::date::iso_text;
use crate::socket::packet::Violation;

/// Extension types.
mod ext {
    /// The specification's timestamp.
    pub(super) const TIMESTAMP: i8 = -1;
    /// notepack 2's own: `undefined` (one byte), `Date` (eight), `ArrayBuffer`.
    pub(super) const NOTEPACK: i8 = 0;
}

/// The bounds of the integers that a double has exactly.
const SAFE_INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

type Attachments = Vec<Bytes>;

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    limits: ReadLimits,
    /// How many arrays and maps have begun and not ended.
    depth: usize,
    /// A map came that looks like a placeholder.
    has_fake: bool,
    /// Binary data becomes what `JSON.stringify` makes of it, in place of a placeholder.
    inline: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8], limits: ReadLimits) -> Self {
        Self { rest: message, limits, depth: 0, has_fake: false, inline: false }
    }

    pub(super) fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Whether binary data was read, and something that could be taken for it.
    pub(super) fn has_fake_beside(&self, attachments: &[Bytes]) -> bool {
        self.has_fake && !attachments.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Appends one value as JSON.
    pub(super) fn value(
        &mut self,
        json: &mut Vec<u8>,
        attachments: &mut Attachments,
    ) -> Result<(), Violation> {
        let marker = Marker::from_u8(self.byte()?);
        match marker {
            Marker::Null => json.extend_from_slice(b"null"),
            Marker::False => json.extend_from_slice(b"false"),
            Marker::True => json.extend_from_slice(b"true"),
            Marker::F32 => write_float(json, f32::from_be_bytes(self.array()?).into()),
            Marker::F64 => write_float(json, f64::from_be_bytes(self.array()?)),
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                write_text(json, self.str_of(marker)?);
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let data = self.bin_of(marker)?;
                self.attach(data, json, attachments)?;
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                let len = self.array_len_of(marker)?;
                self.elements(len, json, attachments)?;
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                let len = self.map_len_of(marker)?;
                self.entries(len, json, attachments)?;
            }
            Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32
            | Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16 => self.extension(marker, json, attachments)?,
            _ => write_integer(json, self.integer_of(marker)?),
        }
        Ok(())
    }

    /// What has not been read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads what an array begins with: the number of its elements.
    pub(super) fn array_len(&mut self) -> Result<usize, Violation> {
        let marker = Marker::from_u8(self.byte()?);
        self.array_len_of(marker)
    }

    /// Reads what a map begins with: the number of its entries.
    pub(super) fn map_len(&mut self) -> Result<usize, Violation> {
        let marker = Marker::from_u8(self.byte()?);
        self.map_len_of(marker)
    }

    /// Reads text.
    pub(super) fn str(&mut self) -> Result<&'a str, Violation> {
        let marker = Marker::from_u8(self.byte()?);
        self.str_of(marker)
    }

    /// Reads an integer of any width.
    pub(super) fn integer(&mut self) -> Result<i128, Violation> {
        let marker = Marker::from_u8(self.byte()?);
        self.integer_of(marker)
    }

    /// Passes over notepack 2's `undefined`, if it comes next.
    pub(super) fn take_undefined(&mut self) -> bool {
        let is_next = matches!(self.rest, [0xd4, 0, _, ..]);
        if is_next {
            self.rest = &self.rest[3..];
        }
        is_next
    }

    fn elements(
        &mut self,
        len: usize,
        json: &mut Vec<u8>,
        attachments: &mut Attachments,
    ) -> Result<(), Violation> {
        self.enter()?;
        json.push(b'[');
        for index in 0..len {
            if index > 0 {
                json.push(b',');
            }
            self.value(json, attachments)?;
        }
        json.push(b']');
        self.depth -= 1;
        Ok(())
    }

    fn entries(
        &mut self,
        len: usize,
        json: &mut Vec<u8>,
        attachments: &mut Attachments,
    ) -> Result<(), Violation> {
        self.enter()?;
        json.push(b'{');
        let start = json.len();
        for _ in 0..len {
            let before = json.len();
            if before > start {
                json.push(b',');
            }
            self.key(json)?;
            json.push(b':');
            if self.take_undefined() {
                // As `JSON.stringify` does.
                json.truncate(before);
            } else {
                self.value(json, attachments)?;
                self.has_fake |= json[before..].ends_with(b"\"_placeholder\":true");
            }
        }
        json.push(b'}');
        self.depth -= 1;
        Ok(())
    }

    /// Text, or an integer, which is text in JavaScript.
    fn key(&mut self, json: &mut Vec<u8>) -> Result<(), Violation> {
        let marker = Marker::from_u8(self.byte()?);
        match marker {
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                write_text(json, self.str_of(marker)?);
            }
            _ => {
                let key = self.integer_of(marker)?;
                json.push(b'"');
                write_integer(json, key);
                json.push(b'"');
            }
        }
        Ok(())
    }

    fn extension(
        &mut self,
        marker: Marker,
        json: &mut Vec<u8>,
        attachments: &mut Attachments,
    ) -> Result<(), Violation> {
        let len = match marker {
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            Marker::Ext8 => usize::from(self.byte()?),
            Marker::Ext16 => self.len16()?,
            _ => self.len32()?,
        };
        let is_fixed = !matches!(marker, Marker::Ext8 | Marker::Ext16 | Marker::Ext32);
        let kind = i8::from_be_bytes(self.array()?);
        let data = self.take(len)?;
        match (kind, data) {
            (ext::NOTEPACK, [_]) if is_fixed => json.extend_from_slice(b"null"),
            (ext::NOTEPACK, data) if is_fixed && data.len() == 8 => {
                let ms = i64::from_be_bytes(data.try_into().unwrap_or_default());
                write_date(json, ms.into());
            }
            (ext::NOTEPACK, data) if !is_fixed => self.attach(data, json, attachments)?,
            (ext::TIMESTAMP, data) => {
                let ms = timestamp_ms(data).ok_or(Violation::InvalidPayload)?;
                write_date(json, ms);
            }
            (kind, data) => {
                // It counts as the array that it becomes.
                self.enter()?;
                json.push(b'[');
                write_integer(json, kind.into());
                json.push(b',');
                self.attach(data, json, attachments)?;
                json.push(b']');
                self.depth -= 1;
            }
        }
        Ok(())
    }

    fn attach(
        &self,
        data: &[u8],
        json: &mut Vec<u8>,
        attachments: &mut Attachments,
    ) -> Result<(), Violation> {
        if self.inline {
            let buffer = NodeBuffer { kind: "Buffer", data };
            serde_json::to_writer(json, &buffer).expect("numbers can be written as JSON");
            return Ok(());
        }
        let num = attachments.len();
        if num >= self.limits.attachments_max {
            return Err(Violation::TooManyAttachments);
        }
        json.extend_from_slice(b"{\"_placeholder\":true,\"num\":");
        write_integer(json, num as i128);
        json.push(b'}');
        attachments.push(Bytes::copy_from_slice(data));
        Ok(())
    }

    fn enter(&mut self) -> Result<(), Violation> {
        self.depth += 1;
        if self.depth > self.limits.depth_max { Err(Violation::TooDeep) } else { Ok(()) }
    }

    fn array_len_of(&mut self, marker: Marker) -> Result<usize, Violation> {
        match marker {
            Marker::FixArray(len) => Ok(len.into()),
            Marker::Array16 => self.len16(),
            Marker::Array32 => self.len32(),
            _ => Err(Violation::InvalidPayload),
        }
    }

    pub(super) fn map_len_of(&mut self, marker: Marker) -> Result<usize, Violation> {
        match marker {
            Marker::FixMap(len) => Ok(len.into()),
            Marker::Map16 => self.len16(),
            Marker::Map32 => self.len32(),
            _ => Err(Violation::InvalidPayload),
        }
    }

    fn str_of(&mut self, marker: Marker) -> Result<&'a str, Violation> {
        let len = match marker {
            Marker::FixStr(len) => len.into(),
            Marker::Str8 => self.byte()?.into(),
            Marker::Str16 => self.len16()?,
            Marker::Str32 => self.len32()?,
            _ => return Err(Violation::InvalidPayload),
        };
        let text = self.take(len)?;
        simdutf8::basic::from_utf8(text).map_err(|_| Violation::InvalidPayload)
    }

    fn bin_of(&mut self, marker: Marker) -> Result<&'a [u8], Violation> {
        let len = match marker {
            Marker::Bin8 => self.byte()?.into(),
            Marker::Bin16 => self.len16()?,
            _ => self.len32()?,
        };
        self.take(len)
    }

    fn integer_of(&mut self, marker: Marker) -> Result<i128, Violation> {
        Ok(match marker {
            Marker::FixPos(value) => value.into(),
            Marker::FixNeg(value) => value.into(),
            Marker::U8 => u8::from_be_bytes(self.array()?).into(),
            Marker::U16 => u16::from_be_bytes(self.array()?).into(),
            Marker::U32 => u32::from_be_bytes(self.array()?).into(),
            Marker::U64 => u64::from_be_bytes(self.array()?).into(),
            Marker::I8 => i8::from_be_bytes(self.array()?).into(),
            Marker::I16 => i16::from_be_bytes(self.array()?).into(),
            Marker::I32 => i32::from_be_bytes(self.array()?).into(),
            Marker::I64 => i64::from_be_bytes(self.array()?).into(),
            _ => return Err(Violation::InvalidPayload),
        })
    }

    pub(super) fn len16(&mut self) -> Result<usize, Violation> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    pub(super) fn len32(&mut self) -> Result<usize, Violation> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| Violation::InvalidPayload)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Violation> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Violation::InvalidPayload)?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Violation::InvalidPayload)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Node's `Buffer` as its `toJSON` has it.
#[derive(serde::Serialize)]
struct NodeBuffer<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    data: &'a [u8],
}

/// The milliseconds of a timestamp: 32 bits of seconds; 30 of nanoseconds and 34 of seconds; or 32
/// of nanoseconds and 64 of seconds. Cut towards zero, as JavaScript does.
fn timestamp_ms(data: &[u8]) -> Option<i128> {
    let (seconds, nanoseconds) = match data.len() {
        4 => (i128::from(u32::from_be_bytes(data.try_into().ok()?)), 0),
        8 => {
            let both = u64::from_be_bytes(data.try_into().ok()?);
            (i128::from(both & 0x3_ffff_ffff), both >> 34)
        }
        12 => {
            let (nanoseconds, seconds) = data.split_first_chunk()?;
            let seconds = i64::from_be_bytes(seconds.try_into().ok()?);
            (seconds.into(), u32::from_be_bytes(*nanoseconds).into())
        }
        _ => return None,
    };
    Some((seconds * 1_000_000_000 + i128::from(nanoseconds)) / 1_000_000)
}

fn write_date(json: &mut Vec<u8>, ms: i128) {
    match iso_text(ms) {
        Some(text) => write_text(json, &text),
        // What an invalid `Date` is.
        None => json.extend_from_slice(b"null"),
    }
}

fn write_integer(json: &mut Vec<u8>, value: i128) {
    json.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_float(json: &mut Vec<u8>, value: f64) {
    if value.fract() == 0.0 && value.abs() <= SAFE_INTEGER_MAX {
        // JavaScript does not tell 1.0 from 1, nor shall a handler that wants a whole number.
        write_integer(json, value as i128);
    } else {
        // Not finite, it is `null`.
        serde_json::to_writer(json, &value).expect("a number can be written to memory as JSON");
    }
}

fn write_text(json: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(json, text).expect("text can be written to memory as JSON");
}

pub(super) fn into_text(json: Vec<u8>) -> String {
    String::from_utf8(json).expect("all that is written is ASCII or was text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::msgpack::to_json;

    const LIMITS: ReadLimits = ReadLimits { depth_max: 4, attachments_max: 2 };

    const FAKE: &[u8] = b"\x82\xac_placeholder\xc3\xa3num\x00";

    fn json(message: &[u8]) -> Result<String, Violation> {
        to_json(message, LIMITS).map(|(json, _)| json)
    }

    #[test]
    fn every_kind_of_value() {
        for (message, expected) in [
            (&b"\xc0"[..], "null"),
            (b"\xc2", "false"),
            (b"\xc3", "true"),
            (b"\x7f", "127"),
            (b"\xe0", "-32"),
            (b"\xcc\xff", "255"),
            (b"\xcd\xff\xff", "65535"),
            (b"\xce\xff\xff\xff\xff", "4294967295"),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
            (b"\xd0\x80", "-128"),
            (b"\xd1\x80\x00", "-32768"),
            (b"\xd2\x80\x00\x00\x00", "-2147483648"),
            (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
            (b"\xca\x3f\xc0\x00\x00", "1.5"),
            (b"\xca\x40\x00\x00\x00", "2"),
            (b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", "1.5"),
            (b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00", "0"),
            (b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "null"),
            (b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", "null"),
            (b"\xa3a\"\x00", r#""a\"\u0000""#),
            (b"\xd9\x02\xc3\xa9", "\"é\""),
            (b"\xda\x00\x01x", "\"x\""),
            (b"\xdb\x00\x00\x00\x01x", "\"x\""),
            (b"\x92\x01\x90", "[1,[]]"),
            (b"\xdc\x00\x01\x01", "[1]"),
            (b"\xdd\x00\x00\x00\x01\x01", "[1]"),
            (b"\x82\xa1a\x01\x02\x80", r#"{"a":1,"2":{}}"#),
            (b"\xde\x00\x01\xff\x01", r#"{"-1":1}"#),
            (b"\xdf\x00\x00\x00\x01\xa0\x01", r#"{"":1}"#),
        ] {
            assert_eq!(json(message).as_deref(), Ok(expected), "{message:x?}");
            for end in 0..message.len() {
                assert_eq!(json(&message[..end]), Err(Violation::InvalidPayload), "{message:x?}");
            }
            let trailing = [message, b"\xc0"].concat();
            assert_eq!(json(&trailing), Err(Violation::InvalidPayload), "{message:x?}");
        }
    }

    #[test]
    fn what_javascript_has_and_json_has_not() {
        for (message, expected) in [
            // The timestamps of the specification.
            (&b"\xd6\xff\x00\x00\x00\x01"[..], r#""1970-01-01T00:00:01.000Z""#),
            (b"\xd7\xff\x77\x35\x94\x00\x00\x00\x00\x00", r#""1970-01-01T00:00:00.500Z""#),
            (
                b"\xc7\x0c\xff\x3b\x9a\xc9\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                r#""1970-01-01T00:00:00.000Z""#,
            ),
            (
                b"\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
                r#""1969-12-31T23:59:59.000Z""#,
            ),
            (b"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "null"),
            // notepack 2: a Date, undefined.
            (b"\xd7\x00\xff\xff\xff\xff\xff\xff\xff\xff", r#""1969-12-31T23:59:59.999Z""#),
            (b"\x92\xd4\x00\x00\x01", "[null,1]"),
            (b"\x83\xa1a\xd4\x00\x00\xa1b\x01\xa1c\xd4\x00\x00", r#"{"b":1}"#),
            // An extension of nobody.
            (b"\xd5\x05ab", r#"[5,{"_placeholder":true,"num":0}]"#),
        ] {
            assert_eq!(json(message).as_deref(), Ok(expected), "{message:x?}");
        }
        assert_eq!(json(b"\xd5\xffab"), Err(Violation::InvalidPayload));
    }

    #[test]
    fn binary_data_is_attached() {
        let (json, attachments) =
            to_json(b"\x92\xc4\x01a\xc7\x08\x0012345678", LIMITS).expect("two");
        assert_eq!(json, r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        assert_eq!(attachments, [&b"a"[..], b"12345678"]);
        // What only looks like binary data would stand for it in the text.
        let fake = [&b"\x92\xc4\x01a"[..], FAKE].concat();
        assert_eq!(to_json(&fake, LIMITS), Err(Violation::IllegalPlaceholder));
        assert!(to_json(FAKE, LIMITS).is_ok());
        let three = to_json(b"\x93\xc4\x00\xc5\x00\x00\xc6\x00\x00\x00\x00", LIMITS);
        assert_eq!(three, Err(Violation::TooManyAttachments));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for message in [
            &b""[..],
            b"\xc1",
            // Text that is no UTF-8, keys that JavaScript would make text of.
            b"\xa1\xff",
            b"\xa3\xed\xa0\x80",
            b"\x81\xc0\x01",
            b"\x81\xc3\x01",
            b"\x81\xc4\x00\x01",
            // Lengths that are not there.
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff\xa1a",
            b"\xc6\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xffabc",
            b"\xc9\xff\xff\xff\xff\x00",
        ] {
            assert_eq!(json(message), Err(Violation::InvalidPayload), "{message:x?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(json(b"\x91\x91\x91\x91\xc0").is_ok());
        assert_eq!(json(b"\x91\x91\x91\x91\x91\xc0"), Err(Violation::TooDeep));
        assert_eq!(json(&[0x91; 100_000]), Err(Violation::TooDeep));
        assert_eq!(json(&b"\x81\xa0".repeat(100_000)), Err(Violation::TooDeep));
        assert_eq!(json(b"\x91\x91\x91\x91\xd5\x05ab"), Err(Violation::TooDeep));
        assert!(json(b"\x94\x91\x91\xc0\x91\x91\xc0\x80\x80").is_ok(), "many are not deep");
    }
}
