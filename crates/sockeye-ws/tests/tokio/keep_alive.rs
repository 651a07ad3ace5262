//! Peers that take nothing of what is sent, by the clock of the runtime: they are given up, whoever
//! waits for them. (What silence is, `stream` shows.)

use std::time::Duration;

use sockeye_ws::net::{Error, KeepAlive, Message, Options, WebSocket};
use sockeye_ws::{Frame, Limits, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

/// Longer than any of these tests lasts by that clock: what waits for ever becomes a failure.
const WAIT_MAX: Duration = Duration::from_secs(1000);

/// A connection whose stream takes 400 bytes, and its peer.
fn server() -> (WebSocket<DuplexStream>, DuplexStream) {
    let keep_alive =
        KeepAlive { interval: Duration::from_secs(20), timeout: Duration::from_secs(5) };
    let options = Options { keep_alive: Some(keep_alive), ..Options::default() };
    let (near, peer) = tokio::io::duplex(400);
    let machine = machine(Role::Server, Limits::default());
    (WebSocket::from_connection(near, machine, [], &options), peer)
}

/// Says something every second, for as long as somebody listens, and reads nothing.
async fn talk(peer: &mut DuplexStream) {
    while peer.write_all(&masked(FIN_TEXT, b"still here")).await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_given_up_while_a_send_waits() {
    for is_prepared in [false, true] {
        let (mut server, mut peer) = server();
        let start = Instant::now();
        let text = "x".repeat(1000);
        let send = async {
            match is_prepared {
                true => server.send_frame(&Frame::text(&text)).await,
                false => server.send(&*text).await,
            }
        };
        tokio::select! {
            sent = timeout(WAIT_MAX, send) => {
                let sent = sent.expect("it does not wait for ever");
                assert!(matches!(sent, Err(Error::KeepAliveTimeout)), "{sent:?}");
            }
            () = talk(&mut peer) => unreachable!("the server's side is there"),
        }
        assert_eq!(start.elapsed().as_secs(), 25);
        let end = server.next().await;
        assert!(matches!(end, Some(Err(Error::KeepAliveTimeout))), "{end:?}");
        assert!(server.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_and_a_ready_that_wait_end_too() {
    for flushes in [false, true] {
        let (mut server, _peer) = server();
        server.feed(vec![7; 200_000]).await.unwrap();
        let waiting = async { if flushes { server.flush().await } else { server.ready().await } };
        let waited = timeout(WAIT_MAX, waiting).await.expect("it does not wait for ever");
        assert!(matches!(waited, Err(Error::KeepAliveTimeout)), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_a_little_now_and_then_is_waited_for() {
    let (mut server, mut peer) = server();
    let text = "x".repeat(2000);
    let read = async {
        let mut bytes = vec![0; text.len() + 4];
        for chunk in bytes.chunks_mut(100) {
            sleep(Duration::from_secs(24)).await;
            peer.read_exact(chunk).await.unwrap();
        }
        bytes
    };
    let (sent, read) = tokio::join!(server.send(&*text), read);
    sent.expect("the peer has taken all of it");
    assert_eq!(read[4..], *text.as_bytes());
    assert!(server.is_open());
}

#[tokio::test(start_paused = true)]
async fn both_halves_are_told_of_a_peer_that_talks_and_takes_nothing() {
    let (server, mut peer) = server();
    let (mut reader, mut writer) = server.split();
    let start = Instant::now();
    let send = tokio::spawn(async move { writer.send(vec![7; 1000]).await });
    let receive = tokio::spawn(async move {
        let mut heard = 0;
        loop {
            match reader.next().await.expect("an error is the end") {
                Ok(message) => heard += usize::from(message == Message::text("still here")),
                Err(error) => break (heard, error, start.elapsed()),
            }
        }
    });
    timeout(WAIT_MAX, talk(&mut peer)).await.expect("the server gives it up");
    let (heard, error, elapsed) = receive.await.unwrap();
    assert!(matches!(error, Error::KeepAliveTimeout), "{error}");
    assert_eq!(elapsed.as_secs(), 25);
    assert!(heard >= 24, "{heard}");
    assert!(send.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_leaves_the_readers_deadline_alone() {
    let (server, _peer) = server();
    let (mut reader, mut writer) = server.split();
    let start = Instant::now();
    let send = tokio::spawn(async move {
        // The silence has lasted for half of its time.
        sleep(Duration::from_secs(10)).await;
        writer.send(vec![7; 1000]).await
    });
    let end = timeout(WAIT_MAX, reader.next()).await.expect("the peer is silent");
    assert!(matches!(end, Some(Err(Error::KeepAliveTimeout))), "{end:?}");
    assert_eq!(start.elapsed().as_secs(), 25);
    assert!(send.await.unwrap().is_err());
}
