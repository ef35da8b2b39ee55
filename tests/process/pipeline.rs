//! Events and exit codes of nodes whose stdin is closed.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, command, tcp_address, test_key};
use crate::surroundings::logs;

const ENV: &[(&str, &str)] = &[];

#[test]
fn node_without_stdin_explains_its_end() {
    for (args, code, kind) in [(&[][..], 0, "log"), (&["--on-eof", "stay"], 78, "error")] {
        let home = TempDir::new().unwrap();
        let mut node = command(home.path());
        let output = node.args(args).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let mut lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let is_it = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            line["type"] == kind && message.contains("--on-eof stay") && message.contains("--connect")
        };
        let line = lines.find(is_it).unwrap();
        match kind {
            "log" => assert_eq!((&line["level"], &line["namespace"]), (&json!("warn"), &json!("pipe"))),
            _ => assert_eq!((&line["code"], &line["retryable"]), (&json!("INVALID_ARGUMENT"), &json!(false))),
        }
    }
}

#[test]
fn pipeline_exits_0_only_if_every_command_succeeds() {
    let (_recipient, ready) = Child::join(0xA0, 0, &[], &[]);
    let (entry, address) = (tcp_address(&ready), ready["address"].as_str().unwrap().to_owned());
    let unknown = format!("0x{}", "77".repeat(20));
    let send = |to: &str, ttl_ms: u64| json!({"type":"send","peerId":to,"data":1,"ttlMs":ttl_ms}).to_string();
    let cases = [
        (vec![send(&address, 10_000)], 0, Some("delivered")),
        (vec![], 0, None),
        (vec![send(&unknown, 1500)], 75, Some("expired")),
        (vec![send(&address, 10_000), send(&address, 0)], 65, Some("delivered")),
        (vec![send(&address, 10_000), "nonsense".to_owned()], 65, Some("delivered")),
    ];
    for (lines, code, state) in cases {
        // The drain timeout is short: the node waits for the delivery.
        let args = ["--connect", "--require-delivery", "--bootstrap", &entry, "--drain-timeout", "0.2"];
        let mut pipeline = Child::spawn(&args, ENV);
        for line in &lines {
            pipeline.write(format!("{line}\n").as_bytes());
        }
        let (ended, rest, stderr) = pipeline.finish();
        assert_eq!(ended, code, "{lines:?} {rest:#?} {stderr}");
        let delivery = rest.iter().find(|line| line["type"] == "delivery");
        assert_eq!(delivery.and_then(|delivery| delivery["state"].as_str()), state, "{rest:#?}");
        assert!(rest.iter().all(|line| line["seq"].is_u64()), "`--connect` uses the protocol of `ready`");
    }
}

#[test]
fn pipeline_without_connect_exits_65() {
    for lines in [&b"{\"type\":\"subscribe\",\"topic\":\"t\"}\n"[..], b""] {
        let mut pipeline = Child::spawn(&["--require-delivery"], ENV);
        pipeline.write(lines);
        let (code, rest, _) = pipeline.finish();
        assert_eq!((code, logs(&rest, "before the node carried out a `connect`")), (65, 1), "{rest:#?}");
    }
}

#[test]
fn pipeline_that_waits_for_delivery_exits_on_signal() {
    let key = test_key(0xA1);
    let mut pipeline = Child::spawn(&["--connect", "--require-delivery"], &[("PRIVATE_KEY", &key)]);
    pipeline.command(json!({"type":"send","peerId":format!("0x{}", "77".repeat(20)),"data":1,"id":1}));
    assert_eq!(pipeline.expect("an answer", |line| line["id"] == 1)["type"], "result");
    pipeline.close_stdin();
    // Before or after the node has seen the end of stdin: the TTL of the mail is two minutes.
    pipeline.signal(Signal::TERM);
    assert_eq!(pipeline.wait().code(), Some(75));
}

#[test]
fn pipeline_with_one_broadcast_reaches_the_subscriber() {
    const ROUNDS: u8 = 12;
    let (mut hub, ready) = Child::join(0xB7, 0, &[], &[]);
    let entry = tcp_address(&ready);
    let (mut subscriber, subscriber_ready) = Child::join(0xB8, 0, &[], std::slice::from_ref(&entry));
    subscriber.command(json!({"type":"subscribe","topic":"t","id":"s"}));
    subscriber.answer("s");
    hub.until("joined", |status| status["peers"] == 1);
    // Half of the pipelines join through the subscriber, half through another node.
    let entries = [tcp_address(&subscriber_ready), entry];
    for round in 0..ROUNDS {
        let mut pipeline = Child::spawn(&[], &[("PRIVATE_KEY", &test_key(0xC0 + round))]);
        let entry = &entries[usize::from(round % 2)];
        pipeline.command(json!({"type":"connect","protocol":1,"bootstrapPeers":[entry]}));
        pipeline.command(json!({"type":"send","topic":"t","data":round,"id":"b"}));
        let (code, lines, _) = pipeline.finish();
        assert_eq!(code, 0, "{lines:?}");
        subscriber.expect("the broadcast", |event| event["type"] == "message" && event["data"] == round);
    }
}

/// Ends each recipient's stdin as soon as it has its message.
fn send_to_recipients_that_end(pairs: u8, durable: bool) {
    let (_hub, ready) = Child::join(0xA8, 0, &[], &[]);
    let entry = [tcp_address(&ready)];
    let mut recipients = Vec::new();
    for number in 0..pairs {
        let home = TempDir::new().unwrap();
        let directory = home.path().to_str().unwrap().to_owned();
        let args: &[&str] = if durable { &["--data-dir", &directory] } else { &[] };
        let (recipient, ready) = Child::join(0x90 + number, 0, args, &entry);
        recipients.push((recipient, ready["address"].clone(), home));
    }
    let mut senders: Vec<Child> = Vec::new();
    for (number, (_, address, _)) in recipients.iter().enumerate() {
        let (mut sender, _) = Child::join(0xA9 + number as u8, 0, &[], &entry);
        sender.command(json!({"type":"send","peerId":address,"data":1,"id":"m"}));
        sender.close_stdin();
        senders.push(sender);
    }
    std::thread::scope(|scope| {
        for (recipient, ..) in &mut recipients {
            scope.spawn(|| {
                recipient.expect("the mail", |event| event["type"] == "message");
                recipient.close_stdin();
            });
        }
    });
    for sender in senders {
        let (code, rest, _) = sender.finish();
        let delivery = rest.iter().find(|event| event["type"] == "delivery");
        let state = delivery.and_then(|delivery| delivery["state"].as_str());
        assert_eq!((code, state), (0, Some("delivered")), "{rest:#?}");
    }
}

#[test]
fn recipient_that_ends_after_its_message_has_acked_it() {
    send_to_recipients_that_end(6, false);
}

#[test]
fn durable_recipient_that_ends_after_its_message_has_acked_it() {
    send_to_recipients_that_end(6, true);
}
