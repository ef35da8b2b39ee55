//! Networks with more agents than a node follows by announcements, and servers that start anew.

use std::time::Duration;

use multiaddr::Multiaddr;
use p2p_node_core::gossip::announcements::MAX_FOLLOWED_AGENTS;
use p2p_node_protocol::{Counter, Role};
use serde_json::json;

use crate::mesh::{CONNECT, Mesh, agent_key, binding, node_key};

/// Time after which an agent announces itself again to those that the first announcement did not reach:
/// gossipsub passes the same bytes on again after 2 minutes, and 5 s are the margin of the node.
const ANNOUNCED_AGAIN: Duration = Duration::from_secs(125);

/// A bootstrap node, and this number of agents that join by it one after the other.
fn network(agents: u8) -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add(1, Role::Bootstrap);
    for number in 0..agents {
        join(&mut mesh, 2 + number);
        mesh.advance(Duration::from_millis(100));
    }
    mesh.advance(Duration::from_secs(30));
    mesh
}

/// Adds an agent whose only bootstrap peer is node 1.
fn join(mesh: &mut Mesh, number: u8) -> usize {
    let addr: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let bootstrap = (node_key(1).peer_id(), addr);
    mesh.add_with(number, Role::Full, CONNECT, |config| config.bootstraps = vec![bootstrap])
}

fn accepted_records(mesh: &Mesh, node: usize) -> u64 {
    mesh.nodes[node].core.stats().get(Counter::RecordsAccepted)
}

#[test]
fn in_a_small_network_every_node_knows_every_agent() {
    let agents = 20;
    let mut mesh = network(agents);
    let known = |mesh: &Mesh| -> usize {
        (1..=usize::from(agents)).map(|node| mesh.lines(node, "peer_discovered").len()).sum()
    };
    let all = usize::from(agents).pow(2);
    assert!(known(&mesh) > all * 3 / 4, "{} by the first announcements", known(&mesh));
    mesh.advance(ANNOUNCED_AGAIN);
    for node in 1..=usize::from(agents) {
        assert_eq!(mesh.lines(node, "peer_discovered").len(), usize::from(agents), "{node}");
    }
}

#[test]
fn records_that_a_node_checks_do_not_grow_with_the_network() {
    for agents in [60, 120] {
        let mut mesh = network(agents);
        let most = (1..=usize::from(agents)).map(|node| accepted_records(&mesh, node)).max().unwrap();
        // Those up to the limit, some more by connections, and two samples.
        assert!(most <= 3 * MAX_FOLLOWED_AGENTS as u64, "{most} of {agents}");
        let last = usize::from(agents);
        mesh.send(last, 1, 7, "");
        mesh.advance(Duration::from_secs(2));
        assert_eq!(mesh.received(1), [7], "an agent that the sender has to look up");
        mesh.command(last, r#"{"type":"discover","id":"all"}"#);
        mesh.advance(Duration::from_secs(3));
        let result = mesh.lines(last, "result").into_iter().find(|line| line["id"] == "all").unwrap();
        assert_eq!((&result["count"], &result["complete"]), (&json!(agents), &json!(true)));
    }
}

#[test]
fn subscribers_of_a_topic_meet_in_a_large_network() {
    let mut mesh = network(60);
    for node in [5, 55] {
        mesh.command(node, r#"{"type":"subscribe","topic":"rare"}"#);
    }
    // The record follows the subscription after 2 s, and the question again after some seconds.
    mesh.advance(Duration::from_secs(20));
    mesh.command(5, r#"{"type":"send","topic":"rare","data":9}"#);
    mesh.advance(Duration::from_secs(2));
    assert_eq!(mesh.received(55), [9]);
}

#[test]
fn status_reaches_an_observer_and_no_other_agent() {
    let mut mesh = network(4);
    mesh.command(1, r#"{"type":"subscribe","topic":"node-status"}"#);
    mesh.advance(Duration::from_secs(150));
    let statuses = |node: usize| {
        mesh.lines(node, "message").iter().filter(|line| line["topic"] == "node-status").count()
    };
    assert!(statuses(1) >= 3, "{}", statuses(1));
    assert_eq!(statuses(2), 0);
}

#[test]
fn agents_are_found_again_30_seconds_after_a_server_returns_without_tables() {
    let agents = 6;
    let mut mesh = network(agents);
    mesh.kill(0);
    // Long enough for the longest pause between two dials.
    mesh.advance(Duration::from_secs(600));
    mesh.add(1, Role::Bootstrap);
    mesh.advance(Duration::from_secs(30));
    for agent in 1..=usize::from(agents) {
        mesh.record_in_dht(agent);
    }
}

#[test]
fn revoked_key_is_refused_in_a_large_network_after_its_first_mail() {
    let mut mesh = network(60);
    let addr: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let bootstrap = (node_key(1).peer_id(), addr);
    // Agent 3 runs on node 1 of the mesh. Its new node revokes the key of that node.
    let old = 2;
    mesh.add_with(203, Role::Full, CONNECT, |config| {
        config.agent = Some(agent_key(3));
        config.binding = agent_key(3).bind(binding(3, 1, &node_key(203))).unwrap();
        config.bootstraps = vec![bootstrap];
    });
    mesh.advance(Duration::from_secs(10));
    let recipient = 58;
    for data in 0..2 {
        mesh.send(old, recipient, data, r#","route":"direct""#);
        mesh.advance(Duration::from_secs(5));
    }
    assert!(!mesh.received(recipient).contains(&1), "{:?}", mesh.received(recipient));
}

#[test]
fn discover_among_nodes_that_know_some_agents_only_is_incomplete() {
    let mut mesh = network(60);
    mesh.kill(0);
    mesh.advance(Duration::from_secs(60));
    mesh.command(9, r#"{"type":"discover","timeoutMs":1000,"id":"some"}"#);
    mesh.advance(Duration::from_secs(2));
    let result = mesh.lines(9, "result").into_iter().find(|line| line["id"] == "some").unwrap();
    assert!(result["count"].as_u64() > Some(MAX_FOLLOWED_AGENTS as u64), "{result}");
    assert_eq!(result["complete"], false);
}
