//! `--ack manual`: a message counts as delivered when the parent acks it.

use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::effect::Effect;
use p2p_node_core::input::Input;
use p2p_node_core::mail::inbound::inbox::inbox_limits::SENDER_STREAMS;
use p2p_node_core::mail::inbound::receive_window::ACK_WINDOW;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::Message;
use p2p_node_wire::seal::repeatable::DeterministicRng;

use crate::forged::{admit, sealed};
use crate::mesh::{CONNECT, FaultDecision, Mesh};

/// Returns a mesh of a server, a sender, and a recipient with manual ack, which is durable or not;
/// and the index of the recipient.
pub fn fixture(durable: bool) -> (Mesh, usize) {
    let mut mesh = Mesh::new(2);
    let recipient = mesh.add_with(3, Role::Full, CONNECT, |config| {
        config.manual_ack = true;
        config.durable = durable;
    });
    mesh.connect(1, 0);
    mesh.connect(recipient, 0);
    mesh.connect(1, recipient);
    (mesh, recipient)
}

pub fn states(mesh: &Mesh, node: usize) -> Vec<&str> {
    mesh.lines(node, "delivery").iter().map(|line| line["state"].as_str().unwrap()).collect()
}

/// The message id of the last message with this payload.
pub fn message_id(mesh: &Mesh, node: usize, data: u64) -> String {
    let message = mesh.lines(node, "message").into_iter().rfind(|line| line["data"] == data).unwrap();
    message["messageId"].as_str().unwrap().to_owned()
}

