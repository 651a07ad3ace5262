//! What a node does with messages as they come from a bus, whoever sends them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use sockeye::cluster::{
    BroadcastOptions, ClusterBody, ClusterMessage, Envelope, InProcessCluster, NodeId, RequestId,
    SocketChange,
};
use sockeye::{ConnectionStateRecovery, RoomName, Server};
use sockeye_cluster_kit::{Client, until};

use crate::buses::Tapped;

fn message(sender: Option<&str>, body: ClusterBody) -> ClusterMessage {
    ClusterMessage { sender: sender.map(NodeId::new), namespace: "/".into(), body }
}

fn request() -> RequestId {
    RequestId::new("r1")
}

/// The only message that is for one node.
async fn answer(bus: &Tapped) -> Envelope {
    let answers = || bus.said().into_iter().filter(|envelope| envelope.to.is_some());
    until("there is an answer", || answers().count() == 1).await;
    answers().next().expect("it was counted")
}

#[tokio::test]
async fn what_only_the_classic_adapter_asks_is_answered() {
    let bus = Tapped::new(&InProcessCluster::new());
    let io = Server::builder().cluster(bus.clone()).build();
    let (ann, ben) = (Client::join(&io).await, Client::join(&io).await);
    io.to(ann.id()).sockets_join("room");
    let body = ClusterBody::ListRooms { request: request() };
    bus.node().receive(message(Some("another"), body));
    let Envelope { to, message: answered } = answer(&bus).await;
    assert_eq!(to, Some(NodeId::new("another")));
    let ClusterBody::ListRoomsResponse { request: id, rooms } = answered.body else { panic!() };
    let rooms: BTreeSet<&str> = rooms.iter().map(|room| &**room).collect();
    assert_eq!((id, rooms), (request(), [ann.id().as_str(), ben.id().as_str(), "room"].into()));

    let bus = Tapped::new(&InProcessCluster::new());
    let io = Server::builder().cluster(bus.clone()).build();
    let (ann, _ben) = (Client::join(&io).await, Client::join(&io).await);
    io.to(ann.id()).sockets_join("room");
    let body = ClusterBody::ListSockets { request: request(), rooms: vec!["room".into()] };
    bus.node().receive(message(Some("another"), body));
    let body = answer(&bus).await.message.body;
    let ClusterBody::ListSocketsResponse { sockets, .. } = body else { panic!() };
    assert_eq!(sockets, [ann.id()]);
}

#[tokio::test]
async fn h78_an_emitter_is_heard_and_is_no_node() {
    let bus = Tapped::new(&InProcessCluster::with_heartbeats(
        std::time::Duration::from_secs(5),
        std::time::Duration::from_secs(10),
    ));
    let io = Server::builder().cluster(bus.clone()).build();
    let client = Client::join(&io).await;
    let socket = io.of("/").socket(&client.id()).expect("it is connected");
    for (sender, room) in [(None, "a"), (Some(NodeId::EMITTER), "b")] {
        let options = BroadcastOptions::default();
        let body = ClusterBody::SocketsJoin { options, rooms: vec![room.into()] };
        bus.node().receive(message(sender, body));
        assert!(socket.is_in(room));
    }
    assert_eq!(io.node_count().await.expect("counted"), 1);
    bus.node().receive(message(Some("another"), ClusterBody::Heartbeat));
    assert_eq!(io.node_count().await.expect("counted"), 2);
    bus.node().receive(message(Some("another"), ClusterBody::Leave));
    assert_eq!(io.node_count().await.expect("counted"), 1);
}

#[tokio::test]
async fn what_is_not_for_us_does_nothing() {
    let bus = Tapped::new(&InProcessCluster::new());
    let io = Server::builder().cluster(bus.clone()).build();
    let client = Client::join(&io).await;
    let socket = io.of("/").socket(&client.id()).expect("it is connected");
    let join = |sender: &str, namespace: &str| {
        let options = BroadcastOptions::default();
        let body = ClusterBody::SocketsJoin { options, rooms: vec!["a".into()] };
        let sender = Some(NodeId::new(sender));
        ClusterMessage { sender, namespace: Arc::from(namespace), body }
    };
    let node = bus.node();
    node.receive(join(node.id().as_str(), "/"));
    node.receive(join("another", "/unknown"));
    assert!(!socket.is_in("a"));
    assert_eq!(io.namespaces().len(), 1, "other nodes make no namespaces here");
    for _ in 0..2 {
        let body = ClusterBody::BroadcastClientCount { request: request(), count: 3 };
        node.receive(message(Some("another"), body));
    }
    node.reject(&"garbage");
    let health = io.cluster_health().expect("it is in a cluster");
    assert_eq!((health.received, health.rejected, health.requests), (3, 1, 0));
    node.set_deaf(true);
    assert!(io.cluster_health().is_some_and(|health| health.is_deaf));
    drop(io);
    node.receive(join("another", "/"));
}

#[tokio::test]
async fn h83_hidden_headers_are_told_to_nobody() {
    let cluster = InProcessCluster::new();
    let io = Server::builder().cluster(cluster.bus()).build();
    let hiding = Server::builder().cluster_hidden_headers(["X-Kit"]).cluster(cluster.bus()).build();
    let client = Client::join(&hiding).await;
    for (io, is_there) in [(&io, false), (&hiding, true)] {
        let fetched = io.broadcast().fetch_sockets().await.expect("both answer");
        assert_eq!(fetched[0].id(), client.id());
        let headers = fetched[0].handshake().expect("it is one").headers;
        assert_eq!(headers.contains_key("x-kit"), is_there);
        assert!(headers.contains_key("host"));
        assert!(!format!("{fetched:?}").contains("localhost"));
    }
}

