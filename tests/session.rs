//! Golden sessions: the input and output lines of nodes, in `fixtures/sessions`.
//!
//! `a> …` is a line to node `a`, `a< …` is the expected next line from it, `a|` closes its stdin, and `#`
//! starts a comment. `$address.b`, `$peer.b` and `$addr.b` are values from the `ready` event of
//! `b`. Values that differ between runs are replaced before the comparison. With two nodes, the
//! test ignores peer events, because their time varies. `UPDATE_FIXTURES=1 cargo test --test
//! session` writes the actual lines.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests fail by panicking, and wait by the clock"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use p2p_node::config::{Config, RunArgs};
use p2p_node::node;
use p2p_node::pipe::Pipe;
use p2p_node_core::effect::ExitCode;
use serde_json::Value;

/// Timeout for a line.
const TIMEOUT: Duration = Duration::from_secs(20);

struct Party {
    input: Option<std::io::PipeWriter>,
    lines: Receiver<String>,
    exit: tokio::task::JoinHandle<ExitCode>,
    ready: Value,
}

impl Party {
    fn start(name: &str, session: &str, runtime: &tokio::runtime::Runtime) -> Party {
        let args = RunArgs {
            name: Some(name.to_owned()),
            instance: Some(session.to_owned()),
            drain_timeout: Some("1".to_owned()),
            rendezvous: Some("off".to_owned()),
            lock_scope: Some(format!("session test {}", std::process::id())),
            ..RunArgs::default()
        };
        // Keys for tests only, one for each node.
        let key = format!("0x{}", name.repeat(64));
        let environment = |variable: &str| (variable == "PRIVATE_KEY").then(|| key.clone().into());
        let config = Config::resolve(&args, &environment, Path::new("/nonexistent")).unwrap();
        let (pipe, parent) = Pipe::memory().unwrap();
        let exit = runtime.spawn(node::serve(config, pipe));
        let (sender, lines) = sync_channel(10_000);
        let p2p_node::pipe::ParentEnd { input, output } = parent;
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(output) {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Party { input: Some(input), lines, exit, ready: Value::Null }
    }

    fn next(&mut self, what: &str, skip_peer_events: bool) -> Value {
        loop {
            let line =
                self.lines.recv_timeout(TIMEOUT).unwrap_or_else(|error| panic!("{error} instead of {what}"));
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["type"] == "ready" {
                self.ready = event.clone();
            }
            let kind = event["type"].as_str().unwrap_or_default();
            let is_peer_event =
                matches!(kind, "peer_connected" | "peer_disconnected" | "peer_discovered" | "log");
            if !(skip_peer_events && is_peer_event && !what.contains(kind)) {
                return event;
            }
        }
    }
}

/// Replaces values that differ between runs.
fn normalise(value: &mut Value, with_seq: bool) {
    match value {
        Value::Object(fields) => {
            if !with_seq {
                fields.remove("seq");
            }
            for (name, field) in fields {
                match name.as_str() {
                    "timeMs" | "uptimeMs" | "sentAtMs" | "receivedAtMs" | "expiresAtMs" => {
                        *field = "<time>".into()
                    }
                    "messageId" | "replyTo" => *field = "<message id>".into(),
                    "version" => *field = "<version>".into(),
                    "counters" => *field = "<counters>".into(),
                    // What has been sent by the time of the command differs.
                    "bandwidth" => *field = "<bandwidth>".into(),
                    _ => normalise(field, with_seq),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| normalise(item, with_seq)),
        Value::String(text) if text.starts_with("/ip4/127.0.0.1/") => {
            let mut parts: Vec<&str> = text.split('/').collect();
            parts[4] = "<port>";
            *text = parts.join("/");
        }
        _ => {}
    }
}

fn substitute(line: &str, parties: &BTreeMap<String, Party>) -> String {
    let mut line = line.to_owned();
    for (name, party) in parties {
        for (placeholder, value) in [
            ("address", &party.ready["address"]),
            ("peer", &party.ready["peerId"]),
            ("addr", &party.ready["addrs"][0]),
        ] {
            let pattern = format!("${placeholder}.{name}");
            line = line.replace(&pattern, value.as_str().unwrap_or("?"));
        }
    }
    line
}

/// Runs a session and returns it with the actual output.
fn play(session: &str, text: &str, runtime: &tokio::runtime::Runtime) -> String {
    let mut parties: BTreeMap<String, Party> = BTreeMap::new();
    let several = text.lines().any(|line| line.starts_with("b>"));
    let mut actual = String::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_at_checked(1).filter(|(name, _)| *name == "a" || *name == "b")
        else {
            writeln!(actual, "{line}").unwrap();
            continue;
        };
        if !parties.contains_key(name) {
            parties.insert(name.to_owned(), Party::start(name, session, runtime));
        }
        if let Some(command) = rest.strip_prefix("> ") {
            let command = substitute(command, &parties);
            let input = parties.get_mut(name).unwrap().input.as_mut().unwrap();
            std::io::Write::write_all(input, format!("{command}\n").as_bytes()).unwrap();
            writeln!(actual, "{line}").unwrap();
        } else if rest == "|" {
            parties.get_mut(name).unwrap().input = None;
            writeln!(actual, "{line}").unwrap();
        } else if let Some(expected) = rest.strip_prefix("< ") {
            let mut event = parties.get_mut(name).unwrap().next(expected, several);
            normalise(&mut event, !several);
            writeln!(actual, "{name}< {event}").unwrap();
        } else {
            panic!("{session}: invalid line {line:?}");
        }
    }
    for (name, mut party) in parties {
        party.input = None;
        let code = runtime.block_on(party.exit).unwrap();
        // The reader thread may still have lines after the exit of the process.
        let left: Vec<_> = std::iter::from_fn(|| party.lines.recv_timeout(TIMEOUT).ok()).collect();
        let remaining: Vec<_> = left
            .iter()
            .filter(|line| !line.contains("\"log\"") && (!several || !line.contains("\"peer_")))
            .collect();
        writeln!(actual, "# {name} ends with exit code {}, {} more lines", code as u8, remaining.len())
            .unwrap();
    }
    actual
}

#[test]
fn sessions_match_their_files() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sessions");
    let mut count = 0;
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let session = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let without_end: String = text
            .lines()
            .filter(|line| !line.contains("ends with exit code"))
            .map(|line| format!("{line}\n"))
            .collect();
        let actual = play(&session, &without_end, &runtime);
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&path, actual).unwrap();
        } else {
            assert_eq!(text, actual, "session {session} has other output; UPDATE_FIXTURES=1 writes it");
        }
        count += 1;
    }
    assert!(count >= 6, "only {count} sessions");
}
