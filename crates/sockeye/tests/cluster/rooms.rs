//! What a bus is told of rooms.

use sockeye::cluster::{InProcessCluster, RoomInterest};
use sockeye::{Server, Socket};
use sockeye_cluster_kit::{Client, until};

use crate::buses::Wrapped;

async fn told(interest: RoomInterest) -> (Vec<String>, String) {
    let bus = Wrapped::with_rooms(&InProcessCluster::new(), interest);
    let io = Server::builder().cluster(bus.clone()).build();
    io.of("/a").on_connection(async |socket: Socket| {
        socket.join(["x", "y", "x"]);
    });
    let ann = Client::join_namespace(&io, "/a", "null").await;
    let ben = Client::join_namespace(&io, "/a", "null").await;
    until("both are in", || io.of("/a").to("y").sockets().len() == 2).await;
    io.of("/a").broadcast().sockets_leave("y");
    let id = ann.id().as_str().to_owned();
    drop(ann);
    until("one has gone", || io.session_count() == 1).await;
    drop(ben);
    until("both have gone", || io.session_count() == 0 && io.of("/a").room_count() == 0).await;
    (bus.told(), id)
}

#[tokio::test]
async fn h73_a_bus_hears_of_the_rooms_it_wants_to_hear_of() {
    assert!(told(RoomInterest::None).await.0.is_empty());
    assert_eq!(told(RoomInterest::Named).await.0, ["+/a#x", "+/a#y", "-/a#y", "-/a#x"]);
    let (all, ann) = told(RoomInterest::All).await;
    let position = |what: String| {
        let found: Vec<_> = all.iter().enumerate().filter(|(_, told)| **told == what).collect();
        assert_eq!(found.len(), 1, "{what} in {all:?}");
        found[0].0
    };
    assert!(position(format!("+/a#{ann}")) < position("+/a#x".into()));
    assert!(position(format!("-/a#{ann}")) < position("-/a#x".into()));
    assert_eq!(all.len(), 8);
}
