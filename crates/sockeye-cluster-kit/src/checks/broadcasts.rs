//! Broadcasts: whom they reach on other nodes, and what arrives there.

use bytes::Bytes;
use serde_json::{Value, json};
use sockeye::Binary;

use crate::{Buses, Client, Cluster};

/// From each node to the clients of all.
pub async fn everyone_hears_a_broadcast(buses: impl Buses) {
    let cluster = Cluster::of(buses, 3).await;
    let mut clients = cluster.clients().await;
    for (index, io) in cluster.nodes.iter().enumerate() {
        io.emit("from", index).expect("sent");
        for client in &mut clients {
            client.expect(json!(["from", index])).await;
        }
    }
    cluster.expect_no_more(&mut clients).await;
}

/// The member of two rooms hears once; who is in none hears nothing.
pub async fn rooms_are_a_union_and_each_member_hears_once(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    clients.extend(cluster.clients().await);
    join(&cluster, &clients[0], &["a", "b"]).await;
    join(&cluster, &clients[1], &["a", "b"]).await;
    join(&cluster, &clients[3], &["x#y/1"]).await;
    for io in &cluster.nodes {
        io.to(["a", "b", "unknown"]).emit("both", ()).expect("sent");
        io.to("a").emit("a", ()).expect("sent");
        io.to("x#y/1").emit("hash", ()).expect("sent");
        io.to("unknown").emit("nobody", ()).expect("sent");
        for client in &mut clients[..2] {
            client.expect(json!(["both"])).await;
            client.expect(json!(["a"])).await;
        }
        clients[3].expect(json!(["hash"])).await;
    }
    cluster.expect_no_more(&mut clients).await;
}

