//! Connection state recovery: FEATURES B7, H 64–67, H 93, HARDENING (recovery that fails
//! silently).

use std::time::Duration;

use serde_json::json;
use sockeye::cluster::InProcessCluster;
use sockeye::{ConnectionStateRecovery, Outgoing, Server, Socket};

use crate::support::{Host, Record, Returning, WebSocket, answering, only_socket, without_offsets};

const SECOND: Duration = Duration::from_secs(1);

fn host() -> Host {
    let recovery = ConnectionStateRecovery::default();
    let io = Server::builder().connection_state_recovery(recovery).build();
    answering(&io);
    Host::in_memory(io)
}

#[tokio::test(start_paused = true)]
async fn what_other_nodes_of_a_cluster_sent_is_not_missed() {
    let cluster = InProcessCluster::new();
    let recovery = ConnectionStateRecovery::default();
    let node = Server::builder().connection_state_recovery(recovery).cluster(cluster.bus());
    let host = Host::in_memory(node.build());
    answering(&host.io);
    let other = Server::builder().cluster(cluster.bus()).build();
    let mut client = Returning::join(&host).await;
    only_socket(&host.io).join("room");
    other.emit("first", "text").expect("JSON");
    host.io.to("room").emit("second", sockeye::Binary::from(vec![1])).expect("JSON");
    while client.offset.as_deref().is_none_or(|offset| !offset.ends_with("-2")) {
        client.next().await.expect("both come");
    }
    client.take();
    client.lose().await;
    other.to("room").emit("third", "x").expect("JSON");
    other.to("room").volatile().emit("lost", "x").expect("JSON");
    other.to("elsewhere").emit("not mine", ()).expect("JSON");
    host.io.to("room").emit("fourth", ()).expect("JSON");
    // What is published arrives in the turns behind this one.
    tokio::time::sleep(SECOND).await;
    assert!(client.connect().await);
    other.to("room").volatile().emit("fifth", "x").expect("JSON");
    while client.received() < 3 {
        client.next().await.expect("all come");
    }
    let mut events = client.take();
    assert_eq!(events.pop().as_deref(), Some(r#"["fifth","x",null]"#));
    events.sort();
    assert_eq!(without_offsets(events), [r#"["fourth"]"#, r#"["third","x"]"#]);
}

#[tokio::test(start_paused = true)]
async fn b7_a_client_that_comes_back_has_its_socket_and_what_it_missed() {
    let host = host();
    let mut client = Returning::join(&host).await;
    let (sid, pid) = (client.sid.clone(), client.pid.clone());
    assert!(pid.as_deref().is_some_and(|pid| pid.len() == 20 && pid != sid));
    let socket = only_socket(&host.io);
    assert!(!socket.recovered());
    socket.join(["a", "b"]);
    socket.data().insert("user 7".to_owned());
    host.io.emit("before", 1).expect("JSON");
    client.catch_up().await;
    client.lose().await;
    host.io.emit("all", ()).expect("JSON");
    host.io.to("a").emit("room", ("x", 2)).expect("JSON");
    host.io.to("other").emit("room", "not mine").expect("JSON");
    host.io.except("b").emit("except", "not mine").expect("JSON");
    host.io.to(["a", "b"]).emit("once", ()).expect("JSON");
    host.io.to(socket.id()).emit("own", ()).expect("JSON");
    assert!(socket.emit("gone", ()).is_err());
    assert!(client.connect().await);
    assert_eq!((client.sid.clone(), client.pid.clone()), (sid, pid));
    let socket = only_socket(&host.io);
    assert!(socket.recovered());
    assert_eq!(&socket.rooms()[1..], ["a", "b"].map(sockeye::RoomName::from));
    assert_eq!(socket.data().get::<String>().as_deref(), Some("user 7"));
    socket.emit("after", true).expect("it is connected");
    host.io.to("a").emit("after", ()).expect("JSON");
    client.catch_up().await;
    let expected = [
        r#"["before",1]"#,
        r#"["all"]"#,
        r#"["room","x",2]"#,
        r#"["once"]"#,
        r#"["own"]"#,
        r#"["after",true]"#,
        r#"["after"]"#,
    ];
    assert_eq!(without_offsets(client.take()), expected);
}

#[tokio::test(start_paused = true)]
async fn b7_it_works_before_the_first_event() {
    let host = host();
    let mut client = Returning::join(&host).await;
    host.io.emit("while the connection breaks", ()).expect("JSON");
    client.lose().await;
    host.io.emit("while it is away", ()).expect("JSON");
    assert_eq!(client.offset, None);
    assert!(client.connect().await);
    client.catch_up().await;
    let expected = [r#"["while the connection breaks"]"#, r#"["while it is away"]"#];
    assert_eq!(without_offsets(client.take()), expected);
}

#[tokio::test(start_paused = true)]
async fn h93_events_that_are_not_kept_leave_the_offset_alone() {
    let host = host();
    let mut client = Returning::join(&host).await;
    let socket = only_socket(&host.io);
    socket.emit("kept", "x").expect("it is connected");
    client.catch_up().await;
    let offset = client.offset.clone();
    assert!(offset.is_some());
    for round in 0..4 {
        match round {
            0 => socket.volatile().emit("text", "x").expect("no error"),
            1 => host.io.broadcast().volatile().emit("no argument", ()).expect("JSON"),
            2 => socket.conflate("key").emit("text", (1, "x")).expect("no error"),
            _ => drop(tokio::spawn({
                let socket = socket.clone();
                async move { socket.emit_with_ack::<()>("asks", "x").await }
            })),
        }
        tokio::task::yield_now().await;
        client.catch_up().await;
        assert_eq!(client.offset, offset);
    }
    let expected = [
        r#"["text","x",null]"#,
        r#"["no argument",null]"#,
        r#"["text",1,"x",null]"#,
        r#"["asks","x"]"#,
    ];
    assert_eq!(client.take()[1..], expected);
    assert!(client.come_back().await);
    client.catch_up().await;
    assert!(client.take().is_empty(), "nothing was missed");
    // What ends in no text needs no care.
    only_socket(&host.io).volatile().emit("number", 1).expect("no error");
    client.catch_up().await;
    assert_eq!(client.take(), [r#"["number",1]"#]);
}

#[tokio::test(start_paused = true)]
async fn h64_volatile_and_acknowledged_events_are_not_sent_again() {
    let host = host();
    let mut client = Returning::join(&host).await;
    client.lose().await;
    host.io.broadcast().volatile().emit("volatile", ()).expect("JSON");
    host.io.broadcast().conflate("key").emit("conflated", ()).expect("JSON");
    drop(host.io.broadcast().timeout(SECOND).emit_with_ack::<()>("asks", ()).expect("JSON"));
    host.io.emit("kept", ()).expect("JSON");
    assert!(client.connect().await);
    client.catch_up().await;
    assert_eq!(without_offsets(client.take()), [r#"["kept"]"#]);
}

#[tokio::test(start_paused = true)]
async fn h67_what_is_kept_and_what_is_not_arrive_in_their_order() {
    let host = host();
    let mut client = Returning::join(&host).await;
    let socket = only_socket(&host.io);
    for number in 0..20 {
        match number % 4 {
            0 => socket.emit("e", number).expect("it is connected"),
            1 => host.io.emit("e", number).expect("JSON"),
            2 => {
                let asked = host.io.broadcast().timeout(SECOND);
                drop(asked.emit_with_ack::<()>("e", number).expect("JSON"));
            }
            _ => socket.conflate(number.to_string()).emit("e", number).expect("no error"),
        }
    }
    client.catch_up().await;
    let numbers = client.take();
    for (number, event) in numbers.iter().enumerate() {
        assert!(event.starts_with(&format!("[\"e\",{number}")), "{numbers:?}");
    }
    assert_eq!(numbers.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn h66_a_socket_is_taken_up_once_and_not_while_it_lives() {
    let host = host();
    let mut client = Returning::join(&host).await;
    let mut thief = Returning::join(&host).await;
    thief.pid.clone_from(&client.pid);
    assert!(!thief.come_back().await, "its owner is connected");
    assert_ne!(thief.sid, client.sid);
    thief.lose().await;
    client.lose().await;
    let pid = client.pid.clone();
    assert!(client.connect().await);
    thief.pid = pid;
    assert!(!thief.connect().await, "it has been taken up");
    assert_eq!(host.io.of("/").socket_count(), 2);
    // And again after the next end.
    assert!(client.come_back().await);
}

#[tokio::test(start_paused = true)]
async fn h64_what_was_missed_comes_behind_the_connect_and_moves_the_offset() {
    let host = host();
    let mut client = Returning::join(&host).await;
    client.lose().await;
    for number in 0..5 {
        host.io.emit("missed", number).expect("JSON");
    }
    // It gets the CONNECT, and each time one event more before it is cut again.
    for round in 0..5 {
        assert!(client.connect().await);
        assert_eq!(client.take().len(), 0);
        for _ in 0..round % 3 {
            client.next().await.expect("an event");
        }
        let numbers = without_offsets(client.take());
        assert_eq!(numbers.len(), round % 3);
        client.lose().await;
    }
    assert!(client.connect().await);
    client.catch_up().await;
    assert_eq!(without_offsets(client.take()), [r#"["missed",4]"#]);
    assert!(client.come_back().await);
    client.catch_up().await;
    assert!(client.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn h65_offsets_that_cannot_be_lead_to_a_new_socket() {
    let host = host();
    for offset in ["nonsense", "", "abcdefgh-x"] {
        let mut client = Returning::join(&host).await;
        client.offset = Some(offset.into());
        assert!(!client.come_back().await);
    }
    // One that nobody has been told yet.
    let mut client = Returning::join(&host).await;
    host.io.emit("e", ()).expect("JSON");
    client.catch_up().await;
    let known = client.offset.clone().expect("an offset");
    let (epoch, seq) = known.rsplit_once('-').expect("a number");
    let seq: u64 = seq.parse().expect("digits");
    client.offset = Some(format!("{epoch}-{}", seq + 1));
    assert!(!client.come_back().await);
    // The application's own `auth` has these names.
    for auth in [json!({"pid": 7}), json!({"offset": 7}), json!({"pid": "x"})] {
        let mut client = Returning::join(&host).await;
        client.auth = auth.as_object().expect("an object").clone();
        assert!(!client.come_back().await);
    }
}

#[tokio::test(start_paused = true)]
async fn b7_an_offset_of_before_the_socket_counts_from_its_beginning() {
    let host = host();
    let mut client = Returning::join(&host).await;
    host.io.emit("old", ()).expect("JSON");
    client.catch_up().await;
    assert_eq!(client.take().len(), 1);
    let old = client.offset.clone();
    for offset in [old, Some("zzzzzzzz-9".to_owned())] {
        // A new socket, of which the client has no event yet: it says what it knew before.
        client.pid = None;
        client.offset = None;
        host.io.emit("between", ()).expect("JSON");
        assert!(!client.come_back().await);
        client.offset = offset;
        client.lose().await;
        host.io.emit("missed", ()).expect("JSON");
        assert!(client.connect().await);
        client.catch_up().await;
        assert_eq!(without_offsets(client.take()), [r#"["missed"]"#]);
    }
}

#[tokio::test(start_paused = true)]
async fn b7_events_of_rooms_are_those_of_the_time_in_them() {
    let host = host();
    let mut client = Returning::join(&host).await;
    let socket = only_socket(&host.io);
    let emit = |room: &str, number: u32| host.io.to(room).emit("e", number).expect("JSON");
    // Nothing of all this is read before the connection breaks.
    emit("a", 1);
    socket.join("a");
    emit("a", 2);
    socket.leave("a");
    emit("a", 3);
    socket.join(["a", "b"]);
    host.io.to("a").except("b").emit("e", 4).expect("JSON");
    socket.leave("b");
    host.io.to("a").except("b").emit("e", 5).expect("JSON");
    socket.leave(socket.id());
    emit(socket.id().as_str(), 6);
    client.lose().await;
    emit("a", 7);
    emit("b", 8);
    emit(socket.id().as_str(), 9);
    assert!(client.connect().await);
    client.catch_up().await;
    let numbers = [2, 5, 7].map(|number| format!("[\"e\",{number}]"));
    assert_eq!(without_offsets(client.take()), numbers);
    assert_eq!(only_socket(&host.io).rooms(), [sockeye::RoomName::from("a")]);
}

#[tokio::test(start_paused = true)]
async fn b7_who_looks_at_outgoing_events_sees_no_offsets() {
    let host = host();
    let record = Record::default();
    let into = record.clone();
    host.io.on_any_outgoing(move |_: &Socket, event: &Outgoing<'_>| {
        into.add(&format!("{} {}", event.name(), event.raw_args().raw()));
    });
    let mut client = Returning::join(&host).await;
    only_socket(&host.io).emit("direct", "x").expect("it is connected");
    host.io.emit("all", (1, 2)).expect("JSON");
    host.io.broadcast().volatile().emit("volatile", "x").expect("JSON");
    client.catch_up().await;
    assert_eq!(record.take(), [r#"direct "x""#, "all 1,2", r#"volatile "x""#]);
}

#[tokio::test(start_paused = true)]
async fn b7_off_there_is_nothing_of_it() {
    let io = Server::default();
    answering(&io);
    let host = Host::in_memory(io);
    let mut client = Returning::join(&host).await;
    assert_eq!(client.pid, None);
    host.io.emit("all", "x").expect("JSON");
    only_socket(&host.io).emit("direct", ()).expect("it is connected");
    client.catch_up().await;
    assert_eq!(client.take(), [r#"["all","x"]"#, r#"["direct"]"#]);
    client.pid = Some("a".repeat(20));
    assert!(!client.come_back().await);
    assert!(!only_socket(&host.io).recovered());
}

#[tokio::test(start_paused = true)]
async fn b7_each_namespace_is_recovered_for_itself() {
    let host = host();
    let chat = host.io.of("/chat");
    chat.on("answer", async || ());
    let mut client = Returning::join_namespace(&host, "/chat,").await;
    chat.emit("before", ()).expect("JSON");
    client.catch_up().await;
    client.lose().await;
    host.io.emit("of another namespace", ()).expect("JSON");
    chat.emit("missed", ()).expect("JSON");
    assert!(client.connect().await);
    client.catch_up().await;
    assert_eq!(without_offsets(client.take()), [r#"["before"]"#, r#"["missed"]"#]);
    // The private id is the namespace's own.
    let mut other = WebSocket::join(&host).await;
    let pid = client.pid.clone().expect("a private id");
    client.lose().await;
    other.send("41").await;
    other.send(&format!("40{{\"pid\":\"{pid}\"}}")).await;
    let connect = other.next().await.expect("the CONNECT");
    assert!(!connect.contains(&pid), "{connect}");
}

#[tokio::test(start_paused = true)]
async fn b7_a_dynamic_namespace_stays_for_those_who_may_come_back() {
    let host = host();
    let rooms = host.io.of_pattern("/room-{id}").expect("a pattern");
    rooms.on_connection(async |socket: Socket| {
        socket.on("answer", async || ());
    });
    let mut client = Returning::join_namespace(&host, "/room-1,").await;
    let namespace = rooms.children()[0].clone();
    client.lose().await;
    namespace.emit("missed", ()).expect("JSON");
    assert!(client.connect().await);
    client.catch_up().await;
    assert_eq!(without_offsets(client.take()), [r#"["missed"]"#]);
    client.lose().await;
    assert_eq!(rooms.children().len(), 1);
    // Its time and the time in which that is noticed, and the events' own.
    tokio::time::sleep(10 * 60 * SECOND).await;
    assert_eq!(rooms.children().len(), 0);
}
