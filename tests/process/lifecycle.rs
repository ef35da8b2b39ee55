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

use crate::child::{Child, SOON, command, tcp_address, test_key};

/// The exit code of a node that is started so, and what it says on stdout and stderr.
fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn is_gone(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).unwrap()).is_err()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_line_that_is_wrong_ends_with_64_and_a_configuration_with_78() {
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
    for (args, env, code, named) in cases {
        let mut node = command(home.path());
        node.args(args).envs(env.iter().copied()).stdin(Stdio::null());
        let (ended, stdout, stderr) = run(node);
        assert_eq!(ended, Some(code), "{named}: {stdout}{stderr}");
        assert!(stderr.contains(named), "{named}: {stderr}");
        let error: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&error["type"], &error["retryable"]),
            (&json!("error"), &json!(false)),
            "{named}: {stdout}"
        );
        assert!(error["message"].as_str().unwrap().contains(named), "{named}: {error}");
        let said = format!("{stdout}{stderr}");
        assert!(!said.contains("nonsense") || args.contains(&"--nonsense"), "a key is quoted: {said}");
    }
}

#[test]
fn a_generation_from_the_future_ends_it_with_78_and_says_what_time_it_is() {
    let home = TempDir::new().unwrap();
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    // In milliseconds, and by a clock that was an hour ahead.
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
    assert_eq!(run(node).0, Some(0), "the data directory can still be used");
}

