//! What is emitted arrives: whole, in order, once; also where the stream takes a little at a time.

use sockeye::{Data, Server, Socket};

use crate::support::{Host, Polling, WebSocket, only_socket, until_empty};

#[tokio::test(start_paused = true)]
async fn a_stream_that_takes_little_at_a_time_takes_it_all() {
    let host = Host::in_memory(Server::default());
    let mut client = WebSocket::join(&host).await;
    let text = "x".repeat(100_000);
    only_socket(&host.io).emit("large", &text).expect("it is connected");
    // Nothing else happens that could carry the rest along.
    assert_eq!(client.next().await, Some(format!("42[\"large\",\"{text}\"]")));
}

#[tokio::test(start_paused = true)]
async fn what_was_emitted_before_a_disconnection_arrives_before_it() {
    let host = Host::in_memory(Server::default());
    for close in [false, true] {
        let mut client = WebSocket::join(&host).await;
        let socket = only_socket(&host.io);
        let text = "x".repeat(10_000);
        for _ in 0..3 {
            socket.emit("last", &text).expect("it is connected");
        }
        socket.disconnect(close);
        assert!(socket.emit("late", ()).is_err());
        for _ in 0..3 {
            assert_eq!(client.next().await, Some(format!("42[\"last\",\"{text}\"]")));
        }
        assert_eq!(client.next().await.as_deref(), Some("41"));
        if close {
            assert_eq!(client.next().await, None);
        }
        drop(client);
        until_empty(&host.io).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_and_others_emit_keeps_its_order() {
    let io = Server::default();
    io.on("go", async |socket: Socket, Data(count): Data<u32>| {
        for number in 0..count {
            socket.emit("n", number).expect("it is connected");
            if number % 3 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    client.send("42[\"go\",50]").await;
    for number in 0..50 {
        assert_eq!(client.next().await, Some(format!("42[\"n\",{number}]")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_reaches_polling_and_websocket_alike() {
    let host = Host::in_memory(Server::default());
    let polling = Polling::join(&host).await;
    let mut websocket = WebSocket::join(&host).await;
    host.io.emit("all", ("one", 2)).expect("encoded");
    let expected = "42[\"all\",\"one\",2]";
    assert_eq!(polling.get().await.expect("200"), [expected]);
    assert_eq!(websocket.next().await.as_deref(), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn what_comes_behind_the_upgrade_is_answered_behind_it_too() {
    let io = Server::default();
    io.on("which", async |socket: Socket| sockeye::Reply(socket.transport().as_str()));
    let host = Host::in_memory(io);
    for _ in 0..3 {
        let client = Polling::join(&host).await;
        let mut websocket = WebSocket::open(&host, &client.sid).await.expect("a handshake");
        websocket.send("2probe").await;
        assert_eq!(websocket.next().await.as_deref(), Some("3probe"));
        let get = tokio::spawn(async move { client.get().await });
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        // All of it is there at once.
        websocket.send("5").await;
        websocket.send("421[\"which\"]").await;
        websocket.send("422[\"which\"]").await;
        assert_eq!(websocket.next().await.as_deref(), Some("431[\"websocket\"]"));
        assert_eq!(websocket.next().await.as_deref(), Some("432[\"websocket\"]"));
        assert_eq!(get.await.expect("an answer"), Ok(vec!["6".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_volatile_event_behind_another_is_dropped_and_later_ones_arrive() {
    let host = Host::in_memory(Server::default());
    let mut client = WebSocket::join(&host).await;
    let socket = only_socket(&host.io);
    socket.emit("first", ()).expect("it is connected");
    socket.volatile().emit("dropped", ()).expect("no error");
    socket.emit("second", ()).expect("it is connected");
    assert_eq!(client.next().await.as_deref(), Some("42[\"first\"]"));
    assert_eq!(client.next().await.as_deref(), Some("42[\"second\"]"));
    socket.volatile().emit("third", ()).expect("no error");
    assert_eq!(client.next().await.as_deref(), Some("42[\"third\"]"));
}
