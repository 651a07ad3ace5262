//! Answers of which nobody knows whether the client has got them. Does not know other ends.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http::{Request, StatusCode};
use sockeye::DisconnectReason;
use tower_service::Service as _;

use super::{Cluster, query};
use crate::support::only_socket;

/// Where the answer to a GET is when its client goes.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    /// It has left its node.
    UnderWay,
    /// It has come to the node that the client asked, which has not looked at it.
    Come,
    Compressed,
}

/// A GET that its client goes away from when it has been answered, and before it gets the answer.
#[tokio::test(start_paused = true)]
async fn what_is_lost_with_an_answer_is_not_missed_unnoticed() {
    for place in [Where::UnderWay, Where::Come, Where::Compressed] {
        let cluster = Cluster::new();
        let client = cluster.join().await;
        let uri = format!("/socket.io/?{}", query(&client.sid));
        let request = Request::get(uri).header("accept-encoding", "gzip");
        let request = request.body(String::new()).expect("a valid request");
        let mut get = Box::pin(cluster.b.io.service().call(request));
        let mut is_done =
            async || poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_ready())).await;
        assert!(!is_done().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.buses[0].hangs.send_replace(place == Where::UnderWay);
        only_socket(&cluster.home.io).emit("lost", "x".repeat(200_000)).expect("sent");
        tokio::time::sleep(Duration::from_secs(1)).await;
        if place == Where::Compressed {
            assert!(!is_done().await, "it is compressed piece by piece");
        }
        drop(get);
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.buses[0].hangs.send_replace(false);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(client.get().await, Err(StatusCode::BAD_REQUEST));
        cluster.ended(DisconnectReason::TransportError).await;
    }
}
