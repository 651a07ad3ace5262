//! Requests for sessions of another node, which is asked over the bus: what a client does through
//! a balancer that is not sticky is as if it spoke to its node, whichever node dies.
//! `interleavings.rs` has random scripts of it.

mod lost;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use sockeye::cluster::{
    BusError, BusFuture, ClusterBus, ClusterNode, Envelope, InProcessBus, InProcessCluster, Nodes,
    Offsets, Presence,
};
use sockeye::{Cors, Data, DisconnectReason, HandlerError, Server, ServerBuilder, Socket};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::support::{Host, Polling, Record, WebSocket, http as plain, only_socket, until};
use crate::support::{reporting, until_empty};

const UNKNOWN: &str = r#"{"code":1,"message":"Session ID unknown"}"#;

/// A bus within the process that can be made to hang, and to lose what is published.
#[derive(Clone)]
struct Bus {
    inner: InProcessBus,
    hangs: watch::Sender<bool>,
    loses: Arc<AtomicBool>,
    node: Arc<OnceLock<ClusterNode>>,
}

impl Bus {
    fn new(cluster: &InProcessCluster) -> Self {
        let hangs = watch::Sender::new(false);
        Self { inner: cluster.bus(), hangs, loses: Arc::default(), node: Arc::default() }
    }

    /// Says that its server hears nothing, or that it does.
    fn set_deaf(&self, is_deaf: bool) {
        self.node.get().expect("a server has it").set_deaf(is_deaf);
    }
}

impl ClusterBus for Bus {
    fn start(&self, node: ClusterNode) {
        self.node.get_or_init(|| node.clone());
        self.inner.start(node);
    }

    fn presence(&self) -> Presence {
        self.inner.presence()
    }

    fn subscribe(&self, namespace: &Arc<str>) {
        self.inner.subscribe(namespace);
    }

    fn unsubscribe(&self, namespace: &Arc<str>) {
        self.inner.unsubscribe(namespace);
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BusFuture<'a, Result<Offsets, BusError>> {
        Box::pin(async move {
            self.hangs.subscribe().wait_for(|hangs| !hangs).await.map_err(BusError::new)?;
            if self.loses.load(Ordering::Relaxed) {
                return Ok(Vec::new());
            }
            self.inner.publish(batch).await
        })
    }

    fn nodes<'a>(&'a self, namespace: &'a Arc<str>) -> BusFuture<'a, Result<Nodes, BusError>> {
        self.inner.nodes(namespace)
    }

    fn close(&self) -> BusFuture<'_, ()> {
        self.inner.close()
    }
}

/// Three nodes: `home` is where the sessions of the tests live.
struct Cluster {
    home: Host,
    b: Host,
    c: Host,
    /// In the same order.
    buses: [Bus; 3],
    ends: Record,
}

impl Cluster {
    fn new() -> Self {
        Self::with(&InProcessCluster::new(), |builder| builder)
    }

    fn with(cluster: &InProcessCluster, set: impl Fn(ServerBuilder) -> ServerBuilder) -> Self {
        let buses = [(); 3].map(|()| Bus::new(cluster));
        let [home, b, c] = buses.clone().map(|bus| {
            let io = set(Server::builder().cluster(bus).forward_requests(true)).build();
            Host::in_memory(io)
        });
        let ends = Record::default();
        let into = ends.clone();
        home.io.on_disconnect(move |reason: DisconnectReason| {
            into.add(reason.as_str());
            std::future::ready(())
        });
        home.io.on("echo", async |Data(text): Data<String>| Ok::<_, HandlerError>(text));
        Self { home, b, c, buses, ends }
    }

    /// A client whose each request comes to another node.
    fn balanced(&self) -> Host {
        Host::balanced(self.home.io.clone(), vec![self.b.io.clone(), self.c.io.clone()])
    }

    /// A session of `home`, each of whose requests has come to `b`.
    async fn join(&self) -> Polling {
        let client = Polling::open(&self.home).await.through(&self.b);
        assert_eq!(client.post("40").await, StatusCode::OK);
        assert!(client.get().await.expect("200")[0].starts_with("40{\"sid\":"));
        client
    }

