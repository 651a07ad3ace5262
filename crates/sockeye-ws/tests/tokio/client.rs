//! FEATURES E2 row by row: what a client asks for, and which answers it takes, over real loopback.
//! The servers are raw: they say what the test wants them to.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sockeye_ws::handshake::client::ResponseError;
use sockeye_ws::handshake::{BuildError, UrlError, accept_key};
use sockeye_ws::net::{Client, ConnectError, Message, ProxyError, Server, connect};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::*;

/// A raw server for one connection after the other, each with its answer; it returns the requests.
/// `ACCEPT` in an answer becomes the right key.
async fn answering(answers: &[&str]) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let serving = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            let answer = answer.replace("ACCEPT", &accept_of(&request));
            write(&mut stream, answer.as_bytes()).await;
            requests.push(request);
        }
        requests
    });
    (port, serving)
}

async fn read_request(stream: &mut TcpStream) -> String {
    // A request's head ends like that of a 101, behind which nothing is read.
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        request.push(char::from(tokio::io::AsyncReadExt::read_u8(stream).await.unwrap()));
    }
    request
}

/// What proves that the request was read.
fn accept_of(request: &str) -> String {
    let key = line(request, "Sec-WebSocket-Key").unwrap_or_default();
    accept_key(key.as_bytes()).map(char::from).iter().collect()
}

fn line<'r>(request: &'r str, name: &str) -> Option<&'r str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// A 101 with these lines beside the usual ones.
fn switching(lines: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\
         Sec-WebSocket-Accept: ACCEPT\r\n{lines}\r\n"
    )
}

/// Why a client of this answer has no connection.
async fn refused(client: impl Fn(&str) -> Client, answer: &str) -> ConnectError {
    let (port, _serving) = answering(&[answer]).await;
    client(&format!("ws://127.0.0.1:{port}/")).connect().await.unwrap_err()
}

#[tokio::test]
async fn e2_the_request_says_what_was_asked_for() {
    let answer = switching("Sec-WebSocket-Protocol: v1\r\nX-Node: 7\r\n");
    let (port, serving) = answering(&[&answer]).await;
    let client = Client::new(&format!("http://us%40er:p%3Ass@localhost:{port}/a%20b?c=d"))
        .origin("https://example.com")
        .protocol("v2")
        .protocol("v1")
        .header("X-Own", "1");
    // Connecting can be a task of its own.
    let connecting = tokio::spawn(async move { client.connect_with_response().await });
    let (websocket, response) = connecting.await.unwrap().unwrap();
    assert_eq!(websocket.protocol(), Some("v1"));
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-node"]),
        (101, &"7".parse().unwrap())
    );
    assert!(websocket.stream().as_tcp().unwrap().nodelay().unwrap());

    let request = &serving.await.unwrap()[0];
    assert!(request.starts_with("GET /a%20b?c=d HTTP/1.1\r\n"), "{request}");
    let basic = format!("Basic {}", STANDARD.encode("us@er:p:ss"));
    for (name, value) in [
        ("Host", &*format!("localhost:{port}")),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "v2,v1"),
        ("Origin", "https://example.com"),
        ("Authorization", &basic),
        ("X-Own", "1"),
    ] {
        assert_eq!(line(request, name), Some(value), "{name} in {request}");
    }
}

