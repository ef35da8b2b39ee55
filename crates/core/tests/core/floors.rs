//! A revoked key stays revoked, also for a node that restarts from its store.

use std::time::Duration;

use p2p_node_core::effect::{ExitCode, Verdict};
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::record::SignedRecord;

use crate::forged::{frame, record, topic};
use crate::mesh::{CONNECT, Mesh, START_MS, agent_key, binding, node_key};
use crate::verification::{gossip, listener};

/// A generation later than 0, whose key is in use already.
const LATER: u64 = START_MS / 1000 - 60;

fn row(number: u8, generation: u64, seq: u64) -> HighestSeen {
    HighestSeen { address: agent_key(number).address(), generation, seq, hash: [9; 32] }
}

/// A node of agent 1 that remembers these rows and subscribes to `jobs`.
fn remembering(floors: Vec<HighestSeen>) -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Bootstrap, CONNECT, |setup| setup.floors = floors);
    mesh.say(0, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    mesh
}

#[test]
fn a_frame_of_a_revoked_key_is_refused_by_who_saw_the_newer_one() {
    let mut mesh = listener();
    assert_eq!(gossip(&mut mesh, 1, "jobs", frame(2, topic(), 1, |_| {})), Verdict::Accept);
    gossip(&mut mesh, 2, "agent-announcements", record(2, LATER, START_MS, &node_key(9)));
    assert_eq!(gossip(&mut mesh, 3, "jobs", frame(2, topic(), 2, |_| {})), Verdict::Ignore);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::FramesSuperseded), 1);
    assert_eq!(mesh.received(0), [1]);
}

#[test]
fn what_was_remembered_bars_the_revoked_after_a_restart() {
    let mut mesh = listener();
    let newest = record(2, LATER, START_MS, &node_key(9));
    gossip(&mut mesh, 1, "agent-announcements", newest.clone());
    let kept: Vec<HighestSeen> = mesh.store(0).highest_seen.values().cloned().collect();
    assert!(kept.contains(&HighestSeen::from(&SignedRecord::decode(newest.clone()).unwrap())), "{kept:?}");

    let mut mesh = remembering(kept);
    let old = record(2, 0, START_MS + 1, &node_key(2));
    assert_eq!(gossip(&mut mesh, 1, "agent-announcements", old), Verdict::Ignore);
    assert_eq!(gossip(&mut mesh, 2, "jobs", frame(2, topic(), 1, |_| {})), Verdict::Ignore);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::FramesSuperseded), 1);
    assert!(mesh.lines(0, "peer_discovered").is_empty() && mesh.received(0).is_empty());
    assert_eq!(gossip(&mut mesh, 3, "agent-announcements", newest), Verdict::Accept);
    assert_eq!(mesh.lines(0, "peer_discovered").len(), 1);
}

#[test]
fn of_two_records_with_the_remembered_order_the_one_that_was_seen_counts() {
    let seen = record(2, LATER, START_MS, &node_key(9));
    let mut mesh = remembering(vec![HighestSeen::from(&SignedRecord::decode(seen.clone()).unwrap())]);
    let other = record(2, LATER, START_MS, &node_key(8));
    assert_eq!(gossip(&mut mesh, 1, "agent-announcements", other), Verdict::Ignore);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::RecordsConflicting), 1);
    assert!(mesh.lines(0, "error").is_empty(), "only the agent concerned is told");
    assert_eq!(gossip(&mut mesh, 2, "agent-announcements", seen), Verdict::Accept);
}

#[test]
fn a_node_that_remembers_a_newer_generation_of_its_own_does_not_start() {
    let mesh = remembering_and_ended(vec![row(1, 1, START_MS)]);
    assert_eq!(mesh.lines(0, "error")[0]["code"], "IDENTITY_SUPERSEDED");
    assert!(mesh.lines(0, "ready").is_empty());
    let mesh = remembering(vec![row(1, 0, START_MS)]);
    assert!(mesh.nodes[0].exit.is_none() && mesh.lines(0, "ready").len() == 1);
}

