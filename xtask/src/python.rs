//! Python's client, `python-socketio`, against a server that keeps `conformance/`'s contract.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::install;
use crate::run::{command, root, run, run_quietly, target};

const FOLDER: &str = "tests/python";

/// Runs the tests against what this command starts.
pub fn run_python(server: &str) -> Result<()> {
    let python = environment()?;
    let mut tests = command(&python.to_string_lossy(), &["-m", "unittest"]);
    run(tests
        .current_dir(root().join(FOLDER))
        .env("SERVER_CMD", server)
        .env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// The interpreter of an environment with the packages of the requirements, made where it is not
/// there yet or they have changed.
fn environment() -> Result<PathBuf> {
    install::python()?;
    let requirements = root().join(FOLDER).join("requirements.txt");
    let wanted = std::fs::read(&requirements).context("there are no requirements")?;
    let folder = target().join("python");
    let python = folder.join("bin/python");
    // A copy tells what was installed last.
    let stamp = folder.join("installed.txt");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    eprintln!("\n$ pip install -r {FOLDER}/requirements.txt");
    let path = folder.to_string_lossy();
    run_quietly(&mut command("python3", &["-m", "venv", "--clear", &path]))?;
    let install = ["-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--requirement"];
    run_quietly(command(&python.to_string_lossy(), &install).arg(&requirements))
        .context("pip could not fetch the packages; is the Python index within reach?")?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}
