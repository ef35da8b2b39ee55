//! Messages and gossip when the parent or the peers have no capacity.

use std::time::Duration;

use p2p_node_core::input::{Input, PeerReport, PublishOutcome};
use p2p_node_protocol::{Counter, Role};

use crate::mesh::{CONNECT, Mesh};

#[test]
fn ack_to_node_without_capacity_is_accepted() {
    let mut mesh = Mesh::new(4);
    let full = 3;
    let recipient = mesh.add_with(5, Role::Full, CONNECT, |config| config.manual_ack = true);
    for node in [1, 2, recipient] {
        mesh.connect(node, full);
    }
    mesh.send(full, recipient, 1, r#","ttlMs":600000"#);
    mesh.settle();
    // The parent of the full node does not read. The others send with high priority, so that the
    // reserve for high priority is used up too.
    mesh.nodes[full].reads = false;
    for node in [1, 2] {
        let sender = mesh.nodes[node].address.clone();
        mesh.command(full, &format!(r#"{{"type":"allow","peerId":"{sender}"}}"#));
        for data in 0..15_000 {
            mesh.send(node, full, data, r#","ttlMs":600000,"priority":"high""#);
        }
    }
    mesh.advance(Duration::from_secs(30));
    let stats = mesh.nodes[full].core.stats();
    assert!(stats.get(Counter::MailBusy) > 0, "the node has no capacity");
    assert_eq!(stats.get(Counter::MailDelivered), 0);
    let id = mesh.lines(recipient, "message")[0]["messageId"].as_str().unwrap().to_owned();
    mesh.command(recipient, &format!(r#"{{"type":"ack","messageId":"{id}"}}"#));
    mesh.advance(Duration::from_millis(100));
    assert_eq!(mesh.nodes[full].core.stats().get(Counter::MailDelivered), 1);
}

#[test]
fn high_priority_reserve_is_closed_to_demoted_messages() {
    let mut mesh = Mesh::new(6);
    let (full, voter, filler) = (3, 4, 5);
    for node in [1, 2, voter, filler] {
        mesh.connect(node, full);
    }
    for node in [voter, filler] {
        mesh.send(node, full, 0, "");
    }
    mesh.settle();
    mesh.nodes[full].reads = false;
    let high = r#","ttlMs":600000,"priority":"high""#;
    for data in 0..15_000 {
        for node in [1, 2] {
            mesh.send(node, full, data, high);
        }
    }
    mesh.advance(Duration::from_secs(30));
    // One by one, until not even a small message fits.
    let busy = |mesh: &Mesh| mesh.nodes[full].core.stats().get(Counter::MailBusy);
    for data in 0..3000 {
        if mesh.nodes[filler].core.stats().get(Counter::MailDeferred) > 0 {
            break;
        }
        mesh.send(filler, full, data, high);
        mesh.settle();
        mesh.advance(Duration::from_millis(3));
    }
    let before = busy(&mesh);
    assert!(mesh.nodes[filler].core.stats().get(Counter::MailDeferred) > 0, "the node has no capacity");
    mesh.send(voter, full, 1, high);
    mesh.settle();
    assert_eq!(busy(&mesh), before, "the reserve accepts a high message within the rate limit");
}

/// Sends thirty messages of 50 kB by gossip and returns how many arrive before any time passes.
fn received_at_once(mesh: &mut Mesh) -> usize {
    let (text, address) = ("x".repeat(50_000), mesh.nodes[2].address.clone());
    for _ in 0..30 {
        mesh.command(
            1,
            &format!(r#"{{"type":"send","peerId":"{address}","data":"{text}","route":"gossip"}}"#),
        );
    }
    mesh.settle();
    mesh.lines(2, "message").len()
}

fn pair() -> Mesh {
    let mut mesh = Mesh::new(3);
    for node in [1, 2] {
        mesh.connect(node, 0);
    }
    mesh.advance(Duration::from_secs(1));
    mesh
}

#[test]
fn gossip_pace_falls_while_peer_queues_are_full() {
    let mut free = pair();
    let at_once = received_at_once(&mut free);
    assert!((3..15).contains(&at_once), "{at_once} messages arrived");
    let mut full = pair();
    for token in 1..10 {
        full.input(1, Input::Published { token: u64::MAX - token, outcome: PublishOutcome::QueuesFull });
    }
    assert_eq!(received_at_once(&mut full), 1);
    let mut slow = pair();
    let peer = slow.nodes[0].peer;
    slow.input(1, Input::PeerReport { peer, report: PeerReport::Slow });
    assert!((1..at_once).contains(&received_at_once(&mut slow)), "half the pace");
    for mesh in [&mut free, &mut full, &mut slow] {
        mesh.advance(Duration::from_secs(10));
        assert_eq!(mesh.lines(2, "message").len(), 30);
    }
}

#[test]
fn slow_peer_is_disconnected_at_second_report() {
    let mut mesh = pair();
    let peer = mesh.nodes[0].peer;
    mesh.input(1, Input::PeerReport { peer, report: PeerReport::Slow });
    mesh.settle();
    assert!(!mesh.disconnect_requests.contains(&(1, peer)));
    mesh.input(1, Input::PeerReport { peer, report: PeerReport::Slow });
    mesh.settle();
    assert!(mesh.disconnect_requests.contains(&(1, peer)));
}
