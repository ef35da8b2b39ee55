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
fn mail_finds_its_way_and_each_has_one_delivery() {
    let mut mesh = pair();
    for data in 0..100 {
        mesh.send(1, 2, data, "");
    }
    mesh.settle();
    mesh.pass(Duration::from_secs(1));
    assert_eq!(mesh.received(2), (0..100).collect::<Vec<_>>());
    assert_eq!(states(&mesh, 1), vec!["delivered"; 100]);
    assert!(mesh.lines(2, "message").iter().all(|line| line["from"] == mesh.nodes[1].address.as_str()));
}

#[test]
fn a_lone_message_leaves_at_once_and_a_flood_shares_frames() {
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
    mesh.pass(Duration::from_millis(10));
    assert_eq!(mesh.received(2).len(), 1001);
    assert!(mesh.frames.len() - before < 10, "{} frames", mesh.frames.len() - before);
}

#[test]
fn high_priority_overtakes_and_each_priority_keeps_its_order() {
    let mut mesh = pair();
    // They wait together, because the recipient cannot be reached yet.
    let recipient = crate::mesh::agent_key(9).address();
    for (index, priority) in ["low", "medium", "high"].iter().cycle().take(30).enumerate() {
        let command =
            format!(r#"{{"type":"send","peerId":"{recipient}","data":{index},"priority":"{priority}"}}"#);
        mesh.say_quietly(1, &command);
    }
    mesh.settle();
    let late = mesh.add(9, Role::Full);
    mesh.connect(late, 0);
    mesh.pass(Duration::from_secs(5));
    let received = mesh.received(late);
    assert_eq!(received.len(), 30);
    assert!(received[..10].iter().all(|data| data % 3 == 2), "{received:?}");
    for class in 0..3 {
        let of_class: Vec<_> = received.iter().filter(|data| *data % 3 == class).collect();
        assert!(of_class.is_sorted());
    }
}

#[test]
fn lost_answers_and_lost_frames_cost_time_but_no_mail_and_no_repetition() {
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
        FaultDecision::Lose
    });
    for data in 0..50 {
        mesh.send(1, 2, data, r#","ttlMs":3600000"#);
        mesh.settle();
        mesh.pass(Duration::from_millis(3));
    }
    // The swarm reports what was not answered in time; here the connection's end does.
    for _ in 0..1000 {
        mesh.fail_open_requests(1);
        mesh.pass(Duration::from_secs(3));
    }
    assert!(lost.get() > 5, "there was something to lose: {}", lost.get());
    assert_eq!(mesh.received(2), (0..50).collect::<Vec<_>>());
    assert_eq!(states(&mesh, 1), vec!["delivered"; 50]);
}

