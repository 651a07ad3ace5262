//! What connection state recovery keeps, and what happens at each of its bounds.

use std::time::Duration;

use sockeye::{ConnectError, ConnectionStateRecovery, Server, Socket};

use tokio::time::Instant;

use crate::support::{Host, Returning, answering, only_socket, until, without_offsets};

const SECOND: Duration = Duration::from_secs(1);

fn host(options: ConnectionStateRecovery) -> Host {
    let io = Server::builder().connection_state_recovery(options).build();
    answering(&io);
    Host::in_memory(io)
}

fn options() -> ConnectionStateRecovery {
    ConnectionStateRecovery::default()
}

#[tokio::test(start_paused = true)]
async fn a_session_expires() {
    let host = host(options().max_disconnection_duration(10 * SECOND));
    let mut client = Returning::join(&host).await;
    client.lose().await;
    tokio::time::sleep(9 * SECOND).await;
    host.io.emit("missed", ()).expect("JSON");
    assert!(client.connect().await);
    client.lose().await;
    tokio::time::sleep(10 * SECOND).await;
    assert!(!client.connect().await);
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_recovered_however_old_its_last_event_is() {
    // In Node its offset is looked for among the events, where it is not any more.
    let host = host(options().max_disconnection_duration(10 * SECOND).packets_max(4));
    let mut client = Returning::join(&host).await;
    host.io.emit("old", ()).expect("JSON");
    client.catch_up().await;
    assert_eq!(client.take().len(), 1);
    for _ in 0..100 {
        for _ in 0..3 {
            tokio::time::sleep(10 * SECOND).await;
            client.catch_up().await;
        }
        host.io.to("others").emit("not for it", ()).expect("JSON");
    }
    assert!(client.take().is_empty());
    tokio::time::sleep(10 * SECOND).await;
    client.lose().await;
    host.io.emit("missed", ()).expect("JSON");
    assert!(client.connect().await);
    client.catch_up().await;
    assert_eq!(without_offsets(client.take()), [r#"["missed"]"#]);
}

#[tokio::test(start_paused = true)]
async fn who_may_have_missed_what_is_not_kept_gets_a_new_socket() {
    for options in [options().packets_max(3), options().packet_bytes_max(3 * 13_000)] {
        let host = host(options);
        let mut client = Returning::join(&host).await;
        for (missed, is_recovered) in [(3, true), (4, false), (2, true)] {
            client.lose().await;
            for _ in 0..missed {
                host.io.emit("missed", "x".repeat(12_000)).expect("JSON");
            }
            assert_eq!(client.connect().await, is_recovered, "{missed} events");
            client.catch_up().await;
            assert_eq!(client.take().len(), if is_recovered { missed } else { 0 });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_again_is_as_new_as_the_connection_that_it_was_sent_over() {
    // A broken connection is noticed after 85 s at the most: what was sent so long before the end
    // must have arrived.
    for (lived, is_recovered) in [(1, false), (90, true)] {
        let host = host(options().packets_max(2));
        let mut client = Returning::join(&host).await;
        client.lose().await;
        host.io.emit("missed", ()).expect("JSON");
        tokio::time::sleep(90 * SECOND).await;
        assert!(client.connect().await);
        for _ in 0..lived {
            tokio::time::sleep(SECOND).await;
            if is_recovered {
                client.catch_up().await;
            }
        }
        client.lose().await;
        // It is not kept any more, and the client may not have got it, though it is old.
        (0..2).for_each(|_| host.io.to("others").emit("not for it", ()).expect("JSON"));
        assert_eq!(client.connect().await, is_recovered);
    }
}

#[tokio::test(start_paused = true)]
async fn however_late_an_end_is_noticed_answered_pings_say_what_was_received() {
    // The first ping leaves after 25 s, and what was sent before is received if it is answered.
    for (sent_at, is_answered, is_recovered) in
        [(10, true, true), (10, false, false), (26, true, false)]
    {
        let host = host(options().packets_max(2));
        let mut client = Returning::join(&host).await;
        let joined = Instant::now();
        tokio::time::sleep_until(joined + sent_at * SECOND).await;
        // One of them is not kept any more.
        (0..3).for_each(|_| host.io.to("others").emit("not for it", ()).expect("JSON"));
        tokio::time::sleep_until(joined + 27 * SECOND).await;
        if is_answered {
            while client.next().await.expect("a ping") != "2" {}
            client.catch_up().await;
        }
        // The server is so busy that its timers fire minutes late: by the time that has passed,
        // a client that lives would have answered for all of that.
        tokio::time::advance(600 * SECOND).await;
        until("its end is noticed", || host.io.session_count() == 0).await;
        assert_eq!(client.connect().await, is_recovered, "{sent_at} s, answered: {is_answered}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_missed_nothing_may_be_lost_again_at_once() {
    let host = host(options().packets_max(2));
    let mut client = Returning::join(&host).await;
    for _ in 0..5 {
        client.lose().await;
        host.io.to("others").emit("not for it", ()).expect("JSON");
        assert!(client.connect().await);
    }
    client.lose().await;
    host.io.emit("missed", ()).expect("JSON");
    assert!(client.connect().await);
    client.catch_up().await;
    assert_eq!(without_offsets(client.take()), [r#"["missed"]"#]);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_while_the_middlewares_run_is_not_passed_over() {
    let io = Server::builder().connection_state_recovery(options().packets_max(3)).build();
    answering(&io);
    io.middleware(async |socket: Socket| {
        if socket.recovered() {
            for _ in 0..4 {
                socket.namespace().emit("meanwhile", ()).expect("JSON");
            }
        } else {
            socket.data().insert(7_u32);
        }
        Ok::<_, ConnectError>(())
    });
    let host = Host::in_memory(io);
    let mut client = Returning::join(&host).await;
    only_socket(&host.io).join("room");
    assert!(!client.come_back().await);
    let socket = only_socket(&host.io);
    assert!(!socket.recovered() && !socket.is_in("room"));
    assert_eq!(socket.data().get::<u32>(), Some(7), "it went through the middlewares itself");
    client.catch_up().await;
    assert!(client.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_fits_the_outbox() {
    let io =
        Server::builder().outbox_bytes_max(40_000).connection_state_recovery(options()).build();
    answering(&io);
    let host = Host::in_memory(io);
    let mut client = Returning::join(&host).await;
    for (missed, is_recovered) in [(10, true), (12, false)] {
        client.lose().await;
        for _ in 0..missed {
            host.io.emit("missed", "x".repeat(1600)).expect("JSON");
        }
        assert_eq!(client.connect().await, is_recovered, "{missed} events");
        client.catch_up().await;
        assert_eq!(client.take().len(), if is_recovered { missed } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_are_bounded() {
    let host = host(options().sessions_max(2));
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Returning::join(&host).await);
    }
    for client in &mut clients {
        client.lose().await;
    }
    assert!(!clients[0].connect().await, "it ended first");
    assert!(clients[2].connect().await);
    assert!(clients[1].connect().await);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_leaves_very_many_rooms_gets_what_it_missed_or_a_new_socket() {
    for (rooms, is_recovered) in [(64, true), (65, false)] {
        let host = host(options());
        let mut client = Returning::join(&host).await;
        let socket = only_socket(&host.io);
        for number in 0..rooms {
            let room = format!("room {number}");
            socket.join(&room);
            host.io.to(&room).emit("e", number).expect("JSON");
            socket.leave(&room);
        }
        assert_eq!(client.come_back().await, is_recovered, "{rooms} rooms");
        client.catch_up().await;
        assert_eq!(client.take().len(), if is_recovered { rooms } else { 0 });
    }
}
