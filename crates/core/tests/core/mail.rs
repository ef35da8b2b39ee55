//! Messages and broadcasts between honest cores over a hostile network.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use p2p_node_core::MAX_PAUSE;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::time::Instant;
use serde_json::Value;

use crate::mesh::{FaultDecision, Mesh};

fn states(mesh: &Mesh, node: usize) -> Vec<String> {
    mesh.lines(node, "delivery").iter().map(|line| line["state"].as_str().unwrap().to_owned()).collect()
}

fn pair() -> Mesh {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh
}

#[test]
fn messages_are_delivered_in_order_with_one_delivery_each() {
    let mut mesh = pair();
    for data in 0..100 {
        mesh.send(1, 2, data, "");
    }
    mesh.settle();
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(2), (0..100).collect::<Vec<_>>());
    assert_eq!(states(&mesh, 1), vec!["delivered"; 100]);
    assert!(mesh.lines(2, "message").iter().all(|line| line["from"] == mesh.nodes[1].address.as_str()));
}

#[test]
fn single_message_is_sent_at_once_and_many_share_frames() {
    let mut mesh = pair();
    mesh.connect(1, 2);
    let before = mesh.frames.len();
    mesh.send(1, 2, 0, "");
    mesh.settle();
    assert_eq!(mesh.received(2), [0], "without time passing");
    assert_eq!(mesh.frames.len(), before + 1);
    for data in 1..=1000 {
        mesh.send(1, 2, data, "");
    }
    mesh.settle();
    mesh.advance(Duration::from_millis(10));
    assert_eq!(mesh.received(2).len(), 1001);
    assert!(mesh.frames.len() - before < 10, "{} frames", mesh.frames.len() - before);
}