    /// A request through `b` that gets no answer, as what one of the nodes says of it is lost.
    async fn unanswered(
        &self,
        loses: usize,
        method: Method,
        client: &Polling,
    ) -> tokio::task::JoinHandle<Response<bytes::Bytes>> {
        self.buses[loses].loses.store(true, Ordering::Relaxed);
        let (sid, through) = (client.sid.clone(), self.b.clone());
        // What is asked with a GET is there to be answered.
        let body = if method == Method::GET { "" } else { "42[\"lost\"]" };
        if method == Method::GET {
            self.home.io.emit("news", ()).expect("it can be written");
        }
        let asked =
            tokio::spawn(async move { send(&through, method, &sid, &[], body.into()).await });
        let health = |host: &Host| host.io.cluster_health().expect("it is in a cluster");
        until("it is on its way", || health(&self.b).forwarded == 1).await;
        let is_quiet = || [&self.home, &self.b].iter().all(|host| health(host).queue_bytes == 0);
        until("nothing more is said", is_quiet).await;
        self.buses[loses].loses.store(false, Ordering::Relaxed);
        asked
    }

    /// Waits for the end of the only session.
    async fn ended(&self, reason: DisconnectReason) {
        until_empty(&self.home.io).await;
        until("the hook has run", || !self.ends.all().is_empty()).await;
        assert_eq!(self.ends.take(), [reason.as_str()]);
        for host in [&self.home, &self.b, &self.c] {
            let health = || host.io.cluster_health().expect("it is in a cluster");
            until("nothing is under way", || health().forwarded == 0).await;
        }
    }
}

fn query(sid: &str) -> String {
    format!("EIO=4&transport=polling&sid={sid}")
}

async fn send(
    host: &Host,
    method: Method,
    sid: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Response<bytes::Bytes> {
    let mut request = Request::builder().method(method);
    request = request.uri(format!("/socket.io/?{}", query(sid))).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body).expect("a valid request");
    plain::send(host, request).await.expect("it is answered")
}

/// A GET that has begun to wait.
async fn waiting(
    client: &Polling,
    through: &Host,
) -> tokio::task::JoinHandle<Result<Vec<String>, StatusCode>> {
    let client = client.through(through);
    let get = tokio::spawn(async move { client.get().await });
    let health = || through.io.cluster_health().expect("it is in a cluster");
    until("the GET is forwarded", || health().forwarded > 0).await;
    get
}

