//! The official clients against servers: `conformance/` says what is tested.

use anyhow::Result;

use crate::install::npm_ci;
use crate::python::run_python;
use crate::run::{command, root, target};

const FOLDER: &str = "conformance";

/// Against Node's server, which proves the suite, then against ours.
pub fn run() -> Result<()> {
    npm_ci(FOLDER)?;
    eprintln!("\nThe suite against Node's socket.io:");
    run_npm("test", "node", "node reference-server.mjs")?;
    eprintln!("\nThe stories, told to Node's server twice:");
    run_npm("scenarios", "node", "node reference-server.mjs")?;
    let reference = root().join(FOLDER).join("reference-server.mjs");
    run_python(&format!("node {}", reference.display()))?;
    eprintln!("\nThe suite against Sockeye:");
    run_sockeye()?;
    eprintln!("\nconformance: passed");
    Ok(())
}

/// Against our server only; the stories compare it with Node's.
pub fn run_sockeye() -> Result<()> {
    npm_ci(FOLDER)?;
    let example = ["build", "--package", "sockeye", "--example", "conformance-server"];
    crate::run::run(&mut command("cargo", &example))?;
    let server = target().join("debug/examples/conformance-server");
    run_npm("test", "sockeye", &server.to_string_lossy())?;
    eprintln!("\nThe stories, told to Node's server and to Sockeye:");
    run_npm("scenarios", "sockeye", &server.to_string_lossy())?;
    run_python(&server.to_string_lossy())
}

fn run_npm(script: &str, kind: &str, server: &str) -> Result<()> {
    let mut npm = command("npm", &["run", script]);
    npm.current_dir(root().join(FOLDER)).env("SERVER_KIND", kind).env("SERVER_CMD", server);
    crate::run::run(&mut npm)
}
