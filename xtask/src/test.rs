//! All tests, with what they need installed first.

use anyhow::Result;

use crate::run::{self, command, works};
use crate::{balancer, chat, cluster, conformance, examples, install, instructions, interop, soak};

/// The Rust tests and the examples in the documentation.
fn run_rust() -> Result<()> {
    if works("cargo", &["nextest", "--version"]) {
        run::run(&mut command("cargo", &["nextest", "run", "--workspace", "--no-fail-fast"]))?;
        // nextest does not run the examples in the documentation.
        run::run(&mut command("cargo", &["test", "--workspace", "--doc"]))
    } else {
        run::run(&mut command("cargo", &["test", "--workspace", "--no-fail-fast"]))
    }
}

/// Everything.
pub fn run() -> Result<()> {
    install::node()?;
    cluster::fetch()?;
    chat::fetch_client()?;
    run_rust()?;
    interop::run_interop()?;
    conformance::run_sockeye()?;
    cluster::run_mixed()?;
    examples::run_examples()?;
    soak::run_short()?;
    balancer::run_balanced()?;
    instructions::run_instructions(&[])?;
    chat::run_tests()?;
    chat::run_browser_tests()?;
    chat::run_node_tests()?;
    eprintln!("\ntest: passed");
    Ok(())
}
