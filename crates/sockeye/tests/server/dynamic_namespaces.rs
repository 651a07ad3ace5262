//! Namespaces that clients make: by pattern, by predicate, with what their parent has; and how
//! they go again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sockeye::{ConnectError, NamespaceRequest, Reply, Server, Socket};

use crate::support::{Host, WebSocket, until, until_empty};

/// A client that is in no namespace yet.
async fn client(host: &Host) -> WebSocket {
    let mut client = WebSocket::open(host, "").await.expect("a handshake");
    assert!(client.next().await.expect("the open packet").starts_with("0{"));
    client
}

async fn answer(client: &mut WebSocket, packet: &str) -> String {
    client.send(packet).await;
    client.next().await.expect("an answer")
}

fn names(io: &Server) -> Vec<String> {
    let mut names: Vec<_> = io.namespaces().iter().map(|n| n.name().to_owned()).collect();
    names.sort();
    names
}

const INVALID: &str = "{\"message\":\"Invalid namespace\"}";

#[tokio::test(start_paused = true)]
async fn b3_a_pattern_makes_namespaces_with_the_parents_middlewares_and_handlers() {
    let io = Server::default();
    let made = Arc::new(Mutex::new(Vec::new()));
    let into = made.clone();
    io.on_new_namespace(move |namespace| {
        into.lock().expect("no holder panics").push(namespace.name().to_owned());
    });
    let rooms = io.of_pattern("/room-{id}").expect("a pattern");
    rooms.middleware(async |socket: Socket| -> Result<(), ConnectError> {
        match socket.namespace().param("id") {
            Some("13") => Err("not this one".into()),
            _ => Ok(()),
        }
    });
    rooms.on("where", async |socket: Socket| {
        Reply(socket.namespace().param("id").map(str::to_owned))
    });
    let host = Host::in_memory(io);
    let mut ann = client(&host).await;
    assert!(answer(&mut ann, "40/room-7,").await.starts_with("40/room-7,{\"sid\":"));
    assert_eq!(answer(&mut ann, "42/room-7,0[\"where\"]").await, "43/room-7,0[\"7\"]");
    let refused = answer(&mut ann, "40/room-13,").await;
    assert_eq!(refused, "44/room-13,{\"message\":\"not this one\"}");
    for name in ["/room-", "/room-7/x", "/other"] {
        assert_eq!(answer(&mut ann, &format!("40{name},")).await, format!("44{name},{INVALID}"));
    }
    assert_eq!(*made.lock().expect("no holder panics"), ["/room-7", "/room-13"]);
    assert!(io_error(&host.io, "/{a}{b}"));

    // The parent speaks to all its children, and only to them.
    let mut ben = client(&host).await;
    answer(&mut ben, "40/room-8,").await;
    answer(&mut ben, "40").await;
    rooms.emit("all", ("of", "you")).expect("encoded");
    assert_eq!(ann.next().await.as_deref(), Some("42/room-7,[\"all\",\"of\",\"you\"]"));
    assert_eq!(ben.next().await.as_deref(), Some("42/room-8,[\"all\",\"of\",\"you\"]"));
    host.io.of("/room-8").sockets()[0].join("corner");
    rooms.to("corner").emit("psst", ()).expect("encoded");
    assert_eq!(ben.next().await.as_deref(), Some("42/room-8,[\"psst\"]"));
    rooms.except("corner").emit("others", ()).expect("encoded");
    assert_eq!(ann.next().await.as_deref(), Some("42/room-7,[\"others\"]"));
}

fn io_error(io: &Server, pattern: &str) -> bool {
    io.of_pattern(pattern).is_err()
}

#[tokio::test(start_paused = true)]
async fn h56_two_clients_make_one_namespace_at_once() {
    let io = Server::default();
    io.of_matching(async |wish: NamespaceRequest| {
        // The later wish is granted first.
        let delay: u64 =
            wish.auth::<serde_json::Value>().expect("JSON")["delay"].as_u64().unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        wish.name().starts_with("/dynamic-")
    });
    let host = Host::in_memory(io);
    let (mut slow, mut quick) = (client(&host).await, client(&host).await);
    slow.send("40/dynamic-1,{\"delay\":500}").await;
    assert!(answer(&mut quick, "40/dynamic-1,{\"delay\":10}").await.starts_with("40/dynamic-1"));
    assert!(slow.next().await.expect("CONNECT").starts_with("40/dynamic-1"));
    assert_eq!(names(&host.io), ["/", "/dynamic-1"]);
    host.io.of("/dynamic-1").emit("both", ()).expect("encoded");
    for client in [&mut slow, &mut quick] {
        assert_eq!(client.next().await.as_deref(), Some("42/dynamic-1,[\"both\"]"));
    }
    assert_eq!(answer(&mut quick, "40/static-1,").await, format!("44/static-1,{INVALID}"));
}

