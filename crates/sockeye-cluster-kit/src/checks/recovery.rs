//! Clients that lose their connection, or their node, and go on at another one: with their rooms
//! and data, and each event once and in its order.

use std::time::Duration;

use serde_json::{Value, json};
use sockeye::{Binary, Server, Socket};

use crate::{Buses, Claim, Client, Cluster};

const LONG: Duration = Duration::from_secs(600);

fn socket(io: &Server, client: &Client) -> Socket {
    io.of("/").socket(&client.id()).expect("it is connected")
}

/// The next event, without its offset, which must be there.
async fn next(client: &mut Client) -> Value {
    let mut list = client.next().await.expect("an event").list;
    let offset = list.as_array_mut().and_then(Vec::pop);
    assert!(offset.as_ref().is_some_and(Value::is_string), "{list} has {offset:?}");
    list
}

async fn expect_all(client: &mut Client, events: &[Value]) {
    for event in events {
        assert_eq!(&next(client).await, event);
    }
}

/// Rooms, data and what was missed go along, there and back again.
pub async fn a_client_goes_on_at_another_node(buses: impl Buses) {
    let cluster = Cluster::recovering(buses, 2).await;
    let mut client = Client::join(&cluster.nodes[0]).await;
    let (id, pid) = (client.id(), client.claim().pid.clone());
    let first = socket(&cluster.nodes[0], &client);
    assert!(!first.recovered());
    first.join(["a", "b"]);
    let data = json!({ "user": "ann", "key": Binary::from(vec![1, 2]).len() });
    first.set_shared_data(&data).expect("JSON");
    cluster.nodes[0].emit("before", 1).expect("JSON");
    cluster.nodes[1].emit("before", 2).expect("JSON");
    let mut before = [next(&mut client).await[1].clone(), next(&mut client).await[1].clone()];
    before.sort_by_key(Value::as_u64);
    assert_eq!(before, [1, 2]);
    for (from, to) in [(0, 1), (1, 0), (0, 0)] {
        let claim = client.lose();
        let io = &cluster.nodes[from];
        io.emit("all", ()).expect("JSON");
        io.to("a").emit("room", ("x", 2)).expect("JSON");
        io.to("other").emit("room", "not mine").expect("JSON");
        io.except("b").emit("except", "not mine").expect("JSON");
        io.to(["a", "b"]).emit("once", Binary::from(vec![1])).expect("JSON");
        io.to(id).emit("own", ()).expect("JSON");
        client = claim.come_back(&cluster.nodes[to]).await;
        assert_eq!((client.id(), &client.claim().pid), (id, &pid));
        let placeholder = json!({ "_placeholder": true, "num": 0 });
        expect_all(&mut client, &[json!(["all"]), json!(["room", "x", 2])]).await;
        expect_all(&mut client, &[json!(["once", placeholder]), json!(["own"])]).await;
        let socket = socket(&cluster.nodes[to], &client);
        assert!(socket.recovered());
        let mut rooms: Vec<_> = socket.rooms().iter().skip(1).map(ToString::to_string).collect();
        rooms.sort();
        assert_eq!(rooms, ["a", "b"]);
        assert_eq!(socket.shared_data::<Value>().expect("JSON"), Some(data.clone()));
        socket.emit("direct", true).expect("it is connected");
        expect_all(&mut client, &[json!(["direct", true])]).await;
        cluster.nodes[1 - to].to("a").emit("after", ()).expect("JSON");
        expect_all(&mut client, &[json!(["after"])]).await;
    }
}

/// A client that has heard nothing yet misses nothing either.
pub async fn it_works_before_the_first_event(buses: impl Buses) {
    let cluster = Cluster::recovering(buses, 2).await;
    cluster.nodes[0].emit("too early", ()).expect("JSON");
    let mut early = Client::join(&cluster.nodes[1]).await;
    cluster.nodes[0].emit("mark", ()).expect("JSON");
    while next(&mut early).await != json!(["mark"]) {}
    let client = Client::join(&cluster.nodes[0]).await;
    let claim = client.lose();
    assert_eq!(claim.offset, None);
    cluster.nodes[1].emit("while it is away", ()).expect("JSON");
    let mut client = claim.come_back(&cluster.nodes[1]).await;
    let missed = next(&mut client).await;
    // The mark may have come to its first node only when it was there.
    let missed = if missed == json!(["mark"]) { next(&mut client).await } else { missed };
    assert_eq!(missed, json!(["while it is away"]));
}

