//! Compressed connections as applications see them: the same messages, fewer bytes.
//! What is negotiated and how it is compressed is the machine's, and tested there.

use sockeye_ws::deflate::Options;
use sockeye_ws::net::{AnyStream, Client, Error, Message, Server, WebSocket};
use sockeye_ws::{CloseCode, Frame, SendError};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// A connected pair, each side with these options or none.
async fn pair(
    server: Option<Options>,
    client: Option<Options>,
) -> (WebSocket<tokio::net::TcpStream>, WebSocket<AnyStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let builder = match server {
        Some(options) => Server::builder().deflate(options),
        None => Server::builder(),
    };
    let client = match client {
        Some(options) => Client::new(&url).deflate(options),
        None => Client::new(&url),
    };
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        builder.build().accept(stream).await.unwrap()
    };
    let (server, client) = tokio::join!(accepting, client.connect());
    (server, client.unwrap())
}

/// A server's connection that compresses, and the raw client at its other end.
async fn compressing(options: Options) -> (WebSocket<TcpStream>, TcpStream) {
    let (near, mut far) = loopback().await;
    write(
        &mut far,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    )
    .await;
    let server = Server::builder().deflate(options).build().accept(near).await.unwrap();
    assert!(read_response(&mut far).await.contains("permessage-deflate"));
    (server, far)
}

fn takeover() -> Options {
    Options {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        ..Options::default()
    }
}

#[tokio::test]
async fn what_was_agreed_is_told_while_the_connection_is_there() {
    let (mut server, mut client) = pair(Some(Options::default()), Some(takeover())).await;
    for agreed in [server.deflate(), client.deflate()] {
        let agreed = agreed.expect("both want it").to_string();
        let parameters = "; server_no_context_takeover; client_no_context_takeover";
        assert!(agreed.starts_with(&format!("permessage-deflate{parameters}")), "{agreed}");
    }
    let (_, closed) = tokio::join!(server.next(), client.close(None, ""));
    closed.unwrap();
    assert_eq!((server.deflate(), client.deflate()), (None, None));
    let (server, client) = pair(None, Some(takeover())).await;
    assert_eq!((server.deflate(), client.deflate()), (None, None));
}

#[tokio::test]
async fn a_writer_turns_compression_off_and_on() {
    let (server, mut far) = compressing(Options::default()).await;
    let (_reader, mut writer) = server.split();
    for (on, first) in [(true, 0xC1), (false, FIN_TEXT), (true, 0xC1)] {
        writer.set_compression(on);
        writer.send("long enough ".repeat(1000)).await.unwrap();
        assert_eq!(read_frame(&mut far).await.unwrap().0, first);
    }
}

#[tokio::test]
async fn messages_arrive_whatever_was_agreed() {
    let all = [None, Some(Options::default()), Some(takeover())];
    for (server, client) in all.into_iter().flat_map(|one| all.map(|other| (one, other))) {
        let (mut server, mut client) = pair(server, client).await;
        for len in [0, 10, 50_000] {
            let text = Message::text("Grüße an den Fisch ".repeat(len / 10));
            let frame = Frame::text(text.as_text().unwrap());
            let data = Message::binary((0..len).map(|index| (index / 7) as u8).collect::<Vec<_>>());
            let sending = async {
                server.feed(text.clone()).await.unwrap();
                server.feed(data.clone()).await.unwrap();
                server.send_frame(&frame).await.unwrap();
            };
            let receiving = async {
                for message in [&text, &data, &text] {
                    let received = client.next().await.unwrap().unwrap();
                    assert_eq!(received, *message);
                    client.feed(received).await.unwrap();
                }
                client.send_frame(&frame).await.unwrap();
            };
            tokio::join!(sending, receiving);
            for message in [&text, &data, &text, &text] {
                assert_eq!(server.next().await.unwrap().unwrap(), *message);
            }
        }
        let closing = tokio::join!(server.close(CloseCode::NORMAL, ""), drain(&mut client));
        closing.0.unwrap();
    }
}

#[tokio::test]
async fn compressed_messages_wait_in_fewer_bytes() {
    let (mut server, _client) = pair(Some(Options::default()), Some(Options::default())).await;
    let text = "Grüße an den Fisch ".repeat(1000);
    server.feed(&*text).await.unwrap();
    let compressed = server.buffered_amount();
    assert!(compressed < text.len() / 20, "{compressed} bytes wait");
    server.feed_frame(&Frame::text(&text)).await.unwrap();
    assert!(server.buffered_amount() < text.len() / 10);
    server.set_compression(false);
    server.feed(&*text).await.unwrap();
    assert!(server.buffered_amount() > text.len());
}