#[tokio::test(start_paused = true)]
async fn h57_a_namespace_that_the_application_makes_is_its_patterns_child_and_stays() {
    let io = Server::default();
    let rooms = io.of_pattern("/room-{id}").expect("a pattern");
    let seven = io.of("/room-7");
    assert_eq!(seven.param("id"), Some("7"));
    assert_eq!(rooms.children().len(), 1);
    let host = Host::in_memory(io);
    let mut ann = client(&host).await;
    answer(&mut ann, "40/room-7,").await;
    rooms.emit("hello", ()).expect("encoded");
    assert_eq!(ann.next().await.as_deref(), Some("42/room-7,[\"hello\"]"));
    drop(ann);
    until_empty(&host.io).await;
    until("the socket is gone", || host.io.of("/room-7").socket_count() == 0).await;
    assert_eq!(names(&host.io), ["/", "/room-7"]);
}

#[tokio::test(start_paused = true)]
async fn h58_a_child_goes_with_its_last_client_but_never_from_under_one_in_a_middleware() {
    let io = Server::default();
    let rooms = io.of_pattern("/room-{id}").expect("a pattern");
    rooms.middleware(async |socket: Socket| -> Result<(), ConnectError> {
        let auth: serde_json::Value = socket.auth().expect("JSON");
        if auth["slow"] == true {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        if auth["refuse"] == true { Err("no".into()) } else { Ok(()) }
    });
    let host = Host::in_memory(io);

    let (mut first, mut second) = (client(&host).await, client(&host).await);
    answer(&mut first, "40/room-1,").await;
    second.send("40/room-1,{\"slow\":true}").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.send("41/room-1,").await;
    assert!(second.next().await.expect("CONNECT").starts_with("40/room-1"));
    rooms.emit("still here", ()).expect("encoded");
    assert_eq!(second.next().await.as_deref(), Some("42/room-1,[\"still here\"]"));
    second.send("41/room-1,").await;
    until("the namespace is gone", || names(&host.io) == ["/"]).await;
    assert!(rooms.children().is_empty());

    // One that lets nobody in goes too, and one whose client vanishes on the way.
    answer(&mut first, "40/room-2,{\"refuse\":true}").await;
    until("the namespace is gone", || names(&host.io) == ["/"]).await;
    second.send("40/room-3,{\"slow\":true}").await;
    until("it is there", || names(&host.io).len() == 2).await;
    drop(second);
    until("the namespace is gone", || names(&host.io) == ["/"]).await;
    assert!(answer(&mut first, "40/room-2,").await.starts_with("40/room-2"));
}

#[tokio::test(start_paused = true)]
async fn h59_a_pattern_that_has_matched_matches_the_same_name_again() {
    // In JavaScript an expression may remember where its last match ended.
    let io = Server::default();
    io.of_pattern("/room-{id}").expect("a pattern");
    io.of_matching(async |wish: NamespaceRequest| wish.name() == "/matched");
    let host = Host::in_memory(io);
    for _ in 0..4 {
        for name in ["/room-1", "/matched"] {
            let (mut ann, mut ben) = (client(&host).await, client(&host).await);
            for client in [&mut ann, &mut ben] {
                let joined = answer(client, &format!("40{name},")).await;
                assert!(joined.starts_with(&format!("40{name},{{\"sid\":")), "{joined}");
            }
            drop((ann, ben));
            until("the namespace is gone", || names(&host.io) == ["/"]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn clients_make_so_many_namespaces_and_no_more() {
    let io = Server::builder().dynamic_namespaces_max(2).build();
    io.of_pattern("/room-{id}").expect("a pattern");
    let host = Host::in_memory(io);
    let mut client = client(&host).await;
    for name in ["/room-1", "/room-2"] {
        assert!(answer(&mut client, &format!("40{name},")).await.starts_with("40"));
    }
    assert_eq!(answer(&mut client, "40/room-3,").await, format!("44/room-3,{INVALID}"));
    client.send("41/room-1,").await;
    until("there is room", || host.io.namespaces().len() == 2).await;
    assert!(answer(&mut client, "40/room-3,").await.starts_with("40"));
}

#[tokio::test(start_paused = true)]
async fn a_predicate_that_panics_or_outlives_its_client_makes_nothing() {
    let io = Server::default();
    io.of_matching(async |wish: NamespaceRequest| {
        assert!(wish.name() != "/panic", "a predicate of the test");
        tokio::time::sleep(Duration::from_secs(5)).await;
        true
    });
    let host = Host::in_memory(io);
    let mut first = client(&host).await;
    assert_eq!(answer(&mut first, "40/panic,").await, format!("44/panic,{INVALID}"));
    first.send("40/late,").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // It thinks better of it; then it goes altogether.
    first.send("41/late,").await;
    first.send("40/later,").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(first);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(names(&host.io), ["/"]);
    until_empty(&host.io).await;
}
