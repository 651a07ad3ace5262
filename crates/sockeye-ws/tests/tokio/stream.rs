//! A connection over memory: what it yields, what it writes, and how it ends.
//! One side is the crate's, the other a raw peer, or both are the crate's.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sockeye_ws::net::{CloseFrame, Error, Fault, KeepAlive, Message, Options, WebSocket};
use sockeye_ws::{CloseCode, CloseError, Limits, ProtocolError, Role, SendError};
use tokio::io::AsyncReadExt;

use crate::support::*;

fn close(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode(code), reason: reason.into() }))
}

#[tokio::test]
async fn messages_of_all_kinds_go_both_ways_in_order() {
    let (mut server, mut client) = pair(1 << 20);
    let messages = [
        Message::text("Grüße 🐟"),
        Message::binary(vec![0, 1, 2]),
        Message::Pong(Bytes::from_static(b"unasked")),
        Message::text(""),
        Message::binary(vec![7; 100_000]),
        Message::text("x".repeat(70_000)),
    ];
    for message in &messages {
        server.feed(message.clone()).await.unwrap();
        client.feed(message.clone()).await.unwrap();
    }
    server.start_close(CloseCode::NORMAL, "done").unwrap();
    let (from_client, from_server) = tokio::join!(drain(&mut server), drain(&mut client));
    assert_eq!(from_server, [&messages[..], &[close(1000, "done")]].concat());
    assert_eq!(from_client, [&messages[..], &[close(1000, "")]].concat());
    assert!(server.closed().is_some_and(|closed| closed.clean));
}

#[tokio::test]
async fn it_is_a_stream_and_a_sink() {
    let (mut server, mut client) = pair(1 << 20);
    let sent = [Message::text("one"), Message::text("two")];
    let mut all = futures_util::stream::iter(sent.clone().map(Ok));
    SinkExt::send_all(&mut client, &mut all).await.unwrap();
    let received: Vec<_> = StreamExt::by_ref(&mut server).take(2).collect().await;
    assert_eq!(received.into_iter().map(Result::unwrap).collect::<Vec<_>>(), sent);
    let (closed, rest) = tokio::join!(SinkExt::close(&mut client), drain(&mut server));
    closed.unwrap();
    assert_eq!(rest, [Message::Close(None)]);
}

#[tokio::test]
async fn pings_are_answered_while_next_waits_and_are_yielded() {
    let (mut server, mut peer) = server(Limits::default(), &Options::default());
    write(&mut peer, &masked(FIN_PING, b"are you there")).await;
    assert_eq!(server.next().await.unwrap().unwrap(), Message::Ping("are you there".into()));
    assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_PONG, b"are you there".to_vec()));
}

#[tokio::test]
async fn h104_ping_flood_with_a_reader_that_takes_no_pongs_is_bounded() {
    let (near, mut peer) = tokio::io::duplex(4096);
    let limits = Limits { close_timeout: Duration::from_millis(200), ..Limits::default() };
    let mut server =
        WebSocket::from_connection(near, machine(Role::Server, limits), [], &Options::default());
    let flood = async {
        let ping = masked(FIN_PING, &[b'x'; 125]);
        // Ends when the server no longer reads.
        while tokio::io::AsyncWriteExt::write_all(&mut peer, &ping).await.is_ok() {}
    };
    let read = async {
        let mut buffered_max = 0;
        loop {
            match server.next().await.expect("an error ends it") {
                Ok(_) => buffered_max = buffered_max.max(server.buffered_amount()),
                Err(error) => break (error, buffered_max),
            }
        }
    };
    let (error, buffered_max) = tokio::select! {
        result = read => result,
        () = flood => unreachable!("the server reads until it fails"),
    };
    assert!(matches!(error, Error::Protocol(ProtocolError::TooManyPings)), "{error}");
    assert!(buffered_max < 70_000, "{buffered_max} bytes were held");
}

