//! An event that is encoded but for a last argument: what a server adds so that its clients can
//! tell which events they have. Does not know what the addition means to them.

use std::fmt::Display;
use std::io::Write as _;

use bytes::Bytes;

use super::emit::{EmitArgs, EncodeError};
use super::encoded::{self, EncodedPacket};
use super::name::ToName;
use super::packet::kind;

/// An event without an acknowledgement id whose list of arguments is still open.
///
/// The official client takes the last argument of each event for an offset of connection state
/// recovery if it is text, whatever it means (and the event's name where there is no argument).
///
/// ```
/// use sockeye_proto::socket::UnfinishedEvent;
///
/// let event = UnfinishedEvent::new("/", "greeting", &"hello")?;
/// assert_eq!(event.clone().finish().text(), r#"2["greeting","hello"]"#);
/// assert_eq!(event.clone().finish_with_offset("a-1").text(), r#"2["greeting","hello","a-1"]"#);
/// assert_eq!(event.finish_without_offset().text(), r#"2["greeting","hello",null]"#);
/// # Ok::<(), sockeye_proto::socket::EncodeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct UnfinishedEvent {
    /// The packet up to its last argument.
    buffer: Vec<u8>,
    attachments: Vec<Bytes>,
    for_many: bool,
    compress: bool,
}

impl UnfinishedEvent {
    /// Encodes it as far as it is known.
    ///
    /// # Errors
    /// The name is reserved, or an argument cannot be JSON.
    pub fn new(
        namespace: &str,
        event: impl ToName,
        args: &(impl EmitArgs + ?Sized),
    ) -> Result<Self, EncodeError> {
        let event = encoded::allowed(event.to_name())?;
        let (buffer, attachments) =
            encoded::write_args(kind::EVENT, namespace, None, Some(&event), args)?;
        Ok(Self { buffer, attachments, for_many: false, compress: true })
    }

    /// An event that is encoded already, opened again. Its acknowledgement id stays.
    pub fn again(event: &EncodedPacket) -> Self {
        let (buffer, attachments) = encoded::reopen(event);
        let compress = event.may_be_compressed();
        Self { buffer, attachments, for_many: event.is_for_many(), compress }
    }

    /// As [`EncodedPacket::for_many`].
    #[must_use]
    pub fn for_many(mut self) -> Self {
        self.for_many = true;
        self
    }

    /// As [`EncodedPacket::without_compression`].
    #[must_use]
    pub fn without_compression(mut self) -> Self {
        self.compress = false;
        self
    }

    /// The packet as it is.
    pub fn finish(self) -> EncodedPacket {
        let packet = encoded::finish_args(self.buffer, &self.attachments);
        let packet = if self.for_many { packet.for_many() } else { packet };
        if self.compress { packet } else { packet.without_compression() }
    }

    /// The packet with this text as one more argument. What is written needs no escape in JSON.
    pub fn finish_with_offset(mut self, offset: impl Display) -> EncodedPacket {
        write!(self.buffer, ",\"{offset}\"").expect("memory takes what is written");
        self.finish()
    }

    /// The packet in a form that no client takes an offset from: where it would, its last argument
    /// is `null`.
    pub fn finish_without_offset(mut self) -> EncodedPacket {
        // Text is all that ends so, and JSON that came from elsewhere may end in spaces.
        if self.buffer.trim_ascii_end().ends_with(b"\"") {
            self.buffer.extend_from_slice(b",null");
        }
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Binary;

    fn event(name: impl ToName, args: impl EmitArgs) -> UnfinishedEvent {
        UnfinishedEvent::new("/a", name, &args).expect("JSON")
    }

    #[test]
    fn no_offset_is_taken_from_what_has_none() {
        let text = |event: UnfinishedEvent| event.finish_without_offset().text().to_owned();
        assert_eq!(text(event("e", ())), r#"2/a,["e",null]"#);
        assert_eq!(text(event(7, ())), r#"2/a,[7]"#);
        assert_eq!(text(event("e", ("x", 1))), r#"2/a,["e","x",1]"#);
        assert_eq!(text(event("e", (1, "x\""))), r#"2/a,["e",1,"x\"",null]"#);
        assert_eq!(text(event("e", &["x"])), r#"2/a,["e",["x"]]"#);
        let bytes = Binary::from(vec![1]);
        let binary = r#"52-/a,["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
        assert_eq!(text(event("e", (bytes.clone(), bytes))), binary);
    }

    #[test]
    fn an_offset_goes_last_also_behind_binary_data() {
        let packet = event("e", (Binary::from(vec![1, 2]), 3)).finish_with_offset("o-1");
        assert_eq!(packet.text(), r#"51-/a,["e",{"_placeholder":true,"num":0},3,"o-1"]"#);
        assert_eq!(packet.attachments().collect::<Vec<_>>(), [[1, 2]]);
        let none = event("e", ()).finish_with_offset("o-1");
        assert_eq!(none.text(), r#"2/a,["e","o-1"]"#);
        assert_eq!(none.wire().len(), 2 + 1 + none.text().len());
    }

    #[test]
    fn without_an_addition_it_is_the_event_itself() {
        let args = ("x", Binary::from(vec![1]));
        let packet = EncodedPacket::event("/a", None, "e", &args).expect("JSON");
        assert_eq!(event("e", args).finish().wire(), packet.wire());
        assert!(UnfinishedEvent::new("/", "connect", &()).is_err());
    }
}
