//! Nodes behind a real balancer (`tests/balancer`), by the official client.

use anyhow::Result;

use crate::install::{npm_ci, redis_and_balancers};
use crate::run::{command, root, run, target};

const FOLDER: &str = "tests/balancer";

/// Builds a node and lets clients speak with two of them through nginx.
pub fn run_balanced() -> Result<()> {
    redis_and_balancers()?;
    npm_ci(FOLDER)?;
    let example = ["build", "--package", "sockeye-redis", "--example", "balanced-node"];
    run(&mut command("cargo", &example))?;
    let mut npm = command("npm", &["test"]);
    let node = target().join("debug/examples/balanced-node");
    run(npm.current_dir(root().join(FOLDER)).env("BALANCED_NODE", node))
}
