//! Measuring against peers: builds everything and lets `bench/bench.py` run the servers in turns.

use anyhow::Result;

use crate::install::{npm_ci, redis};
use crate::run::{command, root, run, target};

/// Runs the bench; `args` go to its runner.
pub fn run_bench(args: &[String]) -> Result<()> {
    if args == ["heap"] {
        return run_heap();
    }
    let servers = if is_websocket(args) {
        build_websocket()?
    } else if is_cluster(args) {
        build_cluster()?
    } else {
        build_socket_io()?
    };
    let bench = root().join("bench");
    run(command("cargo", &["build", "--release"])
        .current_dir(&bench)
        .env("CARGO_TARGET_DIR", target()))?;
    let mut python = command("python3", &["bench.py"]);
    python.args(servers.iter().flat_map(|server| ["--cmd", server]));
    python.current_dir(&bench).env("CARGO_TARGET_DIR", target());
    if args.is_empty() {
        python.args(["--servers", "limit,oxide,node", "--suite", "core"]);
    }
    run(python.args(args))
}

/// Counts the heap of idle WebSocket connections, ours and the peers'.
fn run_heap() -> Result<()> {
    let folder = target().join("count-heap");
    let bench = root().join("bench");
    let counted = ["--features", "count-heap"];
    let ours = ["build", "--release", "--package", "bench-server", "--bin", "ws-bench-server"];
    run(command("cargo", &ours).args(counted).env("CARGO_TARGET_DIR", &folder))?;
    let peers = ["build", "--release", "--package", "peer-ws"];
    run(command("cargo", &peers)
        .args(counted)
        .current_dir(&bench)
        .env("CARGO_TARGET_DIR", &folder))?;
    let mut python = command("python3", &["heap.py"]);
    for (name, binary) in [
        ("sockeye-ws", "ws-bench-server"),
        ("tungstenite", "ws-tungstenite"),
        ("tungstenite-tuned", "env TUNED=1 ws-tungstenite"),
        ("tokio-websockets", "ws-tokio-websockets"),
        ("fastwebsockets", "ws-fastwebsockets"),
        ("yawc", "ws-yawc"),
        ("yawc-tuned", "env TUNED=1 ws-yawc"),
    ] {
        let (variables, binary) = binary.rsplit_once(' ').unwrap_or(("", binary));
        let path = folder.join("release").join(binary);
        python.arg(format!("{name}={variables} {}", path.display()));
    }
    run(python.current_dir(&bench))
}

/// Whether the arguments name the suite or scenarios of raw WebSocket.
fn is_websocket(args: &[String]) -> bool {
    values(args).any(|value| value == "ws" || value.starts_with("ws-"))
}

/// Whether they name the suite or scenarios of clusters.
fn is_cluster(args: &[String]) -> bool {
    values(args).any(|value| value == "cluster" || value.starts_with("cross-"))
}

fn values(args: &[String]) -> impl Iterator<Item = &str> {
    args.iter().map(|arg| arg.rsplit('=').next().unwrap_or(arg))
}

/// Our server of Socket.IO, as an argument of the runner.
fn build_socket_io() -> Result<Vec<String>> {
    npm_ci("bench/peers/node-socketio")?;
    Ok(vec![format!("sockeye={}", build_ours("bench-server")?)])
}

/// Our server as a node of clusters: an argument for each bus.
fn build_cluster() -> Result<Vec<String>> {
    redis()?;
    npm_ci("bench/peers/node-cluster")?;
    let server = build_ours("bench-server")?;
    let node = |bus: &str| format!("sockeye-{bus}=env BUS={bus} {server}");
    Ok(["classic", "sharded", "streams"].map(node).into())
}

/// Our server of WebSocket; also encoding a broadcast for each receiver, to show what is won by
/// doing it once.
fn build_websocket() -> Result<Vec<String>> {
    npm_ci("bench/peers/ws-node")?;
    let server = build_ours("ws-bench-server")?;
    Ok(vec![format!("sockeye-ws={server}"), format!("sockeye-ws-each=env HUB=each {server}")])
}

/// A server of ours, optimized as the peers are, whose workspace has a profile of its own.
fn build_ours(binary: &str) -> Result<String> {
    let args = ["build", "--profile", "measured", "--package", "bench-server", "--bin", binary];
    run(&mut command("cargo", &args))?;
    Ok(target().join("measured").join(binary).display().to_string())
}
