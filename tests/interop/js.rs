//! Installs and runs the JavaScript programs.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT};

/// Oldest Node.js that the packages run on.
const OLDEST_NODE: u32 = 20;

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/js")
}

/// Returns `true` if the programs can run. Otherwise prints why, and fails in CI.
pub fn installed() -> bool {
    static INSTALLED: LazyLock<Result<(), String>> = LazyLock::new(install);
    let Err(reason) = &*INSTALLED else { return true };
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    // Not by `eprintln`, which is shown only if the test fails. The first lines of npm's output are
    // enough here.
    let reason: Vec<_> = reason.lines().take(2).collect();
    let line = format!("\nSKIPPED: a test with js-libp2p was not run: {}\n", reason.join(" "));
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

/// Installs the packages of the lock file, once for each of its versions.
fn install() -> Result<(), String> {
    let version = run(Command::new("node").arg("--version"))?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major < Some(OLDEST_NODE) {
        return Err(format!("Node.js {OLDEST_NODE} or later is needed, this is {}", version.trim()));
    }
    let lock = std::fs::read(directory().join("package-lock.json")).unwrap();
    let stamp = directory().join("node_modules/.installed");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
    // None of the packages builds anything; without a network this is to fail soon.
    let cautious = ["--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=20000"];
    run(Command::new("npm").arg("ci").args(quiet).args(cautious).current_dir(directory()))?;
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

/// A js-libp2p node; killed and reaped when dropped.
pub struct Js {
    child: Child,
    pub addr: String,
    requests: u32,
}

impl Js {
    /// Starts a node, if it can run here.
    pub fn start() -> Option<Js> {
        if !installed() {
            return None;
        }
        let mut command = Command::new("node");
        command.arg("node.mjs").current_dir(directory());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = Child::start(TempDir::new().unwrap(), command);
        let ready = child.expect("a js node", |event| event["type"] == "ready");
        Some(Js { child, addr: ready["addrs"][0].as_str().unwrap().to_owned(), requests: 0 })
    }

    /// Runs a command and returns its result, or the reason of its failure.
    pub fn try_request(&mut self, kind: &str, mut command: Value) -> Result<Value, String> {
        self.requests += 1;
        let id = self.requests;
        command["type"] = json!(kind);
        command["id"] = json!(id);
        self.child.command(command);
        let answer = self.child.expect(kind, |event| event["id"] == id);
        match answer["type"].as_str() {
            Some("done") => Ok(answer),
            _ => Err(answer["reason"].to_string()),
        }
    }

    pub fn ask(&mut self, kind: &str, command: Value) -> Value {
        self.try_request(kind, command).unwrap_or_else(|reason| panic!("{kind}: {reason}"))
    }

    pub fn subscribe(&mut self, topic: &str) {
        self.ask("subscribe", json!({"topic":topic}));
    }

    /// Repeats a command until its result satisfies a condition.
    pub fn until(&mut self, kind: &str, command: Value, condition: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let answer = self.ask(kind, command.clone());
            if condition(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{kind}: {answer}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Takes the first frame or record received on a topic for which `condition` holds.
    pub fn received(&self, topic: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let matches = |event: &Value| event["type"] == "received" && event["topic"] == topic;
        self.child
            .expect(&format!("a frame or record on {topic}"), |event| matches(event) && condition(event))
    }

    /// Ends the node and returns its events that were not taken.
    pub fn finish(self) -> Vec<Value> {
        let (code, rest, stderr) = self.child.finish();
        assert_eq!(code, 0, "exit code after the end of stdin: {stderr}");
        rest
    }
}
