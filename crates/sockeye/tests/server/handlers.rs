//! Handlers: their order, what becomes of their failures, what they may wait for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sockeye::{Ack, ConnectError, Data, HandlerError, RawArgs, Reply, Server, Socket};

use crate::support::{Host, Polling, WebSocket, only_socket, reporting, until, until_empty};

#[tokio::test(start_paused = true)]
async fn failures_reach_the_acknowledgement_and_the_hook_and_end_nothing() {
    let io = Server::default();
    let reports = reporting(&io);
    io.on("panic", async |_: Socket| -> () { panic!("a handler of the test") });
    io.on("late-panic", async || -> () {
        tokio::task::yield_now().await;
        panic!("a handler of the test")
    });
    io.on("typed", async |Data(number): Data<u8>| Reply(number));
    io.on("refuses", async || -> Result<(), HandlerError> {
        Err(HandlerError::new("no_luck", "Try again").with_data(&7))
    });
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    for (id, event) in ["\"panic\"", "\"late-panic\"", "\"typed\",300", "\"typed\"", "\"refuses\""]
        .iter()
        .enumerate()
    {
        client.send(&format!("42{id}[{event}]")).await;
        let answer = client.next().await.expect("an answer");
        assert!(answer.starts_with(&format!("43{id}[{{\"status\":\"error\"")), "{answer}");
        let refusal = "\"code\":\"no_luck\",\"message\":\"Try again\",\"data\":7}]";
        assert_eq!(answer.ends_with(refusal), id == 4, "{answer}");
    }
    client.send("429[\"typed\",3]").await;
    assert_eq!(client.next().await.as_deref(), Some("439[3]"));
    let reports = reports.all();
    assert_eq!(reports.len(), 5, "{reports:?}");
    assert!(reports[4] == "refuses: no_luck" && reports[0].starts_with("panic: "), "{reports:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_wait_for_its_own_client_while_events_wait_behind_it() {
    let io = Server::default();
    io.on("ask", async |socket: Socket| {
        let answer: String = socket.emit_with_ack("question", ()).await?;
        socket.emit("answered", &answer)?;
        Ok::<_, sockeye::AckError>(())
    });
    io.on("next", async |socket: Socket| {
        socket.emit("next", ()).expect("it is connected");
    });
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    client.send("42[\"ask\"]").await;
    client.send("42[\"next\"]").await;
    assert_eq!(client.next().await.as_deref(), Some("420[\"question\"]"));
    client.send("430[\"yes\"]").await;
    assert_eq!(client.next().await.as_deref(), Some("42[\"answered\",\"yes\"]"));
    assert_eq!(client.next().await.as_deref(), Some("42[\"next\"]"));
}

#[tokio::test(start_paused = true)]
async fn so_many_events_wait_and_then_nothing_is_read() {
    const WAITING: usize = 10;
    let io = Server::builder().events_waiting_max(WAITING).build();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (into, pass) = (handled.clone(), gate.clone());
    io.on("event", move |Data(number): Data<usize>| {
        let (into, pass) = (into.clone(), pass.clone());
        async move {
            pass.acquire().await.expect("it is never closed").forget();
            into.lock().expect("no holder panics").push(number);
        }
    });
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    // More than fits in the stream and the queue: the client is held back in the middle.
    let sent = tokio::spawn(async move {
        for number in 0..1000 {
            client.send(&format!("42[\"event\",{number}]")).await;
        }
        client
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!sent.is_finished(), "the client was not held back");
    gate.add_permits(1000);
    until("all are handled", || handled.lock().expect("no holder panics").len() == 1000).await;
    let handled = handled.lock().expect("no holder panics").clone();
    assert_eq!(handled, (0..1000).collect::<Vec<_>>());
    drop(sent.await.expect("the client sent all"));
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_by_hand_is_the_only_one() {
    let io = Server::default();
    io.on("by-hand", async |ack: Ack, RawArgs(args): RawArgs| {
        assert!(ack.is_wanted());
        ack.send(args).expect("it is connected");
        Reply("not this")
    });
    io.on("dropped", async |ack: Ack| drop(ack));
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    client.send("421[\"dropped\"]").await;
    client.send("422[\"by-hand\",1,[2],\"three\"]").await;
    assert_eq!(client.next().await.as_deref(), Some("432[1,[2],\"three\"]"));
}

#[tokio::test(start_paused = true)]
async fn a_middleware_that_panics_refuses_and_says_no_more_than_that() {
    let io = Server::default();
    let reports = reporting(&io);
    io.middleware(async |_: Socket| -> Result<(), ConnectError> { panic!("a secret") });
    let host = Host::in_memory(io);
    let client = Polling::open(&host).await;
    client.post("40").await;
    let packets = client.get().await.expect("200");
    assert_eq!(packets, ["44{\"message\":\"Internal server error\"}"]);
    assert_eq!(reports.all().len(), 1);
    assert_eq!(host.io.of("/").socket_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn h44_a_client_that_goes_during_a_middleware_leaves_nothing() {
    let io = Server::default();
    io.middleware(async |socket: Socket| -> Result<(), ConnectError> {
        socket.join("early");
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(())
    });
    io.on_connection(async |_: Socket| panic!("nobody connects"));
    let reports = reporting(&io);
    let host = Host::in_memory(io);
    let mut client = WebSocket::open(&host, "").await.expect("a handshake");
    client.send("40").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(client);
    until_empty(&host.io).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(reports.all().is_empty());
    assert_eq!(host.io.of("/").room_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn events_before_the_clients_disconnect_are_handled_and_those_behind_the_servers_are_not() {
    let io = Server::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = seen.clone();
    io.on("event", move |socket: Socket, Data(number): Data<u32>| {
        let into = into.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            into.lock().expect("no holder panics").push(number);
            if number == 5 {
                socket.disconnect(false);
            }
        }
    });
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    for packet in ["42[\"event\",1]", "42[\"event\",2]", "41"] {
        client.send(packet).await;
    }
    until("both are handled", || seen.lock().expect("no holder panics").len() == 2).await;
    client.send("40").await;
    assert!(client.next().await.expect("CONNECT").starts_with("40"));
    for packet in ["42[\"event\",4]", "42[\"event\",5]", "42[\"event\",6]"] {
        client.send(packet).await;
    }
    assert_eq!(client.next().await.as_deref(), Some("41"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*seen.lock().expect("no holder panics"), [1, 2, 4, 5]);
    client.send("40").await;
    assert!(client.next().await.expect("it may come back").starts_with("40"));
    assert!(only_socket(&host.io).is_connected());
}
