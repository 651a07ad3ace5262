//! Bodies of long-polling requests in Engine.IO 3, textual and binary (the first byte chooses): the
//! same packets as a naive reading finds, the first bad one the last; what was good is good again
//! when it is encoded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sockeye_fuzz::heap;
use sockeye_proto::engine::payload_v3::{
    decode, decode_binary, encode, encode_binary, encode_text_in_binary,
};
use sockeye_proto::engine::{Message, Packet};

fuzz_target!(|input: &[u8]| {
    let Some((kind, body)) = input.split_first() else { return };
    if kind & 1 == 0 { check_text(body) } else { check_binary(body) }
});

fn check_text(body: &[u8]) {
    let decoded: Vec<_> = decode(body).collect();
    let (good, is_whole) = good(&decoded);
    let (pieces, ends_well) = str::from_utf8(body).map_or((Vec::new(), false), text_pieces);
    let read: Vec<_> = pieces.iter().map(|piece| Packet::from_text_v3(piece)).collect();
    let expected: Vec<_> = read.iter().map_while(|packet| packet.as_ref().ok()).collect();
    assert_eq!(good.iter().collect::<Vec<_>>(), expected);
    assert_eq!(is_whole, ends_well && expected.len() == read.len());
    check_heap(body.len(), || decode(body).for_each(drop));

    let mut again = Vec::new();
    for packet in &good {
        let mut text = Vec::new();
        match packet {
            Packet::Message(Message::Binary(_)) => {
                packet.encode_text(&mut text);
                text.insert(1, b'4');
            }
            packet => packet.encode_text(&mut text),
        }
        encode(str::from_utf8(&text).expect("a packet's text is UTF-8"), &mut again);
    }
    if !good.is_empty() {
        assert_eq!(decode(&again).collect::<Result<Vec<_>, _>>().as_ref(), Ok(&good));
    }
}

/// The texts of a body, empty ones left out, and whether all of it is such.
fn text_pieces(body: &str) -> (Vec<String>, bool) {
    let units: Vec<u16> = body.encode_utf16().collect();
    let (mut rest, mut pieces) = (&units[..], Vec::new());
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|unit| (48..58).contains(*unit)).count();
        let number = String::from_utf16_lossy(&rest[..digits]).parse::<u64>();
        let (Ok(len), Some(58)) = (number, rest.get(digits)) else { return (pieces, false) };
        let behind = &rest[digits + 1..];
        let Some(piece) = usize::try_from(len).ok().and_then(|len| behind.get(..len)) else {
            return (pieces, false);
        };
        let Ok(piece) = String::from_utf16(piece) else { return (pieces, false) };
        // So many digits stand before no packet.
        if digits > 10 {
            return (pieces, false);
        }
        rest = &behind[len as usize..];
        if !piece.is_empty() {
            pieces.push(piece);
        }
    }
    (pieces, !body.is_empty())
}

fn check_binary(body: &[u8]) {
    let decoded: Vec<_> = decode_binary(body).collect();
    let (good, _) = good(&decoded);
    check_heap(body.len(), || decode_binary(body).for_each(drop));
    let mut again = Vec::new();
    for packet in &good {
        match packet {
            Packet::Message(Message::Binary(data)) => encode_binary(data, &mut again),
            packet => {
                let mut text = Vec::new();
                packet.encode_text(&mut text);
                let text = str::from_utf8(&text).expect("a packet's text is UTF-8");
                encode_text_in_binary(text, &mut again);
            }
        }
    }
    // Two bytes and the digits stand before each.
    assert!(good.len() * 3 <= body.len());
    if !good.is_empty() {
        assert_eq!(decode_binary(&again).collect::<Result<Vec<_>, _>>().as_ref(), Ok(&good));
    }
}

/// The packets before the first bad one, and whether there is none.
fn good<'a, E>(decoded: &[Result<Packet<'a>, E>]) -> (Vec<Packet<'a>>, bool) {
    let bad = decoded.iter().position(Result::is_err);
    assert!(bad.is_none_or(|at| at + 1 == decoded.len()), "nothing comes behind an error");
    (decoded.iter().filter_map(|packet| packet.as_ref().ok().cloned()).collect(), bad.is_none())
}

/// Text is borrowed and binary data is shorter than its base64: nothing is amplified.
fn check_heap(body_len: usize, work: impl Fn()) {
    let heap = heap::measure(work);
    assert!(heap.held == 0 && heap.most <= body_len as u64 + 2, "{heap:?}");
}
