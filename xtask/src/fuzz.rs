//! Fuzzing: every target of `fuzz/` in turn, each for a bounded time. What they assert is theirs.

use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use crate::install;
use crate::run::{command, root, run, target};

/// How long a target runs that no time is given for.
const SECONDS: u64 = 10;

/// No input takes a second; one that takes so long is a finding. A machine may stand still for a
/// while.
const INPUT_SECONDS_MAX: u64 = 60;

/// The longest input that is tried: a few of everything that has a limit in the targets.
const INPUT_BYTES_MAX: usize = 4096;

/// `fuzz [SECONDS] [TARGET]`.
pub fn run_command(args: &[String]) -> Result<()> {
    match args {
        [] => run_targets(SECONDS, None),
        [seconds] => run_targets(parse(seconds)?, None),
        [seconds, target] => run_targets(parse(seconds)?, Some(target)),
        _ => bail!("`cargo xtask fuzz [SECONDS] [TARGET]` has no further arguments"),
    }
}

/// Builds and runs one target or all of them, for so long each.
pub fn run_targets(seconds: u64, only: Option<&str>) -> Result<()> {
    let all = targets()?;
    let targets = match only {
        Some(name) if all.iter().any(|target| target == name) => vec![name.to_owned()],
        Some(name) => bail!("there is no fuzz target `{name}`; there are {}", all.join(", ")),
        None => all,
    };
    let cargo_fuzz = install::cargo_tool("cargo-fuzz")?;
    let cargo_fuzz = cargo_fuzz.to_string_lossy();
    run(&mut subcommand(&cargo_fuzz, "build"))
        .context("the fuzz targets cannot be built (libFuzzer needs a C++ compiler)")?;
    for target in targets {
        fuzz(subcommand(&cargo_fuzz, "run"), &target, seconds)?;
    }
    eprintln!("\nfuzz: passed");
    Ok(())
}

fn parse(seconds: &str) -> Result<u64> {
    seconds.parse().with_context(|| format!("`{seconds}` is no number of seconds"))
}

/// Sanitizers need a nightly compiler, and find what only `unsafe` code does, which is forbidden
/// here. Coverage and debug assertions need neither.
fn subcommand(cargo_fuzz: &str, name: &str) -> Command {
    let mut command = command(cargo_fuzz, &["fuzz", name, "--sanitizer", "none", "--target-dir"]);
    command.arg(build_dir());
    command
}

fn build_dir() -> PathBuf {
    target().join("fuzz")
}

fn targets() -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    targets.sort();
    Ok(targets)
}

/// Runs one target. What it finds worth keeping stays in `target/`, for the next run; the corpus of
/// the repository is only read.
fn fuzz(mut cargo_fuzz: Command, name: &str, seconds: u64) -> Result<()> {
    let found = target().join("fuzz-corpus").join(name);
    std::fs::create_dir_all(&found)?;
    cargo_fuzz.arg(name).arg(found).arg(root().join("fuzz/corpus").join(name)).args([
        "--".to_owned(),
        format!("-max_total_time={seconds}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-max_len={INPUT_BYTES_MAX}"),
        // What is slow on purpose is tried less often.
        "-entropic_scale_per_exec_time=1".to_owned(),
        "-print_final_stats=1".to_owned(),
    ]);
    let Output { status, stderr, .. } = cargo_fuzz.output().context("cannot start cargo-fuzz")?;
    let log = String::from_utf8_lossy(&stderr);
    if status.success() {
        let inputs = after(&log, "stat::number_of_executed_units:").unwrap_or("?");
        let speed = after(&log, "stat::average_exec_per_sec:").unwrap_or("?");
        eprintln!("{name}: {inputs} inputs in {seconds} s, {speed} a second");
        return Ok(());
    }
    // Without libFuzzer's progress.
    log.lines().filter(|line| !line.starts_with('#')).for_each(|line| eprintln!("{line}"));
    match after(&log, "Test unit written to ") {
        Some(input) => bail!("{name} failed on {input}; fuzz/README.md says how to go on"),
        None => bail!("{name} ended with {status}"),
    }
}

/// What stands behind `label` in its line.
fn after<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    let (_, behind) = text.split_once(label)?;
    behind.lines().next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_found() {
        let log = "#1 NEW\nstat::average_exec_per_sec:     123\nTest unit written to a/crash-b\n";
        assert_eq!(after(log, "stat::average_exec_per_sec:"), Some("123"));
        assert_eq!(after(log, "Test unit written to "), Some("a/crash-b"));
        assert_eq!(after(log, "stat::peak_rss_mb:"), None);
    }
}
