//! MessagePack, taken apart value by value: who needs a part of a message reads that part alone.
//! Does not know JSON.

use rmp::Marker;

use super::ReadLimits;
use super::read::Reader;
use crate::socket::packet::Violation;

/// Reads values one behind the other: what an array or a map begins with, text, or a whole value
/// as the bytes that it is, unread.
///
/// ```
/// use sockeye_proto::socket::msgpack::ValueReader;
///
/// let mut reader = ValueReader::new(b"\x92\xa1e\x81\xa1k\x01");
/// assert_eq!(reader.array_len(), Ok(2));
/// assert_eq!(reader.text(), Ok("e"));
/// assert_eq!(reader.value(), Ok(&b"\x81\xa1k\x01"[..]));
/// assert!(reader.is_empty());
/// ```
pub struct ValueReader<'a>(Reader<'a>);

impl<'a> ValueReader<'a> {
    /// From the first byte on.
    pub fn new(message: &'a [u8]) -> Self {
        // Nothing is attached, and nothing recurses.
        Self(Reader::new(message, ReadLimits { depth_max: 0, attachments_max: 0 }))
    }

    /// Whether there is nothing more.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads what an array begins with: the number of its elements, which need not be there.
    ///
    /// # Errors
    /// Something else comes next.
    pub fn array_len(&mut self) -> Result<usize, Violation> {
        self.0.array_len()
    }

    /// Reads what a map begins with: the number of its entries, each a key and a value, which
    /// need not be there.
    ///
    /// # Errors
    /// Something else comes next.
    pub fn map_len(&mut self) -> Result<usize, Violation> {
        self.0.map_len()
    }

    /// Reads text.
    ///
    /// # Errors
    /// Something else comes next, or it is no UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Violation> {
        self.0.str()
    }

    /// Passes over a value, whatever is in it; its bytes. Does not recurse.
    ///
    /// # Errors
    /// It is not there, or not whole.
    pub fn value(&mut self) -> Result<&'a [u8], Violation> {
        let before = self.0.rest();
        // How many values are left to pass over. Each takes a byte, so a length that is not true
        // ends with the message.
        let mut left: u64 = 1;
        while left > 0 {
            left = (left - 1).saturating_add(self.pass()?);
        }
        Ok(&before[..before.len() - self.0.rest().len()])
    }

    /// Passes over one value but for what is in it; how many values that is.
    fn pass(&mut self) -> Result<u64, Violation> {
        let reader = &mut self.0;
        let marker = Marker::from_u8(reader.byte()?);
        let len = match marker {
            Marker::FixArray(len) => return Ok(len.into()),
            Marker::Array16 => return Ok(reader.len16()? as u64),
            Marker::Array32 => return Ok(reader.len32()? as u64),
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                return Ok(2 * reader.map_len_of(marker)? as u64);
            }
            Marker::FixStr(len) => len.into(),
            Marker::Str8 | Marker::Bin8 => reader.byte()?.into(),
            Marker::Str16 | Marker::Bin16 => reader.len16()?,
            Marker::Str32 | Marker::Bin32 => reader.len32()?,
            // An extension's type is a byte behind its length.
            Marker::Ext8 => 1 + usize::from(reader.byte()?),
            Marker::Ext16 => 1 + reader.len16()?,
            Marker::Ext32 => reader.len32()?.saturating_add(1),
            Marker::FixExt1 | Marker::U16 | Marker::I16 => 2,
            Marker::FixExt2 => 3,
            Marker::FixExt4 => 5,
            Marker::FixExt8 => 9,
            Marker::FixExt16 => 17,
            Marker::U8 | Marker::I8 => 1,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::Null | Marker::True | Marker::False | Marker::FixPos(_) | Marker::FixNeg(_) => {
                0
            }
            Marker::Reserved => return Err(Violation::InvalidPayload),
        };
        reader.take(len)?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::to_json;
    use super::*;

    const LIMITS: ReadLimits = ReadLimits { depth_max: 100, attachments_max: 100 };

    #[test]
    fn every_form_is_passed_over_whole() {
        for value in [
            &b"\xc0"[..],
            b"\x7f",
            b"\xe0",
            b"\xcc\xff",
            b"\xcd\x01\x02",
            b"\xd2\x01\x02\x03\x04",
            b"\xcf\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\xca\x01\x02\x03\x04",
            b"\xa3abc",
            b"\xd9\x03abc",
            b"\xc4\x03abc",
            b"\xc5\x00\x03abc",
            b"\xdb\x00\x00\x00\x03abc",
            b"\xd4\x05a",
            b"\xd5\x05ab",
            b"\xd6\xff\x00\x00\x00\x00",
            b"\xc7\x03\x05abc",
            b"\xc8\x00\x03\x05abc",
            b"\x92\x90\x81\xa1k\x92\x01\x02",
            b"\xdd\x00\x00\x00\x02\x01\x02",
            b"\xde\x00\x01\xa1k\xc3",
        ] {
            let behind = [value, b"\xa1x"].concat();
            let mut reader = ValueReader::new(&behind);
            assert_eq!(reader.value(), Ok(value), "{value:x?}");
            assert_eq!(reader.text(), Ok("x"));
            assert!(reader.is_empty());
            for end in 0..value.len() {
                assert!(ValueReader::new(&value[..end]).value().is_err(), "{value:x?} up to {end}");
            }
        }
        assert!(ValueReader::new(b"\xc1").value().is_err());
        // Lengths that nothing stands behind cost nothing.
        assert!(ValueReader::new(b"\xdf\xff\xff\xff\xff\xdd\xff\xff\xff\xff").value().is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_is_passed_over(bytes in vec(any::<u8>(), 0..40)) {
            if to_json(&bytes, LIMITS).is_ok() {
                prop_assert_eq!(ValueReader::new(&bytes).value(), Ok(&bytes[..]));
            }
        }
    }
}
