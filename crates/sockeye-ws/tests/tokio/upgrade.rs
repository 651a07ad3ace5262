//! Requests that hyper and axum serve: the answers, and the streams taken back, over real loopback.
//! What a server checks is `server`'s; here is that it is asked.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::any;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use sockeye_ws::net::{AnyStream, Client, ConnectError, Message, Server, WebSocket};
use sockeye_ws::net::{Refusal, WebSocketUpgrade};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

const REQUEST: &str = "GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

async fn echo(mut websocket: WebSocket<AnyStream>) {
    assert!(websocket.stream().as_tcp().is_some(), "the bare TCP stream is taken back");
    let protocol = websocket.protocol().unwrap_or("none").to_owned();
    websocket.send(protocol).await.unwrap();
    while let Some(Ok(message)) = websocket.next().await {
        websocket.send(message).await.unwrap();
    }
}

/// An axum application that echoes at `/echo`; its port.
async fn axum_app(server: Server) -> u16 {
    async fn handle(State(server): State<Server>, upgrade: WebSocketUpgrade) -> Response {
        upgrade.accept(&server, echo).await
    }
    let app = Router::new().route("/echo", any(handle)).with_state(server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

/// hyper's own connection without a framework; its port. `upgrades` says whether it allows them.
async fn hyper_app(server: Server, upgrades: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = server.clone();
            let service = hyper::service::service_fn(move |mut request| {
                let server = server.clone();
                async move {
                    if !upgrades {
                        hyper::http::Request::extensions_mut(&mut request).clear();
                    }
                    let (response, upgrade) = server.upgrade(&mut request).await;
                    if let Some(upgrade) = upgrade {
                        tokio::spawn(async move { echo(upgrade.await.unwrap()).await });
                    }
                    Ok::<_, Infallible>(response.map(Full::new))
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let serving = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
            tokio::spawn(async move { serving.await.is_ok() });
        }
    });
    port
}

#[tokio::test]
async fn connections_through_axum_and_through_bare_hyper() {
    let server = Server::builder().protocols(["v1"]).build();
    for port in [axum_app(server.clone()).await, hyper_app(server.clone(), true).await] {
        let client = Client::new(&format!("ws://127.0.0.1:{port}/echo")).protocol("v1");
        let mut websocket = client.connect().await.unwrap();
        assert_eq!(websocket.next().await.unwrap().unwrap(), Message::text("v1"));
        for len in [5, 100_000] {
            let message = Message::binary(vec![7; len]);
            websocket.send(message.clone()).await.unwrap();
            assert_eq!(websocket.next().await.unwrap().unwrap(), message);
        }
        websocket.close(None, "").await.unwrap();
    }
}

#[tokio::test]
async fn h105_bytes_behind_the_request_are_not_lost_in_hyper() {
    for port in [axum_app(Server::new()).await, hyper_app(Server::new(), true).await] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let early = [REQUEST.as_bytes(), &masked(FIN_TEXT, b"early")].concat();
        write(&mut stream, &early).await;
        assert!(read_response(&mut stream).await.starts_with("HTTP/1.1 101 "));
        assert_eq!(read_frame(&mut stream).await.unwrap().1, b"none");
        assert_eq!(read_frame(&mut stream).await.unwrap(), (FIN_TEXT, b"early".to_vec()));
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_with_its_status() {
    let server = Server::new();
    for port in [axum_app(server.clone()).await, hyper_app(server.clone(), true).await] {
        for (request, status, header) in [
            (REQUEST.replace("GET", "POST"), 405, "allow: GET"),
            (REQUEST.replace("Upgrade: websocket\r\n", ""), 426, "upgrade: websocket"),
            (REQUEST.replace("Version: 13", "Version: 9"), 400, "sec-websocket-version: 13, 8"),
            (REQUEST.replace("Key: d", "Key: "), 400, "connection: close"),
        ] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            write(&mut stream, request.as_bytes()).await;
            let response = read_response(&mut stream).await;
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
            assert!(response.contains(header), "{header} in {response}");
            assert!(response.len() > response.find("\r\n\r\n").unwrap() + 10, "a body says why");
        }
    }
}

#[tokio::test]
async fn the_servers_checks_are_asked() {
    let server = Server::builder()
        .origins(["https://example.com"])
        .verify(|request| {
            let is_known = request.headers().contains_key("x-token");
            if is_known { Ok(()) } else { Err(Refusal::unauthorized().body("who are you?")) }
        })
        .build();
    for port in [axum_app(server.clone()).await, hyper_app(server.clone(), true).await] {
        let client = || Client::new(&format!("ws://127.0.0.1:{port}/echo"));
        let status = async |client: Client| match client.connect().await {
            Ok(_) => 101,
            Err(ConnectError::Unexpected(response)) => response.status.as_u16(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(status(client()).await, 401);
        assert_eq!(status(client().origin("https://evil.example")).await, 403);
        assert_eq!(status(client().header("X-Token", "1")).await, 101);
    }
    server.close();
    let port = axum_app(server).await;
    let client = Client::new(&format!("ws://127.0.0.1:{port}/echo"));
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Unexpected(r) if r.body == "the server is closing"));
}

#[tokio::test]
async fn a_verification_that_takes_too_long_ends_in_time() {
    let server = Server::builder()
        .handshake_timeout(Duration::from_millis(50))
        .verify_async(|_| Box::pin(std::future::pending()))
        .build();
    for port in [axum_app(server.clone()).await, hyper_app(server.clone(), true).await] {
        let client = Client::new(&format!("ws://127.0.0.1:{port}/echo"));
        let error = client.connect().await.unwrap_err();
        let ConnectError::Unexpected(response) = error else { panic!("{error}") };
        assert_eq!(
            (response.status.as_u16(), &*response.body),
            (408, &b"the handshake took too long"[..])
        );
    }
}

#[tokio::test]
async fn a_server_that_cannot_upgrade_says_so() {
    let port = hyper_app(Server::new(), false).await;
    let error = Client::new(&format!("ws://127.0.0.1:{port}/")).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Unexpected(r) if r.status == 501));
}
