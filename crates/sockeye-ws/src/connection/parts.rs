//! Messages read in parts: what has arrived is handed out, and nothing is kept.
//! Does not know what the parts are for; how frames are cut out of the input is `reader`'s.

use std::borrow::Cow;

use super::reader::{Frame, Reader, advance};
use super::{Connection, Event, Part, PartEvent};
use crate::assembly::PartData;
use crate::error::ProtocolError;
use crate::frame::Opcode;
use crate::utf8;

/// How much compressed payload is looked at for a part. What turns out to be too much for it is
/// masked again and read once more.
const COMPRESSED_BYTES: usize = 16 << 10;

impl Connection {
    /// Reads frames until one completes a part or a control frame, or `input` is used up.
    pub(super) fn read_part<'i>(
        &mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<PartEvent<'i>>, ProtocolError> {
        while let Some(frame) = self.next_frame(input)? {
            let event = if frame.opcode.is_control() {
                self.read_control(frame, input)?.and_then(PartEvent::control)
            } else {
                self.read_data_part(frame, input)?
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Whether the message under way is handed out in parts.
    #[inline]
    pub(super) fn is_message_in_parts(&self) -> bool {
        self.assembly.as_ref().is_some_and(|assembly| assembly.is_in_parts())
    }

    /// Passes over what is left of a message that was handed out in parts. Control frames in it
    /// count.
    pub(super) fn skip_parts<'i>(
        &mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Event<'i>>, ProtocolError> {
        while self.is_message_in_parts()
            && let Some(frame) = self.next_frame(input)?
        {
            if !frame.opcode.is_control() {
                let part = self.read_data_part(frame, input)?;
                if let (Some(_), Some(assembly)) = (part, &mut self.assembly) {
                    assembly.give_up();
                }
            } else if let event @ Some(_) = self.read_control(frame, input)? {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Reads what `input` holds of a text, binary or continuation frame, or a part of it.
    fn read_data_part<'i>(
        &mut self,
        mut frame: Frame,
        input: &mut &'i mut [u8],
    ) -> Result<Option<PartEvent<'i>>, ProtocolError> {
        let whole = frame.fin && frame.remaining <= input.len() as u64;
        if whole && self.assembly.is_none() && !frame.compressed {
            self.reader = Reader::START;
            let data = whole_data(&mut frame, input)?;
            return Ok(Some(PartEvent::new(data, true, true)));
        }
        let bytes_max = self.bytes_max();
        let assembly = self.assembly(&frame);
        let data = if assembly.compressed_len().is_some() {
            let len = frame.payload_len(input, COMPRESSED_BYTES);
            let payload = &mut input[..len];
            frame.unmask(payload);
            let (consumed, data) = assembly.inflated_part(payload, bytes_max)?;
            frame.count(consumed);
            frame.unmask(&mut payload[consumed..]);
            advance(input, consumed);
            data
        } else {
            assembly.part(frame.take_payload_part(input, assembly.part_len_max()))?
        };
        self.reader = frame.reader();
        let last = frame.ends_message();
        if data.is_empty() && !last {
            return Ok(None);
        }
        let assembly = self.assembly(&frame);
        let (first, is_given_up) = (assembly.hand_out(&data), assembly.is_given_up());
        if last {
            self.finish_message()?;
        }
        Ok((!is_given_up).then(|| PartEvent::new(data, first, last)))
    }
}

/// The data of a message that is one frame and here as a whole.
fn whole_data<'i>(
    frame: &mut Frame,
    input: &mut &'i mut [u8],
) -> Result<PartData<'i>, ProtocolError> {
    let payload = frame.take_payload_part(input, usize::MAX);
    if frame.opcode == Opcode::Text {
        let text = utf8::validate(payload).map_err(|_| ProtocolError::InvalidText)?;
        Ok(PartData::Text(Cow::Borrowed(text)))
    } else {
        Ok(PartData::Binary(Cow::Borrowed(payload)))
    }
}

impl<'a> PartEvent<'a> {
    fn new(data: PartData<'a>, first: bool, last: bool) -> Self {
        match data {
            PartData::Text(data) => Self::Text(Part { data, first, last }),
            PartData::Binary(data) => Self::Binary(Part { data, first, last }),
        }
    }
}
