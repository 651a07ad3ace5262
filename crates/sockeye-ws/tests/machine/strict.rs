//! Every illegal frame, and the status code RFC 6455 gives for it, for both roles.
//! Also what is legal although it looks odd.

use sockeye_ws::ProtocolError::{self, *};
use sockeye_ws::{CloseCode, Connection, Event, Limits, Role};

use crate::support::*;

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    error: ProtocolError,
    code: u16,
}

/// What a peer of `role` may not send.
fn illegal(role: Role) -> Vec<Case> {
    let frame = |first: u8, payload: &[u8]| frame_to(role, first, payload);
    let case = |name, bytes, error, code| Case { name, bytes, error, code };
    let message_then = |bytes: Vec<u8>| [frame(TEXT, b"begun"), bytes].concat();

    let mut cases = vec![
        case("RSV1", frame(FIN | 0x40 | TEXT, b"x"), ReservedBits, 1002),
        case("RSV2", frame(FIN | 0x20 | BINARY, b"x"), ReservedBits, 1002),
        case("RSV3", frame(FIN | 0x10 | TEXT, b"x"), ReservedBits, 1002),
        case("RSV1 on a ping", frame(FIN | 0x40 | PING, b""), ReservedBits, 1002),
        case(
            "RSV1 on a continuation",
            message_then(frame(FIN | 0x40 | CONTINUATION, b"")),
            ReservedBits,
            1002,
        ),
        case("lone continuation", frame(FIN | CONTINUATION, b"x"), UnexpectedContinuation, 1002),
        case("lone first part", frame(CONTINUATION, b"x"), UnexpectedContinuation, 1002),
        case(
            "continuation after the end",
            [message_then(frame(FIN, b"")), frame(FIN, b"")].concat(),
            UnexpectedContinuation,
            1002,
        ),
        case("text in a message", message_then(frame(FIN | TEXT, b"")), UnfinishedMessage, 1002),
        case("binary in a message", message_then(frame(BINARY, b"")), UnfinishedMessage, 1002),
        case("fragmented ping", frame(PING, b""), FragmentedControl, 1002),
        case("fragmented pong", frame(PONG, b""), FragmentedControl, 1002),
        case("fragmented close", frame(CLOSE, b""), FragmentedControl, 1002),
        case("ping of 126 bytes", frame(FIN | PING, &[0; 126]), ControlTooLong, 1002),
        case("pong of 64 KiB", frame(FIN | PONG, &[0; 65_536]), ControlTooLong, 1002),
        case("close of 126 bytes", frame(FIN | CLOSE, &[3; 126]), ControlTooLong, 1002),
        case("close of one byte", frame(FIN | CLOSE, &[3]), CloseTooShort, 1002),
        case("length 2^53", head_to(role, FIN | BINARY, 1 << 53), LengthOverflow, 1009),
        case("length 2^64 - 1", head_to(role, FIN | BINARY, u64::MAX), LengthOverflow, 1009),
        case("100 MiB + 1", head_to(role, FIN | TEXT, (100 << 20) + 1), MessageTooLong, 1009),
        case("text not UTF-8", frame(FIN | TEXT, b"\xCE\xBA\xFF"), InvalidText, 1007),
        case("overlong text", frame(FIN | TEXT, b"\xC0\xAF"), InvalidText, 1007),
        case("surrogate in text", frame(FIN | TEXT, b"\xED\xA0\x80"), InvalidText, 1007),
        case("text above U+10FFFF", frame(FIN | TEXT, b"\xF4\x90\x80\x80"), InvalidText, 1007),
        case("truncated text", frame(FIN | TEXT, b"\xE2\x82"), InvalidText, 1007),
        case("bad first fragment", frame(TEXT, b"abc\xFF"), InvalidText, 1007),
        case(
            "truncated fragmented text",
            [frame(TEXT, b"\xE2"), frame(FIN, b"\x82")].concat(),
            InvalidText,
            1007,
        ),
        case(
            "close reason not UTF-8",
            frame(FIN | CLOSE, b"\x03\xE8\xFF"),
            InvalidCloseReason,
            1007,
        ),
    ];
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let bytes = frame(FIN | opcode, b"");
        cases.push(case("reserved opcode", bytes, ReservedOpcode(opcode), 1002));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        let bytes = frame(FIN | CLOSE, &code.to_be_bytes());
        cases.push(case("close code", bytes, InvalidCloseCode(code), 1002));
    }
    cases.push(match role {
        Role::Server => case("unmasked", b"\x81\x01x".to_vec(), Unmasked, 1002),
        Role::Client => case("masked", masked(FIN | TEXT, b"x"), Masked, 1002),
    });
    cases
}