pub fn ack(mesh: &mut Mesh, node: usize, message_id: &str) {
    mesh.command(node, &format!(r#"{{"type":"ack","messageId":"{message_id}","id":"{message_id}"}}"#));
}

pub fn answer_code(mesh: &Mesh, node: usize, id: &str) -> String {
    let line = mesh.nodes[node].lines.iter().rfind(|line| line["id"] == id).unwrap();
    line["code"].as_str().unwrap_or("ok").to_owned()
}

#[test]
fn manual_ack_in_any_order_reports_each_acked_message_as_delivered() {
    for (durable, route) in [(false, "direct"), (true, "direct"), (false, "gossip"), (true, "gossip")] {
        let (mut mesh, recipient) = fixture(durable);
        for data in 1..=3 {
            mesh.send(1, recipient, data, &format!(r#","route":"{route}""#));
        }
        mesh.advance(Duration::from_secs(30));
        assert_eq!(mesh.received(recipient), [1, 2, 3], "{durable} {route}: delivered once");
        assert_eq!(states(&mesh, 1), [""; 0], "{durable} {route}");
        let sent = mesh.frames.len();
        for (data, so_far) in [(2, 1), (1, 2), (3, 3)] {
            let id = message_id(&mesh, recipient, data);
            ack(&mut mesh, recipient, &id);
            mesh.advance(Duration::from_millis(50));
            assert_eq!(answer_code(&mesh, recipient, &id), "ok");
            assert_eq!(states(&mesh, 1), vec!["delivered"; so_far], "{durable} {route}");
            assert_eq!(mesh.lines(1, "delivery").last().unwrap()["messageId"], id);
        }
        assert!(mesh.lines(1, "delivery").iter().all(|line| line["attempts"] == 1));
        assert_eq!(mesh.frames.len() - sent, 3, "three acks over the connection, and no retransmission");
    }
}

#[test]
fn ack_of_message_that_awaits_no_ack_is_refused() {
    let (mut mesh, recipient) = fixture(false);
    mesh.send(1, recipient, 1, "");
    mesh.settle();
    let id = message_id(&mesh, recipient, 1);
    ack(&mut mesh, recipient, &id);
    ack(&mut mesh, recipient, &id);
    assert_eq!(answer_code(&mesh, recipient, &id), "MESSAGE_NOT_FOUND", "the message is acked already");
    for (wrong, code) in [
        (format!("{}-7", "0".repeat(32)), "MESSAGE_NOT_FOUND"),
        ("nonsense".to_owned(), "INVALID_ARGUMENT"),
        (format!("{id}x"), "INVALID_ARGUMENT"),
    ] {
        ack(&mut mesh, recipient, &wrong);
        assert_eq!(answer_code(&mesh, recipient, &wrong), code);
    }
    ack(&mut mesh, 1, &id);
    assert_eq!(answer_code(&mesh, 1, &id), "INVALID_ARGUMENT", "this node does not use manual ack");
}

#[test]
fn same_stream_of_two_senders_gives_distinct_message_ids() {
    let (mut mesh, recipient) = fixture(false);
    let twins: Vec<_> = [4, 5]
        .into_iter()
        .map(|number| mesh.add_with(number, Role::Full, CONNECT, |config| config.database = [7; 16]))
        .collect();
    for twin in &twins {
        mesh.connect(*twin, recipient);
        mesh.send(*twin, recipient, *twin as u64, "");
    }
    mesh.settle();
    let ids: Vec<_> = twins.iter().map(|twin| message_id(&mesh, recipient, *twin as u64)).collect();
    assert_ne!(ids[0], ids[1]);
    ack(&mut mesh, recipient, &ids[1]);
    mesh.settle();
    assert_eq!((states(&mesh, twins[0]), states(&mesh, twins[1])), (vec![], vec!["delivered"]));
}

#[test]
fn ack_of_message_just_abandoned_by_sender_answers_message_not_found() {
    let (mut mesh, recipient) = fixture(true);
    let message = |seq: u64, base_seq: u64| Message {
        stream: Bytes::from(vec![1; 16]),
        seq,
        base_seq,
        data: Bytes::from(seq.to_string()),
        ..Message::default()
    };
    let peer = admit(&mut mesh, recipient, 50);
    let mail_request = |counter, messages| {
        let frame = sealed(50, 3, counter, messages);
        Input::MailRequestReceived { token: 900 + counter, peer, frame }
    };
    mesh.input(recipient, mail_request(1, vec![message(1, 0), message(2, 2)]));
    let id = message_id(&mesh, recipient, 2);
    let now = mesh.clock();
    // The sender abandoned message 2. The parent writes `ack` before the node processes that.
    let core = &mut mesh.nodes[recipient].core;
    core.handle(mail_request(2, vec![message(3, 2)]), now);
    core.handle_timeout(now);
    let opened = std::iter::from_fn(|| core.poll_effect()).find_map(|effect| match effect {
        Effect::Crypto(task) => Some(task.run(&mut DeterministicRng::new(1))),
        _ => None,
    });
    core.handle(opened.unwrap(), now);
    ack(&mut mesh, recipient, &id);
    assert_eq!(answer_code(&mesh, recipient, &id), "MESSAGE_NOT_FOUND");
    assert_eq!(mesh.received(recipient), [1, 2, 3]);
}

#[test]
fn stream_with_unacked_message_is_not_evicted() {
    let (mut mesh, recipient) = fixture(true);
    let message = |stream: u8, seq: u64| Message {
        stream: Bytes::from(vec![stream; 16]),
        seq,
        data: Bytes::from(format!("{stream}")),
        ..Message::default()
    };
    let peer = admit(&mut mesh, recipient, 50);
    let first = (1..=SENDER_STREAMS as u8).map(|stream| message(stream, 1)).collect();
    let one_too_many = vec![message(100, 1)];
    for (counter, messages) in [(1, first), (2, one_too_many.clone())] {
        let frame = sealed(50, 3, counter, messages);
        mesh.input(recipient, Input::MailRequestReceived { token: 900 + counter, peer, frame });
    }
    assert_eq!(mesh.received(recipient).len(), SENDER_STREAMS, "no room for another stream");
    let id = message_id(&mesh, recipient, 1);
    ack(&mut mesh, recipient, &id);
    assert_eq!(answer_code(&mesh, recipient, &id), "ok");
    let frame = sealed(50, 3, 3, one_too_many);
    mesh.input(recipient, Input::MailRequestReceived { token: 903, peer, frame });
    assert_eq!(mesh.received(recipient).last(), Some(&100), "the stream without open mail makes room");
}

#[test]
fn unacked_message_after_restart_is_redelivered_and_marked() {
    let (mut mesh, recipient) = fixture(true);
    for data in 1..=4 {
        mesh.send(1, recipient, data, "");
    }
    mesh.settle();
    let ids: Vec<_> = (1..=4).map(|data| message_id(&mesh, recipient, data)).collect();
    for index in [0, 2] {
        ack(&mut mesh, recipient, &ids[index]);
    }
    mesh.settle();
    assert_eq!(states(&mesh, 1), ["delivered"; 2]);
    let again = mesh.restart(recipient, 3, &[0, 1], |config| config.manual_ack = true);
    mesh.send(1, again, 5, "");
    mesh.advance(Duration::from_secs(5));
    assert_eq!(mesh.received(again), [2, 4, 5]);
    let redelivered: Vec<_> = mesh
        .lines(again, "message")
        .iter()
        .map(|line| (line["messageId"].as_str().unwrap().to_owned(), line["redelivered"] == true))
        .collect();
    assert_eq!(redelivered[..2], [(ids[1].clone(), true), (ids[3].clone(), true)]);
    assert!(!redelivered[2].1, "message 5 is new");
    for (id, _) in redelivered {
        ack(&mut mesh, again, &id);
    }
    mesh.settle();
    assert_eq!(states(&mesh, 1), ["delivered"; 5]);
}

#[test]
fn manual_ack_message_is_delivered_after_its_checkpoint_is_persisted() {
    let (mut mesh, recipient) = fixture(true);
    mesh.disk_writes = false;
    mesh.send(1, recipient, 1, "");
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(recipient), [0; 0]);
    mesh.resume_writes();
    assert_eq!(mesh.received(recipient), [1]);
    mesh.disk_writes = false;
    let id = message_id(&mesh, recipient, 1);
    ack(&mut mesh, recipient, &id);
    mesh.advance(Duration::from_secs(1));
    assert!(
        mesh.nodes[recipient].lines.iter().all(|line| line["id"] != id.as_str()),
        "the ack is not persisted"
    );
    assert_eq!(states(&mesh, 1), [""; 0]);
    mesh.resume_writes();
    assert_eq!((answer_code(&mesh, recipient, &id).as_str(), states(&mesh, 1)), ("ok", vec!["delivered"]));
}

#[test]
fn ack_with_full_disk_answers_disk_full_and_stays_valid() {
    let (mut mesh, recipient) = fixture(true);
    mesh.send(1, recipient, 1, "");
    mesh.settle();
    let id = message_id(&mesh, recipient, 1);
    mesh.disk_full = true;
    ack(&mut mesh, recipient, &id);
    assert_eq!(answer_code(&mesh, recipient, &id), "DISK_FULL");
    assert_eq!(states(&mesh, 1), [""; 0]);
    ack(&mut mesh, recipient, &id);
    assert_eq!(answer_code(&mesh, recipient, &id), "DISK_FULL", "the parent may repeat the ack");
    mesh.disk_full = false;
    ack(&mut mesh, recipient, &id);
    mesh.advance(Duration::from_secs(2));
    assert_eq!((answer_code(&mesh, recipient, &id).as_str(), states(&mesh, 1)), ("ok", vec!["delivered"]));
    ack(&mut mesh, recipient, &id);
    assert_eq!(
        answer_code(&mesh, recipient, &id),
        "MESSAGE_NOT_FOUND",
        "the ack is persisted, and no message awaits one"
    );
    assert_eq!(mesh.nodes[recipient].core.stats().get(Counter::MailAcked), 1);
}

#[test]
fn lost_ack_is_requested_again_by_probe() {
    let (mut mesh, recipient) = fixture(false);
    mesh.send(1, recipient, 1, r#","ttlMs":600000"#);
    mesh.settle();
    mesh.faults = Box::new(|node, input| match input {
        Input::MailRequestReceived { .. } if node == 1 => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    let id = message_id(&mesh, recipient, 1);
    ack(&mut mesh, recipient, &id);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.advance(Duration::from_secs(50));
    assert_eq!(states(&mesh, 1), [""; 0]);
    mesh.advance(Duration::from_secs(11));
    assert_eq!((states(&mesh, 1), mesh.received(recipient)), (vec!["delivered"], vec![1]));
}

#[test]
fn manual_ack_probe_interval_grows() {
    let (mut mesh, recipient) = fixture(false);
    mesh.send(1, recipient, 1, r#","ttlMs":86400000"#);
    mesh.advance(Duration::from_secs(1500));
    let id = message_id(&mesh, recipient, 1);
    ack(&mut mesh, recipient, &id);
    let delivery = mesh.lines(1, "delivery")[0];
    assert_eq!(delivery["state"], "delivered");
    let attempts = delivery["attempts"].as_u64().unwrap();
    assert!((3..12).contains(&attempts), "{attempts} in 25 minutes");
    assert_eq!(mesh.received(recipient), [1]);
}

#[test]
fn expired_message_no_longer_awaits_ack() {
    let (mut mesh, recipient) = fixture(false);
    mesh.send(1, recipient, 1, r#","ttlMs":1000"#);
    mesh.settle();
    let id = message_id(&mesh, recipient, 1);
    mesh.advance(Duration::from_secs(2));
    assert_eq!(states(&mesh, 1), ["expired"]);
    mesh.send(1, recipient, 2, "");
    mesh.settle();
    ack(&mut mesh, recipient, &id);
    assert_eq!(answer_code(&mesh, recipient, &id), "MESSAGE_NOT_FOUND");
    let second = message_id(&mesh, recipient, 2);
    ack(&mut mesh, recipient, &second);
    assert_eq!(states(&mesh, 1), ["expired", "delivered"]);
}

#[test]
fn parent_without_acks_receives_one_ack_window() {
    let (mut mesh, recipient) = fixture(false);
    let number = ACK_WINDOW as u64 + 500;
    for data in 0..number {
        mesh.send(1, recipient, data, r#","ttlMs":600000"#);
    }
    mesh.advance(Duration::from_secs(30));
    assert_eq!(mesh.received(recipient), (0..ACK_WINDOW as u64).collect::<Vec<_>>());
    let usages = mesh.nodes[recipient].core.usage();
    let unacked = usages.iter().find(|usage| usage.name == "messages that wait for an ack").unwrap().size;
    assert_eq!(unacked, ACK_WINDOW);
    // All messages but the first, with which the window begins.
    for data in 1..ACK_WINDOW as u64 {
        let id = message_id(&mesh, recipient, data);
        ack(&mut mesh, recipient, &id);
    }
    mesh.advance(Duration::from_secs(61));
    assert_eq!(states(&mesh, 1).len(), ACK_WINDOW - 1);
    assert_eq!(mesh.received(recipient).len(), ACK_WINDOW);
    let first = message_id(&mesh, recipient, 0);
    ack(&mut mesh, recipient, &first);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(recipient), (0..number).collect::<Vec<_>>());
}

#[test]
fn unacked_messages_of_all_senders_are_bounded() {
    let mut mesh = Mesh::new(7);
    let recipient = mesh.add_with(8, Role::Full, CONNECT, |config| config.manual_ack = true);
    for node in 1..recipient {
        mesh.connect(node, recipient);
        for priority in ["high", "medium", "low"] {
            for data in 0..ACK_WINDOW as u64 {
                mesh.send(node, recipient, data, &format!(r#","ttlMs":600000,"priority":"{priority}""#));
            }
        }
    }
    mesh.advance(Duration::from_secs(30));
    let core = &mesh.nodes[recipient].core;
    let unacked =
        core.usage().into_iter().find(|usage| usage.name == "messages that wait for an ack").unwrap();
    assert!(unacked.size > unacked.limit / 2 && unacked.size <= unacked.limit, "{unacked:?}");
    assert!(core.stats().get(Counter::MailBusy) > 0);
    let mut acked = 0;
    while acked < 6 * 3 * ACK_WINDOW {
        let ids: Vec<_> =
            mesh.lines(recipient, "message")[acked..].iter().map(|line| line["messageId"].clone()).collect();
        assert!(!ids.is_empty(), "after {acked} acks no further message arrives");
        acked += ids.len();
        for id in ids {
            ack(&mut mesh, recipient, id.as_str().unwrap());
        }
        mesh.advance(Duration::from_secs(60));
    }
}

#[test]
fn ack_during_shutdown_answers_shutting_down_and_leaves_message_to_sender() {
    let (mut mesh, recipient) = fixture(true);
    mesh.send(1, recipient, 1, "");
    mesh.settle();
    mesh.disk_writes = false;
    let id = message_id(&mesh, recipient, 1);
    ack(&mut mesh, recipient, &id);
    mesh.command(recipient, r#"{"type":"shutdown","id":"end"}"#);
    mesh.advance(Duration::from_secs(6));
    assert_eq!(answer_code(&mesh, recipient, &id), "SHUTTING_DOWN");
    assert_eq!(states(&mesh, 1), [""; 0]);
}

#[test]
fn messages_awaiting_a_checkpoint_are_bounded() {
    let mut mesh = Mesh::new(12);
    let recipient = mesh.add_with(13, Role::Full, CONNECT, |config| {
        config.manual_ack = true;
        config.durable = true;
    });
    for node in 1..=recipient {
        mesh.connect(node, 0);
    }
    mesh.disk_writes = false;
    let (to, text) = (mesh.nodes[recipient].address.clone(), "x".repeat(500_000));
    for node in 1..recipient {
        mesh.connect(node, recipient);
        for _ in 0..4 {
            mesh.command(
                node,
                &format!(r#"{{"type":"send","peerId":"{to}","ttlMs":600000,"data":"{text}"}}"#),
            );
        }
    }
    mesh.advance(Duration::from_secs(2));
    let core = &mesh.nodes[recipient].core;
    let pending =
        core.usage().into_iter().find(|usage| usage.name == "bytes that wait for a checkpoint").unwrap();
    assert!(pending.size > 10_000_000 && pending.size <= pending.limit, "{pending:?}");
    assert!(core.stats().get(Counter::MailBusy) > 0);
    assert_eq!(mesh.lines(recipient, "message").len(), 0);
    mesh.resume_writes();
    mesh.advance(Duration::from_secs(120));
    assert_eq!(mesh.lines(recipient, "message").len(), 4 * (recipient - 1));
}