#[tokio::test]
async fn many_pings_of_a_peer_that_reads_again_are_answered() {
    // More than may be pending.
    const PINGS: usize = 100;

    let (near, mut peer) = tokio::io::duplex(1024);
    let machine = machine(Role::Server, Limits::default());
    let mut server = WebSocket::from_connection(near, machine, [], &Options::default());
    server.feed(vec![7; 1500]).await.unwrap();
    assert!(poll_and_drop(server.flush()).is_pending(), "the pipe is full");
    // The peer makes room and asks, before the server has been there again.
    peer.read_exact(&mut [0; 1024]).await.unwrap();
    write(&mut peer, &masked(FIN_PING, b"?").repeat(PINGS)).await;
    for _ in 0..PINGS {
        assert_eq!(server.next().await.unwrap().unwrap(), Message::Ping("?".into()));
    }
    peer.read_exact(&mut [0; 480]).await.unwrap();
    for _ in 0..PINGS {
        assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_PONG, b"?".to_vec()));
    }
}

#[tokio::test]
async fn h105_bytes_behind_the_handshake_are_not_lost() {
    let (near, mut peer) = tokio::io::duplex(1024);
    let early = [masked(FIN_TEXT, b"one"), masked(FIN_TEXT, b"two")].concat();
    let (early, later) = early.split_at(12);
    let machine = machine(Role::Server, Limits::default());
    let mut server = WebSocket::from_connection(near, machine, early, &Options::default());
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("one"));
    write(&mut peer, later).await;
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("two"));
}

#[tokio::test]
async fn h106_a_payload_that_others_hold_stays_as_it_is() {
    let (mut server, mut client) = pair(1 << 20);
    let payload = Bytes::from(vec![7; 20_000]);
    client.send(payload.clone()).await.unwrap();
    assert!(payload.iter().all(|byte| *byte == 7));
    assert_eq!(server.next().await.unwrap().unwrap(), Message::Binary(payload));
}

#[tokio::test]
async fn h107_a_message_owns_no_more_than_its_bytes() {
    let (mut server, mut peer) = server(Limits::default(), &Options::default());
    write(&mut peer, &[masked(FIN_BINARY, b"small"), masked(FIN_TEXT, b"next")].concat()).await;
    let Message::Binary(data) = server.next().await.unwrap().unwrap() else { panic!("binary") };
    let own = data.try_into_mut().expect("nobody else holds the bytes");
    assert_eq!(own.capacity(), 5);
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("next"));
}

#[tokio::test]
async fn messages_that_wait_before_the_close_frame_are_delivered_first() {
    let (mut server, mut peer) = server(Limits::default(), &Options::default());
    server.feed("queued").await.unwrap();
    write(&mut peer, &masked(FIN_CLOSE, b"\x03\xE8bye")).await;
    assert_eq!(server.next().await.unwrap().unwrap(), close(1000, "bye"));
    assert!(server.next().await.is_none());
    assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_TEXT, b"queued".to_vec()));
    assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_CLOSE, b"\x03\xE8".to_vec()));
    assert_ended(&mut peer).await;
}

