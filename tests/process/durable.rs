//! Durable messages: with a data directory every accepted message arrives, even if the sender is
//! killed at any moment.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, tcp_address, test_key};

/// Lives of the sender, each ended by `kill -9`, and what it sends in each.
const LIVES: u64 = 15;
const MAILS: u64 = 200;

fn sender(data_dir: &TempDir, entry: &str) -> (Child, Value) {
    Child::join(0xa1, 0, &["--data-dir", data_dir.path().to_str().unwrap()], &[entry.to_owned()])
}

/// The mails that a life was told are accepted.
fn accepted(lines: &[Value]) -> impl Iterator<Item = u64> {
    let accepted = lines.iter().filter(|line| line["type"] == "result" && line["delivery"] == "accepted");
    accepted.map(|line| line["id"].as_u64().unwrap())
}

/// Has it run with this test key, and nothing else of what is around.
fn alone(command: &mut Command, home: &TempDir, key: u8) {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .env("PRIVATE_KEY", test_key(key))
        .current_dir(home.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
}

#[test]
fn what_was_accepted_arrives_once_and_in_order_though_its_sender_is_killed_again_and_again() {
    let (mut recipient, ready) = Child::join(0xa0, 0, &[], &[]);
    let (entry, address) = (tcp_address(&ready), &ready["address"]);
    let data_dir = TempDir::new().unwrap();
    let mut promised = BTreeSet::new();
    for life in 0..LIVES {
        let (mut child, ready) = sender(&data_dir, &entry);
        assert_eq!(ready["durable"], true);
        for mail in life * MAILS..(life + 1) * MAILS {
            child.say(json!({"type":"send","peerId":address,"data":mail,"id":mail}));
        }
        // At another moment in each life: before any answer, amid them, amid deliveries.
        let moment = life * life * 37 % (2 * MAILS);
        let mut lines: Vec<_> = (0..moment).map(|_| child.expect("any line", |_| true)).collect();
        child.kill();
        lines.extend(child.rest());
        promised.extend(accepted(&lines));
        let ends = lines.iter().filter(|line| line["type"] == "delivery");
        let ends: Vec<_> = ends.inspect(|end| assert_eq!(end["state"], "delivered", "{end}")).collect();
        let told: BTreeSet<_> = ends.iter().map(|end| end["messageId"].as_str().unwrap()).collect();
        assert_eq!(told.len(), ends.len(), "each is told once in a life");
    }
    let (mut child, _) = sender(&data_dir, &entry);
    child.until("all is sent", |status| status["outbox"] == 0);
    drop(child);
    recipient.say(json!({"type":"ping","id":"end"}));
    recipient.answer("end");
    let received: Vec<u64> = recipient
        .seen()
        .iter()
        .filter(|line| line["type"] == "message")
        .map(|line| line["data"].as_u64().unwrap())
        .collect();
    assert!(received.is_sorted_by(|one, next| one < next), "each once, in order: {received:?}");
    let received: BTreeSet<u64> = received.into_iter().collect();
    let lost: Vec<_> = promised.difference(&received).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    assert!(promised.len() as u64 > MAILS, "{} accepted", promised.len());
}

#[test]
fn a_full_disk_accepts_nothing_and_needs_no_restart() {
    let (recipient, ready) = Child::join(0xa2, 0, &[], &[]);
    let (home, data_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // A limit on the size of files stands for the disk; the signal that comes with it would be a
    // defect of the test.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", r#"trap "" XFSZ; exec "$0" --data-dir "$1""#, env!("CARGO_BIN_EXE_p2p-node")])
        .arg(data_dir.path());
    alone(&mut command, &home, 0xa3);
    let mut child = Child::start(home, command);
    child.say(json!({"type":"connect","protocol":1,"bootstrapPeers":[tcp_address(&ready)]}));
    child.expect("ready", |event| event["type"] == "ready");
    let send = |child: &mut Child, id: &str| {
        child.say(json!({"type":"send","peerId":ready["address"],"data":id,"id":id}));
        child.answer(id)
    };
    assert_eq!(send(&mut child, "before")["delivery"], "accepted");
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    let room = |bytes| prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    room(Some(0));
    for id in ["full", "still full"] {
        let refused = send(&mut child, id);
        assert_eq!(
            (&refused["code"], &refused["retryable"]),
            (&json!("DISK_FULL"), &json!(true)),
            "{refused}"
        );
    }
    child.say(json!({"type":"ping","id":"alive"}));
    child.answer("alive");
    room(None);
    assert_eq!(send(&mut child, "after")["delivery"], "accepted");
    child.until("all is sent", |status| status["outbox"] == 0);
    for data in ["before", "after"] {
        let message = recipient.expect("mail", |event| event["type"] == "message");
        assert_eq!(message["data"], data, "nothing that was refused was sent");
    }
    assert_eq!(child.finish().0, 0);
}

/// How long a node may take to be ready again, whatever it has to take up.
const READY_AGAIN: Duration = Duration::from_secs(2);

/// How often a node is killed, and how many mails there are; `KILLS` and `MAILS` ask for more.
fn ordeal() -> (u64, u64) {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    (number("KILLS", 40), number("MAILS", 2000))
}

/// One of two agents that have data directories, over all of its lives.
struct Agent {
    key: u8,
    data_dir: TempDir,
    entry: String,
    child: Child,
    /// All that it has said.
    said: Vec<Value>,
    address: Value,
    /// The longest that it took to be ready again.
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
            said: Vec::new(),
            address: ready["address"].clone(),
            slowest: Duration::ZERO,
        }
    }

    fn start(key: u8, data_dir: &TempDir, entry: &str) -> (Child, Value) {
        Child::join(key, 0, &["--data-dir", data_dir.path().to_str().unwrap()], &[entry.to_owned()])
    }

    fn kill_and_restart(&mut self) {
        self.child.kill();
        self.said.extend(self.child.rest());
        let began = Instant::now();
        self.child = Agent::start(self.key, &self.data_dir, &self.entry).0;
        self.slowest = self.slowest.max(began.elapsed());
    }

    /// Waits until so many of these lines have come in this life.
    fn until_said(&mut self, wanted: u64, of: impl Fn(&Value) -> bool) {
        for _ in 0..wanted {
            let line = self.child.expect("one more", &of);
            self.said.push(line);
        }
    }
}

