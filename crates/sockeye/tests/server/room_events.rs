//! Room events: what a namespace tells of its rooms, and in which order.

use sockeye::{RoomEvent, Server, Socket};

use crate::support::{Host, Record, WebSocket, only_socket, until, until_empty};

/// Each event, the only socket's id as `own`.
fn recording(io: &Server) -> Record {
    let record = Record::default();
    let into = record.clone();
    io.of("/").on_room_event(move |event| {
        let name = |room: &str| if room.len() == 20 { "own".to_owned() } else { room.to_owned() };
        into.add(&match event {
            RoomEvent::Created { room } => format!("create {}", name(room)),
            RoomEvent::Joined { room, .. } => format!("join {}", name(room)),
            RoomEvent::Left { room, .. } => format!("leave {}", name(room)),
            RoomEvent::Deleted { room } => format!("delete {}", name(room)),
        });
    });
    record
}

#[tokio::test(start_paused = true)]
async fn h73_rooms_are_created_before_they_are_joined_and_deleted_after_they_are_left() {
    let host = Host::in_memory(Server::default());
    let record = recording(&host.io);
    host.io.middleware(async |socket: Socket| {
        socket.join("early");
        Ok::<_, sockeye::ConnectError>(())
    });
    let client = WebSocket::join(&host).await;
    let socket = only_socket(&host.io);
    assert_eq!(record.take(), ["create own", "join own", "create early", "join early"]);
    socket.join(["a", "a", "early"]);
    assert_eq!(record.take(), ["create a", "join a"]);
    socket.leave("a");
    socket.leave(["a", "unknown"]);
    assert_eq!(record.take(), ["leave a", "delete a"], "what changes nothing is not told");
    socket.leave(socket.id());
    socket.join(socket.id());
    assert_eq!(record.take(), ["leave own", "delete own", "create own", "join own"]);
    drop(client);
    until_empty(&host.io).await;
    assert_eq!(record.take(), ["leave own", "delete own", "leave early", "delete early"]);
    socket.join("a");
    assert!(record.take().is_empty(), "who has gone joins nothing");
}

#[tokio::test(start_paused = true)]
async fn h73_a_room_lasts_from_its_first_member_to_its_last() {
    let host = Host::in_memory(Server::default());
    let ann = WebSocket::join(&host).await;
    let first = only_socket(&host.io);
    let ben = WebSocket::join(&host).await;
    let sockets = host.io.of("/").sockets();
    let second = sockets.iter().find(|socket| socket.id() != first.id()).expect("there are two");
    let record = recording(&host.io);
    first.join("a");
    second.join("a");
    first.leave("a");
    second.leave("a");
    assert_eq!(record.take(), ["create a", "join a", "join a", "leave a", "leave a", "delete a"]);
    // The room of a socket's own id is one room, whoever else is in it.
    second.join(first.id());
    assert_eq!(record.take(), ["join own"]);
    drop(ann);
    until("one has gone", || host.io.session_count() == 1).await;
    assert_eq!(record.take(), ["leave own"]);
    second.leave(first.id());
    assert_eq!(record.take(), ["leave own", "delete own"]);
    drop(ben);
    until_empty(&host.io).await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_may_do_all_that_others_may() {
    let host = Host::in_memory(Server::default());
    let mut client = WebSocket::join(&host).await;
    let socket = only_socket(&host.io);
    let (io, joining) = (host.io.clone(), socket.clone());
    host.io.of("/").on_room_event(move |event| {
        if let RoomEvent::Joined { room, .. } = event {
            assert!(joining.rooms().contains(room), "it is done when it is told");
            io.to(room).emit("joined", &**room).expect("sent");
            if &**room == "a" {
                joining.join("b");
            }
        }
    });
    let panics = |_: &RoomEvent| panic!("on purpose");
    host.io.of("/").on_room_event(panics);
    let record = recording(&host.io);
    socket.join("a");
    assert_eq!(client.next().await.as_deref(), Some("42[\"joined\",\"a\"]"));
    assert_eq!(client.next().await.as_deref(), Some("42[\"joined\",\"b\"]"));
    assert_eq!(record.all(), ["create a", "join a", "create b", "join b"]);
}
