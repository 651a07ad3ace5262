//! Readers that stop: what each policy of an outbox promises when it is full, over each transport,
//! and that nobody else notices. Does not need a network that fails.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use serde_json::Value;
use sockeye::{DisconnectReason, OutboxPolicy, Server, Socket, SocketId, State};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::line::{Incoming, Line, Way};

const PATIENCE: Duration = Duration::from_secs(60);
const WAYS: [Way; 3] = [Way::WebSocket, Way::Polling, Way::Upgrade];
const OUTBOX_BYTES_MAX: usize = 64 << 10;
const EVENT_BYTES: usize = 1_000;
/// Far more than the outbox and the kernel's buffers hold together.
const EVENTS: u64 = 2_000;
/// As much as waits for a reader that keeps up: less than its outbox holds.
const BATCH: u64 = 20;
/// Such that the kernel does not take all of it in the place of the outbox.
const SEND_BUFFER_BYTES: u32 = 16 << 10;

type Ends = Arc<Mutex<Vec<(SocketId, DisconnectReason)>>>;

pub(crate) async fn run() -> Result<()> {
    for policy in [OutboxPolicy::Disconnect, OutboxPolicy::DropOldest, OutboxPolicy::Refuse] {
        let checked = timeout(PATIENCE, check(policy)).await.context("it takes too long");
        checked.and_then(|checked| checked).with_context(|| format!("slow readers, {policy:?}"))?;
    }
    println!("slow readers met what each policy promises, over each transport");
    Ok(())
}

