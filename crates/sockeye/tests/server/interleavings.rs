//! Random scripts of messages both ways, upgrades, waits and ends, over a client that behaves but
//! takes any time for anything: no message is lost, doubled or out of order, and nothing is left.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use sockeye::cluster::InProcessCluster;
use sockeye::{Data, DisconnectReason, Server, ServerBuilder, Socket, State};

use crate::support::client::{Client, Probe};
use crate::support::{Host, only_socket, until, until_empty};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client sends so many events.
    Up(u8),
    /// The server emits so many, from outside the connection's task.
    Down(u8),
    /// The client sends one, whose handler emits so many.
    Both(u8),
    /// The client probes a WebSocket, and takes it unless it thinks better of it.
    Upgrade(Probe),
    Wait {
        ms: u16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both sides wait until all is there; then the client is gone.
    Quiet,
    ServerDisconnects,
    ServerCloses,
    ServerShutsDown,
    ClientLeaves,
    ClientCloses,
    ClientVanishes,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..20_u8).prop_map(Step::Up),
        3 => (1..20_u8).prop_map(Step::Down),
        2 => (0..6_u8).prop_map(Step::Both),
        2 => prop_oneof![
            4 => Just(Probe::Take),
            1 => Just(Probe::DropAtOnce),
            1 => Just(Probe::DropProbed),
            1 => Just(Probe::SayNonsense),
        ]
        .prop_map(Step::Upgrade),
        3 => (0..400_u16).prop_map(|ms| Step::Wait { ms }),
        1 => (1000..40_000_u16).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// Those after which the server need not wait for its own timeouts.
fn prompt_end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::ServerCloses), Just(End::ServerShutsDown), Just(End::ClientCloses),]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Quiet),
        2 => Just(End::ServerDisconnects),
        2 => Just(End::ServerCloses),
        2 => Just(End::ServerShutsDown),
        2 => Just(End::ClientLeaves),
        2 => Just(End::ClientCloses),
        1 => Just(End::ClientVanishes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_reordered(
        steps in vec(step(), 0..12),
        end in end(),
        seed in 1..u64::MAX,
    ) {
        run(true, play(&steps, end, seed, Way::InMemory));
    }

    // Each connection is another node's, so most requests are forwarded, and upgrades fail or not
    // by whose turn it is.
    #[test]
    fn nor_where_another_node_answers_each_time(
        steps in vec(step(), 0..12),
        end in end(),
        seed in 1..u64::MAX,
    ) {
        run(true, play(&steps, end, seed, Way::Balanced));
    }
}

proptest! {
    // The clock is real here, and the writes are those of whoever emits.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nor_over_loopback(steps in vec(step(), 0..12), end in prompt_end(), seed in 1..u64::MAX) {
        run(false, play(&steps, end, seed, Way::OnLoopback));
    }
}

/// How the client comes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    InMemory,
    OnLoopback,
    Balanced,
}

fn run(is_clock_virtual: bool, script: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(is_clock_virtual)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let all = tokio::time::timeout(Duration::from_secs(3600), script);
        all.await.expect("the script comes to its end");
    });
}

/// What the server's side saw and did.
#[derive(Default)]
struct Record {
    up: Vec<u32>,
    down: u32,
    ends: Vec<DisconnectReason>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Record>>);

impl Log {
    fn with<R>(&self, run: impl FnOnce(&mut Record) -> R) -> R {
        run(&mut self.0.lock().expect("no holder panics"))
    }

    fn emit(&self, socket: &Socket, count: u8) {
        for _ in 0..count {
            self.with(|record| {
                // Every seventh is more than a small stream holds.
                let padding = "x".repeat(if record.down % 7 == 3 { 9000 } else { 3 });
                if socket.emit("down", (record.down, padding)).is_ok() {
                    record.down += 1;
                }
            });
        }
    }
}

