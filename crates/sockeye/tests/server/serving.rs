//! `sockeye::serve`: sessions and an application behind one listener, slow heads, and its end.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::routing::{any, get};
use axum::{Extension, Router};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use sockeye::{PeerAddr, Server, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::support::http::{send, text};
use crate::support::{Host, Polling, WebSocket, only_socket, until_empty};

/// Serves an application behind a server, until `end` is notified.
async fn serving(io: Server, app: Router, end: &Arc<Notify>) -> (Host, JoinHandle<()>) {
    let listener = sockeye::listen("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (service, end) = (io.wrap(app), end.clone());
    let serving = tokio::spawn(async move {
        let signal = async move { end.notified().await };
        let served = sockeye::serve(listener, service).with_graceful_shutdown(signal).await;
        served.expect("it ends by the signal");
    });
    (Host::at(io, address), serving)
}

async fn ask(host: &Host, path: &str) -> Option<Response<Bytes>> {
    let request = Request::get(path).header("host", "localhost").body(String::new());
    send(host, request.expect("a valid request")).await
}

async fn stream(host: &Host) -> TcpStream {
    TcpStream::connect(host.address()).await.expect("it listens")
}

/// Reads until the end; an abrupt one is one, too.
async fn rest(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    match stream.read_to_end(&mut read).await {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8(read).expect("text"),
    }
}

#[tokio::test]
async fn sessions_and_an_application_share_a_listener() {
    let tell = async |ConnectInfo(by_axum): ConnectInfo<SocketAddr>,
                      Extension(PeerAddr(peer)): Extension<PeerAddr>| {
        assert_eq!(peer, by_axum);
        peer.ip().to_string()
    };
    let app = Router::new().route("/who", get(tell));
    let (host, serving) = serving(Server::default(), app, &Arc::default()).await;

    let client = Polling::join(&host).await;
    let peer = only_socket(&host.io).handshake().address().expect("a polling client's, too");
    assert!(peer.ip().is_loopback() && peer.port() != 0, "{peer}");
    assert_eq!(client.post("1").await, StatusCode::OK);
    until_empty(&host.io).await;

    let mut client = WebSocket::join(&host).await;
    assert_eq!(only_socket(&host.io).transport(), Transport::WebSocket);
    client.send("41").await;

    let answer = ask(&host, "/who").await.expect("the application answers");
    assert_eq!(text(&answer), "127.0.0.1");
    let answer = ask(&host, "/who/else").await.expect("the application answers");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
    let (host, serving) = serving(Server::default(), Router::new(), &Arc::default()).await;
    // Nothing at all; a beginning; and one request, behind which the connection idles.
    for begin in ["", "GET /socket.io/?EIO=4", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let mut stream = stream(&host).await;
        stream.write_all(begin.as_bytes()).await.expect("it is taken");
        let answer = rest(&mut stream).await;
        let is_whole = begin.ends_with("\r\n\r\n");
        assert_eq!(answer.starts_with("HTTP/1.1 404"), is_whole, "{begin}: {answer}");
    }
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_get_that_waits_for_long_is_no_slow_head() {
    let io = Server::builder().ping_interval(Duration::from_secs(600)).build();
    let (host, serving) = serving(io, Router::new(), &Arc::default()).await;
    let client = Polling::join(&host).await;
    let packets = client.get().await;
    assert_eq!(packets, Ok(vec!["2".to_owned()]));
    serving.abort();
}

#[tokio::test]
async fn an_end_lets_requests_be_answered_and_closes_what_idles() {
    let (begun, go_on, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::default());
    let app = Router::new().route("/slow", {
        let (begun, go_on) = (begun.clone(), go_on.clone());
        any(async move || {
            begun.notify_one();
            go_on.notified().await;
            "done"
        })
    });
    let (host, serving) = serving(Server::default(), app, &end).await;
    let mut idle = stream(&host).await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("it is taken");
    idle.readable().await.expect("it is answered");

    let asked = host.clone();
    let slow = tokio::spawn(async move { ask(&asked, "/slow").await });
    begun.notified().await;
    end.notify_one();
    assert!(rest(&mut idle).await.starts_with("HTTP/1.1 404"));
    // The listener is closed before anybody is told.
    let refused = TcpStream::connect(host.address()).await.expect_err("nothing listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(!serving.is_finished());
    go_on.notify_one();
    let answer = slow.await.expect("no panic").expect("it is answered");
    assert_eq!(text(&answer), "done");
    serving.await.expect("it ends when all are answered");
}
