//! Node's servers and ours in one cluster: `tests/cluster/README.md` says what is tested.

use anyhow::Result;

use crate::install::{npm_ci, redis};
use crate::run::{command, root, run, target};

const FOLDER: &str = "tests/cluster";

/// What the Rust tests of clusters and those by Node's servers need.
pub fn fetch() -> Result<()> {
    redis()?;
    npm_ci(FOLDER)
}

/// Builds our node and the examples, and lets Node's servers speak with it.
pub fn run_mixed() -> Result<()> {
    fetch()?;
    run(&mut command("cargo", &["build", "--package", "sockeye-redis", "--examples"]))?;
    let mut npm = command("npm", &["test"]);
    let node = target().join("debug/examples/cluster-node");
    run(npm.current_dir(root().join(FOLDER)).env("CLUSTER_NODE", node))
}