#[tokio::test(start_paused = true)]
async fn events_acknowledgements_and_binary_data_pass() {
    let cluster = Cluster::new();
    let io = &cluster.home.io;
    let reports = reporting(io);
    io.on("binary", async |socket: Socket, Data(data): Data<sockeye::Binary>| {
        socket.emit("back", (&data, "and", &data))
    });
    let client = Polling::join(&cluster.balanced()).await;
    for number in 0..10 {
        let packet = format!("42{number}[\"echo\",\"ü {number}\"]");
        assert_eq!(client.post(&packet).await, StatusCode::OK);
        let answer = client.get().await.expect("200");
        assert_eq!(answer, [format!("43{number}[\"ü {number}\"]")]);
    }
    let placeholder = |number| format!(r#"{{"_placeholder":true,"num":{number}}}"#);
    let binary = format!("451-[\"binary\",{}]", placeholder(0));
    assert_eq!(client.post_all(&[binary, "bAAEC/w==".into()]).await, StatusCode::OK);
    let back = format!("452-[\"back\",{},\"and\",{}]", placeholder(0), placeholder(1));
    assert_eq!(client.get().await.expect("200"), [back.as_str(), "bAAEC/w==", "bAAEC/w=="]);
    let socket = only_socket(io);
    let limit = Duration::from_secs(9);
    let asked =
        tokio::spawn(async move { socket.timeout(limit).emit_with_ack::<u32>("ask", 1).await });
    assert_eq!(client.get().await.expect("200"), ["420[\"ask\",1]"]);
    assert_eq!(client.post("430[7]").await, StatusCode::OK);
    assert_eq!(asked.await.expect("no panic").expect("acknowledged"), 7);
    assert_eq!(client.post("41").await, StatusCode::OK);
    cluster_left(&cluster, &client).await;
    assert_eq!(reports.all(), [""; 0]);
}

/// The socket is gone, the session lives; the client closes it.
async fn cluster_left(cluster: &Cluster, client: &Polling) {
    until("the socket is gone", || cluster.home.io.of("/").socket_count() == 0).await;
    assert_eq!(cluster.home.io.session_count(), 1);
    assert_eq!(client.post("1").await, StatusCode::OK);
    cluster.ended(DisconnectReason::ClientNamespaceDisconnect).await;
}

#[tokio::test(start_paused = true)]
async fn a_get_waits_over_the_bus_from_ping_to_ping() {
    let cluster = Cluster::new();
    let client = cluster.join().await;
    let start = Instant::now();
    for number in 1..=4 {
        assert_eq!(client.get().await.expect("200"), ["2"]);
        assert_eq!(start.elapsed().as_secs(), 25 * number);
        assert_eq!(client.post("3").await, StatusCode::OK);
    }
    // The server closes: the GET that waits elsewhere is told.
    let get = waiting(&client, &cluster.c).await;
    only_socket(&cluster.home.io).disconnect(true);
    assert_eq!(get.await.expect("no panic").expect("200"), ["41"]);
    assert_eq!(client.get().await.expect("200"), ["1"]);
    cluster.ended(DisconnectReason::ServerNamespaceDisconnect).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_from_its_get_or_post_ends_its_session() {
    let cluster = Cluster::new();
    let client = cluster.join().await;
    let get = waiting(&client, &cluster.b).await;
    get.abort();
    cluster.ended(DisconnectReason::TransportError).await;

    let client = cluster.join().await;
    {
        use tokio::io::AsyncWriteExt;
        let mut stream = cluster.b.connect().await;
        let query = query(&client.sid);
        let head = format!(
            "POST /socket.io/?{query} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n42"
        );
        stream.write_all(head.as_bytes()).await.expect("it is read");
        let health = || cluster.b.io.cluster_health().expect("it is in a cluster");
        until("the POST has begun", || health().forwarded == 1).await;
    }
    cluster.ended(DisconnectReason::TransportError).await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_overlap_on_two_nodes_end_the_session() {
    let cluster = Cluster::new();
    for second in [&cluster.b, &cluster.c, &cluster.home] {
        let client = cluster.join().await;
        let get = waiting(&client, &cluster.b).await;
        let overlap = client.through(second).get().await;
        assert_eq!(overlap, Err(StatusCode::BAD_REQUEST));
        assert_eq!(get.await.expect("no panic").expect("200"), ["1"]);
        cluster.ended(DisconnectReason::TransportError).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_or_no_payload_is_refused_as_at_home() {
    let cluster =
        Cluster::with(&InProcessCluster::new(), |builder| builder.max_http_buffer_size(1000));
    let client = cluster.join().await;
    let large = format!("42[\"echo\",\"{}\"]", "x".repeat(2000));
    assert_eq!(client.post(&large).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(client.post("420[\"echo\",\"on\"]").await, StatusCode::OK);
    assert_eq!(client.get().await.expect("200"), ["430[\"on\"]"]);
    for (method, status) in [(Method::PUT, 500), (Method::DELETE, 500)] {
        let answer = send(&cluster.b, method, &client.sid, &[], String::new()).await;
        assert_eq!(answer.status(), status);
    }
    let mismatch = format!("EIO=3&transport=polling&sid={}", client.sid);
    let answer = plain::get(&cluster.b, &mismatch, &[]).await;
    assert_eq!(plain::text(&answer), r#"{"code":3,"message":"Bad request"}"#);
    let mismatch = format!("EIO=4&transport=websocket&sid={}", client.sid);
    let answer = plain::get(&cluster.b, &mismatch, &[]).await;
    assert_eq!(plain::text(&answer), r#"{"code":3,"message":"Bad request"}"#);
    // CVE-2026-59725
    let binary = [("content-type", "application/octet-stream")];
    let answer = send(&cluster.b, Method::POST, &client.sid, &binary, "4".into()).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    cluster.ended(DisconnectReason::TransportError).await;
}

#[tokio::test(start_paused = true)]
async fn an_id_of_nobody_is_refused_at_once() {
    let cluster = Cluster::new();
    // Until the nodes know each other.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let client = cluster.join().await;
    let start = Instant::now();
    let (_, tag) = client.sid.split_at(16);
    for sid in ["AAAAAAAAAAAAAAAAAAAA", "__proto__", &format!("AAAAAAAAAAAAAAAA{tag}")] {
        for (host, is_home) in [(&cluster.home, true), (&cluster.b, false)] {
            for method in [Method::GET, Method::POST] {
                let answer = send(host, method, sid, &[], String::new()).await;
                assert_eq!((answer.status().as_u16(), plain::text(&answer)), (400, UNKNOWN));
            }
            let upgrade = format!("EIO=4&transport=websocket&sid={sid}");
            let status = plain::upgrade(host, &upgrade, &[]).await.status();
            let may_be_elsewhere = sid.ends_with(tag) && !is_home;
            assert_eq!(status, if may_be_elsewhere { 404 } else { 400 });
        }
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(client.post("1").await, StatusCode::OK);
    cluster.ended(DisconnectReason::TransportClose).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_option_another_node_knows_nothing() {
    let inner = InProcessCluster::new();
    let cluster = Cluster::with(&inner, |builder| builder);
    let alone = Host::in_memory(Server::builder().cluster(inner.bus()).build());
    let client = cluster.join().await;
    assert_eq!(client.through(&alone).get().await, Err(StatusCode::BAD_REQUEST));
    let other = Polling::join(&alone).await;
    assert_eq!(other.through(&cluster.b).post("3").await, StatusCode::BAD_REQUEST);
    assert_eq!(client.post("1").await, StatusCode::OK);
    cluster.ended(DisconnectReason::TransportClose).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_just_come_waits_until_it_knows_the_others() {
    let inner = InProcessCluster::new();
    let cluster = Cluster::with(&inner, |builder| builder);
    let client = cluster.join().await;
    let bus = Bus::new(&inner);
    bus.hangs.send_replace(true);
    let late = Server::builder().cluster(bus.clone()).forward_requests(true).build();
    let late = client.through(&Host::in_memory(late));
    let post = tokio::spawn(async move { late.post("420[\"echo\",\"early\"]").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!post.is_finished());
    bus.hangs.send_replace(false);
    assert_eq!(post.await.expect("no panic"), StatusCode::OK);
    assert_eq!(client.get().await.expect("200"), ["430[\"early\"]"]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_ids_finds_its_limit() {
    let cluster = Cluster::with(&InProcessCluster::new(), |builder| {
        builder.forwarded_requests_max(2).forwarded_bytes_max(1000)
    });
    let clients = [cluster.join().await, cluster.join().await, cluster.join().await];
    let [first, second, third] = &clients;
    let gets = [waiting(first, &cluster.b).await, waiting(second, &cluster.b).await];
    let health = || cluster.b.io.cluster_health().expect("it is in a cluster");
    until("both wait", || health().forwarded == 2).await;
    assert_eq!(third.get().await, Err(StatusCode::SERVICE_UNAVAILABLE));
    let sids = [third.sid.as_str(), "AAAAAAAAAAAAAAAAAAAA"];
    for sid in sids {
        let answer = send(&cluster.b, Method::POST, sid, &[], "3".into()).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(plain::text(&answer), "too many forwarded requests");
        assert_eq!(plain::header(&answer, "retry-after"), "5");
    }
    // Others, and this node's own sessions, do not notice.
    assert_eq!(third.through(&cluster.c).post("3").await, StatusCode::OK);
    Polling::join(&cluster.b).await;
    cluster.home.io.emit("go", ()).expect("sent");
    for get in gets {
        assert_eq!(get.await.expect("no panic").expect("200"), ["42[\"go\"]"]);
    }
    let large = format!("42[\"echo\",\"{}\"]", "x".repeat(1000));
    assert_eq!(third.post(&large).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(third.get().await.expect("200"), ["42[\"go\"]"]);
    assert_eq!(third.post("3").await, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn when_its_node_dies_a_get_is_answered_at_once() {
    let cluster = Cluster::new();
    let client = cluster.join().await;
    let get = waiting(&client, &cluster.b).await;
    let start = Instant::now();
    cluster.buses[0].inner.sever();
    assert_eq!(get.await.expect("no panic"), Err(StatusCode::BAD_REQUEST));
    let answer = send(&cluster.c, Method::GET, &client.sid, &[], String::new()).await;
    assert_eq!(plain::text(&answer), UNKNOWN);
    assert!(start.elapsed() < Duration::from_secs(3));
    // The client has gone as far as the session's node can tell.
    cluster.ended(DisconnectReason::TransportError).await;
}

#[tokio::test(start_paused = true)]
async fn where_the_bus_does_not_tell_a_dead_node_is_found_out() {
    let heartbeats = (Duration::from_secs(1), Duration::from_secs(1000));
    let inner = InProcessCluster::with_heartbeats(heartbeats.0, heartbeats.1);
    let cluster = Cluster::with(&inner, |builder| builder);
    let client = cluster.join().await;
    let get = waiting(&client, &cluster.b).await;
    let start = Instant::now();
    cluster.buses[0].inner.sever();
    assert_eq!(get.await.expect("no panic"), Err(StatusCode::BAD_REQUEST));
    assert!((7..=10).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    cluster.ended(DisconnectReason::TransportError).await;
}

#[tokio::test(start_paused = true)]
async fn when_the_node_that_a_client_speaks_to_dies_its_session_ends() {
    let cluster = Cluster::new();
    let client = cluster.join().await;
    let get = waiting(&client, &cluster.b).await;
    let bystander = cluster.join().await.through(&cluster.c);
    cluster.buses[1].inner.sever();
    assert_eq!(get.await.expect("no panic"), Err(StatusCode::SERVICE_UNAVAILABLE));
    until("the session has ended", || cluster.home.io.session_count() == 1).await;
    assert_eq!(cluster.ends.take(), ["transport error"]);
    // It hears nothing, so it cannot say that nobody has the session.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let answer = send(&cluster.b, Method::GET, &bystander.sid, &[], String::new()).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(plain::text(&answer), "the node of the session cannot be reached");
    assert_eq!(bystander.post("1").await, StatusCode::OK);
    cluster.ended(DisconnectReason::TransportClose).await;
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_hangs_keeps_nobody_waiting() {
    let cluster = Cluster::with(&InProcessCluster::new(), |builder| {
        builder.cluster_publish_timeout(Duration::from_secs(3))
    });
    let client = cluster.join().await;
    let start = Instant::now();
    cluster.buses[1].hangs.send_replace(true);
    assert_eq!(client.post("3").await, StatusCode::SERVICE_UNAVAILABLE);
    assert!(start.elapsed() <= Duration::from_secs(6), "{:?}", start.elapsed());
    cluster.buses[1].hangs.send_replace(false);
    until("it works again", || {
        cluster.b.io.cluster_health().is_some_and(|health| health.queue_bytes == 0)
    })
    .await;
    assert_eq!(client.post("420[\"echo\",\"on\"]").await, StatusCode::OK);
    assert_eq!(client.get().await.expect("200"), ["430[\"on\"]"]);
    // Who cannot be heard is as good as dead.
    cluster.buses[0].hangs.send_replace(true);
    let start = Instant::now();
    assert_eq!(client.post("3").await, StatusCode::BAD_REQUEST);
    assert!(start.elapsed() <= Duration::from_secs(11), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_came_to_nobody_fails_when_its_node_hears_again() {
    for method in [Method::GET, Method::POST] {
        let cluster = Cluster::new();
        let client = cluster.join().await;
        let start = Instant::now();
        cluster.buses[0].set_deaf(true);
        let answer = cluster.unanswered(1, method, &client).await;
        cluster.buses[0].set_deaf(false);
        let answer = answer.await.expect("no panic");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        cluster.ended(DisconnectReason::TransportError).await;
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_without_hearing_the_answer_fails_when_it_is_heard_again() {
    for method in [Method::GET, Method::POST] {
        let cluster = Cluster::new();
        let client = cluster.join().await;
        let start = Instant::now();
        cluster.buses[1].set_deaf(true);
        let answer = cluster.unanswered(0, method, &client).await;
        cluster.buses[1].set_deaf(false);
        let answer = answer.await.expect("no panic");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        cluster.ended(DisconnectReason::TransportError).await;
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_goes_to_the_session_s_node_or_the_client_stays() {
    let cluster = Cluster::new();
    let client = cluster.join().await;
    for host in [&cluster.b, &cluster.c] {
        let refused = WebSocket::open(host, &client.sid).await.err();
        assert_eq!(refused.as_deref(), Some("404"));
    }
    assert_eq!(client.post("420[\"echo\",\"on\"]").await, StatusCode::OK);
    assert_eq!(client.get().await.expect("200"), ["430[\"on\"]"]);
    let get = waiting(&client, &cluster.b).await;
    let mut socket = WebSocket::open(&cluster.home, &client.sid).await.expect("101");
    socket.send("2probe").await;
    assert_eq!(socket.next().await.as_deref(), Some("3probe"));
    assert_eq!(get.await.expect("no panic").expect("200"), ["6"]);
    socket.send("5").await;
    socket.send("421[\"echo\",\"over\"]").await;
    assert_eq!(socket.next().await.as_deref(), Some("431[\"over\"]"));
    let answer = plain::get(&cluster.b, &query(&client.sid), &[]).await;
    assert_eq!(plain::text(&answer), r#"{"code":3,"message":"Bad request"}"#);
}

#[tokio::test(start_paused = true)]
async fn the_node_that_is_asked_dresses_the_answer() {
    let cluster = Cluster::with(&InProcessCluster::new(), |builder| {
        builder.cors(Cors::origin("http://page.example"))
    });
    let client = cluster.join().await;
    let long = "x".repeat(3000);
    only_socket(&cluster.home.io).emit("long", &long).expect("sent");
    let headers = [("origin", "http://page.example"), ("accept-encoding", "gzip")];
    let answer = send(&cluster.b, Method::GET, &client.sid, &headers, String::new()).await;
    assert_eq!(plain::header(&answer, "content-encoding"), "gzip");
    assert_eq!(plain::header(&answer, "access-control-allow-origin"), "http://page.example");
    assert_eq!(plain::header(&answer, "cache-control"), "no-store");
    let foreign = [("origin", "http://evil.example")];
    let answer = send(&cluster.b, Method::GET, &client.sid, &foreign, String::new()).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    only_socket(&cluster.home.io).compress(false).emit("long", &long).expect("sent");
    let answer = send(&cluster.b, Method::GET, &client.sid, &headers, String::new()).await;
    assert_eq!(plain::header(&answer, "content-encoding"), "");
    assert_eq!(plain::text(&answer), format!("42[\"long\",\"{long}\"]"));
    let answer = send(&cluster.b, Method::POST, &client.sid, &headers, "3".into()).await;
    assert_eq!((answer.status().as_u16(), plain::text(&answer)), (200, "ok"));
    assert_eq!(plain::header(&answer, "content-type"), "text/html");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ends_hands_its_clients_over() {
    let cluster = Cluster::new();
    let client = cluster.join().await;
    let get = waiting(&client, &cluster.b).await;
    let start = Instant::now();
    assert!(cluster.b.io.shutdown(Duration::from_secs(60)).await);
    assert_eq!(get.await.expect("no panic").expect("200"), ["6"]);
    assert!(start.elapsed() < Duration::from_secs(1));
    // It cannot be asked any more, which is no word on the session.
    assert_eq!(client.post("3").await, StatusCode::SERVICE_UNAVAILABLE);
    let client = client.through(&cluster.c);
    let get = waiting(&client, &cluster.c).await;
    assert!(cluster.home.io.shutdown(Duration::from_secs(60)).await);
    assert_eq!(get.await.expect("no panic").expect("200"), ["1"]);
    assert_eq!(client.get().await, Err(StatusCode::BAD_REQUEST));
    cluster.ended(DisconnectReason::ServerShuttingDown).await;
}

#[tokio::test(start_paused = true)]
async fn clients_of_revision_3_are_forwarded_too() {
    let cluster = Cluster::with(&InProcessCluster::new(), |builder| builder.allow_eio3(true));
    let opened = plain::get(&cluster.home, "EIO=3&transport=polling", &[]).await;
    let opened = plain::text(&opened).to_owned();
    let (_, behind) = opened.split_once("\"sid\":\"").expect("a session");
    let query = format!("EIO=3&transport=polling&sid={}", &behind[..20]);
    only_socket(&cluster.home.io).emit("bytes", sockeye::Binary::from(vec![1, 2])).expect("sent");
    let answer = plain::get(&cluster.b, &query, &[]).await;
    assert_eq!(plain::header(&answer, "content-type"), "application/octet-stream");
    assert_eq!(answer.status(), StatusCode::OK);
}