#[tokio::test]
async fn dynamic_namespaces_are_in_the_cluster_while_they_are_there() {
    let cluster = InProcessCluster::new();
    let nodes = [0, 1].map(|_| Server::builder().cluster(cluster.bus()).build());
    for io in &nodes {
        io.of_pattern("/room-{id}").expect("a pattern");
    }
    let mut ann = Client::join_namespace(&nodes[0], "/room-1", "null").await;
    let mut ben = Client::join_namespace(&nodes[1], "/room-1", "null").await;
    let room = nodes[0].of("/room-1");
    assert_eq!(room.node_count().await.expect("counted"), 2);
    room.emit("hello", ()).expect("sent");
    ann.expect(json!(["hello"])).await;
    ben.expect(json!(["hello"])).await;
    drop(ben);
    until("it is gone there", || nodes[1].namespaces().len() == 1).await;
    assert_eq!(room.node_count().await.expect("counted"), 1);
}

#[tokio::test]
async fn catch_alls_see_what_other_nodes_emit() {
    let cluster = InProcessCluster::new();
    let nodes = [0, 1].map(|_| Server::builder().cluster(cluster.bus()).build());
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let into = seen.clone();
    nodes[1].on_any_outgoing(move |_: &sockeye::Socket, event: &sockeye::Outgoing<'_>| {
        let args: Vec<Value> = event.args().rest().expect("JSON");
        into.lock().expect("no holder panics").push((event.name().to_owned(), args));
    });
    let mut client = Client::join(&nodes[1]).await;
    nodes[0].emit("e", (1, "x")).expect("sent");
    client.expect(json!(["e", 1, "x"])).await;
    let seen = seen.lock().expect("no holder panics").clone();
    assert_eq!(seen, [("e".to_owned(), vec![json!(1), json!("x")])]);
}

#[tokio::test]
async fn a_broadcast_is_wanted_where_somebody_is() {
    let bus = Tapped::new(&InProcessCluster::new());
    let io = Server::builder().cluster(bus.clone()).build();
    let node = bus.node();
    let wants = |namespace: &str, rooms: &[&str]| {
        let rooms: Vec<RoomName> = rooms.iter().map(|&room| room.into()).collect();
        node.wants_broadcast("other", namespace, &rooms)
    };
    assert!(!wants("/", &[]), "nobody is connected");
    let client = Client::join(&io).await;
    let socket = io.of("/").socket(&client.id()).expect("it is connected");
    socket.join("room");
    assert!(wants("/", &[]) && wants("/", &["room"]) && wants("/", &["empty", "room"]));
    assert!(wants("/", &[client.id().as_str()]), "a socket's own room");
    assert!(!wants("/", &["empty"]) && !wants("/elsewhere", &["room"]));
    assert!(!node.wants_broadcast(node.id().as_str(), "/", &["room".into()]), "its own");
    let received = || io.cluster_health().expect("it is in a cluster").received;
    assert_eq!(received(), 3, "what is not wanted has come all the same; what is its own has not");
    socket.leave("room");
    assert!(!wants("/", &["room"]));
}

#[tokio::test]
async fn what_is_kept_for_those_who_come_back_is_wanted() {
    let bus = Tapped::new(&InProcessCluster::new());
    let recovery = ConnectionStateRecovery::default();
    let builder = Server::builder().cluster(bus.clone()).connection_state_recovery(recovery);
    let io = builder.build();
    io.of("/");
    assert!(bus.node().wants_broadcast("other", "/", &["whose members are away".into()]));
}

#[tokio::test]
async fn one_socket_is_changed_by_who_has_it() {
    let cluster = InProcessCluster::new();
    let (bus, other) = (Tapped::new(&cluster), Tapped::new(&cluster));
    let io = Server::builder().cluster(bus.clone()).build();
    let _other = Server::builder().cluster(other.clone()).build();
    let mut client = Client::join(&io).await;
    let socket = io.of("/").socket(&client.id()).expect("it is connected");
    let change = |change| {
        let body = ClusterBody::ChangeSocket { request: request(), socket: socket.id(), change };
        for bus in [&other, &bus] {
            bus.node().receive(message(Some("older"), body.clone()));
        }
    };
    change(SocketChange::Join("room".into()));
    assert!(socket.is_in("room"));
    change(SocketChange::Leave("room".into()));
    assert!(!socket.is_in("room"));
    change(SocketChange::Disconnect { close: true });
    assert_eq!(client.next().await, None);
    let answers = || bus.said().into_iter().filter(|envelope| envelope.to.is_some());
    until("all are answered", || answers().count() == 3).await;
    for Envelope { to, message } in answers() {
        assert_eq!(to, Some(NodeId::new("older")));
        let ClusterBody::ChangeSocketResponse { request: id } = message.body else { panic!() };
        assert_eq!(id, request());
    }
    assert!(other.said().iter().all(|envelope| envelope.to.is_none()), "who has it not is silent");
}
