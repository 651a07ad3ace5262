//! Nodes that go while something is asked of them. The time limits are so long that a test would
//! not end that waited for one.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sockeye::cluster::ServerSideEmitError;
use sockeye::{AckError, CollectedAcks, Server, ServerSideEvent};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::{Buses, Client, Cluster};

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(500);

/// Three nodes, of which the last answers nothing, nor does its client.
struct Silence<B> {
    cluster: Cluster<B>,
    client: Client,
    asked: Arc<Notify>,
}

/// What another node has asked.
struct Questions {
    servers: JoinHandle<Result<Vec<u8>, ServerSideEmitError<u8>>>,
    clients: JoinHandle<CollectedAcks<u8>>,
}

impl<B: Buses> Silence<B> {
    async fn new(buses: B) -> Self {
        let mut cluster = Cluster::of(buses, 0).await;
        for _ in 0..3 {
            cluster.add_with(Server::builder().cluster_request_timeout(LONG)).await;
        }
        cluster.until_complete().await;
        let answers = |_| async { Ok::<_, sockeye::HandlerError>(1) };
        cluster.nodes[1].on_server_side_event("ask", answers);
        let asked = Arc::new(Notify::new());
        let tell = asked.clone();
        cluster.nodes[2].on_server_side_event("ask", move |_: ServerSideEvent| {
            tell.notify_one();
            std::future::pending::<()>()
        });
        let client = Client::join(&cluster.nodes[2]).await;
        Self { cluster, client, asked }
    }

    /// Asks, and waits until the silent ones have heard it.
    async fn ask(&mut self, limit: Duration) -> Questions {
        let io = self.cluster.nodes[0].clone();
        let acks = io.broadcast().timeout(limit).emit_with_ack("ask", ()).expect("sent");
        let clients = tokio::spawn(acks.collect());
        let servers =
            tokio::spawn(async move { io.server_side_emit_with_ack::<u8>("ask", ()).await });
        self.asked.notified().await;
        self.client.expect(json!(["ask"])).await;
        Questions { servers, clients }
    }
}

/// Its clients have gone, and it says goodbye.
pub async fn a_node_that_shuts_down_is_not_waited_for(buses: impl Buses) {
    let mut silence = Silence::new(buses).await;
    // With the clients of a node that goes it is as with those that go: their time runs out.
    let questions = silence.ask(SHORT).await;
    let leaving = silence.cluster.nodes.remove(2);
    // Who reads answers the goodbye.
    let (is_done, event) = tokio::join!(leaving.shutdown(LONG), silence.client.next());
    assert!(is_done);
    assert_eq!(event, None);
    let answers = questions.servers.await.expect("it does not panic");
    assert_eq!(answers.expect("who is left has answered"), [1]);
    assert!(questions.clients.await.expect("it does not panic").answers.is_empty());
    silence.cluster.until_complete().await;
}

/// It says nothing.
pub async fn a_node_that_dies_is_not_waited_for<B: Buses>(buses: B) {
    let mut silence = Silence::new(buses).await;
    let questions = silence.ask(if B::TELLS_WHO_DIES { LONG } else { SHORT }).await;
    silence.cluster.kill(2).await;
    let _dead = silence.cluster.nodes.remove(2);
    let answers = questions.servers.await.expect("it does not panic");
    assert_eq!(answers.expect("who is left has answered"), [1]);
    let acks = questions.clients.await.expect("it does not panic");
    assert!(acks.answers.is_empty());
    if B::TELLS_WHO_DIES {
        assert!(acks.failures.is_empty(), "nobody is waited for: {:?}", acks.failures);
    } else {
        let failures: Vec<_> = acks.failures.iter().map(|(_, error)| error).collect();
        // It may have died before it said whom it has asked.
        let is_missed = matches!(failures[..], [AckError::Timeout | AckError::Node]);
        assert!(is_missed, "{failures:?}");
    }
    silence.cluster.until_complete().await;
    let fetched = silence.cluster.nodes[0].broadcast().fetch_sockets().await;
    assert!(fetched.expect("those that are left answer").is_empty());
}
