//! What the documents say of tests: the last column of each table that ends in `test` names files
//! and pieces of tests' names, and each of them must be there. Does not know what a test shows.
//!
//! A cell is a list of `file: piece, piece; file: piece`. A file is named by the end of its path,
//! by one of the short forms that `docs/compatibility.md` explains, or by its folder.

use std::path::Path;

use anyhow::{Context, Result};

use crate::run::root;

const DOCUMENTS: [&str; 2] = ["docs/compatibility.md", "docs/hardening.md"];

/// Short forms: what stands before a file's name, and what that stands for.
const SHORT_FORMS: [(&str, &str, &str); 7] = [
    ("conformance/", "conformance/tests/", ".test.mjs"),
    ("server/", "crates/sockeye/tests/server/", ".rs"),
    ("cluster/", "crates/sockeye/tests/cluster/", ".rs"),
    ("kit/", "crates/sockeye-cluster-kit/src/checks/", ".rs"),
    ("machine/", "crates/sockeye-proto/tests/machine/", ".rs"),
    ("ws/", "crates/sockeye-ws/tests/", ".rs"),
    ("redis/", "crates/sockeye-redis/tests/redis/", ".rs"),
];

/// The rows that the table of tricky cases must have.
const CASES: [std::ops::RangeInclusive<u32>; 2] = [1..=83, 100..=107];

/// A file that may hold tests.
struct Source {
    path: String,
    text: String,
}

/// Checks all documents against the files of the repository.
pub fn check(files: &[impl AsRef<Path>]) -> Result<Vec<String>> {
    let mut sources = Vec::new();
    for file in files {
        let path = file.as_ref().to_string_lossy().into_owned();
        if path.ends_with(".rs") || path.ends_with(".mjs") {
            // One that was deleted and not yet committed has no tests.
            let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
            sources.push(Source { path, text });
        }
    }
    let mut problems = Vec::new();
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document)).context(document)?;
        problems.extend(missing(document, &text, &sources));
        if document == DOCUMENTS[0] {
            problems.extend(missing_cases(document, &text));
        }
    }
    Ok(problems)
}

/// What a document names and the sources do not have.
fn missing(document: &str, text: &str, sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut header: Vec<&str> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let cells = cells(line);
        if header.is_empty() || cells.is_empty() {
            header = cells;
            continue;
        }
        let (Some(&last), Some(&"test" | &"tests")) = (cells.last(), header.last()) else {
            continue;
        };
        if last.starts_with("---") {
            continue;
        }
        let (found, lost) = evidence(last, sources);
        let at = format!("{document}:{}", number + 1);
        problems.extend(lost.iter().map(|what| format!("{at}: there is no test `{what}`")));
        let is_strict = matches!(header.first(), Some(&"H" | &"line"));
        if is_strict && found == 0 && !last.starts_with("absent") {
            problems.push(format!("{at}: a row without a test must begin with `absent`"));
        }
    }
    problems
}

/// A row of the table of tricky cases for each of them.
fn missing_cases(document: &str, text: &str) -> Vec<String> {
    let Some((_, table)) = text.split_once("\n| H |") else {
        return vec![format!("{document}: the table of tricky cases is missing")];
    };
    let rows: Vec<u32> = table
        .lines()
        .filter_map(|line| cells(line).first().and_then(|cell| cell.parse().ok()))
        .collect();
    let wanted = CASES.into_iter().flatten();
    wanted
        .filter(|case| !rows.contains(case))
        .map(|case| format!("{document}: H {case} has no row"))
        .collect()
}

fn cells(line: &str) -> Vec<&str> {
    let row = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|'));
    row.map(|row| row.split('|').map(str::trim).collect()).unwrap_or_default()
}

/// How many names a cell has that the sources have, too, and those that they have not.
fn evidence(cell: &str, sources: &[Source]) -> (usize, Vec<String>) {
    let cell = cell.replace('`', "");
    let (mut found, mut lost) = (0, Vec::new());
    for entry in cell.split(';') {
        let mut files = Vec::new();
        for part in entry.split(", ").map(str::trim).filter(|part| !part.is_empty()) {
            let (name, piece) = part.split_once(": ").unwrap_or((part, ""));
            let named = sources_named(name, sources);
            let (piece, is_path) = if named.is_empty() {
                // A piece of a name may have a colon in it.
                (part, files.is_empty() && name.contains('/') && !name.contains(' '))
            } else {
                files = named;
                (piece, false)
            };
            let piece = piece.trim_end_matches(['…', ' ']);
            if is_path || !files.is_empty() && !piece.is_empty() {
                let has = files.iter().any(|source| has_test(source, piece));
                found += usize::from(has);
                if !has {
                    lost.push(part.to_owned());
                }
            }
        }
    }
    (found, lost)
}

