//! The rules of the house that no compiler knows. Each rule is a function over text, and its test
//! shows that it can fail.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::evidence;
use crate::run::{command, root};

/// The floor of each crate (ARCHITECTURE.md); an edge must point to a lower one.
const FLOORS: [(&str, u8); 8] = [
    ("sockeye-ws", 0),
    ("sockeye-proto", 0),
    ("sockeye", 1),
    ("sockeye-redis", 2),
    ("sockeye-cluster-kit", 2),
    ("sockeye-chat", 3),
    ("bench-server", 3),
    ("soak", 3),
];

/// The one edge between two crates of the lowest floor.
const SIDEWAYS: [(&str, &str); 1] = [("sockeye-proto", "sockeye-ws")];

/// What protocol code must not know.
const IMPURE: [&str; 9] = [
    "Instant::now",
    "SystemTime::now",
    "async fn",
    "async move",
    "tokio::",
    "TcpStream",
    "UdpSocket",
    "getrandom",
    "std::thread",
];

const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;

/// Checks the whole repository.
pub fn run() -> Result<()> {
    let mut problems = Vec::new();
    for (name, _) in FLOORS {
        let path = root().join("crates").join(name).join("Cargo.toml");
        let manifest = std::fs::read_to_string(&path).context("a crate has no manifest")?;
        problems.extend(edges_up(name, &manifest)?);
    }
    let files = tracked_files()?;
    problems.extend(evidence::check(&files)?);
    for file in files {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        problems.extend(secrets(&file, &text));
        if file.extension().is_some_and(|extension| extension == "rs") {
            problems.extend(shape(&file, &text));
            if is_protocol(&file) {
                problems.extend(impure(&file, &text));
            }
            if is_network_facing(&file) {
                problems.extend(unwraps(&file, &text));
            }
        }
    }
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    if problems.is_empty() {
        eprintln!("tidy: passed");
        Ok(())
    } else {
        bail!("tidy found {} problems", problems.len())
    }
}

fn tracked_files() -> Result<Vec<PathBuf>> {
    let output = command("git", &["ls-files"]).output().context("git is needed")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect())
}

/// All of the two protocol crates, but for what drives the WebSocket machine.
fn is_protocol(file: &Path) -> bool {
    let is_driver = file.starts_with("crates/sockeye-ws/src/net");
    (file.starts_with("crates/sockeye-ws/src") && !is_driver)
        || file.starts_with("crates/sockeye-proto/src")
}

fn is_network_facing(file: &Path) -> bool {
    file.starts_with("crates") && file.components().any(|part| part.as_os_str() == "src")
}

/// A crate depends only on crates of lower floors.
fn edges_up(name: &str, manifest: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = manifest.parse()?;
    let floor = |name: &str| FLOORS.iter().find(|(have, _)| *have == name).map(|(_, floor)| *floor);
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    let names = dependencies.into_iter().flat_map(toml::Table::keys);
    let up = names.filter(|dependency| {
        let allowed = SIDEWAYS.contains(&(name, dependency.as_str()));
        floor(dependency).is_some_and(|to| Some(to) >= floor(name)) && !allowed
    });
    Ok(up.map(|to| format!("{name} must not depend on {to}, which is not below it")).collect())
}

/// The first line says what a file owns; sizes are those of one room.
fn shape(file: &Path, text: &str) -> Vec<String> {
    let file = file.display();
    let mut problems = Vec::new();
    if !text.starts_with("//!") {
        problems.push(format!("{file}: the first line must say what the file owns (`//!`)"));
    }
    if text.lines().count() > LINES_MAX {
        problems.push(format!("{file}: more than {LINES_MAX} lines"));
    }
    for (number, line) in text.lines().enumerate() {
        if line.chars().count() > COLUMNS_MAX {
            problems.push(format!("{file}:{}: more than {COLUMNS_MAX} columns", number + 1));
        }
    }
    problems
}

/// Protocol code has no clock, async, socket or randomness.
fn impure(file: &Path, text: &str) -> Vec<String> {
    found(file, text, &IMPURE, "protocol code must not know")
}

/// What came from the network may be anything.
fn unwraps(file: &Path, text: &str) -> Vec<String> {
    found(file, text, &[".unwrap()"], "code that meets the network must not use")
}

/// Nothing of one machine in the repository.
fn secrets(file: &Path, text: &str) -> Vec<String> {
    if file.ends_with("tidy.rs") || file.to_string_lossy().ends_with("lock.json") {
        return Vec::new();
    }
    let forbidden = ["/work/main", "/root/", "/home/", "registry.npmjs.org", "index.crates.io"];
    found(file, text, &forbidden, "the repository must not name")
}

/// The lines outside tests and comments that hold one of the words.
fn found(file: &Path, text: &str, words: &[&str], sentence: &str) -> Vec<String> {
    let code = text.split("\n#[cfg(test)]").next().unwrap_or(text);
    let mut problems = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let is_comment = line.trim_start().starts_with("//");
        for word in words.iter().filter(|word| !is_comment && line.contains(**word)) {
            problems.push(format!("{}:{}: {sentence} `{word}`", file.display(), number + 1));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_points_up_is_found() {
        let up = "[dependencies]\nsockeye.workspace = true\nbytes = \"1\"\n";
        assert_eq!(edges_up("sockeye-proto", up).expect("a manifest").len(), 1);
        assert_eq!(edges_up("sockeye-chat", up).expect("a manifest").len(), 0);
        let sideways = "[dependencies]\nsockeye-ws.workspace = true\n";
        assert_eq!(edges_up("sockeye-proto", sideways).expect("a manifest").len(), 0);
    }

    #[test]
    fn a_file_without_its_first_line_is_found() {
        assert_eq!(shape(Path::new("a.rs"), "fn main() {}\n").len(), 1);
        assert_eq!(shape(Path::new("a.rs"), "//! Owns it.\n").len(), 0);
        let long = format!("//! Owns it.\n{}\n{}", "x".repeat(101), "\n".repeat(600));
        assert_eq!(shape(Path::new("a.rs"), &long).len(), 2);
    }

    #[test]
    fn clocks_in_protocol_code_are_found() {
        let file = Path::new("a.rs");
        assert_eq!(impure(file, "let now = Instant::now();").len(), 1);
        assert_eq!(impure(file, "async fn f() { tokio::spawn(g) }").len(), 2);
        assert_eq!(impure(file, "// Instant::now\n\n#[cfg(test)]\nInstant::now()").len(), 0);
    }

    #[test]
    fn unwraps_are_found_outside_tests() {
        let file = Path::new("a.rs");
        assert_eq!(unwraps(file, "read().unwrap()").len(), 1);
        assert_eq!(unwraps(file, "read()?\n#[cfg(test)]\nread().unwrap()").len(), 0);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        assert_eq!(secrets(Path::new("a.md"), "see /root/notes").len(), 1);
    }
}
