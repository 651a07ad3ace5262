//! npm's `ws` and our WebSocket crate's examples, both ways, and a browser's own WebSocket.

use anyhow::Result;

use crate::install::{chromium, npm_ci};
use crate::run::{command, root, run, target};

const FOLDER: &str = "crates/sockeye-ws/tests/interop";

/// Builds the examples and lets Node.js and Chromium speak with them.
pub fn run_interop() -> Result<()> {
    let browser = chromium()?;
    npm_ci(FOLDER)?;
    run(&mut command("cargo", &["build", "--package", "sockeye-ws", "--examples"]))?;
    let mut npm = command("npm", &["test"]);
    npm.current_dir(root().join(FOLDER))
        .env("EXAMPLES", target().join("debug/examples"))
        .env("CHROMIUM", browser);
    run(&mut npm)
}
