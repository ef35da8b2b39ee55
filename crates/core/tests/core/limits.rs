//! Limits by tier: what strangers may send, and that a node keeps to the limits of others.

use std::time::Duration;

use p2p_node_protocol::{Counter, Role};
use serde_json::{Value, json};

use crate::mesh::{CONNECT, Mesh};

/// Returns a mesh of a bootstrap node and two agents with limits that know each other's records.
fn pair() -> Mesh {
    let mut mesh = Mesh::new(1);
    for number in [2, 3] {
        let node = mesh.add_with(number, Role::Full, CONNECT, |config| config.limits_apply = true);
        mesh.connect(node, 0);
        mesh.command(node, r#"{"type":"subscribe","topic":"t"}"#);
    }
    mesh.connect(1, 2);
    mesh.advance(Duration::from_secs(2));
    mesh
}

fn count(mesh: &Mesh, node: usize, counter: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(counter)
}

fn minutes(mesh: &mut Mesh, number: u64) {
    (0..number * 30).for_each(|_| mesh.advance(Duration::from_secs(2)));
}

/// Node 1 sends this many messages to node 2 at once.
fn flood(mesh: &mut Mesh, messages: u64) {
    (0..messages).for_each(|number| mesh.send(1, 2, number, r#","ttlMs":3600000"#));
    mesh.advance(Duration::from_secs(1));
}

#[test]
fn mail_of_a_stranger_waits_at_its_sender_and_all_of_it_arrives() {
    let mut mesh = pair();
    flood(&mut mesh, 300);
    assert_eq!(mesh.received(2).len(), 100);
    minutes(&mut mesh, 1);
    let after_a_minute = mesh.received(2).len();
    assert!((150..=202).contains(&after_a_minute), "{after_a_minute}");
    minutes(&mut mesh, 4);
    assert_eq!(mesh.received(2), (0..300).collect::<Vec<_>>());
    assert_eq!(mesh.lines(1, "delivery").len(), 300);
    assert!(count(&mesh, 1, Counter::MailDeferred) > 0 && count(&mesh, 2, Counter::MailOverLimit) > 0);
}

#[test]
fn agent_that_was_mailed_or_allowed_has_no_limit_of_strangers() {
    for command in ["send", "allow"] {
        let mut mesh = pair();
        let subject = mesh.nodes[1].address.clone();
        mesh.command(2, &json!({"type": command, "peerId": subject, "data": 1}).to_string());
        mesh.advance(Duration::from_secs(1));
        flood(&mut mesh, 300);
        assert_eq!(mesh.received(2).len(), 300, "{command}");
        assert_eq!(count(&mesh, 2, Counter::MailOverLimit), 0);
    }
}

#[test]
fn broadcasts_keep_to_the_limits_of_strangers_and_none_is_dropped() {
    let mut mesh = pair();
    let send =
        |number: u64| json!({"type": "send", "topic": "t", "data": number, "ttlMs": 3_600_000, "id": number});
    let mut sent = 0;
    for _ in 0..600 {
        while sent < 300 && mesh.reads_stdin(1) {
            mesh.command(1, &send(sent).to_string());
            sent += 1;
        }
        mesh.advance(Duration::from_secs(1));
    }
    assert_eq!(mesh.received(2), (0..300).collect::<Vec<_>>());
    let over = [Counter::BroadcastsOverLimit, Counter::FramesOverLimit, Counter::GossipOverLimit];
    assert_eq!(over.map(|counter| count(&mesh, 2, counter)), [0; 3]);
    assert!(count(&mesh, 1, Counter::SendsPaced) > 0);
    let refused: Vec<&Value> = mesh.lines(1, "error");
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn broadcasts_of_a_stranger_above_its_limit_are_dropped() {
    let mut mesh = pair();
    // The sender takes the subscriber for one that allows it, so it does not wait.
    let subscriber = mesh.nodes[2].address.clone();
    mesh.command(1, &json!({"type": "allow", "peerId": subscriber}).to_string());
    for number in 0..300 {
        // Together, so that they share a frame.
        mesh.queue_command(1, &json!({"type": "send", "topic": "t", "data": number}).to_string());
    }
    mesh.settle();
    mesh.advance(Duration::from_secs(2));
    assert_eq!(mesh.received(2).len(), 100);
    assert!(count(&mesh, 2, Counter::BroadcastsOverLimit) > 0);
}
