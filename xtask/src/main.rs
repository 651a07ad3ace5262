//! The repository's commands; `cargo xtask help` tells them.

mod balancer;
mod bench;
mod chat;
mod ci;
mod cluster;
mod conformance;
mod evidence;
mod examples;
mod fuzz;
mod install;
mod instructions;
mod interop;
mod python;
mod run;
mod soak;
mod test;
mod tidy;

use anyhow::{Result, bail};

const HELP: &str = "\
The repository's commands. Each prints what it runs and ends with a verdict.

  cargo xtask chat [ARGS]    runs the chat server with its web page; ARGS go to the server
                             (`-- --help` tells them). Fetches the official browser client (npm ci)
  cargo xtask test           passes all tests: Rust, the official clients against real servers, and
                             a real browser. Installs what is missing (apt-get, npm)
  cargo xtask conformance    only the official clients, and Python's: first against Node's
                             server, then ours
  cargo xtask cluster        only Node's servers and ours in one cluster over Redis
  cargo xtask interop        only npm's ws with the examples of our WebSocket crate, both ways, and
                             Chromium's WebSocket with a server of it
  cargo xtask soak [ARGS]    5,000 clients for ten minutes over a network that fails, against a
                             server that must lose nothing it promised (`--help` tells ARGS)
  cargo xtask fuzz [SECONDS] [TARGET]
                             runs the fuzz targets, all or one (fuzz/README.md tells them), each for
                             so long. Default: 10 seconds. Installs cargo-fuzz where it is missing
  cargo xtask ci             what a change must pass: formatting, lints, tidy, docs, licences,
                             tests, and 5 seconds of each fuzz target
  cargo xtask tidy           the rules of the house that no compiler knows
  cargo xtask bench [ARGS]   measures against peers and prints ratios; ARGS go to bench/bench.py
                             (`--help` tells; default: --servers limit,oxide,node --suite core);
                             `heap` alone counts the heap of idle WebSocket connections
  cargo xtask instructions [--accept]
                             counts what the main ways of a message cost, by valgrind, and fails if
                             one costs more than was accepted
  cargo xtask help           this
";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = dispatch(&args) {
        eprintln!("\nfailed: {error:#}");
        std::process::exit(1);
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", args),
    };
    match command {
        "chat" => chat::run_server(rest),
        "test" => test::run(),
        "conformance" => conformance::run(),
        "cluster" => cluster::run_mixed(),
        "interop" => interop::run_interop(),
        "fuzz" => fuzz::run_command(rest),
        "ci" => ci::run_ci(),
        "tidy" => tidy::run(),
        "soak" => soak::run_soak(rest),
        "instructions" => instructions::run_instructions(rest),
        "bench" => bench::run_bench(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("there is no command `{other}`; `cargo xtask help` tells them"),
    }
}