#[tokio::test]
async fn e2_each_request_has_a_key_of_its_own() {
    let (port, serving) = answering(&[&switching(""), &switching("")]).await;
    let client = Client::new(&format!("ws://127.0.0.1:{port}"));
    let _ = (client.connect().await.unwrap(), client.connect().await.unwrap());
    let requests = serving.await.unwrap();
    let keys = requests.iter().map(|request| line(request, "Sec-WebSocket-Key").unwrap());
    let keys: Vec<_> = keys.map(|key| STANDARD.decode(key).unwrap()).collect();
    assert_eq!(keys[0].len(), 16);
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn e2_urls_and_headers_that_cannot_be_used() {
    for (url, expected) in [
        ("ftp://localhost", UrlError::Scheme),
        ("ws://localhost/#fragment", UrlError::Fragment),
        ("ws://", UrlError::Host),
        ("ws://%zz@localhost", UrlError::UserInfo),
    ] {
        let error = connect(url).await.unwrap_err();
        assert!(matches!(error, ConnectError::Url(error) if error == expected), "{url}: {error}");
    }
    let answer = switching("");
    let protocol = refused(|url| Client::new(url).protocol("a b"), &answer).await;
    assert!(matches!(protocol, ConnectError::Build(BuildError::Protocol(_))));
    let header = refused(|url| Client::new(url).header("X", "a\r\nY: b"), &answer).await;
    assert!(matches!(header, ConnectError::Build(BuildError::Header(_))));
}

#[tokio::test]
async fn e2_the_answer_is_validated_exactly() {
    let good = switching("");
    for (answer, expected) in [
        (good.replace("Upgrade: WebSocket\r\n", ""), ResponseError::Upgrade),
        (good.replace("Connection: upgrade\r\n", ""), ResponseError::Upgrade),
        (good.replace(": ACCEPT", ": s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), ResponseError::Accept),
        (good.replace("Sec-WebSocket-Accept: ACCEPT\r\n", ""), ResponseError::Accept),
        (switching("Sec-WebSocket-Protocol: v1\r\n"), ResponseError::UnaskedProtocol),
        (switching("Sec-WebSocket-Extensions: x\r\n"), ResponseError::UnaskedExtension),
    ] {
        let error = refused(Client::new, &answer).await;
        assert!(matches!(&error, ConnectError::Response(error) if *error == expected), "{error}");
    }
    let asking = |url: &str| Client::new(url).protocol("v1");
    for (answer, expected) in [
        (good, ResponseError::MissingProtocol),
        (switching("Sec-WebSocket-Protocol: V1\r\n"), ResponseError::UnknownProtocol),
    ] {
        let error = refused(asking, &answer).await;
        assert!(matches!(&error, ConnectError::Response(error) if *error == expected), "{error}");
    }
    for garbage in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
        let error = refused(Client::new, garbage).await;
        assert!(matches!(error, ConnectError::Response(ResponseError::Head(_))), "{error}");
    }
    let long = switching(&format!("X: {}\r\n", "x".repeat(20_000)));
    let error = refused(Client::new, &long).await;
    assert!(matches!(error, ConnectError::Response(ResponseError::Head(_))), "{error}");
    assert!(matches!(refused(Client::new, "HTTP/1.1 101").await, ConnectError::Left));
}

#[tokio::test]
async fn e2_an_unexpected_status_comes_with_its_head_and_a_bounded_body() {
    let answer = "HTTP/1.1 403 Forbidden\r\nX-Why: rules\r\nContent-Length: 9\r\n\r\nno entry!";
    let error = refused(|url| Client::new(url).body_bytes_max(8), answer).await;
    let ConnectError::Unexpected(response) = &error else { panic!("{error}") };
    assert_eq!((response.status.as_u16(), &response.body[..]), (403, &b"no entry"[..]));
    assert_eq!(response.headers["x-why"], "rules");
    assert!(error.to_string().contains("403"), "{error}");
}

#[tokio::test]
async fn e2_handshake_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let client = Client::new(&url).handshake_timeout(Duration::from_millis(50));
    assert!(matches!(client.connect().await, Err(ConnectError::Timeout)));
}

#[tokio::test]
async fn e2_nobody_listens() {
    // It is taken, so that nobody else can listen there.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = taken.local_addr().unwrap();
    let error = connect(&format!("ws://{address}")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Io(_)), "{error}");
}

fn redirect(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn e2_redirects_are_followed_as_often_as_allowed() {
    let answers = [redirect("/second?x=1"), redirect("third"), switching("")];
    let answers: Vec<&str> = answers.iter().map(|answer| &answer[..]).collect();
    for (redirects_max, expected) in [(2, 3), (1, 2), (0, 1)] {
        let (port, serving) = answering(&answers[..expected]).await;
        let client = Client::new(&format!("ws://u:p@127.0.0.1:{port}/first"));
        let client = client.redirects_max(redirects_max).header("Cookie", "a=b");
        let result = client.connect().await;
        match redirects_max {
            2 => drop(result.unwrap()),
            1 => assert!(matches!(result, Err(ConnectError::TooManyRedirects))),
            _ => {
                let Err(ConnectError::Unexpected(response)) = result else { panic!("{result:?}") };
                assert_eq!(response.status.as_u16(), 302);
            }
        }
        let requests = serving.await.unwrap();
        let targets = ["GET /first ", "GET /second?x=1 ", "GET /third "];
        for (request, target) in requests.iter().zip(targets) {
            assert!(request.starts_with(target), "{request}");
            // It is the same server all along.
            assert!(line(request, "Authorization").is_some(), "{request}");
            assert_eq!(line(request, "Cookie"), Some("a=b"));
        }
        assert_eq!(requests.len(), expected);
    }
}

#[tokio::test]
async fn e2_redirects_to_another_server_carry_no_secrets() {
    let (other, other_serving) = answering(&[&switching("")]).await;
    let (port, serving) = answering(&[&redirect(&format!("http://127.0.0.1:{other}/x"))]).await;
    let client = Client::new(&format!("ws://user:secret@127.0.0.1:{port}/"))
        .redirects_max(1)
        .header("Cookie", "session=secret")
        .header("authorization", "Bearer secret")
        .header("X-Own", "kept");
    client.connect().await.unwrap();
    assert!(serving.await.unwrap()[0].contains("Bearer secret"));
    let request = &other_serving.await.unwrap()[0];
    assert_eq!(line(request, "X-Own"), Some("kept"));
    for secret in ["secret", "Basic", "Cookie", "uthorization"] {
        assert!(!request.contains(secret), "{secret} in {request}");
    }
}

#[tokio::test]
async fn e2_redirects_to_nowhere() {
    for location in ["ftp://127.0.0.1/", "ws://host:0/"] {
        let client = |url: &str| Client::new(url).redirects_max(5);
        let error = refused(client, &redirect(location)).await;
        assert!(matches!(error, ConnectError::Redirect(_)), "{location}: {error}");
    }
}

#[tokio::test]
async fn e2_through_a_proxy_with_credentials() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_port = listener.local_addr().unwrap().port();
    let proxying = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let connect = read_request(&mut stream).await;
        write(&mut stream, b"HTTP/1.1 200 Connection established\r\n\r\n").await;
        // The tunnel ends here: the server is the proxy's own.
        let mut websocket = Server::new().accept(stream).await.unwrap();
        websocket.send("through the tunnel").await.unwrap();
        connect
    });
    let client = Client::new("ws://user:pass@chat.example/room")
        .proxy(&format!("http://name:word@127.0.0.1:{proxy_port}"));
    let mut websocket = client.connect().await.unwrap();
    assert_eq!(websocket.next().await.unwrap().unwrap(), Message::text("through the tunnel"));
    let request = proxying.await.unwrap();
    assert!(request.starts_with("CONNECT chat.example:80 HTTP/1.1\r\nHost: chat.example:80\r\n"));
    let basic = format!("Basic {}", STANDARD.encode("name:word"));
    assert_eq!(line(&request, "Proxy-Authorization"), Some(&*basic));
    assert_eq!(line(&request, "Authorization"), None, "the server's credentials are its own");
}

