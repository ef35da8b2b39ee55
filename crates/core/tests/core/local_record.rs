//! Announcement of a node's own record.

use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::record::kad_key;

use crate::mesh::{FaultDecision, Mesh, agent_key};

#[test]
fn record_not_stored_by_the_server_is_put_again() {
    let mut mesh = Mesh::new(1);
    // The server answers that it stored the record, but its crypto pool is full, so that it does
    // not.
    mesh.crypto = false;
    let quiet = mesh.add(2, Role::Full);
    mesh.connect(quiet, 0);
    mesh.advance(Duration::from_secs(2));
    assert!(mesh.lines(0, "peer_discovered").is_empty());
    mesh.crypto = true;
    mesh.advance(Duration::from_secs(60));
    assert_eq!(mesh.lines(0, "peer_discovered").len(), 1, "well before the next announcement");
    let stranger = mesh.add(3, Role::Full);
    mesh.connect(stranger, 0);
    mesh.send(stranger, quiet, 7, "");
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(quiet), [7]);
}

#[test]
fn record_that_no_server_returns_is_put_again_well_before_its_refresh() {
    let mut mesh = Mesh::new(1);
    // The server answers that it stored the record, and does not return it.
    mesh.faults = Box::new(|_, input| match input {
        Input::RecordFound { .. } => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    let quiet = mesh.add(2, Role::Full);
    mesh.connect(quiet, 0);
    mesh.advance(Duration::from_secs(60));
    let puts = mesh.nodes[quiet].core.stats().get(Counter::RecordsPublished);
    assert!(puts >= 3, "{puts} puts in a minute");
}

#[test]
fn server_that_lost_a_record_stores_the_same_bytes_again() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.advance(Duration::from_secs(2));
    let key = Bytes::copy_from_slice(&kad_key("dev", &agent_key(2).address()));
    let value = mesh.dht_mut().remove(&key).expect("the server stores it");
    let peer = mesh.nodes[1].peer;
    mesh.input(0, Input::RecordOffered { peer, key: key.clone(), value: value.clone() });
    assert_eq!(mesh.dht().get(&key), Some(&value));
    assert_eq!(mesh.lines(0, "peer_discovered").len(), 1, "the server knows the record already");
}

#[test]
fn peer_without_mail_subscription_is_disconnected_after_5_seconds() {
    let mut mesh = Mesh::new(2);
    mesh.faults = Box::new(|node, input| match input {
        Input::PeerSubscribed { .. } if node == 1 => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    mesh.connect(1, 0);
    mesh.advance(Duration::from_millis(4900));
    assert!(mesh.disconnect_requests.is_empty());
    mesh.advance(Duration::from_millis(200));
    assert_eq!(mesh.disconnect_requests, [(1, mesh.nodes[0].peer)]);
}
