//! Catch-alls of incoming and outgoing events, and middlewares of events.
//! FEATURES B4 (`onAny …`, `onAnyOutgoing …`, `use((event,next))`), H 51.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Serialize, Serializer};
use sockeye::{
    Ack, Args, Binary, Data, EventName, HandlerError, Outgoing, RawArgs, Server, Socket, with,
};

use crate::support::{Host, Polling, Record, WebSocket, only_socket, reporting, until_empty};

/// A catch-all that writes down its word, the event and its arguments.
macro_rules! any {
    ($whose:expr, $add:ident, $record:expr, $word:expr) => {
        $whose.$add(with(
            ($record.clone(), $word),
            async |(r, word): (Record, &str), EventName(name): EventName, args: RawArgs| {
                tokio::task::yield_now().await;
                r.add(&format!("{word} {name} {}", args.0.raw()));
            },
        ))
    };
}

/// A middleware that writes down its word, and refuses what is not a small number.
macro_rules! judge {
    ($whose:expr, $record:expr, $word:expr) => {
        $whose.event_middleware(with(
            ($record.clone(), $word),
            async |(r, word): (Record, &str), Data(number): Data<u8>| {
                tokio::time::sleep(Duration::from_millis(number.into())).await;
                r.add(word);
                if number > 9 { Err(HandlerError::new("too_large", word)) } else { Ok(()) }
            },
        ))
    };
}

async fn answer(client: &mut WebSocket, packet: &str) -> String {
    client.send(packet).await;
    client.next().await.expect("an answer")
}

#[tokio::test(start_paused = true)]
async fn b4_catch_alls_see_every_event_before_middlewares_and_listeners() {
    let (io, record) = (Server::default(), Record::default());
    let host = Host::in_memory(io.clone());
    let mut client = WebSocket::join(&host).await;
    let socket = only_socket(&io);
    any!(socket, on_any, record, "socket");
    any!(socket, prepend_any, record, "socket first");
    let kept = any!(io, on_any, record, "namespace");
    any!(io, prepend_any, record, "namespace first");
    judge!(socket, record, "judge");
    socket.on("event", with(record.clone(), async |record: Record| record.add("heard")));
    let all = ["namespace first", "namespace", "socket first", "socket"];
    let seen = |event: &str| all.map(|word| format!("{word} {event}")).to_vec();

    assert_eq!(answer(&mut client, "420[\"event\",1]").await, "430[]");
    assert_eq!(record.take(), [seen("event 1"), vec!["judge".into(), "heard".into()]].concat());
    // Also what is refused, and what nobody listens to.
    assert!(answer(&mut client, "421[\"event\",10,\"x\"]").await.contains("too_large"));
    assert_eq!(record.take(), [seen("event 10,\"x\""), vec!["judge".into()]].concat());
    client.send("42[\"unheard\",2]").await;
    assert_eq!(answer(&mut client, "422[\"event\",3]").await, "432[]");
    assert_eq!(record.take()[..5], [seen("unheard 2"), vec!["judge".into()]].concat());

    assert_eq!(socket.off_any(), 2);
    assert!(io.off_listener(&kept));
    assert_eq!(answer(&mut client, "420[\"event\",1]").await, "430[]");
    assert_eq!(record.take(), ["namespace first event 1", "judge", "heard"]);
    assert_eq!((io.off_any(), io.off_any()), (1, 0));
    assert_eq!(answer(&mut client, "420[\"event\",1]").await, "430[]");
    assert_eq!(record.take(), ["judge", "heard"]);
}

#[tokio::test(start_paused = true)]
async fn b4_a_catch_all_that_fails_keeps_nobody_from_the_event() {
    let (io, record) = (Server::default(), Record::default());
    let reports = reporting(&io);
    io.on_any(async |Data(_): Data<u8>| {});
    io.on_any(async || panic!("on purpose"));
    io.on("event", with(record.clone(), async |record: Record| record.add("heard")));
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    assert_eq!(answer(&mut client, "429[\"event\",\"text\"]").await, "439[]");
    assert_eq!(record.all(), ["heard"]);
    assert_eq!(reports.take(), ["event: bad_arguments", "event: internal"]);
    // One that takes the acknowledgement has it.
    host.io.on_any(
        async |EventName(name): EventName, ack: Option<Ack>, Args(args): Args<Vec<String>>| {
            if let Some(ack) = ack.filter(|_| name == "taken") {
                ack.send(args.join("+")).expect("it is connected");
            }
        },
    );
    assert_eq!(answer(&mut client, "420[\"taken\",\"a\",\"b\"]").await, "430[\"a+b\"]");
    client.send("421[\"event\"]").await;
    assert_eq!(answer(&mut client, "422[\"taken\"]").await, "432[\"\"]", "one was not answered");
}

