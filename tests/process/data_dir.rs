//! Unusable data directories: the node reports the reason and exits. It never starts with an empty
//! store in place of an unreadable one.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use p2p_node::io::store::STORE_FILE;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, SOON, tcp_address, test_key};

/// Whom the parent blocked before.
const BLOCKED: &str = "0x6713B5B2b4fDaddd6C10A8eD2C6AA4A5E6aC28a5";

fn flags(data_dir: &Path) -> [&str; 3] {
    ["--connect", "--data-dir", data_dir.to_str().unwrap()]
}

/// A data directory that keeps a blocked agent.
fn in_use(key: u8) -> TempDir {
    let data_dir = TempDir::new().unwrap();
    let (mut child, ready) = Child::join(key, 0, &flags(data_dir.path())[1..], &[]);
    assert_eq!(ready["durable"], true);
    child.say(json!({"type":"block","peerId":BLOCKED,"id":"b"}));
    child.answer("b");
    child.say(json!({"type":"shutdown","id":"end"}));
    assert!(child.wait().success());
    data_dir
}

/// The node, started by a line of shell in which `$0` is the binary and `$1` its data directory.
fn by_shell(program: &str, script: &str, key: u8, data_dir: &Path) -> Child {
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
        .env("PRIVATE_KEY", test_key(key))
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Child::start(home, command)
}

/// How a node ended that was never ready, and the last that it said.
fn refusal(child: Child) -> (i32, Value) {
    let (code, lines, stderr) = child.finish();
    assert!(lines.iter().all(|line| line["type"] != "ready"), "{lines:#?}");
    (code, lines.last().unwrap_or_else(|| panic!("it says nothing: {stderr}")).clone())
}

#[test]
fn a_node_with_too_few_descriptors_is_not_ready_without_what_it_keeps() {
    let data_dir = in_use(0xb1);
    // From fewer than the runtime takes to more than a node needs to start.
    let children = (4..40).map(|limit| {
        let script = format!(r#"ulimit -n {limit}; exec "$0" --data-dir "$1""#);
        // Each has a copy: they run at once.
        let copy = TempDir::new().unwrap();
        for name in [STORE_FILE, "node.key"] {
            std::fs::copy(data_dir.path().join(name), copy.path().join(name)).unwrap();
        }
        let mut child = by_shell("/bin/sh", &script, 0xb1, copy.path());
        let lines = b"{\"type\":\"connect\",\"protocol\":1}\n{\"type\":\"peers\",\"id\":\"p\"}\n";
        // One that ends at once does not read them.
        let _ = child.take_stdin().write_all(lines);
        (limit, child, copy)
    });
    let children: Vec<_> = children.collect();
    let (mut told, mut ready) = (0, 0);
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
            told += 1;
        }
    }
    assert!(ready > 0, "40 descriptors suffice to start");
    assert!(told > 0, "no limit kept the store from being opened");
}

#[test]
fn a_store_without_room_ends_the_node_unless_there_is_some_soon() {
    let data_dir = TempDir::new().unwrap();
    // A limit on the size of files (512 bytes, enough for the lock) stands for the disk; the signal
    // that comes with it would be a defect of the test.
    let script = r#"trap "" XFSZ; ulimit -S -f 1; exec "$0" --connect --data-dir "$1" --node-key /dev/null"#;
    let node_key = TempDir::new().unwrap();
    let node_key = node_key.path().join("node.key");
    std::fs::write(&node_key, "b2".repeat(32)).unwrap();
    std::fs::set_permissions(&node_key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let script = script.replace("/dev/null", node_key.to_str().unwrap());
    let start = || by_shell("/bin/sh", &script, 0xb2, data_dir.path());
    let (code, error) = refusal(start());
    assert_eq!(
        (code, &error["code"], &error["retryable"]),
        (74, &json!("STORE_UNAVAILABLE"), &json!(true)),
        "{error}"
    );

    let mut child = start();
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    // Again and again, because the shell may lower the limit after the first time.
    std::thread::spawn(move || {
        for _ in 0..100 {
            let _ = prlimit(Some(pid), Resource::Fsize, Rlimit { current: None, maximum: None });
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let ready = child.expect_within(SOON, "ready", |event| event["type"] == "ready");
    assert_eq!(ready["durable"], true);
    child.kill();
}

#[test]
fn a_disk_without_room_for_a_store_is_told_before_ready() {
    let mount = TempDir::new().unwrap();
    let script = r#"mount -t tmpfs -o size=16k tmpfs "$1" && exec "$0" --connect --data-dir "$1/data""#;
    if !by_shell("unshare", r#"mount -t tmpfs tmpfs "$1""#, 0xb3, mount.path()).wait().success() {
        eprintln!("SKIPPED: this system lets nobody mount a file system of their own");
        return;
    }
    let (code, error) = refusal(by_shell("unshare", script, 0xb3, mount.path()));
    assert_eq!((code, &error["code"]), (74, &json!("STORE_UNAVAILABLE")), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(STORE_FILE) && message.contains("No space left"), "{message}");
}

#[test]
fn what_a_restart_cannot_mend_ends_the_node_for_good() {
    let file = TempDir::new().unwrap();
    let path = file.path().join("file");
    std::fs::write(&path, "in the way").unwrap();
    let home = TempDir::new().unwrap();
    let node_key = home.path().join("node.key");
    let node_key = ["--node-key", node_key.to_str().unwrap()];
    let start = |data_dir: &Path| {
        let args = [&flags(data_dir)[..], &node_key].concat();
        refusal(Child::spawn(&args, &[("PRIVATE_KEY", &test_key(0xb4))]))
    };
    let is_final = |(code, error): (i32, Value), expected: i32| {
        let said = (code, &error["code"], &error["retryable"]);
        assert_eq!(said, (expected, &json!("INVALID_ARGUMENT"), &json!(false)), "{error}");
    };
    is_final(start(&path), 78);
    let directory = TempDir::new().unwrap();
    std::fs::create_dir(directory.path().join(STORE_FILE)).unwrap();
    is_final(start(directory.path()), 78);

    // Root may write where nobody else may, but not to what is mounted so.
    let mount = TempDir::new().unwrap();
    let script = r#"mount -t tmpfs -o ro tmpfs "$1""#;
    if !by_shell("unshare", script, 0xb4, mount.path()).wait().success() {
        eprintln!("SKIPPED: this system lets nobody mount a file system of their own");
        return;
    }
    let script = format!(r#"{script} && exec "$0" --connect --data-dir "$1" --node-key node.key"#);
    is_final(refusal(by_shell("unshare", &script, 0xb4, mount.path())), 77);
}

#[test]
fn a_data_directory_keeps_to_its_agent_and_nobody_else_sends_its_mail() {
    let data_dir = TempDir::new().unwrap();
    let args = flags(data_dir.path());
    let (mut sender, sender_ready) = Child::join(0xb5, 0, &args[1..], &[]);
    let recipient_port = {
        // A recipient that has gone, and whose address stays.
        let (recipient, ready) = Child::join(0xb6, 0, &[], &[]);
        drop(recipient);
        (tcp_address(&ready).split('/').nth(4).unwrap().parse().unwrap(), ready["address"].clone())
    };
    let (port, recipient_address): (u16, Value) = recipient_port;
    sender.say(json!({"type":"send","peerId":recipient_address,"data":"from A","id":"m"}));
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
