//! Sources of the agent's key.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::child::{Child, test_key};

#[test]
fn agent_without_a_key_keeps_its_address_in_the_data_directory() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data").to_str().unwrap().to_owned();
    let address = |env: &[(&str, &str)]| {
        let mut child = Child::spawn(&["--data-dir", &dir], env);
        child.command(json!({"type":"connect"}));
        let log = child.expect("the key source", |event| event["namespace"] == "identity");
        assert_eq!(log["level"], "info");
        assert!(log["message"].as_str().unwrap().contains("agent.key"), "{log}");
        let ready = child.expect("ready", |event| event["type"] == "ready");
        child.command(json!({"type":"shutdown"}));
        assert_eq!(child.wait().code(), Some(0));
        ready["address"].as_str().unwrap().to_owned()
    };
    let first = address(&[("P2P_NODE_EPHEMERAL_KEY", &test_key(0x59))]);
    let mode = fs::metadata(format!("{dir}/agent.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(address(&[]), first);
    assert_eq!(
        address(&[("P2P_NODE_EPHEMERAL_KEY", &test_key(0x5a))]),
        first,
        "the key of the data directory takes precedence"
    );
}

#[test]
fn key_source_env_file_is_logged() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("agent.env");
    fs::write(&path, format!("PRIVATE_KEY={}\n", test_key(0x5b))).unwrap();
    let path_text = path.to_str().unwrap();
    let mut refused = Child::spawn(&["--connect", "-e", path_text], &[]);
    assert_eq!(refused.wait().code(), Some(77), "other users may read the file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let child = Child::spawn(&["--connect", "-e", path_text], &[]);
    let log = child.expect("the key source", |event| event["namespace"] == "identity");
    assert!(log["message"].as_str().unwrap().contains(path_text), "{log}");
}
