//! A peer made of another implementation of DEFLATE (miniz), which also looks at how far back the
//! data refer. Knows of frames only how to take them apart.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use sockeye_ws::deflate::WindowBits;
use sockeye_ws::{Header, mask};

use crate::reference;
use crate::support::*;

const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// Compresses messages, each by itself or with what came before.
pub(crate) struct ForeignSender {
    compressor: Compress,
    takeover: bool,
}

impl ForeignSender {
    pub(crate) fn new(level: u32, takeover: bool) -> Self {
        Self { compressor: Compress::new(Compression::new(level), false), takeover }
    }

    /// The payload of a message; empty ones as RFC 7692 §7.2.3.6 has them.
    pub(crate) fn compress(&mut self, message: &[u8]) -> Vec<u8> {
        if message.is_empty() {
            return vec![0x00];
        }
        if !self.takeover {
            self.compressor.reset();
        }
        let mut out = vec![0; message.len() * 2 + 1000];
        let before = self.compressor.total_out();
        self.compressor.compress(message, &mut out, FlushCompress::Sync).expect("room enough");
        out.truncate((self.compressor.total_out() - before) as usize);
        assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        out
    }
}

/// A message off the wire: the first byte of its first frame without FIN, and its payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

/// Takes frames apart and inflates what is compressed.
pub(crate) struct ForeignReceiver {
    inflater: Decompress,
    /// What was inflated so far.
    history: Vec<u8>,
    takeover: bool,
    window: WindowBits,
}

impl ForeignReceiver {
    pub(crate) fn new(window: WindowBits, takeover: bool) -> Self {
        Self { inflater: Decompress::new(false), history: Vec::new(), takeover, window }
    }

    /// The messages in `bytes`, which hold whole ones; control frames are passed over.
    pub(crate) fn receive(&mut self, mut bytes: &[u8]) -> Vec<Received> {
        let mut messages = Vec::new();
        let mut under_way: Option<Received> = None;
        while let Some((header, header_len)) = Header::decode(bytes).expect("legal frames") {
            let (payload, rest) = bytes[header_len..].split_at(header.payload_len as usize);
            bytes = rest;
            if header.opcode.is_control() {
                continue;
            }
            let first = header.opcode as u8 | header.rsv << 4;
            let message = under_way.get_or_insert_with(|| Received { first, payload: Vec::new() });
            let start = message.payload.len();
            message.payload.extend_from_slice(payload);
            mask::apply(header.mask.unwrap_or_default(), 0, &mut message.payload[start..]);
            if header.fin {
                messages.extend(under_way.take());
            }
        }
        assert!(bytes.is_empty() && under_way.is_none(), "whole messages");
        for message in &mut messages {
            if message.first & RSV1 != 0 {
                message.payload = self.inflate(&message.payload);
            }
        }
        messages
    }

    fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if !self.takeover {
            self.inflater.reset(false);
            self.history.clear();
        }
        let input = [payload, &TAIL].concat();
        let mut out = Vec::new();
        let mut consumed = 0;
        loop {
            let start = out.len();
            out.resize(start + (64 << 10), 0);
            let (before_in, before_out) = (self.inflater.total_in(), self.inflater.total_out());
            let result = self.inflater.decompress(
                &input[consumed..],
                &mut out[start..],
                FlushDecompress::Sync,
            );
            result.expect("valid data");
            consumed += (self.inflater.total_in() - before_in) as usize;
            out.truncate(start + (self.inflater.total_out() - before_out) as usize);
            if consumed == input.len() && out.len() < start + (64 << 10) {
                break;
            }
        }
        let start = self.history.len();
        let furthest = reference::inflate(&input, &mut self.history).expect("valid data");
        assert!(furthest <= self.window.bytes(), "{furthest} of {}", self.window);
        assert_eq!(self.history[start..], out);
        out
    }
}

#[test]
fn how_far_data_refer_back() {
    // 600 bytes, and the first ones again.
    let mut message: Vec<_> = noise(600).into_iter().map(|byte| b'a' + byte % 16).collect();
    message.extend_from_within(..50);
    let payload = [ForeignSender::new(9, false).compress(&message), TAIL.to_vec()].concat();
    let mut out = Vec::new();
    assert_eq!(reference::inflate(&payload, &mut out), Some(600));
    assert_eq!(out, message);
}
