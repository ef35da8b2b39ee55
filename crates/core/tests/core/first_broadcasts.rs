//! Broadcasts that are sent before the known subscribers are connected.

use std::time::Duration;

use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use serde_json::json;

use crate::mesh::{FaultDecision, Mesh};

/// Returns a mesh of a server, two subscribers, and a publisher (index 3). The publisher knows both
/// subscribers, is connected to the first, and has not dialled the second.
fn fixture() -> Mesh {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    for subscriber in [1, 2] {
        mesh.command(subscriber, r#"{"type":"subscribe","topic":"t"}"#);
    }
    mesh.advance(Duration::from_secs(5));
    let publisher = mesh.add(9, Role::Full);
    mesh.connect(publisher, 0);
    mesh.connect(publisher, 1);
    let other = json!({"type": "discover", "address": mesh.nodes[2].address, "id": "d"});
    mesh.command(publisher, &other.to_string());
    assert_eq!(mesh.lines(publisher, "result").last().unwrap()["count"], 1);
    mesh
}

fn publish(mesh: &mut Mesh, data: u64) {
    mesh.command(3, &json!({"type": "send", "topic": "t", "data": data, "id": data}).to_string());
}

#[test]
fn broadcast_right_after_subscribe_reaches_every_known_subscriber() {
    let mut mesh = fixture();
    // Otherwise the first subscriber forwards the broadcast to the second.
    mesh.partition(1, 2);
    mesh.command(3, r#"{"type":"subscribe","topic":"t"}"#);
    publish(&mut mesh, 1);
    assert_eq!(mesh.lines(3, "result").last().unwrap()["peers"], 1);
    mesh.advance(Duration::from_millis(500));
    assert_eq!((mesh.received(1), mesh.received(2)), (vec![1], vec![1]));
}

#[test]
fn unreachable_subscriber_delays_only_the_first_broadcasts_by_one_second() {
    let mut mesh = fixture();
    mesh.partition(2, 3);
    mesh.faults = Box::new(|node, input| match input {
        Input::DialFailed { .. } if node == 3 => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    publish(&mut mesh, 1);
    mesh.advance(Duration::from_millis(900));
    assert!(mesh.received(1).is_empty());
    mesh.advance(Duration::from_millis(200));
    assert_eq!(mesh.received(1), [1]);
    publish(&mut mesh, 2);
    mesh.advance(Duration::from_millis(60));
    assert_eq!(mesh.received(1), [1, 2]);
}
