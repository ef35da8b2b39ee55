//! DHT servers that return false records.

use bytes::Bytes;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use p2p_node_wire::identity::NodeKey;
use p2p_node_wire::record::SignedRecord;
use serde_json::{Value, json};
use std::time::Duration;

use crate::forge::{Forger, bent, now_ms};
use crate::peer::Hostile;
use crate::scene::{HONEST, Real, VICTIM};

/// Agents that are looked up.
const SOUGHT: std::ops::Range<u8> = 0x20..0x30;

/// What a liar says about an agent; the agent does not lie.
fn lie(kind: u8, about: &Forger, other: &Forger, liar: &Forger) -> Bytes {
    let past = now_ms() - 7_200_000;
    match kind % 6 {
        0 => bent(&about.record(|_| {}), 3),
        1 => liar.record(|record| record.binding = liar.stolen_binding(about)),
        2 => other.record(|_| {}),
        3 => about.record(|record| {
            (record.seq, record.issued_at_ms, record.expires_at_ms) = (past, past, past + 60_000);
        }),
        4 => Bytes::from_static(b"nonsense"),
        _ => about.record(|record| record.seq = now_ms() + 600_000),
    }
}

/// What the six kinds of lies are counted as.
const COUNTERS: [&str; 5] =
    ["records_forged", "records_unbound", "records_misplaced", "records_untimely", "records_malformed"];

async fn liar(number: u8) -> Hostile {
    let liar = Hostile::start(Forger::new(number), Role::Bootstrap).await;
    for sought in SOUGHT {
        let (about, other) = (Forger::new(sought), Forger::new(sought ^ 1));
        let value = lie(sought.wrapping_add(number), &about, &other, &liar.forger);
        let lifetime = Duration::from_secs(600);
        liar.node.apply(NetworkCommand::StoreDhtRecord { key: about.kad_key(), value, lifetime }).await;
    }
    liar
}

fn entry(hostile: &Hostile) -> String {
    let tcp = hostile.node.addrs.iter().find(|addr| addr.to_string().contains("/tcp/")).unwrap();
    format!("{tcp}/p2p/{}", hostile.node.peer)
}

