//! What the driver queues: messages, their parts, prepared frames, and what the machine owes.
//! Does not write it; that is `outgoing`, when the driver is polled.

use std::io;

use bytes::Bytes;

use super::Driver;
use crate::connection::{MessageRef, Role};
use crate::error::SendError;
use crate::frame::{Header, Opcode};
use crate::mask;
use crate::net::keys::masking_key;
use crate::net::outgoing::SHARED_BYTES_MIN;
use crate::net::{CloseFrame, Error, Message};
use crate::prepared::Frame;

/// What is to be sent.
#[derive(Debug)]
pub(in crate::net) enum Outbound<'f> {
    Message(Message),
    Frame(&'f Frame),
    /// A part of a message, text or binary, and whether it is the last one.
    Part(Message, bool),
}

impl<S> Driver<S> {
    /// Queues a message or a frame. It counts as taken, however much waits already.
    #[inline]
    pub(in crate::net) fn push(&mut self, outbound: Outbound<'_>) -> Result<(), Error> {
        match outbound {
            Outbound::Message(message) => self.push_message(message),
            Outbound::Frame(frame) => self.push_frame(frame),
            Outbound::Part(part, last) => self.push_part(&part, last),
        }
    }

    pub(super) fn push_message(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Close(None) => Ok(self.start_close(None, "")?),
            Message::Close(Some(CloseFrame { code, reason })) => {
                Ok(self.start_close(Some(code), &reason)?)
            }
            Message::Text(text) if self.goes_as_it_is(text.len()) => {
                self.push_shared(Opcode::Text, text.into())
            }
            Message::Binary(data) if self.goes_as_it_is(data.len()) => {
                self.push_shared(Opcode::Binary, data)
            }
            Message::Text(text) => self.push_copied(MessageRef::Text(&text)),
            Message::Binary(data) => self.push_copied(MessageRef::Binary(&data)),
            Message::Ping(data) => self.push_copied(MessageRef::Ping(&data)),
            Message::Pong(data) => self.push_copied(MessageRef::Pong(&data)),
        }
    }

    /// Whether a payload is worth being sent from where it is, past the machine. What may be
    /// compressed is not, nor what the machine must refuse.
    fn goes_as_it_is(&self, payload_len: usize) -> bool {
        let is_large = payload_len >= SHARED_BYTES_MIN;
        is_large && !self.unfinished && !self.machine.would_compress(payload_len)
    }

    fn push_frame(&mut self, frame: &Frame) -> Result<(), Error> {
        self.check_stream()?;
        match self.machine.role() {
            Role::Server => {
                let bytes = self.machine.frame_bytes(frame)?;
                if bytes.len() < SHARED_BYTES_MIN {
                    self.outgoing.tail().extend_from_slice(&bytes);
                } else {
                    self.outgoing.push_shared(bytes);
                }
            }
            Role::Client => {
                let tail = self.outgoing.tail();
                let encoded = self.machine.encode_frame_masked(tail, frame, masking_key());
                self.outgoing.tidy();
                encoded?;
            }
        }
        Ok(())
    }

    fn push_part(&mut self, part: &Message, last: bool) -> Result<(), Error> {
        self.check_stream()?;
        let part = match part {
            Message::Text(text) => MessageRef::Text(text),
            Message::Binary(data) => MessageRef::Binary(data),
            // Which the machine refuses: control frames have no parts.
            control => MessageRef::Ping(control.as_bytes()),
        };
        let tail = self.outgoing.tail();
        let encoded = match self.machine.role() {
            Role::Server => self.machine.encode_fragment(tail, part, last),
            Role::Client => self.machine.encode_fragment_masked(tail, part, last, masking_key()),
        };
        self.outgoing.tidy();
        encoded?;
        self.unfinished = !last;
        Ok(())
    }

    fn check_stream(&self) -> Result<(), Error> {
        if self.outgoing.is_broken() {
            return Err(Error::Io(io::ErrorKind::BrokenPipe.into()));
        }
        Ok(())
    }

    fn push_copied(&mut self, message: MessageRef<'_>) -> Result<(), Error> {
        self.check_stream()?;
        let tail = self.outgoing.tail();
        let encoded = match self.machine.role() {
            Role::Server => self.machine.encode(tail, message),
            Role::Client => self.machine.encode_masked(tail, message, masking_key()),
        };
        self.outgoing.tidy();
        Ok(encoded?)
    }

    /// A payload that nobody else holds is masked where it is; one that others hold is copied, so
    /// that it stays as it is for them.
    fn push_shared(&mut self, opcode: Opcode, payload: Bytes) -> Result<(), Error> {
        self.check_stream()?;
        if !self.machine.is_open() {
            return Err(SendError::Closing.into());
        }
        let (mask, payload) = match self.machine.role() {
            Role::Server => (None, payload),
            Role::Client => {
                let key = masking_key();
                let mut own = payload.try_into_mut().unwrap_or_else(|shared| shared[..].into());
                mask::apply(key, 0, &mut own);
                (Some(key), own.freeze())
            }
        };
        let payload_len = payload.len() as u64;
        let header = Header { fin: true, rsv: 0, opcode, mask, payload_len };
        header.encode(self.outgoing.tail());
        self.outgoing.push_shared(payload);
        Ok(())
    }

    /// Drops what waits, and what the machine owes: nobody will take it. A half that waits for it
    /// to be written is told that it was not.
    pub(super) fn give_up_sending(&mut self) {
        if !self.outgoing.is_empty() {
            self.outgoing.give_up();
        }
        drop(match self.machine.role() {
            Role::Server => self.machine.poll_transmit(),
            Role::Client => self.machine.poll_transmit_masked(masking_key),
        });
    }

    /// Queues what the machine owes: pongs, then its close frame. While the peer takes nothing
    /// they stay in the machine, which bounds them.
    pub(super) fn take_transmit(&mut self) {
        if self.outgoing.is_blocked() || self.outgoing.is_broken() {
            return;
        }
        let frames = match self.machine.role() {
            Role::Server => self.machine.poll_transmit(),
            Role::Client => self.machine.poll_transmit_masked(masking_key),
        };
        if let Some(frames) = frames {
            self.outgoing.tail().extend_from_slice(&frames);
        }
    }
}
