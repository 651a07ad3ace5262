//! What peers compress: other implementations' data, limits while inflating, and data that are
//! broken in every place. Says nothing of what we compress; that is `deflate`.

use sockeye_ws::ProtocolError::{self, *};
use sockeye_ws::deflate::Options;
use sockeye_ws::{CloseCode, Closed, Event, Limits, MessageRef, Role};

use crate::foreign::ForeignSender;
use crate::support::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn message(first: u8, payload: &[u8]) -> Vec<u8> {
    masked(FIN | RSV1 | first, payload)
}

/// The events of `input` on a server's connection without contexts.
fn read_all(limits: Limits, input: &[u8]) -> Vec<Event<'static>> {
    read(&mut deflating(Role::Server, Options::default(), limits), input)
}

fn end_of(limits: Limits, input: &[u8]) -> Option<Closed> {
    closed(&read_all(limits, input)).cloned()
}

fn error_of(limits: Limits, input: &[u8]) -> Option<ProtocolError> {
    end_of(limits, input)?.error
}

fn zeros(len: usize) -> Vec<u8> {
    ForeignSender::new(9, false).compress(&vec![0; len])
}

/// Made with zlib 1.2.13 (Python): every kind of block, and every way to flush.
#[test]
fn what_zlib_compresses() {
    let text = "012345678901234567890123456789abcabcabc €€€€€";
    for (name, payload) in [
        (
            "level 0",
            "003700c8ff30313233343536373839303132333435363738393031323334353637383961626361\
          626361626320e282ace282ace282ace282ace282ac00",
        ),
        ("fixed codes", "3230343236313533b7b034c0c24a4c4a862085474d6b901100"),
        (
            "Huffman only",
            "04c1090100410400c02a17c1fac5411379a492e466e021b1a879c0436251f38087c4a2e691\
          d5599dd5dfcddeeccddeeccdfe00",
        ),
        ("finished, with an octet behind", "3330343236313533b7b034c0c24a4c4a862085474d6b90110000"),
        ("finished", "3330343236313533b7b034c0c24a4c4a862085474d6b901100"),
        (
            "flushed fully",
            "3230343236313533b7b03480b300000000ffff3230343236313533b7b04c4c4a862085474d\
          6b901100",
        ),
        ("flushed partially", "3230343236313533b7b03480b3000208c14a4c4a862085474d6b901100"),
        (
            "finished twice",
            "3330343236313533b7b03480b3003330343236313533b7b04c4c4a862085474d6b9011000\
          0",
        ),
    ] {
        let payload = bytes(payload);
        for chunk_len in 1..=payload.len() {
            let mut connection = deflating(Role::Server, takeover(), Limits::default());
            let input = [message(TEXT, &payload), message(TEXT, &payload)].concat();
            let events = input.chunks(chunk_len).flat_map(|chunk| read(&mut connection, chunk));
            let expected = vec![Event::Text(text.into()); 2];
            assert_eq!(events.collect::<Vec<_>>(), expected, "{name} in {chunk_len}");
        }
    }
}

