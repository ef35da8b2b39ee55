//! Durable messages: with a data directory every accepted message arrives, even if the sender is
//! killed at any moment.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, tcp_address, test_key};

/// Processes of the sender, each ended by `kill -9`, and the messages that each sends.
const PROCESSES: u64 = 15;
const MESSAGES: u64 = 200;

fn sender(data_dir: &TempDir, entry: &str) -> (Child, Value) {
    Child::join(0xa1, 0, &["--data-dir", data_dir.path().to_str().unwrap()], &[entry.to_owned()])
}

/// Returns the ids of the accepted messages.
fn accepted(lines: &[Value]) -> impl Iterator<Item = u64> {
    let accepted = lines.iter().filter(|line| line["type"] == "result" && line["delivery"] == "accepted");
    accepted.map(|line| line["id"].as_u64().unwrap())
}

/// Sets the environment of a command: only this test key and the necessary variables.
fn in_clean_environment(command: &mut Command, home: &TempDir, key: u8) {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .env("P2P_NODE_RENDEZVOUS", "off")
        .env("PRIVATE_KEY", test_key(key))
        .current_dir(home.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
}

#[test]
fn accepted_messages_arrive_once_and_in_order_despite_kills_of_the_sender() {
    let (mut recipient, ready) = Child::join(0xa0, 0, &[], &[]);
    let (entry, address) = (tcp_address(&ready), &ready["address"]);
    let data_dir = TempDir::new().unwrap();
    let mut accepted_ids = BTreeSet::new();
    for process in 0..PROCESSES {
        let (mut child, ready) = sender(&data_dir, &entry);
        assert_eq!(ready["durable"], true);
        for number in process * MESSAGES..(process + 1) * MESSAGES {
            child.command(json!({"type":"send","peerId":address,"data":number,"id":number}));
        }
        // Each process is killed at another time: before, among or after its answers.
        let moment = process * process * 37 % (2 * MESSAGES);
        let mut lines: Vec<_> = (0..moment).map(|_| child.expect("any line", |_| true)).collect();
        child.kill();
        lines.extend(child.rest());
        accepted_ids.extend(accepted(&lines));
        let ends = lines.iter().filter(|line| line["type"] == "delivery");
        let ends: Vec<_> = ends.inspect(|end| assert_eq!(end["state"], "delivered", "{end}")).collect();
        let reported: BTreeSet<_> = ends.iter().map(|end| end["messageId"].as_str().unwrap()).collect();
        assert_eq!(reported.len(), ends.len(), "each delivery is reported once per process");
    }
    let (mut child, _) = sender(&data_dir, &entry);
    child.until("all is sent", |status| status["outbox"] == 0);
    drop(child);
    recipient.command(json!({"type":"ping","id":"end"}));
    recipient.answer("end");
    let received: Vec<u64> = recipient
        .seen()
        .iter()
        .filter(|line| line["type"] == "message")
        .map(|line| line["data"].as_u64().unwrap())
        .collect();
    assert!(received.is_sorted_by(|one, next| one < next), "received once and in order: {received:?}");
    let received: BTreeSet<u64> = received.into_iter().collect();
    let lost: Vec<_> = accepted_ids.difference(&received).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    assert!(accepted_ids.len() as u64 > MESSAGES, "{} accepted", accepted_ids.len());
}

#[test]
fn full_disk_refuses_sends_and_recovers_without_restart() {
    let (recipient, ready) = Child::join(0xa2, 0, &[], &[]);
    let (home, data_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // A limit of the file size simulates a full disk. The script ignores the signal of that limit.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", r#"trap "" XFSZ; exec "$0" --data-dir "$1""#, env!("CARGO_BIN_EXE_p2p-node")])
        .arg(data_dir.path());
    in_clean_environment(&mut command, &home, 0xa3);
    let mut child = Child::start(home, command);
    child.command(json!({"type":"connect","protocol":1,"bootstrapPeers":[tcp_address(&ready)]}));
    child.expect("ready", |event| event["type"] == "ready");
    let send = |child: &mut Child, id: &str| {
        child.command(json!({"type":"send","peerId":ready["address"],"data":id,"id":id}));
        child.answer(id)
    };
    assert_eq!(send(&mut child, "before")["delivery"], "accepted");
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    let set_file_limit =
        |bytes| prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    set_file_limit(Some(0));
    for id in ["full", "still full"] {
        let refused = send(&mut child, id);
        assert_eq!(
            (&refused["code"], &refused["retryable"]),
            (&json!("DISK_FULL"), &json!(true)),
            "{refused}"
        );
    }
    child.command(json!({"type":"ping","id":"alive"}));
    child.answer("alive");
    set_file_limit(None);
    assert_eq!(send(&mut child, "after")["delivery"], "accepted");
    child.until("all is sent", |status| status["outbox"] == 0);
    for data in ["before", "after"] {
        let message = recipient.expect("mail", |event| event["type"] == "message");
        assert_eq!(message["data"], data, "refused messages are not sent");
    }
    assert_eq!(child.finish().0, 0);
}

/// Longest time until a restarted node is ready.
const MAX_RESTART_TIME: Duration = Duration::from_secs(2);

/// Returns the number of kills and of messages; `KILLS` and `MAILS` override the defaults.
fn kills_and_messages() -> (u64, u64) {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    (number("KILLS", 40), number("MAILS", 2000))
}

/// An agent with a data directory, over all of its processes.
struct Agent {
    key: u8,
    data_dir: TempDir,
    entry: String,
    child: Child,
    /// All its lines.
    lines: Vec<Value>,
    address: Value,
    /// The longest restart.
    slowest: Duration,
}

impl Agent {
    fn new(key: u8, entry: &str) -> Agent {
        let data_dir = TempDir::new().unwrap();
        let (child, ready) = Agent::start(key, &data_dir, entry);
        Agent {
            key,
            data_dir,
            entry: entry.to_owned(),
            child,
            lines: Vec::new(),
            address: ready["address"].clone(),
            slowest: Duration::ZERO,
        }
    }

    fn start(key: u8, data_dir: &TempDir, entry: &str) -> (Child, Value) {
        Child::join(key, 0, &["--data-dir", data_dir.path().to_str().unwrap()], &[entry.to_owned()])
    }

    fn kill_and_restart(&mut self) {
        self.child.kill();
        self.lines.extend(self.child.rest());
        let began = Instant::now();
        self.child = Agent::start(self.key, &self.data_dir, &self.entry).0;
        self.slowest = self.slowest.max(began.elapsed());
    }

    /// Collects this number of lines for which `matches` holds.
    fn collect(&mut self, count: u64, matches: impl Fn(&Value) -> bool) {
        for _ in 0..count {
            let line = self.child.expect("another line", &matches);
            self.lines.push(line);
        }
    }
}

#[test]
fn no_accepted_message_is_lost_or_reordered_by_kills_of_both_ends() {
    let (kills, messages) = kills_and_messages();
    let (_bootstrap, ready) = Child::join(0xa4, 0, &["--role", "bootstrap"], &[]);
    let entry = tcp_address(&ready);
    let (mut sender, mut recipient) = (Agent::new(0xa5, &entry), Agent::new(0xa6, &entry));
    let is_accepted = |line: &Value| line["delivery"] == "accepted";
    let chunk = messages / kills;
    for kill in 0..kills {
        for number in kill * chunk..(kill + 1) * chunk {
            sender.child.command(json!({"type":"send","peerId":recipient.address,"data":number,"id":number}));
        }
        // At another time in each round, sender and recipient in turn.
        sender.collect(kill * 31 % chunk, is_accepted);
        match kill % 2 {
            0 => sender.kill_and_restart(),
            _ => {
                sender.collect(chunk - kill * 31 % chunk, is_accepted);
                recipient.kill_and_restart();
            }
        }
    }
    sender.child.until("all is delivered", |status| status["outbox"] == 0);
    recipient.child.command(json!({"type":"ping","id":"end"}));
    recipient.child.answer("end");
    sender.lines.extend(sender.child.seen());
    recipient.lines.extend(recipient.child.seen());

    let accepted_ids: BTreeSet<u64> = accepted(&sender.lines).collect();
    let received: Vec<_> = recipient.lines.iter().filter(|line| line["type"] == "message").collect();
    let (mut effects, mut message_ids) = (Vec::new(), BTreeSet::new());
    for message in &received {
        // A parent that needs each message once recognises redeliveries by the message id.
        if message_ids.insert(message["messageId"].as_str().unwrap()) {
            effects.push(message["data"].as_u64().unwrap());
        }
    }
    let lost: Vec<_> = accepted_ids.iter().filter(|id| !effects.contains(id)).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    assert!(
        effects.is_sorted_by(|one, next| one < next),
        "each message takes effect once and in order: {effects:?}"
    );
    let redelivered = received.len() - effects.len();
    let slowest = sender.slowest.max(recipient.slowest);
    eprintln!(
        "{kills} kills, {} messages accepted, {} received, {redelivered} redelivered, longest restart {slowest:?}",
        accepted_ids.len(),
        effects.len()
    );
    assert!(slowest <= MAX_RESTART_TIME, "{slowest:?}");
    assert!(accepted_ids.len() as u64 >= messages / 2, "{} accepted", accepted_ids.len());
}

/// Returns the command of a node on a small file system in memory, if the system allows mounts.
fn on_small_disk(home: &TempDir, mount: &std::path::Path) -> Option<Command> {
    let script = r#"mount -t tmpfs -o size=6m tmpfs "$1" && exec "$0" --data-dir "$1/data""#;
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "/bin/sh", "-c", script]);
        command.arg(env!("CARGO_BIN_EXE_p2p-node")).arg(mount);
        command
    };
    let allowed = unshared(r#"mount -t tmpfs -o size=6m tmpfs "$1""#)
        .output()
        .is_ok_and(|tried| tried.status.success());
    allowed.then(|| {
        let mut command = unshared(script);
        in_clean_environment(&mut command, home, 0xa7);
        command
    })
}

