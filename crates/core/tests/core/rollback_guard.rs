//! A revoked key stays revoked, also for a node that restarts from its store.

use std::time::Duration;

use p2p_node_core::effect::{ExitCode, Verdict};
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::record::{RecordHash, SignedRecord};

use crate::forged::{frame, record, topic};
use crate::mesh::{CONNECT, Mesh, START_MS, agent_key, binding, node_key};
use crate::verification::{gossip, listener};

/// A generation above 0 that is valid already.
const LATER: u64 = START_MS / 1000 - 60;

fn row(number: u8, generation: u64, seq: u64) -> HighestSeen {
    HighestSeen { address: agent_key(number).address(), generation, seq, hash: RecordHash([9; 32]) }
}

/// Returns a mesh of one node, which restores these rows and subscribes to `jobs`.
fn node_with_highest_seen(rows: Vec<HighestSeen>) -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Bootstrap, CONNECT, |config| config.highest_seen = rows);
    mesh.command(0, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    mesh
}

#[test]
fn frame_of_revoked_key_is_ignored_after_newer_record() {
    let mut mesh = listener();
    assert_eq!(gossip(&mut mesh, 1, "jobs", frame(2, topic(), 1, |_| {})), Verdict::Accept);
    gossip(&mut mesh, 2, "agent-announcements", record(2, LATER, START_MS, &node_key(9)));
    assert_eq!(gossip(&mut mesh, 3, "jobs", frame(2, topic(), 2, |_| {})), Verdict::Ignore);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::FramesSuperseded), 1);
    assert_eq!(mesh.received(0), [1]);
}

#[test]
fn revoked_record_is_ignored_after_restart() {
    let mut mesh = listener();
    let newest = record(2, LATER, START_MS, &node_key(9));
    gossip(&mut mesh, 1, "agent-announcements", newest.clone());
    let rows: Vec<HighestSeen> = mesh.store(0).highest_seen.values().cloned().collect();
    assert!(rows.contains(&HighestSeen::from(&SignedRecord::decode(newest.clone()).unwrap())), "{rows:?}");

    let mut mesh = node_with_highest_seen(rows);
    let old = record(2, 0, START_MS + 1, &node_key(2));
    assert_eq!(gossip(&mut mesh, 1, "agent-announcements", old), Verdict::Ignore);
    assert_eq!(gossip(&mut mesh, 2, "jobs", frame(2, topic(), 1, |_| {})), Verdict::Ignore);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::FramesSuperseded), 1);
    assert!(mesh.lines(0, "peer_discovered").is_empty() && mesh.received(0).is_empty());
    assert_eq!(gossip(&mut mesh, 3, "agent-announcements", newest), Verdict::Accept);
    assert_eq!(mesh.lines(0, "peer_discovered").len(), 1);
}

#[test]
fn record_with_restored_seq_and_other_hash_is_a_conflict() {
    let seen = record(2, LATER, START_MS, &node_key(9));
    let mut mesh =
        node_with_highest_seen(vec![HighestSeen::from(&SignedRecord::decode(seen.clone()).unwrap())]);
    let other = record(2, LATER, START_MS, &node_key(8));
    assert_eq!(gossip(&mut mesh, 1, "agent-announcements", other), Verdict::Ignore);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::RecordsConflicting), 1);
    assert!(mesh.lines(0, "error").is_empty(), "only the agent of the record reports an error");
    assert_eq!(gossip(&mut mesh, 2, "agent-announcements", seen), Verdict::Accept);
}

#[test]
fn node_with_restored_newer_generation_of_its_own_does_not_start() {
    let mesh = superseded_node_with_highest_seen(vec![row(1, 1, START_MS)]);
    assert_eq!(mesh.lines(0, "error")[0]["code"], "IDENTITY_SUPERSEDED");
    assert!(mesh.lines(0, "ready").is_empty());
    let mesh = node_with_highest_seen(vec![row(1, 0, START_MS)]);
    assert!(mesh.nodes[0].exit.is_none() && mesh.lines(0, "ready").len() == 1);
}