/// Looks an agent up, and returns whom that has found.
fn discover(victim: &mut Real, address: &str, timeout_ms: u64) -> Vec<Value> {
    let answer = victim.ask(json!({"type":"discover","address":address,"timeoutMs":timeout_ms}));
    let found = victim.said(&["peer_discovered"]);
    let asked: Vec<_> = found.into_iter().filter(|event| event.get("requestId").is_some()).collect();
    assert_eq!(answer["count"], asked.len(), "{answer}");
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn liars_beside_an_honest_server_hide_and_change_nothing() {
    let mut server = Real::join(HONEST, &["--role", "bootstrap"], &[]);
    // Puts the truth where it belongs, as the agents themselves would.
    let mut truthful = Hostile::meet(Forger::new(0x70), &server).await;
    truthful.served_by(&server).await;
    for sought in SOUGHT {
        let about = Forger::new(sought);
        assert!(truthful.put(about.kad_key(), about.record(|record| record.name = "true".to_owned())).await);
    }
    server.until("holds the truth", |status| status["agents"] == SOUGHT.len());
    let mut liars = Vec::new();
    let mut entries = vec![server.entry()];
    for number in 0x40..0x43 {
        liars.push(liar(number).await);
        entries.push(entry(liars.last().unwrap()));
    }
    let mut victim = Real::join(VICTIM, &[], &entries);
    victim.until("four servers", |status| status["servers"] == 4);
    for sought in SOUGHT {
        let about = Forger::new(sought);
        let found = discover(&mut victim, &about.address(), 10_000);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0]["peerId"], about.node.peer_id().to_string());
        assert_eq!(found[0]["name"], "true");
    }
    for counter in COUNTERS {
        victim.until_counted(counter, 1);
    }
    assert_eq!(victim.status()["agents"], SOUGHT.len() + 1, "the sought and the server");
    assert_eq!(victim.status()["peers"], 4, "an answer that is wrong does not end a connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn among_liars_alone_nobody_is_found() {
    let mut liars = Vec::new();
    for number in 0x40..0x43 {
        liars.push(liar(number).await);
    }
    let entries: Vec<String> = liars.iter().map(entry).collect();
    let mut victim = Real::join(VICTIM, &[], &entries);
    victim.until("three servers", |status| status["servers"] == 3);
    for sought in SOUGHT {
        let about = Forger::new(sought);
        victim.child.say(json!({"type":"discover","address":about.address(),"timeoutMs":300,"id":sought}));
    }
    for sought in SOUGHT {
        let answer = victim.child.expect("answer", |event| event["id"] == sought);
        assert_eq!((&answer["type"], &answer["count"]), (&json!("result"), &json!(0)), "{answer}");
    }
    for counter in COUNTERS {
        victim.until_counted(counter, 1);
    }
    assert!(victim.said(&["peer_discovered"]).is_empty());
    assert_eq!(victim.status()["agents"], 0);

    // Mail waits until somebody tells the truth.
    let about = Forger::new(SOUGHT.start);
    let mail = victim.ask(json!({"type":"send","peerId":about.address(),"data":1,"ttlMs":300}));
    let ended = victim
        .child
        .expect("end", |event| event["messageId"] == mail["messageId"] && event["type"] == "delivery");
    assert_eq!((&ended["state"], &ended["code"]), (&json!("expired"), &json!("PEER_NOT_FOUND")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_record_that_was_true_once_gives_way_to_the_current_one() {
    let server = Real::join(HONEST, &["--role", "bootstrap"], &[]);
    let mut target = Real::join(0x20, &[], &[server.entry()]);
    target.until("announced", |status| status["counters"]["records_published"].as_u64() >= Some(1));
    // A node that the agent had before, at an address where nobody is.
    let before = Forger::with_node(0x20, NodeKey::from_seed([0x99; 32]));
    let old = before.record(|record| {
        record.seq -= 60_000;
        record.issued_at_ms -= 60_000;
        record.addrs = vec!["/ip4/127.0.0.1/tcp/9".parse().unwrap()];
    });
    let liar = Hostile::start(Forger::new(0x40), Role::Bootstrap).await;
    let lifetime = Duration::from_secs(600);
    liar.node.apply(NetworkCommand::StoreDhtRecord { key: before.kad_key(), value: old, lifetime }).await;
    let mut victim = Real::join(VICTIM, &[], &[entry(&liar)]);
    victim.until("the liar", |status| status["servers"] == 1);
    let found = discover(&mut victim, &target.address(), 10_000);
    assert_eq!(found[0]["peerId"], before.node.peer_id().to_string(), "nobody knows better yet");

    // An honest agent brings the two networks together: the liar's answer is worth nothing from
    // then on.
    let mut bridge = Real::join(0x21, &[], &[server.entry(), victim.entry()]);
    bridge.until("two peers", |status| status["peers"].as_u64() >= Some(2));
    victim.ask(json!({"type":"send","peerId":target.address(),"data":"for the target"}));
    let came = target.child.expect("the mail", |event| event["data"] == "for the target");
    assert_eq!(came["from"], victim.address());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_drops_our_record_is_found_out_and_given_it_again() {
    let mut server = Hostile::start(Forger::new(0x40), Role::Bootstrap).await;
    let mut victim = Real::join(VICTIM, &[], &[entry(&server)]);
    // It says that it stored it, each time, and keeps nothing.
    for _ in 0..3 {
        let offered = server
            .node
            .expect("our record", |input| match input {
                Input::RecordOffered { value, .. } => Some(value.clone()),
                _ => None,
            })
            .await;
        assert_eq!(SignedRecord::decode(offered).unwrap().address().to_string(), victim.address());
    }
    victim.until_counted("records_not_kept", 2);
}
