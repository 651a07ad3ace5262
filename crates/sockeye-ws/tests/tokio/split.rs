//! The halves of a connection in two tasks.
//! What both share shows only where both wait at once.

use std::time::Duration;

use sockeye_ws::net::{Error, Message, Options, WebSocket, WebSocketReader, WebSocketWriter};
use sockeye_ws::{CloseCode, Frame, Limits, Role};
use tokio::io::DuplexStream;

use crate::support::*;

/// The halves of a server's connection whose stream takes 256 bytes at once, and its peer.
fn split_over_a_narrow_pipe()
-> (WebSocketReader<DuplexStream>, WebSocketWriter<DuplexStream>, DuplexStream) {
    let (near, peer) = tokio::io::duplex(256);
    let machine = machine(Role::Server, Limits::default());
    let server = WebSocket::from_connection(near, machine, [], &Options::default());
    let (reader, writer) = server.split();
    (reader, writer, peer)
}

#[tokio::test]
async fn halves_receive_and_send_at_the_same_time() {
    const MESSAGES: usize = 200;
    // A pipe so small that both directions wait for each other all the time.
    let (server, client) = pair(64);
    let ends = [server, client].map(|websocket| {
        let (mut reader, mut writer) = websocket.split();
        let receive = tokio::spawn(async move {
            for number in 0..MESSAGES {
                let message = reader.next().await.expect("more").expect("no failure");
                assert_eq!(message, Message::text(format!("{number:0>100}")));
            }
            reader
        });
        let send = tokio::spawn(async move {
            for number in 0..MESSAGES {
                writer.send(format!("{number:0>100}")).await.expect("the peer reads");
            }
            writer
        });
        (receive, send)
    });
    for (receive, send) in ends {
        let (reader, writer) = (receive.await.unwrap(), send.await.unwrap());
        let whole = reader.reunite(writer).unwrap();
        assert_eq!(whole.buffered_amount(), 0);
    }
}

#[tokio::test]
async fn pings_are_answered_by_the_reader_while_the_writer_is_blocked() {
    let (mut reader, mut writer, mut peer) = split_over_a_narrow_pipe();
    let send = tokio::spawn(async move { writer.send(vec![7; 10_000]).await.map(|()| writer) });
    let receive = tokio::spawn(async move { (reader.next().await, reader.next().await, reader) });
    write(&mut peer, &masked(FIN_PING, b"?")).await;
    assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_BINARY, vec![7; 10_000]));
    assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_PONG, b"?".to_vec()));
    let writer = send.await.unwrap().unwrap();
    assert_eq!(writer.buffered_amount(), 0);
    write(&mut peer, &masked(FIN_TEXT, b"on")).await;
    let (first, second, _) = receive.await.unwrap();
    assert_eq!(first.unwrap().unwrap(), Message::Ping("?".into()));
    assert_eq!(second.unwrap().unwrap(), Message::text("on"));
}

#[tokio::test]
async fn a_frame_that_the_stream_takes_in_part_leaves_whole_while_both_halves_wait() {
    let (mut reader, mut writer, mut peer) = split_over_a_narrow_pipe();
    let receive = tokio::spawn(async move { reader.next().await });
    tokio::task::yield_now().await;
    let send = tokio::spawn(async move {
        let sent = writer.send_frame(&Frame::binary(&[7; 10_000])).await;
        sent.map(|()| writer)
    });
    let frame = tokio::time::timeout(Duration::from_secs(10), read_frame(&mut peer)).await;
    assert_eq!(frame.expect("all of it leaves").unwrap(), (FIN_BINARY, vec![7; 10_000]));
    assert_eq!(send.await.unwrap().unwrap().buffered_amount(), 0);
    drop(peer);
    assert!(receive.await.unwrap().unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_close_by_the_writer_wakes_the_reader_which_keeps_its_deadline() {
    let (server, _peer) = server(Limits::default(), &Options::default());
    let (mut reader, mut writer) = server.split();
    let start = tokio::time::Instant::now();
    let read = tokio::spawn(async move { reader.next().await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    writer.start_close(CloseCode::NORMAL, "").unwrap();
    let end = read.await.unwrap();
    assert!(matches!(end, Some(Err(Error::CloseTimeout))), "{end:?}");
    assert_eq!(start.elapsed().as_secs(), 35);
}

#[tokio::test]
async fn a_writer_that_waits_is_told_when_the_connection_ends() {
    let (near, mut peer) = tokio::io::duplex(64);
    let limits = Limits { close_timeout: Duration::from_millis(50), ..Limits::default() };
    let machine = machine(sockeye_ws::Role::Server, limits);
    let server =
        sockeye_ws::net::WebSocket::from_connection(near, machine, [], &Options::default());
    let (mut reader, mut writer) = server.split();
    let send =
        tokio::spawn(
            async move { writer.send(vec![7; 10_000]).await.and(writer.send("more").await) },
        );
    // Nobody reads what is sent, and the peer says goodbye.
    write(&mut peer, &masked(FIN_CLOSE, b"\x03\xE8")).await;
    assert!(matches!(reader.next().await, Some(Ok(Message::Close(_)))));
    assert!(reader.next().await.is_none());
    assert!(send.await.unwrap().is_err());
}

#[tokio::test]
async fn a_send_that_waits_does_not_say_that_it_was_written_when_it_was_not() {
    for ends_in_order in [false, true] {
        let (near, mut peer) = tokio::io::duplex(64);
        let limits = Limits { close_timeout: Duration::from_millis(50), ..Limits::default() };
        let machine = machine(sockeye_ws::Role::Server, limits);
        let server =
            sockeye_ws::net::WebSocket::from_connection(near, machine, [], &Options::default());
        let (mut reader, mut writer) = server.split();
        let send = tokio::spawn(async move { writer.send(vec![7; 10_000]).await });
        tokio::task::yield_now().await;
        // Of what is sent it takes nothing, and ends.
        if ends_in_order {
            write(&mut peer, &masked(FIN_CLOSE, b"\x03\xE8")).await;
        } else {
            write(&mut peer, &masked(0x83, b"")).await;
        }
        while reader.next().await.is_some() {}
        let sent = tokio::time::timeout(Duration::from_secs(10), send).await;
        let sent = sent.expect("it waits no longer").unwrap();
        assert!(matches!(sent, Err(Error::Io(_))), "{sent:?}");
        drop(peer);
    }
}

#[tokio::test]
async fn halves_of_different_connections_do_not_fit() {
    let (one, other) = pair(64);
    let (reader, _) = one.split();
    let (_, writer) = other.split();
    let (reader, writer) = reader.reunite(writer).unwrap_err();
    assert!(reader.closed().is_none() && writer.is_open());
}
