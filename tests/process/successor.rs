//! A node whose identity another process still uses: it waits, and still reacts to its parent.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, test_key};

/// Well below the 8 s that a node waits for its identity.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A node that has the identity, and one that waits for it and has been told to connect.
fn both(key: u8, args: &[&str]) -> (TempDir, Child, Child) {
    let home = TempDir::new().unwrap();
    let scope = home.path().to_str().unwrap();
    let key = test_key(key);
    let env = [("PRIVATE_KEY", key.as_str()), ("P2P_NODE_LOCK_SCOPE", scope)];
    let mut first = Child::spawn(&[], &env);
    first.say(json!({"type":"connect","protocol":1,"id":"c"}));
    first.answer("c");
    let mut second = Child::spawn(args, &env);
    if args.is_empty() {
        second.say(json!({"type":"connect","protocol":1,"id":"c"}));
    }
    second.expect("a log that it waits", |event| {
        event["type"] == "log" && event["message"].as_str().unwrap().contains("waiting up to")
    });
    (home, first, second)
}

/// What a node that had nothing to do says at its end.
fn ends(mut child: Child, reason: &str) -> Vec<Value> {
    assert_eq!(child.wait_within(AT_ONCE).code(), Some(0));
    let rest = child.rest();
    let last = rest.last().unwrap();
    assert_eq!((&last["type"], &last["reason"]), (&json!("closing"), &json!(reason)), "{rest:?}");
    rest
}

#[test]
fn a_node_that_waits_for_its_identity_ends_with_its_stdin() {
    let (_home, _first, mut second) = both(0xB3, &[]);
    second.close_stdin();
    assert_eq!(second.wait_within(AT_ONCE).code(), Some(73));
    let rest = second.rest();
    assert_eq!(rest.last().unwrap()["code"], "IDENTITY_IN_USE", "{rest:?}");
}

#[test]
fn a_node_that_waits_for_its_identity_ends_by_a_shutdown_and_answers_it() {
    let (_home, _first, mut second) = both(0xB4, &[]);
    second.say(json!({"type":"shutdown","id":"s"}));
    let rest = ends(second, "shutdown");
    assert!(rest.iter().any(|event| event["id"] == "c" && event["code"] == "SHUTTING_DOWN"), "{rest:?}");
    assert!(rest.iter().any(|event| event["id"] == "s" && event["type"] == "result"), "{rest:?}");
}

#[test]
fn a_node_that_waits_for_its_identity_ends_in_good_order_by_a_signal() {
    // The signal may come before the node has read a line.
    let (_home, _first, second) = both(0xB5, &["--connect"]);
    second.signal(rustix::process::Signal::TERM);
    ends(second, "signal");
}

#[test]
fn a_pipeline_that_waits_for_its_identity_is_carried_out_when_it_is_free() {
    let (_home, first, mut second) = both(0xB6, &[]);
    for id in ["p", "q"] {
        second.say(json!({"type":"ping","id":id}));
    }
    second.close_stdin();
    first.finish();
    let (code, lines, _) = second.finish();
    assert_eq!(code, 0, "{lines:?}");
    let answers = lines.iter().filter(|event| event["type"] == "result").map(|event| event["id"].clone());
    assert_eq!(answers.collect::<Vec<_>>(), [json!("c"), json!("p"), json!("q")], "{lines:?}");
}
