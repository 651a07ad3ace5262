//! A client and a server on a virtual clock: messages, and every way a connection can end.
//! Does not look at the bytes between them.

use std::time::Duration;

use sockeye_ws::{CloseCode, CloseError, Closed, Event, MessageRef, SendError};

use crate::support::*;

fn clean(code: CloseCode, reason: &str) -> Closed {
    Closed { code, reason: reason.to_owned(), clean: true, error: None }
}

fn lost() -> Closed {
    Closed { code: CloseCode::ABNORMAL, reason: String::new(), clean: false, error: None }
}

#[test]
fn messages_go_both_ways() {
    let mut pair = Pair::new();
    let messages = [
        MessageRef::Text("hello"),
        MessageRef::Binary(&[0, 255]),
        MessageRef::Text(""),
        MessageRef::Ping(b"are you there"),
        MessageRef::Pong(b"I am"),
    ];
    let events = [
        Event::Text("hello".into()),
        Event::Binary([0, 255].as_slice().into()),
        Event::Text("".into()),
        Event::Ping(b"are you there".as_slice().into()),
        Event::Pong(b"I am".as_slice().into()),
    ];
    for message in messages {
        pair.client.encode_masked(&mut pair.to_server, message, KEY).unwrap();
        pair.server.encode(&mut pair.to_client, message).unwrap();
    }
    pair.settle();

    // Each ping has come back as a pong, behind what was under way.
    let answer = Event::Pong(b"are you there".as_slice().into());
    assert_eq!(pair.server_events[..5], events);
    assert_eq!(&pair.server_events[5..], std::slice::from_ref(&answer));
    assert_eq!(pair.client_events[..5], events);
    assert_eq!(pair.client_events[5..], [answer]);
    assert!(pair.client.is_open() && pair.server.is_open());
}

#[test]
fn the_client_closes() {
    let mut pair = Pair::new();
    pair.client.close(Some(CloseCode::GOING_AWAY), "tab closed", pair.now).unwrap();
    assert!(!pair.client.is_open() && !pair.client.is_closed());
    pair.settle();

    let event = Event::Closed(clean(CloseCode::GOING_AWAY, "tab closed"));
    assert_eq!(pair.server_events, [event]);
    // The echo carries the code and no reason.
    assert_eq!(pair.client_events, [Event::Closed(clean(CloseCode::GOING_AWAY, ""))]);
    assert_eq!(pair.client.poll_timeout(), None);
    assert_eq!((pair.client.handle_eof(), pair.server.handle_eof()), (None, None));
}

#[test]
fn the_server_closes_without_a_code() {
    let mut pair = Pair::new();
    pair.server.close(None, "", pair.now).unwrap();
    pair.settle();

    let event = Event::Closed(clean(CloseCode::NO_STATUS, ""));
    assert_eq!(pair.client_events, std::slice::from_ref(&event));
    assert_eq!(pair.server_events, [event]);
}

#[test]
fn both_close_at_once() {
    let mut pair = Pair::new();
    pair.client.close(Some(CloseCode::NORMAL), "client", pair.now).unwrap();
    pair.server.close(Some(CloseCode(3000)), "server", pair.now).unwrap();
    pair.settle();

    assert_eq!(pair.client_events, [Event::Closed(clean(CloseCode(3000), "server"))]);
    assert_eq!(pair.server_events, [Event::Closed(clean(CloseCode::NORMAL, "client"))]);
}

#[test]
fn messages_under_way_arrive_before_the_answer_to_a_close() {
    let mut pair = Pair::new();
    pair.server.encode(&mut pair.to_client, MessageRef::Text("in flight")).unwrap();
    pair.server.encode(&mut pair.to_client, MessageRef::Ping(b"")).unwrap();
    pair.client.close(Some(CloseCode::NORMAL), "", pair.now).unwrap();
    pair.settle();

    let [Event::Text(text), Event::Ping(_), Event::Closed(closed)] = &pair.client_events[..] else {
        panic!("{:?}", pair.client_events);
    };
    assert_eq!((&text[..], closed), ("in flight", &clean(CloseCode::NORMAL, "")));
    // RFC 6455 §5.5.1: nothing follows the close frame, not even the pong.
    assert_eq!(pair.server_events, [Event::Closed(clean(CloseCode::NORMAL, ""))]);
}