#[test]
fn high_priority_is_delivered_first_and_each_priority_in_order() {
    let mut mesh = pair();
    // The messages wait together, because the recipient is not reachable yet.
    let recipient = crate::mesh::agent_key(9).address();
    for (index, priority) in ["low", "medium", "high"].iter().cycle().take(30).enumerate() {
        let command =
            format!(r#"{{"type":"send","peerId":"{recipient}","data":{index},"priority":"{priority}"}}"#);
        mesh.queue_command(1, &command);
    }
    mesh.settle();
    let late = mesh.add(9, Role::Full);
    mesh.connect(late, 0);
    mesh.advance(Duration::from_secs(5));
    let received = mesh.received(late);
    assert_eq!(received.len(), 30);
    assert!(received[..10].iter().all(|data| data % 3 == 2), "{received:?}");
    for class in 0..3 {
        let of_class: Vec<_> = received.iter().filter(|data| *data % 3 == class).collect();
        assert!(of_class.is_sorted());
    }
}

#[test]
fn messages_over_lossy_link_are_delivered_once_and_in_order() {
    let mut mesh = pair();
    mesh.connect(1, 2);
    let lost = Rc::new(Cell::new(0u32));
    let counter = Rc::clone(&lost);
    let mut random = 1u64;
    mesh.faults = Box::new(move |_, input| {
        if !matches!(
            input,
            Input::MailRequestReceived { .. } | Input::MailResponseReceived { outcome: Ok(_), .. }
        ) {
            return FaultDecision::Deliver;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if random >> 62 == 0 {
            return FaultDecision::Deliver;
        }
        counter.set(counter.get() + 1);
        FaultDecision::Drop
    });
    for data in 0..50 {
        mesh.send(1, 2, data, r#","ttlMs":3600000"#);
        mesh.settle();
        mesh.advance(Duration::from_millis(3));
    }
    // The swarm fails requests after a timeout; here the test fails them.
    for _ in 0..1000 {
        mesh.fail_open_requests(1);
        mesh.advance(Duration::from_secs(3));
    }
    assert!(lost.get() > 5, "the link lost few frames: {}", lost.get());
    assert_eq!(mesh.received(2), (0..50).collect::<Vec<_>>());
    assert_eq!(states(&mesh, 1), vec!["delivered"; 50]);
}

#[test]
fn recipient_that_does_not_read_slows_its_sender_and_loses_nothing() {
    const FLOOD: u64 = 40_000;
    let mut mesh = pair();
    mesh.connect(1, 2);
    mesh.nodes[2].reads = false;
    let mut to_send: VecDeque<u64> = (0..FLOOD).collect();
    // A refused message is sent again, later and in order.
    let mut step = |mesh: &mut Mesh| {
        let mut written = Vec::new();
        while mesh.reads_stdin(1)
            && written.len() < 2000
            && let Some(data) = to_send.pop_front()
        {
            mesh.send(1, 2, data, &format!(r#","id":{data},"ttlMs":600000"#));
            written.push(data);
        }
        mesh.settle();
        mesh.advance(Duration::from_millis(50));
        let lines = std::mem::take(&mut mesh.nodes[1].lines);
        for line in &lines {
            if line["type"] == "error" {
                assert_eq!(line["code"], "BUSY", "{line}");
                to_send.push_back(line["id"].as_u64().unwrap());
            }
        }
        to_send.make_contiguous().sort_unstable();
        let count = |kind: &str, field: &str, value: &str| {
            lines.iter().filter(|line| line["type"] == kind && line[field] == value).count() as u64
        };
        (count("result", "delivery", "accepted"), count("delivery", "state", "delivered"))
    };
    let (mut accepted, mut delivered, mut refused) = (0, 0, false);
    for _ in 0..200 {
        let (more_accepted, more_delivered) = step(&mut mesh);
        (accepted, delivered) = (accepted + more_accepted, delivered + more_delivered);
        refused |= mesh.nodes[1].core.stats().get(Counter::SendsRefusedAfterPause) > 0;
    }
    assert!(refused && accepted < FLOOD, "{accepted} accepted although the recipient is full");
    assert!(delivered < accepted, "waiting messages are not reported as delivered");
    mesh.nodes[2].reads = true;
    for _ in 0..4000 {
        let (more_accepted, more_delivered) = step(&mut mesh);
        (accepted, delivered) = (accepted + more_accepted, delivered + more_delivered);
        if delivered == FLOOD {
            break;
        }
    }
    assert_eq!((accepted, delivered), (FLOOD, FLOOD));
    let mut received = mesh.received(2);
    received.sort_unstable();
    assert_eq!(received, (0..FLOOD).collect::<Vec<_>>());
}

#[test]
fn message_to_unknown_expires_with_peer_not_found() {
    let mut mesh = pair();
    let unknown = crate::mesh::agent_key(0x77).address();
    mesh.command(1, &format!(r#"{{"type":"send","peerId":"{unknown}","data":1,"ttlMs":5000,"id":"m"}}"#));
    mesh.advance(Duration::from_millis(4900));
    assert!(states(&mesh, 1).is_empty());
    mesh.advance(Duration::from_millis(200));
    let delivery = mesh.lines(1, "delivery")[0].clone();
    assert_eq!(
        (&delivery["state"], &delivery["code"]),
        (&Value::from("expired"), &Value::from("PEER_NOT_FOUND"))
    );
    assert_eq!(delivery["requestId"], "m");
}

#[test]
fn direct_message_to_unreachable_node_expires_and_auto_route_uses_gossip() {
    let mut mesh = pair();
    mesh.send(1, 2, 0, "");
    mesh.settle();
    mesh.partition(1, 2);
    mesh.send(1, 2, 1, r#","route":"direct","ttlMs":3000"#);
    mesh.settle();
    mesh.advance(Duration::from_secs(4));
    let last = mesh.lines(1, "delivery").last().copied().unwrap().clone();
    assert_eq!((&last["state"], &last["code"]), (&Value::from("expired"), &Value::from("PEER_UNREACHABLE")));
    mesh.send(1, 2, 2, "");
    mesh.settle();
    mesh.advance(Duration::from_secs(2));
    assert_eq!(mesh.received(2), [0, 2]);
    let message = mesh.lines(2, "message").last().copied().unwrap().clone();
    assert_eq!(message["route"], "gossip", "the bootstrap node forwarded the message");
    assert_eq!(states(&mesh, 1).last().unwrap(), "delivered");
}

#[test]
fn message_without_any_route_expires_with_peer_unreachable() {
    let mut mesh = pair();
    mesh.send(1, 2, 0, "");
    mesh.settle();
    for node in [0, 2] {
        mesh.partition(1, node);
    }
    mesh.send(1, 2, 1, r#","ttlMs":3000"#);
    mesh.settle();
    mesh.advance(Duration::from_secs(4));
    let last = mesh.lines(1, "delivery").last().copied().unwrap().clone();
    assert_eq!((&last["state"], &last["code"]), (&Value::from("expired"), &Value::from("PEER_UNREACHABLE")));
}

#[test]
fn message_to_recipient_gone_after_busy_expires_with_peer_unreachable() {
    let mut mesh = pair();
    mesh.nodes[2].reads = false;
    let mut sent = 0;
    while mesh.nodes[1].core.stats().get(Counter::MailDeferred) == 0 {
        for _ in 0..500 {
            mesh.send(1, 2, sent, "");
            sent += 1;
        }
        mesh.settle();
        mesh.advance(Duration::from_millis(50));
        assert!(sent < 100_000, "the recipient is never busy");
    }
    mesh.kill(2);
    mesh.advance(Duration::from_secs(1));
    mesh.command(1, &format!(r#"{{"type":"send","peerId":"{}","data":1,"priority":"high","route":"direct","ttlMs":3000,"id":"last"}}"#, mesh.nodes[2].address));
    mesh.advance(Duration::from_secs(5));
    let is_last = |line: &&&Value| line["requestId"] == "last";
    let code =
        mesh.lines(1, "delivery").iter().find(is_last).expect("a delivery of the last message")["code"]
            .clone();
    assert_eq!(code, "PEER_UNREACHABLE");
}

#[test]
fn dead_recipient_does_not_delay_the_others() {
    let mut mesh = Mesh::new(4);
    for node in 1..4 {
        mesh.connect(node, 0);
    }
    mesh.send(1, 2, 0, "");
    mesh.settle();
    mesh.kill(2);
    let text = "x".repeat(100_000);
    let (dead, alive) = (mesh.nodes[2].address.clone(), mesh.nodes[3].address.clone());
    for number in 0..400 {
        let command =
            format!(r#"{{"type":"send","peerId":"{dead}","data":"{text}","route":"direct","id":{number}}}"#);
        let since = mesh.now;
        while !mesh.reads_stdin(1) {
            mesh.advance(Duration::from_millis(100));
        }
        assert!(mesh.now - since <= MAX_PAUSE, "stdin is paused for too long");
        mesh.command(1, &command);
    }
    let answers: Vec<&Value> = mesh.nodes[1].lines.iter().filter(|line| line["id"].is_u64()).collect();
    let busy = answers.iter().filter(|line| line["code"] == "BUSY").count();
    assert!(
        answers.len() == 400 && busy > 300,
        "sends to the stalled recipient fail: {busy} of {}",
        answers.len()
    );
    assert!(mesh.now < Instant::after_start(MAX_PAUSE * 2), "stdin is paused once");
    mesh.command(1, &format!(r#"{{"type":"send","peerId":"{alive}","data":7,"id":"other"}}"#));
    mesh.advance(Duration::from_millis(100));
    assert_eq!(mesh.received(3), [7]);
}

#[test]
fn broadcast_waits_for_subscribers_and_fails_without_any() {
    let mut mesh = pair();
    mesh.command(1, r#"{"type":"send","topic":"jobs","data":1,"id":"t"}"#);
    mesh.advance(Duration::from_secs(5));
    assert!(mesh.received(2).is_empty());
    mesh.command(2, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    mesh.advance(Duration::from_secs(4));
    assert_eq!(mesh.received(2), [1]);
    mesh.command(1, r#"{"type":"send","topic":"unused","data":2,"id":"n"}"#);
    mesh.advance(Duration::from_secs(11));
    let delivery = mesh.lines(1, "delivery").last().copied().unwrap().clone();
    assert_eq!(
        (&delivery["requestId"], &delivery["code"]),
        (&Value::from("n"), &Value::from("NO_SUBSCRIBERS"))
    );
}

#[test]
fn node_restarted_at_another_address_receives_its_mail() {
    let mut mesh = pair();
    mesh.send(1, 2, 0, "");
    mesh.settle();
    mesh.kill(2);
    for data in 1..5 {
        mesh.send(1, 2, data, "");
    }
    mesh.settle();
    mesh.advance(Duration::from_secs(3));
    let back = mesh.add(3, Role::Full);
    assert_eq!(mesh.nodes[back].peer, mesh.nodes[2].peer);
    mesh.connect(back, 0);
    mesh.advance(Duration::from_millis(500));
    assert_eq!(mesh.received(back), [1, 2, 3, 4]);
}

#[test]
fn node_in_shutdown_delivers_its_mail_and_reports_the_rest() {
    let mut mesh = pair();
    let unknown = crate::mesh::agent_key(0x77).address();
    mesh.send(1, 2, 1, "");
    mesh.queue_command(1, &format!(r#"{{"type":"send","peerId":"{unknown}","data":1,"id":"lost"}}"#));
    mesh.queue_command(1, r#"{"type":"shutdown","id":"bye"}"#);
    mesh.settle();
    mesh.advance(Duration::from_secs(6));
    assert_eq!(mesh.received(2), [1]);
    assert_eq!(states(&mesh, 1), ["delivered", "failed"]);
    let last: Vec<_> = mesh.nodes[1].lines.iter().rev().take(2).map(|line| line["type"].clone()).collect();
    assert_eq!(last, ["closing", "result"]);
    assert_eq!(mesh.nodes[1].exit, Some(p2p_node_core::effect::ExitCode::Undelivered));
}

#[test]
fn message_sent_without_response_expires_with_expired() {
    let mut mesh = pair();
    mesh.connect(1, 2);
    mesh.faults = Box::new(|_, input| match input {
        Input::MailRequestReceived { .. } | Input::Gossip { .. } => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    mesh.send(1, 2, 1, r#","ttlMs":5000"#);
    mesh.settle();
    mesh.fail_open_requests(1);
    mesh.advance(Duration::from_secs(6));
    let deliveries = mesh.lines(1, "delivery");
    assert_eq!(
        (deliveries.len(), &deliveries[0]["state"], &deliveries[0]["code"]),
        (1, &"expired".into(), &"EXPIRED".into())
    );
    assert!(deliveries[0]["attempts"].as_u64() > Some(0));
}

#[test]
fn peer_that_resubscribes_often_causes_no_extra_retransmissions() {
    let mut mesh = pair();
    mesh.send(1, 2, 1, "");
    mesh.settle();
    mesh.kill(2);
    mesh.send(1, 2, 2, r#","route":"gossip","ttlMs":600000"#);
    let peer = mesh.nodes[0].peer;
    let topic = || "agent-messages".to_owned();
    for _ in 0..600 {
        mesh.input(1, Input::PeerUnsubscribed { peer, topic: topic() });
        mesh.input(1, Input::PeerSubscribed { peer, topic: topic() });
        mesh.advance(Duration::from_millis(500));
    }
    let sent = mesh.nodes[1].core.stats().get(Counter::MailFramesSent);
    assert!((4..20).contains(&sent), "{sent} frames in five minutes");
}
