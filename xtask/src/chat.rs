//! The chat server: its browser client, its build, its start, and its tests from outside.

use anyhow::{Context, Result};

use crate::install::{chromium, npm_ci, redis_and_balancers};
use crate::run::{command, root, run, target};

const WEB: &str = "crates/sockeye-chat/web";
const CLIENT: &str = "socket.io.esm.min.js";

/// Fetches what the page needs, builds, and runs the server with these arguments.
pub fn run_server(args: &[String]) -> Result<()> {
    fetch_client()?;
    let mut cargo = command("cargo", &["run", "--release", "--package", "sockeye-chat", "--"]);
    run(cargo.args(args.iter().filter(|arg| *arg != "--")))
}

/// Puts the official browser client, from npm, where the page's assets are embedded from.
pub fn fetch_client() -> Result<()> {
    npm_ci(WEB)?;
    let web = root().join(WEB);
    let vendor = web.join("static/vendor");
    std::fs::create_dir_all(&vendor)?;
    let from = web.join("node_modules/socket.io-client/dist").join(CLIENT);
    let client = std::fs::read(&from).with_context(|| format!("{} is missing", from.display()))?;
    let to = vendor.join(CLIENT);
    // An unchanged file is left alone, so that nothing is built again.
    if std::fs::read(&to).ok().as_ref() != Some(&client) {
        std::fs::write(&to, client)?;
    }
    Ok(())
}

/// The official client and plain HTTP against the real server, and then against nodes of it that
/// share a Redis.
pub fn run_tests() -> Result<()> {
    redis_and_balancers()?;
    npm_ci("tests/chat")?;
    run_npm_tests("tests/chat", "test", &[])?;
    run_npm_tests("tests/chat", "test:nodes", &[("CHAT_NODES", "2")])
}

/// Windows of a real browser against the real server.
pub fn run_browser_tests() -> Result<()> {
    redis_and_balancers()?;
    let browser = chromium()?;
    npm_ci("tests/browser")?;
    // The server and its other clients are theirs.
    npm_ci("tests/chat")?;
    run_npm_tests("tests/browser", "test", &[("CHROMIUM", browser)])
}

/// Three nodes behind each balancer, with clients and windows, while nodes and Redis fail.
pub fn run_node_tests() -> Result<()> {
    redis_and_balancers()?;
    let browser = chromium()?;
    // It has no packages of its own: clients and windows are those of the other two.
    npm_ci("tests/chat")?;
    npm_ci("tests/browser")?;
    run_npm_tests("tests/nodes", "test", &[("CHROMIUM", browser)])
}

fn run_npm_tests(folder: &str, script: &str, environment: &[(&str, &str)]) -> Result<()> {
    run(&mut command("cargo", &["build", "--package", "sockeye-chat"]))?;
    let mut npm = command("npm", &["run", script]);
    npm.current_dir(root().join(folder))
        .env("CHAT_BIN", target().join("debug/sockeye-chat"))
        .envs(environment.iter().copied());
    run(&mut npm)
}
