//! Priorities: high goes first, up to the rate limit of its author.

use p2p_node_protocol::{Counter, MessageKind};
use std::time::Duration;

use p2p_node_core::gate::high_priority_limiter::BURST;
use p2p_node_core::replies::output_queue::WRITER_LINES;

use serde_json::{Value, json};

use crate::mesh::Mesh;

/// Returns a mesh of a server and two connected agents.
fn fixture() -> Mesh {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.connect(1, 2);
    mesh
}

fn send(mesh: &mut Mesh, from: usize, to: usize, data: u64, priority: &str) {
    mesh.send(from, to, data, &format!(r#","priority":"{priority}""#));
}

/// Fills the writer of a node, so that later lines wait in its output queue.
fn fill_writer(mesh: &mut Mesh, node: usize) {
    mesh.nodes[node].reads = false;
    for _ in 0..WRITER_LINES {
        mesh.queue_command(node, r#"{"type":"ping","id":"p"}"#);
    }
    mesh.settle();
}

#[test]
fn kind_sets_the_priority_unless_the_sender_gives_one() {
    let mut mesh = fixture();
    let mut kinds: Vec<(&str, Value)> =
        MessageKind::ALL.iter().map(|kind| (kind.name, json!(kind.priority))).collect();
    kinds.extend(["meme", "alliance_proposal", "status_update", "Vote"].map(|kind| (kind, json!("medium"))));
    for (kind, _) in &kinds {
        mesh.send(1, 2, 0, &format!(r#","kind":"{kind}""#));
    }
    mesh.send(1, 2, 0, r#","kind":"vote","priority":"low""#);
    mesh.advance(Duration::from_secs(5));
    let received: Vec<(&str, &str)> = mesh
        .lines(2, "message")
        .iter()
        .map(|line| (line["kind"].as_str().unwrap(), line["priority"].as_str().unwrap()))
        .collect();
    assert_eq!(received.len(), kinds.len() + 1);
    for (kind, priority) in &kinds {
        assert!(received.contains(&(kind, priority.as_str().unwrap())), "{kind}");
    }
    assert!(received.contains(&("vote", "low")));
}

#[test]
fn waiting_messages_are_delivered_by_priority_and_in_order() {
    let mut mesh = fixture();
    mesh.command(2, r#"{"type":"subscribe","topic":"t"}"#);
    fill_writer(&mut mesh, 2);
    for data in 0..60 {
        send(&mut mesh, 1, 2, data, ["low", "medium", "high"][data as usize % 3]);
    }
    mesh.settle();
    mesh.command(1, r#"{"type":"send","topic":"t","data":99,"priority":"high"}"#);
    mesh.nodes[2].reads = true;
    mesh.advance(Duration::from_secs(1));
    let received = mesh.received(2);
    let of = |rest: u64| {
        received.iter().copied().filter(|data| *data < 60 && data % 3 == rest).collect::<Vec<_>>()
    };
    for rest in 0..3 {
        assert_eq!(of(rest), (rest..60).step_by(3).collect::<Vec<_>>());
    }
    let high = |data: &u64| *data == 99 || data % 3 == 2;
    assert!(received[..20].iter().all(high), "{received:?}");
    // The rest: four medium messages for each low one.
    let medium = received.iter().filter(|data| !high(data)).take(15).filter(|data| **data % 3 == 1).count();
    assert_eq!(medium, 12, "{received:?}");
}

#[test]
fn high_priority_above_the_rate_is_demoted_unless_the_author_is_allowed() {
    for allowed in [false, true] {
        let mut mesh = fixture();
        if allowed {
            let author = mesh.nodes[1].address.clone();
            mesh.command(2, &format!(r#"{{"type":"allow","peerId":"{author}"}}"#));
        }
        fill_writer(&mut mesh, 2);
        for data in 0..100 {
            send(&mut mesh, 1, 2, data, "medium");
        }
        mesh.settle();
        for data in 100..200 {
            send(&mut mesh, 1, 2, data, "high");
        }
        mesh.settle();
        mesh.nodes[2].reads = true;
        mesh.advance(Duration::from_secs(1));
        let received = mesh.received(2);
        let first = received.iter().take_while(|data| **data >= 100).count();
        assert_eq!(first, if allowed { 100 } else { BURST as usize }, "{received:?}");
        let high: Vec<u64> = received.iter().copied().filter(|data| *data >= 100).collect();
        assert_eq!(high, (100..200).collect::<Vec<_>>(), "demoted messages keep their order");
        let messages = mesh.lines(2, "message");
        assert!(
            messages
                .iter()
                .filter(|line| line["data"].as_u64() >= Some(100))
                .all(|line| line["priority"] == "high")
        );
        let counted = mesh.nodes[2].core.stats().get(Counter::MessagesDemoted);
        assert_eq!(counted, if allowed { 0 } else { 100 - u64::from(BURST) });
    }
}

#[test]
fn author_allowed_after_demotion_keeps_the_order() {
    let mut mesh = fixture();
    let author = mesh.nodes[1].address.clone();
    fill_writer(&mut mesh, 2);
    for data in 0..30 {
        send(&mut mesh, 1, 2, data, "high");
    }
    mesh.settle();
    mesh.command(2, &format!(r#"{{"type":"allow","peerId":"{author}"}}"#));
    for data in 30..60 {
        send(&mut mesh, 1, 2, data, "high");
    }
    mesh.settle();
    mesh.nodes[2].reads = true;
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(2), (0..60).collect::<Vec<_>>());
}

#[test]
fn full_outbox_has_capacity_for_higher_priorities() {
    let mut mesh = Mesh::new(1);
    let data = "x".repeat(30_000);
    for to_topic in [false, true] {
        let accepted = ["low", "medium", "high"].map(|priority| {
            let refused = (0..1000).find(|number| {
                let to = if to_topic { r#""topic":"t""#.to_owned() } else { format!(r#""peerId":"0x{number:040x}""#) };
                let command = format!(
                    r#"{{"type":"send",{to},"priority":"{priority}","data":"{data}","id":"{to_topic}{priority}{number}"}}"#
                );
                mesh.command(0, &command);
                mesh.nodes[0].lines.last().unwrap()["code"] == "BUSY"
            });
            refused.unwrap()
        });
        assert!(accepted.iter().all(|number| *number > 0), "{accepted:?}");
    }
}
