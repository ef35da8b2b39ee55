//! `--ack manual`: a message counts as delivered when the parent acks it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::effect::Effect;
use p2p_node_core::input::Input;
use p2p_node_core::mail::inbound::inbox::inbox_limits::SENDER_STREAMS;
use p2p_node_core::mail::inbound::receive_window::UNTAKEN_WINDOW;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::Message;
use p2p_node_wire::seal::repeatable::DeterministicRng;

use crate::forged::sealed;
use crate::mesh::{CONNECT, FaultDecision, Mesh, node_key};

/// A server, an agent that writes, and one whose parent acknowledges by itself; `durable`: with a
/// store.
pub fn fixture(durable: bool) -> (Mesh, usize) {
    let mut mesh = Mesh::new(2);
    let taker = mesh.add_with(3, Role::Full, CONNECT, |setup| {
        setup.manual_ack = true;
        setup.durable = durable;
    });
    mesh.connect(1, 0);
    mesh.connect(taker, 0);
    mesh.connect(1, taker);
    (mesh, taker)
}

pub fn ends(mesh: &Mesh, node: usize) -> Vec<&str> {
    mesh.lines(node, "delivery").iter().map(|line| line["state"].as_str().unwrap()).collect()
}

/// The message id of the last message with this payload.
pub fn id_of(mesh: &Mesh, node: usize, data: u64) -> String {
    let message = mesh.lines(node, "message").into_iter().rfind(|line| line["data"] == data).unwrap();
    message["messageId"].as_str().unwrap().to_owned()
}

