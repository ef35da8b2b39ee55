//! Tests of the explorer page in Chromium: with a simulated feed, and with a network of real nodes.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests fail by panicking")]

#[path = "../interop/npm.rs"]
mod npm;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explorer")
}

/// Returns `true` if the tests can run. Otherwise prints why, and fails in CI.
fn installed() -> bool {
    static INSTALLED: LazyLock<Result<(), String>> = LazyLock::new(|| {
        npm::install(&directory())?;
        npm::run(Command::new("node").arg("browser.mjs").current_dir(directory())).map(drop)
    });
    npm::is_installed(&INSTALLED, "of the explorer page in Chromium")
}

fn run(file: &str) {
    if !installed() {
        return;
    }
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter=spec", file]).current_dir(directory());
    let output = command.env("P2P_NODE_BIN", env!("CARGO_BIN_EXE_p2p-node")).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{file}:\n{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn explorer_page_shows_a_simulated_feed() {
    run("page.test.mjs");
}

#[test]
fn explorer_page_shows_a_network_of_12_real_nodes() {
    run("network.test.mjs");
}
