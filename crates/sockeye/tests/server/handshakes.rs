//! How many clients are let in: in all, by address, on their way; what is told to one too many,
//! and that each place comes back.

use std::time::Duration;

use http::request::Parts;
use http::{Request, StatusCode};
use sockeye::{ClientAddress, Refusal, Server, Socket, State, Transport};
use tokio::sync::mpsc;

use crate::support::http::{get, header, send, text, upgrade};
use crate::support::{Host, Polling, WebSocket, only_socket, until, until_empty};

const POLLING: &str = "EIO=4&transport=polling";
const WEBSOCKET: &str = "EIO=4&transport=websocket";

fn from(address: &str) -> [(&str, &str); 1] {
    [("x-forwarded-for", address)]
}

#[tokio::test(start_paused = true)]
async fn one_session_too_many_of_an_address_is_answered_429() {
    let builder = Server::builder().client_address(ClientAddress::forwarded_for(1));
    let host = Host::in_memory(builder.connections_per_address_max(2).build());
    for _ in 0..2 {
        assert_eq!(get(&host, POLLING, &from("spoofed, 1.1.1.1")).await.status(), StatusCode::OK);
    }
    let refused = get(&host, POLLING, &from("1.1.1.1")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(text(&refused), "too many connections from this address");
    assert_eq!(header(&refused, "retry-after"), "5");
    let refused = upgrade(&host, WEBSOCKET, &from("1.1.1.1")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    // Others, and those of whom nothing is known, are let in.
    assert_eq!(get(&host, POLLING, &from("1.1.1.2")).await.status(), StatusCode::OK);
    assert_eq!(get(&host, POLLING, &[]).await.status(), StatusCode::OK);
    // Nobody answers a ping: all of them end, and there is room again.
    until_empty(&host.io).await;
    assert_eq!(get(&host, POLLING, &from("1.1.1.1")).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn sockets_know_the_address_behind_the_proxy() {
    let builder = Server::builder().client_address(ClientAddress::forwarded_for(1));
    let host = Host::in_memory(builder.build());
    let headers = from("2001:db8::7");
    let mut client = WebSocket::open_with(&host, "", &headers).await.expect("a handshake");
    client.send("40").await;
    client.next().await.expect("the open packet");
    client.next().await.expect("the CONNECT");
    let socket = only_socket(&host.io);
    assert_eq!(socket.handshake().client_ip(), Some("2001:db8::7".parse().expect("an address")));
    assert_eq!(socket.handshake().address(), None);
}

#[tokio::test(start_paused = true)]
async fn handshakes_that_wait_for_the_application_are_bounded_in_number_and_time() {
    let io = Server::builder()
        .handshakes_max(3)
        .handshake_timeout(Duration::from_secs(4))
        .allow_request(async |request: Parts| {
            if request.uri.query().is_some_and(|query| query.contains("wait")) {
                std::future::pending::<()>().await;
            }
            Ok::<_, Refusal>(())
        })
        .build();
    let host = Host::in_memory(io);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let host = host.clone();
            tokio::spawn(async move { get(&host, &format!("{POLLING}&wait"), &[]).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = get(&host, POLLING, &[]).await;
    assert_eq!((refused.status().as_u16(), text(&refused)), (503, "too many handshakes"));
    assert_eq!(WebSocket::open(&host, "").await.err().as_deref(), Some("503"));
    for waiting in waiting {
        let answer = waiting.await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text(&answer), "the handshake took too long");
    }
    assert_eq!(get(&host, POLLING, &[]).await.status(), StatusCode::OK);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_the_application_thinks_leaves_its_place() {
    let io = Server::builder()
        .connections_max(1)
        .allow_request(async |request: Parts| {
            if request.uri.query().is_some_and(|query| query.contains("wait")) {
                std::future::pending::<()>().await;
            }
            Ok::<_, Refusal>(())
        })
        .build();
    let host = Host::in_memory(io);
    let query = format!("{POLLING}&wait");
    let gone = tokio::time::timeout(Duration::from_secs(1), get(&host, &query, &[])).await;
    assert!(gone.is_err(), "it was still waiting");
    assert_eq!(get(&host, POLLING, &[]).await.status(), StatusCode::OK);
    assert_eq!(get(&host, POLLING, &[]).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_counted_by_transport() {
    let host = Host::in_memory(Server::default());
    let counts = |host: &Host| {
        let of = |transport| host.io.session_count_over(transport);
        (of(Transport::Polling), of(Transport::WebSocket), host.io.session_count())
    };
    let polling = Polling::join(&host).await;
    let websocket = WebSocket::join(&host).await;
    assert_eq!(counts(&host), (1, 1, 2));
    let mut upgraded = WebSocket::open(&host, &polling.sid).await.expect("a handshake");
    upgraded.send("2probe").await;
    assert_eq!(upgraded.next().await.as_deref(), Some("3probe"));
    assert_eq!(counts(&host), (1, 1, 2));
    upgraded.send("5").await;
    until("it is upgraded", || counts(&host) == (0, 2, 2)).await;
    let again = Polling::open(&host).await;
    assert_eq!(counts(&host), (1, 2, 3));
    drop((websocket, upgraded));
    until("only polling is left", || counts(&host) == (1, 0, 1)).await;
    assert_eq!(again.post("1").await, StatusCode::OK);
    assert_eq!(counts(&host), (0, 0, 0));
}

#[tokio::test]
async fn h35_the_address_is_known_when_the_request_is_long_gone() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let io = Server::builder().state(ends).build();
    type Ends = mpsc::UnboundedSender<Option<std::net::SocketAddr>>;
    io.on_disconnect(async |socket: Socket, State(ends): State<Ends>| {
        ends.send(socket.handshake().address()).expect("the test waits");
    });
    let host = Host::on_loopback(io).await;
    let client = WebSocket::join(&host).await;
    let address = only_socket(&host.io).handshake().address();
    assert!(address.is_some_and(|address| address.ip().is_loopback()), "{address:?}");
    drop(client);
    assert_eq!(ended.recv().await, Some(address));
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn h34_an_upgrade_of_the_applications_is_answered_and_ours_is_kept() {
    let host = Host::in_memory(Server::default());
    // Node leaves an upgrade that nobody takes open, and destroys it a second later.
    let request = Request::get("/elsewhere")
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let request = request.body(String::new()).expect("a valid request");
    let answer = send(&host, request).await.expect("it is answered");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let mut silent = WebSocket::join(&host).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    only_socket(&host.io).emit("still", "here").expect("it is connected");
    assert_eq!(silent.next().await.as_deref(), Some("42[\"still\",\"here\"]"));
}
