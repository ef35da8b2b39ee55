//! Events and exit codes of nodes whose stdin is closed.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, command, tcp_address, test_key};
use crate::surroundings::logs;

const ENV: &[(&str, &str)] = &[];

#[test]
fn a_node_without_stdin_says_why_it_ends_and_how_it_would_stay() {
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
        let said = lines.find(is_it).unwrap();
        match kind {
            "log" => assert_eq!((&said["level"], &said["namespace"]), (&json!("warn"), &json!("pipe"))),
            _ => assert_eq!((&said["code"], &said["retryable"]), (&json!("INVALID_ARGUMENT"), &json!(false))),
        }
    }
}

#[test]
fn a_pipeline_ends_with_0_only_if_all_that_it_was_told_was_done() {
    let (_recipient, ready) = Child::join(0xA0, 0, &[], &[]);
    let (entry, address) = (tcp_address(&ready), ready["address"].as_str().unwrap().to_owned());
    let nobody = format!("0x{}", "77".repeat(20));
    let send = |to: &str, ttl_ms: u64| json!({"type":"send","peerId":to,"data":1,"ttlMs":ttl_ms}).to_string();
    let cases = [
        (vec![send(&address, 10_000)], 0, Some("delivered")),
        (vec![], 0, None),
        (vec![send(&nobody, 1500)], 75, Some("expired")),
        (vec![send(&address, 10_000), send(&address, 0)], 65, Some("delivered")),
        (vec![send(&address, 10_000), "nonsense".to_owned()], 65, Some("delivered")),
    ];
    for (lines, code, state) in cases {
        // The time to drain is over at once: it is the mail that is waited for.
        let args = ["--connect", "--require-delivery", "--bootstrap", &entry, "--drain-timeout", "0.2"];
        let mut pipeline = Child::spawn(&args, ENV);
        for line in &lines {
            pipeline.write(format!("{line}\n").as_bytes());
        }
        let (ended, rest, stderr) = pipeline.finish();
        assert_eq!(ended, code, "{lines:?} {rest:#?} {stderr}");
        let delivery = rest.iter().find(|line| line["type"] == "delivery");
        assert_eq!(delivery.and_then(|delivery| delivery["state"].as_str()), state, "{rest:#?}");
        assert!(rest.iter().all(|line| line["seq"].is_u64()), "`--connect` speaks the protocol of `ready`");
    }
}

#[test]
fn a_pipeline_that_was_never_connected_ends_with_65() {
    for lines in [&b"{\"type\":\"subscribe\",\"topic\":\"t\"}\n"[..], b""] {
        let mut pipeline = Child::spawn(&["--require-delivery"], ENV);
        pipeline.write(lines);
        let (code, rest, _) = pipeline.finish();
        assert_eq!((code, logs(&rest, "before the node carried out a `connect`")), (65, 1), "{rest:#?}");
    }
}

#[test]
fn a_pipeline_that_waits_for_its_mail_ends_by_a_signal() {
    let key = test_key(0xA1);
    let mut pipeline = Child::spawn(&["--connect", "--require-delivery"], &[("PRIVATE_KEY", &key)]);
    pipeline.say(json!({"type":"send","peerId":format!("0x{}", "77".repeat(20)),"data":1,"id":1}));
    assert_eq!(pipeline.expect("its answer", |line| line["id"] == 1)["type"], "result");
    pipeline.close_stdin();
    // Whether the node has seen the end of stdin by then or not: the mail lives for two minutes.
    pipeline.signal(Signal::TERM);
    assert_eq!(pipeline.wait().code(), Some(75));
}

#[test]
fn a_pipeline_that_broadcasts_once_and_ends_is_heard_each_time() {
    const ROUNDS: u8 = 12;
    let (mut hub, ready) = Child::join(0xB7, 0, &[], &[]);
    let entry = tcp_address(&ready);
    let (mut listener, heard_at) = Child::join(0xB8, 0, &[], std::slice::from_ref(&entry));
    listener.say(json!({"type":"subscribe","topic":"t","id":"s"}));
    listener.answer("s");
    hub.until("joined", |status| status["peers"] == 1);
    // Half of them join through the listener, half through a node that does not listen to the
    // topic.
    let entries = [tcp_address(&heard_at), entry];
    for round in 0..ROUNDS {
        let mut pipeline = Child::spawn(&[], &[("PRIVATE_KEY", &test_key(0xC0 + round))]);
        let entry = &entries[usize::from(round % 2)];
        pipeline.say(json!({"type":"connect","protocol":1,"bootstrapPeers":[entry]}));
        pipeline.say(json!({"type":"send","topic":"t","data":round,"id":"b"}));
        let (code, lines, _) = pipeline.finish();
        assert_eq!(code, 0, "{lines:?}");
        listener.expect("the broadcast", |event| event["type"] == "message" && event["data"] == round);
    }
}

/// Ends each recipient's stdin as soon as it has its mail.
fn mail_to_recipients_that_end(pairs: u8, durable: bool) {
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
        sender.say(json!({"type":"send","peerId":address,"data":1,"id":"m"}));
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
fn recipients_that_end_when_they_have_their_mail_have_acknowledged_it() {
    mail_to_recipients_that_end(6, false);
}

#[test]
fn recipients_with_a_disk_that_end_when_they_have_their_mail_have_acknowledged_it() {
    mail_to_recipients_that_end(6, true);
}