#[tokio::test(start_paused = true)]
async fn b4_middlewares_of_events_are_a_chain_that_keeps_the_order() {
    let (io, record) = (Server::default(), Record::default());
    let reports = reporting(&io);
    let host = Host::in_memory(io.clone());
    let mut client = WebSocket::join(&host).await;
    let socket = only_socket(&io);
    judge!(socket, record, "socket");
    judge!(io, record, "namespace 1");
    let last = judge!(io, record, "namespace 2");
    socket.on(
        "event",
        with(record.clone(), async |r: Record, Data(n): Data<u8>| {
            r.add(&n.to_string());
        }),
    );
    // The first waits longest; the others wait behind it.
    for number in [5, 200, 1] {
        client.send(&format!("42{number}[\"event\",{number}]")).await;
    }
    assert_eq!(client.next().await.as_deref(), Some("435[]"));
    let refusal =
        "43200[{\"status\":\"error\",\"code\":\"too_large\",\"message\":\"namespace 1\"}]";
    assert_eq!(client.next().await.as_deref(), Some(refusal));
    assert_eq!(client.next().await.as_deref(), Some("431[]"));
    let passed = ["namespace 1", "namespace 2", "socket"];
    let expected = [&passed[..], &["5", "namespace 1"], &passed, &["1"]].concat();
    assert_eq!(record.take(), expected);
    assert_eq!(reports.take(), ["event: too_large"]);
    // What it cannot read it refuses; what panics refuses too.
    assert!(answer(&mut client, "420[\"event\",\"text\"]").await.contains("bad_arguments"));
    assert_eq!(record.take(), [""; 0]);
    socket.event_middleware(async || -> Result<(), HandlerError> { panic!("on purpose") });
    assert!(answer(&mut client, "420[\"event\",1]").await.contains("internal"));
    assert_eq!(record.take(), passed);
    assert_eq!(reports.take(), ["event: bad_arguments", "event: internal"]);
    assert!(io.off_listener(&last) && !socket.off_listener(&last));
}

#[tokio::test(start_paused = true)]
async fn b4_an_event_reaches_the_listeners_that_there_are_behind_the_middlewares() {
    let (io, record) = (Server::default(), Record::default());
    let into = record.clone();
    io.event_middleware(with(into, async |record: Record, socket: Socket, name: EventName| {
        tokio::task::yield_now().await;
        match &*name.0 {
            "late" => {
                socket.once("late", with(record, async |record: Record| record.add("late")));
            }
            _ => socket.disconnect(false),
        }
        Ok::<_, HandlerError>(())
    }));
    io.on("gone", with(record.clone(), async |record: Record| record.add("gone")));
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    assert_eq!(answer(&mut client, "420[\"late\"]").await, "430[]");
    assert_eq!(answer(&mut client, "421[\"gone\"]").await, "41");
    drop(client);
    until_empty(&host.io).await;
    assert_eq!(record.all(), ["late"]);
}

/// Writes down each outgoing event: whose, its name, and its binary argument as it was emitted.
fn outgoing(record: &Record, word: &'static str) -> impl Fn(&Socket, &Outgoing<'_>) + use<> {
    let record = record.clone();
    move |socket, event| {
        assert!(!event.raw_args().raw().is_empty() || event.args().is_empty());
        let first: Option<Binary> = event.args().next().ok();
        let value =
            first.map_or_else(|| event.raw_args().raw().to_owned(), |b| format!("{:?}", b.0));
        let who = if socket.rooms().iter().any(|room| &**room == "b") { "b" } else { "a" };
        record.add(&format!("{word} {who} {} {value}", event.name()));
    }
}

