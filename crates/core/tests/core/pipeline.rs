//! `--require-delivery`: the end of a node after the end of stdin, and its exit code.

use std::time::Duration;

use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use serde_json::json;

use crate::mesh::{CONNECT, Mesh, agent_key};

/// A server, an agent, and a pipeline, which is the last.
fn fixture() -> Mesh {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    let pipeline = mesh.add_with(3, Role::Full, CONNECT, |setup| setup.require_delivery = true);
    mesh.connect(pipeline, 0);
    mesh.pass(Duration::from_secs(2));
    mesh
}

fn send(mesh: &mut Mesh, to: &str, ttl_ms: u64) {
    mesh.say(2, &json!({"type": "send", "peerId": to, "data": 1, "id": ttl_ms, "ttlMs": ttl_ms}).to_string());
}

#[test]
fn a_pipeline_whose_mail_arrives_ends_with_0() {
    let mut mesh = fixture();
    let to = mesh.nodes[1].address.clone();
    send(&mut mesh, &to, 60_000);
    mesh.input(2, Input::StdinClosed);
    mesh.pass(Duration::from_secs(1));
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Ok));
}

#[test]
fn a_pipeline_waits_for_its_mail_beyond_the_drain_timeout_and_ends_with_75_when_it_expires() {
    let mut mesh = fixture();
    send(&mut mesh, &agent_key(0x77).address().to_string(), 30_000);
    mesh.input(2, Input::StdinClosed);
    mesh.pass(Duration::from_secs(29));
    assert_eq!(mesh.nodes[2].exit, None);
    mesh.pass(Duration::from_secs(2));
    assert_eq!(mesh.lines(2, "delivery")[0]["state"], "expired");
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Undelivered));
}

#[test]
fn a_pipeline_that_was_late_for_its_recipient_ends_with_0() {
    let mut mesh = fixture();
    send(&mut mesh, &agent_key(0x44).address().to_string(), 60_000);
    mesh.input(2, Input::StdinClosed);
    mesh.pass(Duration::from_secs(10));
    assert_eq!(mesh.nodes[2].exit, None);
    let late = mesh.add(0x44, Role::Full);
    mesh.connect(late, 0);
    mesh.pass(Duration::from_secs(45));
    assert_eq!(mesh.received(late), [1]);
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Ok));
}

#[test]
fn a_pipeline_with_a_command_that_cannot_be_carried_out_ends_with_65() {
    let mut mesh = fixture();
    let to = mesh.nodes[1].address.clone();
    send(&mut mesh, &to, 0);
    send(&mut mesh, &to, 60_000);
    mesh.input(2, Input::StdinClosed);
    mesh.pass(Duration::from_secs(1));
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::BadInput));
    assert_eq!(mesh.received(1), [1], "the rest is done all the same");
}

#[test]
fn a_broadcast_that_nobody_heard_ends_a_pipeline_with_75() {
    let mut mesh = fixture();
    mesh.say(2, r#"{"type":"send","topic":"nobody","data":1}"#);
    mesh.input(2, Input::StdinClosed);
    mesh.pass(Duration::from_secs(11));
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Undelivered));
}

#[test]
fn a_signal_ends_a_pipeline_that_waits_for_its_mail() {
    let mut mesh = fixture();
    send(&mut mesh, &agent_key(0x77).address().to_string(), 600_000);
    mesh.input(2, Input::StdinClosed);
    mesh.pass(Duration::from_secs(60));
    assert_eq!(mesh.nodes[2].exit, None);
    mesh.input(2, Input::Signal);
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Undelivered));
}

#[test]
fn mail_that_an_earlier_process_accepted_is_not_waited_for() {
    let mut mesh = fixture();
    let durable = mesh.add_with(4, Role::Full, CONNECT, |setup| setup.durable = true);
    let nobody = agent_key(0x77).address().to_string();
    mesh.say(durable, &json!({"type": "send", "peerId": nobody, "data": 1, "id": 1}).to_string());
    let kept = mesh.store(durable).messages.values().cloned().collect::<Vec<_>>();
    assert_eq!(kept.len(), 1);
    let next = mesh.add_with(5, Role::Full, CONNECT, |setup| {
        (setup.durable, setup.require_delivery, setup.outbox) = (true, true, kept);
    });
    mesh.input(next, Input::StdinClosed);
    mesh.pass(Duration::from_secs(6));
    assert_eq!(mesh.nodes[next].exit, Some(ExitCode::Ok));
}

#[test]
fn a_node_does_not_end_before_its_last_broadcast_has_left() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.pass(Duration::from_secs(2));
    mesh.say(0, r#"{"type":"subscribe","topic":"t"}"#);
    mesh.pass(Duration::from_secs(2));
    mesh.say(1, r#"{"type":"send","topic":"t","data":1}"#);
    mesh.input(1, Input::StdinClosed);
    mesh.pass(Duration::from_millis(200));
    assert_eq!(mesh.nodes[1].exit, None, "gossipsub may have it still");
    mesh.pass(Duration::from_millis(200));
    assert_eq!((mesh.nodes[1].exit, mesh.received(0)), (Some(ExitCode::Ok), vec![1]));
}
