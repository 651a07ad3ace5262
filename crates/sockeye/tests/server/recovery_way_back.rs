//! The way back to a socket that ended: which ends there is one from, what goes before it, and the
//! middlewares on it. FEATURES B7.

use std::time::Duration;

use serde_json::json;
use sockeye::{ConnectError, ConnectionStateRecovery, DisconnectReason, Server, Socket, with};

use crate::support::{Host, Record, Returning, answering, only_socket, until, without_offsets};

const SECOND: Duration = Duration::from_secs(1);

fn recovering(options: ConnectionStateRecovery) -> Server {
    let io = Server::builder().connection_state_recovery(options).build();
    answering(&io);
    io
}

fn host() -> Host {
    Host::in_memory(recovering(ConnectionStateRecovery::default()))
}

#[tokio::test(start_paused = true)]
async fn b7_which_ends_can_be_recovered_from() {
    use DisconnectReason::*;
    let host = host();
    let record = Record::default();
    host.io.on_disconnect(with(
        record.clone(),
        async |record: Record, reason: DisconnectReason| {
            record.add(&format!("{reason:?} {}", reason.is_recoverable()));
        },
    ));
    let ends = [
        (TransportClose, true),
        (ForcedClose, true),
        (PingTimeout, true),
        (ParseError, false),
        (ClientNamespaceDisconnect, false),
        (ServerNamespaceDisconnect, false),
    ];
    for (reason, is_recoverable) in ends {
        let mut client = Returning::join(&host).await;
        let socket = only_socket(&host.io);
        match reason {
            TransportClose => {}
            // Not connected to that namespace.
            ForcedClose => client.send("42/other,[\"e\"]").await,
            PingTimeout => tokio::time::sleep(46 * SECOND).await,
            ParseError => client.send("nonsense").await,
            ClientNamespaceDisconnect => client.send("41").await,
            _ => socket.disconnect(false),
        }
        if reason != TransportClose {
            until("the socket has ended", || host.io.of("/").socket_count() == 0).await;
        }
        assert_eq!(client.come_back().await, is_recoverable, "{reason:?}");
        assert_eq!(record.take(), [format!("{reason:?} {is_recoverable}")]);
        // The next round has a socket of its own.
        only_socket(&host.io).disconnect(true);
        until("the socket has ended", || host.io.of("/").socket_count() == 0).await;
        record.take();
    }
}

#[tokio::test(start_paused = true)]
async fn b7_whom_the_application_disconnects_does_not_come_back() {
    let host = host();
    let mut client = Returning::join(&host).await;
    let socket = only_socket(&host.io);
    // The connection breaks in the same instant, so that it is the reason of the end.
    socket.disconnect(true);
    assert!(!client.come_back().await);
}

