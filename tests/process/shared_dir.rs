//! A data directory that another host also uses, where file locks are not visible.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tempfile::TempDir;

use crate::child::{Child, test_key};
use crate::surroundings::unshared;

/// The process on another host takes this file for its own boot id.
const ANOTHER_HOST: &str = "printf another-host > \"$P2P_NODE_LOCK_SCOPE/boot\"
mount --bind \"$P2P_NODE_LOCK_SCOPE/boot\" /proc/sys/kernel/random/boot_id";

#[test]
fn a_data_directory_that_another_host_uses_is_refused_until_it_gives_no_sign_of_life() {
    let dir = TempDir::new().unwrap();
    let args = ["--data-dir", dir.path().to_str().unwrap()];
    let (mut first, _) = Child::join(0x7C, 0, &args, &[]);
    // Its lock ends with it, and it says nothing: as a process whose lock is not seen looks from
    // elsewhere.
    first.kill();
    let key = test_key(0x7C);
    let elsewhere = || unshared(&["-rm"], ANOTHER_HOST, &args, &[("PRIVATE_KEY", &key)]);
    let Some(second) = elsewhere() else { return };
    let (code, lines, stderr) = second.finish();
    let error = lines.last().unwrap_or_else(|| panic!("{code} {stderr}"));
    assert_eq!((code, &error["code"], &error["retryable"]), (74, &json!("DATA_DIR_IN_USE"), &json!(true)));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("P2P_NODE_DATA_DIR") && message.contains(args[1]), "{message}");
    // On the host itself the lock says that it has ended.
    let (again, _) = Child::join(0x7C, 0, &args, &[]);
    assert_eq!(again.finish().0, 0);
    let (mut killed, _) = Child::join(0x7C, 0, &args, &[]);
    killed.kill();
    let owner = std::fs::File::options().write(true).open(dir.path().join("node.owner")).unwrap();
    owner.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    let mut second = elsewhere().unwrap();
    second.say(json!({"type":"connect","protocol":1,"id":"c"}));
    assert_eq!(second.answer("c")["type"], "result");
}

#[test]
fn a_node_whose_data_directory_was_taken_on_another_host_ends_and_says_so() {
    let dir = TempDir::new().unwrap();
    let (child, _) = Child::join(0x7D, 0, &["--data-dir", dir.path().to_str().unwrap()], &[]);
    std::fs::write(dir.path().join("node.owner"), "another process\nanother host\nelsewhere\n").unwrap();
    let error = child.expect("an error", |event| event["type"] == "error");
    assert_eq!(error["code"], "DATA_DIR_IN_USE");
    assert!(error["message"].as_str().unwrap().contains("on host elsewhere"), "{error}");
    let mut child = child;
    assert_eq!(child.wait().code(), Some(74));
}
