//! Messages of a store that was restored from a copy after they had failed.

use p2p_node_protocol::Counter;
use p2p_node_wire::message_id::StreamId;
use std::collections::BTreeMap;
use std::time::Duration;

use p2p_node_core::input::Input;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;

use crate::mesh::{FaultDecision, Faults, Mesh};
use crate::sequence_numbers::{SENDER, ack, fixture, manual_ack, send, stat, states};

/// Sends a first message that is lost and then cancelled, and a second one that is delivered.
/// Returns the sender's stored messages from before the cancellation.
fn cancelled_message(
    mesh: &mut Mesh,
    first: usize,
    to: usize,
    more: &str,
) -> BTreeMap<(StreamId, u64), PersistedMessage> {
    mesh.faults = drop_mail_to(to);
    mesh.send(first, to, 1, &format!(r#","id":"m1"{more}"#));
    mesh.settle();
    let copy = mesh.store(first).messages.clone();
    assert_eq!(copy.len(), 1);
    mesh.fail_open_requests(first);
    mesh.command(first, r#"{"type":"cancel","id":"c","target":"m1"}"#);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    assert!(mesh.store(first).messages.is_empty(), "{:?}", mesh.lines(first, "error"));
    send(mesh, first, to, 2);
    mesh.advance(Duration::from_secs(2));
    assert_eq!(mesh.received(to), [2]);
    copy
}

fn drop_mail_to(to: usize) -> Faults {
    Box::new(move |node, input| match input {
        Input::MailRequestReceived { .. } | Input::Gossip { .. } if node == to => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    })
}

#[test]
fn message_of_store_restored_twice_is_delivered_once() {
    for manual in [false, true] {
        let (mut mesh, first, to) = fixture(|config| config.manual_ack = manual);
        let copy = cancelled_message(&mut mesh, first, to, "");
        let mut node = first;
        for round in 0..2 {
            mesh.store_mut(node).messages.clone_from(&copy);
            node = mesh.restart(node, SENDER, &[0, to], |_| {});
            mesh.advance(Duration::from_secs(10));
            assert_eq!(mesh.received(to), [2, 1], "{manual}, round {round}");
            if manual && round == 0 {
                ack(&mut mesh, to, 1);
                mesh.advance(Duration::from_secs(5));
            }
            assert_eq!(states(&mesh, node), ["delivered"], "{manual}, round {round}");
        }
    }
}

#[test]
fn restored_message_by_gossip_is_not_completed_by_ack_of_another() {
    let (mut mesh, first, to) = fixture(manual_ack);
    let copy = cancelled_message(&mut mesh, first, to, r#","route":"gossip""#);
    mesh.store_mut(first).messages = copy;
    mesh.faults = drop_mail_to(to);
    let again = mesh.restart(first, SENDER, &[0, to], |_| {});
    mesh.advance(Duration::from_secs(1));
    ack(&mut mesh, to, 2);
    mesh.advance(Duration::from_secs(1));
    assert!(stat(&mesh, again, Counter::MailFramesSent) > 0);
    assert_eq!(states(&mesh, again), [""; 0], "the recipient has not received the message");
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.advance(Duration::from_secs(20));
    assert_eq!(mesh.received(to), [2, 1]);
    ack(&mut mesh, to, 1);
    mesh.advance(Duration::from_secs(5));
    assert_eq!(states(&mesh, again), ["delivered"]);
}