/// By room, by id, and the sender itself.
pub async fn who_is_excepted_hears_nothing(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    clients.extend(cluster.clients().await);
    for io in &cluster.nodes {
        io.on_connection(async |socket: sockeye::Socket| {
            socket.on("say", async |socket: sockeye::Socket| {
                socket.broadcast().emit("said", ()).map_err(sockeye::HandlerError::from)
            });
        });
    }
    join(&cluster, &clients[1], &["quiet"]).await;
    cluster.nodes[0].except("quiet").emit("not quiet", ()).expect("sent");
    cluster.nodes[0].except(clients[3].id()).emit("not three", ()).expect("sent");
    for (index, client) in clients.iter_mut().enumerate() {
        if index != 1 {
            client.expect(json!(["not quiet"])).await;
        }
        if index != 3 {
            client.expect(json!(["not three"])).await;
        }
    }
    let mut speaker = Client::join(&cluster.nodes[1]).await;
    speaker.emit(r#"["say"]"#).await;
    for client in &mut clients {
        client.expect(json!(["said"])).await;
    }
    clients.push(speaker);
    cluster.expect_no_more(&mut clients).await;
}

/// A socket's id is a room on every node.
pub async fn a_socket_of_another_node_is_a_room(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    cluster.nodes[0].to(clients[1].id()).emit("you", 1).expect("sent");
    clients[1].expect(json!(["you", 1])).await;
    cluster.nodes[1].to([clients[0].id(), clients[1].id()]).emit("you", 2).expect("sent");
    clients[1].expect(json!(["you", 2])).await;
    clients[0].expect(json!(["you", 2])).await;
    cluster.expect_no_more(&mut clients).await;
}

/// `local` reaches this node's clients only.
pub async fn local_broadcasts_stay(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    for (io, client) in cluster.nodes.iter().zip(&mut clients) {
        io.broadcast().local().emit("here", ()).expect("sent");
        client.expect(json!(["here"])).await;
    }
    cluster.expect_no_more(&mut clients).await;
}

/// Also where one name begins like the other, and where a node lacks one.
pub async fn namespaces_are_apart(buses: impl Buses) {
    let mut cluster = Cluster::of_two(buses).await;
    cluster.add_namespace("/a").await;
    cluster.add_namespace("/a#b").await;
    let mut root = cluster.clients().await;
    let mut a = Client::join_namespace(&cluster.nodes[1], "/a", "null").await;
    let mut ab = Client::join_namespace(&cluster.nodes[1], "/a#b", "null").await;
    cluster.settled().await;
    let io = &cluster.nodes[0];
    io.of("/a").emit("in a", ()).expect("sent");
    io.of("/a#b").to(ab.id()).emit("in ab", ()).expect("sent");
    io.of("/only-here").emit("nowhere", ()).expect("sent");
    io.of("/a").to("b").emit("nobody", ()).expect("sent");
    io.of("/a").emit("last", ()).expect("sent");
    io.of("/a#b").emit("last", ()).expect("sent");
    a.expect(json!(["in a"])).await;
    ab.expect(json!(["in ab"])).await;
    a.expect_nothing_before("last").await;
    ab.expect_nothing_before("last").await;
    cluster.expect_no_more(&mut root).await;
}

/// To clients that keep up, they are as others.
pub async fn volatile_and_conflated_events_arrive(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    cluster.nodes[0].broadcast().volatile().emit("volatile", ()).expect("sent");
    clients[1].expect(json!(["volatile"])).await;
    cluster.nodes[0].broadcast().conflate("key").emit("latest", 1).expect("sent");
    clients[1].expect(json!(["latest", 1])).await;
}

/// Numbers of every width, text of every kind, nothing and nesting.
pub async fn values_arrive_as_they_were(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    let long = "ü".repeat(35_000);
    let values = [
        json!([0, 127, 128, 255, 256, 65_535, 65_536, 4_294_967_295_u64, 4_294_967_296_u64]),
        json!([-1, -32, -33, -128, -129, -32_768, -32_769, -2_147_483_648_i64, -2_147_483_649_i64]),
        json!([9_007_199_254_740_991_i64, -9_007_199_254_740_991_i64]),
        json!([0.5, -1.25, 1e-7, 1.7976931348623157e308, 0.1]),
        json!([null, true, false, "", [], {}]),
        json!(["\u{0}\u{1f}\"\\/", "日本語 🐟", "\u{2028}", {"": 1, "a b": {"c": [[[]]]}}]),
        json!([long, "x".repeat(255), "y".repeat(256), "z".repeat(31), "w".repeat(32)]),
        json!((0..70).collect::<Vec<_>>()),
    ];
    let ids = [clients[0].id(), clients[1].id()];
    for value in &values {
        cluster.nodes[0].to(ids[1]).emit("value", value).expect("sent");
        clients[1].expect(json!(["value", value])).await;
        cluster.nodes[1].to(ids[0]).emit("value", (value, "more")).expect("sent");
        clients[0].expect(json!(["value", value, "more"])).await;
    }
    cluster.nodes[0].to(ids[1]).emit(7, "a number names it").expect("sent");
    clients[1].expect(json!([7, "a number names it"])).await;
    cluster.nodes[0].to(ids[1]).emit("none", ()).expect("sent");
    clients[1].expect(json!(["none"])).await;
}

/// At any depth, empty and large, beside text, in a room.
pub async fn binary_arrives_as_it_was(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    join(&cluster, &clients[1], &["room"]).await;
    let large: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    let pieces = [vec![0, 1, 255], Vec::new(), large];
    let nested = vec![vec![Binary::from(pieces[1].clone())], vec![Binary::from(pieces[2].clone())]];
    let args = (Binary::from(pieces[0].clone()), "text", nested);
    cluster.nodes[0].emit("binary", &args).expect("sent");
    cluster.nodes[0].to("room").emit("binary", &args).expect("sent");
    for _ in 0..2 {
        let event = clients[1].next().await.expect("an event");
        let attachment = |num| json!({"_placeholder": true, "num": num});
        // A reference to a tuple is one argument.
        let list = json!(["binary", [attachment(0), "text", [[attachment(1)], [attachment(2)]]]]);
        assert_eq!(event.list, list);
        let pieces: Vec<_> = pieces.iter().cloned().map(Bytes::from).collect();
        assert_eq!(event.attachments, pieces);
    }
}

/// Whatever way an event goes: to all, to a room, to one, with binary.
pub async fn order_is_kept(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    join(&cluster, &clients[1], &["room", "other"]).await;
    let io = &cluster.nodes[0];
    for number in 0..200_u32 {
        match number % 4 {
            0 => io.emit("n", number),
            1 => io.to(["room", "other"]).emit("n", number),
            2 => io.except("nobody").emit("n", (number, Binary::from(vec![1]))),
            _ => io.except("nobody").emit("n", (number, "x".repeat(number as usize * 10))),
        }
        .expect("sent");
    }
    for number in 0..200 {
        let event = clients[1].next().await.expect("an event");
        assert_eq!(event.list[1], number);
    }
    // An event and the disconnection behind it, too.
    io.emit("last", ()).expect("sent");
    io.broadcast().disconnect_sockets(false);
    clients[1].expect(json!(["last"])).await;
    assert_eq!(clients[1].next().await, None);
}

/// A room that is new, one that has gone and one that is there again.
pub async fn rooms_come_and_go(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    for round in 0..3 {
        join(&cluster, &clients[1], &["room"]).await;
        // A bus may subscribe to a room a moment after it is there.
        let mut heard = false;
        while !heard {
            cluster.nodes[0].to("room").emit("in", round).expect("sent");
            let next =
                tokio::time::timeout(std::time::Duration::from_millis(50), clients[1].next());
            heard = next
                .await
                .is_ok_and(|event| event.is_some_and(|event| event.list == json!(["in", round])));
        }
        let socket = cluster.nodes[1].of("/").socket(&clients[1].id()).expect("it is connected");
        socket.leave("room");
        cluster.nodes[0].emit("mark", round).expect("sent");
        until_event(&mut clients[1], &json!(["mark", round])).await;
        cluster.nodes[0].to("room").emit("out", round).expect("sent");
        cluster.nodes[0].emit("after", round).expect("sent");
        clients[1].expect(json!(["after", round])).await;
    }
}

/// The server's side of a client joins rooms.
pub(super) async fn join<B: Buses>(cluster: &Cluster<B>, client: &Client, rooms: &[&str]) {
    let sockets = cluster.nodes.iter().filter_map(|io| io.of("/").socket(&client.id()));
    sockets.for_each(|socket| assert!(socket.join(rooms)));
    cluster.settled().await;
}

/// Passes over events until this one has come.
async fn until_event(client: &mut Client, list: &Value) {
    while client.next().await.expect("an event").list != *list {}
}
