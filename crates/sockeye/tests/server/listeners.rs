//! Listeners: several of one event, once, off, concurrent; who answers the acknowledgement.
//! FEATURES B4 (`on/once/off …`, ack dispatch), H 37, H 55.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sockeye::{
    Ack, Data, EventName, HandlerError, Listener, Rejection, Reply, Server, Socket, with,
};

use crate::support::{Host, Record, WebSocket, only_socket, until, until_empty};

/// Adds a listener to everything that has `on`, which writes `word` down.
macro_rules! on {
    ($whose:expr, $event:expr, $record:expr, $word:expr) => {
        $whose.on(
            $event,
            with(($record.clone(), $word), async |(r, word): (Record, &str)| {
                tokio::task::yield_now().await;
                r.add(word);
            }),
        )
    };
}

#[tokio::test(start_paused = true)]
async fn b4_listeners_run_in_their_order_those_of_the_namespace_first() {
    let (io, record) = (Server::default(), Record::default());
    on!(io, "event", record, "namespace 1");
    let into = record.clone();
    io.on_connection(with(into, async |record: Record, socket: Socket| {
        on!(socket, "event", record, "socket 1");
        socket.on("event", async |Data(number): Data<u8>| {
            Err::<(), _>(HandlerError::new("odd", format!("{number}")))
        });
        on!(socket, "event", record, "socket 2");
    }));
    on!(io, "event", record, "namespace 2");
    on!(io, "other", record, "other");
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    // The second event waits behind the first, and the other one behind both.
    for packet in ["42[\"event\",1]", "421[\"event\",2]", "42[\"other\"]"] {
        client.send(packet).await;
    }
    until("all is heard", || record.all().contains(&"other".into())).await;
    let once = ["namespace 1", "namespace 2", "socket 1", "socket 2"];
    assert_eq!(record.all(), [&once[..], &once, &["other"]].concat());
    let refusal = "431[{\"status\":\"error\",\"code\":\"odd\",\"message\":\"2\"}]";
    assert_eq!(client.next().await.as_deref(), Some(refusal));
}

