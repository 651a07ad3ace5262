//! The soak itself: starts the server, the network and the clients, lets them be, and looks whether
//! every promise was kept.
//!
//! * What a client sent and the server acknowledged is there, in order, without gaps; over one
//!   connection nothing comes twice.
//! * What a room is sent reaches each member once and in order, from its joining on and across the
//!   connections over which its socket is recovered.
//! * When the network does well again, everyone is up to date and every answer has come.
//! * A reader that stops gets what the policy of its full outbox promises, and nobody else notices.
//! * Memory does not grow while the load stays the same; when all have gone, every counter is zero.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Load;
use crate::client::{Counting, Phase, State, Tally};
use crate::line::Way;
use crate::overflow;
use crate::proxy::Proxy;
use crate::random::Random;

/// How long everyone has to be up to date, and all to be gone.
const PATIENCE: Duration = Duration::from_secs(120);
/// Allocators keep pages, and what is kept for recovery varies with who is away.
const GROWTH_MAX: f64 = 1.2;
const GROWTH_BYTES_MAX: u64 = 16 << 20;

/// The server's process.
struct Server {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

pub(crate) async fn run(load: &Load) -> Result<()> {
    check_descriptors(load.clients)?;
    overflow::run().await?;
    let mut server = Server::start(load).await?;
    let calm_time = Duration::from_millis(load.calm_ms);
    let proxy = Proxy::start(server.address, calm_time, load.seed).await?;
    let tally = Arc::new(Tally::default());
    let (phase, receiver) = watch::channel(Phase::Load);
    let mut clients = JoinSet::new();
    for number in 0..load.clients as u64 {
        let client = Counting {
            number,
            address: proxy.address,
            way: Way::of(number),
            emit_interval: Duration::from_millis(load.emit_ms),
            tally: tally.clone(),
            phase: receiver.clone(),
            random: Random::new(!load.seed, number),
            state: State::default(),
        };
        clients.spawn(async move { (number, client.live().await) });
        // A server that was just started is not all that a start should test.
        if number % 50 == 49 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let memory = watch_load(load, &mut server, &proxy, &tally).await?;

    proxy.calm_down();
    phase.send_replace(Phase::Settle);
    let last: Vec<u64> = serde_json::from_value(server.ask("quiet").await?)?;
    phase.send_replace(Phase::Finish(Arc::new(last)));
    let lived = timeout(PATIENCE, clients.join_all()).await;
    let report = |what: &str| format!("{what}; {}", numbers(&proxy, &tally));
    let lived = lived.with_context(|| report("not everyone is up to date"))?;
    server.is_empty().await?;
    check_memory(&memory)?;
    check(&lived, &server.ask("audit").await?, &tally)?;
    server.stop().await?;
    println!("{}", report("every promise was kept"));
    Ok(())
}

/// Lets the load be; the server's resident bytes, once a second.
async fn watch_load(
    load: &Load,
    server: &mut Server,
    proxy: &Proxy,
    tally: &Tally,
) -> Result<Vec<u64>> {
    let begun = Instant::now();
    let mut memory = Vec::new();
    while begun.elapsed() < load.duration() {
        sleep(Duration::from_secs(1)).await;
        memory.push(server.resident_bytes()?);
        if memory.len() % 10 == 0 {
            let stats = server.ask("stats").await?;
            let connected = tally.connected.load(Ordering::Relaxed);
            let mebibytes = memory.last().map_or(0, |bytes| bytes >> 20);
            println!(
                "{} s: {connected} connected, {mebibytes} MiB, server {stats}; {}",
                memory.len(),
                numbers(proxy, tally)
            );
        }
        let violations = tally.violations.lock().expect("no holder panics").len();
        ensure!(violations == 0, "{}", first(tally));
    }
    Ok(memory)
}

fn numbers(proxy: &Proxy, tally: &Tally) -> String {
    let load = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    let faults = &proxy.faults;
    format!(
        "{} connections ({} by long-polling, {} upgraded; {} recovered), {} events received, \
         {} acknowledged; {} cuts, {} resets, {} silent deaths, {} slow readers",
        load(&tally.connections),
        load(&tally.polling),
        load(&tally.upgrades),
        load(&tally.recovered),
        load(&tally.ticks),
        load(&tally.acknowledged),
        load(&faults.cuts),
        load(&faults.resets),
        load(&faults.silences),
        load(&faults.slow),
    )
}

fn first(tally: &Tally) -> String {
    let violations = tally.violations.lock().expect("no holder panics");
    let shown = violations.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    format!("{} promises were broken:\n{shown}", violations.len())
}

/// The late part of the load holds no more than the middle.
fn check_memory(memory: &[u64]) -> Result<()> {
    let part = |from: usize, to: usize| {
        let range = memory.len() * from / 10..memory.len() * to / 10;
        memory.get(range).and_then(|part| part.iter().max()).copied().unwrap_or(0)
    };
    let (middle, late) = (part(4, 7), part(8, 10));
    let allowed = (middle as f64 * GROWTH_MAX) as u64 + GROWTH_BYTES_MAX;
    ensure!(late <= allowed, "memory grows: {middle} bytes, then {late}");
    println!("memory is flat: {} MiB, then {} MiB", middle >> 20, late >> 20);
    Ok(())
}

/// What the server says and what the clients say is the same.
fn check(lived: &[(u64, (u64, u64))], audit: &Value, tally: &Tally) -> Result<()> {
    ensure!(tally.violations.lock().expect("no holder panics").is_empty(), "{}", first(tally));
    ensure!(audit["violations"] == 0, "the server found: {}", audit["shown"]);
    let of_server: HashMap<u64, u64> =
        serde_json::from_value::<Vec<(u64, u64)>>(audit["clients"].clone())?.into_iter().collect();
    for (client, (acknowledged, sent)) in lived {
        let have = of_server.get(client).copied().unwrap_or(0);
        ensure!(acknowledged == sent, "client {client} is not done: {acknowledged} of {sent}");
        ensure!(have == *sent, "client {client} sent {sent}, and the server has {have}");
    }
    for (what, count) in [
        ("received", &tally.ticks),
        ("acknowledged", &tally.acknowledged),
        ("sent over long-polling", &tally.polling),
        ("upgraded", &tally.upgrades),
        ("recovered", &tally.recovered),
    ] {
        ensure!(count.load(Ordering::Relaxed) > 0, "nothing was {what}");
    }
    Ok(())
}

impl Server {
    async fn start(load: &Load) -> Result<Self> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.arg("serve").args(["--tick-ms", &load.tick_ms.to_string()]);
        command.args(["--rooms", &load.rooms().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let input = child.stdin.take().context("the server has an input")?;
        let output = child.stdout.take().context("the server has an output")?;
        let mut output = BufReader::new(output).lines();
        let address = output.next_line().await?.context("the server ended")?.parse()?;
        Ok(Self { child, input, output, address })
    }

    async fn ask(&mut self, what: &str) -> Result<Value> {
        self.input.write_all(format!("{what}\n").as_bytes()).await?;
        let line = timeout(PATIENCE, self.output.next_line()).await??;
        Ok(serde_json::from_str(&line.context("the server ended")?)?)
    }

    fn resident_bytes(&self) -> Result<u64> {
        let id = self.child.id().context("the server ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("/proc tells resident memory")?.trim().parse::<u64>()? << 10)
    }

    /// Waits until nobody and nothing is left.
    async fn is_empty(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let stats = self.ask("stats").await?;
            let counters = ["sessions", "sockets", "rooms"].map(|name| stats[name].as_u64());
            if counters == [Some(0); 3] {
                println!("all have gone: {stats}");
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("all have gone, and the server still counts {stats}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(mut self) -> Result<()> {
        drop(self.input);
        let status = timeout(PATIENCE, self.child.wait()).await??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// Each connection takes three: the client's own, and two of the network; and some clients have
/// more than one.
fn check_descriptors(clients: usize) -> Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let max = line.and_then(|line| line.split_whitespace().nth(3)).and_then(|max| max.parse().ok());
    let (max, wanted): (usize, usize) =
        (max.unwrap_or(usize::MAX), 3 * clients + clients / 2 + 200);
    // Those whose connection is dead keep two more until it is over.
    ensure!(wanted <= max, "{clients} clients want {wanted} open files; `ulimit -n` allows {max}");
    Ok(())
}