#[test]
fn nothing_is_lost_or_reordered_though_both_ends_are_killed_again_and_again() {
    let (kills, mails) = ordeal();
    let (_bootstrap, ready) = Child::join(0xa4, 0, &["--role", "bootstrap"], &[]);
    let entry = tcp_address(&ready);
    let (mut sender, mut recipient) = (Agent::new(0xa5, &entry), Agent::new(0xa6, &entry));
    let is_accepted = |line: &Value| line["delivery"] == "accepted";
    let chunk = mails / kills;
    for kill in 0..kills {
        for mail in kill * chunk..(kill + 1) * chunk {
            sender.child.say(json!({"type":"send","peerId":recipient.address,"data":mail,"id":mail}));
        }
        // At another moment each time, and as often the one as the other.
        sender.until_said(kill * 31 % chunk, is_accepted);
        match kill % 2 {
            0 => sender.kill_and_restart(),
            _ => {
                sender.until_said(chunk - kill * 31 % chunk, is_accepted);
                recipient.kill_and_restart();
            }
        }
    }
    sender.child.until("all is delivered", |status| status["outbox"] == 0);
    recipient.child.say(json!({"type":"ping","id":"end"}));
    recipient.child.answer("end");
    sender.said.extend(sender.child.seen());
    recipient.said.extend(recipient.child.seen());

    let promised: BTreeSet<u64> = accepted(&sender.said).collect();
    let messages: Vec<_> = recipient.said.iter().filter(|line| line["type"] == "message").collect();
    let (mut effects, mut names) = (Vec::new(), BTreeSet::new());
    for message in &messages {
        // What a parent does that wants each once: it knows a message by its name.
        if names.insert(message["messageId"].as_str().unwrap()) {
            effects.push(message["data"].as_u64().unwrap());
        }
    }
    let lost: Vec<_> = promised.iter().filter(|mail| !effects.contains(mail)).collect();
    assert!(lost.is_empty(), "accepted and lost: {lost:?}");
    assert!(effects.is_sorted_by(|one, next| one < next), "each takes effect once, in order: {effects:?}");
    let again = messages.len() - effects.len();
    let slowest = sender.slowest.max(recipient.slowest);
    eprintln!(
        "{kills} kills, {} mails accepted, {} arrived, {again} told again, ready again after {slowest:?} at most",
        promised.len(),
        effects.len()
    );
    assert!(slowest <= READY_AGAIN, "{slowest:?}");
    assert!(promised.len() as u64 >= mails / 2, "{} accepted", promised.len());
}

/// A file system of its own, in memory and small, if the system lets us have one.
fn on_small_disk(home: &TempDir, mount: &std::path::Path) -> Option<Command> {
    let script = r#"mount -t tmpfs -o size=6m tmpfs "$1" && exec "$0" --data-dir "$1/data""#;
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "/bin/sh", "-c", script]);
        command.arg(env!("CARGO_BIN_EXE_p2p-node")).arg(mount);
        command
    };
    let allowed =
        unshare(r#"mount -t tmpfs -o size=6m tmpfs "$1""#).output().is_ok_and(|tried| tried.status.success());
    allowed.then(|| {
        let mut command = unshare(script);
        alone(&mut command, home, 0xa7);
        command
    })
}

