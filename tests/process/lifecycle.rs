//! Start and exit of the process, also when the parent crashes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT, command, tcp_address, test_key};

/// Runs a node and returns its exit code, stdout and stderr.
fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn has_ended(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).unwrap()).is_err()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn bad_command_line_exits_64_and_bad_configuration_78() {
    let home = TempDir::new().unwrap();
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a str);
    let cases: [Case<'_>; 6] = [
        (&["--nonsense"], &[], 64, "--nonsense"),
        (&["--port", "99999"], &[], 64, "--port"),
        (&["--parent-pid", "0"], &[], 64, "--parent-pid"),
        (&[], &[("P2P_NODE_RECEIVE_AFTER_EOF", "soon")], 78, "P2P_NODE_RECEIVE_AFTER_EOF"),
        (&[], &[("PRIVATE_KEY", "0xnonsense")], 78, "PRIVATE_KEY"),
        (&[], &[("P2P_NODE_EPHEMERAL_KEY", "0xnonsense")], 78, "P2P_NODE_EPHEMERAL_KEY"),
    ];
    for (args, env, code, expected) in cases {
        let mut node = command(home.path());
        node.args(args).envs(env.iter().copied()).stdin(Stdio::null());
        let (ended, stdout, stderr) = run(node);
        assert_eq!(ended, Some(code), "{expected}: {stdout}{stderr}");
        assert!(stderr.contains(expected), "{expected}: {stderr}");
        let error: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&error["type"], &error["retryable"]),
            (&json!("error"), &json!(false)),
            "{expected}: {stdout}"
        );
        assert!(error["message"].as_str().unwrap().contains(expected), "{expected}: {error}");
        let output = format!("{stdout}{stderr}");
        assert!(!output.contains("nonsense") || args.contains(&"--nonsense"), "a key is printed: {output}");
    }
}

#[test]
fn generation_from_the_future_exits_78_with_the_current_time() {
    let home = TempDir::new().unwrap();
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    // A generation in milliseconds, and one of a clock that was an hour ahead.
    for generation in [now_ms, now_ms / 1000 + 3600].map(|generation| generation.to_string()) {
        for in_env in [false, true] {
            let mut node = command(home.path());
            match in_env {
                true => node.env("P2P_NODE_GENERATION", &generation),
                false => node.args(["--generation", &generation]),
            };
            node.args(["--data-dir", "data"]).env("PRIVATE_KEY", test_key(0x51)).stdin(Stdio::null());
            let (code, stdout, stderr) = run(node);
            assert_eq!(code, Some(78), "{stdout}{stderr}");
            let error: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
            assert_eq!(error["code"], "IDENTITY_INVALID", "{error}");
            let message = error["message"].as_str().unwrap();
            let hundred_seconds = (now_ms / 100_000).to_string();
            assert!(
                message.contains(&generation) && message.contains(&format!(" {hundred_seconds}")),
                "{message}"
            );
        }
        let mut bind = command(home.path());
        let account = format!("0x{}", "11".repeat(20));
        bind.args(["bind", "--account", &account, "--data-dir", "data", "--generation", &generation]);
        let (code, stdout, stderr) = run(bind);
        assert!(code.is_some_and(|code| code > 0) && stderr.contains(&generation), "{stdout}{stderr}");
    }
    let mut node = command(home.path());
    node.args(["--data-dir", "data", "--generation", &(now_ms / 1000).to_string()]);
    node.env("PRIVATE_KEY", test_key(0x51)).stdin(Stdio::null());
    assert_eq!(run(node).0, Some(0), "the data directory is still usable");
}

#[test]
fn key_file_readable_by_others_exits_77() {
    let home = TempDir::new().unwrap();
    let data = home.path().join("data");
    let mut node = command(home.path());
    node.args(["--data-dir", "data"]).env("PRIVATE_KEY", test_key(0x50)).stdin(Stdio::null());
    assert_eq!(run(node).0, Some(0));
    fs::set_permissions(data.join("node.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut node = command(home.path());
    node.args(["--data-dir", "data"]).env("PRIVATE_KEY", test_key(0x50)).stdin(Stdio::null());
    let (code, stdout, _) = run(node);
    assert_eq!(code, Some(77));
    assert!(stdout.contains("IDENTITY_INVALID"), "{stdout}");
}

#[test]
fn broken_pipe_exits_74() {
    let home = TempDir::new().unwrap();
    let mut node = command(home.path());
    node.stdin(File::open("/").unwrap());
    let (code, stdout, _) = run(node);
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((code, &last["code"]), (Some(74), &json!("INTERNAL")), "{stdout}");
    assert!(last["message"].as_str().unwrap().contains("stdin"), "{last}");

    let full = Path::new("/dev/full");
    if full.exists() {
        let mut node = command(home.path());
        node.stdout(File::options().write(true).open(full).unwrap());
        let mut child = node.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"{\"type\":\"ping\",\"id\":1}\n").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(74));
    }
}

