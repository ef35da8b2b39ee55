//! Helpers for the tests against `sdk/testing/child.sh`.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use p2p_node_sdk::{Builder, DiscoverOptions, Error, Event, Events, Node, Restart};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
use tokio::time::timeout;

/// A timeout longer than any step of a test. A passing test never waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const CHILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testing/child.sh");

/// Returns a restart policy with short pauses.
pub fn quick() -> Restart {
    Restart { first: Duration::from_millis(20), max: Duration::from_millis(100), ..Restart::default() }
}

pub fn child(mode: &str) -> Builder {
    Node::builder().binary(CHILD).args([mode]).restart(Some(quick()))
}

pub async fn open(mode: &str) -> (Node, Events) {
    child(mode).open().await.unwrap()
}

/// Returns a search that the child never answers.
pub fn endless() -> DiscoverOptions {
    DiscoverOptions { capability: Some("never".to_owned()), ..DiscoverOptions::default() }
}

pub async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the condition was not met in time");
}

pub async fn next(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    let look = async {
        loop {
            let event = events.next().await.expect("the events ended before the wanted one");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(PATIENCE, look).await.expect("the wanted event did not arrive in time")
}

pub async fn restarted(events: &mut Events) {
    next(events, |event| matches!(event, Event::Restarted { .. })).await;
}

/// Waits for `Closed`, checks that it is the last event, and returns its error.
pub async fn closed(events: &mut Events) -> Option<Error> {
    let last = next(events, |event| matches!(event, Event::Closed { .. })).await;
    assert!(events.next().await.is_none());
    let Event::Closed { error } = last else { unreachable!() };
    error.map(|error| *error)
}

pub fn is_alive(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid.cast_signed()).unwrap()).is_ok()
}

/// Sends a signal to the child and its process group.
pub fn signal(node: &Node, signal: Signal) {
    let pid = Pid::from_raw(node.pid().unwrap().cast_signed()).unwrap();
    kill_process_group(pid, signal).unwrap();
}

pub fn exit_code(error: &Error) -> Option<i32> {
    match error {
        Error::StartFailed { exit, .. }
        | Error::SidecarExited { exit, .. }
        | Error::SidecarRestarted { exit, .. } => exit.and_then(|exit| exit.code()),
        _ => panic!("the error has no exit status: {error:?}"),
    }
}

pub fn refused<T>(result: Result<T, Error>) -> Error {
    result.err().expect("the call must fail")
}

/// directory.
pub struct Notes(PathBuf);

impl Notes {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("p2p-node-sdk-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Notes(path)
    }

    /// Runs the script `first` as the first process, and `later` as each further one. `$child` is
    /// the fake child. `note` logs each line before it passes the line on; `tee` does not guarantee
    /// that order.
    pub fn then(&self, first: &str, later: &str) -> Builder {
        let path = self.0.display();
        let note = r#"note() { while IFS= read -r line; do printf '%s\n' "$line" >>"$1"; printf '%s\n' "$line"; done; }"#;
        let script = format!(
            "{note}; child={CHILD}; cd {path}; echo $$ >>pids; if mkdir once 2>/dev/null; then {first}; else {later}; fi"
        );
        Node::builder().binary("/bin/sh").args(["-c", &script]).restart(Some(quick()))
    }

    /// Logs the input of a good child.
    pub fn listen(&self) -> Builder {
        self.then("note said | $child good", "note said | $child good")
    }

    pub fn said(&self) -> String {
        self.read("said")
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    pub fn pids(&self) -> Vec<u32> {
        let pids = fs::read_to_string(self.0.join("pids")).unwrap_or_default();
        pids.lines().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Waits for the second process and returns its id.
    pub async fn second(&self) -> u32 {
        until(|| self.pids().len() > 1).await;
        self.pids()[1]
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
