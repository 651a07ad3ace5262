//! How much memory clients can make the server hold, counted by the allocator. A binary of its
//! own, in which nothing runs beside what is measured. Says nothing of time.

#[expect(dead_code, unused_imports, reason = "a part of it serves here")]
#[path = "server/support/mod.rs"]
mod support;

use peak_alloc::PeakAlloc;
use sockeye::{Data, EmitError, OutboxPolicy, PerMessageDeflate, Server};
use tokio::runtime::Runtime;

use crate::support::{Host, Polling, WebSocket, only_socket, until};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What waits for clients that never GET is what the limit says, however small the packets are.
async fn outboxes() {
    for fill in [0, 10, 100, 1000, 10_000] {
        let policy = OutboxPolicy::Refuse;
        let io = Server::builder().outbox_bytes_max(MIB).outbox_policy(policy).build();
        let host = Host::in_memory(io);
        let _client = Polling::join(&host).await;
        let socket = only_socket(&host.io);
        let text = "x".repeat(fill);
        // The buffer that packets are written in is the thread's.
        host.io.to("nobody").emit("e", &text).expect("encoded");
        let before = ALLOCATOR.current_usage();
        let mut count = 0;
        let full = loop {
            match socket.emit("e", &text) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(full, EmitError::OutboxFull), "{full}");
        let held = ALLOCATOR.current_usage() - before;
        assert!(count > 90 && held <= MIB + 4 * KIB, "{count} of {fill} bytes hold {held}");
        assert!(held > MIB * 3 / 4, "{count} of {fill} bytes hold {held}");
    }
}

/// A few KB that inflate to 20 MB, sent in one piece to a handler that waits.
async fn inflated_events() {
    let options = Some(PerMessageDeflate::default());
    let builder = Server::builder().per_message_deflate(options);
    let io = builder.events_waiting_bytes_max(MIB).build();
    io.on("e", async |Data(_): Data<String>| std::future::pending::<()>().await);
    let host = Host::on_loopback(io).await;
    let offer = PerMessageDeflate::default();
    let mut client = WebSocket::open_deflated(&host, "", offer).await.expect("a 101");
    client.send("40").await;
    until("it has joined", || host.io.of("/").sockets().len() == 1).await;
    let frames = client.encode(&format!("42[\"e\",\"{}\"]", "0".repeat(200_000)));
    let frames = frames.repeat(100);
    assert!(frames.len() < 64 * KIB, "{} bytes", frames.len());
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    client.write(&frames).await;
    until("the first events wait", || ALLOCATOR.current_usage() > before + MIB / 2).await;
    // The server has time for another client, so it waits itself.
    let _another = Polling::join(&host).await;
    let peak = ALLOCATOR.peak_usage() - before;
    assert!(peak < 2 * MIB + 512 * KIB, "{peak} bytes");
}

#[test]
fn what_clients_can_make_the_server_hold() {
    runtime().block_on(async {
        outboxes().await;
        inflated_events().await;
    });
}