#[test]
fn a_disk_that_is_full_of_mail_takes_more_when_some_has_gone() {
    let (home, mount) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let Some(command) = on_small_disk(&home, mount.path()) else {
        eprintln!("SKIPPED: this system lets nobody mount a file system of their own");
        return;
    };
    let mut child = Child::start(home, command);
    child.say(json!({"type":"connect","protocol":1}));
    let ready = child.expect("ready", |event| event["type"] == "ready");
    assert_eq!(ready["durable"], true);
    // Mail for agents who are not there yet, until the disk is full.
    let text = "x".repeat(100_000);
    let mut accepted = 0;
    let refused = loop {
        let (id, to) = (format!("m{accepted}"), format!("0x{:040x}", accepted % 7 + 1));
        child.say(json!({"type":"send","peerId":to,"data":[accepted, text],"id":id}));
        let answer = child.answer(&id);
        if answer["type"] == "error" {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 100, "a small disk holds no ten megabytes");
    };
    assert_eq!(refused["code"], "DISK_FULL", "{refused}");
    assert!(accepted > 10, "{accepted}");
    // Some of it is given up, and without a restart there is room again.
    for gone in 0..accepted {
        child.say(json!({"type":"cancel","target":format!("m{gone}"),"id":format!("c{gone}")}));
        assert_eq!(child.answer(&format!("c{gone}"))["cancelled"], true);
    }
    for attempt in 0.. {
        let id = format!("again{attempt}");
        child.say(json!({"type":"send","peerId":format!("0x{:040x}", 9),"data":text,"id":id}));
        let answer = child.answer(&id);
        if answer["delivery"] == "accepted" {
            break;
        }
        assert_eq!(answer["code"], "DISK_FULL", "{answer}");
        assert!(attempt < 1000, "it never recovers");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A store with a mail whose process has ended, in good order or not, in which one bit of that mail
/// is changed: what the next process says of it.
fn told_of_damage(key: u8, killed: bool) -> (TempDir, Child, String) {
    let data_dir = TempDir::new().unwrap();
    let flags = ["--data-dir", data_dir.path().to_str().unwrap()];
    let (mut child, _) = Child::join(key, 0, &flags, &[]);
    let to = "0x6713B5B2b4fDaddd6C10A8eD2C6AA4A5E6aC28a5";
    child.say(json!({"type":"send","peerId":to,"data":"a-text-that-is-easily-found","id":"m"}));
    assert_eq!(child.answer("m")["delivery"], "accepted");
    if killed {
        child.kill();
    } else {
        child.say(json!({"type":"shutdown","id":"end"}));
        assert!(child.wait().success());
    }
    // The database around it is as it should be.
    let path = data_dir.path().join("node.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let found = bytes.windows(27).rposition(|window| window == b"a-text-that-is-easily-found").unwrap();
    bytes[found + 3] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let (mut child, ready) = Child::join(key, 0, &flags, &[]);
    assert_eq!(ready["durable"], true);
    let told = child.expect("the damage", |event| {
        event["type"] == "log" && event["namespace"] == "store" && event["level"] == "warn"
    });
    child.say(json!({"type":"send","peerId":to,"data":1,"id":"after"}));
    assert_eq!(child.answer("after")["delivery"], "accepted", "it goes on");
    let message = told["message"].as_str().unwrap().to_owned();
    (data_dir, child, message)
}

#[test]
fn mail_in_a_damaged_store_is_set_aside_and_told_of() {
    let (data_dir, _child, message) = told_of_damage(0xa8, false);
    let aside = std::fs::read_dir(data_dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside: Vec<_> = aside.filter(|name| name.starts_with("node.redb.corrupt-")).collect();
    assert!(aside.len() == 1 && message.contains(&aside[0]), "{message}: {aside:?}");
}

#[test]
fn what_a_killed_process_wrote_last_and_is_damaged_is_told_to_be_missing() {
    let (data_dir, mut child, message) = told_of_damage(0xa9, true);
    assert!(message.contains("the last 1 commits are missing"), "{message}");
    // Once is enough.
    child.kill();
    let flags = ["--data-dir", data_dir.path().to_str().unwrap()];
    let (mut child, _) = Child::join(0xa9, 0, &flags, &[]);
    child.say(json!({"type":"ping","id":"p"}));
    child.answer("p");
    assert!(child.take(|event| event["namespace"] == "store").is_none());
}
