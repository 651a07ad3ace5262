//! Options that are durations: what two of them bound, and all at the longest a caller can name,
//! as good as no bound, and no panic. What the others do is told beside what they bound.

use std::time::Duration;

use sockeye_ws::net::{
    AcceptError, Client, ConnectError, Error, KeepAlive, Message, Options, Refusal, Server,
    WebSocket,
};
use sockeye_ws::{CloseCode, Limits, ProtocolError, Role};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::*;

/// `MAX` is out of any clock's reach, the others are out of that of some clocks and timers.
const ENDLESS: [Duration; 4] = [
    Duration::MAX,
    Duration::from_secs(u64::MAX),
    Duration::from_secs(i64::MAX as u64),
    Duration::from_secs(u64::MAX / 1000),
];

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

fn limits(close_timeout: Duration) -> Limits {
    Limits { close_timeout, ..Limits::default() }
}

#[tokio::test]
async fn a_connection_whose_every_duration_is_endless() {
    for endless in ENDLESS {
        let keep_alive = KeepAlive { interval: endless, timeout: endless };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let server = Server::builder()
            .handshake_timeout(endless)
            .refusal_timeout(endless)
            .limits(limits(endless))
            .keep_alive(keep_alive)
            .build();
        let client = Client::new(&url)
            .handshake_timeout(endless)
            .body_timeout(endless)
            .limits(limits(endless))
            .keep_alive(keep_alive);
        let accepting = async { server.accept(listener.accept().await.unwrap().0).await };
        let (server, client) = tokio::join!(accepting, client.connect());
        let (mut server, mut client) = (server.unwrap(), client.unwrap());

        // Each waits with its deadline set, is woken, and waits for the other's close frame.
        let echoing = async {
            while let Some(message) = server.next().await {
                server.send(message.unwrap()).await.unwrap();
            }
        };
        let asking = async {
            client.send("hello").await.unwrap();
            assert_eq!(client.next().await.unwrap().unwrap(), Message::text("hello"));
            client.close(CloseCode::NORMAL, "").await.unwrap();
        };
        tokio::join!(echoing, asking);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_close_timeout_waits_and_waits() {
    for endless in ENDLESS {
        let (near, mut peer) = tokio::io::duplex(1024);
        let machine = machine(Role::Server, limits(endless));
        let mut server = WebSocket::from_connection(near, machine, [], &Options::default());
        server.start_close(CloseCode::GOING_AWAY, "").unwrap();
        let a_year = Duration::from_secs(365 * 86_400);
        assert!(tokio::time::timeout(a_year, server.next()).await.is_err(), "it still waits");
        write(&mut peer, &masked(FIN_CLOSE, b"\x03\xE9")).await;
        assert!(matches!(server.next().await.unwrap(), Ok(Message::Close(_))));
    }
}

#[tokio::test]
async fn an_error_of_the_peers_ends_a_connection_that_would_wait_for_ever() {
    for endless in ENDLESS {
        let (near, mut peer) = tokio::io::duplex(1024);
        let machine = machine(Role::Server, limits(endless));
        let mut server = WebSocket::from_connection(near, machine, [], &Options::default());
        write(&mut peer, &masked(FIN_TEXT | 0x40, b"RSV1")).await;
        let (told, ()) = tokio::join!(server.next(), async {
            assert_eq!(read_frame(&mut peer).await.unwrap(), (FIN_CLOSE, b"\x03\xEA".to_vec()));
            drop(peer);
        });
        let error = told.unwrap().unwrap_err();
        assert!(matches!(error, Error::Protocol(ProtocolError::ReservedBits)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_its_client_as_long_as_it_may() {
    let server = Server::builder().refusal_timeout(Duration::from_secs(7)).build();
    // What arrives is no request; its client takes the answer and then keeps the stream.
    let (near, mut far) = tokio::io::duplex(1024);
    write(&mut far, b"nonsense\r\n\r\n").await;
    let start = tokio::time::Instant::now();
    assert!(matches!(server.accept(near).await, Err(AcceptError::Handshake(_))));
    assert_eq!(start.elapsed().as_secs(), 7);
    assert!(read_response(&mut far).await.starts_with("HTTP/1.1 400 "));

    let (near, mut far) = tokio::io::duplex(1024);
    write(&mut far, REQUEST).await;
    let handshake = server.receive(near).await.unwrap();
    let start = tokio::time::Instant::now();
    handshake.refuse(Refusal::forbidden()).await;
    assert_eq!(start.elapsed().as_secs(), 7);
    assert!(read_response(&mut far).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test(start_paused = true)]
async fn the_body_of_an_unexpected_response_is_waited_for_as_long_as_it_may() {
    for (body_timeout, body) in [(3, "a part"), (7, "a part, and more")] {
        let (near, mut far) = tokio::io::duplex(1024);
        let near = std::cell::Cell::new(Some(near));
        let client = Client::new("ws://h/").body_timeout(Duration::from_secs(body_timeout));
        let open = |_| std::future::ready(Ok(near.take().expect("it connects once")));
        let refusing = async {
            write(&mut far, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\na part").await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            let _ = far.write_all(b", and more").await;
            far
        };
        let start = tokio::time::Instant::now();
        let connecting = async {
            let connected = client.connect_over(open).await;
            (connected, start.elapsed().as_secs())
        };
        let ((connected, waited), _far) = tokio::join!(connecting, refusing);
        let Err(ConnectError::Unexpected(response)) = connected else { panic!("{connected:?}") };
        assert_eq!((&response.body[..], waited), (body.as_bytes(), body_timeout));
    }
}
