//! Namespaces and who is let into them: FEATURES B2, B3.

use std::time::Duration;

use sockeye::{ConnectError, Server, Socket, with};

use crate::support::{Host, Record, WebSocket, only_socket, until_empty};

/// A session that has joined nothing.
async fn open(host: &Host) -> WebSocket {
    let mut client = WebSocket::open(host, "").await.expect("the handshake is accepted");
    assert!(client.next().await.expect("the open packet").starts_with("0{"));
    client
}

/// Writes down what of a socket its namespace shows.
fn look(record: &Record, what: &str, socket: &Socket) {
    let namespace = socket.namespace();
    let found = namespace.socket(&socket.id()).is_some();
    let counted = (namespace.socket_count(), namespace.sockets().len());
    let reached = namespace.broadcast().sockets().len();
    record.add(&format!("{what} {} {found} {counted:?} {reached}", socket.is_connected()));
}

async fn ask(client: &mut WebSocket, packet: &str) -> String {
    client.send(packet).await;
    client.next().await.expect("an answer")
}

#[tokio::test(start_paused = true)]
async fn b3_middlewares_run_in_their_order_as_they_were_when_the_first_began() {
    let (io, record) = (Server::default(), Record::default());
    io.middleware(with(record.clone(), async |record: Record, socket: Socket| {
        record.add("first");
        // It is for the next one.
        socket.namespace().middleware(with(record, async |record: Record| {
            record.add("added");
            Ok::<_, ConnectError>(())
        }));
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, ConnectError>(())
    }));
    io.middleware(with(record.clone(), async |record: Record, socket: Socket| {
        record.add("second");
        match socket.auth::<serde_json::Value>() {
            Ok(auth) if auth["refuse"] == true => Err("no"),
            _ => Ok(()),
        }
    }));
    io.middleware(with(record.clone(), async |record: Record| {
        record.add("third");
        Ok::<_, ConnectError>(())
    }));
    let host = Host::in_memory(io);
    let mut client = open(&host).await;
    assert!(ask(&mut client, "40").await.starts_with("40{"));
    assert_eq!(record.take(), ["first", "second", "third"]);
    let mut refused = open(&host).await;
    assert_eq!(ask(&mut refused, "40{\"refuse\":true}").await, "44{\"message\":\"no\"}");
    assert_eq!(record.take(), ["first", "second"], "the first refusal ends it");
    assert!(ask(&mut refused, "40").await.starts_with("40{"));
    assert_eq!(record.take(), ["first", "second", "third", "added", "added"]);
}

#[tokio::test(start_paused = true)]
async fn b3_a_socket_is_in_its_namespace_when_the_middlewares_have_let_it_in() {
    let (io, record) = (Server::default(), Record::default());
    io.middleware(with(record.clone(), async |record: Record, socket: Socket| {
        look(&record, "middleware", &socket);
        Ok::<_, ConnectError>(())
    }));
    io.on_connection(with(record.clone(), async |record: Record, socket: Socket| {
        look(&record, "connection", &socket);
    }));
    io.on_disconnect(with(record.clone(), async |record: Record, socket: Socket| {
        look(&record, "disconnect", &socket);
    }));
    let host = Host::in_memory(io);
    let client = WebSocket::join(&host).await;
    drop(client);
    until_empty(&host.io).await;
    let expected = [
        "middleware false false (0, 0) 0",
        "connection true true (1, 1) 1",
        "disconnect false false (0, 0) 0",
    ];
    assert_eq!(record.all(), expected);
}

#[tokio::test(start_paused = true)]
async fn b3_a_refusal_says_why_in_its_namespace_and_leaves_the_connection() {
    let host = Host::in_memory(Server::default());
    let admin = host.io.of("admin");
    assert_eq!(admin.name(), "/admin", "the slash is added");
    admin.middleware(async |socket: Socket| -> Result<(), ConnectError> {
        let auth: serde_json::Value = socket.auth().unwrap_or_default();
        match auth["code"].as_u64() {
            Some(0) => Ok(()),
            Some(code) => Err(ConnectError::new("refused").with_data(&[code])),
            None => Err(ConnectError::new("who \"are\" you?")),
        }
    });
    let mut client = open(&host).await;
    let plain = ask(&mut client, "40/admin,").await;
    assert_eq!(plain, r#"44/admin,{"message":"who \"are\" you?"}"#);
    let with_data = ask(&mut client, r#"40/admin,{"code":7}"#).await;
    assert_eq!(with_data, r#"44/admin,{"message":"refused","data":[7]}"#);
    let unknown = ask(&mut client, "40/nowhere,").await;
    assert_eq!(unknown, r#"44/nowhere,{"message":"Invalid namespace"}"#);
    assert_eq!(admin.socket_count(), 0);
    assert!(ask(&mut client, r#"40/admin,{"code":0}"#).await.starts_with("40/admin,{"));
    assert_eq!(admin.socket_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn b1_who_is_refused_has_the_connect_timeout_still() {
    let io = Server::builder().connect_timeout(Duration::from_secs(7)).build();
    io.middleware(async || Err::<(), _>("no"));
    let host = Host::in_memory(io);
    let begun = tokio::time::Instant::now();
    let mut client = open(&host).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(ask(&mut client, "40").await, "44{\"message\":\"no\"}");
    assert_eq!(client.next().await, None);
    assert_eq!(begun.elapsed().as_secs(), 7);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn b2_the_server_speaks_for_its_root() {
    let host = Host::in_memory(Server::default());
    let io = &host.io;
    assert_eq!(io.of("").name(), "/");
    let mut first = WebSocket::join(&host).await;
    let id = only_socket(io).id();
    io.of("/").socket(&id).expect("it is there").join("room");
    let mut second = WebSocket::join(&host).await;
    io.emit("all", 1).expect("JSON");
    io.send("message").expect("JSON");
    io.to("room").emit("room", ()).expect("JSON");
    io.except("room").emit("others", ()).expect("JSON");
    io.broadcast().to(id).emit("one", ()).expect("JSON");
    for expected in [r#"["all",1]"#, r#"["message","message"]"#, r#"["room"]"#, r#"["one"]"#] {
        assert_eq!(first.next().await, Some(format!("42{expected}")));
    }
    for expected in [r#"["all",1]"#, r#"["message","message"]"#, r#"["others"]"#] {
        assert_eq!(second.next().await, Some(format!("42{expected}")));
    }
    // All at once, and each of them by what it is in.
    io.broadcast().sockets_join(["everyone", "here"]);
    io.to("room").sockets_leave("here");
    let in_room = |room: &str| io.to(room).sockets().len();
    assert_eq!((in_room("everyone"), in_room("here")), (2, 1));
    io.to("here").disconnect_sockets(false);
    assert_eq!(second.next().await.as_deref(), Some("41"));
    io.broadcast().disconnect_sockets(true);
    assert_eq!(first.next().await.as_deref(), Some("41"));
    assert_eq!(first.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn h62_the_end_may_be_asked_for_again_and_before_anyone_came() {
    let io = Server::default();
    let limit = Duration::from_secs(60);
    assert!(io.shutdown(limit).await, "nobody was there");
    assert!(io.shutdown(limit).await);

    let host = Host::in_memory(Server::default());
    let mut client = WebSocket::join(&host).await;
    let (io, again) = (host.io.clone(), host.io.clone());
    let both = async { tokio::join!(io.shutdown(limit), again.shutdown(limit)) };
    let (both, end) = tokio::join!(both, client.next());
    assert_eq!((both, end), ((true, true), None));
    assert!(host.io.shutdown(limit).await);
    until_empty(&host.io).await;
}