#[test]
fn every_illegal_frame_is_answered_with_its_status_code() {
    for role in [Role::Server, Role::Client] {
        for Case { name, bytes, error, code } in illegal(role) {
            // In one piece and byte by byte, with something behind it that must be ignored.
            let bytes = [bytes, frame_to(role, FIN | TEXT, b"never seen")].concat();
            for chunk_len in [bytes.len(), 1] {
                let mut connection = Connection::new(role, Limits::default());
                let events: Vec<_> = bytes
                    .chunks(chunk_len)
                    .flat_map(|chunk| read(&mut connection, chunk))
                    .collect();

                let [.., Event::Closed(closed)] = &events[..] else {
                    panic!("{name}: {events:?}");
                };
                assert_eq!(closed.error, Some(error), "{name}");
                assert_eq!((closed.code, closed.clean), (CloseCode(code), false), "{name}");
                assert!(!events.contains(&Event::Text("never seen".into())), "{name}");
                assert_eq!(connection.closed(), Some(closed), "{name}");

                let close_frame = frame_to(peer_of(role), FIN | CLOSE, &code.to_be_bytes());
                assert_eq!(transmit(&mut connection, role), close_frame, "{name}");
                assert_eq!(connection.handle_eof(), None, "{name}: reported twice");
            }
        }
    }
}

#[test]
fn an_illegal_frame_fails_with_its_second_byte() {
    for bytes in
        [[0xC1, 0xFF], [0x83, 0xFF], [0x80, 0xFF], [0x09, 0x80], [0x89, 0xFE], [0x81, 0x7F]]
    {
        let events = read(&mut server(Limits::default()), &bytes);
        assert!(closed(&events).is_some(), "{bytes:02X?}");
    }
}

#[test]
fn bad_text_fails_before_its_message_ends() {
    let frames = masked(TEXT, b"good \xF4\x90");
    let mut connection = server(Limits::default());
    assert_eq!(closed(&read(&mut connection, &frames)).unwrap().error, Some(InvalidText));

    // Also within a frame whose rest is not here.
    let frames = masked(FIN | TEXT, b"good \xF4\x90 and much more");
    let mut connection = server(Limits::default());
    assert_eq!(closed(&read(&mut connection, &frames[..13])).unwrap().error, Some(InvalidText));
}

#[test]
fn a_violation_while_closing_is_not_answered_again() {
    let now = std::time::Instant::now();
    let mut connection = server(Limits::default());
    connection.close(Some(CloseCode::NORMAL), "", now).unwrap();
    assert_eq!(transmit(&mut connection, Role::Server), b"\x88\x02\x03\xE8");

    let events = read(&mut connection, &masked(FIN | 0x3, b""));
    assert_eq!(closed(&events).unwrap().error, Some(ReservedOpcode(3)));
    assert_eq!(connection.poll_transmit(), None);
}

#[test]
fn close_codes_and_reasons_are_reported_and_echoed() {
    let longest = [b"\x03\xE8".as_slice(), "ö".repeat(61).as_bytes(), b"!"].concat();
    let cases: [(&[u8], u16, &str, &[u8]); 5] = [
        (b"", 1005, "", b"\x88\x00"),
        (b"\x03\xE8", 1000, "", b"\x88\x02\x03\xE8"),
        (b"\x03\xE9going", 1001, "going", b"\x88\x02\x03\xE9"),
        (b"\x13\x87", 4999, "", b"\x88\x02\x13\x87"),
        (&longest, 1000, str::from_utf8(&longest[2..]).unwrap(), b"\x88\x02\x03\xE8"),
    ];
    for (payload, code, reason, echo) in cases {
        let mut connection = server(Limits::default());
        let bytes = [masked(FIN | CLOSE, payload), masked(FIN | TEXT, b"too late")].concat();
        let events = read(&mut connection, &bytes);
        let [Event::Closed(closed)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((closed.code.0, &closed.reason[..], closed.clean), (code, reason, true));
        assert_eq!(closed.error, None);
        assert_eq!(connection.poll_transmit().as_deref(), Some(echo));
    }
}

#[test]
fn what_looks_odd_but_is_legal() {
    let text = |text: &'static str| vec![Event::Text(text.into())];
    let cases = [
        ("empty text", masked(FIN | TEXT, b""), text("")),
        (
            "empty fragments",
            [masked(TEXT, b""), masked(0, b""), masked(FIN, b"")].concat(),
            text(""),
        ),
        (
            "a character over three fragments",
            [masked(TEXT, b"\xE2"), masked(0, b"\x82"), masked(FIN, b"\xAC")].concat(),
            text("€"),
        ),
        ("a zero key", b"\x81\x82\0\0\0\0hi".to_vec(), text("hi")),
        ("16 bits for a length of 2", b"\x81\xFE\0\x02\0\0\0\0hi".to_vec(), text("hi")),
        ("64 bits for a length of 2", b"\x81\xFF\0\0\0\0\0\0\0\x02\0\0\0\0hi".to_vec(), text("hi")),
        (
            "16 bits for a length of 0",
            [&b"\x82\xFE\0\0\0\0\0\0"[..], &masked(FIN | PONG, b"unasked")].concat(),
            vec![Event::Binary([].as_slice().into()), Event::Pong(b"unasked".as_slice().into())],
        ),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(read(&mut server(Limits::default()), &bytes), expected, "{name}");
    }
}

#[test]
fn lengths_around_the_forms_of_the_header() {
    for len in [0, 1, 124, 125, 126, 127, 65_535, 65_536, 65_537] {
        let payload: Vec<u8> = (0..len).map(|index| index as u8).collect();
        let bytes = masked(FIN | BINARY, &payload);
        let expected = vec![Event::Binary(payload.into())];
        assert_eq!(read(&mut server(Limits::default()), &bytes), expected, "{len}");
    }
}
