//! Interoperability with `tokio-tungstenite`, both ways, over real loopback.
//! Messages are compared by content; what its API cannot say, `support`'s raw peers do.

use futures_util::{SinkExt, StreamExt};
use sockeye_ws::CloseCode;
use sockeye_ws::net::{CloseFrame, Message, Server, connect};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{
    CloseCode as TheirCode, Data, OpCode,
};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame as TheirFrame, Frame};
use tokio_tungstenite::tungstenite::{Message as Theirs, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async, connect_async};

/// Payloads at every form of the length, and one that takes many reads.
const LENS: [usize; 9] = [0, 1, 125, 126, 127, 65_535, 65_536, 2 << 20, 3];

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 / 8) as u8).collect()
}

fn text(len: usize) -> String {
    "añ🐟z".chars().cycle().take(len).collect()
}

/// Our server, echoing; its URL. The task returns how it ended.
async fn echo_server() -> (String, tokio::task::JoinHandle<Message>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut websocket = Server::new().accept(stream).await.unwrap();
        loop {
            let message = websocket.next().await.expect("a close frame comes first").unwrap();
            if matches!(message, Message::Close(_)) {
                return message;
            }
            if message.is_data() {
                websocket.send(message).await.unwrap();
            }
        }
    });
    (url, serving)
}

#[tokio::test]
async fn their_client_and_our_server() {
    let (url, serving) = echo_server().await;
    let (mut client, _) = connect_async(&url).await.unwrap();
    for len in LENS {
        for message in [Theirs::binary(data(len)), Theirs::text(text(len))] {
            client.send(message.clone()).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), message, "{len}");
        }
    }
    client.send(Theirs::Ping("are you there".into())).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Theirs::Pong("are you there".into()));

    // Fragments, an empty one among them, cut within a character, with a ping between.
    let whole = text(50_000);
    let opcodes = std::iter::once(Data::Text).chain(std::iter::repeat(Data::Continue));
    let parts: Vec<_> = whole.as_bytes().chunks(997).chain([&b""[..]]).collect();
    let last = parts.len() - 1;
    for ((index, part), opcode) in parts.iter().enumerate().zip(opcodes) {
        let frame = Frame::message(part.to_vec(), OpCode::Data(opcode), index == last);
        client.send(Theirs::Frame(frame)).await.unwrap();
        if index == 3 {
            client.send(Theirs::Ping("between".into())).await.unwrap();
        }
    }
    assert_eq!(client.next().await.unwrap().unwrap(), Theirs::Pong("between".into()));
    assert_eq!(client.next().await.unwrap().unwrap(), Theirs::text(whole));

    let reason = Utf8Bytes::from_static("tschüß");
    let frame = TheirFrame { code: TheirCode::Library(4001), reason };
    client.close(Some(frame)).await.unwrap();
    let Some(Ok(Theirs::Close(Some(answer)))) = client.next().await else { panic!("an answer") };
    assert_eq!(u16::from(answer.code), 4001);
    let frame = CloseFrame { code: CloseCode(4001), reason: "tschüß".into() };
    assert_eq!(serving.await.unwrap(), Message::Close(Some(frame)));
}

async fn their_server() -> (String, tokio::task::JoinHandle<WebSocketStream<TcpStream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        accept_async(stream).await.unwrap()
    });
    (url, accepting)
}

#[tokio::test]
async fn our_client_and_their_server() {
    let (url, accepting) = their_server().await;
    let mut client = connect(&url).await.unwrap();
    let mut server = accepting.await.unwrap();
    let serving = tokio::spawn(async move {
        let mut end = None;
        // Read on behind a close frame, it answers that.
        while let Some(Ok(message)) = server.next().await {
            match message {
                Theirs::Text(_) | Theirs::Binary(_) => server.send(message).await.unwrap(),
                Theirs::Close(frame) => end = frame,
                _ => {}
            }
        }
        end
    });
    for len in LENS {
        for message in [Message::binary(data(len)), Message::text(text(len))] {
            client.send(message.clone()).await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), message, "{len}");
        }
    }
    client.send(Message::Ping("are you there".into())).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong("are you there".into()));
    client.close(CloseCode(4002), "tschüß").await.unwrap();
    let frame = serving.await.unwrap().expect("a close frame");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4002, "tschüß"));
}

#[tokio::test]
async fn their_server_closes_our_client() {
    for (frame, expected) in [
        (None, None),
        (
            Some(TheirFrame { code: TheirCode::Away, reason: "moving".into() }),
            Some(CloseFrame { code: CloseCode::GOING_AWAY, reason: "moving".into() }),
        ),
    ] {
        let (url, accepting) = their_server().await;
        let mut client = connect(&url).await.unwrap();
        let mut server = accepting.await.unwrap();
        server.close(frame).await.unwrap();
        let serving = tokio::spawn(async move { while server.next().await.is_some() {} });
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Close(expected));
        assert!(client.next().await.is_none());
        serving.await.unwrap();
    }
}
