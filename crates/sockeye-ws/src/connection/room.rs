//! Payload read straight into the message it belongs to, past the driver's read buffer.
//! Does not know sockets; a driver that knows none of this loses a copy and nothing else.

use std::time::Instant;

use bytes::buf::Limit;

use super::reader::Reader;
use super::{Connection, Event};
use crate::assembly::ROOM_BYTES_MIN;
use crate::frame::HEADER_BYTES_MAX;

/// How many bytes a driver had better read at once into a buffer of its own: of a long message to a
/// server, 64 KiB of payload. What follows is read to where cache lines begin, which spares a
/// twentieth of an echo of 1 MiB.
pub const READ_BYTES_MAX: usize = 64 * 1024 + HEADER_BYTES_MAX;

/// How far into its buffer a driver had better read: the payload of a short frame to a server,
/// behind a header of six bytes, then lies where a word does, and is validated by words; that of a
/// long one, behind fourteen, where a cache line does.
pub const READ_START: usize = 50;

impl Connection {
    /// Room for what comes next, if that is a large part of a message: a driver may read into it in
    /// place of its own buffer, and then calls [`handle_filled`](Self::handle_filled). That spares
    /// a copy of the payload.
    ///
    /// `None` for anything else: compressed messages, short rests of a frame, and where messages
    /// are handed out in parts. The room is at most as long as what has arrived of the message, or
    /// sixteen times as long up to 1 MiB, so that its declared length is not believed here either.
    pub fn payload_room(&mut self) -> Option<Limit<&mut Vec<u8>>> {
        let Reader::Payload(frame) = self.reader else { return None };
        if frame.opcode.is_control() || frame.remaining < ROOM_BYTES_MIN as u64 || self.in_parts {
            return None;
        }
        let bytes_max = self.bytes_max();
        let assembly = self.assembly.as_mut()?;
        if assembly.exceeds(bytes_max, frame.remaining) {
            // Which shows when it is read the other way.
            return None;
        }
        assembly.room(frame.remaining)
    }

    /// The driver has read into [`payload_room`](Self::payload_room), and done nothing else with
    /// the connection since. What [`handle_input`](Self::handle_input) would say of these bytes.
    ///
    /// # Panics
    ///
    /// If something was done to the room's buffer but to append to it within the limit.
    pub fn handle_filled(&mut self, now: Instant) -> Option<Event<'static>> {
        if let Some(closed) = self.handle_timeout(now) {
            return Some(Event::Closed(closed));
        }
        let Reader::Payload(mut frame) = self.reader else { return None };
        let assembly = self.assembly.as_mut()?;
        let filled = assembly.take_filled();
        assert!(filled.len() as u64 <= frame.remaining, "more than there was room for");
        frame.unmask(filled);
        frame.count(filled.len());
        self.reader = frame.reader();
        let event = if frame.ends_message() {
            self.finish_message().map(Some)
        } else {
            assembly.check().map(|()| None)
        };
        event.unwrap_or_else(|error| Some(Event::Closed(self.fail(error))))
    }
}
