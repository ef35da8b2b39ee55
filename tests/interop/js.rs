//! Installs and runs the JavaScript programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT};
use crate::npm;

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/js")
}

/// Returns `true` if the programs can run. Otherwise prints why, and fails in CI.
pub fn installed() -> bool {
    static INSTALLED: LazyLock<Result<(), String>> = LazyLock::new(|| npm::install(&directory()));
    npm::is_installed(&INSTALLED, "with js-libp2p")
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
