//! The examples, as their users meet them: started on a free port and spoken to.
//! What they print is not looked at here; `interop` starts them as programs.

use std::error::Error;
use std::time::Duration;

use serde_json::{Value, json};
use sockeye_ws::CloseCode;
use sockeye_ws::net::{AnyStream, Client, Message, WebSocket, connect};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::support::{read_response, write};

#[expect(dead_code, unreachable_pub, reason = "it is a program too")]
#[path = "../../examples/axum_echo.rs"]
mod axum_echo;
#[expect(dead_code, unreachable_pub, reason = "it is a program too")]
#[path = "../../examples/broadcast_hub.rs"]
mod broadcast_hub;
#[expect(dead_code, unreachable_pub, reason = "it is a program too")]
#[path = "../../examples/compressed_feed.rs"]
mod compressed_feed;
#[expect(dead_code, unreachable_pub, reason = "it is a program too")]
#[path = "../../examples/echo_server.rs"]
mod echo_server;
#[expect(dead_code, unreachable_pub, reason = "it is a program too")]
#[path = "../../examples/json_client.rs"]
mod json_client;

/// Starts an example; its address.
async fn start<F>(run: impl FnOnce(TcpListener) -> F + Send + 'static) -> String
where
    F: Future<Output = Result<(), Box<dyn Error>>> + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    // Its errors are not `Send`: it has a thread of its own.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { run(TcpListener::from_std(listener).unwrap()).await.unwrap() });
    });
    address.to_string()
}

async fn next(websocket: &mut WebSocket<AnyStream>) -> Message {
    websocket.next().await.expect("more").expect("no failure")
}

#[tokio::test]
async fn echo_server_greets_and_echoes() {
    let address = start(echo_server::run).await;
    let mut websocket = connect(&format!("ws://{address}/somewhere")).await.unwrap();
    let own = websocket.stream().as_tcp().unwrap().local_addr().unwrap();
    assert_eq!(next(&mut websocket).await, Message::text(format!("hello, {own}")));
    for message in [Message::text("Grüße"), Message::binary(vec![1; 100_000])] {
        websocket.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut websocket).await, message);
    }
    websocket.close(CloseCode(4001), "enough").await.unwrap();
}

#[tokio::test]
async fn echo_server_says_goodbye_to_all_when_it_is_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let stopped = async { stopped.await.unwrap() };
    let serving = echo_server::run_until(stopped, Duration::from_secs(600), listener);
    let visiting = async {
        let url = format!("ws://{address}/");
        let mut clients = [connect(&url).await.unwrap(), connect(&url).await.unwrap()];
        for client in &mut clients {
            assert!(next(client).await.as_text().unwrap().starts_with("hello, "));
        }
        stop.send(()).unwrap();
        for client in &mut clients {
            let Message::Close(Some(frame)) = next(client).await else { panic!("a close frame") };
            assert_eq!((frame.code, &*frame.reason), (CloseCode::GOING_AWAY, "the server stops"));
        }
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    };
    let (served, ()) = tokio::join!(serving, visiting);
    served.unwrap();
}

#[tokio::test]
async fn echo_server_waits_only_so_long_for_a_client_that_says_no_goodbye() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let stopped = async { stopped.await.unwrap() };
    let serving = echo_server::run_until(stopped, Duration::from_secs(3), listener);
    let visiting = async {
        // It is in the middle of a handshake, and never says more.
        let mut silent = TcpStream::connect(address).await.unwrap();
        write(&mut silent, b"GET / HTTP/1.1\r\n").await;
        let mut deaf = connect(&format!("ws://{address}/")).await.unwrap();
        assert!(next(&mut deaf).await.as_text().unwrap().starts_with("hello, "));
        stop.send(()).unwrap();
        (silent, deaf)
    };
    let (served, (mut silent, mut deaf)) = tokio::join!(serving, visiting);
    served.unwrap();
    // What was sent to it before it was given up.
    let Message::Close(Some(frame)) = next(&mut deaf).await else { panic!("a close frame") };
    assert_eq!(frame.code, CloseCode::GOING_AWAY);
    let mut rest = Vec::new();
    let end = silent.read_to_end(&mut rest).await;
    assert!(end.is_err() || rest.is_empty(), "its stream has ended");
}

