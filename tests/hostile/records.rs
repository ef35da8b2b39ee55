//! Invalid records, on every route by which a record arrives.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use p2p_node_core::input::PublishOutcome;
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::Step;
use p2p_node_wire::record::{MAX_RECORD_BYTES, Record, SignedRecord, kad_key};
use serde_json::Value;

use crate::child::TIMEOUT;
use crate::fixture::{Fixture, HONEST};
use crate::forge::{Forger, SIGNATURE, corrupt, now_ms};
use crate::peer::{Hostile, code};

const EVENTS: [&str; 3] = ["message", "delivery", "error"];

/// The record that is sound but from the future.
const EARLY: &str = "issued in the future";

/// Returns invalid records, each with its counter and a description.
fn wrong_records(forger: &Forger) -> Vec<(&'static str, &'static str, Bytes)> {
    let good = forger.record(|_| {});
    let honest = Forger::new(HONEST);
    let ms = now_ms();
    let unknown = {
        let mut body = good[SIGNATURE..].to_vec();
        // Number 15 is no extension.
        body.extend_from_slice(b"\x7a\x01x");
        forger.sign_record(&body)
    };
    let explicit_default = {
        // Role 0 is the default, which the canonical form omits.
        let mut body = good[SIGNATURE..].to_vec();
        body.extend_from_slice(b"\x48\x00");
        forger.sign_record(&body)
    };
    let record = |change: &dyn Fn(&mut Record)| forger.record(|record| change(record));
    let mut wrong = vec![
        ("records_forged", "a corrupt signature", corrupt(&good, 3)),
        ("records_forged", "a bit of its name flipped", {
            let named = record(&|r| r.name = "name".to_owned());
            corrupt(&named, named.len() - 1)
        }),
        ("records_forged", "signed by another node", honest.sign_record(&good[SIGNATURE..])),
        (
            "records_binding_forged",
            "another's address",
            record(&|r| r.binding = forger.stolen_binding(&honest)),
        ),
        ("records_refused", "valid for too long", record(&|r| r.expires_at_ms = ms + 25 * 3_600_000)),
        ("records_out_of_scope", "another network", record(&|r| r.network = "other".to_owned())),
        ("records_of_later_versions", "an unknown field", unknown),
        ("records_malformed", "an explicit default", explicit_default),
        ("records_malformed", "a name of two lines", {
            let mut body = record(&|r| r.name = "two|lines".to_owned())[SIGNATURE..].to_vec();
            let at = body.iter().rposition(|byte| *byte == b'|').unwrap();
            body[at] = b'\n';
            forger.sign_record(&body)
        }),
        ("records_malformed", "cut short", good.slice(..good.len() - 1)),
        ("records_malformed", "no signature", good.slice(..SIGNATURE - 1)),
        ("records_malformed", "a byte too long", Bytes::from(vec![7; MAX_RECORD_BYTES + 1])),
    ];
    wrong.extend(badly_dated_records(forger));
    wrong
}

