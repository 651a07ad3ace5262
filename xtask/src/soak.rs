//! Thousands of clients over a network that fails: `crates/soak` says what is promised.

use anyhow::Result;

use crate::run::{command, run};

/// Few clients for a short time, whom the network fails often.
const SHORT: [&str; 10] = [
    "--clients",
    "200",
    "--seconds",
    "15",
    "--tick-ms",
    "500",
    "--emit-ms",
    "500",
    "--calm-ms",
    "5000",
];

/// The whole soak, with these arguments.
pub fn run_soak(args: &[String]) -> Result<()> {
    let mut cargo = command("cargo", &["run", "--release", "--package", "soak", "--"]);
    run(cargo.args(args.iter().filter(|arg| *arg != "--")))
}

/// The short one.
pub fn run_short() -> Result<()> {
    run(command("cargo", &["run", "--package", "soak", "--"]).args(SHORT))
}
