//! `cancel` of lookups and messages.

use std::time::Duration;

use serde_json::{Value, json};

use crate::mesh::{Mesh, agent_key};

/// Every line that belongs to a command, by `id` or `requestId`.
fn lines_of<'a>(mesh: &'a Mesh, id: &str) -> Vec<&'a Value> {
    mesh.nodes[0].lines.iter().filter(|line| line["id"] == id || line["requestId"] == id).collect()
}

fn cancel(mesh: &mut Mesh, target: &str) -> Value {
    mesh.say(0, &json!({"type": "cancel", "target": target, "id": "c"}).to_string());
    lines_of(mesh, "c").last().unwrap()["cancelled"].clone()
}

#[test]
fn a_search_is_given_up_once_and_answered_once() {
    let mut mesh = Mesh::new(1);
    mesh.say(0, r#"{"type":"discover","timeoutMs":60000,"id":"d"}"#);
    assert_eq!(cancel(&mut mesh, "other"), false);
    assert!(lines_of(&mesh, "d").is_empty());
    assert_eq!(cancel(&mut mesh, "d"), true);
    assert_eq!(cancel(&mut mesh, "d"), false);
    mesh.pass(Duration::from_secs(61));
    let ended = lines_of(&mesh, "d");
    assert_eq!(ended.len(), 1);
    assert_eq!((&ended[0]["type"], &ended[0]["code"]), (&json!("error"), &json!("CANCELLED")));
    // Its id is free again.
    mesh.say(0, r#"{"type":"ping","id":"d"}"#);
    assert_eq!(lines_of(&mesh, "d")[1]["type"], "result");
}

#[test]
fn mail_that_is_not_delivered_yet_is_given_up_and_told() {
    let mut mesh = Mesh::new(1);
    let nobody = agent_key(0x77).address().to_string();
    for id in ["m1", "m2"] {
        mesh.say(0, &json!({"type": "send", "peerId": nobody, "data": 1, "id": id}).to_string());
    }
    assert_eq!(cancel(&mut mesh, "m1"), true);
    let ended: Vec<_> = lines_of(&mesh, "m1").iter().map(|line| (*line).clone()).collect();
    assert_eq!((&ended[1]["type"], &ended[1]["state"]), (&json!("delivery"), &json!("failed")));
    assert_eq!((&ended[1]["code"], ended.len()), (&json!("CANCELLED"), 2));
    mesh.pass(Duration::from_secs(121));
    assert_eq!(lines_of(&mesh, "m1").len(), 2, "nothing more is told of it");
    assert_eq!(lines_of(&mesh, "m2")[1]["state"], "expired", "the other was left alone");
    assert_eq!(cancel(&mut mesh, "m2"), false);
}

#[test]
fn mail_behind_one_that_was_given_up_arrives() {
    let mut mesh = Mesh::new(2);
    let to = mesh.nodes[1].address.clone();
    for (data, id) in [(1, "a"), (2, "b"), (3, "c3")] {
        mesh.say(0, &json!({"type": "send", "peerId": to, "data": data, "id": id}).to_string());
    }
    assert_eq!(cancel(&mut mesh, "b"), true);
    mesh.connect(1, 0);
    mesh.pass(Duration::from_secs(5));
    assert_eq!(mesh.received(1), [1, 3]);
}

#[test]
fn a_broadcast_that_waits_for_somebody_to_hear_it_is_given_up() {
    let mut mesh = Mesh::new(1);
    mesh.say(0, r#"{"type":"send","topic":"t","data":1,"id":"b"}"#);
    assert_eq!(cancel(&mut mesh, "b"), true);
    mesh.pass(Duration::from_secs(11));
    let ended = lines_of(&mesh, "b");
    assert_eq!((&ended[1]["code"], ended.len()), (&json!("CANCELLED"), 2));
}
