//! Unusual environments: shared descriptors, systems without the usual files, namespaces.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use p2p_node::io::swarm::KEY_LOG;
use rustix::fs::OFlags;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, command, tcp_address, test_key};

fn set_nonblocking(fd: &OwnedFd) {
    let flags = rustix::fs::fcntl_getfl(fd).unwrap();
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).unwrap();
}

fn is_nonblocking(fd: &OwnedFd) -> bool {
    rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

#[test]
fn nonblocking_stdin_and_stdout_lose_no_line_and_stay_nonblocking() {
    const PINGS: usize = 5000;
    let home = TempDir::new().unwrap();
    let (node_input, input) = std::io::pipe().unwrap();
    let (output, node_output) = std::io::pipe().unwrap();
    // The descriptors of another process with the same stdin and stdout.
    let shared: [OwnedFd; 2] =
        [node_input.try_clone().unwrap().into(), node_output.try_clone().unwrap().into()];
    set_nonblocking(&shared[0]);
    let mut node = command(home.path());
    node.stdin(Stdio::from(node_input)).stdout(Stdio::from(node_output)).stderr(Stdio::null());
    let mut process = node.spawn().unwrap();
    drop(node);
    let (mut input, mut lines) = (input, BufReader::new(output).lines());
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    input.write_all(b"{\"type\":\"connect\",\"protocol\":1,\"id\":\"c\"}\n").unwrap();
    while next()["id"] != "c" {}
    assert!(
        is_nonblocking(&shared[0]) && !is_nonblocking(&shared[1]),
        "the node changed the flags of a shared descriptor"
    );
    set_nonblocking(&shared[1]);
    let writing = std::thread::spawn(move || {
        for id in 0..PINGS {
            input.write_all(format!("{{\"type\":\"ping\",\"id\":{id}}}\n").as_bytes()).unwrap();
        }
        input
    });
    // The pipe is full long before the test reads.
    while rustix::io::ioctl_fionread(&shared[1]).unwrap() < 60_000 {
        std::thread::yield_now();
    }
    let mut seq = None;
    for id in 0..PINGS {
        let answer = next();
        assert_eq!((&answer["type"], &answer["id"]), (&json!("result"), &json!(id)), "{answer}");
        let number = answer["seq"].as_u64().unwrap();
        assert!(seq.is_none_or(|last| last + 1 == number), "{answer}");
        seq = Some(number);
    }
    drop(writing.join().unwrap());
    let last: Value = next();
    assert_eq!((&last["type"], &last["reason"]), (&json!("closing"), &json!("eof")));
    assert!(process.wait().unwrap().success());
    assert!(is_nonblocking(&shared[0]) && is_nonblocking(&shared[1]));
}

/// Runs a node in namespaces of its own, after `script` has changed its environment. Returns `None`
/// if the system allows no namespaces. The shell opens the binary first, because the script may hide
/// the directory of this repository.
pub fn unshared(flags: &[&str], script: &str, args: &[&str], env: &[(&str, &str)]) -> Option<Child> {
    let possible =
        Command::new("unshare").args(flags).arg("true").status().is_ok_and(|status| status.success());
    if !possible {
        let reason = "this system does not allow namespaces";
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        // Not by `eprintln`, which is shown only if the test fails.
        let _ =
            writeln!(std::io::stderr(), "\nSKIPPED: a test of an unusual environment was not run: {reason}");
        return None;
    }
    let home = TempDir::new().unwrap();
    let mut node = Command::new("unshare");
    node.args(flags)
        .args(["sh", "-ec", &format!("exec 9<\"$0\"\n{script}\nexec /proc/self/fd/9 \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_p2p-node"))
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .env("P2P_NODE_RENDEZVOUS", "off")
        .env("P2P_NODE_MDNS", "false")
        .env("P2P_NODE_UPNP", "false")
        .envs(env.iter().copied())
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(Child::start(home, node))
}

/// Connects, ends with exit code 0, and returns the lines.
fn connect_and_finish(mut child: Child) -> Vec<Value> {
    child.command(json!({"type":"connect","protocol":1,"id":"c"}));
    let answer = child.expect("an answer", |event| event["id"] == "c");
    assert_eq!(answer["type"], "result", "{answer}");
    let (code, rest, stderr) = child.finish();
    assert_eq!(code, 0, "{rest:#?} {stderr}");
    rest
}

pub fn logs(lines: &[Value], what: &str) -> usize {
    let is_it = |line: &&Value| line["type"] == "log" && line["message"].as_str().unwrap().contains(what);
    lines.iter().filter(is_it).count()
}

#[test]
fn node_without_dns_starts_with_a_warning() {
    let args = ["--network", "village", "--address-scope", "private", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let Some(child) = unshared(&["-rm"], "mount -t tmpfs none /etc", &args, &[]) else { return };
    let lines = connect_and_finish(child);
    assert_eq!(logs(&lines, "DNS is not available"), 1, "{lines:#?}");
}

#[test]
fn node_without_dns_joins_by_its_other_sources_and_reports_its_dns_seeds() {
    let (_entry, entry) = Child::join(0x91, 0, &[], &[]);
    let args = ["--connect", "--dns-seed", "peers.example.org", "--bootstrap", &tcp_address(&entry)];
    let Some(child) = unshared(&["-rm"], "mount -t tmpfs none /etc", &args, &[]) else { return };
    child.expect("a connection", |event| {
        event["type"] == "peer_connected" && event["peerId"] == entry["peerId"]
    });
    child.expect("a warning", |event| {
        let message = event["message"].as_str().unwrap_or_default();
        event["type"] == "log" && message.contains("the DNS seeds peers.example.org. cannot be resolved")
    });
}

#[test]
fn node_without_temporary_directory_starts() {
    let script =
        "for dir in /tmp /run /var/tmp /home; do test ! -d $dir || mount -t tmpfs -o ro none $dir; done";
    let key = test_key(0x90);
    // An empty value counts as unset: the rendezvous directory cannot be created either.
    for rendezvous in ["off", ""] {
        let env = [("PRIVATE_KEY", key.as_str()), ("P2P_NODE_RENDEZVOUS", rendezvous)];
        let Some(child) = unshared(&["-rm"], script, &[], &env) else { return };
        let lines = connect_and_finish(child);
        assert!(lines.iter().all(|line| line["type"] != "log"), "{lines:#?}");
    }
}

#[test]
fn parent_in_another_namespace_is_not_watched() {
    let here = std::process::id().to_string();
    // In the new namespace the number of this process is unused or another process, and process 1 is
    // the node itself.
    for pid in [here.as_str(), "1"] {
        let args = ["--parent-pid", pid];
        let Some(child) = unshared(&["-rmp", "--fork", "--mount-proc"], "", &args, &[]) else { return };
        let lines = connect_and_finish(child);
        assert_eq!(logs(&lines, "--parent-pid is not watched"), 1, "{lines:#?}");
    }
}

#[test]
fn agent_with_ephemeral_key_leaves_no_files() {
    let home = TempDir::new().unwrap();
    let mut node = command(home.path());
    node.env("TMPDIR", home.path()).env("XDG_RUNTIME_DIR", home.path()).env("HOME", home.path());
    node.stdin(File::open("/dev/null").unwrap()).arg("--connect");
    let output = node.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(entries(home.path()), 0);
}

#[test]
fn node_warns_if_the_environment_has_its_secrets_written_to_a_file() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("secrets").to_str().unwrap().to_owned();
    let mut child = Child::spawn(&[], &[("PRIVATE_KEY", &test_key(0xb8)), (KEY_LOG, &file)]);
    child.command(json!({"type": "connect", "protocol": 1}));
    let log = child.expect("a warning", |event| event["type"] == "log" && event["namespace"] == "start");
    let message = log["message"].as_str().unwrap();
    assert!(log["level"] == "warn" && message.contains(KEY_LOG) && message.contains(&file), "{log}");
    child.expect("ready", |event| event["type"] == "ready");
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}
