//! Limit of open files: the node raises it as far as its connections need and the system allows.

use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use crate::child::{Child, command, test_key};

/// Starts a node with these limits of descriptors.
fn limited(ulimit: &str) -> Child {
    let home = TempDir::new().unwrap();
    let mut shell = command(home.path());
    let node = shell.get_program().to_owned();
    let envs: Vec<_> =
        shell.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", &format!(r#"{ulimit} && exec "$0""#)]).arg(node).env_clear().current_dir(home.path());
    shell.envs(envs.into_iter().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PRIVATE_KEY", test_key(0xb7));
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Child::start(home, shell);
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
