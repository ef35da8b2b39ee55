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
