//! Packets of all lengths around those at which their headers or buffers change: they are what
//! putting them together by hand makes of them, and hold what they say.

use std::ops::RangeInclusive;

use bytes::Bytes;
use serde_json::value::RawValue;
use sockeye_proto::socket::{Binary, EncodedPacket, UnfinishedEvent};

/// From where on headers are longer, and buffers are not kept or not copied any more.
const BORDERS: [RangeInclusive<usize>; 5] =
    [10..=20, 115..=136, 65_525..=65_546, 73_700..=73_740, 131_060..=131_082];

/// A frame of a server's, by RFC 6455 §5.2.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let mut frame = vec![first];
    match len {
        0..=125 => frame.push(len as u8),
        126..=65_535 => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    [&frame, payload].concat()
}

/// What a packet costs that is nothing but its frames.
fn overhead() -> usize {
    let packet = EncodedPacket::disconnect("/");
    packet.held_bytes() - packet.wire().len()
}

fn check(packet: &EncodedPacket, text: &str, attachments: &[Bytes]) {
    let what = format!("{} bytes and {} attachments", text.len(), attachments.len());
    let mut wire = frame(0x81, text.as_bytes());
    attachments.iter().for_each(|data| wire.extend(frame(0x82, data)));
    assert!(packet.wire() == wire, "{what}");
    assert!(packet.text() == &text[1..], "{what}");
    assert!(packet.attachments().eq(attachments.iter().map(|data| &data[..])), "{what}");
    let ranges = attachments.len() * size_of::<std::ops::Range<usize>>();
    assert_eq!(packet.held_bytes(), overhead() + wire.len() + ranges, "{what}");
    let mut payload = Vec::new();
    packet.write_payload(&mut payload);
    assert_eq!(payload.len(), packet.payload_len(), "{what}");
}

/// An event with all its arguments in all ways there are to make it; what all of them are.
fn all_ways(fill: usize, attachments: &[Bytes]) -> (String, Vec<EncodedPacket>) {
    let filled = "x".repeat(fill);
    let data: Vec<_> = attachments.iter().map(|data| Binary::from(data.to_vec())).collect();
    let placeholder = |num| format!("{{\"_placeholder\":true,\"num\":{num}}}");
    let placeholders: Vec<_> = (0..data.len()).map(placeholder).collect();
    let args = format!("\"{filled}\",[{}]", placeholders.join(","));
    let list = format!("[\"e\",{args}]");
    let raw: Box<RawValue> = serde_json::from_str(&list).expect("JSON");
    let serialized = EncodedPacket::event("/", None, "e", &(&filled, &data)).expect("JSON");
    let unfinished = UnfinishedEvent::new("/", "e", &(&filled, &data)).expect("JSON");
    let packets = vec![
        EncodedPacket::event_raw("/", None, "e", &args, attachments),
        EncodedPacket::event_list("/", None, &raw, attachments).expect("an event"),
        serialized.event_again("/", None),
        UnfinishedEvent::again(&serialized).finish(),
        unfinished.clone().finish(),
        unfinished.finish(),
        serialized,
    ];
    let prefix = if attachments.is_empty() { "42".into() } else { format!("45{}-", data.len()) };
    (prefix + &list, packets)
}

#[test]
fn packets_of_all_lengths_around_the_borders_are_whole() {
    let none = all_ways(0, &[]).0.len();
    for len in BORDERS.into_iter().flatten() {
        let Some(fill) = len.checked_sub(none) else { continue };
        let (text, packets) = all_ways(fill, &[]);
        assert_eq!(text.len(), len);
        packets.iter().for_each(|packet| check(packet, &text, &[]));
    }
}

#[test]
fn so_are_those_with_attachments() {
    let lens = [0, 1, 125, 126, 65_535, 65_536, 70_000];
    let attachments = lens.map(|len| Bytes::from(vec![len as u8; len]));
    for count in [1, 2, lens.len()] {
        for first in 0..=lens.len() - count {
            let attachments = &attachments[first..first + count];
            let least = all_ways(0, attachments).0.len();
            for border in [126, 65_536] {
                for len in border - 2..border + 3 {
                    let Some(fill) = usize::checked_sub(len, least) else { continue };
                    let (text, packets) = all_ways(fill, attachments);
                    assert_eq!(text.len(), len);
                    packets.iter().for_each(|packet| check(packet, &text, attachments));
                }
            }
        }
    }
}

#[test]
fn a_packet_is_the_same_whatever_was_written_before_it() {
    // The buffer that is used again is as long as what was written in it before.
    for before in [0, 100, 40_000, 65_000, 66_000, 200_000] {
        for fill in [0, 110, 65_510, 65_530, 100_000] {
            drop(EncodedPacket::event("/", None, "e", &"y".repeat(before)).expect("JSON"));
            let (text, packets) = all_ways(fill, &[Bytes::from_static(b"data")]);
            for packet in &packets {
                check(packet, &text, &[Bytes::from_static(b"data")]);
            }
        }
    }
}
