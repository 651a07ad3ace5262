//! What is emitted arrives: whole, in order, once; also where the stream takes a little at a time.

use sockeye::{Data, HandlerError, Server, Socket};
use sockeye_ws::{Header, Opcode, mask};

use crate::support::{Host, Polling, WebSocket, only_socket, until_empty};

#[tokio::test(start_paused = true)]
async fn a_stream_that_takes_little_at_a_time_takes_it_all() {
    let host = Host::in_memory(Server::default());
    let mut client = WebSocket::join(&host).await;
    let text = "x".repeat(100_000);
    only_socket(&host.io).emit("large", &text).expect("it is connected");
    // Nothing else happens that could carry the rest along.
    assert_eq!(client.next().await, Some(format!("42[\"large\",\"{text}\"]")));
}

/// A message in frames of so many bytes of payload, with a ping before each but the first.
fn fragments(opcode: Opcode, message: &[u8], len: usize) -> Vec<u8> {
    const KEY: mask::MaskingKey = [1, 2, 3, 4];
    let mut frames = Vec::new();
    let mut frame = |fin, opcode, payload: &[u8]| {
        let payload_len = payload.len() as u64;
        Header { fin, rsv: 0, opcode, mask: Some(KEY), payload_len }.encode(&mut frames);
        let start = frames.len();
        frames.extend_from_slice(payload);
        mask::apply(KEY, 0, &mut frames[start..]);
    };
    let last = message.len().div_ceil(len) - 1;
    for (index, fragment) in message.chunks(len).enumerate() {
        if index > 0 {
            frame(true, Opcode::Ping, b"between");
        }
        frame(index == last, if index == 0 { opcode } else { Opcode::Continuation }, fragment);
    }
    frames
}

#[tokio::test]
async fn a_large_event_arrives_whole_however_it_is_cut() {
    let io = Server::default();
    io.on("large", async |Data(text): Data<String>, Data(data): Data<sockeye::Binary>| {
        Ok::<_, HandlerError>((text, data))
    });
    // What comes behind it is still read after it.
    io.on("then", async || Ok::<_, HandlerError>("then"));
    let text = "x".to_owned() + &"🐟".repeat(70_000);
    let data: Vec<u8> = (0..300_000_u32).map(|index| (index * 7) as u8).collect();
    let args = format!("[\"large\",\"{text}\",{{\"_placeholder\":true,\"num\":0}}]");
    let event = format!("451-1{args}");
    for host in [Host::in_memory(io.clone()), Host::on_loopback(io.clone()).await] {
        let mut client = WebSocket::join(&host).await;
        for len in [1_000_000, 100_001] {
            client.write(&fragments(Opcode::Text, event.as_bytes(), len)).await;
            client.write(&fragments(Opcode::Binary, &data, len)).await;
            client.send("422[\"then\"]").await;
            let ack = client.next().await.expect("it is answered");
            assert!(ack.starts_with("461-1[") && ack.contains(&text), "{} bytes", ack.len());
            assert!(client.next_binary().await.as_ref() == Some(&data));
            assert_eq!(client.next().await.as_deref(), Some("432[\"then\"]"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_emitted_before_a_disconnection_arrives_before_it() {
    let host = Host::in_memory(Server::default());
    for close in [false, true] {
        let mut client = WebSocket::join(&host).await;
        let socket = only_socket(&host.io);
        let text = "x".repeat(10_000);
        for _ in 0..3 {
            socket.emit("last", &text).expect("it is connected");
        }
        socket.disconnect(close);
        assert!(socket.emit("late", ()).is_err());
        for _ in 0..3 {
            assert_eq!(client.next().await, Some(format!("42[\"last\",\"{text}\"]")));
        }
        assert_eq!(client.next().await.as_deref(), Some("41"));
        if close {
            assert_eq!(client.next().await, None);
        }
        drop(client);
        until_empty(&host.io).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_and_others_emit_keeps_its_order() {
    let io = Server::default();
    io.on("go", async |socket: Socket, Data(count): Data<u32>| {
        for number in 0..count {
            socket.emit("n", number).expect("it is connected");
            if number % 3 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let host = Host::in_memory(io);
    let mut client = WebSocket::join(&host).await;
    client.send("42[\"go\",50]").await;
    for number in 0..50 {
        assert_eq!(client.next().await, Some(format!("42[\"n\",{number}]")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_reaches_polling_and_websocket_alike() {
    let host = Host::in_memory(Server::default());
    let polling = Polling::join(&host).await;
    let mut websocket = WebSocket::join(&host).await;
    host.io.emit("all", ("one", 2)).expect("encoded");
    let expected = "42[\"all\",\"one\",2]";
    assert_eq!(polling.get().await.expect("200"), [expected]);
    assert_eq!(websocket.next().await.as_deref(), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn what_comes_behind_the_upgrade_is_answered_behind_it_too() {
    let io = Server::default();
    io.on("which", async |socket: Socket| sockeye::Reply(socket.transport().as_str()));
    let host = Host::in_memory(io);
    for _ in 0..3 {
        let client = Polling::join(&host).await;
        let mut websocket = WebSocket::open(&host, &client.sid).await.expect("a handshake");
        websocket.send("2probe").await;
        assert_eq!(websocket.next().await.as_deref(), Some("3probe"));
        let get = tokio::spawn(async move { client.get().await });
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        // All of it is there at once.
        websocket.send("5").await;
        websocket.send("421[\"which\"]").await;
        websocket.send("422[\"which\"]").await;
        assert_eq!(websocket.next().await.as_deref(), Some("431[\"websocket\"]"));
        assert_eq!(websocket.next().await.as_deref(), Some("432[\"websocket\"]"));
        assert_eq!(get.await.expect("an answer"), Ok(vec!["6".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_volatile_event_behind_another_is_dropped_and_later_ones_arrive() {
    let host = Host::in_memory(Server::default());
    let mut client = WebSocket::join(&host).await;
    let socket = only_socket(&host.io);
    socket.emit("first", ()).expect("it is connected");
    socket.volatile().emit("dropped", ()).expect("no error");
    socket.emit("second", ()).expect("it is connected");
    assert_eq!(client.next().await.as_deref(), Some("42[\"first\"]"));
    assert_eq!(client.next().await.as_deref(), Some("42[\"second\"]"));
    socket.volatile().emit("third", ()).expect("no error");
    assert_eq!(client.next().await.as_deref(), Some("42[\"third\"]"));
}
