//! Durable messages: accepted after the store has persisted them, and delivered by the next
//! process.

use std::time::Duration;

use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use p2p_node_testing::store::Change;
use serde_json::json;

use crate::mesh::{CONNECT, FaultDecision, Mesh};

/// A server, an agent without a store, and an agent with one, which is the last.
fn fixture() -> Mesh {
    let mut mesh = Mesh::new(2);
    mesh.add_with(3, Role::Full, CONNECT, |setup| setup.durable = true);
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
fn nothing_is_accepted_or_leaves_before_it_is_kept() {
    let mut mesh = fixture();
    mesh.disk_writes = false;
    send(&mut mesh, 2, 1);
    mesh.pass(Duration::from_secs(5));
    assert!(mesh.lines(2, "result").iter().all(|line| line["id"] != "m1"));
    assert_eq!((mesh.received(1), mesh.unwritten.len()), (vec![], 1));
    let kept = mesh.nodes[2].core.usage();
    assert_eq!(kept.iter().find(|held| held.name == "pending writes of messages").unwrap().size, 1);

    send(&mut mesh, 2, 2);
    mesh.write_on();
    mesh.pass(Duration::from_millis(50));
    for id in ["m1", "m2"] {
        let answer = mesh.lines(2, "result").into_iter().find(|line| line["id"] == id).unwrap();
        assert_eq!(answer["delivery"], "accepted");
    }
    assert_eq!(mesh.received(1), [1, 2]);
    assert_eq!(states(&mesh, 2), ["delivered"; 2]);
    assert!(mesh.store(2).messages.is_empty(), "what has ended is not kept");
    assert!(mesh.lines(2, "ready")[0]["durable"] == true && mesh.lines(1, "ready")[0]["durable"] == false);
}

#[test]
fn a_full_disk_accepts_nothing_and_is_got_over() {
    let mut mesh = fixture();
    mesh.disk_full = true;
    send(&mut mesh, 2, 1);
    let refused = mesh.lines(2, "error").into_iter().find(|line| line["id"] == "m1").unwrap().clone();
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("DISK_FULL"), &json!(true)), "{refused}");
    mesh.disk_full = false;
    send(&mut mesh, 2, 2);
    mesh.pass(Duration::from_secs(1));
    assert_eq!((mesh.received(1), states(&mesh, 2)), (vec![2], vec!["delivered"]));
    assert!(mesh.lines(2, "delivery").iter().all(|line| line["requestId"] != "m1"));
}

