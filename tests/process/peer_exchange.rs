//! Networks without bootstrap nodes: agents find each other by asking the peers that they have.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Child, tcp_address};

/// Time in which a newcomer must join and its mail must arrive.
const JOINED_WITHIN: Duration = Duration::from_secs(20);

fn expect_connected(child: &Child, to: &Value) {
    child
        .expect("a connection", |event| event["type"] == "peer_connected" && event["peerId"] == to["peerId"]);
}

/// Sends a message and waits until it is delivered.
fn deliver(from: &mut Child, to: &Value, id: &str) {
    send(from, to, id);
    expect_delivered(from, id);
}

fn send(from: &mut Child, to: &Value, id: &str) {
    from.command(json!({"type":"send","peerId":to["address"],"data":id,"id":id}));
}

fn expect_delivered(from: &Child, id: &str) {
    let delivery = from.expect("a delivery", |event| event["type"] == "delivery" && event["requestId"] == id);
    assert_eq!(delivery["state"], "delivered", "{id}: {delivery}");
}

#[test]
fn newcomer_joins_by_its_only_contact_a_plain_agent() {
    let (mut contact, contact_ready) = Child::join(0x61, 0, &[], &[]);
    let entry = [tcp_address(&contact_ready)];
    let (others, ready): (Vec<Child>, Vec<Value>) =
        (0..3).map(|number| Child::join(0x62 + number, 0, &[], &entry)).unzip();
    contact.until("the others joined", |status| status["peers"] == 3);
    let (newcomer, _) = Child::join(0x66, 0, &[], &entry);
    for ready in &ready {
        expect_connected(&newcomer, ready);
    }
    contact.until("answers", |status| status["counters"]["finds_answered"].as_u64() >= Some(1));
    drop(others);
}

#[test]
fn network_works_and_grows_after_all_bootstrap_nodes_ended() {
    let (first, entry) = Child::join(0x70, 0, &["--role", "bootstrap"], &[]);
    let mut entries = vec![tcp_address(&entry)];
    let (second, entry) = Child::join(0x71, 0, &["--role", "bootstrap"], &entries);
    entries.push(tcp_address(&entry));
    let (mut agents, ready): (Vec<Child>, Vec<Value>) =
        (0..10).map(|number| Child::join(0x72 + number, 0, &[], &entries)).unzip();
    for (from, agent) in agents.iter_mut().enumerate() {
        for (to, ready) in ready.iter().enumerate().filter(|(to, _)| *to != from) {
            let id = format!("find {to}");
            agent.command(json!({"type":"discover","address":ready["address"],"timeoutMs":10_000,"id":id}));
            assert_eq!(agent.answer_of_discover(&id)["count"], 1, "{from} searches for {to}");
        }
    }
    drop((first, second));
    for (from, agent) in agents.iter_mut().enumerate() {
        for (to, ready) in ready.iter().enumerate().filter(|(to, _)| *to != from) {
            send(agent, ready, &format!("{from} to {to}"));
        }
    }
    for (from, agent) in agents.iter().enumerate() {
        for to in (0..ready.len()).filter(|to| *to != from) {
            expect_delivered(agent, &format!("{from} to {to}"));
        }
    }

    let began = Instant::now();
    let (mut newcomer, _) = Child::join(0x7c, 0, &[], &[tcp_address(&ready[0])]);
    deliver(&mut newcomer, &ready[9], "from a newcomer");
    assert!(began.elapsed() < JOINED_WITHIN, "the mail took {:?}", began.elapsed());
}