#[test]
fn pongs_leave_before_the_close_frame() {
    let mut pair = Pair::new();
    pair.client.encode_masked(&mut pair.to_server, MessageRef::Ping(b"1"), KEY).unwrap();
    let bytes = std::mem::take(&mut pair.to_server);
    pair.server_events.extend(read_at(&mut pair.server, &bytes, pair.now));
    pair.server.close(Some(CloseCode::NORMAL), "", pair.now).unwrap();
    pair.settle();

    assert_eq!(pair.client_events[0], Event::Pong(b"1".as_slice().into()));
    assert_eq!(pair.client_events[1], Event::Closed(clean(CloseCode::NORMAL, "")));
}

#[test]
fn a_close_that_is_not_answered_times_out() {
    let mut pair = Pair::new();
    assert_eq!(pair.client.poll_timeout(), None);
    pair.client.close(Some(CloseCode::NORMAL), "", pair.now).unwrap();
    let deadline = pair.now + Duration::from_secs(30);
    assert_eq!(pair.client.poll_timeout(), Some(deadline));

    pair.advance(Duration::from_secs(29));
    // Asking again neither sends a second frame nor moves the deadline.
    pair.client.close(Some(CloseCode::NORMAL), "again", pair.now).unwrap();
    assert_eq!(pair.client.poll_timeout(), Some(deadline));
    assert_eq!(pair.client.handle_timeout(pair.now), None);

    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.client.handle_timeout(pair.now), Some(lost()));
    assert_eq!(pair.client.closed(), Some(&lost()));
    assert_eq!(pair.client.poll_timeout(), None);
    assert_eq!(pair.client.handle_timeout(pair.now), None);
}

#[test]
fn a_peer_that_never_stops_sending_does_not_outlive_the_deadline() {
    let mut pair = Pair::new();
    pair.server.close(None, "", pair.now).unwrap();
    let bytes = masked(FIN | TEXT, b"still here");
    assert_eq!(read_at(&mut pair.server, &bytes, pair.now), [Event::Text("still here".into())]);
    pair.advance(Duration::from_secs(30));
    assert_eq!(read_at(&mut pair.server, &bytes, pair.now), [Event::Closed(lost())]);
    assert_eq!(read_at(&mut pair.server, &bytes, pair.now), []);
}

#[test]
fn eof_without_a_close_frame_is_1006() {
    for bytes in [
        vec![],
        masked(TEXT, b"only the first fragment"),
        masked(FIN | TEXT, b"cut")[..7].to_vec(),
        masked(FIN | CLOSE, b"\x03\xE8")[..7].to_vec(),
        vec![0x81],
    ] {
        let mut pair = Pair::new();
        assert_eq!(read_at(&mut pair.server, &bytes, pair.now), []);
        assert_eq!(pair.server.handle_eof(), Some(lost()), "{bytes:02X?}");
        assert!(pair.server.is_closed());
        assert_eq!(pair.server.poll_transmit(), None);
    }
}

#[test]
fn eof_instead_of_the_answer_to_a_close_is_1006() {
    let mut pair = Pair::new();
    pair.client.close(Some(CloseCode::NORMAL), "", pair.now).unwrap();
    assert_eq!(pair.client.handle_eof(), Some(lost()));
}

#[test]
fn nothing_can_be_sent_once_the_closing_handshake_has_begun() {
    let mut pair = Pair::new();
    let mut out = Vec::new();
    pair.server.close(None, "", pair.now).unwrap();
    assert_eq!(pair.server.encode(&mut out, MessageRef::Text("late")), Err(SendError::Closing));
    pair.settle();
    let late = pair.client.encode_masked(&mut out, MessageRef::Text("late"), KEY);
    assert_eq!(late, Err(SendError::Closing));
    assert_eq!(out, b"");
}

#[test]
fn what_a_caller_may_not_ask_for() {
    let mut pair = Pair::new();
    let mut out = Vec::new();
    for message in [MessageRef::Ping(&[0; 126]), MessageRef::Pong(&[0; 126])] {
        assert_eq!(pair.server.encode(&mut out, message), Err(SendError::ControlTooLong));
    }
    let code = CloseCode::ABNORMAL;
    assert_eq!(pair.server.close(Some(code), "", pair.now), Err(CloseError::Code(code)));
    assert!(pair.server.is_open());
    assert_eq!((out, pair.server.poll_transmit()), (vec![], None));
}