/// Made with `ws` 8.23.0 on Node.js 20: three messages, as its server sends them.
#[test]
fn what_ws_compresses() {
    let texts = [
        r#"42["message",{"id":1,"user":"Ada","text":"Good morning, good morning!"}]"#,
        r#"42["message",{"id":2,"user":"Bob","text":"Good morning, Ada ☀️"}]"#,
        r#"42["message",{"id":3,"user":"Ada","text":"κόσμε 🐟"}]"#,
    ];
    let first = "32318a56ca4d2d2e4e4c4f55d2a956ca4c51b232d4512a2d4e2d52b252724c4954d2512a49ad2851b2\
                 5272cfcf4f51c8cd2fcacbcc4bd7514847e2292ad5c60200";
    for (options, payloads) in [
        (
            Options { server_no_context_takeover: true, ..takeover() },
            [
                first,
                "32318a56ca4d2d2e4e4c4f55d2a956ca4c51b232d2512a2d4e2d52b25272ca4f52d2512a49ad2851b2\
                 5272cfcf4f51c8cd2fcacbcc4bd751704c49547834a3e1fd8e7ea5da580000",
                "32318a56ca4d2d2e4e4c4f55d2a956ca4c51b232d6512a2d4e2d52b252724c4954d2512a49ad2851b2\
                 523ab7eb7ccff9e6737bce6d55f8307fc27ca5da580000",
            ],
        ),
        (
            takeover(),
            [
                first,
                "32c134c7086e8e537e122e731c5312151ecd6878bfa31f680800",
                "c262883176c79cdb75bee77cf3b93de7b62a7c983f613e502f00",
            ],
        ),
        (
            // With level 1 and a window of 512 bytes.
            Options { server_max_window_bits: bits(9), ..takeover() },
            [
                first,
                "32c134c7086e8e537e122e731c5312151ecd6878bfa31f680800",
                "c2628831dc1014c79cdb75bee77cf3b93de7b62a7c983f613e502f00",
            ],
        ),
    ] {
        let payloads = payloads.map(bytes);
        let frames = payloads.iter().map(|payload| frame_to(Role::Client, 0xC1, payload));
        let mut connection = deflating(Role::Client, options, Limits::default());
        let events = read(&mut connection, &frames.collect::<Vec<_>>().concat());
        assert_eq!(events, texts.map(|text| Event::Text(text.into())));
    }
}

#[test]
fn rsv1_belongs_to_the_first_frame_of_a_message_and_to_no_other() {
    for role in [Role::Server, Role::Client] {
        let frame = |first: u8, payload: &[u8]| frame_to(role, first, payload);
        for bytes in [
            frame(FIN | RSV1 | PING, b""),
            frame(FIN | RSV1 | PONG, b""),
            frame(FIN | RSV1 | CLOSE, b""),
            frame(FIN | RSV1 | CONTINUATION, b""),
            [frame(RSV1 | TEXT, b""), frame(FIN | RSV1 | CONTINUATION, b"\x00")].concat(),
            [frame(TEXT, b""), frame(FIN | RSV1 | CONTINUATION, b"\x00")].concat(),
            frame(FIN | RSV1 | 0x20 | TEXT, b"\x00"),
            frame(FIN | RSV1 | 0x10 | TEXT, b"\x00"),
            frame(FIN | 0x20 | TEXT, b"\x00"),
        ] {
            let mut connection = deflating(role, Options::default(), Limits::default());
            let events = read(&mut connection, &bytes);
            let end = closed(&events).unwrap();
            assert_eq!(end.error, Some(ReservedBits), "{bytes:02X?}");
            assert_eq!(end.code, CloseCode::PROTOCOL_ERROR);
        }
    }
}

#[test]
fn h101_the_limit_counts_inflated_bytes_over_all_fragments() {
    let limits = Limits { message_bytes_max: 1000, ..Limits::default() };
    let mut sender = ForeignSender::new(6, false);
    for (len, error) in [(999, None), (1000, None), (1001, Some(MessageTooLong))] {
        let payload = sender.compress(&vec![b'x'; len]);
        let (head, tail) = payload.split_at(payload.len() / 2);
        let fragments = [
            masked(RSV1 | TEXT, head),
            masked(FIN | PING, &[0; 125]),
            masked(FIN | CONTINUATION, tail),
        ]
        .concat();
        for input in [message(TEXT, &payload), fragments] {
            // The count starts anew with each message.
            let input = input.repeat(3);
            assert_eq!(error_of(limits, &input), error, "{len}");
            let mut connection = deflating(Role::Server, Options::default(), limits);
            let single = input.chunks(1).flat_map(|byte| read(&mut connection, byte));
            assert_eq!(
                single.last().is_some_and(|end| matches!(end, Event::Closed(_))),
                len > 1000
            );
        }
    }
}

#[test]
fn h103_a_bomb_is_stopped_while_it_is_inflated() {
    let bomb = zeros(50 << 20);
    assert!(bomb.len() < 60_000);
    let limits = Limits { message_bytes_max: 1 << 20, ..Limits::default() };
    for first in [TEXT, BINARY] {
        let end = end_of(limits, &message(first, &bomb)).unwrap();
        assert_eq!((end.code, end.error), (CloseCode::TOO_BIG, Some(MessageTooLong)));
        // It ends as soon as the limit is reached, not at the end of the frame.
        let needed = message(first, &bomb)[..2000].to_vec();
        assert_eq!(error_of(limits, &needed), Some(MessageTooLong));
    }
    // What is within the limit is a message.
    let limits = Limits { message_bytes_max: 50 << 20, ..Limits::default() };
    let events = read_all(limits, &message(BINARY, &bomb));
    let [Event::Binary(data)] = &events[..] else { panic!("one message") };
    assert_eq!(data.len(), 50 << 20);
}