#[tokio::test(start_paused = true)]
async fn b7_middlewares_run_again_and_may_refuse() {
    let io = recovering(ConnectionStateRecovery::default());
    let record = Record::default();
    io.middleware(with(record.clone(), async |record: Record, socket: Socket| {
        record.add(&format!("middleware {} {:?}", socket.recovered(), socket.rooms().len()));
        socket.join("always");
        let refuses = socket.auth::<serde_json::Value>().is_ok_and(|auth| auth["refuse"] == true);
        if refuses { Err(ConnectError::new("no")) } else { Ok(()) }
    }));
    io.on_connection(with(record.clone(), async |record: Record, socket: Socket| {
        record.add(&format!("connection {}", socket.recovered()));
    }));
    let host = Host::in_memory(io);
    let mut client = Returning::join(&host).await;
    only_socket(&host.io).join("room");
    only_socket(&host.io).data().insert(7_u32);
    assert_eq!(record.take(), ["middleware false 1", "connection false"]);
    client.lose().await;
    host.io.to("room").emit("missed", ()).expect("JSON");
    // A refusal takes nothing away from it.
    client.auth.insert("refuse".into(), json!(true));
    assert!(!client.try_connect().await);
    assert_eq!(record.take(), ["middleware true 3"]);
    client.lose().await;
    client.auth.clear();
    assert!(client.connect().await);
    client.catch_up().await;
    assert_eq!(without_offsets(client.take()), [r#"["missed"]"#]);
    assert_eq!(record.take(), ["middleware true 3", "connection true"]);
    assert_eq!(only_socket(&host.io).data().get::<u32>(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn b7_middlewares_can_be_skipped() {
    let io = recovering(ConnectionStateRecovery::default().skip_middlewares(true));
    let record = Record::default();
    io.middleware(with(record.clone(), async |record: Record| {
        record.add("middleware");
        Ok::<_, ConnectError>(())
    }));
    let host = Host::in_memory(io);
    let mut client = Returning::join(&host).await;
    assert!(client.come_back().await);
    assert_eq!(record.take(), ["middleware"]);
    client.offset = Some("nonsense".into());
    assert!(!client.come_back().await);
    assert_eq!(record.take(), ["middleware"], "a new socket does not skip them");
}

#[tokio::test(start_paused = true)]
async fn b7_what_a_middleware_takes_it_out_of_it_misses_nothing_of() {
    let io = recovering(ConnectionStateRecovery::default());
    io.middleware(async |socket: Socket| {
        socket.leave("secret");
        Ok::<_, ConnectError>(())
    });
    let host = Host::in_memory(io);
    let mut client = Returning::join(&host).await;
    only_socket(&host.io).join(["secret", "room"]);
    client.lose().await;
    host.io.to("secret").emit("not for it", ()).expect("JSON");
    host.io.to("room").emit("for it", ()).expect("JSON");
    assert!(client.connect().await);
    client.catch_up().await;
    assert_eq!(without_offsets(client.take()), [r#"["for it"]"#]);
    assert!(!only_socket(&host.io).is_in("secret"));
}

#[tokio::test(start_paused = true)]
async fn h45_what_a_middleware_emits_arrives_and_spoils_nothing() {
    let io = recovering(ConnectionStateRecovery::default());
    io.middleware(async |socket: Socket| {
        socket.emit("early", "text").expect("it may");
        Ok::<_, ConnectError>(())
    });
    let host = Host::in_memory(io);
    let mut client = Returning::join(&host).await;
    assert_eq!(client.take(), [r#"["early","text",null]"#]);
    assert!(client.come_back().await);
    client.catch_up().await;
    assert_eq!(client.take(), [r#"["early","text",null]"#]);
}

#[tokio::test(start_paused = true)]
async fn b7_a_client_waits_until_the_handlers_of_its_socket_are_done() {
    let io = recovering(ConnectionStateRecovery::default());
    let record = Record::default();
    io.on("slow", async |socket: Socket| {
        tokio::time::sleep(5 * SECOND).await;
        socket.join("late");
        socket.data().insert(7_u32);
    });
    io.on_disconnect(with(record.clone(), async |record: Record, socket: Socket| {
        tokio::time::sleep(SECOND).await;
        record.add(&format!("disconnect {:?}", socket.data().get::<u32>()));
    }));
    io.on_connection(with(record.clone(), async |record: Record, socket: Socket| {
        record.add(&format!("connection {:?}", socket.data().get::<u32>()));
    }));
    let host = Host::in_memory(io);
    let mut client = Returning::join(&host).await;
    client.send("42[\"slow\"]").await;
    tokio::time::sleep(SECOND).await;
    client.lose().await;
    host.io.emit("missed", ()).expect("JSON");
    // Another one with its private id waits, too; only one of them has it.
    let mut other = Returning::join(&host).await;
    other.lose().await;
    other.pid.clone_from(&client.pid);
    record.take();
    let (mine, others) = tokio::join!(client.connect(), other.connect());
    assert!(mine && !others);
    client.catch_up().await;
    assert_eq!(without_offsets(client.take()), [r#"["missed"]"#]);
    let all = record.take();
    assert_eq!(all[..2], ["disconnect None", "disconnect Some(7)"]);
    assert!(all.contains(&"connection Some(7)".to_owned()), "{all:?}");
    let id = sockeye::SocketId::parse(&client.sid).expect("an id");
    assert!(host.io.of("/").socket(&id).is_some_and(|socket| socket.is_in("late")));
}

#[tokio::test(start_paused = true)]
async fn b7_a_handler_that_never_ends_is_waited_for_until_the_close_timeout() {
    let io = Server::builder()
        .close_timeout(10 * SECOND)
        .connection_state_recovery(ConnectionStateRecovery::default())
        .build();
    answering(&io);
    io.on("stuck", async || std::future::pending::<()>().await);
    let host = Host::in_memory(io);
    let mut client = Returning::join(&host).await;
    only_socket(&host.io).data().insert(7_u32);
    only_socket(&host.io).join("room");
    client.send("42[\"stuck\"]").await;
    let begun = tokio::time::Instant::now();
    assert!(client.come_back().await);
    assert_eq!(begun.elapsed().as_secs(), 10);
    let socket = only_socket(&host.io);
    assert!(socket.is_in("room") && socket.data().get::<u32>() == Some(7));
}

#[tokio::test(start_paused = true)]
async fn b7_a_client_that_goes_while_the_middlewares_run_may_come_again() {
    let io = recovering(ConnectionStateRecovery::default());
    io.middleware(async || {
        tokio::time::sleep(SECOND).await;
        Ok::<_, ConnectError>(())
    });
    let host = Host::in_memory(io);
    let mut client = Returning::join(&host).await;
    only_socket(&host.io).data().insert(7_u32);
    client.lose().await;
    host.io.emit("missed", ()).expect("JSON");
    for _ in 0..3 {
        let connecting = tokio::time::timeout(SECOND / 2, client.connect());
        connecting.await.expect_err("it is in the middleware still");
        client.lose().await;
    }
    assert!(client.connect().await);
    client.catch_up().await;
    assert_eq!(without_offsets(client.take()), [r#"["missed"]"#]);
    assert_eq!(only_socket(&host.io).data().get::<u32>(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn b7_what_a_session_holds_may_panic_as_it_is_dropped() {
    struct Fragile;
    impl Drop for Fragile {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("on purpose");
            }
        }
    }
    let host = host();
    let mut client = Returning::join(&host).await;
    only_socket(&host.io).data().insert(std::sync::Arc::new(Fragile));
    client.offset = Some("nonsense".into());
    assert!(!client.come_back().await);
    client.offset = None;
    only_socket(&host.io).data().insert(std::sync::Arc::new(Fragile));
    client.lose().await;
    tokio::time::sleep(600 * SECOND).await;
    assert!(!client.connect().await);
    assert!(client.come_back().await);
}
