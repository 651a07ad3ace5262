//! permessage-deflate: what is agreed, that messages arrive as they were, next to whatever other
//! connections, and that what a client makes us inflate is bounded. FEATURES A1, A9, E4.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sockeye::cluster::InProcessCluster;
use sockeye::parser::{Message, MultiplexerLimits, Packet, PacketKind, PacketParser, Violation};
use sockeye::{
    Binary, Data, EncodeError, OutboxPolicy, Parser, PerMessageDeflate, Server, ServerBuilder,
    State, WindowBits,
};
use tokio::sync::Semaphore;

use crate::support::{Host, Polling, WebSocket, http, only_socket, until, until_empty};

const OFFER: &str = "permessage-deflate; client_max_window_bits";

fn bits(bits: u8) -> WindowBits {
    WindowBits::new(bits).expect("8 to 15")
}

fn with_contexts(window: u8) -> PerMessageDeflate {
    PerMessageDeflate {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: bits(window),
        ..PerMessageDeflate::default()
    }
}

fn compressing() -> ServerBuilder {
    Server::builder().per_message_deflate(Some(PerMessageDeflate::default()))
}

/// A client that offers what is in `offer` and has joined `/`, perhaps by an upgrade.
async fn join(host: &Host, offer: PerMessageDeflate, upgrade: bool) -> WebSocket {
    if upgrade {
        let polling = Polling::join(host).await;
        let query = format!("&sid={}", polling.sid);
        let mut client = WebSocket::open_deflated(host, &query, offer).await.expect("a 101");
        client.send("2probe").await;
        assert_eq!(client.next().await.as_deref(), Some("3probe"));
        client.send("5").await;
        return client;
    }
    let mut client = WebSocket::open_deflated(host, "", offer).await.expect("a 101");
    assert!(client.next().await.expect("the open packet").starts_with('0'));
    client.send("40").await;
    assert!(client.next().await.expect("the CONNECT").starts_with("40"));
    client
}

/// Text that compresses well, and differs from other numbers' all over.
fn text(number: usize, len: usize) -> String {
    (0..len).map(|at| char::from(b'a' + ((at * (number + 3)) % 17) as u8)).collect()
}

/// Text that does not, so that it fills whatever is between the server and a slow client.
fn noise(number: usize) -> String {
    let mut state = number as u64 + 1;
    let letters = std::iter::repeat_with(|| {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + (state >> 32) as u8 % 26)
    });
    letters.take(400).collect()
}

#[tokio::test(start_paused = true)]
async fn it_is_agreed_to_where_the_server_is_told_to_and_the_client_offers_it() {
    let ask = async |io: Server, offer: &str| {
        let host = Host::in_memory(io);
        let query = "EIO=4&transport=websocket";
        let direct = http::upgrade(&host, query, &[("sec-websocket-extensions", offer)]).await;
        let sid = Polling::open(&host).await.sid;
        let query = format!("{query}&sid={sid}");
        let upgrade = http::upgrade(&host, &query, &[("sec-websocket-extensions", offer)]).await;
        let name = "sec-websocket-extensions";
        assert_eq!(http::header(&direct, name), http::header(&upgrade, name));
        http::header(&direct, name).to_owned()
    };
    assert_eq!(ask(Server::default(), OFFER).await, "", "off by default");
    assert_eq!(ask(compressing().build(), "x-other").await, "");
    assert_eq!(
        ask(compressing().build(), OFFER).await,
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    );
    let contexts = || Server::builder().per_message_deflate(Some(with_contexts(12))).build();
    assert_eq!(ask(contexts(), OFFER).await, "permessage-deflate; server_max_window_bits=12");
    // A client that remembers nothing is granted that.
    let offer = "permessage-deflate; server_no_context_takeover; server_max_window_bits=10";
    assert_eq!(
        ask(contexts(), offer).await,
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=10"
    );
}

