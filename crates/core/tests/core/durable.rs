//! Durable messages: accepted after the store has persisted them, and delivered by the next
//! process.

use std::time::Duration;

use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use p2p_node_testing::store::Change;
use serde_json::json;

use crate::mesh::{CONNECT, FaultDecision, Mesh};

/// Returns a mesh of a server, an agent without a store, and an agent with a store (index 2).
fn fixture() -> Mesh {
    let mut mesh = Mesh::new(2);
    mesh.add_with(3, Role::Full, CONNECT, |config| config.durable = true);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.connect(1, 2);
    mesh
}

fn send(mesh: &mut Mesh, from: usize, data: u64) {
    mesh.send(from, 1, data, &format!(r#","id":"m{data}""#));
    mesh.settle();
}

fn states(mesh: &Mesh, node: usize) -> Vec<&str> {
    mesh.lines(node, "delivery").iter().map(|line| line["state"].as_str().unwrap()).collect()
}

#[test]
fn durable_message_is_accepted_and_sent_after_it_is_persisted() {
    let mut mesh = fixture();
    mesh.disk_writes = false;
    send(&mut mesh, 2, 1);
    mesh.advance(Duration::from_secs(5));
    assert!(mesh.lines(2, "result").iter().all(|line| line["id"] != "m1"));
    assert_eq!((mesh.received(1), mesh.pending_writes.len()), (vec![], 1));
    let pending = mesh.nodes[2].core.usage();
    assert_eq!(pending.iter().find(|usage| usage.name == "pending writes of messages").unwrap().size, 1);

    send(&mut mesh, 2, 2);
    mesh.resume_writes();
    mesh.advance(Duration::from_millis(50));
    for id in ["m1", "m2"] {
        let answer = mesh.lines(2, "result").into_iter().find(|line| line["id"] == id).unwrap();
        assert_eq!(answer["delivery"], "accepted");
    }
    assert_eq!(mesh.received(1), [1, 2]);
    assert_eq!(states(&mesh, 2), ["delivered"; 2]);
    assert!(mesh.store(2).messages.is_empty(), "completed messages are deleted");
    assert!(mesh.lines(2, "ready")[0]["durable"] == true && mesh.lines(1, "ready")[0]["durable"] == false);
}

#[test]
fn send_with_full_disk_fails_and_succeeds_when_there_is_space() {
    let mut mesh = fixture();
    mesh.disk_full = true;
    send(&mut mesh, 2, 1);
    let refused = mesh.lines(2, "error").into_iter().find(|line| line["id"] == "m1").unwrap().clone();
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("DISK_FULL"), &json!(true)), "{refused}");
    mesh.disk_full = false;
    send(&mut mesh, 2, 2);
    mesh.advance(Duration::from_secs(1));
    assert_eq!((mesh.received(1), states(&mesh, 2)), (vec![2], vec!["delivered"]));
    assert!(mesh.lines(2, "delivery").iter().all(|line| line["requestId"] != "m1"));
}

