//! Runs the scripts that check the types and run the tests of the Python and TypeScript SDKs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError, RwLock, RwLockReadGuard};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns `true` if a program is installed in this version or later. Otherwise prints why a test is
/// skipped, and fails in CI.
pub fn has(program: &str, flag: &str, oldest: (u32, u32)) -> bool {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    let output =
        output.map(|result| String::from_utf8_lossy(&result.stdout).into_owned()).unwrap_or_default();
    let digits = output.trim().trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = digits.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version >= oldest {
        return true;
    }
    let reason = format!("{program} {}.{} or later is needed, found {output:?}", oldest.0, oldest.1);
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    // Not by `eprintln`, which is shown only if the test fails.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: the tests of an SDK were not run: {reason}");
    false
}

/// Locked for writing by the test that builds the TypeScript SDK again.
static BUILT: RwLock<()> = RwLock::new(());

/// Builds and checks the TypeScript SDK once; the guard prevents another build. Returns `None`
/// without Node.js.
pub fn typescript() -> Option<RwLockReadGuard<'static, ()>> {
    static CHECKED: LazyLock<bool> = LazyLock::new(|| {
        let can = has("node", "--version", (20, 0)) && has("npm", "--version", (1, 0));
        if can {
            check("typescript", &[]);
        }
        can
    });
    CHECKED.then(|| BUILT.read().unwrap_or_else(PoisonError::into_inner))
}

/// Checks or packages the Python SDK. One caller at a time: each call may create the virtual
/// environments below `target/python`, and two at once destroy each other's.
fn python(arguments: &[&str]) {
    static LOCK: Mutex<()> = Mutex::new(());
    let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if has("python3", "--version", (3, 10)) {
        check("python", arguments);
    }
}

fn check(sdk: &str, arguments: &[&str]) {
    let script = root().join("sdk").join(sdk).join("check");
    let output = Command::new(&script)
        .args(arguments)
        .env("P2P_NODE_BIN", env!("CARGO_BIN_EXE_p2p-node"))
        .env("P2P_NODE_RENDEZVOUS", "off")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", Path::new(&script).display()));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{} {arguments:?}: {}\n{stdout}\n{stderr}",
        script.display(),
        output.status
    );
}

#[test]
#[ignore = "slow; CI runs it"]
fn python_sdk_checks_pass() {
    python(&[]);
}

#[test]
#[ignore = "slow; CI runs it"]
fn typescript_sdk_checks_pass() {
    typescript();
}

#[test]
#[ignore = "builds the binary once more; CI runs it"]
fn wheel_contains_the_binary() {
    python(&["--package"]);
}

#[test]
#[ignore = "builds the package once more; CI runs it"]
fn tarballs_contain_the_binary() {
    // After the checks, because both build the package.
    if typescript().is_some() {
        let _lock = BUILT.write().unwrap_or_else(PoisonError::into_inner);
        check("typescript", &["--package"]);
    }
}
