//! What has broken WebSocket libraries before: published advisories and field reports, by name.
//! Knows nothing of sockets; where memory matters it looks at what the machine hands out.

use std::borrow::Cow;
use std::time::Instant;

use sockeye_ws::ProtocolError::{self, *};
use sockeye_ws::handshake::head::{HeadError, HeadLimits, HeadReader};
use sockeye_ws::handshake::server::{HandshakeError, verify};
use sockeye_ws::handshake::{HttpVersion, accept_key};
use sockeye_ws::{Closed, Event, Limits, MessageRef, Role};

use crate::support::*;

const REQUEST: &str = "GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// How reading `bytes` ends a server's connection.
fn end_of(limits: Limits, bytes: &[u8]) -> Option<Closed> {
    closed(&read(&mut server(limits), bytes)).cloned()
}

fn error_of(limits: Limits, bytes: &[u8]) -> Option<ProtocolError> {
    end_of(limits, bytes).and_then(|closed| closed.error)
}

/// Verifies [`REQUEST`] with `extra` lines in it.
fn verify_with(extra: &str) -> Result<usize, HandshakeError> {
    let request = REQUEST.replace("\r\n\r\n", &format!("\r\n{extra}\r\n\r\n"));
    let mut reader = HeadReader::new(HeadLimits { bytes_max: 1 << 30, headers_max: 1000 });
    reader.push(request.as_bytes())?.expect("the head is complete");
    let head = reader.request()?;
    let accept = verify(head.method, head.version, |name| head.headers.all(name))?;
    Ok(accept.protocols.len())
}

fn fragments(count: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = masked(BINARY, payload);
    for _ in 1..count {
        bytes.extend(masked(CONTINUATION, payload));
    }
    bytes
}

#[test]
fn ws_cve_2026_48779_flood_of_one_byte_fragments() {
    let limits = Limits::default();
    assert_eq!(error_of(limits, &fragments(16_384, b"x")), None);
    let end = end_of(limits, &fragments(16_385, b"x")).unwrap();
    assert_eq!((end.code.0, end.error), (1008, Some(TooManyFragments)));
}

#[test]
fn ws_cve_2026_48779_flood_of_empty_fragments() {
    let limits = Limits::default();
    assert_eq!(error_of(limits, &fragments(16_384, b"")), None);
    let end = end_of(limits, &fragments(16_385, b"")).unwrap();
    assert_eq!((end.code.0, end.error), (1008, Some(TooManyFragments)));
}

#[test]
fn the_count_of_fragments_starts_anew_with_each_message() {
    let mut connection = server(Limits { fragments_max: 3, ..Limits::default() });
    let message = [fragments(2, b"x"), masked(FIN, b"x")].concat();
    for _ in 0..10 {
        assert_eq!(read(&mut connection, &message).len(), 1);
    }
    assert!(connection.is_open());
}

#[test]
fn ws_cve_2024_37890_very_many_request_headers() {
    let line = "x: y\r\n".repeat(200);
    let request = REQUEST.replace("\r\n\r\n", &format!("\r\n{line}\r\n"));
    let mut reader = HeadReader::new(HeadLimits::default());
    assert_eq!(reader.push(request.as_bytes()), Ok(Some(request.len())));
    assert_eq!(reader.request().unwrap_err(), HeadError::TooManyHeaders);

    let many = line.repeat(100);
    let mut reader = HeadReader::new(HeadLimits::default());
    assert_eq!(reader.push(many.as_bytes()), Err(HeadError::TooLong));
    assert_eq!(HandshakeError::from(HeadError::TooLong).status(), 431);
}

/// Values that made regular expressions backtrack; quadratic work on a megabyte would take hours.
#[test]
fn ws_cve_2021_32640_and_ghsa_5v72_xg48_5rpm_slow_parsing_of_header_lists() {
    let spaces = " ".repeat(1 << 20);
    let many: String = (0..100_000).map(|index| format!("p{index},")).collect();
    for (name, value, expected) in [
        ("Sec-WebSocket-Protocol", format!("a{spaces}b"), Err(HandshakeError::Protocol)),
        ("Sec-WebSocket-Protocol", format!("a,{spaces},b"), Err(HandshakeError::Protocol)),
        ("Sec-WebSocket-Protocol", format!("{many}last"), Ok(100_001)),
        ("Sec-WebSocket-Protocol", format!("{many}p0"), Err(HandshakeError::Protocol)),
        ("Sec-WebSocket-Extensions", format!("a{spaces}b"), Err(HandshakeError::Extensions)),
        ("Sec-WebSocket-Extensions", format!("a;{spaces}b"), Ok(0)),
        ("Sec-WebSocket-Extensions", "a;".repeat(1 << 19), Err(HandshakeError::Extensions)),
        ("Sec-WebSocket-Extensions", "a;b=\"".repeat(1 << 18), Err(HandshakeError::Extensions)),
        ("Connection", format!("{}close", ",".repeat(1 << 20)), Ok(0)),
        ("Upgrade", format!("a{spaces}b"), Ok(0)),
    ] {
        assert_eq!(verify_with(&format!("{name}: {value}")), expected, "{name}");
    }
}