#[test]
fn reader_that_closes_stdout_ends_the_node_with_0() {
    let home = TempDir::new().unwrap();
    let script = r#"{ echo '{"type":"connect","protocol":1}'; while echo '{"type":"ping","id":"p"}'; do :; done; } 2>/dev/null \
        | { "$0"; echo "code $?" >&2; } | head -n 1"#;
    let output = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_p2p-node")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("P2P_NODE_NETWORK", "dev")
        .env("PRIVATE_KEY", test_key(0x51))
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .env("P2P_NODE_RENDEZVOUS", "off")
        .current_dir(home.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "code 0\n");
}

#[test]
fn node_with_receive_after_eof_receives_for_that_time() {
    let (mut bob, bob_ready) = Child::join(0x52, 0, &[], &[]);
    let mut alice = Child::spawn(&["--receive-after-eof", "20s"], &[("PRIVATE_KEY", &test_key(0x53))]);
    alice.command(json!({"type":"connect","protocol":1,"bootstrapPeers":[tcp_address(&bob_ready)]}));
    alice.close_stdin();
    let ready = alice.expect("ready", |event| event["type"] == "ready");
    bob.command(json!({"type":"send","peerId":ready["address"],"data":"late","id":"m"}));
    assert_eq!(alice.expect("mail", |event| event["type"] == "message")["data"], "late");
    // A signal ends it earlier.
    alice.signal(Signal::TERM);
    assert_eq!(alice.wait().code(), Some(0));
    assert_eq!(alice.rest().last().unwrap()["reason"], "signal");

    let mut brief = Child::spawn(&["--receive-after-eof", "0.2"], &[("PRIVATE_KEY", &test_key(0x53))]);
    brief.command(json!({"type":"connect","protocol":1}));
    let (code, lines, _) = brief.finish();
    assert_eq!((code, &lines.last().unwrap()["reason"]), (0, &json!("eof")));
}

/// Starts a parent that starts a node with `flags`, and a sibling that has the node's stdin open.
/// Returns the parent, and the pids of node and sibling, when the node is ready.
fn start_family(home: &Path, flags: &str) -> (std::process::Child, i32, i32) {
    let script = format!(
        r#"mkfifo in; "$0" {flags} <in >out & node=$!; sleep 1000 >in & echo '{{"type":"connect"}}' >in; echo $node $!; wait"#
    );
    let mut parent = Command::new("/bin/sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_p2p-node")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home)
        .env("P2P_NODE_RENDEZVOUS", "off")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pids = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut pids).unwrap();
    let pids: Vec<i32> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    wait_until("the node is ready", || {
        fs::read_to_string(home.join("out")).unwrap_or_default().contains("\"ready\"")
    });
    (parent, pids[0], pids[1])
}

