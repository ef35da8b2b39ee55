//! The peer book: a node with a data directory joins again without bootstrap peers.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT, tcp_address, test_key};

fn book(data_dir: &Path) -> Option<Value> {
    let text = std::fs::read(data_dir.join("node.peers-dev")).ok()?;
    serde_json::from_slice(&text).ok()
}

fn start(data_dir: &Path, bootstraps: &[String]) -> Child {
    let child_args = ["--data-dir", data_dir.to_str().unwrap()];
    let mut child = Child::spawn(&child_args, &[("PRIVATE_KEY", &test_key(0xe1))]);
    child.command(json!({"type":"connect","port":0,"protocol":1,"bootstrapPeers":bootstraps}));
    child.expect("ready", |event| event["type"] == "ready");
    child
}

#[test]
fn node_that_knows_only_its_peer_book_joins_again_after_a_kill() {
    let data_dir = TempDir::new().unwrap();
    let (_entry, entry_ready) = Child::join(0xe2, 0, &["--role", "bootstrap"], &[]);
    let entry = tcp_address(&entry_ready);
    let (bob, bob_ready) = Child::join(0xe3, 0, &[], std::slice::from_ref(&entry));

    let mut alice = start(data_dir.path(), &[entry]);
    alice.command(json!({"type":"send","peerId":bob_ready["address"],"data":"first","id":"first"}));
    bob.expect("the message", |event| event["type"] == "message" && event["data"] == "first");
    let deadline = std::time::Instant::now() + TIMEOUT;
    while book(data_dir.path()).is_none() {
        assert!(std::time::Instant::now() < deadline, "the peer book is never written");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    alice.kill();
    drop(alice);
    let written = book(data_dir.path()).unwrap();
    let has_entry = |peer: &Value| peer["peerId"] == entry_ready["peerId"] && peer["servesDht"] == true;
    assert!(written["peers"].as_array().unwrap().iter().any(has_entry), "{written}");

    let mut alice = start(data_dir.path(), &[]);
    alice.expect("the entry point", |event| {
        event["type"] == "peer_connected" && event["peerId"] == entry_ready["peerId"]
    });
    // A new agent that alice has not met is found through the network that she joined.
    let (carol, carol_ready) = Child::join(0xe4, 0, &[], &[tcp_address(&entry_ready)]);
    alice.command(json!({"type":"send","peerId":carol_ready["address"],"data":"again","id":"again"}));
    carol.expect("the message", |event| event["type"] == "message" && event["data"] == "again");
}