#[tokio::test]
async fn e2_proxies_that_open_no_way() {
    for (answer, expected) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", ProxyError::Status(407)),
        ("HTTP/1.1 200 OK\r\n\r\nsmuggled", ProxyError::Answer),
        ("nonsense\r\n\r\n", ProxyError::Answer),
        ("", ProxyError::Answer),
    ] {
        let (port, _serving) = answering(&[answer]).await;
        let client = Client::new("ws://h/").proxy(&format!("http://127.0.0.1:{port}"));
        let error = client.connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Proxy(error) if error == expected), "{error}");
    }
    let error = Client::new("ws://h/").proxy("https://h").connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Proxy(ProxyError::Url)), "{error}");
}

#[tokio::test]
async fn e2_over_a_stream_of_the_callers_own() {
    let (near, far) = tokio::io::duplex(4096);
    let far = std::sync::Mutex::new(Some(far));
    let client = Client::new("wss://in.memory/path");
    let open = |url: sockeye_ws::handshake::Url| {
        assert_eq!((url.host(), url.port(), url.target()), ("in.memory", 443, "/path"));
        let stream = far.lock().unwrap().take().expect("it connects once");
        std::future::ready(Ok(stream))
    };
    let server = Server::new();
    let (client, server) = tokio::join!(client.connect_over(open), server.accept(near));
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.send("hello").await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test]
async fn e2_over_a_stream_of_the_callers_own_with_the_response() {
    let (near, far) = tokio::io::duplex(4096);
    let far = std::cell::Cell::new(Some(far));
    let client = Client::new("ws://in.memory/").protocol("v1");
    let open = |_| std::future::ready(Ok(far.take().expect("it connects once")));
    let server = Server::builder()
        .protocols(["v1"])
        .response_headers(|_, headers| {
            headers.insert("x-node", http::HeaderValue::from_static("7"));
        })
        .build();
    let (connected, accepted) =
        tokio::join!(client.connect_over_with_response(open), server.accept(near));
    let ((websocket, response), _server) = (connected.unwrap(), accepted.unwrap());
    assert_eq!(websocket.protocol(), Some("v1"));
    assert_eq!(response.status(), http::StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["x-node"], "7");
}

#[tokio::test]
async fn e2_ipv6() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await
    });
    let _ = connect(&format!("ws://[::1]:{port}/")).await;
    assert_eq!(line(&serving.await.unwrap(), "Host"), Some(&*format!("[::1]:{port}")));
}

#[tokio::test]
async fn h105_bytes_behind_the_answer_are_read_as_frames() {
    let (near, mut far) = loopback().await;
    let serving = async {
        let request = read_request(&mut far).await;
        let answer = switching("").replace("ACCEPT", &accept_of(&request));
        write(&mut far, &[answer.as_bytes(), &plain(FIN_TEXT, b"early")].concat()).await;
    };
    let near = std::cell::Cell::new(Some(near));
    let client = Client::new("ws://localhost/");
    let open = |_| std::future::ready(Ok(near.take().expect("it connects once")));
    let (websocket, ()) = tokio::join!(client.connect_over(open), serving);
    assert_eq!(websocket.unwrap().next().await.unwrap().unwrap(), Message::text("early"));
}
