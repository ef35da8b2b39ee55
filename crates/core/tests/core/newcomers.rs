//! Mail to a PeerId whose record is not known yet.

use std::time::Duration;

use serde_json::Value;

use crate::mesh::Mesh;

/// `maxPauseMs`: the longest time for which a `send` waits for a record.
const MAX_PAUSE: Duration = Duration::from_secs(2);

fn send_to_peer(mesh: &mut Mesh, from: usize, to: usize, data: u64, more: &str) {
    let peer = mesh.nodes[to].peer;
    mesh.command(from, &format!(r#"{{"type":"send","id":"s{data}","peerId":"{peer}","data":{data}{more}}}"#));
}

/// Returns the ids of the accepted `send` commands.
fn sends(mesh: &Mesh, node: usize) -> Vec<&Value> {
    let results = mesh.lines(node, "result").into_iter();
    results.filter(|line| line["command"] == "send").map(|line| &line["id"]).collect()
}

fn error_codes(mesh: &Mesh, node: usize) -> Vec<&Value> {
    mesh.lines(node, "error").into_iter().map(|line| &line["code"]).collect()
}

#[test]
fn mail_to_peer_id_waits_for_the_record_and_keeps_its_order() {
    let mut mesh = Mesh::new(3);
    for data in 1..=3 {
        send_to_peer(&mut mesh, 1, 2, data, "");
    }
    mesh.settle();
    assert!(mesh.received(2).is_empty() && sends(&mesh, 1).is_empty());
    mesh.connect(1, 2);
    send_to_peer(&mut mesh, 1, 2, 4, "");
    mesh.settle();
    mesh.advance(Duration::from_millis(10));
    assert_eq!(mesh.received(2), [1, 2, 3, 4]);
    assert_eq!(sends(&mesh, 1), ["s1", "s2", "s3", "s4"]);
    assert!(error_codes(&mesh, 1).is_empty());
}

#[test]
fn mail_to_peer_id_without_record_is_refused_after_the_pause_or_its_ttl() {
    let mut mesh = Mesh::new(3);
    send_to_peer(&mut mesh, 1, 2, 1, "");
    send_to_peer(&mut mesh, 1, 2, 2, r#","priority":"high","ttlMs":500"#);
    mesh.advance(Duration::from_millis(499));
    assert!(error_codes(&mesh, 1).is_empty());
    mesh.advance(Duration::from_millis(1));
    assert_eq!(error_codes(&mesh, 1), ["PEER_NOT_FOUND"]);
    mesh.advance(MAX_PAUSE - Duration::from_millis(501));
    assert_eq!(error_codes(&mesh, 1).len(), 1);
    mesh.advance(Duration::from_millis(1));
    assert_eq!(error_codes(&mesh, 1), ["PEER_NOT_FOUND", "PEER_NOT_FOUND"]);
}

#[test]
fn node_that_closes_waits_for_a_record_no_longer_than_otherwise() {
    let mut mesh = Mesh::new(2);
    let nobody = crate::mesh::node_key(9).peer_id();
    mesh.command(1, &format!(r#"{{"type":"send","id":"s","peerId":"{nobody}","data":1}}"#));
    mesh.command(1, r#"{"type":"shutdown","id":"end"}"#);
    mesh.advance(MAX_PAUSE - Duration::from_millis(1));
    assert!(error_codes(&mesh, 1).is_empty() && mesh.nodes[1].exit.is_none());
    mesh.advance(Duration::from_millis(1));
    assert_eq!(error_codes(&mesh, 1), ["PEER_NOT_FOUND"]);
    mesh.advance(Duration::from_millis(300));
    assert!(mesh.nodes[1].exit.is_some(), "the drain ends with the last `send`");
}
