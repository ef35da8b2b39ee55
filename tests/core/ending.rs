//! How a node ends, and that every id has exactly one terminal line until then.

use std::time::Duration;

use p2p_node::core::input::{Input, Now};
use p2p_node_protocol::line::decode_request;
use serde_json::{Value, json};

use crate::mesh::Mesh;

/// Terminal lines of an id.
fn terminal(mesh: &Mesh, id: &Value) -> Vec<(Value, Value)> {
    let lines = mesh.nodes[0].lines.iter().filter(|line| line["id"] == *id);
    lines.map(|line| (line["type"].clone(), line["code"].clone())).collect()
}

#[test]
fn a_bad_line_does_not_answer_for_the_command_whose_id_it_bears() {
    let mut mesh = Mesh::new(1);
    mesh.say(0, r#"{"type":"discover","timeoutMs":1000,"id":1}"#);
    let bad = decode_request(br#"{"type":"subscribe","id":1}"#).unwrap_err();
    mesh.input(0, Input::BadLine(bad));
    let error = (*mesh.lines(0, "error").last().unwrap()).clone();
    assert_eq!((&error["code"], &error["details"]["id"]), (&json!("DUPLICATE_ID"), &json!(1)));
    assert!(terminal(&mesh, &json!(1)).is_empty());
    mesh.pass(Duration::from_secs(2));
    assert_eq!(terminal(&mesh, &json!(1)), [(json!("result"), Value::Null)]);
}

#[test]
fn no_wall_clock_is_too_absurd() {
    let mut mesh = Mesh::new(1);
    for (secs, unix_ms) in [(3600, u64::MAX), (7200, 0), (10_800, u64::MAX - 1), (14_400, u64::MAX / 2)] {
        let now = Now { mono: Duration::from_secs(secs), unix_ms };
        mesh.nodes[0].core.turn(now);
        while mesh.nodes[0].core.poll_effect().is_some() {}
    }
    assert!(mesh.nodes[0].exit.is_none());
}
