//! DHT servers that return false records.

use bytes::Bytes;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use p2p_node_wire::identity::NodeKey;
use p2p_node_wire::record::SignedRecord;
use serde_json::{Value, json};
use std::time::Duration;

use crate::fixture::{HONEST, Real, VICTIM};
use crate::forge::{Forger, corrupt, now_ms};
use crate::peer::{Hostile, entry};

/// Agents that are looked up.
const TARGETS: std::ops::Range<u8> = 0x20..0x30;

/// Returns a false record about an honest agent.
fn false_record(kind: u8, about: &Forger, other: &Forger, false_server: &Forger) -> Bytes {
    let past = now_ms() - 7_200_000;
    match kind % 6 {
        0 => corrupt(&about.record(|_| {}), 3),
        1 => false_server.record(|record| record.binding = false_server.stolen_binding(about)),
        2 => other.record(|_| {}),
        3 => about.record(|record| {
            (record.seq, record.issued_at_ms, record.expires_at_ms) = (past, past, past + 60_000);
        }),
        4 => Bytes::from_static(b"nonsense"),
        _ => about.record(|record| record.seq = now_ms() + 600_000),
    }
}

/// Counters of the six kinds of false records.
const COUNTERS: [&str; 5] = [
    "records_forged",
    "records_binding_forged",
    "records_misplaced",
    "records_out_of_date",
    "records_malformed",
];

async fn false_server(number: u8) -> Hostile {
    let false_server = Hostile::start(Forger::new(number), Role::Bootstrap).await;
    for target in TARGETS {
        let (about, other) = (Forger::new(target), Forger::new(target ^ 1));
        let value = false_record(target.wrapping_add(number), &about, &other, &false_server.forger);
        let lifetime = Duration::from_secs(600);
        false_server
            .node
            .apply(NetworkCommand::StoreDhtRecord { key: about.kad_key(), value, lifetime })
            .await;
    }
    false_server
}

/// Looks an agent up and returns the discovered agents.
fn discover(victim: &mut Real, address: &str, timeout_ms: u64) -> Vec<Value> {
    let answer = victim.request(json!({"type":"discover","address":address,"timeoutMs":timeout_ms}));
    let found = victim.take_events(&["peer_discovered"]);
    let results: Vec<_> = found.into_iter().filter(|event| event.get("requestId").is_some()).collect();
    assert_eq!(answer["count"], results.len(), "{answer}");
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn false_servers_beside_an_honest_one_hide_and_change_no_record() {
    let mut server = Real::join(HONEST, &["--role", "bootstrap"], &[]);
    // A server takes a record from its owner only.
    for target in TARGETS {
        let mut agent = Hostile::join(Forger::new(target), &server).await;
        agent.served_by(&server).await;
        let (key, record) =
            (agent.forger.kad_key(), agent.forger.record(|record| record.name = "true".to_owned()));
        assert!(agent.put(key, record).await);
    }
    server.until("has the true records", |status| status["agents"] == TARGETS.len());
    let mut false_servers = Vec::new();
    let mut entries = vec![server.entry()];
    for number in 0x40..0x43 {
        false_servers.push(false_server(number).await);
        entries.push(entry(false_servers.last().unwrap()));
    }
    let mut victim = Real::join(VICTIM, &[], &entries);
    victim.until("four servers", |status| status["servers"] == 4);
    for target in TARGETS {
        let about = Forger::new(target);
        let found = discover(&mut victim, &about.address(), 10_000);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0]["peerId"], about.node.peer_id().to_string());
        assert_eq!(found[0]["name"], "true");
    }
    for counter in COUNTERS {
        victim.until_counted(counter, 1);
    }
    assert_eq!(victim.status()["agents"], TARGETS.len() + 1, "the targets and the server");
    assert_eq!(victim.status()["peers"], 4, "a false response does not end a connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn false_servers_alone_find_no_agent() {
    let mut false_servers = Vec::new();
    for number in 0x40..0x43 {
        false_servers.push(false_server(number).await);
    }
    let entries: Vec<String> = false_servers.iter().map(entry).collect();
    let mut victim = Real::join(VICTIM, &[], &entries);
    victim.until("three servers", |status| status["servers"] == 3);
    for target in TARGETS {
        let about = Forger::new(target);
        victim
            .child
            .command(json!({"type":"discover","address":about.address(),"timeoutMs":300,"id":target}));
    }
    for target in TARGETS {
        let answer = victim.child.expect("answer", |event| event["id"] == target);
        assert_eq!((&answer["type"], &answer["count"]), (&json!("result"), &json!(0)), "{answer}");
    }
    for counter in COUNTERS {
        victim.until_counted(counter, 1);
    }
    assert!(victim.take_events(&["peer_discovered"]).is_empty());
    assert_eq!(victim.status()["agents"], 0);

    // Mail waits for a true record.
    let about = Forger::new(TARGETS.start);
    let mail = victim.request(json!({"type":"send","peerId":about.address(),"data":1,"ttlMs":300}));
    let delivery = victim.child.expect("the delivery", |event| {
        event["messageId"] == mail["messageId"] && event["type"] == "delivery"
    });
    assert_eq!((&delivery["state"], &delivery["code"]), (&json!("expired"), &json!("PEER_NOT_FOUND")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn stale_record_of_false_server_is_superseded() {
    let server = Real::join(HONEST, &["--role", "bootstrap"], &[]);
    let mut target = Real::join(0x20, &[], &[server.entry()]);
    target.until("announced", |status| status["counters"]["records_published"].as_u64() >= Some(1));
    // An earlier node of the agent, at an address without a node.
    let before = Forger::with_node(0x20, NodeKey::from_seed([0x99; 32]));
    let old = before.record(|record| {
        record.seq -= 60_000;
        record.issued_at_ms -= 60_000;
        record.addrs = vec!["/ip4/127.0.0.1/tcp/9".parse().unwrap()];
    });
    let false_server = Hostile::start(Forger::new(0x40), Role::Bootstrap).await;
    let lifetime = Duration::from_secs(600);
    false_server
        .node
        .apply(NetworkCommand::StoreDhtRecord { key: before.kad_key(), value: old, lifetime })
        .await;
    let mut victim = Real::join(VICTIM, &[], &[entry(&false_server)]);
    victim.until("the false server", |status| status["servers"] == 1);
    let found = discover(&mut victim, &target.address(), 10_000);
    assert_eq!(found[0]["peerId"], before.node.peer_id().to_string(), "no newer record is known yet");

    // An honest agent connects the two networks. From then on the stale record is superseded.
    let mut bridge = Real::join(0x21, &[], &[server.entry(), victim.entry()]);
    bridge.until("two peers", |status| status["peers"].as_u64() >= Some(2));
    victim.request(json!({"type":"send","peerId":target.address(),"data":"for the target"}));
    let message = target.child.expect("the mail", |event| event["data"] == "for the target");
    assert_eq!(message["from"], victim.address());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dropped_record_is_put_again() {
    let mut server = Hostile::start(Forger::new(0x40), Role::Bootstrap).await;
    let mut victim = Real::join(VICTIM, &[], &[entry(&server)]);
    // The server answers that it stored the record, and does not.
    for _ in 0..3 {
        let offered = server
            .node
            .expect("the victim's record", |input| match input {
                Input::RecordOffered { value, .. } => Some(value.clone()),
                _ => None,
            })
            .await;
        assert_eq!(SignedRecord::decode(offered).unwrap().address().to_string(), victim.address());
    }
    victim.until_counted("records_not_stored", 2);
}