#[test]
fn the_next_process_sends_what_was_accepted_in_order_and_numbers_go_on() {
    let mut mesh = fixture();
    // Nothing gets through any more, by whichever way.
    for node in [0, 2] {
        mesh.part(1, node);
    }
    for data in 0..20 {
        let priority = ["low", "medium", "high"][data as usize % 3];
        mesh.send(2, 1, data, &format!(r#","priority":"{priority}""#));
    }
    mesh.settle();
    mesh.pass(Duration::from_secs(1));
    assert_eq!(mesh.store(2).messages.len(), 20);
    let again = mesh.restart(2, 3, &[], |_| {});
    mesh.send(again, 1, 101, r#","priority":"high""#);
    mesh.connect(again, 0);
    mesh.connect(1, again);
    mesh.pass(Duration::from_secs(60));
    let received = mesh.received(1);
    let of = |priority: u64| -> Vec<u64> {
        received.iter().copied().filter(|data| data % 3 == priority).collect()
    };
    assert_eq!((of(0), of(1)), ((0..20).step_by(3).collect(), (1..20).step_by(3).collect()));
    assert_eq!(of(2), [2, 5, 8, 11, 14, 17, 101], "what is new comes behind what was there");
    assert_eq!(states(&mesh, again), ["delivered"; 21]);
    let marked = mesh.lines(again, "delivery").into_iter().filter(|line| line["redelivered"] == true);
    assert_eq!(marked.count(), 20, "those of the earlier process");
    assert!(mesh.store(again).messages.is_empty());
}

#[test]
fn what_was_delivered_and_not_forgotten_is_not_told_twice() {
    let mut mesh = fixture();
    send(&mut mesh, 2, 1);
    mesh.disk_writes = false;
    send(&mut mesh, 2, 2);
    assert!(mesh.store(2).messages.is_empty(), "the first is forgotten");
    // The second arrives on the disk, and nobody hears of that.
    mesh.unwritten.clear();
    let kept: Vec<_> = mesh
        .store(2)
        .pending()
        .iter()
        .map(|change| match change {
            Change::Message(_, mail) => (**mail).clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    mesh.kill(2);
    mesh.disk_writes = true;
    // The disk had not forgotten the first when the process was killed.
    let first = {
        let mut mail = kept[0].clone();
        mail.seq -= 1;
        mail.draft.data = "1".into();
        mail
    };
    let again = mesh.add_with(3, Role::Full, CONNECT, |setup| {
        setup.durable = true;
        setup.outbox = vec![first, kept[0].clone()];
    });
    mesh.connect(again, 0);
    mesh.connect(1, again);
    mesh.pass(Duration::from_secs(10));
    assert_eq!(mesh.received(1), [1, 2]);
    assert_eq!(states(&mesh, again), ["delivered"; 2]);
}

#[test]
fn mail_outlives_a_shutdown_and_what_has_expired_meanwhile_is_told() {
    let mut mesh = fixture();
    for node in [0, 2] {
        mesh.part(1, node);
    }
    send(&mut mesh, 2, 1);
    mesh.send(2, 1, 2, r#","ttlMs":30000"#);
    mesh.say(2, r#"{"type":"shutdown","id":"end"}"#);
    mesh.pass(Duration::from_secs(10));
    assert_eq!(mesh.nodes[2].exit.map(|code| code as i32), Some(0), "nothing is lost");
    assert_eq!(states(&mesh, 2), [""; 0]);
    mesh.kill(2);
    mesh.pass(Duration::from_secs(60));
    let again = mesh.restart(2, 3, &[0], |_| {});
    mesh.connect(1, again);
    mesh.pass(Duration::from_secs(60));
    assert_eq!(mesh.received(1), [1]);
    assert_eq!(states(&mesh, again), ["expired", "delivered"]);
}

/// An agent without a store and one with, to which it writes; the first is a server.
fn mailbox() -> (Mesh, usize) {
    let mut mesh = Mesh::new(2);
    let mailbox = mesh.add_with(3, Role::Full, CONNECT, |setup| setup.durable = true);
    mesh.connect(1, 0);
    mesh.connect(mailbox, 0);
    mesh.connect(1, mailbox);
    (mesh, mailbox)
}

#[test]
fn mail_is_signed_for_when_the_parent_has_it_and_the_disk_knows() {
    for route in ["direct", "gossip"] {
        let (mut mesh, mailbox) = mailbox();
        mesh.nodes[mailbox].reads = false;
        mesh.send(1, mailbox, 1, &format!(r#","route":"{route}""#));
        mesh.pass(Duration::from_secs(3));
        assert_eq!(states(&mesh, 1), [""; 0], "{route}: nobody has read it");
        mesh.nodes[mailbox].reads = true;
        mesh.disk_writes = false;
        mesh.pass(Duration::from_secs(1));
        assert_eq!(
            (mesh.received(mailbox), states(&mesh, 1).len()),
            (vec![1], 0),
            "{route}: the disk does not know"
        );
        assert!(mesh.store(mailbox).checkpoints.is_empty());
        mesh.write_on();
        mesh.send(1, mailbox, 2, &format!(r#","route":"{route}""#));
        mesh.pass(Duration::from_secs(20));
        assert_eq!(mesh.received(mailbox), [1, 2], "{route}");
        assert_eq!(states(&mesh, 1), ["delivered"; 2], "{route}");
        assert_eq!(mesh.store(mailbox).checkpoints.len(), 1, "{route}");
    }
}

#[test]
fn the_next_process_goes_on_where_the_parent_was() {
    let (mut mesh, mailbox) = mailbox();
    mesh.send(1, mailbox, 1, "");
    mesh.settle();
    assert_eq!(states(&mesh, 1), ["delivered"]);
    // The second arrives, and its sender never hears of that.
    mesh.disk_writes = false;
    mesh.send(1, mailbox, 2, "");
    mesh.settle();
    assert_eq!(mesh.received(mailbox), [1, 2]);
    assert_eq!(mesh.store(mailbox).checkpoints.len(), 1);
    mesh.kill(mailbox);
    mesh.fail_open_requests(1);
    mesh.unwritten.clear();
    mesh.disk_writes = true;
    let again = mesh.restart(mailbox, 3, &[0, 1], |_| {});
    mesh.send(1, again, 3, "");
    mesh.pass(Duration::from_secs(20));
    assert_eq!(
        mesh.received(again),
        [2, 3],
        "the first is not told again, of the second the disk did not know"
    );
    assert_eq!(states(&mesh, 1), ["delivered"; 3]);
    let ids: Vec<_> = [mailbox, again]
        .iter()
        .flat_map(|node| mesh.lines(*node, "message"))
        .filter(|line| line["data"] == 2)
        .map(|line| line["messageId"].clone())
        .collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "it has the same name");
}

#[test]
fn what_is_refused_is_settled_in_its_turn() {
    let (mut mesh, mailbox) = mailbox();
    let blocked = mesh.nodes[1].address.clone();
    mesh.nodes[mailbox].reads = false;
    mesh.send(1, mailbox, 1, "");
    mesh.settle();
    mesh.say(mailbox, &format!(r#"{{"type":"block","peerId":"{blocked}","id":"b"}}"#));
    mesh.send(1, mailbox, 2, "");
    mesh.pass(Duration::from_secs(1));
    assert_eq!(states(&mesh, 1), [""; 0], "what came before it is not settled");
    mesh.nodes[mailbox].reads = true;
    mesh.pass(Duration::from_secs(20));
    assert_eq!(mesh.received(mailbox), [1]);
    assert_eq!(states(&mesh, 1), ["delivered", "rejected"]);
}

#[test]
fn what_is_read_while_the_node_ends_is_not_told_again() {
    let (mut mesh, mailbox) = mailbox();
    mesh.nodes[mailbox].reads = false;
    mesh.send(1, mailbox, 1, "");
    mesh.settle();
    mesh.say(mailbox, r#"{"type":"shutdown"}"#);
    mesh.settle();
    assert_eq!(mesh.nodes[mailbox].exit, None, "its lines have not been read");
    mesh.nodes[mailbox].reads = true;
    mesh.pass(Duration::from_millis(300));
    assert_eq!(mesh.nodes[mailbox].exit, Some(ExitCode::Ok));
    mesh.fail_open_requests(1);
    let again = mesh.restart(mailbox, 3, &[0, 1], |_| {});
    mesh.send(1, again, 2, "");
    mesh.pass(Duration::from_secs(20));
    assert_eq!((mesh.received(mailbox), mesh.received(again)), (vec![1], vec![2]));
    assert_eq!(states(&mesh, 1), ["delivered"; 2]);
}

#[test]
fn mail_that_is_acknowledged_when_the_last_line_is_out_is_told_by_the_next_process() {
    let mut mesh = Mesh::new(1);
    let sender = mesh.add_with(3, Role::Full, CONNECT, |setup| setup.durable = true);
    let to = mesh.add_with(4, Role::Full, CONNECT, |setup| setup.durable = true);
    for (one, other) in [(sender, 0), (to, 0), (sender, to)] {
        mesh.connect(one, other);
    }
    mesh.nodes[to].reads = false;
    mesh.send(sender, to, 1, "");
    mesh.settle();
    // The recipient answers late, so that a frame is on its way when the sender's time is over.
    mesh.pass(Duration::from_secs(3));
    mesh.nodes[sender].reads = false;
    mesh.say(sender, r#"{"type":"shutdown"}"#);
    mesh.pass(Duration::from_millis(5200));
    assert_eq!(mesh.nodes[sender].exit, None, "its last lines wait to be read");
    mesh.nodes[to].reads = true;
    mesh.pass(Duration::from_millis(100));
    assert_eq!((states(&mesh, sender).len(), mesh.store(sender).messages.len()), (0, 1));
    mesh.pass(Duration::from_secs(2));
    let again = mesh.restart(sender, 3, &[0, to], |_| {});
    mesh.pass(Duration::from_secs(5));
    assert_eq!(states(&mesh, again), ["delivered"]);
    assert_eq!(mesh.received(to), [1]);
}

#[test]
fn what_the_disk_knows_is_not_told_again_though_its_sender_never_heard() {
    let (mut mesh, mailbox) = mailbox();
    mesh.faults = Box::new(|node, input| match input {
        Input::MailResponseReceived { .. } if node == 1 => FaultDecision::Lose,
        _ => FaultDecision::Deliver,
    });
    mesh.send(1, mailbox, 1, "");
    mesh.settle();
    assert_eq!((mesh.received(mailbox), states(&mesh, 1).len()), (vec![1], 0));
    mesh.kill(mailbox);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.fail_open_requests(1);
    let again = mesh.restart(mailbox, 3, &[0, 1], |_| {});
    mesh.send(1, again, 2, "");
    mesh.pass(Duration::from_secs(20));
    assert_eq!((mesh.received(again), states(&mesh, 1)), (vec![2], vec!["delivered"; 2]));
}