#[tokio::test(start_paused = true)]
async fn b4_once_hears_one_event_and_off_takes_away() {
    let (io, record) = (Server::default(), Record::default());
    let host = Host::in_memory(io.clone());
    let mut client = WebSocket::join(&host).await;
    let socket = only_socket(&io);
    socket.once("event", with(record.clone(), async |record: Record| record.add("once")));
    let first: Listener = on!(socket, "event", record, "first");
    on!(socket, "event", record, "second");
    on!(socket, "event", record, "third");
    on!(socket, 7, record, "seven");
    assert_eq!((socket.listener_count("event"), socket.listener_count("7")), (4, 1));
    assert_eq!(socket.event_names(), ["event", "7"]);
    let event = async |client: &mut WebSocket, packet: &str| {
        client.send(packet).await;
        client.send("420[\"nobody\"]").await;
        client.send("429[\"sync\"]").await;
        assert_eq!(client.next().await.as_deref(), Some("439[]"));
        record.take()
    };
    socket.on("sync", async || {});
    let all = event(&mut client, "42[\"event\"]").await;
    assert_eq!(all, ["once", "first", "second", "third"]);
    assert_eq!(socket.listener_count("event"), 3);
    assert!(socket.off_listener(&first) && !socket.off_listener(&first));
    assert_eq!(event(&mut client, "42[\"event\"]").await, ["second", "third"]);
    // H37: numbers are names, in whatever form they come.
    assert_eq!(event(&mut client, "42[7]").await, ["seven"]);
    assert_eq!(event(&mut client, "42[\"7\"]").await, ["seven"]);
    assert_eq!((socket.off(7), socket.off(7), socket.off("event")), (1, 0, 2));
    assert_eq!(event(&mut client, "42[\"event\"]").await, [""; 0]);
    assert_eq!(socket.off_all(), 1, "what answers here");
    assert!(socket.event_names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn b4_once_of_a_namespace_hears_one_event_of_all_sockets() {
    let (io, record) = (Server::default(), Record::default());
    let into = record.clone();
    io.once(
        "event",
        with(into, async |record: Record, Data(text): Data<String>| {
            tokio::task::yield_now().await;
            record.add(&text);
        }),
    );
    let host = Host::in_memory(io);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(WebSocket::join(&host).await);
    }
    for client in &mut clients {
        client.send("42[\"event\",\"heard\"]").await;
    }
    host.io.on("sync", async || {});
    for client in &mut clients {
        client.send("421[\"sync\"]").await;
        assert_eq!(client.next().await.as_deref(), Some("431[]"));
    }
    assert_eq!(record.all(), ["heard"]);
}

#[tokio::test(start_paused = true)]
async fn b4_what_is_taken_off_while_an_event_is_handled_hears_that_event_still() {
    let (io, record) = (Server::default(), Record::default());
    io.on("event", async |socket: Socket| {
        tokio::task::yield_now().await;
        socket.off("event");
    });
    let host = Host::in_memory(io.clone());
    let mut client = WebSocket::join(&host).await;
    on!(only_socket(&io), "event", record, "heard");
    client.send("421[\"event\"]").await;
    assert_eq!(client.next().await.as_deref(), Some("431[]"));
    client.send("422[\"event\"]").await;
    assert_eq!(client.next().await.as_deref(), Some("432[]"));
    assert_eq!(record.all(), ["heard"]);
}

#[tokio::test(start_paused = true)]
async fn h55_of_several_listeners_one_answers() {
    let io = Server::default();
    type Add = fn(&Server, &'static str);
    let says_nothing: Add = |io, event| drop(io.on(event, async || {}));
    let is_well: Add = |io, event| drop(io.on(event, async || Ok::<_, HandlerError>(())));
    let replies: Add = |io, event| drop(io.on(event, async || Reply((1, 2))));
    let returns: Add = |io, event| {
        io.on(event, async || {
            tokio::task::yield_now().await;
            Ok::<_, HandlerError>(Reply(3))
        });
    };
    let fails: Add = |io, event| {
        io.on(event, async || Err::<(), _>(Rejection::new("no")));
    };
    let takes: Add = |io, event| {
        io.on(event, async |ack: Option<Ack>, socket: Socket| {
            let Some(ack) = ack else { return drop(socket.emit("not asked", ())) };
            tokio::spawn(async move { ack.send("by hand") });
        });
    };
    let ignores: Add = |io, event| drop(io.on(event, async |_: Ack| Reply("not this")));
    let concurrent: Add = |io, event| drop(io.on_concurrent(event, 2, async || {}));
    let no = "{\"status\":\"error\",\"code\":\"bad_arguments\",\"message\":\"no\"}";
    let cases: [(&'static str, &[Add], &str); 10] = [
        ("a", &[says_nothing, is_well], "430[]"),
        ("b", &[says_nothing, replies, returns], "430[1,2]"),
        ("c", &[is_well, returns, replies], "430[3]"),
        ("d", &[fails, replies], &format!("430[{no}]")),
        ("e", &[replies, fails], "430[1,2]"),
        ("f", &[says_nothing, takes, replies], "430[\"by hand\"]"),
        ("g", &[replies, takes], "430[1,2]|42[\"not asked\"]"),
        ("h", &[ignores, replies], ""),
        ("i", &[concurrent, replies], "430[]"),
        ("j", &[returns, concurrent], "430[3]"),
    ];
    for (event, adds, _) in cases {
        adds.iter().for_each(|add| add(&io, event));
    }
    io.on("end", async |socket: Socket| drop(socket.emit("end", ())));
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    for (event, _, expected) in cases {
        client.send(&format!("420[\"{event}\"]")).await;
        // What was answered in a task of its own is there by then.
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.send("42[\"end\"]").await;
        let mut heard = Vec::new();
        loop {
            match client.next().await.expect("it is connected") {
                end if end == "42[\"end\"]" => break,
                packet => heard.push(packet),
            }
        }
        assert_eq!(heard.join("|"), expected, "{event}");
    }
}

/// What runs of a concurrent listener: the numbers that began, and how each is ended.
#[derive(Clone, Default)]
struct Runs {
    record: Record,
    ends: Arc<Mutex<Vec<Option<tokio::sync::oneshot::Sender<()>>>>>,
}

impl Runs {
    async fn run(self, number: usize) -> usize {
        let (end, ended) = tokio::sync::oneshot::channel();
        self.record.add(&format!("begin {number}"));
        self.ends.lock().expect("no holder panics").push(Some(end));
        ended.await.expect("it is ended");
        self.record.add(&format!("end {number}"));
        number
    }

    fn end(&self, number: usize) {
        let end = self.ends.lock().expect("no holder panics")[number].take();
        end.expect("it runs").send(()).expect("it waits");
    }
}

#[tokio::test(start_paused = true)]
async fn b4_concurrent_listeners_begin_in_order_and_are_bounded() {
    let (io, runs) = (Server::default(), Runs::default());
    let run =
        async |runs: Runs, Data(number): Data<usize>| Ok::<_, HandlerError>(runs.run(number).await);
    io.on_concurrent("work", 2, with(runs.clone(), run));
    let record = runs.record.clone();
    on!(io, "work", record, "behind");
    on!(io, "other", record, "other");
    io.on_disconnecting(with(record.clone(), async |record: Record| record.add("disconnecting")));
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    // The clock moves when nothing else can.
    let all_that_can_be = async || {
        tokio::time::sleep(Duration::from_millis(1)).await;
        record.take()
    };
    for packet in ["420[\"work\",0]", "42[\"other\"]", "421[\"work\",1]", "42[\"other\"]"] {
        client.send(packet).await;
    }
    let begun = ["begin 0", "behind", "other", "begin 1", "behind", "other"];
    assert_eq!(all_that_can_be().await, begun);
    for packet in ["422[\"work\",2]", "42[\"other\"]"] {
        client.send(packet).await;
    }
    assert_eq!(all_that_can_be().await, [""; 0], "two run: the third waits, with all behind it");
    runs.end(1);
    assert_eq!(client.next().await.as_deref(), Some("431[1]"));
    assert_eq!(all_that_can_be().await, ["end 1", "begin 2", "behind", "other"]);
    // The client leaves: what came before is done before the hooks.
    client.send("41").await;
    assert_eq!(all_that_can_be().await, [""; 0]);
    runs.end(0);
    runs.end(2);
    until("the socket is gone", || host.io.of("/").socket_count() == 0).await;
    assert_eq!(record.take(), ["end 0", "end 2", "disconnecting"]);
}

#[tokio::test(start_paused = true)]
async fn b4_the_limit_of_a_concurrent_listener_is_each_sockets() {
    let (io, runs) = (Server::default(), Runs::default());
    let run = async |runs: Runs, Data(number): Data<usize>| {
        runs.run(number).await;
    };
    // No limit at all would be none: it is one.
    io.on_concurrent("work", 0, with(runs.clone(), run));
    let host = Host::in_memory(io);
    for number in [0, 1] {
        let mut client = WebSocket::join(&host).await;
        client.send(&format!("42[\"work\",{number}]")).await;
        client.send(&format!("42[\"work\",{}]", number + 2)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(runs.record.take(), [format!("begin {number}")]);
        // The connection is cut; what ran is dropped after the close timeout, and nothing is left.
        drop(client);
    }
    until_empty(&host.io).await;
    assert!(runs.record.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn b4_the_servers_disconnect_ends_the_event_that_is_handled() {
    let (io, record) = (Server::default(), Record::default());
    io.on("now", async |socket: Socket| socket.disconnect(false));
    io.on("later", async |socket: Socket| {
        socket.disconnect(false);
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    io.on("by others", async || tokio::time::sleep(Duration::from_secs(1)).await);
    for event in ["now", "later", "by others"] {
        on!(io, event, record, event);
    }
    let host = Host::in_memory(io);
    for event in ["now", "later", "by others"] {
        let mut client = WebSocket::join(&host).await;
        client.send(&format!("421[\"{event}\"]")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        host.io.broadcast().disconnect_sockets(false);
        assert_eq!(client.next().await.as_deref(), Some("41"), "no answer comes");
        until("the socket is gone", || host.io.of("/").socket_count() == 0).await;
    }
    assert_eq!(record.all(), [""; 0], "nothing comes behind");
}

fn add_holders(socket: &Socket, held: &Arc<()>) {
    let kept = with((socket.clone(), held.clone()), async |_: (Socket, Arc<()>)| {});
    socket.on("event", kept.clone());
    socket.on_any(kept.clone());
    socket.on_disconnect(kept);
    let (socket_too, held) = (socket.clone(), held.clone());
    socket.on_any_outgoing(move |_, _| {
        let _ = (&socket_too, &held);
    });
}

#[tokio::test(start_paused = true)]
async fn handlers_that_hold_their_socket_go_with_it() {
    let io = Server::default();
    let held = Arc::new(());
    let refuse = async |held: Arc<()>, socket: Socket, name: EventOnConnect| {
        add_holders(&socket, &held);
        let refused = socket.auth::<serde_json::Value>().is_ok_and(|auth| auth["no"] == true);
        if refused { Err(sockeye::ConnectError::new(name.0)) } else { Ok(()) }
    };
    io.middleware(with(held.clone(), refuse));
    let host = Host::in_memory(io.clone());
    // Refused by a middleware.
    let mut refused = WebSocket::open(&host, "").await.expect("a handshake");
    refused.next().await.expect("the open packet");
    refused.send("40{\"no\":true}").await;
    assert_eq!(refused.next().await.as_deref(), Some("44{\"message\":\"connection\"}"));
    assert_eq!(Arc::strong_count(&held), 2, "the middleware's own");
    // Gone, and listened to once more after that.
    let client = WebSocket::join(&host).await;
    let socket = only_socket(&io);
    assert_eq!(Arc::strong_count(&held), 6);
    drop((client, refused));
    until_empty(&io).await;
    add_holders(&socket, &held);
    assert_eq!(Arc::strong_count(&held), 2);
    assert!(socket.is_disconnected() && !socket.is_connected());
    assert_eq!(socket.listener_count("event"), 0);
}

/// The name that an extractor sees while a connection is admitted.
struct EventOnConnect(String);

impl sockeye::FromParts<sockeye::OnConnect> for EventOnConnect {
    fn from_parts(parts: &mut sockeye::Parts<'_>) -> Result<Self, Rejection> {
        Ok(Self(parts.event_name().to_owned()))
    }
}

#[tokio::test(start_paused = true)]
async fn b4_send_and_numbers_go_out_as_node_sends_them() {
    let io = Server::default();
    io.on("go", async |socket: Socket, EventName(name): EventName| {
        socket.send(&name)?;
        socket.emit(7, ("a", 1))?;
        socket.volatile().send(())?;
        socket.to("nobody").send(1)?;
        socket.namespace().send("all")?;
        socket.namespace().emit(-1, ())
    });
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    client.send("42[\"go\"]").await;
    for expected in ["42[\"message\",\"go\"]", "42[7,\"a\",1]", "42[\"message\",\"all\"]", "42[-1]"]
    {
        assert_eq!(client.next().await.as_deref(), Some(expected));
    }
    host.io.send(("one", 2)).expect("encoded");
    assert_eq!(client.next().await.as_deref(), Some("42[\"message\",\"one\",2]"));
}
