//! The sending half of the machine: messages, their fragments and prepared frames.
//! Does not know how a connection closes, only that nothing is sent once it does.

use bytes::Bytes;

use super::{Connection, MessageRef, Role};
use crate::error::SendError;
use crate::frame::{CONTROL_BYTES_MAX, Header, Opcode, RSV1, write_frame, write_payload};
use crate::mask::MaskingKey;
use crate::prepared::Frame;

/// A message of our own that has begun and not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragmented {
    opcode: Opcode,
    compressed: bool,
}

impl Connection {
    /// Whether messages that begin from now on may be compressed. Off, what is compressed by its
    /// kind, such as images and archives, is not compressed again for nothing. Default: on, which
    /// does something only [with permessage-deflate](Self::with_deflate).
    pub fn set_compression(&mut self, on: bool) {
        if let Some(compression) = &mut self.deflate {
            compression.set_on(on);
        }
    }

    /// Whether [`encode`](Self::encode) would try to compress a message of this length. If not, a
    /// driver may as well send [a header](crate::frame::write_header) and the payload behind it
    /// from where that is.
    pub fn would_compress(&self, payload_len: usize) -> bool {
        self.deflate.as_ref().is_some_and(|compression| compression.would_compress(payload_len))
    }

    /// Appends a message to `out` as one frame. For servers.
    ///
    /// It is compressed if that was agreed and it is long enough
    /// ([`threshold_bytes`](crate::deflate::Options::threshold_bytes)); without a context only if
    /// that makes it shorter.
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`] once the closing handshake has begun,
    /// [`SendError::UnfinishedMessage`] between the [fragments](Self::encode_fragment) of another
    /// message, [`SendError::ControlTooLong`] for a ping or pong above 125 bytes.
    ///
    /// # Panics
    ///
    /// For a client, whose frames are masked.
    pub fn encode(&mut self, out: &mut Vec<u8>, message: MessageRef<'_>) -> Result<(), SendError> {
        assert_eq!(self.role, Role::Server, "a client's frames are masked");
        self.encode_with(out, message, None)
    }

    /// [`encode`](Self::encode) for clients: `key` is random and fresh. The message itself stays
    /// as it is; its copy in `out` is masked.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    ///
    /// # Panics
    ///
    /// For a server, whose frames are not masked.
    pub fn encode_masked(
        &mut self,
        out: &mut Vec<u8>,
        message: MessageRef<'_>,
        key: MaskingKey,
    ) -> Result<(), SendError> {
        assert_eq!(self.role, Role::Client, "a server's frames are not masked");
        self.encode_with(out, message, Some(key))
    }

    /// Appends a part of a message as a fragment, which is the last one with `fin`: a message that
    /// is long, or not known to its end, leaves part by part (RFC 6455 §5.4). For servers.
    ///
    /// The parts are of one kind, text or binary. Between them pings and pongs may be sent, and
    /// nothing else. Where compression was agreed a message of several fragments is compressed,
    /// however short the first one is, and the peer can inflate all of each when it has come.
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`] once the closing handshake has begun, [`SendError::OtherKind`] for
    /// text in a binary message or the other way round, [`SendError::ControlFragment`] for a ping
    /// or pong, which has no parts.
    ///
    /// # Panics
    ///
    /// For a client, whose frames are masked.
    pub fn encode_fragment(
        &mut self,
        out: &mut Vec<u8>,
        part: MessageRef<'_>,
        fin: bool,
    ) -> Result<(), SendError> {
        assert_eq!(self.role, Role::Server, "a client's frames are masked");
        self.encode_fragment_with(out, part, fin, None)
    }

    /// [`encode_fragment`](Self::encode_fragment) for clients: `key` is random and fresh.
    ///
    /// # Errors
    ///
    /// As [`encode_fragment`](Self::encode_fragment).
    ///
    /// # Panics
    ///
    /// For a server, whose frames are not masked.
    pub fn encode_fragment_masked(
        &mut self,
        out: &mut Vec<u8>,
        part: MessageRef<'_>,
        fin: bool,
        key: MaskingKey,
    ) -> Result<(), SendError> {
        assert_eq!(self.role, Role::Client, "a server's frames are not masked");
        self.encode_fragment_with(out, part, fin, Some(key))
    }

    /// The bytes of a prepared frame for this connection, to be sent like what [`encode`] appends.
    /// For servers.
    ///
    /// They are shared by all connections that take them in the same form: plain, or compressed for
    /// a window. Which one this is, is said at [`Frame`].
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`] and [`SendError::UnfinishedMessage`] as [`encode`].
    ///
    /// # Panics
    ///
    /// For a client, whose frames are masked.
    ///
    /// [`encode`]: Self::encode
    pub fn frame_bytes(&mut self, frame: &Frame) -> Result<Bytes, SendError> {
        assert_eq!(self.role, Role::Server, "a client's frames are masked");
        self.prepared(frame).cloned()
    }

    /// Appends a masked copy of a prepared frame to `out`. For clients, which spare its compression
    /// only; `key` is random and fresh.
    ///
    /// # Errors
    ///
    /// As [`frame_bytes`](Self::frame_bytes).
    ///
    /// # Panics
    ///
    /// For a server, whose frames are not masked.
    pub fn encode_frame_masked(
        &mut self,
        out: &mut Vec<u8>,
        frame: &Frame,
        key: MaskingKey,
    ) -> Result<(), SendError> {
        assert_eq!(self.role, Role::Client, "a server's frames are not masked");
        let bytes = self.prepared(frame)?;
        let decoded = Header::decode(bytes).ok().flatten();
        let (header, header_len) = decoded.expect("what was prepared begins with a header");
        write_payload(out, Header { mask: Some(key), ..header }, &bytes[header_len..]);
        Ok(())
    }

    #[inline]
    fn encode_with(
        &mut self,
        out: &mut Vec<u8>,
        message: MessageRef<'_>,
        key: Option<MaskingKey>,
    ) -> Result<(), SendError> {
        if !self.is_open() {
            return Err(SendError::Closing);
        }
        let (opcode, payload) = message.parts();
        if opcode.is_control() {
            if payload.len() > CONTROL_BYTES_MAX {
                return Err(SendError::ControlTooLong);
            }
        } else if self.fragmented.is_some() {
            return Err(SendError::UnfinishedMessage);
        } else if let Some(compression) = &mut self.deflate
            && compression.write_message(out, opcode, payload, key)
        {
            return Ok(());
        }
        write_frame(out, opcode, payload, key);
        Ok(())
    }

    fn encode_fragment_with(
        &mut self,
        out: &mut Vec<u8>,
        part: MessageRef<'_>,
        fin: bool,
        mask: Option<MaskingKey>,
    ) -> Result<(), SendError> {
        let (opcode, payload) = part.parts();
        if opcode.is_control() {
            return Err(SendError::ControlFragment);
        }
        let begun = self.fragmented;
        if begun.is_none() && fin {
            return self.encode_with(out, part, mask);
        }
        if !self.is_open() {
            return Err(SendError::Closing);
        }
        let message = match begun {
            Some(message) if message.opcode != opcode => return Err(SendError::OtherKind),
            Some(message) => message,
            None => {
                let compressed = self.deflate.as_mut().is_some_and(|own| own.begin_fragmented());
                Fragmented { opcode, compressed }
            }
        };
        let header = Header {
            fin,
            rsv: if begun.is_none() && message.compressed { RSV1 } else { 0 },
            opcode: if begun.is_none() { opcode } else { Opcode::Continuation },
            mask,
            payload_len: payload.len() as u64,
        };
        match &mut self.deflate {
            Some(compression) if message.compressed => {
                compression.write_fragment(out, header, payload);
            }
            _ => write_payload(out, header, payload),
        }
        self.fragmented = (!fin).then_some(message);
        Ok(())
    }

    /// The form in which a prepared frame goes to the peer.
    pub(crate) fn prepared<'f>(&mut self, frame: &'f Frame) -> Result<&'f Bytes, SendError> {
        if !self.is_open() {
            return Err(SendError::Closing);
        }
        if self.fragmented.is_some() {
            return Err(SendError::UnfinishedMessage);
        }
        let compressed =
            self.deflate.as_mut().and_then(|compression| compression.compressed(frame));
        Ok(compressed.unwrap_or(frame.plain()))
    }
}
