//! npm's `ws` and our WebSocket crate's examples, both ways.

use anyhow::Result;

use crate::install::npm_ci;
use crate::run::{command, root, run, target};

const FOLDER: &str = "crates/sockeye-ws/tests/interop";

/// Builds the examples and lets Node.js speak with them.
pub fn run_interop() -> Result<()> {
    npm_ci(FOLDER)?;
    run(&mut command("cargo", &["build", "--package", "sockeye-ws", "--examples"]))?;
    let mut npm = command("npm", &["test"]);
    run(npm.current_dir(root().join(FOLDER)).env("EXAMPLES", target().join("debug/examples")))
}