#[tokio::test]
async fn a_frame_that_was_prepared_once_is_shared_where_it_waits() {
    let frame = Frame::binary(&[7; 100_000]);
    for _ in 0..2 {
        let (mut server, mut client) = pair(None, None).await;
        server.feed_frame(&frame).await.unwrap();
        server.feed_frame(&frame).await.unwrap();
        server.flush().await.unwrap();
        for _ in 0..2 {
            let message = client.next().await.unwrap().unwrap();
            assert_eq!(message.as_bytes(), frame.payload());
        }
    }
    // Nobody holds the bytes any more but the frame itself and this clone.
    let plain = frame.plain().clone();
    drop(frame);
    assert!(plain.is_unique());
}

/// How a message is sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    Send,
    Feed,
    SendFrame,
    FeedFrame,
}

async fn send(websocket: &mut WebSocket<TcpStream>, way: Way, text: &str, frame: &Frame) {
    match way {
        Way::Send => websocket.send(text).await.unwrap(),
        Way::Feed => websocket.feed(text).await.unwrap(),
        Way::SendFrame => websocket.send_frame(frame).await.unwrap(),
        Way::FeedFrame => websocket.feed_frame(frame).await.unwrap(),
    }
    websocket.flush().await.unwrap();
}

#[tokio::test]
async fn what_is_long_enough_goes_compressed_whichever_way_it_is_sent() {
    const RSV1: u8 = 0x40;

    for options in [Options::default(), takeover()] {
        let (mut server, mut peer) = compressing(options).await;
        // Below and above the threshold, and what is not copied where it is sent.
        for len in [500, 2_000, 20_000, 200_000] {
            let text = "Grüße an den Fisch ".repeat(len / 20);
            let frame = Frame::text(&text);
            // With a context of its own a connection compresses its own messages always.
            let own = len > 1024 || !options.server_no_context_takeover;
            for (way, compresses) in [
                (Way::Send, own),
                (Way::Feed, own),
                (Way::SendFrame, len > 1024),
                (Way::FeedFrame, len > 1024),
            ] {
                send(&mut server, way, &text, &frame).await;
                let (first, payload) = read_frame(&mut peer).await.unwrap();
                let is_compressed = first == FIN_TEXT | RSV1;
                assert_eq!(is_compressed, compresses, "{way:?} {len}: {first:02X}");
                if compresses {
                    assert!(payload.len() < text.len() / 5, "{way:?} {len}: {}", payload.len());
                } else {
                    assert_eq!(payload, text.as_bytes());
                }
                server.set_compression(false);
                send(&mut server, way, &text, &frame).await;
                server.set_compression(true);
                assert_eq!(read_frame(&mut peer).await.unwrap().0, FIN_TEXT, "{way:?} {len}");
            }
            let plain = frame.without_compression();
            for way in [Way::SendFrame, Way::FeedFrame] {
                send(&mut server, way, &text, &plain).await;
                assert_eq!(read_frame(&mut peer).await.unwrap().0, FIN_TEXT, "{way:?} {len}");
            }
        }
    }
}

#[tokio::test]
async fn a_shared_frame_does_not_get_between_the_parts_of_a_message() {
    let all = [None, Some(Options::default()), Some(takeover())];
    for (options, len) in all.into_iter().flat_map(|one| [10, 5_000, 100_000].map(|len| (one, len)))
    {
        let mut members = Vec::new();
        for _ in 0..3 {
            members.push(pair(options, options).await);
        }
        let text = "to all of you ".repeat(len / 10);
        let frame = Frame::text(&text);
        // One is in the middle of a message; with a frame of the client's the other way, too.
        members[1].0.send_part("begun", false).await.unwrap();
        members[1].1.send_part("begun", false).await.unwrap();
        for (number, (server, client)) in members.iter_mut().enumerate() {
            for feeds in [false, true] {
                let (sent, returned) = match feeds {
                    false => (server.send_frame(&frame).await, client.send_frame(&frame).await),
                    true => (server.feed_frame(&frame).await, client.feed_frame(&frame).await),
                };
                for result in [sent, returned] {
                    let refused = matches!(result, Err(Error::Send(SendError::UnfinishedMessage)));
                    assert_eq!(refused, number == 1, "{result:?}");
                }
            }
            server.flush().await.unwrap();
            client.flush().await.unwrap();
        }
        members[1].0.send_part(" and ended", true).await.unwrap();
        members[1].1.send_part(" and ended", true).await.unwrap();
        for (number, (server, client)) in members.iter_mut().enumerate() {
            server.send_frame(&frame).await.unwrap();
            client.send_frame(&frame).await.unwrap();
            let first = if number == 1 { "begun and ended" } else { &text };
            for expected in [first, &text] {
                assert_eq!(server.next().await.unwrap().unwrap(), Message::text(expected));
                assert_eq!(client.next().await.unwrap().unwrap(), Message::text(expected));
            }
        }
    }
}
