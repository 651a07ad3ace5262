//! FEATURES E1 row by row: what a server answers, over real loopback and to raw clients.
//! The messages behind a handshake are `stream`'s.

use std::pin::pin;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL, WWW_AUTHENTICATE};
use http::{Request, StatusCode};
use sockeye_ws::handshake::head::{HeadError, HeadLimits};
use sockeye_ws::handshake::server::HandshakeError;
use sockeye_ws::net::{AcceptError, Error, Message, Refusal, Server, WebSocket};
use sockeye_ws::{CloseCode, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// The request of RFC 6455 §1.2, line by line.
const LINES: [&str; 7] = [
    "GET /chat?room=1 HTTP/1.1",
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Origin: http://example.com",
    "Sec-WebSocket-Version: 13",
];

/// The request with the request line, or the header of that name, replaced.
fn with(line: &str) -> String {
    if line.contains(" HTTP/") {
        return request(&[&[line], &LINES[1..]].concat());
    }
    let (name, _) = line.split_once(':').expect("a header");
    let kept = LINES.iter().copied().filter(|own| !own.starts_with(name));
    request(&kept.chain([line]).collect::<Vec<_>>())
}

fn without(name: &str) -> String {
    let kept: Vec<_> = LINES.iter().filter(|own| !own.starts_with(name)).collect();
    request(&kept)
}

fn request<L: AsRef<str>>(lines: &[L]) -> String {
    let mut text: String = lines.iter().map(|line| format!("{}\r\n", line.as_ref())).collect();
    text.push_str("\r\n");
    text
}

/// What a client gets that sends this, and what the server has.
async fn ask(
    server: &Server,
    request: &[u8],
) -> (String, Result<WebSocket<TcpStream>, AcceptError>) {
    let (near, mut far) = loopback().await;
    let request = request.to_vec();
    // Its end of the stream goes when it has the answer, as a client's does.
    let client = async move {
        write(&mut far, &request).await;
        read_response(&mut far).await
    };
    tokio::join!(client, server.accept(near))
}

/// The answer to a request that is refused: its status line, its head, its body.
async fn refused(server: &Server, request: &str) -> (u16, String, String, AcceptError) {
    let (response, accepted) = ask(server, request.as_bytes()).await;
    let error = accepted.expect_err("the request is refused");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    let length = format!("content-length: {}", body.len());
    for line in ["connection: close", &*length] {
        assert!(head.to_lowercase().contains(line), "{line} in {head}");
    }
    (status, head.to_lowercase(), body.to_owned(), error)
}

async fn accepted(server: &Server, request: &str) -> (String, WebSocket<TcpStream>) {
    let (response, accepted) = ask(server, request.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    (response, accepted.unwrap())
}

#[tokio::test]
async fn e1_a_valid_request_is_accepted() {
    let (response, websocket) = accepted(&Server::new(), &request(&LINES)).await;
    assert!(response.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert_eq!(websocket.protocol(), None);
    assert!(websocket.stream().peer_addr().unwrap().ip().is_loopback());
    let (response, _) = accepted(&Server::new(), &with("Sec-WebSocket-Version: 8")).await;
    assert!(!response.contains("Sec-WebSocket-Protocol"));
}

#[tokio::test]
async fn e1_handshake_errors_have_their_status_and_say_why() {
    let server = Server::builder().path("/chat").build();
    for (request, status, header, why) in [
        (with("POST /chat HTTP/1.1"), 405, "allow: get", "GET"),
        (with("GET /chat HTTP/1.0"), 400, "", "HTTP/1.1"),
        (without("Upgrade"), 426, "upgrade: websocket", "WebSocket"),
        (without("Connection"), 426, "connection: close, upgrade", "WebSocket"),
        (with("Upgrade: h2c"), 400, "", "Upgrade"),
        (without("Sec-WebSocket-Key"), 400, "", "Sec-WebSocket-Key"),
        (with("Sec-WebSocket-Key: short"), 400, "", "Sec-WebSocket-Key"),
        (with("Sec-WebSocket-Version: 7"), 400, "sec-websocket-version: 13, 8", "Version"),
        (without("Host"), 400, "", "Host"),
        (with("GET /other HTTP/1.1"), 400, "", "path"),
        (with("Sec-WebSocket-Protocol: a, a"), 400, "", "Protocol"),
        (with("Sec-WebSocket-Extensions: a;"), 400, "", "Extensions"),
        ("GARBAGE\r\n\r\n".to_owned(), 400, "", "head"),
    ] {
        let (got, head, body, _) = refused(&server, &request).await;
        assert_eq!(got, status, "{request}");
        assert!(head.contains(header), "{header} in {head}");
        assert!(body.contains(why), "{why} in {body}");
    }
}

#[tokio::test]
async fn e1_the_path_is_compared_exactly_and_without_the_query() {
    let server = Server::builder().path("/chat").build();
    accepted(&server, &with("GET /chat?x=/other HTTP/1.1")).await;
    for target in ["/chat/", "/Chat", "/", "/chatter"] {
        let (status, ..) = refused(&server, &with(&format!("GET {target} HTTP/1.1"))).await;
        assert_eq!(status, 400, "{target}");
    }
}

#[tokio::test]
async fn e1_origins_from_a_list_or_by_a_predicate() {
    let listed = Server::builder().origins(["https://a.example", "http://example.com"]).build();
    accepted(&listed, &request(&LINES)).await;
    accepted(&listed, &without("Origin")).await;
    let asked =
        Server::builder().origin_check(|origin| origin.is_some_and(|o| o.len() < 10)).build();
    accepted(&asked, &with("Origin: short")).await;
    let twice = request(&[&LINES[..], &["Origin: http://example.com"]].concat());
    for (server, request) in [
        (&listed, with("Origin: https://evil.example")),
        (&listed, with("Origin: null")),
        (&listed, twice),
        (&asked, without("Origin")),
        (&asked, request(&LINES)),
    ] {
        let (status, _, body, _) = refused(server, &request).await;
        assert_eq!((status, &*body), (403, "the origin is not allowed"), "{request}");
    }
    // The draft of version 8 has another name for the header.
    let v8 = with("Sec-WebSocket-Version: 8");
    let evil = v8.replace("Origin: http://example.com", "Sec-WebSocket-Origin: http://evil");
    assert_eq!(refused(&listed, &evil).await.0, 403);
}

#[tokio::test]
async fn e1_the_verification_hook_refuses_with_its_own_status_headers_and_body() {
    fn check(request: &Request<()>) -> Result<(), Refusal> {
        match request.uri().query() {
            Some("token=good") => Ok(()),
            Some(_) => Err(Refusal::new(StatusCode::PAYMENT_REQUIRED).body("pay first")),
            None => {
                let challenge = HeaderValue::from_static("Bearer");
                Err(Refusal::unauthorized().header(WWW_AUTHENTICATE, challenge))
            }
        }
    }
    let waiting = Server::builder().verify_async(|request| {
        Box::pin(async move {
            tokio::task::yield_now().await;
            check(request)
        })
    });
    for server in [Server::builder().verify(check).build(), waiting.build()] {
        accepted(&server, &with("GET /?token=good HTTP/1.1")).await;
        let (status, _, body, error) = refused(&server, &request(&LINES)).await;
        assert_eq!((status, &*body), (402, "pay first"));
        assert!(matches!(error, AcceptError::Refused(refusal) if refusal.status() == 402));
        let (status, head, body, _) = refused(&server, &with("GET / HTTP/1.1")).await;
        assert_eq!((status, &*body), (401, "Unauthorized"));
        assert!(head.contains("www-authenticate: bearer"), "{head}");
    }
}

#[tokio::test]
async fn e1_subprotocols_by_list_and_by_hook() {
    let offering = with("Sec-WebSocket-Protocol: v3, v2, v1");
    let listed = Server::builder().protocols(["v1", "v2"]).build();
    let (response, websocket) = accepted(&listed, &offering).await;
    assert!(response.contains("\r\nSec-WebSocket-Protocol: v2\r\n"), "{response}");
    assert_eq!(websocket.protocol(), Some("v2"));
    let (response, _) = accepted(&listed, &with("Sec-WebSocket-Protocol: v9")).await;
    assert!(!response.contains("Sec-WebSocket-Protocol"));

    let hooked = |choice: &'static str| {
        let choose = move |offered: &[&str], _: &Request<()>| {
            assert_eq!(offered, ["v3", "v2", "v1"]);
            Some(choice.to_owned())
        };
        Server::builder().choose_protocol(choose).build()
    };
    let (_, websocket) = accepted(&hooked("v1"), &offering).await;
    assert_eq!(websocket.protocol(), Some("v1"));
    let (status, .., error) = refused(&hooked("v4"), &offering).await;
    assert_eq!(status, 500);
    assert!(matches!(error, AcceptError::Build(_)), "{error}");
}

#[tokio::test]
async fn e1_response_headers_by_a_hook() {
    let adding = |name: HeaderName, value: &'static str| {
        let value = HeaderValue::from_static(value);
        Server::builder()
            .response_headers(move |request, headers| {
                assert_eq!(request.uri().path(), "/chat");
                headers.append(&name, value.clone());
                headers.append(&name, value.clone());
            })
            .build()
    };
    let cookie = adding(http::header::SET_COOKIE, "a=b");
    let (response, _) = accepted(&cookie, &request(&LINES)).await;
    assert_eq!(response.to_lowercase().matches("\r\nset-cookie: a=b\r\n").count(), 1, "{response}");
    assert_eq!(response.to_lowercase().matches("set-cookie: a=b\r\n").count(), 2, "{response}");
    let own = adding(SEC_WEBSOCKET_PROTOCOL, "v1");
    let (status, .., error) = refused(&own, &request(&LINES)).await;
    assert_eq!(status, 500);
    assert!(matches!(error, AcceptError::Build(_)), "{error}");
}

#[tokio::test]
async fn e1_a_closing_server_answers_503_and_leaves_connections_alone() {
    let server = Server::new();
    let (near, mut far) = loopback().await;
    write(&mut far, request(&LINES).as_bytes()).await;
    let mut websocket = server.accept(near).await.unwrap();
    let mut closing = pin!(server.closing());
    assert!(poll_and_drop(closing.as_mut()).is_pending());
    server.close();
    closing.await;
    server.closing().await;
    let (status, _, body, _) = refused(&server.clone(), &request(&LINES)).await;
    assert_eq!((status, &*body), (503, "the server is closing"));
    read_response(&mut far).await;
    websocket.send("still here").await.unwrap();
    assert_eq!(read_frame(&mut far).await.unwrap(), (FIN_TEXT, b"still here".to_vec()));
}

#[tokio::test]
async fn e1_heads_have_limits() {
    let limits = HeadLimits { bytes_max: 1000, headers_max: 10 };
    let server = Server::builder().head_limits(limits).build();
    accepted(&server, &with(&format!("X: {}", "x".repeat(500)))).await;
    let long = with(&format!("X: {}", "x".repeat(1000)));
    let many = format!("{}{}\r\n", request(&LINES).trim_end(), "\r\nX: y".repeat(10));
    for (request, expected) in
        [(long, HeadError::TooLong), (many + "\r\n", HeadError::TooManyHeaders)]
    {
        let (status, .., error) = refused(&server, &request).await;
        assert_eq!(status, 431);
        assert!(matches!(error, AcceptError::Handshake(HandshakeError::Head(e)) if e == expected));
    }
}

#[tokio::test]
async fn e1_huge_heads_are_not_held() {
    let server = Server::new();
    let (near, mut far) = loopback().await;
    let accept = tokio::spawn(async move { server.accept(near).await });
    write(&mut far, b"GET / HTTP/1.1\r\nX: ").await;
    // The server hangs up long before; a client that still writes finds its socket reset.
    let flood = vec![b'x'; 64 << 10];
    for _ in 0..1000 {
        if far.write_all(&flood).await.is_err() {
            break;
        }
    }
    let error = accept.await.unwrap().unwrap_err();
    assert!(matches!(error, AcceptError::Handshake(HandshakeError::Head(HeadError::TooLong))));
}

#[tokio::test]
async fn e1_slow_loris_handshakes_end_in_time_and_others_are_served() {
    // What a busy machine needs for those who are served meanwhile.
    let server = Server::builder().handshake_timeout(Duration::from_secs(5)).build();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let (near, far) = loopback().await;
        let server = server.clone();
        let accept = tokio::spawn(async move { server.accept(near).await.map(drop) });
        slow.push((far, accept));
    }
    for _ in 0..10 {
        for (far, _) in &mut slow {
            write(far, b"G").await;
        }
        accepted(&server, &request(&LINES)).await;
    }
    for (mut far, accept) in slow {
        assert!(matches!(accept.await.unwrap(), Err(AcceptError::Timeout)));
        let mut answer = String::new();
        far.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
}

#[tokio::test]
async fn e1_a_verification_that_takes_too_long_ends_in_time() {
    let server = Server::builder()
        .handshake_timeout(Duration::from_millis(50))
        .verify_async(|_| Box::pin(std::future::pending()))
        .build();
    let (status, .., error) = refused(&server, &request(&LINES)).await;
    assert_eq!(status, 408);
    assert!(matches!(error, AcceptError::Timeout));
}

#[tokio::test]
async fn e1_a_client_that_leaves_is_told_apart() {
    for request in [&b""[..], b"GET / HTTP/1.1\r\n"] {
        let (near, mut far) = loopback().await;
        write(&mut far, request).await;
        drop(far);
        let error = Server::new().accept(near).await.unwrap_err();
        assert!(matches!(error, AcceptError::Left), "{error}");
    }
}

#[tokio::test]
async fn e1_a_half_closed_client_is_answered_and_its_connection_is_lost() {
    let server = Server::builder().path("/chat").build();
    let (near, mut far) = loopback().await;
    write(&mut far, &[request(&LINES).as_bytes(), &masked(FIN_TEXT, b"last words")].concat()).await;
    far.shutdown().await.unwrap();
    let mut websocket = server.accept(near).await.unwrap();
    assert!(read_response(&mut far).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(websocket.next().await.unwrap().unwrap(), Message::text("last words"));
    assert!(matches!(websocket.next().await, Some(Err(Error::Lost))));
    assert!(websocket.next().await.is_none());
    assert_eq!(websocket.closed().unwrap().code, CloseCode::ABNORMAL);
    // Our side has ended, too, and the connection is still held.
    assert_ended(&mut far).await;
    drop(websocket);

    let (near, mut far) = loopback().await;
    write(&mut far, with("GET /other HTTP/1.1").as_bytes()).await;
    far.shutdown().await.unwrap();
    let (accepted, response) = tokio::join!(server.accept(near), read_response(&mut far));
    assert!(matches!(accepted, Err(AcceptError::Refused(_))), "{accepted:?}");
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
}

#[tokio::test]
async fn h105_cve_2022_21676_bytes_behind_the_request_are_read_as_frames() {
    let server = Server::new();
    let good = [request(&LINES).as_bytes(), &masked(FIN_TEXT, b"early")].concat();
    let (_, accepted) = ask(&server, &good).await;
    let mut websocket = accepted.unwrap();
    assert_eq!(websocket.next().await.unwrap().unwrap(), Message::text("early"));

    let (near, mut far) = loopback().await;
    write(&mut far, &[request(&LINES).as_bytes(), &masked(0xB1, b"RSV2, RSV3")].concat()).await;
    let mut websocket = server.accept(near).await.unwrap();
    read_response(&mut far).await;
    let (error, _) = tokio::join!(websocket.next(), async {
        assert_eq!(read_frame(&mut far).await.unwrap(), (FIN_CLOSE, b"\x03\xEA".to_vec()));
        drop(far);
    });
    assert_eq!(error.unwrap().unwrap_err().close_code(), Some(CloseCode::PROTOCOL_ERROR));
}

#[tokio::test]
async fn a_request_can_be_looked_at_before_it_is_answered() {
    let server = Server::new();
    for accept in [true, false] {
        let (near, mut far) = loopback().await;
        write(&mut far, request(&LINES).as_bytes()).await;
        let handshake = server.receive(near).await.unwrap();
        assert_eq!(handshake.request().uri().query(), Some("room=1"));
        assert!(handshake.stream().peer_addr().is_ok());
        if accept {
            handshake.accept().await.unwrap();
            assert!(read_response(&mut far).await.starts_with("HTTP/1.1 101 "));
        } else {
            let refusal = Refusal::new(StatusCode::NOT_FOUND).body("no such room");
            let (response, ()) = tokio::join!(read_response(&mut far), handshake.refuse(refusal));
            assert!(response.starts_with("HTTP/1.1 404 Not Found\r\n"), "{response}");
        }
    }
}

#[tokio::test]
async fn e1_limits_of_messages_are_the_servers() {
    let limits = Limits { message_bytes_max: 10, ..Limits::default() };
    let server = Server::builder().limits(limits).build();
    let (near, mut far) = loopback().await;
    write(&mut far, request(&LINES).as_bytes()).await;
    let mut websocket = server.accept(near).await.unwrap();
    read_response(&mut far).await;
    write(&mut far, &masked(FIN_BINARY, &[0; 11])[..6]).await;
    let (error, _) = tokio::join!(websocket.next(), async {
        assert_eq!(read_frame(&mut far).await.unwrap(), (FIN_CLOSE, b"\x03\xF1".to_vec()));
        drop(far);
    });
    assert_eq!(error.unwrap().unwrap_err().close_code(), Some(CloseCode::TOO_BIG));
}

#[tokio::test]
async fn serve_runs_a_handler_for_each_until_the_server_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new();
    let serving = tokio::spawn({
        let server = server.clone();
        async move {
            server
                .serve(listener, |mut websocket, peer| async move {
                    websocket.send(format!("hello {peer}")).await.unwrap();
                    assert!(websocket.stream().nodelay().unwrap());
                })
                .await;
        }
    });
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).await.unwrap();
        write(&mut client, request(&LINES).as_bytes()).await;
        assert!(read_response(&mut client).await.starts_with("HTTP/1.1 101 "));
        let hello = format!("hello {}", client.local_addr().unwrap()).into_bytes();
        assert_eq!(read_frame(&mut client).await.unwrap(), (FIN_TEXT, hello));
    }
    server.close();
    serving.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