#[test]
fn blocks_that_hold_nothing_are_bounded_by_the_limit_too() {
    let limits = Limits { message_bytes_max: 100_000, fragments_max: 1000, ..Limits::default() };
    for empty_block in [&b"\x00\x00\x00\xFF\xFF"[..], b"\x02\x08\x20\x80\x00", b"\x03\x00"] {
        let frame = masked(CONTINUATION, &empty_block.repeat(1000));
        let flood = [masked(RSV1 | BINARY, b""), frame.repeat(900)].concat();
        let end = end_of(limits, &flood).unwrap();
        assert_eq!(end.error, Some(MessageTooLong), "{empty_block:02X?}");
    }
    // A declared length that no compressor needs fails with the header.
    let declared = head_to(Role::Server, FIN | RSV1 | BINARY, 126_025);
    assert_eq!(error_of(limits, &declared), Some(MessageTooLong));
    let declared = head_to(Role::Server, FIN | RSV1 | BINARY, 126_024);
    assert_eq!(error_of(limits, &declared), None);
}

#[test]
fn many_small_fragments_that_are_flushed_one_by_one_are_no_flood() {
    let message = text(1, 10_000);
    let limits = Limits { message_bytes_max: message.len(), ..Limits::default() };
    let mut client = deflating(Role::Client, Options::default(), limits);
    let mut input = Vec::new();
    for index in 0..message.len() {
        let part = MessageRef::Text(&message[index..=index]);
        let fin = index + 1 == message.len();
        client.encode_fragment_masked(&mut input, part, fin, KEY).unwrap();
    }
    assert_eq!(read_all(limits, &input), [Event::Text(message.into())]);
}

/// What cannot be compressed becomes longer; it must not fail for that.
#[test]
fn the_longest_message_may_come_compressed_whatever_it_holds() {
    let noise = noise(100_000);
    let limits = Limits { message_bytes_max: noise.len(), ..Limits::default() };
    for level in 0..=9 {
        let payload = ForeignSender::new(level, false).compress(&noise);
        let events = read_all(limits, &message(BINARY, &payload));
        assert_eq!(events, [Event::Binary(noise.clone().into())], "level {level}");
    }
}

#[test]
fn text_that_is_not_utf_8_fails_when_it_is_inflated() {
    let mut sender = ForeignSender::new(6, false);
    for bad in [&b"good \xFF"[..], b"\xC0\xAF", b"\xED\xA0\x80", b"good \xF4\x90", b"cut \xE2\x82"]
    {
        let payload = sender.compress(bad);
        let end = end_of(Limits::default(), &message(TEXT, &payload)).unwrap();
        assert_eq!((end.code, end.error), (CloseCode::INVALID_PAYLOAD, Some(InvalidText)));
        assert_eq!(
            read_all(Limits::default(), &message(BINARY, &payload)),
            [Event::Binary(bad.into())]
        );
    }
    // Not only at the end of the message.
    let begun = sender.compress(b"good \xF4\x90 and so on");
    assert_eq!(error_of(Limits::default(), &masked(RSV1 | TEXT, &begun)), Some(InvalidText));
}