#[tokio::test]
async fn a_protocol_error_tells_both_sides() {
    let (mut server, mut peer) = server(Limits::default(), &Options::default());
    let flood = vec![0xFF; 30_000];
    write(&mut peer, &[masked(FIN_TEXT, b"fine"), masked(0xC1, b"RSV1"), flood].concat()).await;
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("fine"));
    let (told, _) = tokio::join!(server.next(), async {
        assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_CLOSE, b"\x03\xEA".to_vec()));
        assert_ended(&mut peer).await;
        drop(peer);
    });
    let error = told.unwrap().unwrap_err();
    assert_eq!((error.fault(), error.close_code()), (Fault::Peer, Some(CloseCode::PROTOCOL_ERROR)));
    assert!(server.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_ends_without_a_close_frame_is_lost() {
    let (mut server, mut peer) = server(Limits::default(), &Options::default());
    write(&mut peer, &masked(FIN_TEXT, b"whole")).await;
    write(&mut peer, &masked(FIN_TEXT, b"half of it")[..8]).await;
    drop(peer);
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("whole"));
    assert!(matches!(server.next().await, Some(Err(Error::Lost))));
    assert!(server.next().await.is_none());
    assert_eq!(server.closed().unwrap().code, CloseCode::ABNORMAL);
    let error = server.send("late").await.unwrap_err();
    assert!(matches!(error, Error::Send(SendError::Closing)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_the_close_frame_is_given_up_in_time() {
    let (mut server, peer) = server(Limits::default(), &Options::default());
    let start = tokio::time::Instant::now();
    let error = server.close(CloseCode::GOING_AWAY, "").await.unwrap_err();
    assert!(matches!(error, Error::CloseTimeout), "{error}");
    assert_eq!(start.elapsed().as_secs(), 30);
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_on_sending_does_not_outlive_the_close_timeout() {
    let (mut server, mut peer) = server(Limits::default(), &Options::default());
    server.start_close(None, "").unwrap();
    let chatter = async {
        loop {
            write(&mut peer, &masked(FIN_TEXT, b"still here")).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let read = async {
        let mut messages = 0;
        loop {
            match server.next().await.expect("an error ends it") {
                Ok(_) => messages += 1,
                Err(error) => break (messages, error),
            }
        }
    };
    let (messages, error) = tokio::select! { end = read => end, () = chatter => unreachable!() };
    assert!(matches!(error, Error::CloseTimeout), "{error}");
    assert!((29..=31).contains(&messages), "{messages} messages");
}

#[tokio::test(start_paused = true)]
async fn messages_after_start_close_still_come() {
    let (mut server, mut client) = pair(1 << 16);
    client.feed("on its way").await.unwrap();
    server.start_close(CloseCode::NORMAL, "").unwrap();
    server.start_close(CloseCode::GOING_AWAY, "the first one counts").unwrap();
    let (from_client, _) = tokio::join!(drain(&mut server), drain(&mut client));
    assert_eq!(from_client, [Message::text("on its way"), close(1000, "")]);
}

#[tokio::test]
async fn what_a_close_frame_cannot_carry() {
    let (mut server, _peer) = server(Limits::default(), &Options::default());
    let too_long = server.close(CloseCode::NORMAL, &"x".repeat(124)).await.unwrap_err();
    assert!(matches!(too_long, Error::Close(CloseError::ReasonTooLong)));
    let reserved = server.send(close(1006, "")).await.unwrap_err();
    assert!(matches!(reserved, Error::Close(CloseError::Code(CloseCode::ABNORMAL))));
    let control = server.send(Message::Ping(vec![0; 126].into())).await.unwrap_err();
    assert!(matches!(control, Error::Send(SendError::ControlTooLong)));
    assert!(server.is_open());
}

#[tokio::test(start_paused = true)]
async fn keep_alive_pings_after_silence_and_gives_a_half_open_peer_up() {
    let keep_alive =
        KeepAlive { interval: Duration::from_secs(20), timeout: Duration::from_secs(5) };
    let options = Options { keep_alive: Some(keep_alive), ..Options::default() };
    let (mut server, mut peer) = server(Limits::default(), &options);
    let start = tokio::time::Instant::now();
    let peer = async {
        // Talks, answers one ping, and is never heard of again; its socket stays open.
        tokio::time::sleep(Duration::from_secs(10)).await;
        write(&mut peer, &masked(FIN_TEXT, b"hello")).await;
        assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_PING, vec![]));
        assert_eq!(start.elapsed().as_secs(), 30);
        write(&mut peer, &masked(FIN_PONG, b"")).await;
        assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_PING, vec![]));
        assert_eq!(start.elapsed().as_secs(), 50);
        peer
    };
    let read = async {
        let mut messages = Vec::new();
        loop {
            match server.next().await.expect("an error ends it") {
                Ok(message) => messages.push(message),
                Err(error) => break (messages, error),
            }
        }
    };
    let ((messages, error), mut peer) = tokio::join!(read, peer);
    assert!(matches!(error, Error::KeepAliveTimeout), "{error}");
    assert_eq!(start.elapsed().as_secs(), 55);
    assert_eq!(messages, [Message::text("hello"), Message::Pong(Bytes::new())]);
    assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0, "our side has ended");
}

#[tokio::test(start_paused = true)]
async fn keep_alive_waits_while_a_slow_peer_takes_what_stands_before_the_ping() {
    let keep_alive =
        KeepAlive { interval: Duration::from_secs(20), timeout: Duration::from_secs(5) };
    let options = Options { keep_alive: Some(keep_alive), ..Options::default() };
    // What the peer takes every four seconds, and when it is given up: it takes nothing, a part,
    // and all up to the ping, which the pipe has taken by then.
    for (reads, given_up_at) in [(0, 25), (10, 45), (51, 205)] {
        let (near, mut peer) = tokio::io::duplex(400);
        let machine = machine(Role::Server, Limits::default());
        let mut server = WebSocket::from_connection(near, machine, [], &options);
        let start = tokio::time::Instant::now();
        server.feed("x".repeat(20_000)).await.unwrap();
        let peer = async {
            for chunk in vec![0; 20_004].chunks_mut(400).take(reads) {
                tokio::time::sleep(Duration::from_secs(4)).await;
                peer.read_exact(chunk).await.unwrap();
            }
            if reads == 51 {
                assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_PING, vec![]));
            }
            peer
        };
        let (end, _peer) = tokio::join!(server.next(), peer);
        assert!(matches!(end, Some(Err(Error::KeepAliveTimeout))), "{end:?}");
        assert_eq!(start.elapsed().as_secs(), given_up_at, "after {reads} reads");
    }
}

