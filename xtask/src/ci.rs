//! What a change must pass.

use anyhow::{Context, Result, bail, ensure};

use crate::run::{command, root, run, target, works};
use crate::{chat, fuzz, install, test, tidy};

/// How long each fuzz target runs: long enough for what is easily broken.
const FUZZ_SECONDS: u64 = 5;

/// Formatting, lints, tidy, documentation, licences, tests, fuzz targets.
pub fn run_ci() -> Result<()> {
    run(&mut command("cargo", &["fmt", "--all", "--check"]))?;
    tidy::run()?;
    msrv()?;
    chat::fetch_client()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    run(&mut command("cargo", &clippy))?;
    features_alone()?;
    workspaces_apart()?;
    let mut doc = command("cargo", &["doc", "--workspace", "--no-deps", "--all-features"]);
    run(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    deny()?;
    test::run()?;
    fuzz::run_targets(FUZZ_SECONDS, None)?;
    eprintln!("\nci: passed");
    Ok(())
}

/// Crates with few features: their tests have nearly all of them.
fn features_alone() -> Result<()> {
    let redis = ["", "rustls", "ring"].map(|features| ("sockeye-redis", features));
    let ws = ["", "tokio", "hyper", "rustls", "ring", "tokio,tracing"];
    for (package, features) in ws.map(|features| ("sockeye-ws", features)).into_iter().chain(redis)
    {
        let args = ["clippy", "--package", package, "--features", features];
        run(command("cargo", &args).args(["--", "--deny", "warnings"]))?;
    }
    Ok(())
}

/// Formatting and lints of the workspaces that are not members of ours.
fn workspaces_apart() -> Result<()> {
    for folder in ["fuzz", "bench"] {
        let manifest = ["--manifest-path", &format!("{folder}/Cargo.toml")];
        run(command("cargo", &["fmt", "--all", "--check"]).args(manifest))?;
        let mut clippy = command("cargo", &["clippy", "--workspace", "--all-targets"]);
        clippy.args(manifest).arg("--target-dir").arg(target().join(folder));
        run(clippy.args(["--", "--deny", "warnings"]))?;
    }
    Ok(())
}

/// The minimum Rust that the manifest states is the README's, and enough for every dependency.
/// That our own code needs no more is a lint of clippy (`incompatible_msrv`).
fn msrv() -> Result<()> {
    let args = ["metadata", "--format-version", "1", "--locked"];
    let output = command("cargo", &args).output().context("cargo cannot be started")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("there are no packages")?;
    let rust = |package: &serde_json::Value| version(package["rust_version"].as_str()?);
    let own = packages.iter().filter(|package| package["source"].is_null()).filter_map(rust).min();
    let own = own.context("the manifest states no rust-version")?;
    for package in packages {
        if rust(package).is_some_and(|needed| needed > own) {
            bail!("{} needs Rust {}", package["name"], package["rust_version"]);
        }
    }
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    let stated = readme.split_once("Minimum Rust: ").and_then(|(_, rest)| {
        version(rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?)
    });
    ensure!(stated == Some(own), "the README states another minimum Rust than the manifest");
    eprintln!("msrv: passed");
    Ok(())
}

/// `1.90`, `1.90.0` or `1.90.`, as numbers.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Licences and sources always; RustSec advisories where their database can be had.
fn deny() -> Result<()> {
    let binary = install::cargo_tool("cargo-deny").context("cargo-deny is needed")?;
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

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version("1.90.") > version("1.9.5"));
        assert_eq!(version("1.90.0"), Some((1, 90)));
        assert_eq!(version("new"), None);
    }
}