#[test]
fn a_message_that_refers_to_what_was_not_kept() {
    let mut sender = ForeignSender::new(6, true);
    let text = b"the same again and again, the same again and again";
    let first = message(TEXT, &sender.compress(text));
    let second = message(TEXT, &sender.compress(text));
    let input = [first, second].concat();
    let events = read_all(Limits::default(), &input);
    let [Event::Text(_), Event::Closed(end)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((end.code, end.error), (CloseCode::INVALID_PAYLOAD, Some(InvalidDeflate)));
    let mut keeping = deflating(Role::Server, takeover(), Limits::default());
    assert_eq!(read(&mut keeping, &input).len(), 2);
}

/// What a server makes of a message, whole and in pieces, which must be the same.
fn verdict(options: Options, payload: &[u8]) -> Vec<Event<'static>> {
    let limits = Limits { message_bytes_max: 10_000, ..Limits::default() };
    let input = [message(TEXT, payload), masked(FIN | TEXT, b"behind")].concat();
    let mut connection = deflating(Role::Server, options, limits);
    let whole = read(&mut connection, &input);
    for chunk_len in [1, 7] {
        let mut connection = deflating(Role::Server, options, limits);
        let events = input.chunks(chunk_len).flat_map(|chunk| read(&mut connection, chunk));
        assert_eq!(events.collect::<Vec<_>>(), whole, "in {chunk_len}: {payload:02X?}");
    }
    whole
}

/// Messages of every kind of block.
fn samples() -> Vec<Vec<u8>> {
    let text: String = (0..12).map(|number| format!("{number} and {}, ", number * 37)).collect();
    let mut samples: Vec<_> =
        [0, 1, 9].map(|level| ForeignSender::new(level, false).compress(text.as_bytes())).into();
    samples.push(bytes("3230343236313533b7b034c0c24a4c4a862085474d6b901100"));
    samples.push(bytes("3330343236313533b7b034c0c24a4c4a862085474d6b90110000"));
    samples
}

#[test]
fn data_cut_off_anywhere_are_no_message() {
    for options in [Options::default(), takeover()] {
        for sample in samples() {
            assert_eq!(verdict(options, &sample).len(), 2);
            for len in 1..sample.len() {
                let events = verdict(options, &sample[..len]);
                if sample[..len] == [0x00] {
                    assert_eq!(events[0], Event::Text("".into()));
                    continue;
                }
                // All that may be missing is the octet behind a block marked as the last.
                if sample[0] & 1 != 0 && len == sample.len() - 1 {
                    assert_eq!(events.len(), 2);
                    continue;
                }
                let [Event::Closed(end)] = &events[..] else { panic!("{len}: {events:?}") };
                assert_eq!(end.error, Some(InvalidDeflate), "{len} of {}", sample.len());
                assert_eq!(end.code, CloseCode::INVALID_PAYLOAD);
            }
        }
    }
}

#[test]
fn data_broken_in_any_bit_end_the_connection_or_are_another_message() {
    let mut refused = 0;
    for sample in samples() {
        for index in 0..sample.len() {
            for bit in 0..8 {
                let mut broken = sample.clone();
                broken[index] ^= 1 << bit;
                match &verdict(Options::default(), &broken)[..] {
                    [Event::Closed(end)] => {
                        let error = end.error.expect("what is wrong");
                        let known = [InvalidDeflate, InvalidText, MessageTooLong];
                        assert!(known.contains(&error), "{error}");
                        refused += 1;
                    }
                    [Event::Text(_), Event::Text(behind)] => assert_eq!(behind, "behind"),
                    events => panic!("{events:?}"),
                }
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn what_follows_a_last_block_is_a_block_or_an_error() {
    let hello = bytes("f348cdc9c90700");
    for (behind, error) in [
        (&b"\x07"[..], Some(InvalidDeflate)),
        (b"\xFF\xFF\xFF", Some(InvalidDeflate)),
        (b"Hello", Some(InvalidDeflate)),
        (b"\x00\x00\x00\xFF", Some(InvalidDeflate)),
        (b"\x00\x00\x00\xFF\xFF", Some(InvalidDeflate)),
        (b"\x00\x00\x00\xFF\xFF\x00", None),
    ] {
        let events = verdict(Options::default(), &[&hello, behind].concat());
        assert_eq!(closed(&events).and_then(|end| end.error), error, "{behind:02X?}");
    }
}

/// The known bug is to wait for input that has been there all along: that never ends.
#[test]
fn inflating_comes_to_an_end_behind_a_last_block() {
    let payload = [b"\x03\x00".repeat(500_000), b"\x00".to_vec()].concat();
    assert_eq!(read_all(Limits::default(), &message(TEXT, &payload)), [Event::Text("".into())]);
}
