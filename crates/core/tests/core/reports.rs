//! The command `report`: its counts equal what happened, and its line is never too long.

use std::time::Duration;

use p2p_node_core::input::Input;
use p2p_node_core::peers::links::PeerReport;
use p2p_node_core::report::nodes::MIN_KNOWN;
use p2p_node_protocol::Role;
use serde_json::Value;

use crate::mesh::{CONNECT, Mesh};

/// Returns the answer of a node to `report`.
pub fn report(mesh: &mut Mesh, node: usize) -> Value {
    mesh.command(node, r#"{"type":"report","id":"report"}"#);
    let line = mesh.nodes[node].lines.iter().rfind(|line| line["id"] == "report").unwrap();
    line["report"].clone()
}

#[test]
fn report_counts_what_was_sent_received_and_delivered() {
    let mut mesh = Mesh::new(3);
    for (one, other) in [(1, 0), (2, 0), (1, 2)] {
        mesh.connect(one, other);
    }
    mesh.command(2, r#"{"type":"subscribe","topic":"news"}"#);
    mesh.settle();
    for (data, priority) in [(1, "high"), (2, "medium"), (3, "medium"), (4, "low")] {
        mesh.send(1, 2, data, &format!(r#","priority":"{priority}""#));
    }
    mesh.command(1, r#"{"type":"send","topic":"news","data":5}"#);
    mesh.advance(Duration::from_secs(1));
    let (sender, recipient) = (report(&mut mesh, 1), report(&mut mesh, 2));
    assert_eq!(
        [&sender["messages"]["sent"], &sender["messages"]["delivered"], &sender["messages"]["dropped"]],
        [5, 4, 0]
    );
    assert_eq!(sender["messages"]["byPriority"]["medium"]["sent"], 3, "the broadcast counts");
    assert_eq!(sender["messages"]["byPriority"]["high"]["delivered"], 1);
    assert_eq!(sender["latency"]["ackMs"]["count"], 4);
    assert_eq!(recipient["messages"]["received"], 5);
    assert_eq!(recipient["messages"]["byPriority"]["low"]["received"], 1);
    for report in [&sender, &recipient] {
        assert!((report["metrics"]["messageRate"].as_f64().unwrap() - 5.0 / 60.0).abs() < 1e-9);
    }
    assert!(sender["bandwidth"]["mail"]["outBytes"].as_u64() > Some(0));
    assert!(recipient["bandwidth"]["gossip"]["inBytes"].as_u64() > Some(0));
    mesh.advance(Duration::from_secs(61));
    assert_eq!(report(&mut mesh, 1)["metrics"]["messageRate"], 0.0);
}

#[test]
fn report_shows_self_connected_nodes_and_why_the_score_is_low() {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(1, 2);
    let (peer, round_trip) = (mesh.nodes[0].peer, Duration::from_millis(3000));
    mesh.input(1, Input::PeerReport { peer, report: PeerReport::RoundTrip(round_trip) });
    mesh.settle();
    let report = report(&mut mesh, 1);
    let nodes = report["topology"]["nodes"].as_array().unwrap();
    assert_eq!((nodes.len(), &report["topology"]["complete"]), (3, &Value::Bool(true)));
    assert_eq!(nodes[0]["peerId"], mesh.nodes[1].peer.to_string());
    assert_eq!((&nodes[0]["isSelf"], &nodes[0]["version"]), (&Value::Bool(true), &Value::from("test")));
    for node in &nodes[1..] {
        assert_eq!([&node["isConnected"], &node["isActive"], &node["isSelf"]], [true, true, false]);
        assert_eq!(node["binding"], "proven");
    }
    assert_eq!(report["topology"]["edges"].as_array().unwrap().len(), 2);
    let metrics = &report["metrics"];
    assert_eq!([&metrics["totalPeers"], &metrics["activePeers"]], [2, 2]);
    assert_eq!(
        [&metrics["latencyMs"], &metrics["consensusParticipation"]],
        [&Value::from(3000.0), &Value::Null]
    );
    let causes: Vec<&str> =
        metrics["causes"].as_array().unwrap().iter().map(|cause| cause["cause"].as_str().unwrap()).collect();
    assert_eq!(causes, ["few_peers", "high_latency"]);
    assert_eq!(metrics["healthScore"], 100.0 - 40.0 - 20.0);
    assert_eq!(mesh.nodes[1].core.snapshot().health_score, 40.0);
    assert_eq!(report["latency"]["pingMs"]["count"], 1);
}

#[test]
fn node_that_leaves_is_inactive_after_5_minutes_and_gone_after_an_hour() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.settle();
    assert_eq!(report(&mut mesh, 1)["metrics"]["activePeers"], 1);
    mesh.kill(0);
    mesh.advance(Duration::from_secs(6 * 60));
    let then = report(&mut mesh, 1);
    assert_eq!([&then["metrics"]["activePeers"], &then["metrics"]["totalPeers"]], [0, 1]);
    let node = &then["topology"]["nodes"][1];
    assert_eq!([&node["isConnected"], &node["isActive"]], [false, false]);
    mesh.advance(Duration::from_secs(60 * 60));
    assert_eq!(report(&mut mesh, 1)["metrics"]["totalPeers"], 0);
}

#[test]
fn node_leaves_a_report_after_the_configured_time() {
    let mut mesh = Mesh::new(1);
    let short = mesh.add_with(9, Role::Full, CONNECT, |config| config.forget_nodes_after = MIN_KNOWN);
    mesh.connect(short, 0);
    mesh.settle();
    mesh.kill(0);
    mesh.advance(MIN_KNOWN - Duration::from_secs(1));
    assert_eq!(report(&mut mesh, short)["metrics"]["totalPeers"], 1);
    mesh.advance(Duration::from_secs(2));
    assert_eq!(report(&mut mesh, short)["metrics"]["totalPeers"], 0);
}

#[test]
fn participation_counts_the_active_nodes_with_the_capability_consensus() {
    let mut mesh = Mesh::new(4);
    for (node, capability) in [(0, "consensus"), (2, "other")] {
        mesh.command(node, &format!(r#"{{"type":"capabilities","capabilities":["{capability}"]}}"#));
    }
    for peer in [0, 2, 3] {
        mesh.connect(1, peer);
    }
    mesh.advance(Duration::from_secs(30));
    let metrics = &report(&mut mesh, 1)["metrics"];
    assert!((metrics["consensusParticipation"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9);
    let participation =
        metrics["causes"].as_array().unwrap().iter().find(|one| one["cause"] == "low_participation");
    assert!((participation.unwrap()["penalty"].as_f64().unwrap() - 40.0 / 6.0).abs() < 1e-9);
}

#[test]
fn report_fits_into_the_line_of_the_parent_and_says_that_it_is_incomplete() {
    let mut mesh = Mesh::new(12);
    let connect = CONNECT.replace("}", r#","maxLineBytes":4096}"#);
    let small = mesh.add_with(99, Role::Full, &connect, |_| {});
    for peer in 0..12 {
        mesh.connect(small, peer);
    }
    for topic in 0..40 {
        mesh.command(
            small,
            &format!(r#"{{"type":"subscribe","topic":"{topic}-{}"}}"#, "\u{2028}".repeat(40)),
        );
    }
    mesh.settle();
    let report = report(&mut mesh, small);
    assert_eq!(report["topology"]["complete"], false);
    assert!(mesh.nodes[small].longest_line <= 4096);
    assert_eq!(report["metrics"]["totalPeers"], 12, "the metrics count every node");
}