/// What was broadcast before a node was there stands in the log.
pub async fn a_node_that_came_later_reads_what_it_has_not_heard(buses: impl Buses) {
    let mut cluster = Cluster::recovering(buses, 1).await;
    let mut client = Client::join(&cluster.nodes[0]).await;
    socket(&cluster.nodes[0], &client).join("room");
    cluster.nodes[0].emit("before", ()).expect("JSON");
    expect_all(&mut client, &[json!(["before"])]).await;
    let claim = client.lose();
    let io = cluster.nodes[0].clone();
    for number in 0..1000 {
        io.to(if number % 2 == 0 { "room" } else { "elsewhere" }).emit("n", number).expect("JSON");
    }
    io.to("room").volatile().emit("volatile", ()).expect("JSON");
    let mut witness = Client::join(&io).await;
    io.emit("end", ()).expect("JSON");
    while next(&mut witness).await != json!(["end"]) {}
    let late = cluster.add_recovering().await;
    cluster.until_complete().await;
    cluster.settled().await;
    let mut client = claim.come_back(&late).await;
    for number in (0..100).step_by(2) {
        expect_all(&mut client, &[json!(["n", number])]).await;
    }
    // What it has not read it has not got, though it was sent.
    let mut client = client.lose().come_back(&late).await;
    for number in (100..1000).step_by(2) {
        expect_all(&mut client, &[json!(["n", number])]).await;
    }
    expect_all(&mut client, &[json!(["end"])]).await;
    late.to("room").emit("on", ()).expect("JSON");
    expect_all(&mut client, &[json!(["on"])]).await;
}

/// Neither what was emitted before it joined, nor after it left.
pub async fn events_of_rooms_are_those_of_the_time_in_them(buses: impl Buses) {
    let cluster = Cluster::recovering(buses, 2).await;
    let mut witness = Client::join(&cluster.nodes[0]).await;
    let client = Client::join(&cluster.nodes[0]).await;
    let (io, socket) = (&cluster.nodes[0], socket(&cluster.nodes[0], &client));
    socket.join("left");
    for (number, change) in ["", "joins", "leaves"].into_iter().enumerate() {
        match change {
            "joins" => drop(socket.join("joined")),
            "leaves" => socket.leave("left"),
            _ => {}
        }
        io.to(["joined", "left"]).emit("either", number).expect("JSON");
        io.to("joined").emit("joined", number).expect("JSON");
        io.to("left").emit("left", number).expect("JSON");
        // They have been delivered when this one has.
        io.emit("mark", number).expect("JSON");
        while next(&mut witness).await != json!(["mark", number]) {}
    }
    // It has read nothing of all this.
    let mut client = client.lose().come_back(&cluster.nodes[1]).await;
    let expected = [
        json!(["either", 0]),
        json!(["left", 0]),
        json!(["mark", 0]),
        json!(["either", 1]),
        json!(["joined", 1]),
        json!(["left", 1]),
        json!(["mark", 1]),
        json!(["either", 2]),
        json!(["joined", 2]),
        json!(["mark", 2]),
    ];
    expect_all(&mut client, &expected).await;
}

/// Of several who come with its private id one gets it, and nobody while it lives.
pub async fn a_socket_is_taken_up_once(buses: impl Buses) {
    let cluster = Cluster::recovering(buses, 3).await;
    let client = Client::join(&cluster.nodes[0]).await;
    let thief = Claim { pid: client.claim().pid.clone(), offset: None };
    let (_, is_recovered) = Client::take_up(&cluster.nodes[1], &thief).await;
    assert!(!is_recovered, "its owner is connected");
    let claim = client.lose();
    let mut owners = Vec::new();
    while owners.is_empty() {
        let [one, two, three] = [0, 1, 2].map(|node| Client::take_up(&cluster.nodes[node], &claim));
        let (one, two, three) = tokio::join!(one, two, three);
        let all = [one, two, three].into_iter();
        owners.extend(all.filter_map(|(client, is_recovered)| is_recovered.then_some(client)));
    }
    assert_eq!(owners.len(), 1);
    for io in &cluster.nodes {
        let (_, is_recovered) = Client::take_up(io, &claim).await;
        assert!(!is_recovered, "it lives");
    }
}

/// Volatile events, conflated ones and those that ask for an acknowledgement; nor do they spoil a
/// client's offset.
pub async fn what_is_not_kept_is_not_sent_again(buses: impl Buses) {
    let cluster = Cluster::recovering(buses, 2).await;
    let mut client = Client::join(&cluster.nodes[0]).await;
    let first = socket(&cluster.nodes[0], &client);
    first.emit("kept", "text").expect("it is connected");
    expect_all(&mut client, &[json!(["kept", "text"])]).await;
    let offset = client.claim().offset.clone();
    for io in &cluster.nodes {
        io.broadcast().volatile().emit("volatile", "text").expect("JSON");
        client.expect(json!(["volatile", "text", null])).await;
    }
    first.conflate("key").emit("conflated", "text").expect("it is connected");
    client.expect(json!(["conflated", "text", null])).await;
    cluster.nodes[0].broadcast().local().emit("local", "text").expect("JSON");
    client.expect(json!(["local", "text", null])).await;
    let asking = first.clone();
    let asked = tokio::spawn(async move { asking.emit_with_ack::<u8>("asks", "text").await });
    let question = client.expect(json!(["asks", "text"])).await;
    client.answer(&question, "[7]").await;
    assert_eq!(asked.await.expect("it ends").expect("it is answered"), 7);
    assert_eq!(client.claim().offset, offset);
    let claim = client.lose();
    for io in &cluster.nodes {
        io.broadcast().volatile().emit("volatile", ()).expect("JSON");
        drop(io.broadcast().timeout(LONG).emit_with_ack::<()>("asks", ()).expect("JSON"));
        io.broadcast().conflate("key").emit("conflated", ()).expect("JSON");
    }
    cluster.nodes[1].emit("kept", ()).expect("JSON");
    let mut client = claim.come_back(&cluster.nodes[1]).await;
    while client.next().await.expect("an event").list[0] != "kept" {
        // What was on its way still may come, to one that is there again.
    }
}