#[test]
fn tungstenite_cve_2023_43669_megabytes_of_header_in_small_pieces() {
    let piece = b"x-filler: aaaaaaa\r\n";
    let mut reader = HeadReader::new(HeadLimits::default());
    reader.push(b"GET / HTTP/1.1\r\n").unwrap();
    let refused_after = (0..1 << 20).find(|_| reader.push(piece).is_err()).unwrap();
    assert!(refused_after * piece.len() < 17 << 10);

    // A legal head byte by byte.
    let mut reader = HeadReader::new(HeadLimits::default());
    let ends = REQUEST.bytes().map(|byte| reader.push(&[byte]).unwrap());
    assert_eq!(ends.filter(Option::is_some).count(), 1);
    assert!(reader.request().is_ok());
}

#[test]
fn ws_cve_2016_10542_messages_have_a_limit() {
    assert_eq!(Limits::default().message_bytes_max, 100 << 20);
    let declared = head_to(Role::Server, FIN | BINARY, (100 << 20) + 1);
    let end = end_of(Limits::default(), &declared).unwrap();
    assert_eq!((end.code.0, end.error), (1009, Some(MessageTooLong)));
}

/// Both disclosed memory by sending more than was written.
#[test]
fn ws_cve_2016_10518_and_cve_2026_45736_pong_and_close_hold_what_the_peer_sent() {
    for len in 0..=125 {
        let payload = vec![0xA5; len];
        let mut connection = server(Limits::default());
        read(&mut connection, &masked(FIN | PING, &payload));
        let pong = [&[FIN | PONG, len as u8], &payload[..]].concat();
        assert_eq!(connection.poll_transmit(), Some(pong));
    }
    let mut connection = server(Limits::default());
    connection.close(Some(3000.into()), "why", Instant::now()).unwrap();
    assert_eq!(connection.poll_transmit().as_deref(), Some(&b"\x88\x05\x0B\xB8why"[..]));
}

#[test]
fn cve_2022_21676_reserved_bits_right_behind_the_handshake() {
    for bits in [0x10, 0x20, 0x30, 0x40, 0x70] {
        let bytes = [REQUEST.as_bytes(), &masked(FIN | bits | TEXT, b"x")].concat();
        let mut reader = HeadReader::new(HeadLimits::default());
        let head_len = reader.push(&bytes).unwrap().unwrap();
        let head = reader.request().unwrap();
        verify(head.method, head.version, |name| head.headers.all(name)).unwrap();
        assert_eq!(error_of(Limits::default(), &bytes[head_len..]), Some(ReservedBits));
    }
}

#[test]
fn h26_garbage_instead_of_a_handshake() {
    for garbage in
        [&b"\x16\x03\x01\x02\0\r\n\r\n"[..], b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"\r\n\r\n"]
    {
        let mut reader = HeadReader::new(HeadLimits::default());
        assert_eq!(reader.push(garbage), Ok(Some(garbage.len())));
        assert_eq!(reader.request().unwrap_err(), HeadError::Malformed);
    }
    let mut reader = HeadReader::new(HeadLimits::default());
    assert_eq!(reader.push(&[0xAA; 20_000]), Err(HeadError::TooLong));
}

#[test]
fn h101_the_limit_counts_all_fragments_of_a_message_and_no_pings() {
    let limits = Limits { message_bytes_max: 10, ..Limits::default() };
    let exact = [
        masked(BINARY, &[1; 4]),
        masked(FIN | PING, &[2; 125]),
        masked(CONTINUATION, &[1; 4]),
        masked(FIN | PING, &[2; 125]),
        masked(FIN | CONTINUATION, &[1; 2]),
    ]
    .concat();
    let mut connection = server(limits);
    for _ in 0..3 {
        // The count starts anew with each message.
        assert_eq!(read(&mut connection, &exact).len(), 3);
        connection.poll_transmit();
        assert_eq!(read(&mut connection, &masked(FIN | TEXT, &[b'x'; 10])).len(), 1);
    }
    assert!(connection.is_open());

    // The eleventh byte fails with the header that declares it.
    let longer = [masked(TEXT, "€€€".as_bytes()), head_to(Role::Server, FIN, 2)].concat();
    assert_eq!(error_of(limits, &longer), Some(MessageTooLong));
    // Bytes that wait for the rest of their character count too.
    let longer = [masked(TEXT, b"12345678\xE2\x82"), head_to(Role::Server, FIN, 1)].concat();
    assert_eq!(error_of(limits, &longer), Some(MessageTooLong));
}

