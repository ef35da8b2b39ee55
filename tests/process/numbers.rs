//! Sequence numbers across several processes with one data directory, and with a copy of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, tcp_address};

/// A recipient with manual ack, and its address for senders.
struct Recipient {
    child: Child,
    entry: String,
    address: Value,
}

impl Recipient {
    fn new(key: u8, args: &[&str]) -> Recipient {
        let (child, ready) = Child::join(key, 0, &[&["--ack", "manual"][..], args].concat(), &[]);
        Recipient { child, entry: tcp_address(&ready), address: ready["address"].clone() }
    }

    /// Takes the message with this payload and returns its id.
    fn expect_message(&self, data: &str) -> Value {
        let message = self.child.expect(data, |event| event["type"] == "message" && event["data"] == data);
        message["messageId"].clone()
    }

    fn ack(&mut self, id: &Value) {
        self.child.command(json!({"type":"ack","messageId":id}));
    }
}

fn start(key: u8, data_dir: &Path, to: &Recipient) -> Child {
    let flags = ["--data-dir", data_dir.to_str().unwrap(), "--drain-timeout", "0"];
    Child::join(key, 0, &flags, std::slice::from_ref(&to.entry)).0
}

fn send(child: &mut Child, to: &Recipient, data: &str) -> Value {
    child.command(json!({"type":"send","peerId":to.address,"data":data,"id":data}));
    let answer = child.answer(data);
    assert_eq!(answer["delivery"], "accepted", "{answer}");
    answer["messageId"].clone()
}

fn assert_delivered(child: &Child, id: &Value) {
    let delivery =
        child.expect("a delivery", |event| event["type"] == "delivery" && event["messageId"] == *id);
    assert_eq!(delivery["state"], "delivered", "{delivery}");
}

fn shut_down(mut child: Child) {
    child.command(json!({"type":"shutdown"}));
    assert!(child.wait().success());
}

#[test]
fn message_after_two_restarts_is_reported_delivered_only_after_its_ack() {
    let mut to = Recipient::new(0xaa, &[]);
    let data_dir = TempDir::new().unwrap();
    let mut child = start(0xab, data_dir.path(), &to);
    let first = send(&mut child, &to, "m1");
    assert_eq!(to.expect_message("m1"), first);
    shut_down(child);

    let mut child = start(0xab, data_dir.path(), &to);
    let second = send(&mut child, &to, "m2");
    assert_eq!(to.expect_message("m2"), second);
    to.ack(&second);
    assert_delivered(&child, &second);
    shut_down(child);

    let mut child = start(0xab, data_dir.path(), &to);
    let third = send(&mut child, &to, "m3");
    assert_eq!(to.expect_message("m3"), third, "the message reaches the parent");
    assert!(child.take(|event| event["type"] == "delivery").is_none(), "a delivery without an ack");
    to.ack(&third);
    assert_delivered(&child, &third);
    to.ack(&first);
    assert_delivered(&child, &first);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn message_from_restored_data_directory_is_delivered() {
    let recipient_dir = TempDir::new().unwrap();
    let mut to = Recipient::new(0xac, &["--data-dir", recipient_dir.path().to_str().unwrap()]);
    let (data_dir, backup) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut child = start(0xad, data_dir.path(), &to);
    let pending = send(&mut child, &to, "pending");
    assert_eq!(to.expect_message("pending"), pending);
    shut_down(child);
    copy(data_dir.path(), backup.path());

    let mut child = start(0xad, data_dir.path(), &to);
    for data in ["a1", "a2", "a3"] {
        let id = send(&mut child, &to, data);
        assert_eq!(to.expect_message(data), id);
        to.ack(&id);
        assert_delivered(&child, &id);
    }
    shut_down(child);

    let mut child = start(0xad, backup.path(), &to);
    let mut ids = vec![pending];
    for data in ["b1", "b2", "b3"] {
        let id = send(&mut child, &to, data);
        assert_eq!(to.expect_message(data), id);
        ids.push(id);
    }
    for id in ids {
        to.ack(&id);
        assert_delivered(&child, &id);
    }
}
