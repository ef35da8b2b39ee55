//! `--require-delivery`: the end of a node after the end of stdin, and its exit code.

use std::time::Duration;

use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use serde_json::json;

use crate::mesh::{CONNECT, Mesh, agent_key};

/// Returns a mesh of a server, an agent, and a pipeline (index 2).
fn fixture() -> Mesh {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    let pipeline = mesh.add_with(3, Role::Full, CONNECT, |config| config.require_delivery = true);
    mesh.connect(pipeline, 0);
    mesh.advance(Duration::from_secs(2));
    mesh
}

fn send(mesh: &mut Mesh, to: &str, ttl_ms: u64) {
    mesh.command(
        2,
        &json!({"type": "send", "peerId": to, "data": 1, "id": ttl_ms, "ttlMs": ttl_ms}).to_string(),
    );
}

#[test]
fn pipeline_with_delivered_message_exits_0() {
    let mut mesh = fixture();
    let to = mesh.nodes[1].address.clone();
    send(&mut mesh, &to, 60_000);
    mesh.input(2, Input::StdinClosed);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Ok));
}

#[test]
fn pipeline_waits_past_the_drain_timeout_and_exits_75_on_expiry() {
    let mut mesh = fixture();
    send(&mut mesh, &agent_key(0x77).address().to_string(), 30_000);
    mesh.input(2, Input::StdinClosed);
    mesh.advance(Duration::from_secs(29));
    assert_eq!(mesh.nodes[2].exit, None);
    mesh.advance(Duration::from_secs(2));
    assert_eq!(mesh.lines(2, "delivery")[0]["state"], "expired");
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Undelivered));
}

#[test]
fn pipeline_whose_recipient_starts_late_exits_0() {
    let mut mesh = fixture();
    send(&mut mesh, &agent_key(0x44).address().to_string(), 60_000);
    mesh.input(2, Input::StdinClosed);
    mesh.advance(Duration::from_secs(10));
    assert_eq!(mesh.nodes[2].exit, None);
    let late = mesh.add(0x44, Role::Full);
    mesh.connect(late, 0);
    mesh.advance(Duration::from_secs(45));
    assert_eq!(mesh.received(late), [1]);
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Ok));
}

#[test]
fn pipeline_with_failed_command_exits_65() {
    let mut mesh = fixture();
    let to = mesh.nodes[1].address.clone();
    send(&mut mesh, &to, 0);
    send(&mut mesh, &to, 60_000);
    mesh.input(2, Input::StdinClosed);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::BadInput));
    assert_eq!(mesh.received(1), [1], "the other commands are executed");
}

#[test]
fn pipeline_with_broadcast_without_subscribers_exits_75() {
    let mut mesh = fixture();
    mesh.command(2, r#"{"type":"send","topic":"unused","data":1}"#);
    mesh.input(2, Input::StdinClosed);
    mesh.advance(Duration::from_secs(11));
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Undelivered));
}

#[test]
fn pipeline_that_waits_for_delivery_exits_on_signal() {
    let mut mesh = fixture();
    send(&mut mesh, &agent_key(0x77).address().to_string(), 600_000);
    mesh.input(2, Input::StdinClosed);
    mesh.advance(Duration::from_secs(60));
    assert_eq!(mesh.nodes[2].exit, None);
    mesh.input(2, Input::Signal);
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Undelivered));
}

#[test]
fn pipeline_does_not_wait_for_messages_of_an_earlier_process() {
    let mut mesh = fixture();
    let durable = mesh.add_with(4, Role::Full, CONNECT, |config| config.durable = true);
    let unknown = agent_key(0x77).address().to_string();
    mesh.command(durable, &json!({"type": "send", "peerId": unknown, "data": 1, "id": 1}).to_string());
    let outbox = mesh.store(durable).messages.values().cloned().collect::<Vec<_>>();
    assert_eq!(outbox.len(), 1);
    let next = mesh.add_with(5, Role::Full, CONNECT, |config| {
        (config.durable, config.require_delivery, config.outbox) = (true, true, outbox);
    });
    mesh.input(next, Input::StdinClosed);
    mesh.advance(Duration::from_secs(6));
    assert_eq!(mesh.nodes[next].exit, Some(ExitCode::Ok));
}

#[test]
fn node_exits_after_its_last_broadcast_is_sent() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.advance(Duration::from_secs(2));
    mesh.command(0, r#"{"type":"subscribe","topic":"t"}"#);
    mesh.advance(Duration::from_secs(2));
    mesh.command(1, r#"{"type":"send","topic":"t","data":1}"#);
    mesh.input(1, Input::StdinClosed);
    mesh.advance(Duration::from_millis(200));
    assert_eq!(mesh.nodes[1].exit, None, "gossipsub may still have to send the broadcast");
    mesh.advance(Duration::from_millis(200));
    assert_eq!((mesh.nodes[1].exit, mesh.received(0)), (Some(ExitCode::Ok), vec![1]));
}
