//! Records that are not to be believed, by every way on which a record comes.

use std::time::Instant;

use bytes::Bytes;
use p2p_node_core::input::PublishOutcome;
use p2p_node_wire::record::{MAX_RECORD_BYTES, Record, SignedRecord, kad_key};

use crate::child::SOON;
use crate::forge::{Forger, SIGNATURE, bent, now_ms};
use crate::peer::Hostile;
use crate::scene::{HONEST, Scene};

const NEWS: [&str; 4] = ["peer_discovered", "message", "delivery", "error"];

/// What counts it, what is wrong, and the record.
fn wrong_records(forger: &Forger) -> Vec<(&'static str, &'static str, Bytes)> {
    let good = forger.record(|_| {});
    let honest = Forger::new(HONEST);
    let (ms, secs) = (now_ms(), now_ms() / 1000);
    const YEAR: u64 = 365 * 24 * 3600;
    let unknown = {
        let mut body = good[SIGNATURE..].to_vec();
        // Number 13 has to be understood.
        body.extend_from_slice(b"\x6a\x01x");
        forger.sign_record(&body)
    };
    let spelled_out = {
        // Role 0 is the default, and as such not written.
        let mut body = good[SIGNATURE..].to_vec();
        body.extend_from_slice(b"\x48\x00");
        forger.sign_record(&body)
    };
    let record = |change: &dyn Fn(&mut Record)| forger.record(|record| change(record));
    vec![
        ("records_forged", "a bent signature", bent(&good, 3)),
        ("records_forged", "a bit of its name turned over", {
            let named = record(&|r| r.name = "name".to_owned());
            bent(&named, named.len() - 1)
        }),
        ("records_forged", "signed by another node", honest.sign_record(&good[SIGNATURE..])),
        ("records_unbound", "another's address", record(&|r| r.binding = forger.stolen_binding(&honest))),
        (
            "records_untimely",
            "expired",
            record(&|r| {
                r.issued_at_ms = ms - 3_600_000;
                r.expires_at_ms = ms - 60_000;
            }),
        ),
        ("records_refused", "too long a life", record(&|r| r.expires_at_ms = ms + 25 * 3_600_000)),
        ("records_out_of_scope", "another network", record(&|r| r.network = "other".to_owned())),
        ("records_untimely", "seq in the future", record(&|r| r.seq = ms + 60_000)),
        ("records_untimely", "seq at the end of time", record(&|r| r.seq = u64::MAX)),
        (
            "records_untimely",
            "issued in the future",
            record(&|r| {
                r.issued_at_ms = ms + 60_000;
                r.expires_at_ms = ms + 120_000;
            }),
        ),
        (
            "records_untimely",
            "bound for later",
            record(&|r| {
                r.binding = forger.binding(|b| b.not_before = secs + 60);
            }),
        ),
        (
            "records_untimely",
            "bound long ago",
            record(&|r| {
                r.binding = forger.binding(|b| (b.not_before, b.not_after) = (secs - 120, secs - 60));
            }),
        ),
        (
            "records_untimely",
            "a generation to come",
            record(&|r| {
                r.binding = forger.binding(|b| b.generation = secs + YEAR);
            }),
        ),
        ("records_of_later_versions", "a field that is not known", unknown),
        ("records_malformed", "a default spelled out", spelled_out),
        ("records_malformed", "a name of two lines", {
            let mut body = record(&|r| r.name = "two|lines".to_owned())[SIGNATURE..].to_vec();
            let at = body.iter().rposition(|byte| *byte == b'|').unwrap();
            body[at] = b'\n';
            forger.sign_record(&body)
        }),
        ("records_malformed", "cut short", good.slice(..good.len() - 1)),
        ("records_malformed", "no signature", good.slice(..SIGNATURE - 1)),
        ("records_malformed", "a byte too long", Bytes::from(vec![7; MAX_RECORD_BYTES + 1])),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn wrong_records_are_refused_by_every_way() {
    let mut scene = Scene::new("bootstrap");
    let clean = scene.passed_on();
    let mut offered = Vec::new();
    for case in 0..wrong_records(&Forger::new(0x40)).len() {
        let forger = Forger::new(0x40 + case as u8);
        let (counter, what, record) = wrong_records(&forger).swap_remove(case);
        let address = SignedRecord::decode(record.clone()).map(|signed| signed.address());
        let key = Bytes::copy_from_slice(&kad_key("dev", &address.unwrap_or(forger.agent.address())));
        offered.push((key.clone(), record.clone()));
        let before = scene.victim.counter(counter);
        let mut hostile = Hostile::meet(forger, &scene.victim).await;
        hostile.served_by(&scene.victim).await;

        let mut ways = 1;
        if record.len() <= MAX_RECORD_BYTES {
            hostile.hello(&scene.victim, record.clone()).await;
            ways += 1;
        }
        let published = hostile.publish("agent-announcements", record.clone()).await;
        assert_eq!(published, PublishOutcome::Sent, "{what}");
        assert!(hostile.put(key, record).await, "{what}: the server has answered");
        ways += 1;
        scene.victim.until_counted(counter, before + ways);
        assert_eq!(scene.victim.counter(counter), before + ways, "{what}");
    }
    scene.nothing_said(&NEWS);

    // The right way is open: what is good is stored, told and passed on, after all that was not.
    let forger = Forger::new(0x70);
    let good = forger.record(|_| {});
    let mut reader = Hostile::meet(forger, &scene.victim).await;
    reader.served_by(&scene.victim).await;
    reader.publish("agent-announcements", good).await;
    for node in [&mut scene.victim, &mut scene.honest] {
        let address = reader.forger.address();
        let found = node.child.expect("the good record", |event| event["type"] == "peer_discovered");
        assert_eq!(found["address"], address);
    }
    assert_eq!(scene.passed_on(), clean, "the victim passed something on");
    for (key, record) in offered {
        assert!(!reader.get(key).await.contains(&record), "the victim keeps it");
    }
    scene.still_honest();
}

/// The record that is under a key of the victim's DHT.
async fn kept(reader: &mut Hostile, about: &Forger) -> Vec<Bytes> {
    reader.get(about.kad_key()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_record_is_superseded_by_a_higher_order_only() {
    let mut scene = Scene::new("bootstrap");
    let clean = scene.passed_on();
    let mut reader = Hostile::meet(Forger::new(0x71), &scene.victim).await;
    reader.served_by(&scene.victim).await;
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    hostile.served_by(&scene.victim).await;
    let owner = Forger::new(0x40);
    let (ms, secs) = (now_ms(), now_ms() / 1000);
    let at = |generation: u64, seq: u64, name: &str| {
        owner.record(|record| {
            record.binding = owner.binding(|binding| binding.generation = generation);
            (record.seq, record.name) = (seq, name.to_owned());
        })
    };
    let current = at(secs, ms, "current");
    hostile.hello(&scene.victim, current.clone()).await;
    scene.victim.child.expect("the record", |event| event["name"] == "current");
    assert_eq!(kept(&mut reader, &owner).await, [&current]);

    let wrong = [
        ("records_stale", at(secs, ms - 1, "earlier")),
        ("records_stale", at(secs - 1, ms + 1, "a lower generation")),
        ("records_stale", at(0, ms + 20_000, "none")),
        ("records_conflicting", at(secs, ms, "other bytes")),
        ("records_conflicting", at(secs, ms, "other bytes again")),
    ];
    for (counter, record) in wrong {
        let before = scene.victim.counter(counter);
        hostile.hello(&scene.victim, record.clone()).await;
        hostile.publish("agent-announcements", record.clone()).await;
        assert!(hostile.put(owner.kad_key(), record).await);
        scene.victim.until_counted(counter, before + 3);
        assert_eq!(kept(&mut reader, &owner).await, [&current]);
    }
    let logs = scene.victim.said(&["log"]);
    let conflicts = logs.iter().filter(|log| log["namespace"] == "directory").count();
    assert_eq!(conflicts, 1, "{logs:?}");
    scene.nothing_said(&["peer_discovered", "error"]);
    assert_eq!(scene.passed_on(), clean, "the victim passed something on");

    let next = at(secs, ms + 1, "next");
    hostile.publish("agent-announcements", next.clone()).await;
    let deadline = Instant::now() + SOON;
    while kept(&mut reader, &owner).await != [&next] {
        assert!(Instant::now() < deadline, "the higher order is not taken");
    }
    scene.still_honest();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_speaks_for_anothers_address() {
    let mut scene = Scene::new("bootstrap");
    let clean = scene.passed_on();
    let honest = Forger::new(HONEST);
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    hostile.served_by(&scene.victim).await;
    let truth = hostile.get(honest.kad_key()).await;
    assert_eq!(truth.len(), 1, "the victim keeps the honest one's record");
    let agents = scene.victim.status()["agents"].clone();

    // Its own record under the honest one's key, and under none.
    let own = hostile.forger.record(|_| {});
    let keys = [honest.kad_key(), Bytes::from_static(&[7; 32]), Bytes::from_static(b"short")];
    for (number, key) in (1..).zip(keys) {
        // The last does not even fit into a store of ours.
        let stored = hostile.put(key, own.clone()).await;
        assert_eq!(stored, number < 3);
        scene.victim.until_counted("records_misplaced", number.min(2));
    }
    // The honest one's own record, said to be of this node.
    hostile.hello(&scene.victim, truth[0].clone()).await;
    scene.victim.until_counted("records_of_others", 1);
    // The honest one's address over this node's key.
    let stolen = hostile.forger.stolen_binding(&honest);
    let claim = hostile.forger.record(|record| record.binding = stolen.clone());
    hostile.hello(&scene.victim, claim.clone()).await;
    hostile.publish("agent-announcements", claim.clone()).await;
    hostile.put(honest.kad_key(), claim).await;
    scene.victim.until_counted("records_unbound", 3);
    // Hellos that are wrong beside their record.
    let network = "other".to_owned();
    hostile.hello_as(&scene.victim, own.clone(), |hello| hello.network = network).await;
    let text = "two\nlines".to_owned();
    hostile.hello_as(&scene.victim, own.clone(), |hello| hello.agent_version = text).await;
    hostile.hello_as(&scene.victim, Bytes::new(), |_| {}).await;
    scene.victim.until_counted("hellos_refused", 3);

    assert_eq!(scene.victim.status()["agents"], agents);
    scene.nothing_said(&["peer_discovered", "error"]);
    assert_eq!(scene.passed_on(), clean, "the victim passed something on");
    let mut reader = Hostile::meet(Forger::new(0x71), &scene.victim).await;
    reader.served_by(&scene.victim).await;
    let kept: Vec<_> = reader.get(honest.kad_key()).await.into_iter().map(SignedRecord::decode).collect();
    assert!(matches!(&kept[..], [Ok(kept)] if kept.peer_id() == honest.node.peer_id()), "{kept:?}");
    assert!(reader.get(hostile.forger.kad_key()).await.is_empty());
    scene.still_honest();
}
