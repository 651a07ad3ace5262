//! A bus with a log and connection state recovery: offsets behind the arguments, nothing delivered
//! out of its order, and no client recovered of which it is not known what it missed.

use std::time::Duration;

use serde_json::json;
use sockeye::{AckError, ConnectionStateRecovery, Server, ServerBuilder};
use sockeye_cluster_kit::{Claim, Client, until};

use crate::buses::Mode;
use crate::logged::{Held, LoggedBus, LoggedCluster};

const LONG: Duration = Duration::from_secs(600);

fn builder() -> ServerBuilder {
    Server::builder().connection_state_recovery(ConnectionStateRecovery::default())
}

fn node(cluster: &LoggedCluster) -> (LoggedBus, Server) {
    let bus = cluster.bus();
    (bus.clone(), builder().cluster(bus).build())
}

#[tokio::test]
async fn what_is_logged_has_its_offset_and_its_place() {
    let (bus, io) = node(&LoggedCluster::default());
    let mut client = Client::join(&io).await;
    io.emit("a", 1).expect("sent");
    io.broadcast().local().emit("local", 2).expect("sent");
    io.to("nobody").emit("not for us", ()).expect("sent");
    io.emit("b", ()).expect("sent");
    client.expect(json!(["a", 1, "1-0"])).await;
    client.expect(json!(["local", 2])).await;
    client.expect(json!(["b", "3-0"])).await;
    io.broadcast().volatile().emit("volatile", 3).expect("sent");
    client.expect(json!(["volatile", 3])).await;
    io.broadcast().conflate("key").emit("latest", 4).expect("sent");
    client.expect(json!(["latest", 4])).await;
    // Who is disconnected has heard what was emitted before; who joins, nothing of it.
    bus.set(Mode::Hang);
    io.emit("last", ()).expect("sent");
    io.broadcast().sockets_join("room");
    io.to("room").emit("in the room", ()).expect("sent");
    let acks = io.to("room").timeout(LONG).emit_with_ack::<u8>("ask", ()).expect("sent");
    let local = io.broadcast().local().timeout(LONG).emit_with_ack::<u8>("local ask", ());
    let local = local.expect("sent");
    io.broadcast().disconnect_sockets(false);
    io.emit("too late", ()).expect("sent");
    bus.set(Mode::Work);
    client.expect(json!(["last", "6-0"])).await;
    client.expect(json!(["in the room", "8-0"])).await;
    let question = client.expect(json!(["ask"])).await;
    client.answer(&question, "[7]").await;
    client.expect(json!(["local ask"])).await;
    while client.next().await.is_some_and(|event| event.list[0] == "too late") {}
    let gone = local.collect().await.failures;
    assert!(matches!(gone[..], [(Some(_), AckError::Disconnected)]), "{gone:?}");
    let asked = acks.collect().await;
    assert_eq!(asked.answers.len() + asked.failures.len(), 1, "it was asked");
}

#[tokio::test]
async fn without_recovery_nothing_waits_for_the_log() {
    let cluster = LoggedCluster::default();
    let bus = cluster.bus();
    let io = Server::builder().cluster(bus.clone()).build();
    let mut client = Client::join(&io).await;
    bus.set(Mode::Hang);
    io.emit("at once", ()).expect("sent");
    client.expect(json!(["at once"])).await;
}

#[tokio::test]
async fn all_nodes_deliver_in_the_order_of_the_log() {
    let cluster = LoggedCluster::default();
    let (bus, io) = node(&cluster);
    let (_, other) = node(&cluster);
    let mut here = Client::join(&io).await;
    let mut there = Client::join(&other).await;
    // It has been published long before it is read.
    bus.set_reading(true);
    bus.set(Mode::Hang);
    io.emit("second", ()).expect("sent");
    other.emit("first", ()).expect("sent");
    there.expect(json!(["first", "1-0"])).await;
    bus.set(Mode::Work);
    for client in [&mut here, &mut there] {
        if client.claim().offset.is_none() {
            client.expect(json!(["first", "1-0"])).await;
        }
        client.expect(json!(["second", "2-0"])).await;
    }
}

#[tokio::test]
async fn h74_without_the_log_it_is_delivered_without_an_offset() {
    let cluster = LoggedCluster::default();
    let bus = cluster.bus();
    let io = builder().cluster_queue_bytes_max(700).cluster(bus.clone()).build();
    let mut client = Client::join(&io).await;
    bus.set(Mode::Fail);
    io.emit("failed", "text").expect("sent");
    client.expect(json!(["failed", "text", null])).await;
    until("it is counted", || io.cluster_health().is_some_and(|health| health.failed == 1)).await;
    bus.set(Mode::Hang);
    for number in 0..4 {
        io.emit("n", number).expect("sent");
    }
    for number in 0..3 {
        client.expect(json!(["n", number])).await;
    }
    bus.set(Mode::Work);
    client.expect(json!(["n", 3])).await;
    // It may have missed one that nobody can tell it.
    assert_eq!(client.claim().offset, None);
    let claim = client.lose();
    until("it is gone", || io.session_count() == 0).await;
    let (_, is_recovered) = Client::take_up(&io, &claim).await;
    assert!(!is_recovered && !cluster.has_session(&claim));
}