#[tokio::test(start_paused = true)]
async fn h51_catch_alls_of_outgoing_events_see_what_is_emitted_itself() {
    let (io, record) = (Server::default(), Record::default());
    let host = Host::in_memory(io.clone());
    let mut a = WebSocket::join(&host).await;
    let first = only_socket(&io);
    let polling = Polling::join(&host).await;
    let second = io.of("/").sockets().into_iter().find(|s| s.id() != first.id()).expect("two");
    second.join("b");

    first.on_any_outgoing(outgoing(&record, "mine"));
    io.emit("all", (Binary::from(vec![1, 2]), "x")).expect("encoded");
    io.to("b").emit("not me", ()).expect("encoded");
    first.broadcast().emit("nor me", ()).expect("encoded");
    first.emit(7, "text").expect("it is connected");
    let bytes = format!("{:?}", bytes::Bytes::from_static(&[1, 2]));
    assert_eq!(record.take(), [format!("mine a all {bytes}"), "mine a 7 \"text\"".into()]);

    first.prepend_any_outgoing(outgoing(&record, "before"));
    let shared = io.on_any_outgoing(outgoing(&record, "namespace"));
    io.except("b").emit("e", 1).expect("encoded");
    second.volatile().emit("dropped", 2).expect("no GET waits");
    let expected = ["namespace a e 1", "before a e 1", "mine a e 1", "namespace b dropped 2"];
    assert_eq!(record.take(), expected);

    // Questions are events, answers are not.
    let question = first.timeout(Duration::from_secs(1));
    assert!(question.emit_with_ack::<()>("ask", 3).await.is_err());
    let asked = io.to("b").timeout(Duration::from_secs(1)).emit_with_ack::<()>("ask all", 4);
    drop(asked.expect("encoded"));
    io.on("event", async || {});
    a.send("420[\"event\"]").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let expected = ["namespace a ask 3", "before a ask 3", "mine a ask 3", "namespace b ask all 4"];
    assert_eq!(record.take(), expected);

    assert_eq!((first.off_any_outgoing(), io.off_listener(&shared)), (2, true));
    io.emit("unseen", ()).expect("encoded");
    assert!(record.take().is_empty());
    drop(polling);
}

#[tokio::test(start_paused = true)]
async fn b4_a_catch_all_of_outgoing_events_may_emit_and_may_panic() {
    let io = Server::default();
    let reports = reporting(&io);
    io.on_any_outgoing(|socket, event| match event.name() {
        "first" => socket.emit("before it", ()).expect("it is connected"),
        "second" => panic!("on purpose"),
        _ => {}
    });
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    host.io.emit("first", ()).expect("encoded");
    only_socket(&host.io).emit("second", ()).expect("it is connected");
    for expected in ["42[\"before it\"]", "42[\"first\"]", "42[\"second\"]"] {
        assert_eq!(client.next().await.as_deref(), Some(expected));
    }
    assert_eq!(reports.all(), ["second: internal"]);
}

thread_local! {
    /// How often a [`Counted`] has been written.
    static WRITTEN: Cell<usize> = const { Cell::new(0) };
}

struct Counted;

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WRITTEN.set(WRITTEN.get() + 1);
        serializer.serialize_str("counted")
    }
}

#[tokio::test(start_paused = true)]
async fn b4_a_broadcast_is_encoded_once_whoever_looks() {
    let io = Server::default();
    let host = Host::in_memory(io.clone());
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(WebSocket::join(&host).await);
    }
    let seen = Arc::new(AtomicUsize::new(0));
    for looking in [0, 1, 5] {
        io.off_any_outgoing();
        let sockets = io.of("/").sockets();
        for socket in sockets.iter().take(looking) {
            socket.off_any_outgoing();
            let seen = seen.clone();
            socket.on_any_outgoing(move |_, event| {
                assert_eq!(event.raw_args().raw(), "\"counted\"");
                seen.fetch_add(1, Ordering::Relaxed);
            });
        }
        WRITTEN.set(0);
        io.emit("event", &Counted).expect("encoded");
        assert_eq!((WRITTEN.get(), seen.swap(0, Ordering::Relaxed)), (1, looking));
        for client in &mut clients {
            assert_eq!(client.next().await.as_deref(), Some("42[\"event\",\"counted\"]"));
        }
    }
}
