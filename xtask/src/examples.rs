//! The tutorial's pages (`crates/sockeye/examples/tutorial`), by the official client.

use anyhow::Result;

use crate::install::npm_ci;
use crate::run::{command, root, run, target};

const FOLDER: &str = "tests/examples";

/// Builds the tutorial and lets its clients' side speak with each page.
pub fn run_examples() -> Result<()> {
    npm_ci(FOLDER)?;
    run(&mut command("cargo", &["build", "--package", "sockeye", "--example", "tutorial"]))?;
    let mut npm = command("npm", &["test"]);
    npm.current_dir(root().join(FOLDER))
        .env("TUTORIAL_BIN", target().join("debug/examples/tutorial"));
    run(&mut npm)
}