/// Everyone gets the same in the same order: those with contexts, with small windows, without
/// compression; what is for all, for one, short, long, binary, not to be compressed.
async fn everyone_gets_the_same(host: Host) {
    let small =
        PerMessageDeflate { server_max_window_bits: bits(9), ..PerMessageDeflate::default() };
    let mut clients = vec![WebSocket::join(&host).await];
    for offer in [PerMessageDeflate::default(), small, with_contexts(15), with_contexts(10)] {
        for upgrade in [false, true] {
            clients.push(join(&host, offer, upgrade).await);
        }
    }
    until("all have joined", || host.io.of("/").sockets().len() == clients.len()).await;
    let sockets = host.io.of("/").sockets();
    let mut expected = Vec::new();
    for number in 0..60 {
        let long = text(number, 3000 + 40 * number);
        host.io.emit("all", &long).expect("encoded");
        expected.push(format!("42[\"all\",\"{long}\"]"));
        for socket in &sockets {
            socket.emit("one", (number, "short")).expect("connected");
            socket.emit("one", &long[..1500]).expect("connected");
            socket.compress(false).emit("raw", &long[..1200]).expect("connected");
        }
        expected.push(format!("42[\"one\",{number},\"short\"]"));
        expected.push(format!("42[\"one\",\"{}\"]", &long[..1500]));
        expected.push(format!("42[\"raw\",\"{}\"]", &long[..1200]));
        host.io.broadcast().compress(false).emit("few", number).expect("encoded");
        expected.push(format!("42[\"few\",{number}]"));
        host.io.emit("data", Binary::from(vec![number as u8; 2000])).expect("encoded");
        expected.push("451-[\"data\",{\"_placeholder\":true,\"num\":0}]".into());
        if number % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for client in &mut clients {
        for packet in &expected {
            assert_eq!(client.next().await.as_ref(), Some(packet));
        }
        client.send("42[\"done\"]").await;
        assert_eq!(client.next().await.as_deref(), Some("42[\"done\"]"));
        assert_eq!(client.attachments, [2000; 60]);
    }
    let plain = clients[0].bytes;
    for client in &clients[1..] {
        assert!(client.bytes < plain * 2 / 3, "{} of {plain}", client.bytes);
    }
    drop(clients);
    until_empty(&host.io).await;
}

fn answering(options: PerMessageDeflate) -> Server {
    // Real streams are slow where the machine is busy, and these clients answer no pings.
    let ping_interval = std::time::Duration::from_secs(600);
    let options = Some(options);
    let io = Server::builder().per_message_deflate(options).ping_interval(ping_interval).build();
    io.on("done", async |socket: sockeye::Socket| drop(socket.emit("done", ())));
    io
}

#[tokio::test(start_paused = true)]
async fn everyone_gets_the_same_over_foreign_streams() {
    for options in [PerMessageDeflate::default(), with_contexts(15), with_contexts(9)] {
        everyone_gets_the_same(Host::in_memory(answering(options))).await;
    }
}

#[tokio::test]
async fn everyone_gets_the_same_over_tcp() {
    for options in [PerMessageDeflate::default(), with_contexts(15), with_contexts(9)] {
        everyone_gets_the_same(Host::on_loopback(answering(options)).await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_clients_compress_arrives_as_it_was() {
    let io = Server::builder().per_message_deflate(Some(with_contexts(15))).build();
    io.on("echo", async |Data(text): Data<String>| Ok::<_, sockeye::HandlerError>(text));
    let host = Host::in_memory(io);
    for offer in [with_contexts(15), PerMessageDeflate::default()] {
        let mut client = join(&host, offer, false).await;
        for number in 0..30 {
            let text = text(number, 10 + 300 * number);
            client.send(&format!("42{number}[\"echo\",\"{text}\"]")).await;
            assert_eq!(client.next().await, Some(format!("43{number}[\"{text}\"]")));
        }
    }
}

/// What a slow client with a context does not get must not be what later packets refer to.
async fn what_is_dropped_is_not_referred_to(host: Host) {
    let mut client = join(&host, with_contexts(15), false).await;
    let socket = only_socket(&host.io);
    for number in 0..2000 {
        let (text, noise) = (text(number, 1000), noise(number));
        let data = (number, &*text, &*noise);
        socket.emit("n", data).expect("connected");
        socket.conflate("latest").emit("latest", data).expect("connected");
        if number % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let last = text(1999, 1000);
    let (mut before, mut count, mut has_latest) = (-1, 0, false);
    while before < 1999 || !has_latest {
        let packet = client.next().await.expect("it is not disconnected");
        let event: serde_json::Value = serde_json::from_str(&packet[2..]).expect("JSON");
        let number = event[1].as_i64().expect("a number");
        let at = number as usize;
        assert_eq!(event[2], text(at, 1000));
        assert_eq!(event[3], noise(at));
        if event[0] == "latest" {
            has_latest = number == 1999;
        } else {
            assert!(before < number, "in order");
            (before, count) = (number, count + 1);
        }
    }
    assert!(count < 2000, "some were dropped");
    socket.emit("n", (2000, &last)).expect("connected");
    let packet = client.next().await.expect("it goes on");
    assert!(packet.contains("[\"n\",") && packet.contains(&last[..]), "{packet}");
}

fn dropping() -> Server {
    let policy = OutboxPolicy::DropOldest;
    let builder = Server::builder().outbox_bytes_max(20_000).outbox_policy(policy);
    builder.per_message_deflate(Some(with_contexts(15))).build()
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_is_not_referred_to_over_foreign_streams() {
    what_is_dropped_is_not_referred_to(Host::in_memory(dropping())).await;
}

#[tokio::test]
async fn what_is_dropped_is_not_referred_to_over_tcp() {
    what_is_dropped_is_not_referred_to(Host::on_loopback(dropping()).await).await;
}

#[tokio::test(start_paused = true)]
async fn h103_a_bomb_is_closed_with_1009_and_others_notice_nothing() {
    let host = Host::in_memory(compressing().max_http_buffer_size(100_000).build());
    let mut witness = join(&host, PerMessageDeflate::default(), false).await;
    let mut bomb = join(&host, PerMessageDeflate::default(), false).await;
    bomb.send(&format!("42[\"e\",\"{}\"]", "0".repeat(10_000_000))).await;
    assert_eq!(bomb.next().await, None);
    assert_eq!(bomb.close_code(), Some(1009));
    until("it has gone", || host.io.of("/").sockets().len() == 1).await;
    host.io.emit("e", 1).expect("encoded");
    assert_eq!(witness.next().await.as_deref(), Some("42[\"e\",1]"));
}

#[tokio::test(start_paused = true)]
async fn events_that_wait_are_bounded_by_what_they_inflate_to() {
    let (gate, handled) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let builder = compressing().events_waiting_bytes_max(500_000);
    let io = builder.state((gate.clone(), handled.clone())).build();
    type Gate = (Arc<Semaphore>, Arc<AtomicUsize>);
    io.on("e", async |State((gate, handled)): State<Gate>, Data(text): Data<String>| {
        gate.acquire().await.expect("it stays open").forget();
        assert_eq!(text.len(), 100_000);
        handled.fetch_add(1, Ordering::SeqCst);
    });
    let host = Host::in_memory(io);
    let mut client = join(&host, PerMessageDeflate::default(), false).await;
    // Each of them is some 130 bytes on the wire.
    let event = format!("42[\"e\",\"{}\"]", "0".repeat(100_000));
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = sent.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..100 {
            client.send(&event).await;
            counting.fetch_add(1, Ordering::SeqCst);
        }
        client
    });
    until("the events wait", || sent.load(Ordering::SeqCst) >= 6).await;
    // However long it takes, no more of them are read than the stream holds.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let count = sent.load(Ordering::SeqCst);
    assert!(count <= 10, "{count}");
    gate.add_permits(100);
    until("all are handled", || handled.load(Ordering::SeqCst) == 100).await;
    sending.await.expect("it does not panic");
}

/// `c` is a CONNECT and anything else an event's JSON; counts what it reads.
#[derive(Debug)]
struct Counting(Arc<AtomicUsize>);

impl PacketParser for Counting {
    fn decode(
        &self,
        message: Message<'_>,
        _: MultiplexerLimits,
    ) -> Result<Packet<'static>, Violation> {
        let Message::Text(text) = message else { return Err(Violation::WrongParser) };
        self.0.fetch_add(1, Ordering::SeqCst);
        let is_connect = text == "c";
        let kind = if is_connect { PacketKind::Connect } else { PacketKind::Event };
        let json = if is_connect { String::new() } else { text.into_owned() };
        let namespace = "/".into();
        Ok(Packet { kind, namespace, id: None, json: json.into(), attachments: Vec::new() })
    }

    fn encode(&self, packet: &Packet<'_>) -> Result<Message<'static>, EncodeError> {
        Ok(Message::Text(packet.json.clone().into_owned().into()))
    }
}

#[tokio::test]
async fn events_that_come_with_the_upgrade_are_bounded_too() {
    const EVENTS: usize = 30;
    let (gate, read) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let handled = Arc::new(AtomicUsize::new(0));
    let builder = compressing().events_waiting_bytes_max(500_000);
    let builder = builder.parser(Parser::Custom(Arc::new(Counting(read.clone()))));
    let io = builder.state((gate.clone(), handled.clone())).build();
    type Gate = (Arc<Semaphore>, Arc<AtomicUsize>);
    io.on("e", async |State((gate, handled)): State<Gate>| {
        gate.acquire().await.expect("it stays open").forget();
        handled.fetch_add(1, Ordering::SeqCst);
    });
    let host = Host::on_loopback(io).await;
    let polling = Polling::open(&host).await;
    assert_eq!(polling.post("4c").await, 200);
    until("it has joined", || host.io.of("/").socket_count() == 1).await;
    read.store(0, Ordering::SeqCst);
    let query = format!("&sid={}", polling.sid);
    let opened = WebSocket::open_deflated(&host, &query, PerMessageDeflate::default()).await;
    let mut client = opened.expect("a 101");
    client.send("2probe").await;
    assert_eq!(client.next().await.as_deref(), Some("3probe"));
    // All of it is some 4 KB, which one read takes.
    let mut all = client.encode("5");
    let event = format!("4[\"e\",\"{}\"]", "0".repeat(100_000));
    (0..EVENTS).for_each(|_| all.extend(client.encode(&event)));
    client.write(&all).await;
    until("as many as may wait are read", || read.load(Ordering::SeqCst) >= 5).await;
    let count = read.load(Ordering::SeqCst);
    assert!(count <= 7, "{count}");
    gate.add_permits(EVENTS);
    until("all are handled", || handled.load(Ordering::SeqCst) == EVENTS).await;
}

#[tokio::test(start_paused = true)]
async fn h29_what_shall_not_be_compressed_is_not_over_either_transport() {
    let host = Host::in_memory(compressing().build());
    let polling = Polling::join(&host).await;
    let socket = only_socket(&host.io);
    let query = format!("EIO=4&transport=polling&sid={}", polling.sid);
    let text = text(1, 5000);
    for (compress, coding) in [(true, "gzip"), (false, "")] {
        socket.compress(compress).emit("e", &text).expect("connected");
        let answer = http::get(&host, &query, &[("accept-encoding", "gzip")]).await;
        assert_eq!(http::header(&answer, "content-encoding"), coding);
    }
    broadcasts_are_compressed_or_not(&host, &host.io).await;
    let cluster = InProcessCluster::new();
    let host = Host::in_memory(compressing().cluster(cluster.bus()).build());
    let other = Server::builder().cluster(cluster.bus()).build();
    broadcasts_are_compressed_or_not(&host, &other).await;
}

async fn broadcasts_are_compressed_or_not(host: &Host, sender: &Server) {
    let text = text(1, 5000);
    let mut client = join(host, PerMessageDeflate::default(), false).await;
    for (compress, bytes_max) in [(true, 1000), (false, 6000)] {
        let before = client.bytes;
        sender.broadcast().compress(compress).emit("e", &text).expect("encoded");
        assert_eq!(client.next().await, Some(format!("42[\"e\",\"{text}\"]")));
        let bytes = client.bytes - before;
        assert!(bytes <= bytes_max && (compress || bytes > 5000), "{bytes}");
    }
}
