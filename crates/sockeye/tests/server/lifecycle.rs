//! Hooks: several of them, their order, and what fails or panics in them.
//! FEATURES B4 (lifecycle events), H 46, H 60.

use std::time::Duration;

use sockeye::{Data, DisconnectReason, HandlerError, Server, Socket, with};

use crate::support::{Host, Record, WebSocket, only_socket, reporting, until_empty};

/// A hook that writes down its word, whether the socket is connected, and how many rooms it has.
macro_rules! hook {
    ($whose:expr, $add:ident, $record:expr, $word:expr) => {
        $whose.$add(with(
            ($record.clone(), $word),
            async |(record, word): (Record, &str), socket: Socket| {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let is = if socket.is_connected() { "connected" } else { "not connected" };
                record.add(&format!("{word}, {is}, {} rooms", socket.rooms().len()));
            },
        ))
    };
}

#[tokio::test(start_paused = true)]
async fn h60_several_hooks_run_in_their_order_the_namespaces_first() {
    let (io, record) = (Server::default(), Record::default());
    hook!(io, on_connection, record, "connection 1");
    let own = async |record: Record, socket: Socket| {
        socket.join("room");
        hook!(socket, on_disconnecting, record, "own disconnecting");
        hook!(socket, on_disconnect, record, "own disconnect 1");
        hook!(socket, on_disconnect, record, "own disconnect 2");
        socket.on(
            "event",
            with(record, async |record: Record| {
                tokio::time::sleep(Duration::from_secs(1)).await;
                record.add("event");
            }),
        );
    };
    io.on_connection(with(record.clone(), own));
    hook!(io, on_connection, record, "connection 2");
    hook!(io, on_disconnecting, record, "disconnecting 1");
    hook!(io, on_disconnecting, record, "disconnecting 2");
    let taken_off = hook!(io, on_disconnecting, record, "never");
    hook!(io, on_disconnect, record, "disconnect");
    assert!(io.off_listener(&taken_off));
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    // It comes while the hooks of the connection run.
    client.send("42[\"event\"]").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(client);
    until_empty(&host.io).await;
    let expected = [
        "connection 1, connected, 1 rooms",
        "connection 2, connected, 2 rooms",
        "event",
        "disconnecting 1, not connected, 2 rooms",
        "disconnecting 2, not connected, 2 rooms",
        "own disconnecting, not connected, 2 rooms",
        "disconnect, not connected, 0 rooms",
        "own disconnect 1, not connected, 0 rooms",
        "own disconnect 2, not connected, 0 rooms",
    ];
    assert_eq!(record.all(), expected);
}

#[tokio::test(start_paused = true)]
async fn hooks_that_fail_or_panic_are_reported_and_keep_no_other_from_running() {
    let (io, record) = (Server::default(), Record::default());
    let reports = reporting(&io);
    io.on_connection(async || panic!("on purpose"));
    io.on_connection(async || {
        tokio::task::yield_now().await;
        panic!("on purpose")
    });
    io.on_connection(async |_: sockeye::State<u8>| {});
    hook!(io, on_connection, record, "connection");
    io.on_disconnecting(async || {
        tokio::task::yield_now().await;
        panic!("on purpose")
    });
    hook!(io, on_disconnecting, record, "disconnecting");
    io.on_disconnect(|_: DisconnectReason| -> std::future::Ready<()> { panic!("on purpose") });
    hook!(io, on_disconnect, record, "disconnect");
    let host = Host::in_memory(io);
    let client = WebSocket::join(&host).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(client);
    until_empty(&host.io).await;
    let words: Vec<_> =
        record.all().iter().filter_map(|s| Some(s.split_once(',')?.0.to_owned())).collect();
    assert_eq!(words, ["connection", "disconnecting", "disconnect"]);
    let expected = [
        "connection: internal",
        "connection: internal",
        "connection: bad_arguments",
        "disconnecting: internal",
        "disconnect: internal",
    ];
    assert_eq!(reports.all(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_error_hook_that_panics_ends_nothing() {
    let io = Server::default();
    io.on_error(|_, _, _| panic!("in the error hook"));
    io.on("fails", async || Err::<(), _>(HandlerError::new("no", "no")));
    io.on("panics", async |_: Socket| -> () { panic!("on purpose") });
    io.on_any_outgoing(|_, event| assert_ne!(event.name(), "sent"));
    io.on("works", async |Data(n): Data<u8>| Ok::<_, HandlerError>(n));
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    for event in ["fails", "panics"] {
        client.send(&format!("420[\"{event}\"]")).await;
        assert!(client.next().await.expect("an answer").starts_with("430[{\"status\":\"error\""));
    }
    only_socket(&host.io).emit("sent", ()).expect("it is connected");
    assert_eq!(client.next().await.as_deref(), Some("42[\"sent\"]"));
    client.send("421[\"works\",5]").await;
    assert_eq!(client.next().await.as_deref(), Some("431[5]"));
}

/// Panics when it is dropped: a value that a handler holds.
#[derive(Clone)]
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in a drop");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_panics_when_it_is_dropped_ends_nothing() {
    let io = Server::default();
    // Its future holds a value that lives as long as it does.
    io.on("event", |Data(ms): Data<u64>| {
        let held = Fragile;
        Holds { _held: held, sleep: Box::pin(tokio::time::sleep(Duration::from_millis(ms))) }
    });
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    for ms in [0, 10] {
        client.send(&format!("42{ms}[\"event\",{ms}]")).await;
        assert_eq!(client.next().await, Some(format!("43{ms}[]")), "its result is there before");
    }
    // The connection is cut while it waits, and given up.
    client.send("42[\"event\",100000]").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(client);
    until_empty(&host.io).await;
}

struct Holds {
    _held: Fragile,
    sleep: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl Future for Holds {
    type Output = ();

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<()> {
        self.sleep.as_mut().poll(cx)
    }
}
