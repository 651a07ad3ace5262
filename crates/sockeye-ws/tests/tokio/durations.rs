//! Options that are durations, at the longest a caller can name: as good as no bound, and no panic.
//! What the usual ones do is told beside what they bound.

use std::time::Duration;

use sockeye_ws::net::{Client, Error, KeepAlive, Message, Options, Server, WebSocket};
use sockeye_ws::{CloseCode, Limits, ProtocolError, Role};
use tokio::net::TcpListener;

use crate::support::*;

/// `MAX` is out of any clock's reach, the others are out of that of some clocks and timers.
const ENDLESS: [Duration; 4] = [
    Duration::MAX,
    Duration::from_secs(u64::MAX),
    Duration::from_secs(i64::MAX as u64),
    Duration::from_secs(u64::MAX / 1000),
];

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
            .limits(limits(endless))
            .keep_alive(keep_alive)
            .build();
        let client = Client::new(&url)
            .handshake_timeout(endless)
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
