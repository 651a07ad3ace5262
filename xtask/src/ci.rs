//! What a change must pass.

use anyhow::{Context, Result};

use crate::run::{command, run, run_quietly, target, works};
use crate::{chat, test, tidy};

/// Formatting, lints, tidy, documentation, licences, tests.
pub fn run_ci() -> Result<()> {
    run(&mut command("cargo", &["fmt", "--all", "--check"]))?;
    tidy::run()?;
    chat::fetch_client()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    run(&mut command("cargo", &clippy))?;
    features_alone()?;
    let mut doc = command("cargo", &["doc", "--workspace", "--no-deps", "--all-features"]);
    run(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    deny()?;
    test::run()?;
    eprintln!("\nci: passed");
    Ok(())
}

/// The WebSocket crate with few features: the tests have nearly all of them.
fn features_alone() -> Result<()> {
    for features in ["", "tokio", "hyper", "rustls", "ring", "tokio,tracing"] {
        let args = ["clippy", "--package", "sockeye-ws", "--features", features];
        run(command("cargo", &args).args(["--", "--deny", "warnings"]))?;
    }
    Ok(())
}

/// Licences and sources always; RustSec advisories where their database can be had.
fn deny() -> Result<()> {
    let tools = target().join("tools");
    let binary = tools.join("bin/cargo-deny");
    if !binary.exists() {
        eprintln!("\n$ cargo install cargo-deny");
        let mut install = command("cargo", &["install", "--locked", "--quiet", "cargo-deny"]);
        run_quietly(install.arg("--root").arg(&tools)).context("cargo-deny is needed")?;
    }
    let binary = binary.to_string_lossy().into_owned();
    run(&mut command(&binary, &["check", "bans", "licenses", "sources"]))?;
    if works(&binary, &["fetch", "db"]) {
        run(&mut command(&binary, &["check", "advisories"]))
    } else {
        eprintln!(
            "The RustSec advisory database cannot be fetched here; advisories are not checked."
        );
        Ok(())
    }
}