/// What was emitted to a client before it is disconnected still leaves.
pub async fn a_disconnection_comes_behind_what_was_emitted(buses: impl Buses) {
    let cluster = Cluster::recovering(buses, 2).await;
    let mut client = Client::join(&cluster.nodes[0]).await;
    let socket = socket(&cluster.nodes[0], &client);
    cluster.nodes[0].emit("all", ()).expect("JSON");
    socket.emit("bye", ()).expect("it is connected");
    socket.disconnect(false);
    assert!(!socket.is_connected() && socket.emit("late", ()).is_err());
    expect_all(&mut client, &[json!(["all"]), json!(["bye"])]).await;
    assert_eq!(client.next().await, None);
    let claim = client.lose();
    let (_, is_recovered) = Client::take_up(&cluster.nodes[1], &claim).await;
    assert!(!is_recovered, "it was meant");
}

/// What it still emits is not lost, and every socket goes on elsewhere.
pub async fn a_node_that_shuts_down_hands_its_clients_over(buses: impl Buses) {
    const CLIENTS: usize = 10;
    let cluster = Cluster::recovering(buses, 2).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::join(&cluster.nodes[0]).await);
    }
    for client in &clients {
        let socket = socket(&cluster.nodes[0], client);
        socket.emit("direct", socket.id().as_str()).expect("it is connected");
    }
    for number in 0..50 {
        cluster.nodes[0].emit("n", number).expect("JSON");
    }
    let io = cluster.nodes[0].clone();
    let ending = tokio::spawn(async move { io.shutdown(LONG).await });
    for mut client in clients {
        let mut events = Vec::new();
        while let Some(event) = client.next().await {
            events.push(event.list);
        }
        let id = client.id();
        let mut client = client.lose().come_back(&cluster.nodes[1]).await;
        cluster.nodes[1].to(id).emit("end", ()).expect("JSON");
        while events.last().is_none_or(|last| last[0] != "end") {
            events.push(client.next().await.expect("an event").list);
        }
        let mut expected = vec![json!(["direct", id.as_str()])];
        expected.extend((0..50).map(|number| json!(["n", number])));
        expected.push(json!(["end"]));
        let without = |mut event: Value| {
            event.as_array_mut().expect("a list").pop();
            event
        };
        assert_eq!(events.into_iter().map(without).collect::<Vec<_>>(), expected);
    }
    assert!(ending.await.expect("it ends"));
}

/// All nodes emit all the time, to everyone, to a room and to the client itself, and it goes from
/// node to node in the midst of it: each event comes once, and what one node emits in its order.
pub async fn clients_that_move_about_miss_nothing(buses: impl Buses) {
    const EVENTS: u64 = 400;
    const STAY: u64 = 45;
    let cluster = Cluster::recovering(buses, 3).await;
    let mut client = Client::join(&cluster.nodes[0]).await;
    socket(&cluster.nodes[0], &client).join("room");
    let id = client.id();
    let emitting = cluster.nodes.iter().cloned().enumerate().map(|(node, io)| {
        tokio::spawn(async move {
            for number in 0..EVENTS {
                let to = match number % 3 {
                    0 => io.broadcast(),
                    1 => io.to("room"),
                    _ => io.to(id),
                };
                to.emit("n", (node, number)).expect("JSON");
                io.to("elsewhere").emit("n", "not mine").expect("JSON");
                io.broadcast().volatile().emit("volatile", "text").expect("JSON");
                tokio::time::sleep(Duration::from_millis(number % 4)).await;
            }
        })
    });
    let emitting: Vec<_> = emitting.collect();
    let mut come = vec![0; cluster.nodes.len()];
    let (mut count, mut at) = (0, 0);
    while come.iter().any(|next| *next < EVENTS) {
        let event = client.next().await.expect("an event").list;
        if event[0] == "volatile" {
            continue;
        }
        let node = event[1].as_u64().expect("a node") as usize;
        assert_eq!(event[2], come[node], "of node {node}, of which {come:?} came, at node {at}");
        come[node] += 1;
        count += 1;
        if count % STAY == 0 {
            at = (at + 1 + count as usize % 2) % cluster.nodes.len();
            client = client.lose().come_back(&cluster.nodes[at]).await;
        }
    }
    for emitting in emitting {
        emitting.await.expect("it ends");
    }
}
