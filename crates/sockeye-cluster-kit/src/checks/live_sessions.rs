//! Clients of a node that is killed: it says nothing, and they go on at another one.

use serde_json::{Value, json};
use sockeye::{Server, Socket};

use crate::{Buses, Client, Cluster, until};

/// Does something, and waits until the node has said so much because of it.
async fn until_it_says(io: &Server, count: u64, what: &str, act: impl AsyncFnOnce()) {
    let published = || io.cluster_health().expect("it is in a cluster").published;
    let before = published();
    act().await;
    until(what, || published() >= before + count).await;
}

async fn next(client: &mut Client) -> Value {
    let mut list = client.next().await.expect("an event").list;
    let offset = list.as_array_mut().and_then(Vec::pop);
    assert!(offset.as_ref().is_some_and(Value::is_string), "{list} has {offset:?}");
    list
}

fn socket(io: &Server, client: &Client) -> Socket {
    io.of("/").socket(&client.id()).expect("it is connected")
}

/// With their rooms and shared data, and what they missed, in one order and once; and so do those
/// that have never heard anything.
pub async fn the_clients_of_a_node_that_is_killed_go_on(buses: impl Buses) {
    let mut cluster = Cluster::recovering(buses, 3).await;
    let io = cluster.nodes[0].clone();
    let (mut clients, mut silent) = (Vec::new(), Vec::new());
    until_it_says(&io, 2, "the sessions", async || {
        clients.push(Client::join(&io).await);
        silent.push(Client::join(&io).await);
    })
    .await;
    let (mut client, silent) = (clients.remove(0), silent.remove(0));
    let first = socket(&io, &client);
    io.to(client.id()).emit("before", ()).expect("JSON");
    assert_eq!(next(&mut client).await, json!(["before"]));
    until_it_says(&io, 1, "its rooms", async || {
        first.join(["a", "b"]);
        first.leave("b");
        first.set_shared_data(&json!({ "user": "ann" })).expect("JSON");
    })
    .await;
    let (id, silent_id) = (client.id(), silent.id());
    cluster.kill(0).await;
    let (claim, silent) = (client.lose(), silent.lose());
    cluster.nodes[1].to("a").emit("room", 1).expect("JSON");
    cluster.nodes[1].to("b").emit("room", "not mine").expect("JSON");
    cluster.nodes[2].emit("all", 2).expect("JSON");
    // Several may come with it, of which one is let in.
    let claims = [1, 2].map(|at| Client::take_up(&cluster.nodes[at], &claim));
    let [one, other] = claims;
    let ((one, is_one), (other, is_other)) = tokio::join!(one, other);
    assert!(is_one != is_other, "one of {is_one} and {is_other}");
    let (mut client, at) = if is_one { (one, 1) } else { (other, 2) };
    assert_eq!(client.id(), id);
    let mut missed = [next(&mut client).await, next(&mut client).await];
    missed.sort_by_key(|event| event[1].as_u64());
    assert_eq!(missed, [json!(["room", 1]), json!(["all", 2])]);
    let taken = socket(&cluster.nodes[at], &client);
    assert!(taken.is_in("a") && !taken.is_in("b"));
    assert_eq!(taken.shared_data::<Value>().expect("JSON"), Some(json!({ "user": "ann" })));
    cluster.nodes[3 - at].to("a").emit("after", ()).expect("JSON");
    assert_eq!(next(&mut client).await, json!(["after"]));
    let mut silent = silent.come_back(&cluster.nodes[1]).await;
    assert_eq!(silent.id(), silent_id);
    assert_eq!(next(&mut silent).await[0], "all");
}

/// What was meant to end does not come back with its node's end.
pub async fn who_has_left_is_not_let_in_again(buses: impl Buses) {
    let mut cluster = Cluster::recovering(buses, 2).await;
    let io = cluster.nodes[0].clone();
    let mut clients = Vec::new();
    until_it_says(&io, 1, "the session", async || clients.push(Client::join(&io).await)).await;
    let client = clients.remove(0);
    until_it_says(&io, 1, "that it has gone", async || socket(&io, &client).disconnect(false))
        .await;
    cluster.kill(0).await;
    let (_, is_recovered) = Client::take_up(&cluster.nodes[1], &client.lose()).await;
    assert!(!is_recovered, "it was meant");
}
