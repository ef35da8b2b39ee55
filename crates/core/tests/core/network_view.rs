//! The network view: what an observer knows of nodes by their statuses.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{self, Batch, Payload, Scope};
use serde_json::{Value, json};

use crate::forged::frame;
use crate::mesh::{CONNECT, Mesh, node_key};
use crate::reports::report;

/// Longer than the first period of `node-status` with its jitter.
const ROUND: Duration = Duration::from_secs(130);

/// Returns a server, an observer that is connected to it and to two nodes, which are connected to each
/// other; and the index of the observer.
fn observed() -> (Mesh, usize) {
    let mut mesh = Mesh::new(3);
    let observer = mesh.add_with(9, Role::Full, CONNECT, |config| config.observes = true);
    for (one, other) in [(observer, 0), (observer, 1), (observer, 2), (1, 2)] {
        mesh.connect(one, other);
    }
    mesh.advance(ROUND);
    (mesh, observer)
}

fn statuses(mesh: &Mesh, node: usize) -> usize {
    mesh.nodes[node].core.usage().iter().find(|usage| usage.name == "statuses of nodes").unwrap().size
}

fn shown<'a>(report: &'a Value, peer: &str) -> &'a Value {
    report["topology"]["nodes"].as_array().unwrap().iter().find(|node| node["peerId"] == peer).unwrap()
}

/// Lets node `number` publish this status, with a frame of this counter.
fn publish(mesh: &mut Mesh, observer: usize, number: u8, counter: u64, status: &str) {
    let message = envelope::Message {
        stream: Bytes::from_static(&[7; 16]),
        seq: counter,
        kind: "status".to_owned(),
        priority: envelope::Priority::Low.into(),
        data: Bytes::copy_from_slice(status.as_bytes()),
        ..envelope::Message::default()
    };
    let created_at_ms = mesh.clock().unix_ms;
    let data = frame(number, Scope::Topic("node-status".to_owned()), counter, |body| {
        body.created_at_ms = created_at_ms;
        body.payload = Some(Payload::Plain(Batch { messages: vec![message], acks: Vec::new() }));
    });
    let (token, from) = (6_000_000 + counter, mesh.nodes[0].peer);
    mesh.input(observer, Input::Gossip { token, from, topic: "node-status".to_owned(), data });
    mesh.settle();
}

#[test]
fn observer_learns_statuses_and_connections_of_others_and_nobody_else_keeps_them() {
    let (mut mesh, observer) = observed();
    assert_eq!(statuses(&mesh, observer), 3);
    assert_eq!([0, 1, 2].map(|node| statuses(&mesh, node)), [0; 3]);
    let (one, two) = (mesh.nodes[1].peer.to_string(), mesh.nodes[2].peer.to_string());
    let report = report(&mut mesh, observer);
    let node = shown(&report, &one);
    assert_eq!([&node["version"], &node["name"]], ["test", "node 2"]);
    assert!(node["peers"].as_u64().unwrap() >= 2, "the server or not, the observer and the other node");
    assert!(node["healthScore"].as_f64().unwrap() > 0.0 && node["uptimeMs"].as_u64().unwrap() > 0);
    let edges = report["topology"]["edges"].as_array().unwrap();
    let ends: Vec<_> = edges.iter().map(|edge| [edge["source"].as_str(), edge["target"].as_str()]).collect();
    assert_eq!(ends.iter().collect::<BTreeSet<_>>().len(), edges.len(), "each connection once: {ends:?}");
    assert!(ends.contains(&[Some(&one), Some(&two)]) || ends.contains(&[Some(&two), Some(&one)]));
    assert_eq!(report["distribution"]["byVersion"]["test"], 4);
    assert!(mesh.lines(observer, "message").is_empty(), "the parent did not subscribe");
}

#[test]
fn lying_status_changes_the_row_of_its_author_alone() {
    let (mut mesh, observer) = observed();
    let before = report(&mut mesh, observer);
    let liar = node_key(77).peer_id().to_string();
    let victim = mesh.nodes[1].peer.to_string();
    let stranger = node_key(78).peer_id().to_string();
    let lie = json!({
        "v": 1, "name": "liar", "role": "bootstrap", "version": "9", "uptimeMs": 1, "peers": 999, "health": 1,
        "sent": 1, "received": 1, "delivered": 1, "dropped": 1, "peerId": victim,
        "connected": [victim, mesh.nodes[observer].peer.to_string(), stranger],
    });
    publish(&mut mesh, observer, 77, 1, &lie.to_string());
    let after = report(&mut mesh, observer);
    // The liar is one active node more, which is all that it can do to the score of this node.
    let others =
        before["topology"]["nodes"].as_array().unwrap().iter().filter(|node| node["isSelf"] == false);
    for node in others {
        let peer = node["peerId"].as_str().unwrap();
        for field in ["name", "role", "version", "peers", "healthScore", "reputation", "isConnected"] {
            assert_eq!(shown(&after, peer)[field], node[field], "{peer} {field}");
        }
    }
    let row = shown(&after, &liar);
    assert_eq!(
        [&row["name"], &row["peers"], &row["binding"]],
        [&json!("liar"), &json!(999), &json!("unproven")]
    );
    let edges = |report: &Value| report["topology"]["edges"].as_array().unwrap().len();
    assert_eq!(edges(&after), edges(&before) + 1, "it draws no edge to this node or to nobody");
    assert!(!after.to_string().contains(&stranger));
}

#[test]
fn malformed_status_is_counted_and_not_shown() {
    let (mut mesh, observer) = observed();
    let count = |mesh: &Mesh, counter| mesh.nodes[observer].core.stats().get(counter);
    publish(&mut mesh, observer, 77, 1, r#"{"v":1,"name":"\u001b[2J"}"#);
    publish(&mut mesh, observer, 77, 2, r#"{"v":2}"#);
    assert_eq!(count(&mesh, Counter::StatusesRefused), 1);
    assert_eq!(count(&mesh, Counter::StatusesOfLaterVersions), 1);
    assert_eq!(statuses(&mesh, observer), 3);
}

#[test]
fn view_is_kept_while_the_parent_subscribes() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.command(1, r#"{"type":"subscribe","topic":"node-status"}"#);
    mesh.advance(ROUND);
    assert_eq!(statuses(&mesh, 1), 1);
    mesh.command(1, r#"{"type":"unsubscribe","topic":"node-status"}"#);
    assert_eq!(statuses(&mesh, 1), 0);
}

#[test]
fn node_that_falls_silent_leaves_the_view_after_an_hour() {
    let (mut mesh, observer) = observed();
    let gone = mesh.nodes[2].peer.to_string();
    mesh.kill(2);
    mesh.advance(Duration::from_secs(6 * 60));
    assert_eq!(shown(&report(&mut mesh, observer), &gone)["isActive"], false);
    mesh.advance(Duration::from_secs(60 * 60));
    let report = report(&mut mesh, observer);
    assert_eq!(report["topology"]["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(report["metrics"]["activePeers"], 2, "the others are active by their connections");
}

#[test]
fn status_line_tells_peers_latency_and_health_every_30_seconds() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.advance(Duration::from_secs(95));
    let lines = mesh.lines(1, "log");
    let lines: Vec<_> = lines.iter().filter(|line| line["namespace"] == "status").collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["level"], "info");
    assert_eq!(lines[0]["message"], "1 connected of 1 known peers, no latency yet, health 55 of 100");
}
