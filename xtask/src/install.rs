//! What commands need beyond Rust: installed quietly, or a sentence that says what to do.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{command, root, run_quietly, target, works};

/// Node.js and npm.
pub fn node() -> Result<()> {
    if works("node", &["--version"]) && works("npm", &["--version"]) {
        return Ok(());
    }
    apt(&["nodejs", "npm"]).context("Node.js 20 or newer with npm is needed; please install it")
}

/// Redis 7, for the tests of clusters: its server, which is a sentinel as well, and `redis-cli`.
pub fn redis() -> Result<()> {
    if works("redis-server", &["--version"]) && works("redis-cli", &["--version"]) {
        return Ok(());
    }
    apt(&["redis-server"]).context("redis-server (7 or newer) is needed; please install it")
}

/// Python with virtual environments.
pub fn python() -> Result<()> {
    // Debian has the module without what it installs.
    if works("python3", &["-c", "import ensurepip, venv"]) {
        return Ok(());
    }
    apt(&["python3", "python3-venv"])
        .context("Python 3.11 or newer with venv is needed; please install it")
}

/// A browser for the page's tests; its path.
pub fn chromium() -> Result<&'static str> {
    const PATH: &str = "/usr/bin/chromium";
    if !Path::new(PATH).exists() {
        apt(&["chromium"]).context("Chromium is needed at /usr/bin/chromium; please install it")?;
    }
    Ok(PATH)
}

/// What nodes share, and what may stand in front of them.
pub fn redis_and_balancers() -> Result<()> {
    redis()?;
    if !works("nginx", &["-v"]) && !works("/usr/sbin/nginx", &["-v"]) {
        apt(&["nginx-light"]).context("nginx is needed; please install it")?;
    }
    if !works("haproxy", &["-v"]) && !works("/usr/sbin/haproxy", &["-v"]) {
        apt(&["haproxy"]).context("HAProxy (2.4 or newer) is needed; please install it")?;
    }
    Ok(())
}

/// Counts instructions.
pub fn valgrind() -> Result<()> {
    if works("valgrind", &["--version"]) {
        return Ok(());
    }
    apt(&["valgrind"]).context("valgrind is needed; please install it")
}

/// A cargo subcommand from crates.io, kept with what the repository builds; its path.
pub fn cargo_tool(name: &str) -> Result<PathBuf> {
    let tools = target().join("tools");
    let binary = tools.join("bin").join(name);
    if !binary.exists() {
        eprintln!("\n$ cargo install {name}");
        let mut install = command("cargo", &["install", "--locked", "--quiet", name]);
        run_quietly(install.arg("--root").arg(&tools))
            .with_context(|| format!("{name} cannot be installed; is crates.io within reach?"))?;
    }
    Ok(binary)
}

/// The packages that a folder's lock file names; nothing is done where they are there already.
pub fn npm_ci(folder: &str) -> Result<()> {
    node()?;
    let folder = root().join(folder);
    let lock = std::fs::read(folder.join("package-lock.json"))
        .with_context(|| format!("{} has no lock file", folder.display()))?;
    // A copy of the lock file tells what was installed last.
    let stamp = folder.join("node_modules/.installed-lock");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    eprintln!("\n$ npm ci    (in {})", folder.display());
    let args = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
    run_quietly(command("npm", &args).current_dir(&folder))
        .context("npm could not fetch the packages; is the npm registry within reach?")?;
    std::fs::write(stamp, lock)?;
    Ok(())
}

/// Debian packages.
fn apt(packages: &[&str]) -> Result<()> {
    eprintln!("\n$ apt-get install {}", packages.join(" "));
    run_quietly(&mut command("apt-get", &["update", "-q"]))?;
    let mut install = command("apt-get", &["install", "-q", "-y", "--no-install-recommends"]);
    install.args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    run_quietly(&mut install)
}
