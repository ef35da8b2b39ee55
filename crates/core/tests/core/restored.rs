//! Messages of a store that was restored from a copy after they had failed.

use p2p_node_protocol::Counter;
use p2p_node_wire::message_id::StreamId;
use std::collections::BTreeMap;
use std::time::Duration;

use p2p_node_core::input::Input;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;

use crate::mesh::{FaultDecision, Faults, Mesh};
use crate::numbers::{SENDER, ack, by_hand, fixture, send, stat, states};

/// A first mail that is accepted, put on the wire in vain, and cancelled; the store as it was
/// before that; and a second mail, which goes past the first.
fn given_up(
    mesh: &mut Mesh,
    first: usize,
    to: usize,
    more: &str,
) -> BTreeMap<(StreamId, u64), PersistedMessage> {
    mesh.faults = lose_mail_to(to);
    mesh.send(first, to, 1, &format!(r#","id":"m1"{more}"#));
    mesh.settle();
    let copy = mesh.store(first).messages.clone();
    assert_eq!(copy.len(), 1);
    mesh.fail_open_requests(first);
    mesh.say(first, r#"{"type":"cancel","id":"c","target":"m1"}"#);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    assert!(mesh.store(first).messages.is_empty(), "{:?}", mesh.lines(first, "error"));
    send(mesh, first, to, 2);
    mesh.pass(Duration::from_secs(2));
    assert_eq!(mesh.received(to), [2]);
    copy
}

fn lose_mail_to(to: usize) -> Faults {
    Box::new(move |node, input| match input {
        Input::MailRequestReceived { .. } | Input::Gossip { .. } if node == to => FaultDecision::Lose,
        _ => FaultDecision::Deliver,
    })
}

#[test]
fn mail_of_a_copy_that_is_restored_twice_is_told_once() {
    for manual in [false, true] {
        let (mut mesh, first, to) = fixture(|setup| setup.manual_ack = manual);
        let copy = given_up(&mut mesh, first, to, "");
        let mut node = first;
        for round in 0..2 {
            mesh.store_mut(node).messages.clone_from(&copy);
            node = mesh.restart(node, SENDER, &[0, to], |_| {});
            mesh.pass(Duration::from_secs(10));
            assert_eq!(mesh.received(to), [2, 1], "{manual}, round {round}");
            if manual && round == 0 {
                ack(&mut mesh, to, 1);
                mesh.pass(Duration::from_secs(5));
            }
            assert_eq!(states(&mesh, node), ["delivered"], "{manual}, round {round}");
        }
    }
}

#[test]
fn mail_of_a_copy_that_goes_by_gossip_is_not_settled_by_an_ack_of_something_else() {
    let (mut mesh, first, to) = fixture(by_hand);
    let copy = given_up(&mut mesh, first, to, r#","route":"gossip""#);
    mesh.store_mut(first).messages = copy;
    mesh.faults = lose_mail_to(to);
    let again = mesh.restart(first, SENDER, &[0, to], |_| {});
    mesh.pass(Duration::from_secs(1));
    ack(&mut mesh, to, 2);
    mesh.pass(Duration::from_secs(1));
    assert!(stat(&mesh, again, Counter::MailFramesSent) > 0);
    assert_eq!(states(&mesh, again), [""; 0], "the recipient has heard nothing of it");
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.pass(Duration::from_secs(20));
    assert_eq!(mesh.received(to), [2, 1]);
    ack(&mut mesh, to, 1);
    mesh.pass(Duration::from_secs(5));
    assert_eq!(states(&mesh, again), ["delivered"]);
}