fn server(log: &Log, builder: ServerBuilder) -> Server {
    let io = builder.state(log.clone()).build();
    io.on("up", async |State(log): State<Log>, Data(number): Data<u32>| {
        log.with(|record| record.up.push(number));
    });
    io.on(
        "both",
        async |socket: Socket, State(log): State<Log>, Data(number): Data<u32>, Data(count)| {
            log.with(|record| record.up.push(number));
            log.emit(&socket, count);
        },
    );
    io.on_disconnect(async |State(log): State<Log>, reason: DisconnectReason| {
        log.with(|record| record.ends.push(reason));
    });
    io
}

async fn play(steps: &[Step], end: End, seed: u64, way: Way) {
    let log = Log::default();
    let cluster = InProcessCluster::new();
    let node = || Server::builder().cluster(cluster.bus()).forward_requests(true);
    let builder = if way == Way::Balanced { node() } else { Server::builder() };
    let io = server(&log, builder);
    let host = match way {
        Way::InMemory => Host::in_memory(io.clone()),
        Way::OnLoopback => Host::on_loopback(io.clone()).await,
        Way::Balanced => Host::balanced(io.clone(), vec![node().build(), node().build()]),
    };
    let client = Client::join(&host, seed).await;
    let socket = only_socket(&io);
    for step in steps {
        match *step {
            Step::Up(count) => (0..count).for_each(|_| client.send_numbered("up", "")),
            Step::Both(count) => client.send_numbered("both", &format!(",{count}")),
            Step::Down(count) => log.emit(&socket, count),
            Step::Upgrade(probe) => client.upgrade(probe),
            Step::Wait { ms } => {
                let unit = if way == Way::OnLoopback { 5 } else { 1000 };
                tokio::time::sleep(Duration::from_micros(u64::from(ms) * unit)).await;
            }
        }
    }
    let reasons = finish(&io, &socket, &client, &log, end).await;
    drop(socket);
    until_empty(&io).await;
    until("the hook has run", || log.with(|record| !record.ends.is_empty())).await;

    let (down, up) = (client.received(), log.with(|record| record.up.clone()));
    let (emitted, sent) = log.with(|record| (record.down, client.sent()));
    assert_eq!(down, (0..down.len() as u32).collect::<Vec<_>>(), "what the client got");
    assert_eq!(up, (0..up.len() as u32).collect::<Vec<_>>(), "what the server got");
    if !matches!(end, End::ClientLeaves | End::ClientCloses | End::ClientVanishes) {
        assert_eq!(down.len(), emitted as usize, "the client got all");
    }
    if matches!(end, End::Quiet | End::ClientLeaves | End::ClientCloses) {
        assert_eq!(up.len(), sent as usize, "the server got all");
    }
    let ends = log.with(|record| record.ends.clone());
    assert!(ends.len() == 1 && reasons.contains(&ends[0]), "{end:?} came to {ends:?}");
}

/// Ends it, and returns the reasons that the server may give.
async fn finish(
    io: &Server,
    socket: &Socket,
    client: &Client,
    log: &Log,
    end: End,
) -> &'static [DisconnectReason] {
    use DisconnectReason::*;
    match end {
        End::Quiet => {
            until("all has arrived", || {
                let (emitted, up) = log.with(|record| (record.down, record.up.len()));
                client.received().len() == emitted as usize && up == client.sent() as usize
            })
            .await;
            client.vanish();
            &[TransportClose, TransportError, PingTimeout]
        }
        End::ServerDisconnects => {
            socket.disconnect(false);
            client.left().await;
            client.vanish();
            &[ServerNamespaceDisconnect]
        }
        End::ServerCloses => {
            socket.disconnect(true);
            client.ended().await;
            &[ServerNamespaceDisconnect]
        }
        End::ServerShutsDown => {
            assert!(io.shutdown(Duration::from_secs(60)).await, "all sessions ended");
            client.ended().await;
            &[ServerShuttingDown]
        }
        End::ClientLeaves => {
            client.send("41");
            until("the socket is gone", || !socket.is_connected()).await;
            client.vanish();
            &[ClientNamespaceDisconnect]
        }
        End::ClientCloses => {
            client.close();
            client.ended().await;
            &[TransportClose]
        }
        End::ClientVanishes => {
            client.vanish();
            &[TransportClose, TransportError, PingTimeout]
        }
    }
}
