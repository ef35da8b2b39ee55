//! All bootstrap nodes end and start again with empty tables, at their addresses.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Child, TIMEOUT, tcp_address};

/// Number of failed dials of each agent before the bootstrap nodes return. The pauses double from
/// half a second to their limit.
const FAILED_DIALS: u64 = 8;
/// Longest wait for these dials.
const DOWN: Duration = Duration::from_secs(90);
/// Time in which every agent must be found again.
const FOUND_WITHIN: Duration = Duration::from_secs(30);

fn port(address: &str) -> u16 {
    address.split('/').nth(4).unwrap().parse().unwrap()
}

fn bootstrap(key: u8, port: u16, entries: &[String]) -> (Child, String) {
    let (node, ready) = Child::join(key, port, &["--role", "bootstrap"], entries);
    (node, tcp_address(&ready))
}

/// Looks up an agent until it is found.
fn find(searcher: &mut Child, address: &Value, deadline: Instant) {
    for attempt in 0.. {
        let id = format!("{address}-{attempt}");
        searcher.command(json!({"type":"discover","address":address,"timeoutMs":500,"id":id}));
        if searcher.answer_of_discover(&id)["count"] == 1 {
            return;
        }
        assert!(Instant::now() < deadline, "{address} is not found in time");
    }
}

#[test]
fn every_agent_is_found_again_after_all_bootstrap_nodes_lost_their_tables() {
    let (first, entry) = bootstrap(0xC1, 0, &[]);
    let mut entries = vec![entry];
    let (second, entry) = bootstrap(0xC2, 0, &entries);
    entries.push(entry);
    let (mut agents, ready): (Vec<Child>, Vec<Value>) =
        (0..4).map(|number| Child::join(0xC3 + number, 0, &[], &entries)).unzip();
    let mut searcher = Child::join(0xC7, 0, &[], &entries).0;
    for ready in &ready {
        find(&mut searcher, &ready["address"], Instant::now() + TIMEOUT);
    }
    drop((first, second, searcher));
    for agent in &mut agents {
        agent.until_within(DOWN, "failed dials", |status| {
            status["counters"]["dials_failed"].as_u64() >= Some(FAILED_DIALS)
        });
    }

    let returned = Instant::now();
    let (_first, _) = bootstrap(0xC1, port(&entries[0]), &entries);
    let (_second, _) = bootstrap(0xC2, port(&entries[1]), &entries);
    let mut searcher = Child::join(0xC8, 0, &[], &entries).0;
    for ready in &ready {
        find(&mut searcher, &ready["address"], returned + FOUND_WITHIN);
    }
}
