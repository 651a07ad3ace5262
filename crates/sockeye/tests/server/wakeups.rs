//! A connection that has something to do is woken for it, also where nothing else ever happens:
//! each of these waits for what only the server's own task can bring about.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use sockeye::{EmitError, HandlerError, OutboxPolicy, Server, ServerBuilder, Socket, State};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::support::{Host, Polling, Record, WebSocket, only_socket, until, until_empty};

/// Longer than anything here takes, and less than until the next ping.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server whose `held` waits for the gate, and whose `next` is answered at once.
fn gated(builder: ServerBuilder) -> (Server, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let io = builder.state(gate.clone()).build();
    io.on("held", async |State(gate): State<Arc<Semaphore>>| {
        gate.acquire().await.expect("it is never closed").forget();
    });
    io.on("next", async || Ok::<_, HandlerError>("here"));
    (io, gate)
}

#[tokio::test(start_paused = true)]
async fn reading_goes_on_when_all_that_waited_is_handled_at_once() {
    let (io, gate) = gated(Server::builder().events_waiting_max(2));
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    for _ in 0..3 {
        client.send("42[\"held\"]").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.send("421[\"next\"]").await;
    gate.add_permits(3);
    let answer = timeout(PATIENCE, client.next()).await.expect("it is read");
    assert_eq!(answer.as_deref(), Some("431[\"here\"]"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_read_again_and_says_nothing_is_missed() {
    let (io, gate) = gated(Server::builder().events_waiting_max(2));
    let host = Host::in_memory(io);
    let client = Polling::join(&host).await;
    let held = tokio::spawn({
        let packets = vec!["42[\"held\"]".to_owned(); 3];
        async move { client.post_all(&packets).await }
    });
    // The ping has been sent by then, and its answer could not be read.
    tokio::time::sleep(Duration::from_secs(30)).await;
    gate.add_permits(3);
    assert_eq!(held.await.expect("it is answered"), StatusCode::OK);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_followed_up_also_where_handlers_use_the_turn_up() {
    const PING_INTERVAL: Duration = Duration::from_secs(5);
    let io = Server::builder().ping_interval(PING_INTERVAL).build();
    io.on("busy", async |socket: Socket| {
        // It goes on in the turn in which the ping is due.
        tokio::time::sleep(PING_INTERVAL).await;
        for _ in 0..200 {
            tokio::task::consume_budget().await;
        }
        socket.emit("done", ())
    });
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    client.send("42[\"busy\"]").await;
    // The client is still there, and answers no ping.
    until_empty(&host.io).await;
    assert_eq!(client.next().await.as_deref(), Some("2"));
}

async fn a_pong_leaves_once_it_can(host: Host, record: Record) {
    let mut client = WebSocket::join(&host).await;
    let text = "x".repeat(1_000_000);
    only_socket(&host.io).emit("large", &text).expect("it is connected");
    let mark = client.encode("42[\"mark\"]");
    // A masked ping, as which the client does not read the answer yet.
    client.write(&[&b"\x89\x80\0\0\0\0"[..], &mark].concat()).await;
    until("the ping is read", || !record.all().is_empty()).await;
    assert!(client.next().await.expect("it arrives").contains(&text));
    timeout(PATIENCE, client.next_pong()).await.expect("it is sent").expect("an open connection");
}

#[tokio::test]
async fn a_pong_that_the_socket_did_not_take_leaves_by_itself() {
    let record = Record::default();
    let io = Server::builder().state(record.clone()).build();
    io.on("mark", async |State(record): State<Record>| record.add("mark"));
    a_pong_leaves_once_it_can(Host::in_memory(io.clone()), record.clone()).await;
    record.take();
    a_pong_leaves_once_it_can(Host::on_loopback(io).await, record).await;
}

#[tokio::test]
async fn a_probe_is_answered_also_where_the_upgrade_comes_with_it() {
    let io = Server::default();
    for host in [Host::in_memory(io.clone()), Host::on_loopback(io).await] {
        let client = Polling::join(&host).await;
        let mut websocket = WebSocket::open(&host, &client.sid).await.expect("a handshake");
        let both = [websocket.encode("2probe"), websocket.encode("5")].concat();
        websocket.write(&both).await;
        let answer = timeout(PATIENCE, websocket.next()).await.expect("it is answered");
        assert_eq!(answer.as_deref(), Some("3probe"));
    }
}

/// Serves loopback with sending buffers as they are.
async fn on_plain_loopback(io: Server) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(sockeye::serve(listener, io.service()).into_future());
    Host::at(io, address)
}

#[tokio::test]
async fn who_waits_for_room_is_told_also_where_the_socket_takes_all_at_once() {
    let io = Server::builder().outbox_bytes_max(100_000).build();
    let text = Arc::new("x".repeat(60_000));
    let own = text.clone();
    io.on("emit", move |socket: Socket| {
        let text = own.clone();
        async move {
            socket.emit("large", &*text)?;
            socket.drained().await;
            Ok::<_, HandlerError>("drained")
        }
    });
    for host in [Host::in_memory(io.clone()), on_plain_loopback(io).await] {
        let mut client = WebSocket::join(&host).await;
        client.send("421[\"emit\"]").await;
        assert!(client.next().await.expect("it arrives").contains(&*text));
        let answer = timeout(PATIENCE, client.next()).await.expect("there is room");
        assert_eq!(answer.as_deref(), Some("431[\"drained\"]"));

        let socket = only_socket(&host.io);
        let drained = tokio::spawn({
            let text = text.clone();
            async move {
                socket.emit("large", &*text).expect("it is connected");
                socket.drained().await;
            }
        });
        assert!(client.next().await.expect("it arrives").contains(&*text));
        timeout(PATIENCE, drained).await.expect("there is room").expect("no panic");
        drop(client);
        until_empty(&host.io).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_threads_emit_all_arrives_while_they_wait_for_room() {
    const EMITTERS: usize = 4;
    const EVENTS: usize = 2000;
    let builder = Server::builder().outbox_bytes_max(20_000);
    let io = builder.outbox_policy(OutboxPolicy::Refuse).build();
    let hosts = [
        Host::in_memory(io.clone()),
        Host::on_loopback(io.clone()).await,
        on_plain_loopback(io).await,
    ];
    for host in hosts {
        let mut client = WebSocket::join(&host).await;
        let socket = only_socket(&host.io);
        for emitter in 0..EMITTERS {
            let socket = socket.clone();
            tokio::spawn(async move {
                for number in 0..EVENTS {
                    let text = "x".repeat(number % 300);
                    let emit = || socket.emit("e", (emitter, number, &text));
                    while let Err(EmitError::OutboxFull) = emit() {
                        socket.drained().await;
                    }
                }
            });
        }
        let mut next = [0; EMITTERS];
        while next != [EVENTS; EMITTERS] {
            let packet = timeout(PATIENCE, client.next()).await.expect("nothing stands still");
            let packet = packet.expect("an open connection");
            let mut numbers = packet.split([',', ']']).skip(1);
            let mut number = || numbers.next().and_then(|it| it.parse::<usize>().ok());
            let emitter = number().expect("an emitter");
            assert_eq!(number(), Some(next[emitter]));
            next[emitter] += 1;
        }
        drop(client);
        until_empty(&host.io).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_more_room_than_half_lets_the_rest_leave() {
    let builder = Server::builder().outbox_bytes_max(20_000);
    let host = Host::in_memory(builder.outbox_policy(OutboxPolicy::Refuse).build());
    let mut client = WebSocket::join(&host).await;
    let socket = only_socket(&host.io);
    let emitting = tokio::spawn(async move {
        socket.emit("first", "x".repeat(8000)).expect("it is connected");
        let large = "x".repeat(16_000);
        // Without a pause between them on a single thread.
        while let Err(EmitError::OutboxFull) = socket.emit("second", &large) {
            socket.drained().await;
        }
    });
    assert!(client.next().await.expect("it leaves").starts_with("42[\"first\""));
    assert!(client.next().await.expect("it leaves").starts_with("42[\"second\""));
    emitting.await.expect("no panic");
}
