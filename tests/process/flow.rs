//! Queued sends do not block other commands: acks, queries, sends to other recipients and shutdown.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT, tcp_address, test_key};

/// Messages that each of two agents sends before its first `ack`.
const MESSAGES: usize = 4000;
/// The `maxPauseMs` of `ready`, and extra time for a busy machine.
const MAX_PAUSE: Duration = Duration::from_millis(2000);
const SLACK: Duration = Duration::from_secs(3);

/// Writes lines on a separate thread, because the pipe may be full.
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

/// Sends all messages to the other agent, and writes the acks of received messages after them.
fn exchange(mut child: Child, to: &Value) -> (Child, Sender<Value>) {
    let stdin = writer(&mut child);
    let data = "x".repeat(1000);
    let send = |id: u64| json!({"type": "send", "peerId": to, "data": data, "id": id, "ttlMs": 600_000});
    (0..MESSAGES as u64).for_each(|id| stdin.send(send(id)).unwrap());
    let (mut received, mut delivered, mut accepted) = (0, 0, 0);
    while received < MESSAGES || delivered < MESSAGES {
        let event = child.expect_within(MAX_PAUSE + SLACK, "any line", |_| true);
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
            // A refused message is sent again, after the acks.
            "error" => {
                assert_eq!(event["code"], "BUSY", "{event}");
                stdin.send(send(event["id"].as_u64().unwrap())).unwrap();
            }
            _ => {}
        }
    }
    assert_eq!(accepted, MESSAGES);
    (child, stdin)
}

#[test]
fn two_agents_that_send_everything_before_their_first_ack_finish() {
    let (first, first_ready) = Child::join(0xb0, 0, &["--ack", "manual"], &[]);
    let (second, second_ready) = Child::join(0xb1, 0, &["--ack", "manual"], &[tcp_address(&first_ready)]);
    let other = std::thread::spawn(move || exchange(second, &first_ready["address"]));
    let ended = exchange(first, &second_ready["address"]);
    drop((other.join().unwrap(), ended));
}

#[test]
fn stalled_recipient_delays_no_other() {
    let (mut sender, ready) = Child::join(0xb2, 0, &[], &[]);
    let entry = [tcp_address(&ready)];
    // The parent of this recipient acks nothing.
    let (_stalled, stalled) = Child::join(0xb3, 0, &["--ack", "manual"], &entry);
    let (_fast, fast) = Child::join(0xb4, 0, &[], &entry);
    sender.until("peers", |status| status["peers"] == 2);
    let stdin = writer(&mut sender);
    let data = "x".repeat(4000);
    let (mut next, mut pending, mut latest) = (0_u64, BTreeMap::new(), 0);
    let (since, mut latencies) = (Instant::now(), Vec::new());
    while since.elapsed() < Duration::from_secs(6) || !pending.is_empty() {
        let may_send = since.elapsed() < Duration::from_secs(6);
        // A third of `maxInflight` for the stalled recipient, one message at a time for the other.
        while may_send && latest < 300 {
            stdin
                .send(json!({"type": "send", "peerId": stalled["address"], "data": data, "id": next}))
                .unwrap();
            pending.insert(next, None);
            (next, latest) = (next + 1, latest + 1);
        }
        if may_send && pending.values().all(Option::is_none) {
            stdin.send(json!({"type": "send", "peerId": fast["address"], "data": 1, "id": next})).unwrap();
            pending.insert(next, Some(Instant::now()));
            next += 1;
        }
        let event = sender.expect("an answer", |event| event["id"].is_u64());
        match pending.remove(&event["id"].as_u64().unwrap()).unwrap() {
            Some(started) => {
                assert_eq!(event["delivery"], "accepted", "{event}");
                latencies.push(started.elapsed());
            }
            None => latest -= 1,
        }
        sender.drop_seen("delivery");
    }
    // On a busy machine some answers are slow. If the stalled recipient delayed the other, each
    // answer would take a whole pause.
    latencies.sort();
    let median = latencies[latencies.len() / 2];
    assert!(
        latencies.len() > 20 && median < MAX_PAUSE / 8,
        "{} accepted, median latency {median:?}",
        latencies.len()
    );
}

#[test]
fn node_with_full_outbox_for_offline_recipient_starts_and_answers() {
    let data_dir = TempDir::new().unwrap();
    let args = ["--data-dir", data_dir.path().to_str().unwrap(), "--drain-timeout", "0.2"];
    let spawn = || {
        let mut child = Child::spawn(&args, &[("PRIVATE_KEY", &test_key(0xb5))]);
        child.command(json!({"type": "connect", "protocol": 1}));
        child
    };
    let mut child = spawn();
    let (offline, data) = (format!("0x{:040x}", 77), "x".repeat(10_000));
    for id in 0..208 {
        child.command(json!({"type": "send", "peerId": offline, "data": data, "id": id}));
    }
    // Sends above the quarter of the outbox for one recipient are refused later; other commands do
    // not wait.
    child.command(json!({"type": "ping", "id": "ping"}));
    child.answer("ping");
    let answers: Vec<Value> =
        (0..208).map(|id| child.expect("an answer", |event| event["id"] == id)).collect();
    let accepted = answers.iter().filter(|answer| answer["delivery"] == "accepted").count();
    assert!(accepted > 190, "{accepted}");
    assert_eq!(child.finish().0, 0);

    let again = spawn();
    let started = Instant::now();
    again.expect("ready", |event| event["type"] == "ready");
    let (code, lines, _) = again.finish();
    assert_eq!((code, &lines.last().unwrap()["reason"]), (0, &json!("eof")));
    assert!(started.elapsed() < TIMEOUT);
    let mut third = spawn();
    third.until("the restored messages", |status| status["outbox"] == accepted);
}

#[test]
fn eof_behind_sends_without_capacity_is_handled() {
    let mut child = Child::spawn(&["--drain-timeout", "0.5"], &[("PRIVATE_KEY", &test_key(0xb6))]);
    child.command(json!({"type": "connect", "protocol": 1}));
    let (offline, data) = (format!("0x{:040x}", 77), "x".repeat(10_000));
    let stdin = writer(&mut child);
    for id in 0..2000 {
        stdin.send(json!({"type": "send", "peerId": offline, "data": data, "id": id})).unwrap();
    }
    let started = Instant::now();
    drop(stdin);
    let lines = child.rest();
    assert_eq!(child.wait().code(), Some(75));
    assert!(started.elapsed() < 2 * MAX_PAUSE + SLACK, "{:?}", started.elapsed());
    let answered = lines.iter().filter(|line| line["id"].is_u64()).count();
    assert_eq!(answered, 2000, "every send is answered");
    let count = |code: &str| lines.iter().filter(|line| line["id"].is_u64() && line["code"] == code).count();
    assert!(count("BUSY") > 1000, "{} busy", count("BUSY"));
}
