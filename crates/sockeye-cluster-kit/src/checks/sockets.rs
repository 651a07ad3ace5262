//! Sockets of other nodes: made to join, leave and go, looked at and spoken to.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use sockeye::{AckError, SocketId};

use super::broadcasts::join;
use crate::{Buses, Client, Cluster, until};

/// Both ways, one by its id and all of a room.
pub async fn remote_sockets_join_and_leave(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let clients = cluster.clients().await;
    for (from, to) in [(0, 1), (1, 0)] {
        let io = &cluster.nodes[from];
        let socket = cluster.nodes[to].of("/").socket(&clients[to].id()).expect("connected");
        io.to(clients[to].id()).sockets_join(["a", "b"]);
        until("it is in both", || socket.is_in("a") && socket.is_in("b")).await;
        io.to("a").sockets_join("c");
        until("it is in c", || socket.is_in("c")).await;
        io.to("a").except("c").sockets_leave("b");
        io.to("a").sockets_leave(["a", "c"]);
        until("it has left both", || !socket.is_in("a") && !socket.is_in("c")).await;
        assert!(socket.is_in("b"), "it was excepted");
        io.broadcast().sockets_leave("b");
        until("it has left b", || !socket.is_in("b")).await;
    }
}

/// The namespace only, or the connection too.
pub async fn remote_sockets_are_disconnected(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    for close in [false, true] {
        let mut clients = cluster.clients().await;
        join(&cluster, &clients[1], &["out"]).await;
        cluster.nodes[0].to("out").disconnect_sockets(close);
        assert_eq!(clients[1].next().await, None);
        let count = if close { 0 } else { 1 };
        until("sessions are as told", || cluster.nodes[1].session_count() == count).await;
        let mut stayed = clients.remove(0);
        cluster.nodes[1].to(stayed.id()).emit("still", ()).expect("sent");
        stayed.expect(json!(["still"])).await;
        drop((stayed, clients));
        until("all have gone", || cluster.nodes.iter().all(|io| io.session_count() == 0)).await;
    }
}

/// `local` is about this node's sockets.
pub async fn h68_local_acts_stay(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    let io = &cluster.nodes[0];
    io.broadcast().local().sockets_join("here");
    io.to("here").emit("in", ()).expect("sent");
    clients[0].expect(json!(["in"])).await;
    let here = io.broadcast().local().fetch_sockets().await.expect("nobody is asked");
    assert_eq!(ids(&here), [clients[0].id()].into());
    cluster.expect_no_more(&mut clients).await;
    io.broadcast().local().disconnect_sockets(true);
    assert_eq!(clients[0].next().await, None);
    let mut stayed = clients.pop().expect("two");
    io.emit("still", ()).expect("sent");
    stayed.expect(json!(["still"])).await;
}

/// Ids, rooms, data and handshake; by room, less an exception.
pub async fn sockets_of_all_nodes_are_fetched(buses: impl Buses) {
    let cluster = Cluster::of(buses, 3).await;
    let mut clients = Vec::new();
    for io in &cluster.nodes {
        clients.push(Client::join_namespace(io, "/", r#"{"token":"t"}"#).await);
    }
    let of_two = cluster.nodes[2].of("/").socket(&clients[2].id()).expect("connected");
    of_two.set_shared_data(&json!({"user": "ann", "n": [1, null]})).expect("JSON");
    join(&cluster, &clients[1], &["room"]).await;
    join(&cluster, &clients[2], &["room", "other"]).await;
    let all: BTreeSet<_> = clients.iter().map(Client::id).collect();
    for io in &cluster.nodes {
        let fetched = io.broadcast().fetch_sockets().await.expect("all nodes answer");
        assert_eq!(fetched.len(), 3);
        assert_eq!(ids(&fetched), all);
        let one = fetched.iter().find(|socket| socket.id() == of_two.id()).expect("it is there");
        let rooms: BTreeSet<&str> = one.rooms().iter().map(|room| &**room).collect();
        assert_eq!(rooms, [of_two.id().as_str(), "room", "other"].into());
        assert_eq!(one.data::<Value>().expect("JSON"), json!({"user": "ann", "n": [1, null]}));
        let handshake = one.handshake().expect("it is one");
        assert_eq!(handshake.auth, json!({"token": "t"}));
        assert_eq!(handshake.query["colour"], "blue");
        assert_eq!(handshake.headers["x-kit"], "yes");
        assert!(handshake.url.starts_with("/socket.io/?"), "{}", handshake.url);
        assert!(handshake.issued > 0 && handshake.time.contains("GMT"));
        let other = fetched.iter().find(|socket| socket.id() != of_two.id()).expect("it is there");
        assert_eq!(other.data::<Value>().expect("JSON"), json!({}));
        let fetched = io.to("room").except("other").fetch_sockets().await.expect("all answer");
        assert_eq!(ids(&fetched), [clients[1].id()].into());
        let none = io.to("nobody").fetch_sockets().await.expect("all answer");
        assert!(none.is_empty());
    }
}

/// Spoken to, asked, moved and disconnected.
pub async fn a_fetched_socket_can_be_used(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    for index in [0, 1] {
        let id = clients[index].id();
        let here = cluster.nodes[index].of("/").socket(&id).expect("connected");
        let fetched = cluster.nodes[0].to(id).fetch_sockets().await.expect("all nodes answer");
        let socket = &fetched[0];
        assert_eq!(socket.local().is_some(), index == 0);
        socket.emit("hello", "you").expect("sent");
        clients[index].expect(json!(["hello", "you"])).await;
        socket.join("room");
        until("it is in the room", || here.is_in("room")).await;
        socket.leave("room");
        until("it has left", || !here.is_in("room")).await;
        let client = &mut clients[index];
        let answering = async {
            let event = client.expect(json!(["ask"])).await;
            client.answer(&event, "[\"well\"]").await;
        };
        let asked = socket.timeout(Duration::from_secs(60)).emit_with_ack::<String>("ask", ());
        let (answer, ()) = tokio::join!(asked, answering);
        assert_eq!(answer.expect("it answers"), "well");
        let silence =
            socket.timeout(Duration::from_millis(300)).emit_with_ack::<u8>("ask", ()).await;
        assert!(matches!(silence, Err(AckError::Timeout)), "{silence:?}");
        clients[index].expect(json!(["ask"])).await;
        socket.disconnect(true);
        assert_eq!(clients[index].next().await, None);
        until("it has gone", || cluster.nodes[index].session_count() == 0).await;
        let gone = socket.timeout(Duration::from_secs(60)).emit_with_ack::<u8>("ask", ()).await;
        assert!(matches!(gone, Err(AckError::Disconnected)), "{gone:?}");
    }
}

fn ids(sockets: &[sockeye::RemoteSocket]) -> BTreeSet<SocketId> {
    sockets.iter().map(sockeye::RemoteSocket::id).collect()
}
