//! Shutdown of a node: every command id gets exactly one terminal line.

use std::time::Duration;

use p2p_node_core::client_id::ClientId;
use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::{Input, Now};
use p2p_node_protocol::line::decode_request;
use p2p_node_wire::time::Instant;
use serde_json::{Value, json};

use crate::mesh::{Mesh, node_key};

/// Terminal lines of an id.
fn terminal_lines(mesh: &Mesh, id: &Value) -> Vec<(Value, Value)> {
    let lines = mesh.nodes[0].lines.iter().filter(|line| line["id"] == *id);
    lines.map(|line| (line["type"].clone(), line["code"].clone())).collect()
}

#[test]
fn node_after_exit_has_no_effects_and_no_timeout() {
    let mut mesh = Mesh::new(1);
    mesh.command(0, r#"{"type":"discover","timeoutMs":60000,"id":"d"}"#);
    mesh.input(0, Input::Signal);
    mesh.input(0, Input::Signal);
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Ok));
    let (now, core) = (mesh.clock(), &mut mesh.nodes[0].core);
    let request = decode_request(br#"{"type":"ping","id":1}"#).unwrap();
    core.handle(Input::Command { client: ClientId::PARENT, request }, now);
    core.handle(Input::ListenFailed { reason: "late".to_owned() }, now);
    core.handle(Input::Signal, now);
    core.handle_timeout(now);
    assert!(core.poll_effect().is_none());
    assert_eq!(core.poll_timeout(), None);
}

#[test]
fn bad_line_with_id_of_open_command_does_not_end_that_command() {
    let mut mesh = Mesh::new(1);
    mesh.command(0, r#"{"type":"discover","timeoutMs":1000,"id":1}"#);
    let bad = decode_request(br#"{"type":"subscribe","id":1}"#).unwrap_err();
    mesh.input(0, Input::BadLine { client: ClientId::PARENT, error: bad });
    let error = (*mesh.lines(0, "error").last().unwrap()).clone();
    assert_eq!((&error["code"], &error["details"]["id"]), (&json!("DUPLICATE_ID"), &json!(1)));
    assert!(terminal_lines(&mesh, &json!(1)).is_empty());
    mesh.advance(Duration::from_secs(2));
    assert_eq!(terminal_lines(&mesh, &json!(1)), [(json!("result"), Value::Null)]);
}

#[test]
fn shutdown_is_answered_when_listening_fails() {
    let mut mesh = Mesh::new(1);
    mesh.command(0, r#"{"type":"discover","timeoutMs":60000,"id":"d"}"#);
    mesh.command(0, r#"{"type":"shutdown","id":"s"}"#);
    mesh.input(0, Input::ListenFailed { reason: "gone".to_owned() });
    assert_eq!(terminal_lines(&mesh, &json!("d")), [(json!("error"), json!("SHUTTING_DOWN"))]);
    assert_eq!(terminal_lines(&mesh, &json!("s")), [(json!("result"), Value::Null)]);
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Unavailable));
}

#[test]
fn extreme_wall_clock_times_do_not_end_the_node() {
    let mut mesh = Mesh::new(1);
    for (secs, unix_ms) in [(3600, u64::MAX), (7200, 0), (10_800, u64::MAX - 1), (14_400, u64::MAX / 2)] {
        let now = Now { mono: Instant::from_secs(secs), unix_ms };
        mesh.nodes[0].core.handle_timeout(now);
        while mesh.nodes[0].core.poll_effect().is_some() {}
    }
    assert!(mesh.nodes[0].exit.is_none());
}

#[test]
fn closing_is_the_last_line_for_slow_parent() {
    let mut mesh = Mesh::new(1);
    mesh.nodes[0].reads = false;
    mesh.command(0, r#"{"type":"shutdown","id":"s"}"#);
    assert!(!mesh.reads_stdin(0), "a later command could not be answered");
    mesh.input(0, Input::Connected { peer: node_key(9).peer_id(), dialer: false });
    mesh.input(0, Input::Disconnected { peer: node_key(9).peer_id(), reason: None });
    mesh.nodes[0].reads = true;
    mesh.settle();
    assert_eq!(mesh.nodes[0].lines.last().unwrap()["type"], "closing");
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Ok));
}