#[test]
fn a_generation_of_our_own_from_the_future_does_not_keep_the_node_from_starting() {
    let own = agent_key(1).address();
    // Milliseconds, and what a clock gave that was a day ahead.
    for generation in [START_MS, START_MS / 1000 + 86_400] {
        let mesh = remembering(vec![row(1, generation, START_MS), row(1, 0, START_MS - 5)]);
        assert!(mesh.nodes[0].exit.is_none() && mesh.lines(0, "ready").len() == 1, "{generation}");
        assert_eq!(mesh.store(0).highest_seen[&own].generation, 0);
    }
}

#[test]
fn a_generation_of_another_from_the_future_does_not_silence_it() {
    let mut mesh = remembering(vec![row(2, START_MS, START_MS)]);
    assert_eq!(gossip(&mut mesh, 1, "jobs", frame(2, topic(), 1, |_| {})), Verdict::Accept);
    let known = record(2, 0, START_MS, &node_key(2));
    assert_eq!(gossip(&mut mesh, 2, "agent-announcements", known), Verdict::Accept);
    assert_eq!(mesh.received(0), [1]);
}

fn remembering_and_ended(floors: Vec<HighestSeen>) -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Full, CONNECT, |setup| {
        setup.floors = floors;
    });
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Config));
    mesh
}

#[test]
fn a_node_that_is_superseded_remembers_why() {
    let mut mesh = Mesh::new(1);
    gossip(&mut mesh, 1, "agent-announcements", record(1, LATER, START_MS, &node_key(9)));
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Config));
    let kept = mesh.store(0).highest_seen.values().cloned().collect();
    let mesh = remembering_and_ended(kept);
    assert_eq!(mesh.lines(0, "error")[0]["code"], "IDENTITY_SUPERSEDED");
}

#[test]
fn our_own_records_go_on_where_those_before_the_restart_ended() {
    let ahead = START_MS + 20_000;
    let mut mesh = remembering(vec![row(1, 0, ahead)]);
    let own = agent_key(1).address();
    assert_eq!(mesh.store(0).highest_seen[&own].seq, ahead + 1, "the clock is behind, and the order is not");
    // One of ours from before the restart is no other node's.
    gossip(&mut mesh, 1, "agent-announcements", record(1, 0, ahead, &node_key(1)));
    assert!(mesh.lines(0, "error").is_empty());
    mesh.pass(Duration::from_secs(30));
    mesh.say(0, r#"{"type":"subscribe","topic":"more","id":"t"}"#);
    mesh.pass(Duration::from_secs(3));
    assert!(mesh.store(0).highest_seen[&own].seq >= START_MS + 32_000);
}

#[test]
fn a_record_that_nobody_can_have_believed_does_not_hold_up_those_after_it() {
    let own = agent_key(1).address();
    let seq = |ahead| remembering(vec![row(1, 0, START_MS + ahead)]).store(0).highest_seen[&own].seq;
    assert_eq!(seq(30_000), START_MS + 30_001);
    assert!(seq(30_100) < START_MS + 1000, "it was made by a clock far ahead");
}

#[test]
fn a_revoked_key_of_our_own_does_not_write_to_us() {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Bootstrap, CONNECT, |setup| {
        setup.node_key = node_key(9);
        setup.binding = agent_key(1).bind(binding(1, LATER, &node_key(9))).unwrap();
    });
    mesh.say(0, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    assert_eq!(gossip(&mut mesh, 1, "jobs", frame(1, topic(), 1, |_| {})), Verdict::Ignore);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::FramesSuperseded), 1);
}

#[test]
fn a_store_that_fails_is_told_once_and_again_after_it_recovered() {
    let mut mesh = Mesh::new(1);
    let fail = |mesh: &mut Mesh| mesh.input(0, Input::StoreFailed { reason: "the disk is full".to_owned() });
    let told = |mesh: &Mesh| mesh.lines(0, "log").iter().filter(|line| line["namespace"] == "store").count();
    fail(&mut mesh);
    fail(&mut mesh);
    assert_eq!(told(&mesh), 1);
    mesh.input(0, Input::StoreRecovered);
    fail(&mut mesh);
    assert_eq!(told(&mesh), 2);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::StoreFailures), 3);
    assert!(mesh.nodes[0].exit.is_none());
}
