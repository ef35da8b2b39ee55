//! Limit of open files: the node raises it as far as its connections need and the system allows.

use serde_json::json;

use crate::child::{Child, test_key};

/// Starts a node with these limits of descriptors.
fn limited(ulimit: &str) -> Child {
    let mut child = Child::spawn_limited(ulimit, &[], &[("PRIVATE_KEY", &test_key(0xb7))]);
    child.command(json!({"type": "connect", "protocol": 1}));
    child
}

#[test]
fn low_soft_limit_is_raised_for_the_connections() {
    let mut child = limited("ulimit -Sn 100");
    child.expect("ready", |event| event["type"] == "ready");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id()));
    let Ok(limits) = limits else { return };
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: u64 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(soft >= 300, "{line}");
    child.command(json!({"type": "ping", "id": "ping"}));
    child.answer("ping");
    assert!(child.take(|event| event["type"] == "log" && event["namespace"] == "start").is_none());
}

#[test]
fn low_hard_limit_lowers_the_connections_with_a_warning() {
    let child = limited("ulimit -n 200");
    let log = child.expect("a warning", |event| event["type"] == "log" && event["namespace"] == "start");
    assert_eq!(log["level"], "warn");
    assert!(log["message"].as_str().unwrap().contains("at most 40"), "{log}");
    child.expect("ready", |event| event["type"] == "ready");
}
