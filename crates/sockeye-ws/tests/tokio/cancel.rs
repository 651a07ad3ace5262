//! Cancel safety: futures dropped wherever they wait lose nothing and double nothing.
//! The streams stutter, so that there is a place to wait at every byte.

use std::task::Poll;

use bytes::Bytes;
use sockeye_ws::net::{Error, Message, Options, WebSocket};
use sockeye_ws::{Frame, Limits, Role};

use crate::support::{Stutter, machine, poll_and_drop, stutter};

/// More than any of these tests needs; a hang becomes a failure.
const POLLS_MAX: usize = 100_000;

fn pair(options: &Options) -> (WebSocket<Stutter>, WebSocket<Stutter>) {
    let (near, far) = stutter(3);
    let machine = |role| machine(role, Limits::default());
    (
        WebSocket::from_connection(near, machine(Role::Server), [], options),
        WebSocket::from_connection(far, machine(Role::Client), [], options),
    )
}

/// Text and binary of all forms of length, below and above what is copied; pings between.
fn messages() -> Vec<Message> {
    [0, 1, 125, 126, 300, 9000]
        .into_iter()
        .flat_map(|len| {
            let text = "ä".repeat(len / 2);
            let data: Bytes = (0..len).map(|index| index as u8).collect();
            [Message::text(text), Message::Ping(data.slice(..len.min(125))), Message::binary(data)]
        })
        .collect()
}

/// Polls `next` once at a time, each time with a new future.
fn receive(websocket: &mut WebSocket<Stutter>, into: &mut Vec<Message>) {
    if let Poll::Ready(Some(message)) = poll_and_drop(websocket.next()) {
        into.push(message.expect("the connection does not fail"));
    }
}

/// The pongs that answer the pings among `messages`.
fn pongs(messages: &[Message]) -> Vec<Message> {
    let pong = |message: &Message| match message {
        Message::Ping(payload) => Some(Message::Pong(payload.clone())),
        _ => None,
    };
    messages.iter().filter_map(pong).collect()
}

#[test]
fn next_dropped_at_every_await_loses_and_doubles_nothing() {
    for client_sends in [true, false] {
        let (server, client) = pair(&Options::default());
        let (mut from, mut to) = if client_sends { (client, server) } else { (server, client) };
        let (mut received, mut answers) = (Vec::new(), Vec::new());
        for message in messages() {
            let mut send = Box::pin(from.send(message));
            while poll_and_drop(send.as_mut()).is_pending() {
                receive(&mut to, &mut received);
            }
        }
        for _ in 0..POLLS_MAX {
            receive(&mut to, &mut received);
            receive(&mut from, &mut answers);
            if answers.len() == pongs(&messages()).len() && received.len() == messages().len() {
                break;
            }
        }
        assert_eq!(received, messages());
        assert_eq!(answers, pongs(&messages()));
    }
}

#[test]
fn send_and_flush_dropped_at_every_await_lose_and_double_nothing() {
    // Room for little, so that `ready` has to wait as well.
    let options = Options { write_buffer_bytes_max: 100, ..Options::default() };
    let (mut from, mut to) = pair(&options);
    let mut received = Vec::new();
    for message in messages() {
        while poll_and_drop(from.ready()).is_pending() {
            receive(&mut to, &mut received);
        }
        // There is room: the first poll queues the message, and is the only one.
        let _ = poll_and_drop(from.send(message));
    }
    while poll_and_drop(from.flush()).is_pending() {}
    for _ in 0..POLLS_MAX {
        receive(&mut to, &mut received);
    }
    assert_eq!(received, messages());
}

#[test]
fn a_prepared_frame_whose_send_is_dropped_once_it_has_begun_leaves_whole_and_in_order() {
    let (mut server, mut client) = pair(&Options::default());
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for message in messages() {
        let frame = match &message {
            Message::Text(text) => Frame::text(text),
            Message::Binary(data) => Frame::binary(data),
            _ => continue,
        };
        // There is room for it, so the first poll takes it, half written as it is.
        let _ = poll_and_drop(server.send_frame(&frame));
        sent.push(message);
        while poll_and_drop(server.flush()).is_pending() {
            receive(&mut client, &mut received);
        }
    }
    for _ in 0..POLLS_MAX {
        if received.len() < sent.len() {
            receive(&mut client, &mut received);
        }
    }
    assert_eq!(received, sent);
}

#[test]
fn a_message_whose_send_is_dropped_before_there_is_room_is_not_sent() {
    let options = Options { write_buffer_bytes_max: 10, ..Options::default() };
    let (mut from, mut to) = pair(&options);
    let _ = poll_and_drop(from.send("x".repeat(50)));
    assert!(from.buffered_amount() >= 10, "the first one fills the buffer");
    assert!(poll_and_drop(from.send("never")).is_pending());
    while poll_and_drop(from.ready()).is_pending() {}
    let _ = poll_and_drop(from.send("last"));
    while poll_and_drop(from.flush()).is_pending() {}
    let mut received = Vec::new();
    for _ in 0..POLLS_MAX {
        receive(&mut to, &mut received);
    }
    assert_eq!(received, [Message::text("x".repeat(50)), Message::text("last")]);
}

#[tokio::test]
async fn close_dropped_at_every_await_still_closes_once() {
    let (mut server, mut client) = pair(&Options::default());
    let _ = poll_and_drop(client.feed("before"));
    let mut received = Vec::new();
    let mut closed = false;
    for _ in 0..POLLS_MAX {
        closed |= matches!(poll_and_drop(client.close(None, "")), Poll::Ready(Ok(())));
        receive(&mut server, &mut received);
        if received.len() == 2 {
            // The pipe has no end to wait for, so the client waits out its second; enough.
            break;
        }
    }
    assert!(!closed);
    assert_eq!(received, [Message::text("before"), Message::Close(None)]);
    assert!(matches!(poll_and_drop(server.send("late")), Poll::Ready(Err(Error::Send(_)))));
}