#[test]
fn a_parent_that_does_not_read_slows_its_senders_and_loses_nothing() {
    const FLOOD: u64 = 40_000;
    let mut mesh = pair();
    mesh.connect(1, 2);
    mesh.nodes[2].reads = false;
    let mut to_send: VecDeque<u64> = (0..FLOOD).collect();
    // What is refused is sent again, later and in its order.
    let mut step = |mesh: &mut Mesh| {
        let mut written = Vec::new();
        while mesh.nodes[1].core.can_accept_command()
            && written.len() < 2000
            && let Some(data) = to_send.pop_front()
        {
            mesh.send(1, 2, data, &format!(r#","id":{data},"ttlMs":600000"#));
            written.push(data);
        }
        mesh.settle();
        mesh.pass(Duration::from_millis(50));
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
    assert!(refused && accepted < FLOOD, "{accepted}: there is no room while the other side is full");
    assert!(delivered < accepted, "what waits is not reported as delivered");
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
fn mail_to_nobody_expires_with_the_reason() {
    let mut mesh = pair();
    let nobody = crate::mesh::agent_key(0x77).address();
    mesh.say(1, &format!(r#"{{"type":"send","peerId":"{nobody}","data":1,"ttlMs":5000,"id":"m"}}"#));
    mesh.pass(Duration::from_millis(4900));
    assert!(states(&mesh, 1).is_empty());
    mesh.pass(Duration::from_millis(200));
    let delivery = mesh.lines(1, "delivery")[0].clone();
    assert_eq!(
        (&delivery["state"], &delivery["code"]),
        (&Value::from("expired"), &Value::from("PEER_NOT_FOUND"))
    );
    assert_eq!(delivery["requestId"], "m");
}

#[test]
fn direct_mail_to_a_node_that_is_down_says_so_and_auto_takes_to_gossip() {
    let mut mesh = pair();
    mesh.send(1, 2, 0, "");
    mesh.settle();
    mesh.part(1, 2);
    mesh.send(1, 2, 1, r#","route":"direct","ttlMs":3000"#);
    mesh.settle();
    mesh.pass(Duration::from_secs(4));
    let last = mesh.lines(1, "delivery").last().copied().unwrap().clone();
    assert_eq!((&last["state"], &last["code"]), (&Value::from("expired"), &Value::from("PEER_UNREACHABLE")));
    mesh.send(1, 2, 2, "");
    mesh.settle();
    mesh.pass(Duration::from_secs(2));
    assert_eq!(mesh.received(2), [0, 2]);
    let message = mesh.lines(2, "message").last().copied().unwrap().clone();
    assert_eq!(message["route"], "gossip", "the bootstrap passed it on");
    assert_eq!(states(&mesh, 1).last().unwrap(), "delivered");
}

#[test]
fn mail_that_never_left_is_told_so() {
    let mut mesh = pair();
    mesh.send(1, 2, 0, "");
    mesh.settle();
    for node in [0, 2] {
        mesh.part(1, node);
    }
    mesh.send(1, 2, 1, r#","ttlMs":3000"#);
    mesh.settle();
    mesh.pass(Duration::from_secs(4));
    let last = mesh.lines(1, "delivery").last().copied().unwrap().clone();
    assert_eq!((&last["state"], &last["code"]), (&Value::from("expired"), &Value::from("PEER_UNREACHABLE")));
}

#[test]
fn a_recipient_that_was_busy_and_is_gone_is_not_told_as_busy() {
    let mut mesh = pair();
    mesh.nodes[2].reads = false;
    let mut sent = 0;
    while mesh.nodes[1].core.stats().get(Counter::MailDeferred) == 0 {
        for _ in 0..500 {
            mesh.send(1, 2, sent, "");
            sent += 1;
        }
        mesh.settle();
        mesh.pass(Duration::from_millis(50));
        assert!(sent < 100_000, "it never says that it is busy");
    }
    mesh.kill(2);
    mesh.pass(Duration::from_secs(1));
    mesh.say(1, &format!(r#"{{"type":"send","peerId":"{}","data":1,"priority":"high","route":"direct","ttlMs":3000,"id":"last"}}"#, mesh.nodes[2].address));
    mesh.pass(Duration::from_secs(5));
    let is_last = |line: &&&Value| line["requestId"] == "last";
    let code = mesh.lines(1, "delivery").iter().find(is_last).expect("it has ended")["code"].clone();
    assert_eq!(code, "PEER_UNREACHABLE");
}

#[test]
fn a_dead_recipient_does_not_hold_up_the_others() {
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
        while !mesh.nodes[1].core.can_accept_command() {
            mesh.pass(Duration::from_millis(100));
        }
        assert!(mesh.now - since <= MAX_PAUSE, "stdin pauses no longer");
        mesh.say(1, &command);
    }
    let told: Vec<&Value> = mesh.nodes[1].lines.iter().filter(|line| line["id"].is_u64()).collect();
    let busy = told.iter().filter(|line| line["code"] == "BUSY").count();
    assert!(told.len() == 400 && busy > 300, "a stalled destination says so: {busy} of {}", told.len());
    assert!(mesh.now < Instant::after_start(MAX_PAUSE * 2), "and it was waited for once");
    mesh.say(1, &format!(r#"{{"type":"send","peerId":"{alive}","data":7,"id":"other"}}"#));
    mesh.pass(Duration::from_millis(100));
    assert_eq!(mesh.received(3), [7]);
}

#[test]
fn broadcasts_are_held_for_subscribers_and_told_when_there_are_none() {
    let mut mesh = pair();
    mesh.say(1, r#"{"type":"send","topic":"jobs","data":1,"id":"t"}"#);
    mesh.pass(Duration::from_secs(5));
    assert!(mesh.received(2).is_empty());
    mesh.say(2, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    mesh.pass(Duration::from_secs(4));
    assert_eq!(mesh.received(2), [1]);
    mesh.say(1, r#"{"type":"send","topic":"nobody","data":2,"id":"n"}"#);
    mesh.pass(Duration::from_secs(11));
    let delivery = mesh.lines(1, "delivery").last().copied().unwrap().clone();
    assert_eq!(
        (&delivery["requestId"], &delivery["code"]),
        (&Value::from("n"), &Value::from("NO_SUBSCRIBERS"))
    );
}

#[test]
fn a_node_that_comes_back_elsewhere_gets_its_mail() {
    let mut mesh = pair();
    mesh.send(1, 2, 0, "");
    mesh.settle();
    mesh.kill(2);
    for data in 1..5 {
        mesh.send(1, 2, data, "");
    }
    mesh.settle();
    mesh.pass(Duration::from_secs(3));
    let back = mesh.add(3, Role::Full);
    assert_eq!(mesh.nodes[back].peer, mesh.nodes[2].peer);
    mesh.connect(back, 0);
    mesh.pass(Duration::from_millis(500));
    assert_eq!(mesh.received(back), [1, 2, 3, 4]);
}

#[test]
fn a_closing_node_finishes_what_it_can_and_tells_the_rest() {
    let mut mesh = pair();
    let nobody = crate::mesh::agent_key(0x77).address();
    mesh.send(1, 2, 1, "");
    mesh.say_quietly(1, &format!(r#"{{"type":"send","peerId":"{nobody}","data":1,"id":"lost"}}"#));
    mesh.say_quietly(1, r#"{"type":"shutdown","id":"bye"}"#);
    mesh.settle();
    mesh.pass(Duration::from_secs(6));
    assert_eq!(mesh.received(2), [1]);
    assert_eq!(states(&mesh, 1), ["delivered", "failed"]);
    let last: Vec<_> = mesh.nodes[1].lines.iter().rev().take(2).map(|line| line["type"].clone()).collect();
    assert_eq!(last, ["closing", "result"]);
    assert_eq!(mesh.nodes[1].exit, Some(p2p_node_core::effect::ExitCode::Undelivered));
}

#[test]
fn mail_that_was_sent_and_never_answered_for_says_that_its_time_ran_out() {
    let mut mesh = pair();
    mesh.connect(1, 2);
    mesh.faults = Box::new(|_, input| match input {
        Input::MailRequestReceived { .. } | Input::Gossip { .. } => FaultDecision::Lose,
        _ => FaultDecision::Deliver,
    });
    mesh.send(1, 2, 1, r#","ttlMs":5000"#);
    mesh.settle();
    mesh.fail_open_requests(1);
    mesh.pass(Duration::from_secs(6));
    let ended = mesh.lines(1, "delivery");
    assert_eq!(
        (ended.len(), &ended[0]["state"], &ended[0]["code"]),
        (1, &"expired".into(), &"EXPIRED".into())
    );
    assert!(ended[0]["attempts"].as_u64() > Some(0));
}

#[test]
fn whoever_comes_and_goes_does_not_have_mail_sent_again_each_time() {
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
        mesh.pass(Duration::from_millis(500));
    }
    let sent = mesh.nodes[1].core.stats().get(Counter::MailFramesSent);
    assert!((4..20).contains(&sent), "{sent} frames in five minutes");
}
