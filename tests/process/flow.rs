//! Queued sends do not block other commands: acks, queries, sends to other recipients and shutdown.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, SOON, tcp_address, test_key};

/// Mail that each of two agents writes before its first `ack`.
const MAILS: usize = 4000;
/// What `ready` says of the longest pause, and what a machine with other things to do may add.
const PAUSE: Duration = Duration::from_millis(2000);
const SLACK: Duration = Duration::from_secs(3);

/// Writes lines on a thread of its own, for the pipe may be full.
fn writer(child: &mut Child) -> Sender<Value> {
    let mut stdin = child.take_stdin();
    let (lines, to_write) = channel::<Value>();
    std::thread::spawn(move || {
        while let Ok(line) = to_write.recv() {
            if writeln!(stdin, "{line}").is_err() {
                return;
            }
        }
    });
    lines
}

/// Sends everything to the other agent, and acknowledges what comes, behind that.
fn exchange(mut child: Child, to: &Value) -> (Child, Sender<Value>) {
    let stdin = writer(&mut child);
    let data = "x".repeat(1000);
    let send = |id: u64| json!({"type": "send", "peerId": to, "data": data, "id": id, "ttlMs": 600_000});
    (0..MAILS as u64).for_each(|id| stdin.send(send(id)).unwrap());
    let (mut received, mut delivered, mut accepted) = (0, 0, 0);
    while received < MAILS || delivered < MAILS {
        let event = child.expect_within(PAUSE + SLACK, "any line", |_| true);
        match event["type"].as_str().unwrap() {
            "message" => {
                received += 1;
                stdin.send(json!({"type": "ack", "messageId": event["messageId"]})).unwrap();
            }
            "delivery" => {
                assert_eq!(event["state"], "delivered", "{event}");
                delivered += 1;
            }
            "result" => accepted += usize::from(event["command"] == "send"),
            // What was refused is written again, behind the acks.
            "error" => {
                assert_eq!(event["code"], "BUSY", "{event}");
                stdin.send(send(event["id"].as_u64().unwrap())).unwrap();
            }
            _ => {}
        }
    }
    assert_eq!(accepted, MAILS);
    (child, stdin)
}

#[test]
fn two_agents_that_write_all_their_mail_before_their_first_ack_get_on() {
    let (first, first_ready) = Child::join(0xb0, 0, &["--ack", "manual"], &[]);
    let (second, second_ready) = Child::join(0xb1, 0, &["--ack", "manual"], &[tcp_address(&first_ready)]);
    let other = std::thread::spawn(move || exchange(second, &first_ready["address"]));
    let ended = exchange(first, &second_ready["address"]);
    drop((other.join().unwrap(), ended));
}

#[test]
fn a_recipient_that_does_not_read_costs_the_others_nothing() {
    let (mut sender, ready) = Child::join(0xb2, 0, &[], &[]);
    let entry = [tcp_address(&ready)];
    // Nobody acknowledges what comes to it.
    let (_stalled, stalled) = Child::join(0xb3, 0, &["--ack", "manual"], &entry);
    let (_quick, quick) = Child::join(0xb4, 0, &[], &entry);
    sender.until("peers", |status| status["peers"] == 2);
    let stdin = writer(&mut sender);
    let data = "x".repeat(4000);
    let (mut next, mut open, mut latest) = (0_u64, BTreeMap::new(), 0);
    let (since, mut waits) = (Instant::now(), Vec::new());
    while since.elapsed() < Duration::from_secs(6) || !open.is_empty() {
        let may_send = since.elapsed() < Duration::from_secs(6);
        // A third of what may be unanswered for the one that stalls, one at a time for the other.
        while may_send && latest < 300 {
            stdin
                .send(json!({"type": "send", "peerId": stalled["address"], "data": data, "id": next}))
                .unwrap();
            open.insert(next, None);
            (next, latest) = (next + 1, latest + 1);
        }
        if may_send && open.values().all(Option::is_none) {
            stdin.send(json!({"type": "send", "peerId": quick["address"], "data": 1, "id": next})).unwrap();
            open.insert(next, Some(Instant::now()));
            next += 1;
        }
        let event = sender.expect("an answer", |event| event["id"].is_u64());
        match open.remove(&event["id"].as_u64().unwrap()).unwrap() {
            Some(asked) => {
                assert_eq!(event["delivery"], "accepted", "{event}");
                waits.push(asked.elapsed());
            }
            None => latest -= 1,
        }
        sender.drop_seen("delivery");
    }
    // A machine that is busy makes some wait; one that waits for the stalled recipient waits for a
    // whole pause, and so does each.
    waits.sort();
    let median = waits[waits.len() / 2];
    assert!(
        waits.len() > 20 && median < PAUSE / 8,
        "{} accepted, half of them after {median:?}",
        waits.len()
    );
}

#[test]
fn a_data_directory_full_of_mail_for_someone_who_is_away_is_of_use_all_the_same() {
    let data_dir = TempDir::new().unwrap();
    let args = ["--data-dir", data_dir.path().to_str().unwrap(), "--drain-timeout", "0.2"];
    let spawn = || {
        let mut child = Child::spawn(&args, &[("PRIVATE_KEY", &test_key(0xb5))]);
        child.say(json!({"type": "connect", "protocol": 1}));
        child
    };
    let mut child = spawn();
    let (away, data) = (format!("0x{:040x}", 77), "x".repeat(10_000));
    for id in 0..208 {
        child.say(json!({"type": "send", "peerId": away, "data": data, "id": id}));
    }
    // Those beyond its quarter of the outbox are refused in the end, and nothing waits for that.
    child.say(json!({"type": "ping", "id": "ping"}));
    child.answer("ping");
    let answers: Vec<Value> =
        (0..208).map(|id| child.expect("an answer", |event| event["id"] == id)).collect();
    let accepted = answers.iter().filter(|answer| answer["delivery"] == "accepted").count();
    assert!(accepted > 190, "{accepted}");
    assert_eq!(child.finish().0, 0);

    let again = spawn();
    let asked = Instant::now();
    again.expect("ready", |event| event["type"] == "ready");
    let (code, lines, _) = again.finish();
    assert_eq!((code, &lines.last().unwrap()["reason"]), (0, &json!("eof")));
    assert!(asked.elapsed() < SOON);
    let mut third = spawn();
    third.until("its mail", |status| status["outbox"] == accepted);
}

#[test]
fn the_end_of_stdin_is_seen_behind_sends_that_find_no_room() {
    let mut child = Child::spawn(&["--drain-timeout", "0.5"], &[("PRIVATE_KEY", &test_key(0xb6))]);
    child.say(json!({"type": "connect", "protocol": 1}));
    let (away, data) = (format!("0x{:040x}", 77), "x".repeat(10_000));
    let stdin = writer(&mut child);
    for id in 0..2000 {
        stdin.send(json!({"type": "send", "peerId": away, "data": data, "id": id})).unwrap();
    }
    let asked = Instant::now();
    drop(stdin);
    let lines = child.rest();
    assert_eq!(child.wait().code(), Some(75));
    assert!(asked.elapsed() < 2 * PAUSE + SLACK, "{:?}", asked.elapsed());
    let answered = lines.iter().filter(|line| line["id"].is_u64()).count();
    assert_eq!(answered, 2000, "each has its answer");
    let count = |code: &str| lines.iter().filter(|line| line["id"].is_u64() && line["code"] == code).count();
    assert!(count("BUSY") > 1000, "{} busy", count("BUSY"));
}
