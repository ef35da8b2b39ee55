//! `cancel` of lookups and messages.

use std::time::Duration;

use serde_json::{Value, json};

use crate::mesh::{Mesh, agent_key};

/// Every line that belongs to a command, by `id` or `requestId`.
fn lines_of<'a>(mesh: &'a Mesh, id: &str) -> Vec<&'a Value> {
    mesh.nodes[0].lines.iter().filter(|line| line["id"] == id || line["requestId"] == id).collect()
}

fn cancel(mesh: &mut Mesh, target: &str) -> Value {
    mesh.command(0, &json!({"type": "cancel", "target": target, "id": "c"}).to_string());
    lines_of(mesh, "c").last().unwrap()["cancelled"].clone()
}

#[test]
fn cancelled_discover_is_answered_once() {
    let mut mesh = Mesh::new(1);
    mesh.command(0, r#"{"type":"discover","timeoutMs":60000,"id":"d"}"#);
    assert_eq!(cancel(&mut mesh, "other"), false);
    assert!(lines_of(&mesh, "d").is_empty());
    assert_eq!(cancel(&mut mesh, "d"), true);
    assert_eq!(cancel(&mut mesh, "d"), false);
    mesh.advance(Duration::from_secs(61));
    let lines = lines_of(&mesh, "d");
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["type"], &lines[0]["code"]), (&json!("error"), &json!("CANCELLED")));
    // The id of the cancelled command is free again.
    mesh.command(0, r#"{"type":"ping","id":"d"}"#);
    assert_eq!(lines_of(&mesh, "d")[1]["type"], "result");
}

#[test]
fn cancelled_message_fails_with_cancelled() {
    let mut mesh = Mesh::new(1);
    let unknown = agent_key(0x77).address().to_string();
    for id in ["m1", "m2"] {
        mesh.command(0, &json!({"type": "send", "peerId": unknown, "data": 1, "id": id}).to_string());
    }
    assert_eq!(cancel(&mut mesh, "m1"), true);
    let lines: Vec<_> = lines_of(&mesh, "m1").iter().map(|line| (*line).clone()).collect();
    assert_eq!((&lines[1]["type"], &lines[1]["state"]), (&json!("delivery"), &json!("failed")));
    assert_eq!((&lines[1]["code"], lines.len()), (&json!("CANCELLED"), 2));
    mesh.advance(Duration::from_secs(121));
    assert_eq!(lines_of(&mesh, "m1").len(), 2, "no further line about the cancelled message");
    assert_eq!(lines_of(&mesh, "m2")[1]["state"], "expired", "the other message is not cancelled");
    assert_eq!(cancel(&mut mesh, "m2"), false);
}

#[test]
fn message_after_cancelled_message_is_delivered() {
    let mut mesh = Mesh::new(2);
    let to = mesh.nodes[1].address.clone();
    for (data, id) in [(1, "a"), (2, "b"), (3, "c3")] {
        mesh.command(0, &json!({"type": "send", "peerId": to, "data": data, "id": id}).to_string());
    }
    assert_eq!(cancel(&mut mesh, "b"), true);
    mesh.connect(1, 0);
    mesh.advance(Duration::from_secs(5));
    assert_eq!(mesh.received(1), [1, 3]);
}

#[test]
fn cancelled_broadcast_without_subscribers_fails_with_cancelled() {
    let mut mesh = Mesh::new(1);
    mesh.command(0, r#"{"type":"send","topic":"t","data":1,"id":"b"}"#);
    assert_eq!(cancel(&mut mesh, "b"), true);
    mesh.advance(Duration::from_secs(11));
    let lines = lines_of(&mesh, "b");
    assert_eq!((&lines[1]["code"], lines.len()), (&json!("CANCELLED"), 2));
}