#[tokio::test]
async fn while_the_log_is_not_read_events_do_not_wait_and_nobody_is_recovered() {
    let cluster = LoggedCluster::default();
    let (bus, io) = node(&cluster);
    let (_, other) = node(&cluster);
    let mut client = Client::join(&io).await;
    let away = Client::join(&other).await.lose();
    until("it is kept", || cluster.has_session(&away)).await;
    bus.set_reading(false);
    io.emit("at once", ()).expect("sent");
    client.expect(json!(["at once", null])).await;
    let (_, is_recovered) = Client::take_up(&io, &away).await;
    assert!(!is_recovered && cluster.has_session(&away), "it stays where it is");
    bus.set_reading(true);
    other.emit("read", ()).expect("sent");
    client.expect(json!(["read", "2-0"])).await;
    // Another node knows.
    let mut client = away.come_back(&other).await;
    client.expect(json!(["at once", "1-0"])).await;
    client.expect(json!(["read", "2-0"])).await;
}

#[tokio::test]
async fn what_the_log_has_lost_makes_a_new_socket_never_a_gap() {
    let cluster = LoggedCluster::default();
    let (_, io) = node(&cluster);
    let mut witness = Client::join(&io).await;
    let client = Client::join(&io).await;
    let claim = client.lose();
    until("it is kept", || cluster.has_session(&claim)).await;
    io.emit("missed", ()).expect("sent");
    witness.expect(json!(["missed", "1-0"])).await;
    cluster.trim();
    let (_, late) = node(&cluster);
    let (_, is_recovered) = Client::take_up(&late, &claim).await;
    assert!(!is_recovered);
    assert!(!cluster.has_session(&claim), "it cannot be recovered anywhere");
}

#[tokio::test(start_paused = true)]
async fn where_sessions_cannot_be_had_a_client_gets_a_new_socket_in_time() {
    let cluster = LoggedCluster::default();
    let (_, io) = node(&cluster);
    let (_, other) = node(&cluster);
    let mut client = Client::join(&io).await;
    io.emit("event", ()).expect("sent");
    client.expect(json!(["event", "1-0"])).await;
    let claim = client.lose();
    until("it is kept", || cluster.has_session(&claim)).await;
    cluster.set_out(true);
    assert!(!Client::take_up(&other, &claim).await.1);
    cluster.set_out(false);
    // It says that it has what nobody has heard of: that is waited for for a while.
    let ahead = Claim { offset: Some("9-0".into()), ..claim.clone() };
    assert!(!Client::take_up(&other, &ahead).await.1);
    // What is no offset of the log is none.
    for offset in ["nonsense", "abcdefgh-1", "1-", "-1", "1-99999999999999999999"] {
        let mut client = Client::join(&io).await;
        io.emit("event", ()).expect("sent");
        client.next().await.expect("an event");
        let claim = Claim { offset: Some(offset.into()), ..client.lose() };
        until("it is kept", || cluster.has_session(&claim)).await;
        assert!(!Client::take_up(&other, &claim).await.1, "{offset}");
        assert!(!cluster.has_session(&claim));
    }
}

/// What was delivered and is not in the log its node alone knows of: until its clients have it for
/// certain, there is nothing of them to go on with should it be killed.
#[tokio::test(start_paused = true)]
async fn what_is_not_logged_does_not_outlive_its_node() {
    let cluster = LoggedCluster::default();
    let (bus, io) = node(&cluster);
    let mut client = Client::join(&io).await;
    let claim = client.claim().clone();
    until("it is kept", || cluster.has_live_session(&claim)).await;
    bus.set(Mode::Fail);
    io.emit("lost", ()).expect("sent");
    client.expect(json!(["lost", null])).await;
    bus.set(Mode::Work);
    until("it is not kept", || !cluster.has_live_session(&claim)).await;
    let kept_again = async {
        while !cluster.has_live_session(&claim) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        event = client.next() => panic!("it answers pings, and hears {event:?}"),
        () = kept_again => {}
    }
}

/// Whatever is asked for when it goes: its session waits on.
#[tokio::test]
async fn a_client_that_goes_while_its_session_is_had_can_come_again() {
    for held in [Held::Sessions, Held::Reads] {
        let cluster = LoggedCluster::default();
        let (_, io) = node(&cluster);
        let claim = Client::join(&io).await.lose();
        until("its session is kept", || cluster.has_session(&claim)).await;
        io.emit("missed", ()).expect("sent");
        // What stands in the log already, it must read there.
        until("it is published", || cluster.entries() == 1).await;
        let (_, other) = node(&cluster);
        cluster.hold(Some(held));
        tokio::select! {
            _ = Client::take_up(&other, &claim) => panic!("it is held up"),
            () = until("it is waited for", || cluster.waiting() > 0) => {}
        }
        assert!(!cluster.has_session(&claim), "it has been taken");
        until("its client has gone", || other.session_count() == 0).await;
        cluster.hold(None);
        let mut client = claim.come_back(&other).await;
        assert_eq!(client.next().await.expect("it was missed").list[0], "missed");
    }
}