fn sources_named<'a>(name: &str, sources: &'a [Source]) -> Vec<&'a Source> {
    let name = name.trim_start_matches("…/").trim_end_matches(['*', '/']);
    let short = SHORT_FORMS.iter().find_map(|(short, long, ending)| {
        let rest = name.strip_prefix(short.trim_end_matches('/'))?;
        match rest.strip_prefix('/') {
            Some(rest) => Some((format!("{long}{}", rest.trim_end_matches(ending)), *ending)),
            None => rest.is_empty().then(|| ((*long).to_owned(), "")),
        }
    });
    // Beside the file of the conformance tests that stands before it.
    let beside = format!("conformance/tests/{name}.test.mjs");
    let is_named = |path: &str| match &short {
        Some((long, ending)) => {
            // A file, all of a folder, or all whose names begin like this.
            path.strip_prefix(long.as_str()).is_some_and(|rest| {
                rest == *ending || rest.starts_with('/') || long.ends_with(['/', '-'])
            })
        }
        None => {
            path == beside
                || path == name
                || path.ends_with(&format!("/{name}"))
                || name.contains('/') && path.contains(&format!("{name}/"))
                || name == "fuzz" && path.starts_with("fuzz/")
        }
    };
    sources.iter().filter(|source| is_named(&source.path)).collect()
}

/// Whether a line of code has the piece of a test's name.
fn has_test(source: &Source, piece: &str) -> bool {
    let piece =
        if source.path.ends_with(".rs") { piece.replace(' ', "_") } else { piece.to_owned() };
    let mut code = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.any(|line| line.contains(&piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<Source> {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        vec![
            source("crates/sockeye/tests/server/ends.rs", "// h9_no\nfn a7_of_web_sockets() {}\n"),
            source("conformance/tests/engine-polling.test.mjs", "test(\"H06 a GET: 400\", f);\n"),
            source("crates/sockeye/src/cookie.rs", "    fn h27_defaults() {}\n"),
        ]
    }

    fn problems(rows: &str) -> usize {
        missing("a.md", &format!("| H | case | test |\n|---|---|---|\n{rows}"), &sources()).len()
    }

    #[test]
    fn a_test_that_is_named_and_not_there_is_found() {
        for cell in [
            "`server/ends`: a7",
            "`server/ends`: a7_of_web…; `conformance/engine-polling`: H06, cookie.rs: h27",
            "conformance/engine-polling: H06 a GET: 400",
            "server/ends: of web sockets",
            "absent: no such transport",
        ] {
            assert_eq!(problems(&format!("| 1 | x | {cell} |\n")), 0, "{cell}");
        }
        for cell in [
            "server/ends: a8",
            "server/ends: h9",
            "server/end: a7",
            "server/ends: a7, a8",
            "conformance/engine-polling: h06",
            "",
            "–",
            "server/ends",
        ] {
            assert!(problems(&format!("| 1 | x | {cell} |\n")) > 0, "{cell}");
        }
        // Other tables may have rows without a test, and no table but those is looked at.
        let table = |head: &str| format!("| {head} |\n|---|---|\n| x | – |\n");
        assert_eq!(missing("a.md", &table("Node | test"), &sources()).len(), 0);
        assert_eq!(missing("a.md", &table("metric | when"), &sources()).len(), 0);
    }

    #[test]
    fn a_case_without_a_row_is_found() {
        let rows = |cases: &[std::ops::RangeInclusive<u32>]| -> String {
            let cases = cases.iter().cloned().flatten();
            cases.map(|case| format!("| {case} | x | y |\n")).collect()
        };
        let table = |rows: &str| format!("text\n| H | case | test |\n|---|---|---|\n{rows}");
        assert!(missing_cases("a.md", &table(&rows(&CASES))).is_empty());
        assert_eq!(missing_cases("a.md", &table(&rows(&[1..=82, 101..=107]))).len(), 2);
        assert_eq!(missing_cases("a.md", "").len(), 1);
    }
}