pub fn ack(mesh: &mut Mesh, node: usize, message_id: &str) {
    mesh.say(node, &format!(r#"{{"type":"ack","messageId":"{message_id}","id":"{message_id}"}}"#));
}

pub fn code_of_answer(mesh: &Mesh, node: usize, id: &str) -> String {
    let line = mesh.nodes[node].lines.iter().rfind(|line| line["id"] == id).unwrap();
    line["code"].as_str().unwrap_or("ok").to_owned()
}

#[test]
fn mail_is_delivered_when_the_parent_has_acknowledged_it_in_whatever_order() {
    for (durable, route) in [(false, "direct"), (true, "direct"), (false, "gossip"), (true, "gossip")] {
        let (mut mesh, taker) = fixture(durable);
        for data in 1..=3 {
            mesh.send(1, taker, data, &format!(r#","route":"{route}""#));
        }
        mesh.pass(Duration::from_secs(30));
        assert_eq!(mesh.received(taker), [1, 2, 3], "{durable} {route}: told once");
        assert_eq!(ends(&mesh, 1), [""; 0], "{durable} {route}");
        let sent = mesh.frames.len();
        for (data, so_far) in [(2, 1), (1, 2), (3, 3)] {
            let id = id_of(&mesh, taker, data);
            ack(&mut mesh, taker, &id);
            mesh.pass(Duration::from_millis(50));
            assert_eq!(code_of_answer(&mesh, taker, &id), "ok");
            assert_eq!(ends(&mesh, 1), vec!["delivered"; so_far], "{durable} {route}");
            assert_eq!(mesh.lines(1, "delivery").last().unwrap()["messageId"], id);
        }
        assert!(mesh.lines(1, "delivery").iter().all(|line| line["attempts"] == 1));
        assert_eq!(
            mesh.frames.len() - sent,
            3,
            "three acknowledgements over the connection, and nothing sent again"
        );
    }
}

#[test]
fn an_ack_names_mail_that_waits_for_one() {
    let (mut mesh, taker) = fixture(false);
    mesh.send(1, taker, 1, "");
    mesh.settle();
    let id = id_of(&mesh, taker, 1);
    ack(&mut mesh, taker, &id);
    ack(&mut mesh, taker, &id);
    assert_eq!(code_of_answer(&mesh, taker, &id), "MESSAGE_NOT_FOUND", "it has had one");
    for (wrong, code) in [
        (format!("{}-7", "0".repeat(32)), "MESSAGE_NOT_FOUND"),
        ("nonsense".to_owned(), "INVALID_ARGUMENT"),
        (format!("{id}x"), "INVALID_ARGUMENT"),
    ] {
        ack(&mut mesh, taker, &wrong);
        assert_eq!(code_of_answer(&mesh, taker, &wrong), code);
    }
    ack(&mut mesh, 1, &id);
    assert_eq!(code_of_answer(&mesh, 1, &id), "INVALID_ARGUMENT", "this node acknowledges by itself");
}

#[test]
fn whoever_uses_anothers_stream_gets_none_of_its_ids() {
    let (mut mesh, taker) = fixture(false);
    let twins: Vec<_> = [4, 5]
        .into_iter()
        .map(|number| mesh.add_with(number, Role::Full, CONNECT, |setup| setup.database = [7; 16]))
        .collect();
    for twin in &twins {
        mesh.connect(*twin, taker);
        mesh.send(*twin, taker, *twin as u64, "");
    }
    mesh.settle();
    let ids: Vec<_> = twins.iter().map(|twin| id_of(&mesh, taker, *twin as u64)).collect();
    assert_ne!(ids[0], ids[1]);
    ack(&mut mesh, taker, &ids[1]);
    mesh.settle();
    assert_eq!((ends(&mesh, twins[0]), ends(&mesh, twins[1])), (vec![], vec!["delivered"]));
}

#[test]
fn an_ack_of_mail_that_was_given_up_a_moment_before_is_answered() {
    let (mut mesh, taker) = fixture(true);
    let message = |seq: u64, base_seq: u64| Message {
        stream: Bytes::from(vec![1; 16]),
        seq,
        base_seq,
        data: Bytes::from(seq.to_string()),
        ..Message::default()
    };
    let asked = |counter, messages| {
        let frame = sealed(50, 3, counter, messages);
        Input::MailRequestReceived { token: 900 + counter, peer: node_key(50).peer_id(), frame }
    };
    mesh.input(taker, asked(1, vec![message(1, 0), message(2, 2)]));
    let id = id_of(&mesh, taker, 2);
    let now = mesh.clock();
    // Its sender has given up the second; the parent says `ack` before the node's turn comes.
    let core = &mut mesh.nodes[taker].core;
    core.handle(asked(2, vec![message(3, 2)]), now);
    core.handle_timeout(now);
    let opening = std::iter::from_fn(|| core.poll_effect()).find_map(|effect| match effect {
        Effect::Crypto(task) => Some(task.run(&mut DeterministicRng::new(1))),
        _ => None,
    });
    core.handle(opening.unwrap(), now);
    ack(&mut mesh, taker, &id);
    assert_eq!(code_of_answer(&mesh, taker, &id), "MESSAGE_NOT_FOUND");
    assert_eq!(mesh.received(taker), [1, 2, 3]);
}

#[test]
fn a_stream_that_is_forgotten_and_begun_anew_at_once_loses_nothing() {
    let (mut mesh, taker) = fixture(true);
    let message = |stream: u8, seq: u64| Message {
        stream: Bytes::from(vec![stream; 16]),
        seq,
        data: Bytes::from(format!("{stream}")),
        ..Message::default()
    };
    let peer = node_key(50).peer_id();
    let first = (1..=SENDER_STREAMS as u8).map(|stream| message(stream, 1)).collect();
    // One more than are remembered of a sender, and the one that had to go for it.
    let second = vec![message(100, 1), message(1, 2)];
    for (counter, messages) in [(1, first), (2, second)] {
        let frame = sealed(50, 3, counter, messages);
        mesh.input(taker, Input::MailRequestReceived { token: 900 + counter, peer, frame });
    }
    let told: BTreeSet<_> = mesh.received(taker).into_iter().skip(SENDER_STREAMS).collect();
    assert_eq!(told, BTreeSet::from([1, 100]));
    let id = id_of(&mesh, taker, 1);
    ack(&mut mesh, taker, &id);
    assert_eq!(code_of_answer(&mesh, taker, &id), "ok");
}

#[test]
fn what_was_not_acknowledged_comes_again_after_a_restart_and_says_so() {
    let (mut mesh, taker) = fixture(true);
    for data in 1..=4 {
        mesh.send(1, taker, data, "");
    }
    mesh.settle();
    let ids: Vec<_> = (1..=4).map(|data| id_of(&mesh, taker, data)).collect();
    for taken in [0, 2] {
        ack(&mut mesh, taker, &ids[taken]);
    }
    mesh.settle();
    assert_eq!(ends(&mesh, 1), ["delivered"; 2]);
    let again = mesh.restart(taker, 3, &[0, 1], |setup| setup.manual_ack = true);
    mesh.send(1, again, 5, "");
    mesh.pass(Duration::from_secs(5));
    assert_eq!(mesh.received(again), [2, 4, 5]);
    let told: Vec<_> = mesh
        .lines(again, "message")
        .iter()
        .map(|line| (line["messageId"].as_str().unwrap().to_owned(), line["redelivered"] == true))
        .collect();
    assert_eq!(told[..2], [(ids[1].clone(), true), (ids[3].clone(), true)]);
    assert!(!told[2].1, "it is new");
    for (id, _) in told {
        ack(&mut mesh, again, &id);
    }
    mesh.settle();
    assert_eq!(ends(&mesh, 1), ["delivered"; 5]);
}

#[test]
fn nothing_is_told_before_the_disk_could_say_that_it_was() {
    let (mut mesh, taker) = fixture(true);
    mesh.disk_writes = false;
    mesh.send(1, taker, 1, "");
    mesh.pass(Duration::from_secs(1));
    assert_eq!(mesh.received(taker), [0; 0]);
    mesh.write_on();
    assert_eq!(mesh.received(taker), [1]);
    mesh.disk_writes = false;
    let id = id_of(&mesh, taker, 1);
    ack(&mut mesh, taker, &id);
    mesh.pass(Duration::from_secs(1));
    assert!(mesh.nodes[taker].lines.iter().all(|line| line["id"] != id.as_str()), "the disk does not know");
    assert_eq!(ends(&mesh, 1), [""; 0]);
    mesh.write_on();
    assert_eq!((code_of_answer(&mesh, taker, &id).as_str(), ends(&mesh, 1)), ("ok", vec!["delivered"]));
}

#[test]
fn an_ack_that_the_disk_cannot_take_says_so_and_counts_all_the_same() {
    let (mut mesh, taker) = fixture(true);
    mesh.send(1, taker, 1, "");
    mesh.settle();
    let id = id_of(&mesh, taker, 1);
    mesh.disk_full = true;
    ack(&mut mesh, taker, &id);
    assert_eq!(code_of_answer(&mesh, taker, &id), "DISK_FULL");
    assert_eq!(ends(&mesh, 1), [""; 0]);
    ack(&mut mesh, taker, &id);
    assert_eq!(code_of_answer(&mesh, taker, &id), "DISK_FULL", "it may be said again");
    mesh.disk_full = false;
    ack(&mut mesh, taker, &id);
    mesh.pass(Duration::from_secs(2));
    assert_eq!((code_of_answer(&mesh, taker, &id).as_str(), ends(&mesh, 1)), ("ok", vec!["delivered"]));
    ack(&mut mesh, taker, &id);
    assert_eq!(
        code_of_answer(&mesh, taker, &id),
        "MESSAGE_NOT_FOUND",
        "the disk knows, and nothing waits any more"
    );
    assert_eq!(mesh.nodes[taker].core.stats().get(Counter::MailTaken), 1);
}

#[test]
fn an_acknowledgement_that_is_lost_is_asked_for_again() {
    let (mut mesh, taker) = fixture(false);
    mesh.send(1, taker, 1, r#","ttlMs":600000"#);
    mesh.settle();
    mesh.faults = Box::new(|node, input| match input {
        Input::MailRequestReceived { .. } if node == 1 => FaultDecision::Lose,
        _ => FaultDecision::Deliver,
    });
    let id = id_of(&mesh, taker, 1);
    ack(&mut mesh, taker, &id);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.pass(Duration::from_secs(50));
    assert_eq!(ends(&mesh, 1), [""; 0]);
    mesh.pass(Duration::from_secs(11));
    assert_eq!((ends(&mesh, 1), mesh.received(taker)), (vec!["delivered"], vec![1]));
}

#[test]
fn whoever_takes_long_is_asked_more_and_more_rarely() {
    let (mut mesh, taker) = fixture(false);
    mesh.send(1, taker, 1, r#","ttlMs":86400000"#);
    mesh.pass(Duration::from_secs(1500));
    let id = id_of(&mesh, taker, 1);
    ack(&mut mesh, taker, &id);
    let told = mesh.lines(1, "delivery")[0];
    assert_eq!(told["state"], "delivered");
    let attempts = told["attempts"].as_u64().unwrap();
    assert!((3..12).contains(&attempts), "{attempts} in 25 minutes");
    assert_eq!(mesh.received(taker), [1]);
}

#[test]
fn mail_that_its_sender_gave_up_is_waited_for_no_longer() {
    let (mut mesh, taker) = fixture(false);
    mesh.send(1, taker, 1, r#","ttlMs":1000"#);
    mesh.settle();
    let id = id_of(&mesh, taker, 1);
    mesh.pass(Duration::from_secs(2));
    assert_eq!(ends(&mesh, 1), ["expired"]);
    mesh.send(1, taker, 2, "");
    mesh.settle();
    ack(&mut mesh, taker, &id);
    assert_eq!(code_of_answer(&mesh, taker, &id), "MESSAGE_NOT_FOUND");
    let second = id_of(&mesh, taker, 2);
    ack(&mut mesh, taker, &second);
    assert_eq!(ends(&mesh, 1), ["expired", "delivered"]);
}

#[test]
fn a_parent_that_never_acknowledges_gets_a_window_and_no_more() {
    let (mut mesh, taker) = fixture(false);
    let number = UNTAKEN_WINDOW as u64 + 500;
    for data in 0..number {
        mesh.send(1, taker, data, r#","ttlMs":600000"#);
    }
    mesh.pass(Duration::from_secs(30));
    assert_eq!(mesh.received(taker), (0..UNTAKEN_WINDOW as u64).collect::<Vec<_>>());
    let waiting = mesh.nodes[taker].core.usage();
    let waiting = waiting.iter().find(|held| held.name == "messages that wait for an ack").unwrap().size;
    assert_eq!(waiting, UNTAKEN_WINDOW);
    // All but the first: the window moves with it.
    for data in 1..UNTAKEN_WINDOW as u64 {
        let id = id_of(&mesh, taker, data);
        ack(&mut mesh, taker, &id);
    }
    mesh.pass(Duration::from_secs(61));
    assert_eq!(ends(&mesh, 1).len(), UNTAKEN_WINDOW - 1);
    assert_eq!(mesh.received(taker).len(), UNTAKEN_WINDOW);
    let first = id_of(&mesh, taker, 0);
    ack(&mut mesh, taker, &first);
    mesh.pass(Duration::from_secs(1));
    assert_eq!(mesh.received(taker), (0..number).collect::<Vec<_>>());
}

#[test]
fn all_that_waits_for_an_ack_is_bounded_and_the_rest_stays_with_its_senders() {
    let mut mesh = Mesh::new(7);
    let taker = mesh.add_with(8, Role::Full, CONNECT, |setup| setup.manual_ack = true);
    for node in 1..taker {
        mesh.connect(node, taker);
        for priority in ["high", "medium", "low"] {
            for data in 0..UNTAKEN_WINDOW as u64 {
                mesh.send(node, taker, data, &format!(r#","ttlMs":600000,"priority":"{priority}""#));
            }
        }
    }
    mesh.pass(Duration::from_secs(30));
    let core = &mesh.nodes[taker].core;
    let waiting = core.usage().into_iter().find(|held| held.name == "messages that wait for an ack").unwrap();
    assert!(waiting.size > waiting.limit / 2 && waiting.size <= waiting.limit, "{waiting:?}");
    assert!(core.stats().get(Counter::MailBusy) > 0);
    let mut taken = 0;
    while taken < 6 * 3 * UNTAKEN_WINDOW {
        let ids: Vec<_> =
            mesh.lines(taker, "message")[taken..].iter().map(|line| line["messageId"].clone()).collect();
        assert!(!ids.is_empty(), "{taken} were acknowledged and nothing more comes");
        taken += ids.len();
        for id in ids {
            ack(&mut mesh, taker, id.as_str().unwrap());
        }
        mesh.pass(Duration::from_secs(60));
    }
}

#[test]
fn a_closing_node_answers_every_ack_and_leaves_the_mail_to_its_sender() {
    let (mut mesh, taker) = fixture(true);
    mesh.send(1, taker, 1, "");
    mesh.settle();
    mesh.disk_writes = false;
    let id = id_of(&mesh, taker, 1);
    ack(&mut mesh, taker, &id);
    mesh.say(taker, r#"{"type":"shutdown","id":"end"}"#);
    mesh.pass(Duration::from_secs(6));
    assert_eq!(code_of_answer(&mesh, taker, &id), "SHUTTING_DOWN");
    assert_eq!(ends(&mesh, 1), [""; 0]);
}

#[test]
fn what_waits_for_the_disk_is_bounded_and_the_rest_stays_with_its_senders() {
    let mut mesh = Mesh::new(12);
    let taker = mesh.add_with(13, Role::Full, CONNECT, |setup| {
        setup.manual_ack = true;
        setup.durable = true;
    });
    for node in 1..=taker {
        mesh.connect(node, 0);
    }
    mesh.disk_writes = false;
    let (to, text) = (mesh.nodes[taker].address.clone(), "x".repeat(500_000));
    for node in 1..taker {
        mesh.connect(node, taker);
        for _ in 0..4 {
            mesh.say(node, &format!(r#"{{"type":"send","peerId":"{to}","ttlMs":600000,"data":"{text}"}}"#));
        }
    }
    mesh.pass(Duration::from_secs(2));
    let core = &mesh.nodes[taker].core;
    let waiting =
        core.usage().into_iter().find(|held| held.name == "bytes that wait for a checkpoint").unwrap();
    assert!(waiting.size > 10_000_000 && waiting.size <= waiting.limit, "{waiting:?}");
    assert!(core.stats().get(Counter::MailBusy) > 0);
    assert_eq!(mesh.lines(taker, "message").len(), 0);
    mesh.write_on();
    mesh.pass(Duration::from_secs(120));
    assert_eq!(mesh.lines(taker, "message").len(), 4 * (taker - 1));
}
