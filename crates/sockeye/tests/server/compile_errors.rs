//! What the compiler says to common mistakes: that it names the mistake and the way out. Each file
//! of `compile_errors/` is such a mistake, with what is said beside it.
//!
//! `TRYBUILD=overwrite cargo test -p sockeye compile_errors` writes the texts anew.

/// The texts are this compiler's; another one words them otherwise.
const RUSTC: &str = "rustc 1.95.";

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn mistakes_are_explained() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = std::process::Command::new(rustc).arg("--version").output();
    let version = version.expect("the compiler says its version").stdout;
    if !version.starts_with(RUSTC.as_bytes()) {
        eprintln!("skipped: this is {}", String::from_utf8_lossy(&version));
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/server/compile_errors/*.rs");
}