#[test]
fn next_process_sends_accepted_messages_in_order_before_new_ones() {
    let mut mesh = fixture();
    // Node 1 is unreachable by every route.
    for node in [0, 2] {
        mesh.partition(1, node);
    }
    for data in 0..20 {
        let priority = ["low", "medium", "high"][data as usize % 3];
        mesh.send(2, 1, data, &format!(r#","priority":"{priority}""#));
    }
    mesh.settle();
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.store(2).messages.len(), 20);
    let again = mesh.restart(2, 3, &[], |_| {});
    mesh.send(again, 1, 101, r#","priority":"high""#);
    mesh.connect(again, 0);
    mesh.connect(1, again);
    mesh.advance(Duration::from_secs(60));
    let received = mesh.received(1);
    let of = |priority: u64| -> Vec<u64> {
        received.iter().copied().filter(|data| data % 3 == priority).collect()
    };
    assert_eq!((of(0), of(1)), ((0..20).step_by(3).collect(), (1..20).step_by(3).collect()));
    assert_eq!(of(2), [2, 5, 8, 11, 14, 17, 101], "the new message follows the restored ones");
    assert_eq!(states(&mesh, again), ["delivered"; 21]);
    let marked = mesh.lines(again, "delivery").into_iter().filter(|line| line["redelivered"] == true);
    assert_eq!(marked.count(), 20, "the messages of the earlier process");
    assert!(mesh.store(again).messages.is_empty());
}

#[test]
fn delivered_message_still_in_the_outbox_is_not_delivered_twice() {
    let mut mesh = fixture();
    send(&mut mesh, 2, 1);
    mesh.disk_writes = false;
    send(&mut mesh, 2, 2);
    assert!(mesh.store(2).messages.is_empty(), "the first message is deleted");
    // The second message is persisted, but the core gets no confirmation.
    mesh.pending_writes.clear();
    let pending: Vec<_> = mesh
        .store(2)
        .pending()
        .iter()
        .map(|change| match change {
            Change::Message(_, message) => (**message).clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    mesh.kill(2);
    mesh.disk_writes = true;
    // The store had not yet deleted the first message when the process was killed.
    let first = {
        let mut message = pending[0].clone();
        message.seq -= 1;
        message.draft.data = "1".into();
        message
    };
    let again = mesh.add_with(3, Role::Full, CONNECT, |config| {
        config.durable = true;
        config.outbox = vec![first, pending[0].clone()];
    });
    mesh.connect(again, 0);
    mesh.connect(1, again);
    mesh.advance(Duration::from_secs(10));
    assert_eq!(mesh.received(1), [1, 2]);
    assert_eq!(states(&mesh, again), ["delivered"; 2]);
}

#[test]
fn message_survives_shutdown_and_expired_one_is_reported() {
    let mut mesh = fixture();
    for node in [0, 2] {
        mesh.partition(1, node);
    }
    send(&mut mesh, 2, 1);
    mesh.send(2, 1, 2, r#","ttlMs":30000"#);
    mesh.command(2, r#"{"type":"shutdown","id":"end"}"#);
    mesh.advance(Duration::from_secs(10));
    assert_eq!(mesh.nodes[2].exit.map(|code| code as i32), Some(0), "all messages are persisted");
    assert_eq!(states(&mesh, 2), [""; 0]);
    mesh.kill(2);
    mesh.advance(Duration::from_secs(60));
    let again = mesh.restart(2, 3, &[0], |_| {});
    mesh.connect(1, again);
    mesh.advance(Duration::from_secs(60));
    assert_eq!(mesh.received(1), [1]);
    assert_eq!(states(&mesh, again), ["expired", "delivered"]);
}

/// Returns a mesh of a server, a sender without a store and a recipient with a store; and the
/// index of the recipient.
fn durable_recipient() -> (Mesh, usize) {
    let mut mesh = Mesh::new(2);
    let recipient = mesh.add_with(3, Role::Full, CONNECT, |config| config.durable = true);
    mesh.connect(1, 0);
    mesh.connect(recipient, 0);
    mesh.connect(1, recipient);
    (mesh, recipient)
}

#[test]
fn message_is_acked_after_the_parent_read_it_and_the_checkpoint_is_persisted() {
    for route in ["direct", "gossip"] {
        let (mut mesh, recipient) = durable_recipient();
        mesh.nodes[recipient].reads = false;
        mesh.send(1, recipient, 1, &format!(r#","route":"{route}""#));
        mesh.advance(Duration::from_secs(3));
        assert_eq!(states(&mesh, 1), [""; 0], "{route}: the parent has not read the message");
        mesh.nodes[recipient].reads = true;
        mesh.disk_writes = false;
        mesh.advance(Duration::from_secs(1));
        assert_eq!(
            (mesh.received(recipient), states(&mesh, 1).len()),
            (vec![1], 0),
            "{route}: the checkpoint is not persisted"
        );
        assert!(mesh.store(recipient).checkpoints.is_empty());
        mesh.resume_writes();
        mesh.send(1, recipient, 2, &format!(r#","route":"{route}""#));
        mesh.advance(Duration::from_secs(20));
        assert_eq!(mesh.received(recipient), [1, 2], "{route}");
        assert_eq!(states(&mesh, 1), ["delivered"; 2], "{route}");
        assert_eq!(mesh.store(recipient).checkpoints.len(), 1, "{route}");
    }
}

#[test]
fn next_process_delivers_from_the_persisted_checkpoint() {
    let (mut mesh, recipient) = durable_recipient();
    mesh.send(1, recipient, 1, "");
    mesh.settle();
    assert_eq!(states(&mesh, 1), ["delivered"]);
    // The second message arrives, but its ack does not reach the sender.
    mesh.disk_writes = false;
    mesh.send(1, recipient, 2, "");
    mesh.settle();
    assert_eq!(mesh.received(recipient), [1, 2]);
    assert_eq!(mesh.store(recipient).checkpoints.len(), 1);
    mesh.kill(recipient);
    mesh.fail_open_requests(1);
    mesh.pending_writes.clear();
    mesh.disk_writes = true;
    let again = mesh.restart(recipient, 3, &[0, 1], |_| {});
    mesh.send(1, again, 3, "");
    mesh.advance(Duration::from_secs(20));
    assert_eq!(
        mesh.received(again),
        [2, 3],
        "only the message without a persisted checkpoint is redelivered"
    );
    assert_eq!(states(&mesh, 1), ["delivered"; 3]);
    let ids: Vec<_> = [recipient, again]
        .iter()
        .flat_map(|node| mesh.lines(*node, "message"))
        .filter(|line| line["data"] == 2)
        .map(|line| line["messageId"].clone())
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "the message keeps its id");
}

#[test]
fn rejected_message_is_acked_in_stream_order() {
    let (mut mesh, recipient) = durable_recipient();
    let blocked = mesh.nodes[1].address.clone();
    mesh.nodes[recipient].reads = false;
    mesh.send(1, recipient, 1, "");
    mesh.settle();
    mesh.command(recipient, &format!(r#"{{"type":"block","peerId":"{blocked}","id":"b"}}"#));
    mesh.send(1, recipient, 2, "");
    mesh.advance(Duration::from_secs(1));
    assert_eq!(states(&mesh, 1), [""; 0], "the message before it is not acked yet");
    mesh.nodes[recipient].reads = true;
    mesh.advance(Duration::from_secs(20));
    assert_eq!(mesh.received(recipient), [1]);
    assert_eq!(states(&mesh, 1), ["delivered", "rejected"]);
}

#[test]
fn message_read_during_shutdown_is_not_redelivered() {
    let (mut mesh, recipient) = durable_recipient();
    mesh.nodes[recipient].reads = false;
    mesh.send(1, recipient, 1, "");
    mesh.settle();
    mesh.command(recipient, r#"{"type":"shutdown"}"#);
    mesh.settle();
    assert_eq!(mesh.nodes[recipient].exit, None, "the parent has not read its lines");
    mesh.nodes[recipient].reads = true;
    mesh.advance(Duration::from_millis(300));
    assert_eq!(mesh.nodes[recipient].exit, Some(ExitCode::Ok));
    mesh.fail_open_requests(1);
    let again = mesh.restart(recipient, 3, &[0, 1], |_| {});
    mesh.send(1, again, 2, "");
    mesh.advance(Duration::from_secs(20));
    assert_eq!((mesh.received(recipient), mesh.received(again)), (vec![1], vec![2]));
    assert_eq!(states(&mesh, 1), ["delivered"; 2]);
}

#[test]
fn delivery_acked_after_the_last_line_is_reported_by_the_next_process() {
    let mut mesh = Mesh::new(1);
    let sender = mesh.add_with(3, Role::Full, CONNECT, |config| config.durable = true);
    let to = mesh.add_with(4, Role::Full, CONNECT, |config| config.durable = true);
    for (one, other) in [(sender, 0), (to, 0), (sender, to)] {
        mesh.connect(one, other);
    }
    mesh.nodes[to].reads = false;
    mesh.send(sender, to, 1, "");
    mesh.settle();
    // The recipient responds late, so that a frame is in flight when the sender's drain timeout
    // ends.
    mesh.advance(Duration::from_secs(3));
    mesh.nodes[sender].reads = false;
    mesh.command(sender, r#"{"type":"shutdown"}"#);
    mesh.advance(Duration::from_millis(5200));
    assert_eq!(mesh.nodes[sender].exit, None, "the parent has not read its last lines");
    mesh.nodes[to].reads = true;
    mesh.advance(Duration::from_millis(100));
    assert_eq!((states(&mesh, sender).len(), mesh.store(sender).messages.len()), (0, 1));
    mesh.advance(Duration::from_secs(2));
    let again = mesh.restart(sender, 3, &[0, to], |_| {});
    mesh.advance(Duration::from_secs(5));
    assert_eq!(states(&mesh, again), ["delivered"]);
    assert_eq!(mesh.received(to), [1]);
}

#[test]
fn message_with_persisted_checkpoint_and_lost_ack_is_not_redelivered() {
    let (mut mesh, recipient) = durable_recipient();
    mesh.faults = Box::new(|node, input| match input {
        Input::MailResponseReceived { .. } if node == 1 => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    mesh.send(1, recipient, 1, "");
    mesh.settle();
    assert_eq!((mesh.received(recipient), states(&mesh, 1).len()), (vec![1], 0));
    mesh.kill(recipient);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.fail_open_requests(1);
    let again = mesh.restart(recipient, 3, &[0, 1], |_| {});
    mesh.send(1, again, 2, "");
    mesh.advance(Duration::from_secs(20));
    assert_eq!((mesh.received(again), states(&mesh, 1)), (vec![2], vec!["delivered"; 2]));
}