async fn check(policy: OutboxPolicy) -> Result<()> {
    let ends = Ends::default();
    let (io, address) = serve(policy, ends.clone()).await?;
    let mut slow = Vec::new();
    for way in WAYS {
        slow.push(Reader::join(address, way).await?);
    }
    let ids = slow.iter().map(|reader| reader.id).collect::<Vec<_>>();
    let (mut quick, mut seen) = (JoinSet::new(), Vec::new());
    for way in WAYS {
        let reader = Reader::join(address, way).await?;
        let (progress, receiver) = watch::channel(0);
        quick.spawn(reader.read_to_end(Some(progress)));
        seen.push(receiver);
    }
    while io.to("room").sockets().len() < 2 * WAYS.len() {
        sleep(Duration::from_millis(5)).await;
    }
    flood(&io, 1..=EVENTS, &mut seen).await?;

    // Now they read on.
    let mut reading = JoinSet::new();
    for reader in slow {
        reading.spawn(reader.read_to_end(None));
    }
    if policy != OutboxPolicy::Disconnect {
        for id in &ids {
            io.of("/").socket(id).context("it is still connected")?.drained().await;
        }
    }
    flood(&io, EVENTS + 1..=EVENTS + 1, &mut seen).await?;
    while let Some(read) = quick.join_next().await {
        let Read { way, numbers, .. } = read?;
        let all = (1..=EVENTS + 1).eq(numbers);
        ensure!(all, "a reader that keeps up missed something ({way:?})");
    }
    while let Some(read) = reading.join_next().await {
        judge(policy, &read?)?;
    }
    check_ends(policy, &ids, &ends.lock().expect("no holder panics"))?;
    while io.session_count() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// A server whose clients are all in one room.
async fn serve(policy: OutboxPolicy, ends: Ends) -> Result<(Server, SocketAddr)> {
    let io = Server::builder()
        .outbox_bytes_max(OUTBOX_BYTES_MAX)
        .outbox_policy(policy)
        .state(ends)
        .build();
    io.on_connection(async |socket: Socket| {
        socket.join("room");
    });
    io.on_disconnect(async |socket: Socket, reason, State(ends): State<Ends>| {
        ends.lock().expect("no holder panics").push((socket.id(), reason));
    });
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(64)?;
    let address = listener.local_addr()?;
    let app = Router::new().layer(io.layer());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok((io, address))
}

/// Sends to everyone, no faster than those read that do.
async fn flood(
    io: &Server,
    numbers: impl Iterator<Item = u64>,
    seen: &mut [watch::Receiver<u64>],
) -> Result<()> {
    let fill = "x".repeat(EVENT_BYTES);
    for number in numbers {
        io.to("room").emit("n", (&fill, number))?;
        if number % BATCH == 0 || number > EVENTS {
            for reader in &mut *seen {
                reader.wait_for(|seen| *seen >= number).await.context("a reader has gone")?;
            }
        }
    }
    Ok(())
}

/// What a reader that had stopped came to.
fn judge(policy: OutboxPolicy, read: &Read) -> Result<()> {
    let Read { way, numbers, was_closed } = read;
    let gaps: Vec<usize> =
        (1..numbers.len()).filter(|at| numbers[*at] != numbers[at - 1] + 1).collect();
    let told = || format!("{way:?}: {} events, gaps before {gaps:?}", numbers.len());
    ensure!(numbers.is_sorted_by(|a, b| a < b), "out of order, or twice: {}", told());
    ensure!(numbers.first() == Some(&1), "the first is missing: {}", told());
    let last = numbers.last().copied().unwrap_or_default();
    if policy == OutboxPolicy::Disconnect {
        ensure!(*was_closed, "it was not closed: {}", told());
        ensure!(gaps.is_empty() && last < EVENTS, "it went on behind a gap: {}", told());
        return Ok(());
    }
    ensure!(!was_closed && last == EVENTS + 1, "it was closed: {}", told());
    let has_newest = numbers.contains(&EVENTS);
    let (Some(first), Some(final_gap)) = (gaps.first(), gaps.last()) else {
        bail!("nothing was dropped: {}", told())
    };
    if policy == OutboxPolicy::DropOldest {
        // What an event holds in memory is some 100 bytes more than its own.
        let held = numbers.len() - 1 - final_gap;
        let most = OUTBOX_BYTES_MAX / EVENT_BYTES;
        ensure!(has_newest && (most / 2..=most).contains(&held), "not the newest: {}", told());
    } else {
        ensure!(!has_newest && *first > OUTBOX_BYTES_MAX / EVENT_BYTES / 2, "{}", told());
    }
    Ok(())
}

/// Whom the server has disconnected.
fn check_ends(
    policy: OutboxPolicy,
    slow: &[SocketId],
    ends: &[(SocketId, DisconnectReason)],
) -> Result<()> {
    let forced = ends.iter().filter(|(_, reason)| *reason == DisconnectReason::ForcedClose);
    let forced: Vec<_> = forced.map(|(id, _)| *id).collect();
    if policy == OutboxPolicy::Disconnect {
        let all = slow.iter().all(|id| forced.contains(id)) && forced.len() == slow.len();
        ensure!(all, "not those were disconnected that are slow: {ends:?}");
    } else {
        ensure!(forced.is_empty(), "somebody was disconnected: {ends:?}");
    }
    Ok(())
}

struct Reader {
    way: Way,
    line: Line,
    id: SocketId,
}

struct Read {
    way: Way,
    numbers: Vec<u64>,
    /// The connection ended before the last event.
    was_closed: bool,
}

impl Reader {
    /// In `/`, and over the transport that it stays with.
    async fn join(address: SocketAddr, way: Way) -> Result<Self> {
        let (mut line, _) = Line::open(address, way, PATIENCE).await?;
        line.send("40".into()).await?;
        let Incoming::Packet(connect) = line.next().await? else { bail!("it did not probe yet") };
        let connect = connect.strip_prefix("40").context("the CONNECT is answered")?;
        let connect: Value = serde_json::from_str(connect)?;
        let id = connect["sid"].as_str().and_then(SocketId::parse).context("an id")?;
        if way == Way::Upgrade {
            line.upgrade(PATIENCE);
            let Incoming::Ready(websocket) = line.next().await? else { bail!("nothing is sent") };
            line.switch(websocket).await?;
        }
        Ok(Self { way, line, id })
    }

    /// Reads until the last event has come, or nothing comes any more.
    async fn read_to_end(mut self, progress: Option<watch::Sender<u64>>) -> Read {
        let (way, mut numbers) = (self.way, Vec::new());
        let was_closed = loop {
            match self.next().await {
                Ok(number) => numbers.push(number),
                Err(_) => break true,
            }
            let last = numbers.last().copied().unwrap_or_default();
            if let Some(progress) = &progress {
                progress.send_replace(last);
            }
            if last > EVENTS {
                break false;
            }
        };
        // One that was closed has nothing to say goodbye to.
        let _ = self.line.close(PATIENCE).await;
        Read { way, numbers, was_closed }
    }

    async fn next(&mut self) -> Result<u64> {
        loop {
            let Incoming::Packet(packet) = self.line.next().await? else { continue };
            if packet == "2" {
                self.line.send("3".into()).await?;
            } else if let Some(event) = packet.strip_prefix("42") {
                let event: Vec<Value> = serde_json::from_str(event)?;
                return event[2].as_u64().context("an event has its number");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_does_not_keep_its_promise_is_found() {
        use OutboxPolicy::{Disconnect, DropOldest, Refuse};
        let judged = |policy, parts: &[std::ops::RangeInclusive<u64>], was_closed| {
            let numbers = parts.iter().cloned().flatten().collect();
            judge(policy, &Read { way: Way::WebSocket, numbers, was_closed }).is_ok()
        };
        let (last, held) = (EVENTS + 1, EVENTS - 55..=EVENTS + 1);
        assert!(judged(Disconnect, &[1..=90], true));
        assert!(judged(DropOldest, &[1..=90, held.clone()], false));
        assert!(judged(Refuse, &[1..=90, 100..=103, last..=last], false));
        for (what, policy, parts, was_closed) in [
            ("not closed", Disconnect, vec![1..=last], false),
            ("a gap", Disconnect, vec![1..=90, 92..=95], true),
            ("nothing dropped", DropOldest, vec![1..=last], false),
            ("closed", DropOldest, vec![1..=90, held.clone()], true),
            ("the newest dropped", DropOldest, vec![1..=90, last..=last], false),
            ("too much held", DropOldest, vec![1..=90, EVENTS - 200..=last], false),
            ("twice", DropOldest, vec![1..=90, 90..=90, held], false),
            ("nothing refused", Refuse, vec![1..=last], false),
            ("the oldest dropped", Refuse, vec![1..=90, EVENTS - 55..=last], false),
            ("nothing after it", Refuse, vec![1..=90], false),
        ] {
            assert!(!judged(policy, &parts, was_closed), "{what}");
        }
    }

    #[test]
    fn who_is_disconnected_is_slow_and_only_where_the_policy_says_so() {
        let ids: Vec<_> = (0..3).map(|number| SocketId::from_entropy([number; 15])).collect();
        let ends = |numbers: &[usize]| -> Vec<_> {
            numbers.iter().map(|at| (ids[*at], DisconnectReason::ForcedClose)).collect()
        };
        let slow = &ids[..2];
        for (policy, ended, is_right) in [
            (OutboxPolicy::Disconnect, ends(&[0, 1]), true),
            (OutboxPolicy::Disconnect, ends(&[0]), false),
            (OutboxPolicy::Disconnect, ends(&[0, 1, 2]), false),
            (OutboxPolicy::Refuse, ends(&[]), true),
            (OutboxPolicy::Refuse, ends(&[1]), false),
        ] {
            assert_eq!(check_ends(policy, slow, &ended).is_ok(), is_right, "{ended:?}");
        }
    }
}