#[test]
fn h104_ping_flood_with_a_slow_reader() {
    let ping = masked(FIN | PING, &[0xA5; 125]);
    let mut connection = server(Limits::default());
    for _ in 0..60 {
        assert_eq!(read(&mut connection, &ping).len(), 1);
    }
    let events = read(&mut connection, &ping.repeat(1000));
    let [Event::Closed(end)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((end.code.0, end.error), (1008, Some(TooManyPings)));
    assert_eq!(connection.poll_transmit().unwrap().len(), 60 * 127 + 4);

    // A peer that takes its pongs may ping for ever.
    let mut connection = server(Limits::default());
    for _ in 0..1000 {
        assert_eq!(read(&mut connection, &ping.repeat(60)).len(), 60);
        assert_eq!(connection.poll_transmit().unwrap().len(), 60 * 127);
    }
}

#[test]
fn h105_data_that_arrives_with_the_handshake_is_not_lost() {
    let frames = [masked(FIN | TEXT, b"early"), masked(FIN | BINARY, b"bird")].concat();
    let bytes = [REQUEST.as_bytes(), &frames].concat();
    for split in 0..bytes.len() {
        let mut reader = HeadReader::new(HeadLimits::default());
        let mut connection = server(Limits::default());
        let mut head_done = false;
        let mut events = Vec::new();
        for part in [&bytes[..split], &bytes[split..]] {
            let mut behind = part;
            if !head_done {
                let Some(consumed) = reader.push(part).unwrap() else { continue };
                head_done = true;
                behind = &part[consumed..];
            }
            events.extend(read(&mut connection, behind));
        }
        let head = reader.request().unwrap();
        assert_eq!((head.method, head.target, head.version), ("GET", "/chat", HttpVersion::Http11));
        let binary = Event::Binary(b"bird".as_slice().into());
        assert_eq!(events, [Event::Text("early".into()), binary], "split at {split}");
    }
    assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn h106_masking_does_not_modify_the_callers_buffer() {
    let payload: Vec<u8> = (0..=255).collect();
    let mut pair = Pair::new();
    pair.client.encode_masked(&mut pair.to_server, MessageRef::Binary(&payload), KEY).unwrap();
    assert_eq!(payload, (0..=255).collect::<Vec<u8>>());
    // What is in front of it in the buffer stays as it is, too.
    let first = pair.to_server.clone();
    pair.client.encode_masked(&mut pair.to_server, MessageRef::Binary(&payload), [9; 4]).unwrap();
    assert_eq!(pair.to_server[..first.len()], first);
    // A server's frame holds the payload itself: it can be shared by all receivers.
    pair.server.encode(&mut pair.to_client, MessageRef::Binary(&payload)).unwrap();
    assert!(pair.to_client.ends_with(&payload));
}

#[test]
fn h107_parts_of_a_message_do_not_pin_large_read_buffers() {
    let mut connection = server(Limits::default());
    let mut events = Vec::new();
    for byte in fragments(10, b"x").into_iter().chain(masked(FIN, b"x")) {
        // Every byte comes in a read buffer of its own, which is gone right after.
        let mut buffer = Vec::with_capacity(64 << 10);
        buffer.push(byte);
        events.extend(connection.handle_input(&mut buffer, Instant::now()).map(Event::into_owned));
    }
    let [Event::Binary(Cow::Owned(message))] = &events[..] else { panic!("{events:?}") };
    assert_eq!(message.len(), 11);
    assert!(message.capacity() < 100);
}

#[test]
fn a_declared_length_allocates_nothing() {
    // A thousand connections that declare 100 MiB each: were it believed, this would need 100 GB.
    let bytes = [head_to(Role::Server, FIN | BINARY, 100 << 20), vec![1; 1000]].concat();
    let mut connections: Vec<_> = (0..1000).map(|_| server(Limits::default())).collect();
    for connection in &mut connections {
        assert_eq!(read(connection, &bytes), []);
    }
}