#[test]
fn killed_parent_ends_the_node_while_a_sibling_has_the_pipe() {
    let home = TempDir::new().unwrap();
    let (mut parent, node, sibling) = start_family(home.path(), "--parent-pid $$");
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the node ends with its parent", || has_ended(node));
    assert!(!has_ended(sibling), "the sibling has ended");
    kill_process(Pid::from_raw(sibling).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn killed_parent_ends_the_node_by_eof() {
    let home = TempDir::new().unwrap();
    let (mut parent, node, sibling) = start_family(home.path(), "");
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(!has_ended(node), "the node has ended before its stdin");
    kill_process(Pid::from_raw(sibling).unwrap(), Signal::KILL).unwrap();
    wait_until("the node ends with its stdin", || has_ended(node));
}

#[test]
fn invisible_parent_is_not_watched_and_eof_ends_the_node() {
    let mut other = Command::new("true").spawn().unwrap();
    let unseen = other.id().to_string();
    other.wait().unwrap();
    for pid in ["1", &unseen] {
        let mut child = Child::spawn(&["--parent-pid", pid], &[]);
        child.command(json!({"type":"connect","protocol":1,"id":"c"}));
        assert_eq!(child.answer("c")["type"], "result");
        let (code, lines, _) = child.finish();
        assert_eq!((code, &lines.last().unwrap()["reason"]), (0, &json!("eof")), "{lines:#?}");
        let logs =
            lines.iter().filter(|line| line["message"].as_str().unwrap_or_default().contains("--parent-pid"));
        assert_eq!(logs.count(), 1, "{lines:#?}");
    }
}

#[test]
fn ack_before_shutdown_reaches_the_sender() {
    let (mut sender, ready) = Child::join(0x5e, 0, &[], &[]);
    for round in 0..5 {
        let (mut recipient, recipient_ready) =
            Child::join(0x5f, 0, &["--ack", "manual"], &[tcp_address(&ready)]);
        assert_eq!(recipient_ready["features"][0], "ack");
        sender.command(json!({"type":"send","peerId":recipient_ready["address"],"data":round}));
        let mail = recipient.expect("mail", |event| event["type"] == "message");
        assert_eq!(mail["data"], round);
        let ack = json!({"type":"ack","messageId":mail["messageId"]});
        recipient.write(format!("{ack}\n{}\n", json!({"type":"shutdown"})).as_bytes());
        assert_eq!(recipient.finish().0, 0);
        let delivery = sender.expect("a delivery", |event| event["type"] == "delivery");
        let (state, message_id) = (&delivery["state"], &delivery["messageId"]);
        assert_eq!((state, message_id), (&json!("delivered"), &mail["messageId"]));
    }
}

#[test]
fn node_with_stay_on_eof_runs_until_a_signal() {
    let mut child = Child::spawn(&["--on-eof", "stay", "--connect"], &[("PRIVATE_KEY", &test_key(0x54))]);
    child.close_stdin();
    let ready = child.expect("ready", |event| event["type"] == "ready");
    let (other, _) = Child::join(0x55, 0, &[], &[tcp_address(&ready)]);
    other.expect("the remaining node", |event| {
        event["type"] == "peer_discovered" || event["type"] == "peer_connected"
    });
    child.signal(Signal::INT);
    assert_eq!(child.wait().code(), Some(0));
}

#[test]
fn ephemeral_key_is_used_only_without_private_key() {
    let address = |env: &[(&str, &str)]| {
        let mut child = Child::spawn(&[], env);
        child.command(json!({"type":"connect"}));
        let first = child.expect("a warning or ready", |event| {
            event["type"] == "ready" || event["namespace"] == "identity"
        });
        let ready = if first["type"] == "ready" {
            first.clone()
        } else {
            child.expect("ready", |event| event["type"] == "ready")
        };
        (ready["address"].as_str().unwrap().to_owned(), first["type"] == "log")
    };
    let (ephemeral, real) = (test_key(0x56), test_key(0x57));
    let (first, warned) = address(&[("P2P_NODE_EPHEMERAL_KEY", &ephemeral)]);
    assert!(warned, "no warning about the ephemeral key");
    assert_eq!(address(&[("P2P_NODE_EPHEMERAL_KEY", &ephemeral)]).0, first);
    let (own, warned) = address(&[("P2P_NODE_EPHEMERAL_KEY", &ephemeral), ("PRIVATE_KEY", &real)]);
    assert!(own != first && !warned);
    assert_eq!(address(&[("PRIVATE_KEY", &real)]).0, own);
}

#[test]
fn descriptors_are_closed_on_exec() {
    // Otherwise a child of the node could keep the pipes of its parent open.
    let child = Child::spawn(&["--connect"], &[("PRIVATE_KEY", &test_key(0x58))]);
    child.expect("ready", |event| event["type"] == "ready");
    let (directory, names) = (format!("/proc/{}/fdinfo", child.id()), format!("/proc/{}/fd", child.id()));
    // Descriptors that this process itself inherited without that flag are not the node's.
    let inherited: Vec<_> = fs::read_dir("/proc/self/fd")
        .map(|entries| entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect())
        .unwrap_or_default();
    let Ok(entries) = fs::read_dir(&directory) else { return };
    for entry in entries.map(|entry| entry.unwrap().path()) {
        let number: i32 = entry.file_name().unwrap().to_str().unwrap().parse().unwrap();
        if fs::read_link(Path::new(&names).join(number.to_string()))
            .is_ok_and(|link| inherited.contains(&link))
        {
            continue;
        }
        let mut text = String::new();
        // The node may have closed the descriptor since.
        let Ok(mut file) = File::open(&entry) else { continue };
        file.read_to_string(&mut text).unwrap();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        assert!(number < 3 || flags & 0o2_000_000 != 0, "descriptor {number} is inherited");
    }
}
