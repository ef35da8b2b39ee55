//! Unusable data directories: the node reports the reason and exits. It never starts with an empty
//! store in place of an unreadable one.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use p2p_node_store::STORE_FILE;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT, tcp_address, test_key};

/// An agent that the parent blocked earlier.
const BLOCKED: &str = "0x6713B5B2b4fDaddd6C10A8eD2C6AA4A5E6aC28a5";

fn flags(data_dir: &Path) -> [&str; 3] {
    ["--connect", "--data-dir", data_dir.to_str().unwrap()]
}

/// Returns a data directory with a blocked agent.
fn with_blocked_agent(key: u8) -> TempDir {
    let data_dir = TempDir::new().unwrap();
    let (mut child, ready) = Child::join(key, 0, &flags(data_dir.path())[1..], &[]);
    assert_eq!(ready["durable"], true);
    child.command(json!({"type":"block","peerId":BLOCKED,"id":"b"}));
    child.answer("b");
    child.command(json!({"type":"shutdown","id":"end"}));
    assert!(child.wait().success());
    data_dir
}

/// Starts the node by a shell script, in which `$0` is the binary and `$1` its data directory.
fn start_by_shell(program: &str, script: &str, key: u8, data_dir: &Path) -> Child {
    let home = TempDir::new().unwrap();
    let mut command = Command::new(program);
    if program == "unshare" {
        command.args(["--user", "--map-root-user", "--mount", "/bin/sh"]);
    }
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_p2p-node")])
        .arg(data_dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("P2P_NODE_NETWORK", "dev")
        .env("XDG_RUNTIME_DIR", home.path())
        .env("P2P_NODE_RENDEZVOUS", "off")
        .env("PRIVATE_KEY", test_key(key))
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Child::start(home, command)
}

/// Returns the exit code and last line of a node that was never ready.
fn refusal(child: Child) -> (i32, Value) {
    let (code, lines, stderr) = child.finish();
    assert!(lines.iter().all(|line| line["type"] != "ready"), "{lines:#?}");
    (code, lines.last().unwrap_or_else(|| panic!("no line; stderr: {stderr}")).clone())
}

#[test]
fn node_with_too_few_descriptors_never_starts_without_its_store() {
    let data_dir = with_blocked_agent(0xb1);
    // From fewer descriptors than the runtime needs to more than a node needs to start.
    let children = (4..40).map(|limit| {
        let script = format!(r#"ulimit -n {limit}; exec "$0" --data-dir "$1""#);
        // Each node has its own copy, because all run at the same time.
        let copy = TempDir::new().unwrap();
        for name in [STORE_FILE, "node.key"] {
            std::fs::copy(data_dir.path().join(name), copy.path().join(name)).unwrap();
        }
        let mut child = start_by_shell("/bin/sh", &script, 0xb1, copy.path());
        let lines = b"{\"type\":\"connect\",\"protocol\":1}\n{\"type\":\"peers\",\"id\":\"p\"}\n";
        // A node that ends at once does not read the lines.
        let _ = child.take_stdin().write_all(lines);
        (limit, child, copy)
    });
    let children: Vec<_> = children.collect();
    let (mut refused, mut ready) = (0, 0);
    for (limit, child, _copy) in children {
        let (code, lines, stderr) = child.finish();
        if lines.iter().any(|line| line["type"] == "ready") {
            let peers = lines.iter().find(|line| line["id"] == "p").unwrap();
            assert_eq!(peers["blocked"], json!([BLOCKED]), "{limit} descriptors: {peers}");
            ready += 1;
        } else if let Some(error) = lines.iter().find(|line| line["code"] == "STORE_UNAVAILABLE") {
            assert_eq!(
                (code, &error["retryable"]),
                (74, &json!(true)),
                "{limit} descriptors: {error} {stderr}"
            );
            assert!(error["message"].as_str().unwrap().contains("Too many open files"), "{error}");
            refused += 1;
        }
    }
    assert!(ready > 0, "no node starts with 40 descriptors");
    assert!(refused > 0, "every node opens its store");
}

#[test]
fn store_without_disk_space_ends_the_node_unless_space_appears() {
    let data_dir = TempDir::new().unwrap();
    // A limit of the file size (512 bytes, enough for the lock) simulates a full disk. The script
    // ignores the signal of that limit.
    let script = r#"trap "" XFSZ; ulimit -S -f 1; exec "$0" --connect --data-dir "$1" --node-key /dev/null"#;
    let node_key = TempDir::new().unwrap();
    let node_key = node_key.path().join("node.key");
    std::fs::write(&node_key, "b2".repeat(32)).unwrap();
    std::fs::set_permissions(&node_key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let script = script.replace("/dev/null", node_key.to_str().unwrap());
    let start = || start_by_shell("/bin/sh", &script, 0xb2, data_dir.path());
    let (code, error) = refusal(start());
    assert_eq!(
        (code, &error["code"], &error["retryable"]),
        (74, &json!("STORE_UNAVAILABLE"), &json!(true)),
        "{error}"
    );

    let mut child = start();
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    // Repeatedly, because the shell may lower the limit again.
    std::thread::spawn(move || {
        for _ in 0..100 {
            let _ = prlimit(Some(pid), Resource::Fsize, Rlimit { current: None, maximum: None });
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let ready = child.expect_within(TIMEOUT, "ready", |event| event["type"] == "ready");
    assert_eq!(ready["durable"], true);
    child.kill();
}

#[test]
fn full_disk_is_reported_before_ready() {
    let mount = TempDir::new().unwrap();
    let script = r#"mount -t tmpfs -o size=16k tmpfs "$1" && exec "$0" --connect --data-dir "$1/data""#;
    if !start_by_shell("unshare", r#"mount -t tmpfs tmpfs "$1""#, 0xb3, mount.path()).wait().success() {
        eprintln!("SKIPPED: this system does not allow mounts in a user namespace");
        return;
    }
    let (code, error) = refusal(start_by_shell("unshare", script, 0xb3, mount.path()));
    assert_eq!((code, &error["code"]), (74, &json!("STORE_UNAVAILABLE")), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(STORE_FILE) && message.contains("No space left"), "{message}");
}

#[test]
fn permanent_store_errors_are_not_retryable() {
    let file = TempDir::new().unwrap();
    let path = file.path().join("file");
    std::fs::write(&path, "not a directory").unwrap();
    let home = TempDir::new().unwrap();
    let node_key = home.path().join("node.key");
    let node_key = ["--node-key", node_key.to_str().unwrap()];
    let start = |data_dir: &Path| {
        let args = [&flags(data_dir)[..], &node_key].concat();
        refusal(Child::spawn(&args, &[("PRIVATE_KEY", &test_key(0xb4))]))
    };
    let assert_not_retryable = |(code, error): (i32, Value), expected: i32| {
        let actual = (code, &error["code"], &error["retryable"]);
        assert_eq!(actual, (expected, &json!("INVALID_ARGUMENT"), &json!(false)), "{error}");
    };
    assert_not_retryable(start(&path), 78);
    let directory = TempDir::new().unwrap();
    std::fs::create_dir(directory.path().join(STORE_FILE)).unwrap();
    assert_not_retryable(start(directory.path()), 78);

    // A read-only mount, to which root cannot write either.
    let mount = TempDir::new().unwrap();
    let script = r#"mount -t tmpfs -o ro tmpfs "$1""#;
    if !start_by_shell("unshare", script, 0xb4, mount.path()).wait().success() {
        eprintln!("SKIPPED: this system does not allow mounts in a user namespace");
        return;
    }
    let script = format!(r#"{script} && exec "$0" --connect --data-dir "$1" --node-key node.key"#);
    assert_not_retryable(refusal(start_by_shell("unshare", &script, 0xb4, mount.path())), 77);
}

#[test]
fn data_directory_of_another_agent_is_refused() {
    let data_dir = TempDir::new().unwrap();
    let args = flags(data_dir.path());
    let (mut sender, sender_ready) = Child::join(0xb5, 0, &args[1..], &[]);
    let recipient_port = {
        // A recipient that has ended, and that starts again later on the same port.
        let (recipient, ready) = Child::join(0xb6, 0, &[], &[]);
        drop(recipient);
        (tcp_address(&ready).split('/').nth(4).unwrap().parse().unwrap(), ready["address"].clone())
    };
    let (port, recipient_address): (u16, Value) = recipient_port;
    sender.command(json!({"type":"send","peerId":recipient_address,"data":"from A","id":"m"}));
    assert_eq!(sender.answer("m")["delivery"], "accepted");
    sender.kill();

    let (recipient, ready) = Child::join(0xb6, port, &[], &[]);
    let entry = tcp_address(&ready);
    let other = [&args[..], &["--bootstrap", &entry]].concat();
    let (code, error) = refusal(Child::spawn(&other, &[("PRIVATE_KEY", &test_key(0xb7))]));
    assert_eq!((code, &error["code"], &error["retryable"]), (78, &json!("DATA_DIR_MISMATCH"), &json!(false)));
    let message = error["message"].as_str().unwrap();
    let (_, stranger) = Child::join(0xb7, 0, &[], &[]);
    for part in [&sender_ready["address"], &stranger["address"]] {
        assert!(message.contains(part.as_str().unwrap()), "{message}");
    }
    assert!(message.contains("PRIVATE_KEY") && message.contains("DATA_DIR"), "{message}");

    let (_sender, _) = Child::join(0xb5, 0, &args[1..], &[entry]);
    let mail = recipient.expect("the mail", |event| event["type"] == "message");
    assert_eq!((&mail["from"], &mail["data"]), (&sender_ready["address"], &json!("from A")));
}

#[test]
fn rules_of_block_allow_and_unblock_outlast_the_process() {
    const ALLOWED: &str = "0x1563915e194D8CfBA1943570603F7606A3115508";
    const UNBLOCKED: &str = "0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB";
    let data_dir = TempDir::new().unwrap();
    let (mut child, _) = Child::join(0xb9, 0, &flags(data_dir.path())[1..], &[]);
    for (id, (command, agent)) in
        [("block", BLOCKED), ("allow", ALLOWED), ("block", UNBLOCKED), ("unblock", UNBLOCKED)]
            .into_iter()
            .enumerate()
    {
        child.command(json!({"type":command,"peerId":agent,"id":id}));
        let answer = child.expect("an answer", |event| event["id"] == id);
        assert_eq!(answer["type"], "result", "{answer}");
    }
    child.command(json!({"type":"shutdown","id":"end"}));
    assert!(child.wait().success());
    let (mut child, _) = Child::join(0xb9, 0, &flags(data_dir.path())[1..], &[]);
    child.command(json!({"type":"peers","id":"rules"}));
    let answer = child.answer("rules");
    assert_eq!((&answer["blocked"], &answer["allowed"]), (&json!([BLOCKED]), &json!([ALLOWED])), "{answer}");
}
