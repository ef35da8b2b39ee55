//! The connection manager: a node with too many connections trims them, and all nodes settle.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_core::CoreConfig;
use p2p_node_core::input::Input;
use p2p_node_core::peers::limits::ConnectionLimits;
use p2p_node_protocol::{Counter, Role};
use serde_json::Value;

use crate::acks::{ack, message_id};
use crate::forged::admit_unknown;
use crate::mesh::{CONNECT, FaultDecision, Mesh, node_key};

const LOW: usize = 4;
const HIGH: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// Adds a node with low watermarks.
fn add(mesh: &mut Mesh, number: u8) -> usize {
    add_with(mesh, number, |_| {})
}

fn add_with(mesh: &mut Mesh, number: u8, configure: impl FnOnce(&mut CoreConfig)) -> usize {
    mesh.add_with(number, Role::Full, CONNECT, |config| {
        configure(config);
        let watermarks = ConnectionLimits { high_watermark: HIGH, low_watermark: LOW, ..config.connections };
        config.connections = ConnectionLimits { target: LOW, min: LOW / 2, ..watermarks };
    })
}

/// Connects a fake peer to node 0, completes its admission, and lets it subscribe to a topic.
fn admit_fake(mesh: &mut Mesh, number: u8) -> PeerId {
    let peer = admit_unknown(mesh, 0, number);
    mesh.input(0, Input::PeerSubscribed { peer, topic: "fakes".to_owned() });
    peer
}

/// Connects fake peers to node 0.
fn connect_fakes(mesh: &mut Mesh, numbers: std::ops::Range<u8>) -> Vec<PeerId> {
    numbers.map(|number| admit_fake(mesh, number)).collect()
}

/// Returns the peers that node 0 wants to disconnect since the last call.
fn close_requested(mesh: &mut Mesh) -> Vec<PeerId> {
    mesh.disconnect_requests.drain(..).map(|(_, peer)| peer).collect()
}

fn trimmed(mesh: &Mesh, node: usize) -> u64 {
    mesh.nodes[node].core.stats().get(Counter::ConnectionsTrimmed)
}

