//! Installs npm packages for tests, and runs programs.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Oldest Node.js that the packages run on.
const OLDEST_NODE: u32 = 20;

/// Returns `true` if packages are installed. Otherwise prints why, and fails in CI. `what` names what the
/// tests need, such as "with js-libp2p".
pub fn is_installed(installed: &Result<(), String>, what: &str) -> bool {
    let Err(reason) = installed else { return true };
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    // Not by `eprintln`, which is shown only if the test fails. The first lines of npm's output are
    // enough here.
    let reason: Vec<_> = reason.lines().take(2).collect();
    let line = format!("\nSKIPPED: a test {what} was not run: {}\n", reason.join(" "));
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

/// Installs the packages of a directory's lock file, once for each of its versions.
pub fn install(directory: &Path) -> Result<(), String> {
    let version = run(Command::new("node").arg("--version"))?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major < Some(OLDEST_NODE) {
        return Err(format!("Node.js {OLDEST_NODE} or later is needed, this is {}", version.trim()));
    }
    let lock = std::fs::read(directory.join("package-lock.json")).unwrap();
    let stamp = directory.join("node_modules/.installed");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
    // None of the packages builds anything; without a network this is to fail soon.
    let cautious = ["--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=20000"];
    run(Command::new("npm").arg("ci").args(quiet).args(cautious).current_dir(directory))?;
    std::fs::write(stamp, lock).map_err(|error| error.to_string())
}

/// Runs a program and returns its stdout, or its error output.
pub fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("{name} is not installed"),
        _ => format!("{name}: {error}"),
    })?;
    if !output.status.success() {
        return Err(format!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
