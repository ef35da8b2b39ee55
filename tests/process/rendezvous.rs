//! Local rendezvous: nodes of one user on this machine find each other without configuration.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, command, tcp_address};

/// Time within which two nodes without options exchange mail.
const SOON: Duration = Duration::from_secs(1);

/// Starts a node with a runtime directory, and without any option. The directory stands for the user.
fn spawn(runtime: &Path) -> Child {
    spawn_with(runtime, &[])
}

fn spawn_with(runtime: &Path, args: &[&str]) -> Child {
    let home = TempDir::new().unwrap();
    let mut node = command(home.path());
    node.env_clear().env("XDG_RUNTIME_DIR", runtime).args(args);
    Child::start(home, node)
}

/// Connects and returns the `ready` event.
fn connect(child: &mut Child) -> Value {
    child.command(json!({"type":"connect","port":0,"protocol":1}));
    child.expect("ready", |event| event["type"] == "ready")
}

fn send(child: &mut Child, to: &Value, text: &str) {
    child.command(json!({"type":"send","peerId":to["address"],"data":text,"id":text,"ttlMs":20_000}));
}

fn expect_delivered(child: &mut Child, text: &str) {
    let delivery =
        child.expect("a delivery", |event| event["type"] == "delivery" && event["requestId"] == text);
    assert_eq!(delivery["state"], "delivered", "{delivery}");
}

fn expect_message(child: &mut Child, text: &str) {
    child.expect("a message", |event| event["type"] == "message" && event["data"] == text);
}

/// Returns the files of the nodes of the network `dev`.
fn files(runtime: &Path) -> usize {
    std::fs::read_dir(runtime.join("p2p-node/dev")).map(Iterator::count).unwrap_or_default()
}

#[test]
fn two_nodes_without_options_exchange_mail_within_a_second() {
    let runtime = TempDir::new().unwrap();
    let mut alice = spawn(runtime.path());
    let alice_ready = connect(&mut alice);
    let mut bob = spawn(runtime.path());
    let bob_ready = connect(&mut bob);
    let started = Instant::now();
    send(&mut bob, &alice_ready, "from bob");
    send(&mut alice, &bob_ready, "from alice");
    expect_message(&mut alice, "from bob");
    expect_message(&mut bob, "from alice");
    expect_delivered(&mut alice, "from alice");
    expect_delivered(&mut bob, "from bob");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    // Both listen on the loopback interface only.
    for addr in [alice_ready, bob_ready].iter().flat_map(|ready| ready["addrs"].as_array().unwrap()) {
        assert!(addr.as_str().unwrap().starts_with("/ip4/127.0.0.1/"), "{addr}");
    }
    bob.command(json!({"type":"shutdown","id":"end"}));
    assert!(bob.wait().success());
    assert_eq!(files(runtime.path()), 1, "a node that ends removes its file");
}

#[test]
fn mail_accepted_before_its_recipient_started_arrives_within_a_second_of_the_start() {
    let runtime = TempDir::new().unwrap();
    let key = crate::child::test_key(0xd1);
    let home = TempDir::new().unwrap();
    let mut node = command(home.path());
    node.env_clear().env("XDG_RUNTIME_DIR", runtime.path()).env("PRIVATE_KEY", &key);
    let mut first = Child::start(home, node);
    let recipient = connect(&mut first);
    // After a kill its file is stale.
    first.kill();
    drop(first);
    let mut alice = spawn(runtime.path());
    connect(&mut alice);
    send(&mut alice, &recipient, "early");
    alice.expect("accepted", |event| event["id"] == "early" && event["delivery"] == "accepted");
    // More nodes than a new node dials, so that the recipient need not dial alice.
    let _others: Vec<Child> = (0..10)
        .map(|_| {
            let mut other = spawn(runtime.path());
            connect(&mut other);
            other
        })
        .collect();
    let home = TempDir::new().unwrap();
    let mut node = command(home.path());
    node.env_clear().env("XDG_RUNTIME_DIR", runtime.path()).env("PRIVATE_KEY", &key);
    let mut bob = Child::start(home, node);
    connect(&mut bob);
    let started = Instant::now();
    expect_message(&mut bob, "early");
    expect_delivered(&mut alice, "early");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn every_node_of_twenty_mails_another_although_each_dials_few() {
    let runtime = TempDir::new().unwrap();
    let mut nodes: Vec<Child> = (0..20).map(|_| spawn(runtime.path())).collect();
    let ready: Vec<Value> = nodes.iter_mut().map(connect).collect();
    let count = nodes.len();
    for (index, node) in nodes.iter_mut().enumerate() {
        send(node, &ready[(index + 7) % count], "hello");
    }
    for node in &mut nodes {
        expect_message(node, "hello");
        expect_delivered(node, "hello");
    }
}

#[test]
fn nodes_of_other_networks_directories_and_without_rendezvous_do_not_meet() {
    let (runtime, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut alice = spawn(runtime.path());
    let ready = connect(&mut alice);
    let mut strangers = [
        spawn_with(runtime.path(), &["--rendezvous", "off"]),
        spawn_with(runtime.path(), &["--network", "test", "--address-scope", "loopback"]),
        spawn_with(runtime.path(), &["--lock-scope", "another machine"]),
        spawn(other.path()),
    ];
    for stranger in &mut strangers {
        connect(stranger);
        send(stranger, &ready, "lost");
    }
    // A node that does meet alice shows that enough time has passed.
    let mut bob =
        spawn_with(other.path(), &["--rendezvous", runtime.path().join("p2p-node").to_str().unwrap()]);
    connect(&mut bob);
    send(&mut bob, &ready, "found");
    expect_message(&mut alice, "found");
    alice.command(json!({"type":"peers","id":"peers"}));
    let peers = alice.answer("peers");
    assert_eq!(peers["connected"].as_array().map(Vec::len), Some(1), "{peers}");
}

#[test]
fn node_runs_without_a_usable_runtime_directory() {
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join("file"), "").unwrap();
    let place = home.path().join("file/below");
    let mut node = spawn_with(home.path(), &["--rendezvous", place.to_str().unwrap()]);
    node.expect("a warning", |event| {
        event["type"] == "log" && event["message"].as_str().unwrap().contains("no local rendezvous")
    });
    let ready = connect(&mut node);
    assert!(tcp_address(&ready).contains("/tcp/"));
}