/// Returns records that are not valid at this time.
fn badly_dated_records(forger: &Forger) -> Vec<(&'static str, &'static str, Bytes)> {
    const YEAR: u64 = 365 * 24 * 3600;
    let (ms, secs) = (now_ms(), now_ms() / 1000);
    let record = |change: &dyn Fn(&mut Record)| forger.record(|record| change(record));
    vec![
        (
            "records_out_of_date",
            "expired",
            record(&|r| {
                r.issued_at_ms = ms - 3_600_000;
                r.expires_at_ms = ms - 60_000;
            }),
        ),
        ("records_out_of_date", "seq in the future", record(&|r| r.seq = ms + 60_000)),
        ("records_out_of_date", "the largest seq", record(&|r| r.seq = u64::MAX)),
        (
            "records_out_of_date",
            "issued in the future",
            record(&|r| {
                r.issued_at_ms = ms + 60_000;
                r.expires_at_ms = ms + 120_000;
            }),
        ),
        (
            "records_out_of_date",
            "a binding that is not valid yet",
            record(&|r| {
                r.binding = forger.binding(|b| b.not_before = secs + 60);
            }),
        ),
        (
            "records_out_of_date",
            "an expired binding",
            record(&|r| {
                r.binding = forger.binding(|b| (b.not_before, b.not_after) = (secs - 120, secs - 60));
            }),
        ),
        (
            "records_out_of_date",
            "a generation in the future",
            record(&|r| {
                r.binding = forger.binding(|b| b.generation = secs + YEAR);
            }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn invalid_records_are_refused_on_every_route() {
    let mut fixture = Fixture::new("bootstrap");
    let clean = fixture.refused_by_honest();
    let (mut offered, mut admitted) = (Vec::new(), BTreeSet::new());
    for case in 0..wrong_records(&Forger::new(0x40)).len() {
        let forger = Forger::new(0x40 + case as u8);
        admitted.insert([forger.address(), forger.node.peer_id().to_string()]);
        let (counter, what, record) = wrong_records(&forger).swap_remove(case);
        let address = SignedRecord::decode(record.clone()).map(|signed| signed.address());
        let key = Bytes::copy_from_slice(&kad_key("dev", &address.unwrap_or(forger.agent.address())));
        offered.push((key.clone(), record.clone()));
        let before = fixture.victim.counter(counter);
        let mut hostile = Hostile::join(forger, &fixture.victim).await;
        hostile.served_by(&fixture.victim).await;

        let published = hostile.publish("agent-announcements", record.clone()).await;
        assert_eq!(published, PublishOutcome::Sent, "{what}");
        assert!(hostile.put(key, record.clone()).await, "{what}: the server has answered");
        fixture.victim.until_counted(counter, before + 2);
        assert_eq!(fixture.victim.counter(counter), before + 2, "{what}");
        if record.len() <= MAX_RECORD_BYTES {
            let answer = hostile.admit(&fixture.victim, record).await;
            // A record from the future shows whose node the peer is. The node does not use it.
            assert_eq!(matches!(answer, Step::Rejected(_)), what != EARLY, "{what}: {answer:?}");
            fixture.victim.until_counted(counter, before + 3);
            assert_eq!(fixture.victim.counter(counter), before + 3, "{what}");
        }
    }
    fixture.assert_no_events(&EVENTS);
    // The victim told its parent of each peer by the record of its admission, and of none again.
    assert_eq!(fixture.victim.take_events(&["peer_discovered"]), [Value::Null; 0]);
    // It may have answered these records to the question of the honest node for agents.
    let events = fixture.honest.take_events(&["peer_discovered"]);
    assert!(events.iter().all(|event| event["name"].is_null()), "{events:?}");
    let named = |event: &Value| ["address", "peerId"].map(|field| event[field].as_str().unwrap().to_owned());
    let found: BTreeSet<_> = events.iter().map(named).collect();
    assert!(found.is_subset(&admitted) && found.len() == events.len(), "{events:?}");

    // A valid record is still stored and forwarded.
    let forger = Forger::new(0x70);
    let good = forger.record(|_| {});
    let mut reader = Hostile::join(forger, &fixture.victim).await;
    reader.served_by(&fixture.victim).await;
    reader.publish("agent-announcements", good.clone()).await;
    let owner = Forger::new(0x70);
    until_stored(&mut reader, &owner, &good).await;
    let address = owner.address();
    let found = |event: &Value| event["type"] == "peer_discovered" && event["address"] == address.as_str();
    fixture.honest.child.expect("the valid record", found);
    assert_eq!(fixture.refused_by_honest(), clean, "the victim forwarded an invalid record");
    for (key, record) in offered {
        assert!(!reader.get(key).await.contains(&record), "the victim stores it");
    }
    fixture.check_honest_traffic();
}

/// Returns the record of an agent in the victim's DHT.
async fn stored(reader: &mut Hostile, about: &Forger) -> Vec<Bytes> {
    reader.get(about.kad_key()).await
}

/// Takes the agents that the parents of both nodes were told of.
fn discovered(fixture: &mut Fixture) -> Vec<Value> {
    let nodes = [&mut fixture.victim, &mut fixture.honest];
    nodes.into_iter().flat_map(|node| node.take_events(&["peer_discovered"])).collect()
}

/// Waits until the victim's DHT has this record of an agent alone.
async fn until_stored(reader: &mut Hostile, about: &Forger, record: &Bytes) {
    let deadline = Instant::now() + TIMEOUT;
    while stored(reader, about).await != [record] {
        assert!(Instant::now() < deadline, "the record is not stored");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn record_is_superseded_only_by_higher_generation_or_seq() {
    let mut fixture = Fixture::new("bootstrap");
    let clean = fixture.refused_by_honest();
    let mut reader = Hostile::join(Forger::new(0x71), &fixture.victim).await;
    reader.served_by(&fixture.victim).await;
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    hostile.served_by(&fixture.victim).await;
    let owner = Forger::new(0x40);
    let (ms, secs) = (now_ms(), now_ms() / 1000);
    let at = |generation: u64, seq: u64, name: &str| {
        owner.record(|record| {
            record.binding = owner.binding(|binding| binding.generation = generation);
            (record.seq, record.name) = (seq, name.to_owned());
        })
    };
    let current = at(secs, ms, "current");
    hostile.publish("agent-announcements", current.clone()).await;
    until_stored(&mut reader, &owner, &current).await;

    let wrong = [
        ("records_stale", at(secs, ms - 1, "earlier")),
        ("records_stale", at(secs - 1, ms + 1, "a lower generation")),
        ("records_stale", at(0, ms + 20_000, "none")),
        ("records_conflicting", at(secs, ms, "other bytes")),
        ("records_conflicting", at(secs, ms, "other bytes again")),
    ];
    for (counter, record) in wrong {
        let before = fixture.victim.counter(counter);
        hostile.publish("agent-announcements", record.clone()).await;
        assert!(hostile.put(owner.kad_key(), record).await);
        fixture.victim.until_counted(counter, before + 2);
        assert_eq!(stored(&mut reader, &owner).await, [&current]);
    }
    let logs = fixture.victim.take_events(&["log"]);
    let conflicts = logs.iter().filter(|log| log["namespace"] == "directory").count();
    // The agent of the victim does not deal with this one, so its parent is not told.
    assert_eq!(conflicts, 0, "{logs:?}");
    fixture.assert_no_events(&["error"]);
    for event in discovered(&mut fixture) {
        assert!(event["name"].is_null() || event["name"] == "current", "{event}");
    }
    assert_eq!(fixture.refused_by_honest(), clean, "the victim forwarded an invalid record");

    let next = at(secs, ms + 1, "next");
    hostile.publish("agent-announcements", next.clone()).await;
    until_stored(&mut reader, &owner, &next).await;
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn record_of_another_agents_address_is_refused() {
    let mut fixture = Fixture::new("bootstrap");
    let clean = fixture.refused_by_honest();
    let honest = Forger::new(HONEST);
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    hostile.served_by(&fixture.victim).await;
    let truth = hostile.get(honest.kad_key()).await;
    assert_eq!(truth.len(), 1, "the victim stores the honest peer's record");
    let agents = fixture.victim.status()["agents"].clone();

    // The attacker's own record under the honest peer's key, and under invalid keys.
    let own = hostile.forger.record(|_| {});
    let keys = [honest.kad_key(), Bytes::from_static(&[7; 32]), Bytes::from_static(b"short")];
    for (number, key) in (1..).zip(keys) {
        // The attacker's own store refuses the last key.
        let stored = hostile.put(key, own.clone()).await;
        assert_eq!(stored, number < 3);
        fixture.victim.until_counted("records_misplaced", number.min(2));
    }
    // The honest peer's address with the attacker's node key.
    let stolen = hostile.forger.stolen_binding(&honest);
    let claim = hostile.forger.record(|record| record.binding = stolen.clone());
    hostile.publish("agent-announcements", claim.clone()).await;
    hostile.put(honest.kad_key(), claim.clone()).await;
    fixture.victim.until_counted("records_binding_forged", 2);
    assert_eq!(code(hostile.admit(&fixture.victim, claim).await), "INVALID_RECORD");
    fixture.victim.until_counted("records_binding_forged", 3);
    // The honest peer's record in the attacker's admission.
    let mut hostile = Hostile::start(Forger::new(0x41), Role::Full).await;
    hostile.dial(&fixture.victim).await;
    assert_eq!(code(hostile.admit(&fixture.victim, truth[0].clone()).await), "INVALID_RECORD");
    fixture.victim.until_counted("records_of_others", 1);

    assert_eq!(fixture.victim.status()["agents"], agents);
    fixture.assert_no_events(&["peer_discovered", "error"]);
    assert_eq!(fixture.refused_by_honest(), clean, "the victim forwarded an invalid record");
    let mut reader = Hostile::join(Forger::new(0x71), &fixture.victim).await;
    reader.served_by(&fixture.victim).await;
    let records: Vec<_> = reader.get(honest.kad_key()).await.into_iter().map(SignedRecord::decode).collect();
    assert!(matches!(&records[..], [Ok(record)] if record.peer_id() == honest.node.peer_id()), "{records:?}");
    assert!(reader.get(hostile.forger.kad_key()).await.is_empty());
    fixture.check_honest_traffic();
}