#[test]
fn restored_own_generation_from_the_future_does_not_prevent_start() {
    let own = agent_key(1).address();
    // A generation in milliseconds, and one from a clock that was a day ahead.
    for generation in [START_MS, START_MS / 1000 + 86_400] {
        let mesh = node_with_highest_seen(vec![row(1, generation, START_MS), row(1, 0, START_MS - 5)]);
        assert!(mesh.nodes[0].exit.is_none() && mesh.lines(0, "ready").len() == 1, "{generation}");
        assert_eq!(mesh.store(0).highest_seen[&own].generation, 0);
    }
}

#[test]
fn restored_peer_generation_from_the_future_does_not_block_the_peer() {
    let mut mesh = node_with_highest_seen(vec![row(2, START_MS, START_MS)]);
    assert_eq!(gossip(&mut mesh, 1, "jobs", frame(2, topic(), 1, |_| {})), Verdict::Accept);
    let known = record(2, 0, START_MS, &node_key(2));
    assert_eq!(gossip(&mut mesh, 2, "agent-announcements", known), Verdict::Accept);
    assert_eq!(mesh.received(0), [1]);
}

/// As `node_with_highest_seen`, for rows that end the node.
fn superseded_node_with_highest_seen(rows: Vec<HighestSeen>) -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Full, CONNECT, |config| {
        config.highest_seen = rows;
    });
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Config));
    mesh
}

#[test]
fn superseded_node_persists_the_newer_generation() {
    let mut mesh = Mesh::new(1);
    gossip(&mut mesh, 1, "agent-announcements", record(1, LATER, START_MS, &node_key(9)));
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Config));
    let rows = mesh.store(0).highest_seen.values().cloned().collect();
    let mesh = superseded_node_with_highest_seen(rows);
    assert_eq!(mesh.lines(0, "error")[0]["code"], "IDENTITY_SUPERSEDED");
}

#[test]
fn own_record_seq_continues_after_restart() {
    let ahead = START_MS + 20_000;
    let mut mesh = node_with_highest_seen(vec![row(1, 0, ahead)]);
    let own = agent_key(1).address();
    assert_eq!(
        mesh.store(0).highest_seen[&own].seq,
        ahead + 1,
        "the seq continues although the clock is behind"
    );
    // An own record from before the restart is no conflict.
    gossip(&mut mesh, 1, "agent-announcements", record(1, 0, ahead, &node_key(1)));
    assert!(mesh.lines(0, "error").is_empty());
    mesh.advance(Duration::from_secs(30));
    mesh.command(0, r#"{"type":"subscribe","topic":"more","id":"t"}"#);
    mesh.advance(Duration::from_secs(3));
    assert!(mesh.store(0).highest_seen[&own].seq >= START_MS + 32_000);
}

#[test]
fn restored_own_seq_far_in_the_future_is_ignored() {
    let own = agent_key(1).address();
    let seq =
        |ahead| node_with_highest_seen(vec![row(1, 0, START_MS + ahead)]).store(0).highest_seen[&own].seq;
    assert_eq!(seq(30_000), START_MS + 30_001);
    assert!(seq(30_100) < START_MS + 1000, "a clock far ahead made that record");
}

#[test]
fn frame_of_own_revoked_key_is_ignored() {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Bootstrap, CONNECT, |config| {
        config.node_key = node_key(9);
        config.binding = agent_key(1).bind(binding(1, LATER, &node_key(9))).unwrap();
    });
    mesh.command(0, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    assert_eq!(gossip(&mut mesh, 1, "jobs", frame(1, topic(), 1, |_| {})), Verdict::Ignore);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::FramesSuperseded), 1);
}

#[test]
fn store_failure_is_logged_once_until_recovery() {
    let mut mesh = Mesh::new(1);
    let fail = |mesh: &mut Mesh| mesh.input(0, Input::StoreFailed { reason: "the disk is full".to_owned() });
    let logged =
        |mesh: &Mesh| mesh.lines(0, "log").iter().filter(|line| line["namespace"] == "store").count();
    fail(&mut mesh);
    fail(&mut mesh);
    assert_eq!(logged(&mesh), 1);
    mesh.input(0, Input::StoreRecovered);
    fail(&mut mesh);
    assert_eq!(logged(&mesh), 2);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::StoreFailures), 3);
    assert!(mesh.nodes[0].exit.is_none());
}
