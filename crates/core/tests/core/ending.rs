//! Shutdown of a node: every command id gets exactly one terminal line.

use std::time::Duration;

use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::{Input, Now};
use p2p_node_protocol::line::decode_request;
use p2p_node_wire::time::Instant;
use serde_json::{Value, json};

use crate::mesh::{Mesh, node_key};

/// Terminal lines of an id.
fn terminal(mesh: &Mesh, id: &Value) -> Vec<(Value, Value)> {
    let lines = mesh.nodes[0].lines.iter().filter(|line| line["id"] == *id);
    lines.map(|line| (line["type"].clone(), line["code"].clone())).collect()
}

#[test]
fn nothing_comes_after_the_exit() {
    let mut mesh = Mesh::new(1);
    mesh.say(0, r#"{"type":"discover","timeoutMs":60000,"id":"d"}"#);
    mesh.input(0, Input::Signal);
    mesh.input(0, Input::Signal);
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Ok));
    let (now, core) = (mesh.clock(), &mut mesh.nodes[0].core);
    core.handle(Input::Command(decode_request(br#"{"type":"ping","id":1}"#).unwrap()), now);
    core.handle(Input::ListenFailed { reason: "late".to_owned() }, now);
    core.handle(Input::Signal, now);
    core.handle_timeout(now);
    assert!(core.poll_effect().is_none());
    assert_eq!(core.poll_timeout(), None);
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
fn a_shutdown_is_answered_though_the_node_must_end_at_once() {
    let mut mesh = Mesh::new(1);
    mesh.say(0, r#"{"type":"discover","timeoutMs":60000,"id":"d"}"#);
    mesh.say(0, r#"{"type":"shutdown","id":"s"}"#);
    mesh.input(0, Input::ListenFailed { reason: "gone".to_owned() });
    assert_eq!(terminal(&mesh, &json!("d")), [(json!("error"), json!("SHUTTING_DOWN"))]);
    assert_eq!(terminal(&mesh, &json!("s")), [(json!("result"), Value::Null)]);
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Unavailable));
}

#[test]
fn no_wall_clock_is_too_absurd() {
    let mut mesh = Mesh::new(1);
    for (secs, unix_ms) in [(3600, u64::MAX), (7200, 0), (10_800, u64::MAX - 1), (14_400, u64::MAX / 2)] {
        let now = Now { mono: Instant::from_secs(secs), unix_ms };
        mesh.nodes[0].core.handle_timeout(now);
        while mesh.nodes[0].core.poll_effect().is_some() {}
    }
    assert!(mesh.nodes[0].exit.is_none());
}

#[test]
fn closing_is_the_last_line_though_the_parent_is_slow_to_read_it() {
    let mut mesh = Mesh::new(1);
    mesh.nodes[0].reads = false;
    mesh.say(0, r#"{"type":"shutdown","id":"s"}"#);
    assert!(!mesh.nodes[0].core.can_accept_command(), "what comes now could not be answered");
    mesh.input(0, Input::Connected { peer: node_key(9).peer_id(), dialer: false });
    mesh.input(0, Input::Disconnected { peer: node_key(9).peer_id(), reason: None });
    mesh.nodes[0].reads = true;
    mesh.settle();
    assert_eq!(mesh.nodes[0].lines.last().unwrap()["type"], "closing");
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Ok));
}
