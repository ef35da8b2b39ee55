//! A data directory that another host also uses, where file locks are not visible.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tempfile::TempDir;

use crate::child::{Child, test_key};
use crate::surroundings::unshared;

/// Replaces the boot id, as on another host.
const ANOTHER_HOST: &str = "printf another-host > \"$P2P_NODE_LOCK_SCOPE/boot\"
mount --bind \"$P2P_NODE_LOCK_SCOPE/boot\" /proc/sys/kernel/random/boot_id";

#[test]
fn data_directory_of_another_host_is_refused_until_its_heartbeat_stops() {
    let dir = TempDir::new().unwrap();
    let args = ["--data-dir", dir.path().to_str().unwrap()];
    let (mut first, _) = Child::join(0x7C, 0, &args, &[]);
    // The killed process has no lock and no heartbeat, like a process on another host whose lock is
    // not visible.
    first.kill();
    let key = test_key(0x7C);
    let start_on_other_host = || unshared(&["-rm"], ANOTHER_HOST, &args, &[("PRIVATE_KEY", &key)]);
    let Some(second) = start_on_other_host() else { return };
    let (code, lines, stderr) = second.finish();
    let error = lines.last().unwrap_or_else(|| panic!("{code} {stderr}"));
    assert_eq!((code, &error["code"], &error["retryable"]), (74, &json!("DATA_DIR_IN_USE"), &json!(true)));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("P2P_NODE_DATA_DIR") && message.contains(args[1]), "{message}");
    // On the same host the free lock shows that the process has ended.
    let (again, _) = Child::join(0x7C, 0, &args, &[]);
    assert_eq!(again.finish().0, 0);
    let (mut killed, _) = Child::join(0x7C, 0, &args, &[]);
    killed.kill();
    let owner = std::fs::File::options().write(true).open(dir.path().join("node.owner")).unwrap();
    owner.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    let mut second = start_on_other_host().unwrap();
    second.command(json!({"type":"connect","protocol":1,"id":"c"}));
    assert_eq!(second.answer("c")["type"], "result");
}

#[test]
fn node_ends_when_another_host_takes_its_data_directory() {
    let dir = TempDir::new().unwrap();
    let (child, _) = Child::join(0x7D, 0, &["--data-dir", dir.path().to_str().unwrap()], &[]);
    std::fs::write(dir.path().join("node.owner"), "another process\nanother host\nelsewhere\n").unwrap();
    let error = child.expect("an error", |event| event["type"] == "error");
    assert_eq!(error["code"], "DATA_DIR_IN_USE");
    assert!(error["message"].as_str().unwrap().contains("on host elsewhere"), "{error}");
    let mut child = child;
    assert_eq!(child.wait().code(), Some(74));
}
