//! A recipient that stalls: its process is stopped, or its parent does not read.

use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT, command, resident_mib, tcp_address, test_key};

/// Returns a duration in seconds, which a variable overrides.
fn seconds(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Calls a function this often per second, for this many seconds.
fn run_paced(seconds: u64, a_second: u64, mut action: impl FnMut(u64)) {
    let began = Instant::now();
    for number in 0..seconds * a_second {
        let due = began + Duration::from_secs(number) / a_second as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        action(number);
    }
}

#[test]
fn stopped_recipient_loses_nothing_and_delays_no_other() {
    let (mut sender, ready) = Child::join(0xb0, 0, &[], &[]);
    let entry = [tcp_address(&ready)];
    let (stopped, stopped_ready) = Child::join(0xb1, 0, &[], &entry);
    let (other, other_ready) = Child::join(0xb2, 0, &[], &entry);
    sender.until("peers", |status| status["peers"] == 2);
    let mail = |sender: &mut Child, ready: &Value, data: u64| {
        sender.command(json!({"type":"send","peerId":ready["address"],"data":data,"ttlMs":600_000}));
    };
    mail(&mut sender, &stopped_ready, 0);
    stopped.expect("the first", |event| event["data"] == 0);
    stopped.signal(Signal::STOP);
    let mut last = 0;
    run_paced(seconds("STOP_SECONDS", 30), 50, |number| {
        last = number + 1;
        mail(&mut sender, &stopped_ready, last);
        mail(&mut sender, &other_ready, last);
        // While mail to the stopped recipient waits.
        other.expect("mail to the running recipient", |event| event["data"] == last);
    });
    stopped.signal(Signal::CONT);
    for data in 1..=last {
        let message = stopped.expect_within(3 * TIMEOUT, "mail", |event| event["type"] == "message");
        assert_eq!(message["data"], data, "in order, each once");
    }
    for _ in 0..2 * last + 1 {
        let delivery = sender.expect_within(3 * TIMEOUT, "a delivery", |event| event["type"] == "delivery");
        assert_eq!(delivery["state"], "delivered", "{delivery}");
    }
    sender.until("an empty outbox", |status| status["outbox"] == 0);
}

/// Most memory, in MiB, of a node whose parent or recipient does not read: 16 for mail, 8 for the
/// outbox, and overhead.
const MAX_MIB: u64 = 96;

/// Checks that this number of messages is delivered.
fn expect_delivered(sender: &Child, count: usize) {
    for _ in 0..count {
        let delivery = sender.expect_within(3 * TIMEOUT, "a delivery", |event| event["type"] == "delivery");
        assert_eq!(delivery["state"], "delivered", "{delivery}");
    }
}

/// Checks that the accepted messages arrive in order, each once.
fn check_messages(accepted: &[u64], mut next: impl FnMut() -> Value) {
    for expected in accepted {
        let message = loop {
            let event = next();
            if event["type"] == "message" {
                break event;
            }
        };
        assert_eq!(message["data"][0], *expected, "accepted messages in order, each once");
    }
}

#[test]
#[ignore = "takes more than a minute; CI runs it"]
fn parent_that_stalls_under_load_receives_all_accepted_messages() {
    let (mut sender, ready) = Child::join(0xb3, 0, &[], &[]);
    let home = TempDir::new().unwrap();
    let mut stalled = command(home.path());
    let mut stalled = stalled.env("PRIVATE_KEY", test_key(0xb4)).spawn().unwrap();
    let mut stdin = stalled.stdin.take().unwrap();
    let mut stdout = BufReader::new(stalled.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&stdout.next().unwrap().unwrap()).unwrap() };
    writeln!(stdin, "{}", json!({"type":"connect","bootstrapPeers":[tcp_address(&ready)]})).unwrap();
    let address = next()["address"].clone();
    sender.until("peers", |status| status["peers"] == 1);

    let (pids, text) = ([stalled.id(), sender.id()], "x".repeat(200));
    let (mut sent, mut accepted, mut refused, mut max_mib) = (0, Vec::new(), 0, 0);
    let mut answers = |sender: &Child, wait: bool| {
        let is_answer = |event: &Value| event["id"].is_u64();
        while let Some(answer) =
            sender.take(is_answer).or_else(|| wait.then(|| sender.expect("answer", is_answer)))
        {
            match answer["delivery"].as_str() {
                Some(state) => {
                    accepted.push((state == "accepted").then(|| answer["id"].as_u64().unwrap()).unwrap())
                }
                None => {
                    assert_eq!(answer["code"], "BUSY", "{answer}");
                    refused += 1;
                }
            }
            if wait {
                break;
            }
        }
        accepted.len() as u64 + refused
    };
    run_paced(seconds("STALL_SECONDS", 60), 1000, |number| {
        sender.command(
            json!({"type":"send","peerId":address,"data":[number, text],"id":number,"ttlMs":600_000}),
        );
        sent += 1;
        if number % 1000 == 0 {
            // Other commands are answered too, although stdin pauses while the recipient may still
            // make progress.
            let id = format!("p{number}");
            sender.command(json!({"type":"ping","id":id}));
            sender.expect_within(2 * TIMEOUT, "ping", |event| event["id"] == id.as_str());
            answers(&sender, false);
            max_mib = pids.iter().filter_map(|pid| resident_mib(*pid)).max().unwrap_or_default().max(max_mib);
        }
    });
    while answers(&sender, true) < sent {}
    assert!(max_mib < MAX_MIB, "{max_mib} MiB");
    assert!(refused > 0, "no send was refused of {sent}");

    check_messages(&accepted, next);
    eprintln!("{} accepted, {refused} refused with BUSY, at most {max_mib} MiB", accepted.len());
    expect_delivered(&sender, accepted.len());
    drop(stdin);
    assert_eq!(stalled.wait().unwrap().code(), Some(0));
}
