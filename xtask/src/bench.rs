//! Measuring against peers: builds everything and lets `bench/bench.py` run the servers in turns.

use anyhow::Result;

use crate::install::npm_ci;
use crate::run::{command, root, run, target};

/// Runs the bench; `args` go to its runner.
pub fn run_bench(args: &[String]) -> Result<()> {
    run(&mut command("cargo", &["build", "--release", "--package", "bench-server"]))?;
    let bench = root().join("bench");
    run(command("cargo", &["build", "--release"])
        .current_dir(&bench)
        .env("CARGO_TARGET_DIR", target()))?;
    npm_ci("bench/peers/node-socketio")?;
    let ours = format!("sockeye={}", target().join("release/bench-server").display());
    let mut python = command("python3", &["bench.py", "--cmd", &ours]);
    python.current_dir(&bench).env("CARGO_TARGET_DIR", target());
    if args.is_empty() {
        python.args(["--servers", "limit,oxide,node", "--suite", "core"]);
    }
    run(python.args(args))
}
