//! Broadcasts with acknowledgements: who is asked on other nodes, and what comes of it.

use std::time::Duration;

use serde_json::json;
use sockeye::{AckError, Binary};

use super::broadcasts::join;
use crate::{Buses, Cluster};

/// Long enough for every bus; nothing here waits for it.
const LONG: Duration = Duration::from_secs(60);
/// Waited for. Who answers has seconds for it.
const SHORT: Duration = Duration::from_secs(3);

/// From each node, the clients of all.
pub async fn clients_of_all_nodes_answer(buses: impl Buses) {
    let cluster = Cluster::of(buses, 3).await;
    let mut clients = cluster.clients().await;
    clients.extend(cluster.clients().await);
    for io in &cluster.nodes {
        let acks = io.broadcast().timeout(LONG).emit_with_ack::<usize>("ask", "x").expect("sent");
        for (index, client) in clients.iter_mut().enumerate() {
            let event = client.expect(json!(["ask", "x"])).await;
            client.answer(&event, &format!("[{index},\"more\"]")).await;
        }
        let all = acks.collect().await;
        let mut answers: Vec<_> = all.answers.iter().map(|(_, answer)| *answer).collect();
        answers.sort_unstable();
        assert_eq!((answers, all.failures.len()), ((0..6).collect(), 0));
    }
}

/// Nobody else is asked, and nodes without a member are not in the way.
pub async fn one_room_answers(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    join(&cluster, &clients[1], &["room"]).await;
    for io in &cluster.nodes {
        let room = io.to("room").except(clients[0].id()).timeout(LONG);
        let acks = room.emit_with_ack::<u8>("ask", ()).expect("sent");
        let event = clients[1].expect(json!(["ask"])).await;
        clients[1].answer(&event, "[9]").await;
        let all = acks.collect().await;
        let answers: Vec<_> = all.answers.iter().map(|(_, answer)| *answer).collect();
        assert_eq!((answers, all.failures.len()), (vec![9], 0));
    }
    let local = cluster.nodes[0].broadcast().local().timeout(LONG);
    let acks = local.emit_with_ack::<u8>("local", ()).expect("sent");
    let event = clients[0].expect(json!(["local"])).await;
    clients[0].answer(&event, "[1]").await;
    assert_eq!(acks.collect().await.answers.len(), 1);
    cluster.expect_no_more(&mut clients).await;
}

/// With binary in the question, too.
pub async fn binary_answers_arrive(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    let to = cluster.nodes[0].to(clients[1].id()).timeout(LONG);
    let question = Binary::from(vec![1, 2]);
    let acks = to.emit_with_ack::<Binary>("ask", question).expect("sent");
    let event = clients[1].next().await.expect("the question");
    assert_eq!(event.attachments, [vec![1, 2]]);
    clients[1].answer_binary(&event, &[3, 0, 255]).await;
    let all = acks.collect().await;
    assert_eq!(all.answers.len(), 1, "{:?}", all.failures);
    assert_eq!(*all.answers[0].1, [3, 0, 255][..]);
}

/// Who does not answer is missing, on whichever node.
pub async fn the_time_limit_gives_what_came(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let mut clients = cluster.clients().await;
    clients.extend(cluster.clients().await);
    let all = cluster.nodes[0].broadcast().timeout(SHORT);
    let acks = all.emit_with_ack::<u8>("ask", ()).expect("sent");
    for index in [0, 1] {
        let event = clients[index].expect(json!(["ask"])).await;
        clients[index].answer(&event, "[1]").await;
    }
    let all = acks.collect().await;
    assert_eq!(all.answers.len(), 2);
    let failures: Vec<_> = all.failures.iter().map(|(_, error)| error).collect();
    assert!(matches!(failures[..], [AckError::Timeout, AckError::Timeout]), "{failures:?}");
}

/// An empty answer, at once.
pub async fn nobody_there_is_no_wait(buses: impl Buses) {
    let cluster = Cluster::of_two(buses).await;
    let nobody = cluster.nodes[0].to("nobody").timeout(LONG);
    let all = nobody.emit_with_ack::<u8>("ask", ()).expect("sent").collect().await;
    assert_eq!((all.answers.len(), all.failures.len()), (0, 0));
}
