//! What servers say to each other, and how they know of each other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sockeye::cluster::ServerSideEmitError;
use sockeye::{Binary, Server, ServerSideEvent};

use crate::{Buses, Client, Cluster, until};

type Heard = Arc<Mutex<Vec<Value>>>;

fn listen(io: &Server, event: &str) -> Heard {
    let heard = Heard::default();
    let into = heard.clone();
    io.on_server_side_event(event, move |event: ServerSideEvent| {
        let args: Vec<Value> = event.args().rest().expect("JSON");
        into.lock().expect("no holder panics").push(json!([event.name(), args]));
        std::future::ready(())
    });
    heard
}

fn all(heard: &Heard) -> Vec<Value> {
    heard.lock().expect("no holder panics").clone()
}

/// All but the one that says it; in its order; in its namespace.
pub async fn servers_hear_each_other(buses: impl Buses) {
    let cluster = Cluster::of(buses, 3).await;
    let heard: Vec<_> = cluster.nodes.iter().map(|io| listen(io, "news")).collect();
    let clients: Vec<_> = cluster.nodes.iter().map(|io| listen(io, "disconnect")).collect();
    for number in 0..20 {
        cluster.nodes[0].server_side_emit("news", (number, "x", [1])).expect("sent");
    }
    cluster.nodes[0].server_side_emit("disconnect", ()).expect("only clients cannot");
    cluster.nodes[0].of("/").server_side_emit("other", ()).expect("nobody listens");
    let expected: Vec<_> = (0..20).map(|number| json!(["news", [number, "x", [1]]])).collect();
    for heard in &heard[1..] {
        until("all of it has come", || all(heard).len() == 20).await;
        assert_eq!(all(heard), expected);
    }
    for clients in &clients[1..] {
        until("it has come", || !all(clients).is_empty()).await;
    }
    assert!(all(&heard[0]).is_empty(), "a server does not hear itself");
    for reserved in ["connect", "connection", "new_namespace"] {
        assert!(cluster.nodes[0].server_side_emit(reserved, ()).is_err());
    }
}

/// Each with one value; binary, too.
pub async fn servers_answer(buses: impl Buses) {
    let cluster = Cluster::of(buses, 3).await;
    for (index, io) in cluster.nodes.iter().enumerate() {
        io.on_server_side_event("add", move |event: ServerSideEvent| async move {
            tokio::task::yield_now().await;
            let number: usize = event.data()?;
            Ok::<_, sockeye::HandlerError>(number + index)
        });
        io.on_server_side_event("reverse", |event: ServerSideEvent| async move {
            let mut bytes = event.data::<Binary>()?.to_vec();
            bytes.reverse();
            Ok::<_, sockeye::HandlerError>(Binary::from(bytes))
        });
    }
    for (index, io) in cluster.nodes.iter().enumerate() {
        let mut answers: Vec<usize> =
            io.server_side_emit_with_ack("add", 10).await.expect("both answer");
        answers.sort_unstable();
        let expected: Vec<_> = (10..13).filter(|number| *number != 10 + index).collect();
        assert_eq!(answers, expected);
    }
    let bytes = Binary::from(vec![1, 2, 255]);
    let answers: Vec<Binary> =
        cluster.nodes[0].server_side_emit_with_ack("reverse", bytes).await.expect("both answer");
    assert_eq!(answers, vec![Binary::from(vec![255, 2, 1]); 2]);
}

/// As in Node, it does not answer; the others' answers are there.
pub async fn a_server_without_a_listener_is_missing(mut buses: impl Buses) {
    let bus = buses.bus().await;
    let mut cluster = Cluster::of_two(buses).await;
    // Who answers has seconds for it.
    let builder = Server::builder().cluster_request_timeout(Duration::from_secs(3));
    let io = builder.cluster(bus).build();
    cluster.nodes.push(io.clone());
    cluster.until_complete().await;
    cluster.nodes[1].on_server_side_event("ask", |_| async { Ok::<_, sockeye::HandlerError>(1) });
    let error = io.server_side_emit_with_ack::<u8>("ask", ()).await.expect_err("one is missing");
    let ServerSideEmitError::Incomplete(some) = error else { panic!("{error}") };
    assert_eq!((some.answers, some.missing), (vec![1], 1));
}

/// Those that have the namespace.
pub async fn nodes_are_counted(buses: impl Buses) {
    let cluster = Cluster::of(buses, 3).await;
    for io in &cluster.nodes {
        assert_eq!(io.node_count().await.expect("the bus counts"), 3);
    }
    cluster.nodes[1].of("/some");
    let some = cluster.nodes[2].of("/some");
    let mut count = 0;
    while count != 2 {
        count = some.node_count().await.expect("the bus counts");
        tokio::task::yield_now().await;
    }
}

/// It hears, is heard, and is asked.
pub async fn a_node_that_comes_late_takes_part(buses: impl Buses) {
    let mut cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    let late = cluster.add().await;
    cluster.until_complete().await;
    clients.push(Client::join(&late).await);
    cluster.settled().await;
    late.emit("from late", ()).expect("sent");
    cluster.nodes[0].to(clients[2].id()).emit("to late", ()).expect("sent");
    for client in &mut clients {
        client.expect(json!(["from late"])).await;
    }
    clients[2].expect(json!(["to late"])).await;
    let fetched = cluster.nodes[0].broadcast().fetch_sockets().await.expect("all nodes answer");
    assert_eq!(fetched.len(), 3);
}