/// Returns the connected peers of a node, as `peers` lists them.
fn listed(mesh: &mut Mesh, node: usize) -> Vec<Value> {
    mesh.command(node, r#"{"type":"peers","id":"peers"}"#);
    let results = mesh.lines(node, "result");
    let last = results.into_iter().rfind(|line| line["command"] == "peers").unwrap();
    last["connected"].as_array().unwrap().clone()
}

#[test]
fn connections_of_a_node_settle_between_the_watermarks_when_many_peers_connect() {
    let mut mesh = Mesh::new(0);
    add(&mut mesh, 1);
    connect_fakes(&mut mesh, 100..140);
    mesh.advance(Duration::from_secs(29));
    assert_eq!(mesh.disconnect_requests, [], "young connections stay");
    let mut connected = 40;
    for _ in 0..30 {
        mesh.advance(Duration::from_secs(10));
        for peer in close_requested(&mut mesh) {
            connected -= 1;
            mesh.input(0, Input::Disconnected { peer, reason: None });
        }
    }
    assert_eq!(connected, LOW);
    assert_eq!(trimmed(&mesh, 0), 40 - LOW as u64);
    assert_eq!(listed(&mut mesh, 0).len(), LOW);
    let ended = mesh.lines(0, "peer_disconnected");
    assert!(ended.iter().all(|line| line["reason"].as_str().unwrap().starts_with("trimmed: ")));
}

#[test]
fn peers_that_return_again_and_again_are_trimmed_without_grace() {
    let mut mesh = Mesh::new(0);
    add(&mut mesh, 1);
    connect_fakes(&mut mesh, 100..110);
    mesh.advance(Duration::from_secs(35));
    let first = close_requested(&mut mesh);
    assert_eq!(first.len(), 2, "a quarter of those above the low watermark");
    for peer in &first {
        mesh.input(0, Input::Disconnected { peer: *peer, reason: None });
        let number = (100..110).find(|number| node_key(*number).peer_id() == *peer).unwrap();
        admit_fake(&mut mesh, number);
    }
    mesh.advance(Duration::from_secs(10));
    let second: BTreeSet<PeerId> = close_requested(&mut mesh).into_iter().collect();
    assert_eq!(second, first.into_iter().collect(), "the connections that stayed are worth more");
}

#[test]
fn peer_to_which_mail_waits_stays() {
    let mut mesh = Mesh::new(0);
    add(&mut mesh, 1);
    add(&mut mesh, 2);
    mesh.connect(0, 1);
    mesh.advance(Duration::from_secs(1));
    // The message does not arrive, so it stays in the outbox.
    mesh.faults = Box::new(|node, input| match input {
        Input::MailRequestReceived { .. } if node == 1 => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    mesh.send(0, 1, 1, r#","ttlMs":600000,"route":"direct""#);
    connect_fakes(&mut mesh, 100..110);
    mesh.advance(MINUTE);
    let recipient = mesh.nodes[1].peer;
    let kept = listed(&mut mesh, 0).into_iter().find(|peer| peer["peerId"] == recipient.to_string()).unwrap();
    assert!(kept["keptFor"].as_array().unwrap().contains(&"mail".into()), "{kept}");
    assert!(trimmed(&mesh, 0) > 0);
    assert!(!mesh.disconnect_requests.iter().any(|(node, peer)| (*node, *peer) == (0, recipient)));
}

#[test]
fn peer_whose_mail_waits_for_an_acknowledgement_stays() {
    let mut mesh = Mesh::new(0);
    add_with(&mut mesh, 1, |config| config.manual_ack = true);
    add(&mut mesh, 2);
    mesh.connect(0, 1);
    mesh.advance(Duration::from_secs(1));
    mesh.send(1, 0, 1, "");
    mesh.advance(Duration::from_secs(1));
    let received = message_id(&mesh, 0, 1);
    connect_fakes(&mut mesh, 100..110);
    mesh.advance(MINUTE);
    let sender = mesh.nodes[1].peer;
    let kept_for_mail = |mesh: &mut Mesh| {
        let kept = listed(mesh, 0).into_iter().find(|peer| peer["peerId"] == sender.to_string()).unwrap();
        kept["keptFor"].as_array().unwrap().contains(&"mail".into())
    };
    assert!(kept_for_mail(&mut mesh));
    assert!(trimmed(&mesh, 0) > 0);
    assert!(!mesh.disconnect_requests.iter().any(|(node, peer)| (*node, *peer) == (0, sender)));
    ack(&mut mesh, 0, &received);
    mesh.advance(Duration::from_secs(1));
    assert!(!kept_for_mail(&mut mesh), "the message is acknowledged");
}

#[test]
fn network_of_nodes_that_all_trim_settles_and_mail_flows() {
    let nodes: usize = 12;
    let mut mesh = Mesh::new(0);
    mesh.obeys_disconnects = true;
    for number in 0..nodes {
        add(&mut mesh, number as u8 + 1);
    }
    for one in 0..nodes {
        (0..one).for_each(|other| mesh.connect(one, other));
    }
    assert_eq!(listed(&mut mesh, 0).len(), nodes - 1);
    mesh.advance(5 * MINUTE);
    let trims = |mesh: &Mesh| (0..nodes).map(|node| trimmed(mesh, node)).sum::<u64>();
    let settled = trims(&mesh);
    for node in 0..nodes {
        let connected = listed(&mut mesh, node).len();
        assert!((1..=HIGH).contains(&connected), "node {node} has {connected} connections");
    }
    mesh.advance(10 * MINUTE);
    assert_eq!(trims(&mesh), settled, "the network is at rest");
    for from in 0..nodes {
        let to = (from + 5) % nodes;
        mesh.send(from, to, from as u64, "");
        mesh.advance(Duration::from_secs(1));
        assert_eq!(mesh.received(to), [from as u64]);
    }
}
