//! Messages and gossip when the parent or the peers have no capacity.

use std::time::Duration;

use p2p_node_core::input::{Input, PublishOutcome};
use p2p_node_protocol::{Counter, Role};

use crate::mesh::{CONNECT, Mesh};

#[test]
fn an_acknowledgement_finds_its_way_to_a_node_that_has_no_room_for_mail() {
    let mut mesh = Mesh::new(4);
    let full = 3;
    let taker = mesh.add_with(5, Role::Full, CONNECT, |setup| setup.manual_ack = true);
    for node in [1, 2, taker] {
        mesh.connect(node, full);
    }
    mesh.send(full, taker, 1, r#","ttlMs":600000"#);
    mesh.settle();
    // Its parent does not read, and others write so urgently that what is kept for urgent mail is
    // used up too.
    mesh.nodes[full].reads = false;
    for node in [1, 2] {
        let urgent = mesh.nodes[node].address.clone();
        mesh.say(full, &format!(r#"{{"type":"allow","peerId":"{urgent}"}}"#));
        for data in 0..15_000 {
            mesh.send(node, full, data, r#","ttlMs":600000,"priority":"high""#);
        }
    }
    mesh.pass(Duration::from_secs(30));
    let stats = mesh.nodes[full].core.stats();
    assert!(stats.get(Counter::MailBusy) > 0, "there is no room");
    assert_eq!(stats.get(Counter::MailDelivered), 0);
    let id = mesh.lines(taker, "message")[0]["messageId"].as_str().unwrap().to_owned();
    mesh.say(taker, &format!(r#"{{"type":"ack","messageId":"{id}"}}"#));
    mesh.pass(Duration::from_millis(100));
    assert_eq!(mesh.nodes[full].core.stats().get(Counter::MailDelivered), 1);
}

#[test]
fn what_is_kept_for_urgent_mail_is_not_for_those_who_call_everything_urgent() {
    let mut mesh = Mesh::new(6);
    let (full, voter, filler) = (3, 4, 5);
    for node in [1, 2, voter, filler] {
        mesh.connect(node, full);
    }
    for node in [voter, filler] {
        mesh.send(node, full, 0, "");
    }
    mesh.settle();
    mesh.nodes[full].reads = false;
    let urgent = r#","ttlMs":600000,"priority":"high""#;
    for data in 0..15_000 {
        for node in [1, 2] {
            mesh.send(node, full, data, urgent);
        }
    }
    mesh.pass(Duration::from_secs(30));
    // One by one, so that no room is left for being too little.
    let refused = |mesh: &Mesh| mesh.nodes[full].core.stats().get(Counter::MailBusy);
    for data in 0..3000 {
        if mesh.nodes[filler].core.stats().get(Counter::MailDeferred) > 0 {
            break;
        }
        mesh.send(filler, full, data, urgent);
        mesh.settle();
        mesh.pass(Duration::from_millis(3));
    }
    let before = refused(&mesh);
    assert!(mesh.nodes[filler].core.stats().get(Counter::MailDeferred) > 0, "there is no room");
    mesh.send(voter, full, 1, urgent);
    mesh.settle();
    assert_eq!(refused(&mesh), before, "but for what is urgent");
}

/// How many of thirty mails of 50 kB leave by gossip before any time has passed.
fn leave_at_once(mesh: &mut Mesh) -> usize {
    let (text, address) = ("x".repeat(50_000), mesh.nodes[2].address.clone());
    for _ in 0..30 {
        mesh.say(1, &format!(r#"{{"type":"send","peerId":"{address}","data":"{text}","route":"gossip"}}"#));
    }
    mesh.settle();
    mesh.lines(2, "message").len()
}

fn pair() -> Mesh {
    let mut mesh = Mesh::new(3);
    for node in [1, 2] {
        mesh.connect(node, 0);
    }
    mesh.pass(Duration::from_secs(1));
    mesh
}

#[test]
fn mail_by_gossip_goes_at_its_pace_which_falls_where_it_finds_full_queues() {
    let mut free = pair();
    let at_once = leave_at_once(&mut free);
    assert!((3..15).contains(&at_once), "{at_once} left");
    let mut full = pair();
    for token in 1..10 {
        full.input(1, Input::Published { token: u64::MAX - token, outcome: PublishOutcome::QueuesFull });
    }
    assert_eq!(leave_at_once(&mut full), 1);
    let mut slow = pair();
    let peer = slow.nodes[0].peer;
    slow.input(1, Input::SlowPeer { peer });
    assert!((1..at_once).contains(&leave_at_once(&mut slow)), "half the pace");
    for mesh in [&mut free, &mut full, &mut slow] {
        mesh.pass(Duration::from_secs(10));
        assert_eq!(mesh.lines(2, "message").len(), 30);
    }
}

#[test]
fn a_peer_that_takes_no_gossip_is_disconnected_the_second_time() {
    let mut mesh = pair();
    let peer = mesh.nodes[0].peer;
    mesh.input(1, Input::SlowPeer { peer });
    mesh.settle();
    assert!(!mesh.hung_up.contains(&(1, peer)));
    mesh.input(1, Input::SlowPeer { peer });
    mesh.settle();
    assert!(mesh.hung_up.contains(&(1, peer)));
}
