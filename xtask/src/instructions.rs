//! What the main ways of a message cost in instructions, which are the same on a busy machine as on
//! an idle one: each is counted by valgrind and held against what it cost when that was accepted.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::install;
use crate::run::{command, root, run, target};

/// What each workload cost when it was accepted.
const ACCEPTED: &str = "bench/instructions.toml";
const HEAD: &str =
    "# Instructions a round of each workload takes, by `cargo xtask instructions --accept`.\n\n";
/// How much more than accepted is still the same: processors differ in what the C library and the
/// validator of UTF-8 choose, and ids are random.
const TOLERANCE_PERCENT: i64 = 8;
/// The workloads of `crates/bench-server/src/bin/instructions`, and how many rounds are enough.
const WORKLOADS: [(&str, i64); 7] = [
    ("websocket-message", 2000),
    ("connect", 100),
    ("event-with-ack", 1000),
    ("broadcast-to-100", 30),
    ("polling-event", 500),
    ("polling-event-forwarded", 500),
    ("broadcast-to-a-node", 500),
];

/// Counts all workloads; `--accept` writes down what they cost now.
pub fn run_instructions(args: &[String]) -> Result<()> {
    let accepts = args == ["--accept"];
    ensure!(accepts || args.is_empty(), "`instructions` takes nothing but --accept");
    install::valgrind()?;
    let build = ["build", "--profile", "measured", "--package", "bench-server"];
    run(command("cargo", &build).args(["--bin", "instructions"]))?;
    let binary = target().join("measured/instructions");
    let file = root().join(ACCEPTED);
    let accepted: toml::Table = fs::read_to_string(&file).unwrap_or_default().parse()?;
    let mut counted = toml::Table::new();
    let mut grown = Vec::new();
    eprintln!("\ninstructions a round, and more than accepted in percent:");
    for (workload, rounds) in WORKLOADS {
        let each = (count(&binary, workload, 3 * rounds)? - count(&binary, workload, rounds)?)
            / (2 * rounds);
        let before = accepted.get(workload).and_then(toml::Value::as_integer).unwrap_or(0);
        let percent = (each - before) * 100 / before.max(1);
        eprintln!("  {workload:<24} {each:>9} {percent:>+4}");
        if percent > TOLERANCE_PERCENT {
            grown.push(workload);
        }
        counted.insert(workload.to_owned(), each.into());
    }
    if accepts {
        return Ok(fs::write(&file, format!("{HEAD}{counted}"))?);
    }
    if !grown.is_empty() {
        bail!("more instructions than in {ACCEPTED}: {}", grown.join(", "));
    }
    Ok(())
}

/// How many instructions a workload takes, its beginning and end included.
fn count(binary: &Path, workload: &str, rounds: i64) -> Result<i64> {
    let options = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
    let mut valgrind = command("valgrind", &options);
    let output = valgrind.arg(binary).args([workload, &rounds.to_string()]).output()?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{workload} failed:\n{printed}");
    let collected =
        printed.split("Collected : ").nth(1).and_then(|rest| rest.split_whitespace().next());
    collected.and_then(|count| count.parse().ok()).context("valgrind counted nothing")
}
