//! Installs Python packages for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::npm::run;

/// Returns the virtual environment of the tests with this name.
fn environment(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python").join(name)
}

/// Returns the interpreter that sees the packages of the tests with this name.
pub fn interpreter(name: &str) -> PathBuf {
    environment(name).join("bin/python")
}

/// Installs the packages of `tests/<name>/requirements.txt`, once for each of its versions. None of them
/// builds anything; without a network this is to fail soon.
pub fn install(name: &str) -> Result<(), String> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name).join("requirements.txt");
    let requirements = std::fs::read(&list).unwrap();
    let stamp = environment(name).join(".installed");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == requirements) {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment(name)))?;
    let quiet =
        ["install", "--quiet", "--disable-pip-version-check", "--retries=1", "--only-binary=:all:", "-r"];
    run(Command::new(environment(name).join("bin/pip")).args(quiet).arg(list))?;
    std::fs::write(stamp, requirements).map_err(|error| error.to_string())
}
