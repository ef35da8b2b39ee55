//! Mail that outlives the process: with a data directory, what was accepted arrives, whenever its sender is killed.

use std::collections::BTreeSet;
use std::process::Command;

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
    // A limit on the size of files stands for the disk; the signal that comes with it would be a defect of the test.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", r#"trap "" XFSZ; exec "$0" --data-dir "$1""#, env!("CARGO_BIN_EXE_p2p-node")])
        .arg(data_dir.path())
        .env_clear()
        .env("NETWORK", "dev")
        .env("XDG_RUNTIME_DIR", home.path())
        .env("PRIVATE_KEY", test_key(0xa3))
        .current_dir(home.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
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
        }
    }

    fn start(key: u8, data_dir: &TempDir, entry: &str) -> (Child, Value) {
        Child::join(key, 0, &["--data-dir", data_dir.path().to_str().unwrap()], &[entry.to_owned()])
    }

    fn kill_and_restart(&mut self) {
        self.child.kill();
        self.said.extend(self.child.rest());
        self.child = Agent::start(self.key, &self.data_dir, &self.entry).0;
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
    eprintln!(
        "{kills} kills, {} mails accepted, {} arrived, {again} told again",
        promised.len(),
        effects.len()
    );
    assert!(promised.len() as u64 >= mails / 2, "{} accepted", promised.len());
}