#[tokio::test]
async fn json_client_prints_what_the_echo_server_returns() {
    let address = start(echo_server::run).await;
    let value = json!({ "subscribe": ["fish", 1] });
    let url = format!("ws://{address}/");
    let values = json_client::run(&url, &value).await.unwrap();
    assert!(values[0].as_str().unwrap().starts_with("hello, 127.0.0.1:"));
    assert_eq!(values[1..], [value]);
    assert!(json_client::run("ws://", &Value::Null).await.is_err());
}

#[tokio::test]
async fn broadcast_hub_sends_to_all_and_in_order() {
    let address = start(broadcast_hub::run).await;
    let url = format!("ws://{address}/");
    let mut members = Vec::new();
    for number in 0..5 {
        let mut member = connect(&url).await.unwrap();
        // Its own message back says that it has joined.
        member.send(format!("{number} joins")).await.unwrap();
        while next(&mut member).await != Message::text(format!("{number} joins")) {}
        members.push(member);
    }
    for number in 0..20 {
        let large = number % 10 == 0;
        let text = if large { format!("{number:0>20000}") } else { number.to_string() };
        members[number % 5].send(text).await.unwrap();
        for member in &mut members {
            let text = loop {
                let Message::Text(text) = next(member).await else { panic!("only text") };
                if !text.ends_with("joins") {
                    break text;
                }
            };
            assert_eq!(text.parse::<usize>().unwrap(), number);
        }
    }
}

#[tokio::test]
async fn broadcast_hub_sends_those_away_who_do_not_read_and_serves_the_others() {
    let address = start(broadcast_hub::run).await;
    let url = format!("ws://{address}/");
    let slow = connect(&url).await.unwrap();
    let mut sender = connect(&url).await.unwrap();
    // Far more than the kernel's buffers and 256 messages hold.
    let payload = bytes::Bytes::from(vec![7; 100_000]);
    for _ in 0..600 {
        sender.send(payload.clone()).await.unwrap();
        while !matches!(next(&mut sender).await, Message::Binary(_)) {}
    }
    let mut slow = slow;
    let frame = loop {
        match next(&mut slow).await {
            Message::Close(frame) => break frame.expect("a code"),
            message => assert_eq!(message, Message::Binary(payload.clone())),
        }
    };
    assert_eq!((frame.code, &*frame.reason), (CloseCode::POLICY, "too slow"));
}

#[tokio::test]
async fn compressed_feed_sends_the_same_to_those_who_compress_and_those_who_do_not() {
    let address = start(compressed_feed::run).await;
    let url = format!("ws://{address}/");
    let mut plain = connect(&url).await.unwrap();
    let options = sockeye_ws::deflate::Options::default();
    let mut compressing = Client::new(&url).deflate(options).connect().await.unwrap();
    let mut numbers = Vec::new();
    for websocket in [&mut plain, &mut compressing] {
        for _ in 0..3 {
            let value: Value = next(websocket).await.as_text().unwrap().parse().unwrap();
            assert_eq!(value["prices"].as_array().unwrap().len(), 100);
            numbers.push(value["number"].as_u64().unwrap());
        }
    }
    assert!(numbers[..3].is_sorted() && numbers[3..].is_sorted(), "{numbers:?}");
}

#[tokio::test]
async fn axum_echo_serves_a_page_and_an_echo() {
    let address = start(axum_echo::run).await;
    let mut page = TcpStream::connect(&address).await.unwrap();
    write(&mut page, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(read_response(&mut page).await.ends_with("There is an echo at /echo."));
    assert_eq!(page.read(&mut [0]).await.unwrap(), 0);

    let client = Client::new(&format!("ws://{address}/echo")).protocol("echo");
    let mut websocket = client.connect().await.unwrap();
    websocket.send("hello").await.unwrap();
    assert_eq!(next(&mut websocket).await, Message::text("hello"));
}
