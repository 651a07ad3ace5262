//! Bodies of long-polling requests: as many packets as pieces and no more, each what its piece
//! says, the first bad one the last; what was good is good again when it is encoded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sockeye_fuzz::heap;
use sockeye_proto::engine::payload::{PayloadError, SEPARATOR, decode};
use sockeye_proto::engine::{Message, Packet, PacketError};

fuzz_target!(|body: &[u8]| {
    let decoded: Vec<_> = decode(body).collect();
    let pieces: Vec<_> = body.split(|byte| *byte == SEPARATOR).collect();
    assert!(!decoded.is_empty() && decoded.len() <= pieces.len());
    for (index, (piece, packet)) in pieces.iter().zip(&decoded).enumerate() {
        match packet {
            Ok(packet) => check_packet(piece, packet),
            Err(error) => {
                assert_eq!(index + 1, decoded.len(), "nothing comes behind an error");
                check_error(piece, *error);
            }
        }
    }
    assert!(decoded.len() == pieces.len() || decoded.last().is_some_and(Result::is_err));
    // Text is borrowed and binary data is shorter than its base64 (but for the rounding of room
    // that is made for it): nothing is amplified.
    let heap = heap::measure(|| decode(body).for_each(drop));
    assert!(heap.held == 0 && heap.most <= body.len() as u64 + 2, "{heap:?}");

    let good: Vec<_> = decoded.into_iter().map_while(Result::ok).collect();
    if !good.is_empty() {
        let again = encode(&good);
        let again: Result<Vec<_>, _> = decode(&again).collect();
        assert_eq!(again.as_deref(), Ok(&good[..]));
    }
});

fn check_packet(piece: &[u8], packet: &Packet<'_>) {
    let (kind, rest) = piece.split_first().expect("an empty piece is no packet");
    match (kind, packet) {
        (b'0', Packet::Open(data))
        | (b'2', Packet::Ping(data))
        | (b'3', Packet::Pong(data))
        | (b'4', Packet::Message(Message::Text(data))) => assert_eq!(data.as_bytes(), rest),
        (b'1', Packet::Close) | (b'5', Packet::Upgrade) | (b'6', Packet::Noop) => {}
        (b'b', Packet::Message(Message::Binary(data))) => {
            let digits = rest.iter().filter(|byte| **byte != b'=').count();
            assert_eq!(data.len(), digits * 3 / 4);
        }
        _ => panic!("{packet:?} is not what {piece:?} says"),
    }
}

fn check_error(piece: &[u8], error: PayloadError) {
    let is_text = str::from_utf8(piece).is_ok();
    match error {
        PayloadError::Utf8 => assert!(!is_text),
        PayloadError::Packet(PacketError::Base64) => assert!(is_text && piece[0] == b'b'),
        PayloadError::Length => panic!("there are no lengths in this revision"),
        PayloadError::Packet(PacketError::UnknownType) => {
            assert!(is_text && !piece.first().is_some_and(|kind| b"0123456b".contains(kind)));
        }
    }
}

fn encode(packets: &[Packet<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for packet in packets {
        if !body.is_empty() {
            body.push(SEPARATOR);
        }
        packet.encode_text(&mut body);
    }
    body
}
