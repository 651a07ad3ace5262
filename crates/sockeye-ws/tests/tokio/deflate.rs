//! Compressed connections as applications see them: the same messages, fewer bytes.
//! What is negotiated and how it is compressed is the machine's, and tested there.

use sockeye_ws::deflate::Options;
use sockeye_ws::net::{AnyStream, Client, Message, Server, WebSocket};
use sockeye_ws::{CloseCode, Frame};
use tokio::net::TcpListener;

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

fn takeover() -> Options {
    Options {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        ..Options::default()
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