#[test]
fn a_key_file_that_others_may_read_ends_it_with_77() {
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
fn a_pipe_that_breaks_ends_it_with_74() {
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
fn a_reader_that_has_seen_enough_ends_it_silently() {
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
        .current_dir(home.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "code 0\n");
}

#[test]
fn a_node_receives_after_the_end_of_stdin_for_as_long_as_it_was_told() {
    let (mut bob, bob_ready) = Child::join(0x52, 0, &[], &[]);
    let mut alice = Child::spawn(&["--receive-after-eof", "20s"], &[("PRIVATE_KEY", &test_key(0x53))]);
    alice.say(json!({"type":"connect","protocol":1,"bootstrapPeers":[tcp_address(&bob_ready)]}));
    alice.close_stdin();
    let ready = alice.expect("ready", |event| event["type"] == "ready");
    bob.say(json!({"type":"send","peerId":ready["address"],"data":"late","id":"m"}));
    assert_eq!(alice.expect("mail", |event| event["type"] == "message")["data"], "late");
    // It need not stay to the end of its time.
    alice.signal(Signal::TERM);
    assert_eq!(alice.wait().code(), Some(0));
    assert_eq!(alice.rest().last().unwrap()["reason"], "signal");

    let mut brief = Child::spawn(&["--receive-after-eof", "0.2"], &[("PRIVATE_KEY", &test_key(0x53))]);
    brief.say(json!({"type":"connect","protocol":1}));
    let (code, lines, _) = brief.finish();
    assert_eq!((code, &lines.last().unwrap()["reason"]), (0, &json!("eof")));
}

/// A parent that starts a node with `flags`, and a sibling that holds the node's stdin open.
/// Returns the parent, and the pids of node and sibling, once the node is ready.
fn family(home: &Path, flags: &str) -> (std::process::Child, i32, i32) {
    let script = format!(
        r#"mkfifo in; "$0" {flags} <in >out & node=$!; sleep 1000 >in & echo '{{"type":"connect"}}' >in; echo $node $!; wait"#
    );
    let mut parent = Command::new("/bin/sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_p2p-node")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pids = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut pids).unwrap();
    let pids: Vec<i32> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    until("the node is ready", || {
        fs::read_to_string(home.join("out")).unwrap_or_default().contains("\"ready\"")
    });
    (parent, pids[0], pids[1])
}

#[test]
fn a_parent_that_is_killed_leaves_no_orphan_though_a_sibling_holds_the_pipe() {
    let home = TempDir::new().unwrap();
    let (mut parent, node, sibling) = family(home.path(), "--parent-pid $$");
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the node ends with its parent", || is_gone(node));
    assert!(!is_gone(sibling), "the pipe was held all the time");
    kill_process(Pid::from_raw(sibling).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_parent_that_is_killed_leaves_no_orphan_when_nobody_else_holds_the_pipe() {
    let home = TempDir::new().unwrap();
    let (mut parent, node, sibling) = family(home.path(), "");
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(!is_gone(node), "its stdin is open");
    kill_process(Pid::from_raw(sibling).unwrap(), Signal::KILL).unwrap();
    until("the node ends with its stdin", || is_gone(node));
}

#[test]
fn a_parent_that_cannot_be_seen_is_not_watched_and_the_end_of_stdin_ends_the_node() {
    let mut other = Command::new("true").spawn().unwrap();
    let unseen = other.id().to_string();
    other.wait().unwrap();
    for pid in ["1", &unseen] {
        let mut child = Child::spawn(&["--parent-pid", pid], &[]);
        child.say(json!({"type":"connect","protocol":1,"id":"c"}));
        assert_eq!(child.answer("c")["type"], "result");
        let (code, lines, _) = child.finish();
        assert_eq!((code, &lines.last().unwrap()["reason"]), (0, &json!("eof")), "{lines:#?}");
        let logs =
            lines.iter().filter(|line| line["message"].as_str().unwrap_or_default().contains("--parent-pid"));
        assert_eq!(logs.count(), 1, "{lines:#?}");
    }
}

#[test]
fn an_ack_just_before_the_end_reaches_the_sender() {
    let (mut sender, ready) = Child::join(0x5e, 0, &[], &[]);
    for round in 0..5 {
        let (mut taker, taker_ready) = Child::join(0x5f, 0, &["--ack", "manual"], &[tcp_address(&ready)]);
        assert_eq!(taker_ready["features"][0], "ack");
        sender.say(json!({"type":"send","peerId":taker_ready["address"],"data":round}));
        let mail = taker.expect("mail", |event| event["type"] == "message");
        assert_eq!(mail["data"], round);
        let ack = json!({"type":"ack","messageId":mail["messageId"]});
        taker.write(format!("{ack}\n{}\n", json!({"type":"shutdown"})).as_bytes());
        assert_eq!(taker.finish().0, 0);
        let told = sender.expect("how it ended", |event| event["type"] == "delivery");
        assert_eq!((&told["state"], &told["messageId"]), (&json!("delivered"), &mail["messageId"]));
    }
}

#[test]
fn a_node_that_stays_outlives_its_stdin_and_ends_by_signal() {
    let mut child = Child::spawn(&["--on-eof", "stay", "--connect"], &[("PRIVATE_KEY", &test_key(0x54))]);
    child.close_stdin();
    let ready = child.expect("ready", |event| event["type"] == "ready");
    let (other, _) = Child::join(0x55, 0, &[], &[tcp_address(&ready)]);
    other.expect("the one that stays", |event| {
        event["type"] == "peer_discovered" || event["type"] == "peer_connected"
    });
    child.signal(Signal::INT);
    assert_eq!(child.wait().code(), Some(0));
}

#[test]
fn a_made_up_key_counts_only_where_none_is_given() {
    let address = |env: &[(&str, &str)]| {
        let mut child = Child::spawn(&[], env);
        child.say(json!({"type":"connect"}));
        let warned = child.expect("a word on the key", |event| {
            event["type"] == "ready" || event["namespace"] == "identity"
        });
        let ready = if warned["type"] == "ready" {
            warned.clone()
        } else {
            child.expect("ready", |event| event["type"] == "ready")
        };
        (ready["address"].as_str().unwrap().to_owned(), warned["type"] == "log")
    };
    let (made_up, real) = (test_key(0x56), test_key(0x57));
    let (first, warned) = address(&[("P2P_NODE_EPHEMERAL_KEY", &made_up)]);
    assert!(warned, "it is still said that the key ends with whoever made it up");
    assert_eq!(address(&[("P2P_NODE_EPHEMERAL_KEY", &made_up)]).0, first);
    let (own, warned) = address(&[("P2P_NODE_EPHEMERAL_KEY", &made_up), ("PRIVATE_KEY", &real)]);
    assert!(own != first && !warned);
    assert_eq!(address(&[("PRIVATE_KEY", &real)]).0, own);
}

#[test]
fn nothing_is_left_open_for_the_children_of_a_node_to_inherit() {
    // Descriptors beyond the standard three are closed on exec: a child of the node could otherwise
    // hold its parent's pipes.
    let child = Child::spawn(&["--connect"], &[("PRIVATE_KEY", &test_key(0x58))]);
    child.expect("ready", |event| event["type"] == "ready");
    let (directory, names) = (format!("/proc/{}/fdinfo", child.id()), format!("/proc/{}/fd", child.id()));
    // Those that this process was handed without that flag, by whoever started it, are not the
    // node's.
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
        // It may have been closed since.
        let Ok(mut file) = File::open(&entry) else { continue };
        file.read_to_string(&mut text).unwrap();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        assert!(number < 3 || flags & 0o2_000_000 != 0, "descriptor {number} is inherited");
    }
}