#[test]
fn full_disk_accepts_messages_after_cancellations() {
    let (home, mount) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let Some(command) = on_small_disk(&home, mount.path()) else {
        eprintln!("SKIPPED: this system does not allow mounts in a user namespace");
        return;
    };
    let mut child = Child::start(home, command);
    child.command(json!({"type":"connect","protocol":1}));
    let ready = child.expect("ready", |event| event["type"] == "ready");
    assert_eq!(ready["durable"], true);
    // Mail for offline agents, until the disk is full.
    let text = "x".repeat(100_000);
    let mut accepted = 0;
    let refused = loop {
        let (id, to) = (format!("m{accepted}"), format!("0x{:040x}", accepted % 7 + 1));
        child.command(json!({"type":"send","peerId":to,"data":[accepted, text],"id":id}));
        let answer = child.answer(&id);
        if answer["type"] == "error" {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 100, "a disk of 6 MB does not fill");
    };
    assert_eq!(refused["code"], "DISK_FULL", "{refused}");
    assert!(accepted > 10, "{accepted}");
    // Cancelled messages free space without a restart.
    for number in 0..accepted {
        child.command(json!({"type":"cancel","target":format!("m{number}"),"id":format!("c{number}")}));
        assert_eq!(child.answer(&format!("c{number}"))["cancelled"], true);
    }
    for attempt in 0.. {
        let id = format!("again{attempt}");
        child.command(json!({"type":"send","peerId":format!("0x{:040x}", 9),"data":text,"id":id}));
        let answer = child.answer(&id);
        if answer["delivery"] == "accepted" {
            break;
        }
        assert_eq!(answer["code"], "DISK_FULL", "{answer}");
        assert!(attempt < 1000, "no space after 1000 attempts");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Flips a bit of a stored message after its process was killed or has shut down. Returns the
/// warning of the next process.
fn damage_report(key: u8, killed: bool) -> (TempDir, Child, String) {
    let data_dir = TempDir::new().unwrap();
    let flags = ["--data-dir", data_dir.path().to_str().unwrap()];
    let (mut child, _) = Child::join(key, 0, &flags, &[]);
    let to = "0x6713B5B2b4fDaddd6C10A8eD2C6AA4A5E6aC28a5";
    child.command(json!({"type":"send","peerId":to,"data":"a-text-that-is-easily-found","id":"m"}));
    assert_eq!(child.answer("m")["delivery"], "accepted");
    if killed {
        child.kill();
    } else {
        child.command(json!({"type":"shutdown","id":"end"}));
        assert!(child.wait().success());
    }
    // The rest of the database is unchanged.
    let path = data_dir.path().join("node.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let found = bytes.windows(27).rposition(|window| window == b"a-text-that-is-easily-found").unwrap();
    bytes[found + 3] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let (mut child, ready) = Child::join(key, 0, &flags, &[]);
    assert_eq!(ready["durable"], true);
    let warning = child.expect("a warning", |event| {
        event["type"] == "log" && event["namespace"] == "store" && event["level"] == "warn"
    });
    child.command(json!({"type":"send","peerId":to,"data":1,"id":"after"}));
    assert_eq!(child.answer("after")["delivery"], "accepted", "the node accepts messages");
    let message = warning["message"].as_str().unwrap().to_owned();
    (data_dir, child, message)
}

#[test]
fn damaged_store_is_moved_aside_with_a_warning() {
    let (data_dir, _child, message) = damage_report(0xa8, false);
    let aside = std::fs::read_dir(data_dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside: Vec<_> = aside.filter(|name| name.starts_with("node.redb.corrupt-")).collect();
    assert!(aside.len() == 1 && message.contains(&aside[0]), "{message}: {aside:?}");
}

#[test]
fn damaged_last_commit_of_killed_process_is_reported_missing() {
    let (data_dir, mut child, message) = damage_report(0xa9, true);
    assert!(message.contains("the last 1 commits are missing"), "{message}");
    // The next process does not repeat the warning.
    child.kill();
    let flags = ["--data-dir", data_dir.path().to_str().unwrap()];
    let (mut child, _) = Child::join(0xa9, 0, &flags, &[]);
    child.command(json!({"type":"ping","id":"p"}));
    child.answer("p");
    assert!(child.take(|event| event["namespace"] == "store").is_none());
}