#[tokio::test]
async fn feed_gathers_and_waits_when_the_buffer_is_full() {
    let (near, mut peer) = tokio::io::duplex(64);
    let options = Options { write_buffer_bytes_max: 100, ..Options::default() };
    let machine = machine(Role::Server, Limits::default());
    let mut server = WebSocket::from_connection(near, machine, [], &options);
    for _ in 0..2 {
        server.feed("x".repeat(48)).await.unwrap();
    }
    assert_eq!(server.buffered_amount(), 100, "nothing has left, two frames of 50 bytes wait");
    let mut full = Box::pin(server.feed("behind"));
    assert!(poll_and_drop(full.as_mut()).is_ready(), "64 bytes have left");
    drop(full);
    for _ in 0..2 {
        assert_eq!(read_frame(&mut peer).await.unwrap().1.len(), 48);
        server.flush().await.unwrap_or_else(|error| panic!("{error}"));
    }
    assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_TEXT, b"behind".to_vec()));
    assert_eq!(server.buffered_amount(), 0);
}

#[tokio::test]
async fn not_reading_makes_the_peer_wait() {
    let (mut server, mut client) = pair(1000);
    let mut sent = 0;
    while poll_and_drop(client.send("x".repeat(94))).is_ready() {
        sent += 1;
    }
    assert!(sent < 20, "the pipe holds ten of them");
    for _ in 0..sent {
        assert_eq!(server.next().await.unwrap().unwrap().as_bytes().len(), 94);
    }
}

#[tokio::test]
async fn an_echo_that_echoes_everything_ends_in_order() {
    let (mut server, mut client) = pair(1 << 16);
    let echo = async {
        while let Some(message) = server.next().await {
            server.send(message.unwrap()).await.unwrap();
        }
    };
    let talk = async {
        client.send("hello").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("hello"));
        client.close(CloseCode(4000), "enough").await.unwrap();
    };
    tokio::join!(echo, talk);
}

#[tokio::test]
async fn fragments_are_put_together_and_control_frames_between_them_come_first() {
    let (mut server, mut peer) = server(Limits::default(), &Options::default());
    let frames = [
        masked(0x01, "Gr\u{fc}".as_bytes().split_at(3).0),
        masked(FIN_PING, b"between"),
        masked(CONTINUATION, &"Gr\u{fc}".as_bytes()[3..]),
        masked(0x80, b"n"),
    ];
    write(&mut peer, &frames.concat()).await;
    assert_eq!(server.next().await.unwrap().unwrap(), Message::Ping("between".into()));
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("Grün"));
}

#[tokio::test]
async fn terminate_ends_the_stream_without_a_close_frame() {
    let (server, mut peer) = server(Limits::default(), &Options::default());
    server.terminate();
    assert_ended(&mut peer).await;
}
