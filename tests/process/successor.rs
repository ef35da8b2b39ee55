//! A node whose identity another process still uses: it waits, and still reacts to its parent.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, test_key};

/// Timeout well below the 8 s that a node waits for its identity.
const END_TIMEOUT: Duration = Duration::from_secs(4);

/// Starts a node that has the identity, and one that waits for it and has a `connect`.
fn start_both(key: u8, args: &[&str]) -> (TempDir, Child, Child) {
    let home = TempDir::new().unwrap();
    let scope = home.path().to_str().unwrap();
    let key = test_key(key);
    let env = [("PRIVATE_KEY", key.as_str()), ("P2P_NODE_LOCK_SCOPE", scope)];
    let mut first = Child::spawn(&[], &env);
    first.command(json!({"type":"connect","protocol":1,"id":"c"}));
    first.answer("c");
    let mut second = Child::spawn(args, &env);
    if args.is_empty() {
        second.command(json!({"type":"connect","protocol":1,"id":"c"}));
    }
    second.expect("a log about waiting", |event| {
        event["type"] == "log" && event["message"].as_str().unwrap().contains("waiting up to")
    });
    (home, first, second)
}

/// Waits for the end of a node with exit code 0, and returns its last lines.
fn assert_ends(mut child: Child, reason: &str) -> Vec<Value> {
    assert_eq!(child.wait_within(END_TIMEOUT).code(), Some(0));
    let rest = child.rest();
    let last = rest.last().unwrap();
    assert_eq!((&last["type"], &last["reason"]), (&json!("closing"), &json!(reason)), "{rest:?}");
    rest
}

#[test]
fn waiting_successor_ends_at_eof() {
    let (_home, _first, mut second) = start_both(0xB3, &[]);
    second.close_stdin();
    assert_eq!(second.wait_within(END_TIMEOUT).code(), Some(73));
    let rest = second.rest();
    assert_eq!(rest.last().unwrap()["code"], "IDENTITY_IN_USE", "{rest:?}");
}

#[test]
fn waiting_successor_answers_shutdown_and_ends() {
    let (_home, _first, mut second) = start_both(0xB4, &[]);
    second.command(json!({"type":"shutdown","id":"s"}));
    let rest = assert_ends(second, "shutdown");
    assert!(rest.iter().any(|event| event["id"] == "c" && event["code"] == "SHUTTING_DOWN"), "{rest:?}");
    assert!(rest.iter().any(|event| event["id"] == "s" && event["type"] == "result"), "{rest:?}");
}

#[test]
fn waiting_successor_ends_on_signal() {
    // The signal may arrive before the node has read a line.
    let (_home, _first, second) = start_both(0xB5, &["--connect"]);
    second.signal(rustix::process::Signal::TERM);
    assert_ends(second, "signal");
}

#[test]
fn waiting_pipeline_is_executed_when_the_identity_is_free() {
    let (_home, first, mut second) = start_both(0xB6, &[]);
    for id in ["p", "q"] {
        second.command(json!({"type":"ping","id":id}));
    }
    second.close_stdin();
    first.finish();
    let (code, lines, _) = second.finish();
    assert_eq!(code, 0, "{lines:?}");
    let answers = lines.iter().filter(|event| event["type"] == "result").map(|event| event["id"].clone());
    assert_eq!(answers.collect::<Vec<_>>(), [json!("c"), json!("p"), json!("q")], "{lines:?}");
}
