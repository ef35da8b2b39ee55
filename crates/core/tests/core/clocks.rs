//! Wrong clocks, clock jumps, clock skew between nodes, and suspended machines.

use std::time::Duration;

use p2p_node_core::effect::Verdict;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::Scope;
use p2p_node_wire::record::SignedRecord;
use serde_json::Value;

use crate::forged::{frame, record, topic};
use crate::mesh::{CONNECT, FaultDecision, Mesh, START_MS, node_key};
use crate::verification::gossip;

const HOUR: Duration = Duration::from_secs(3600);
const WEEK_MS: i64 = 7 * 24 * 3_600_000;
/// Longer than a look at a clock bars the next one, and shorter than `node-status`.
const A_MOMENT: Duration = Duration::from_secs(11);

/// A node whose clock is ahead, and so many neighbours whose clocks are right.
fn ahead(ahead_ms: i64, neighbours: u8) -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.ahead_ms.insert(0, ahead_ms);
    mesh.add(1, Role::Bootstrap);
    for number in 2..2 + neighbours {
        let node = mesh.add(number, Role::Full);
        mesh.connect(node, 0);
    }
    mesh
}

fn skews(mesh: &Mesh, node: usize) -> Vec<&Value> {
    mesh.lines(node, "error").into_iter().filter(|line| line["code"] == "CLOCK_SKEW").collect()
}

fn is_told(mesh: &Mesh, ahead_ms: i64) {
    let told = skews(mesh, 0);
    assert_eq!(told.len(), 1, "{ahead_ms} {told:?}");
    assert_eq!(told[0]["details"]["aheadMs"], ahead_ms);
    let which = if ahead_ms > 0 { "ahead" } else { "behind" };
    assert!(told[0]["message"].as_str().unwrap().contains(which), "{told:?}");
}

/// Has neighbours say something that they dated by clocks which are `ahead_ms` ahead.
fn say_dated(mesh: &mut Mesh, numbers: &[u8], ahead_ms: i64, by_gossip: bool) {
    let first = 7 + mesh.verdicts(0).len() as u64;
    for (number, counter) in numbers.iter().zip(first..) {
        let from = node_key(*number).peer_id();
        let scope = match by_gossip {
            true => Scope::Topic("node-status".to_owned()),
            false => Scope::NodeKey(node_key(1).public().to_vec().into()),
        };
        let created_at_ms = mesh.clock().unix_ms.saturating_add_signed(ahead_ms);
        let data = frame(*number, scope, counter, |body| body.created_at_ms = created_at_ms);
        let token = 5_000_000 + counter;
        let input = match by_gossip {
            true => Input::Gossip { token, from, topic: "node-status".to_owned(), data },
            false => Input::MailRequestReceived { token, peer: from, frame: data },
        };
        mesh.input(0, input);
    }
}

#[test]
fn two_hellos_are_enough_to_hear_that_the_clock_is_off_however_far() {
    for off in [16_000, 45_000, 600_000, WEEK_MS, -16_000, -45_000, -600_000, -WEEK_MS] {
        let mesh = ahead(off, 1);
        assert!(skews(&mesh, 0).is_empty(), "one may be wrong by itself: {off}");
        is_told(&ahead(off, 2), off);
        is_told(&ahead(off, 4), off);
    }
}

#[test]
fn two_frames_are_enough_whatever_they_are_refused_for() {
    for by_gossip in [false, true] {
        for off in [16_000, 600_000, -600_000] {
            let mut mesh = ahead(0, 2);
            mesh.pass(A_MOMENT);
            say_dated(&mut mesh, &[2], -off, by_gossip);
            assert!(skews(&mesh, 0).is_empty());
            say_dated(&mut mesh, &[3], -off, by_gossip);
            is_told(&mesh, off);
        }
    }
}

#[test]
fn small_differences_and_liars_who_are_no_majority_are_no_reason() {
    assert!(skews(&ahead(10_000, 6), 0).is_empty());
    let mut mesh = ahead(0, 6);
    mesh.pass(A_MOMENT);
    say_dated(&mut mesh, &[2, 3], 600_000, true);
    mesh.pass(A_MOMENT);
    // Each counts once, however often it says so.
    for _ in 0..5 {
        say_dated(&mut mesh, &[2, 3], 600_000, false);
        mesh.pass(A_MOMENT);
    }
    assert!(skews(&mesh, 0).is_empty());
}

#[test]
fn two_recipients_that_refuse_our_time_are_enough() {
    let mut mesh = Mesh::new(0);
    mesh.ahead_ms.insert(0, 45_000);
    // What else tells of their clocks is lost.
    mesh.faults = Box::new(|node, input| match input {
        Input::HelloRequestReceived { .. } | Input::HelloResponseReceived { .. } if node == 0 => {
            FaultDecision::Lose
        }
        Input::Gossip { topic, .. } if node == 0 && topic == "node-status" => FaultDecision::Lose,
        _ => FaultDecision::Deliver,
    });
    mesh.add(1, Role::Bootstrap);
    for number in [2, 3] {
        let node = mesh.add(number, Role::Full);
        mesh.connect(node, 0);
    }
    mesh.pass(Duration::from_secs(1));
    assert!(skews(&mesh, 0).is_empty());
    for to in [1, 2] {
        mesh.send(0, to, 7, r#","ttlMs":20000"#);
        mesh.settle();
    }
    is_told(&mesh, 45_000);
}

/// What the only delivery of a node says.
fn delivery(mesh: &Mesh, node: usize) -> &Value {
    let told = mesh.lines(node, "delivery");
    assert_eq!(told.len(), 1, "{told:?}");
    told[0]
}

#[test]
fn mail_that_expires_because_of_the_time_says_so_and_by_how_much() {
    for (off, route, which) in [
        (45_000, "auto", "45 s, and this machine is ahead"),
        (3_600_000, "direct", "3600 s, and this machine is ahead"),
        (-300_000, "auto", "300 s, and this machine is behind"),
    ] {
        let mut mesh = ahead(off, 1);
        mesh.send(0, 1, 7, &format!(r#","ttlMs":20000,"route":"{route}""#));
        mesh.settle();
        mesh.pass(Duration::from_secs(21));
        let told = delivery(&mesh, 0);
        assert_eq!((&told["state"], &told["code"]), (&"expired".into(), &"CLOCK_SKEW".into()), "{told}");
        assert!(told["message"].as_str().unwrap().contains(which), "{told}");
        assert!(mesh.received(1).is_empty());
    }
}

#[test]
fn who_is_right_hears_why_the_mail_to_one_who_is_ahead_expires() {
    let mut mesh = ahead(45_000, 1);
    mesh.send(1, 0, 7, r#","ttlMs":20000"#);
    mesh.settle();
    mesh.pass(Duration::from_secs(5));
    // It is still connected, and says its record again.
    mesh.say(0, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    mesh.pass(Duration::from_secs(16));
    let told = delivery(&mesh, 1);
    assert_eq!(told["code"], "CLOCK_SKEW", "{told}");
    assert!(told["message"].as_str().unwrap().contains("this machine is behind"), "{told}");
}

#[test]
fn mail_that_finds_nobody_blames_a_clock_that_is_known_to_be_off() {
    let mut mesh = ahead(-300_000, 2);
    let nobody = crate::mesh::agent_key(99).address();
    mesh.say(0, &format!(r#"{{"type":"send","peerId":"{nobody}","data":1,"ttlMs":5000}}"#));
    mesh.pass(Duration::from_secs(6));
    assert_eq!(delivery(&mesh, 0)["code"], "CLOCK_SKEW");
    let mut mesh = ahead(20_000, 2);
    mesh.say(0, &format!(r#"{{"type":"send","peerId":"{nobody}","data":1,"ttlMs":5000}}"#));
    mesh.pass(Duration::from_secs(6));
    assert_eq!(delivery(&mesh, 0)["code"], "PEER_NOT_FOUND", "peers bear that much");
}

/// Mail to a node that is in good order arrives in a moment.
fn is_mailable(mesh: &mut Mesh, from: usize, to: usize, data: u64) {
    mesh.send(from, to, data, r#","ttlMs":60000"#);
    mesh.settle();
    mesh.pass(Duration::from_secs(5));
    assert_eq!(mesh.received(to).last(), Some(&data));
    let told = mesh.lines(from, "delivery");
    assert_eq!(told.last().unwrap()["state"], "delivered", "{told:?}");
}

#[test]
fn a_clock_that_is_put_right_by_a_week_leaves_its_node_mailable_and_able_to_mail() {
    for (number, off) in [-WEEK_MS, -2 * WEEK_MS, WEEK_MS, -600_000, 600_000].into_iter().enumerate() {
        for connected in [false, true] {
            let mut mesh = Mesh::new(2);
            mesh.connect(1, 0);
            mesh.ahead_ms.insert(2, off);
            let node = mesh.add(3, Role::Full);
            mesh.connect(node, 0);
            if connected {
                mesh.connect(node, 1);
            }
            mesh.pass(HOUR);
            mesh.ahead_ms.remove(&node);
            mesh.settle();
            mesh.pass(Duration::from_secs(11));
            let data = number as u64 * 10;
            is_mailable(&mut mesh, 1, node, data);
            is_mailable(&mut mesh, node, 1, data + 1);
            assert_eq!(mesh.nodes[node].core.stats().get(Counter::ClockJumps), 1);
            assert_eq!(mesh.nodes[1].core.stats().get(Counter::MailWithoutKey), 0);
        }
    }
}

#[test]
fn a_clock_that_jumps_away_and_back_leaves_nothing_behind() {
    for off in [-WEEK_MS, WEEK_MS] {
        let mut mesh = Mesh::new(3);
        mesh.connect(1, 0);
        mesh.connect(2, 0);
        is_mailable(&mut mesh, 1, 2, 1);
        mesh.ahead_ms.insert(2, off);
        mesh.settle();
        mesh.pass(HOUR);
        mesh.ahead_ms.remove(&2);
        mesh.settle();
        mesh.pass(Duration::from_secs(11));
        is_mailable(&mut mesh, 1, 2, 2);
        is_mailable(&mut mesh, 2, 1, 3);
    }
}

#[test]
fn a_machine_that_was_suspended_is_mailable_at_once_and_its_times_have_run() {
    for hours in [1, 30, 24 * 8] {
        let mut mesh = Mesh::new(3);
        mesh.connect(1, 0);
        mesh.connect(2, 0);
        is_mailable(&mut mesh, 1, 2, 1);
        let key = |mesh: &Mesh| mesh.record_in_dht(2).record.kem.unwrap().id;
        let before = key(&mesh);
        let nobody = crate::mesh::agent_key(99).address();
        let lost = format!(r#"{{"type":"send","peerId":"{nobody}","data":1,"ttlMs":1800000}}"#);
        mesh.say(2, &lost);
        mesh.suspend(2);
        mesh.pass(HOUR * hours);
        mesh.wake(2);
        assert_eq!(delivery(&mesh, 2)["state"], "expired", "its time to live ran on");
        mesh.connect(2, 0);
        mesh.pass(Duration::from_secs(1));
        is_mailable(&mut mesh, 1, 2, 2);
        assert_eq!(mesh.nodes[2].core.stats().get(Counter::ClockJumps), 0);
        assert_eq!(mesh.nodes[1].core.stats().get(Counter::MailWithoutKey), 0);
        assert_eq!(key(&mesh) == before, hours < 24, "keys rotate");
    }
}

#[test]
fn a_node_whose_clock_is_ahead_hears_from_its_first_moment() {
    for off in [1000, 5000, 25_000] {
        let mut mesh = Mesh::new(0);
        mesh.ahead_ms.insert(1, off);
        for number in 1..=3 {
            let role = if number == 1 { Role::Bootstrap } else { Role::Full };
            mesh.add(number, role);
        }
        mesh.connect(2, 0);
        mesh.connect(1, 0);
        mesh.say(1, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
        mesh.say(2, r#"{"type":"send","topic":"jobs","data":1}"#);
        mesh.send(2, 1, 2, r#","route":"gossip""#);
        mesh.settle();
        mesh.pass(Duration::from_millis(50));
        mesh.connect(1, 2);
        mesh.send(2, 1, 3, r#","route":"direct""#);
        mesh.settle();
        let mut received = mesh.received(1);
        received.sort_unstable();
        assert_eq!(received, [1, 2, 3], "{off}");
        assert_eq!(mesh.nodes[1].core.stats().get(Counter::FramesUntimely), 0);
    }
}

#[test]
fn what_an_earlier_process_has_heard_is_not_heard_again_by_one_whose_clock_is_ahead() {
    for off in [0, 25_000] {
        let mut mesh = Mesh::new(0);
        mesh.add(1, Role::Bootstrap);
        mesh.add(2, Role::Full);
        mesh.pass(Duration::from_secs(60));
        mesh.ahead_ms.insert(2, off);
        let node = mesh.add(3, Role::Full);
        mesh.connect(node, 0);
        mesh.say(node, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
        let dated = |before_ms: u64| {
            let created_at_ms = mesh.clock().unix_ms - before_ms;
            frame(2, topic(), before_ms, |body| body.created_at_ms = created_at_ms)
        };
        let (old, new) = (dated(1), dated(0));
        let hear = |mesh: &mut Mesh, token, data| {
            let from = node_key(1).peer_id();
            mesh.input(node, Input::Gossip { token, from, topic: "jobs".to_owned(), data });
            *mesh.verdicts(node).last().unwrap()
        };
        assert_eq!(hear(&mut mesh, 900_001, old), Verdict::Ignore, "{off}");
        assert_eq!(hear(&mut mesh, 900_002, new), Verdict::Accept, "{off}");
    }
}

#[test]
fn processes_that_live_for_one_job_are_heard_at_once_although_their_clock_is_behind() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    for job in 0..40 {
        mesh.ahead_ms.insert(2 + job, -10_000);
        let node = mesh.add_with(9, Role::Full, CONNECT, |_| {});
        mesh.connect(node, 0);
        mesh.connect(node, 1);
        mesh.send(node, 1, job as u64, "");
        mesh.settle();
        mesh.pass(Duration::from_millis(250));
        assert_eq!(delivery(&mesh, node)["state"], "delivered", "job {job}");
        mesh.kill(node);
        mesh.pass(Duration::from_millis(250));
    }
    assert_eq!(mesh.received(1), (0..40).collect::<Vec<_>>());
    let stats = mesh.nodes[1].core.stats();
    assert_eq!((stats.get(Counter::FramesUntimely), stats.get(Counter::FramesReplayed)), (0, 0));
}

#[test]
fn mail_to_an_agent_whose_key_is_over_says_so() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    let mut known = SignedRecord::decode(record(9, 0, START_MS, &node_key(9))).unwrap().record;
    known.kem.as_mut().unwrap().not_after_ms = START_MS;
    let announced = known.sign(&node_key(9)).unwrap();
    gossip(&mut mesh, 900_001, "agent-announcements", announced);
    mesh.settle();
    let recipient = crate::mesh::agent_key(9).address();
    mesh.say(
        1,
        &format!(r#"{{"type":"send","peerId":"{recipient}","data":1,"route":"gossip","ttlMs":20000}}"#),
    );
    mesh.pass(Duration::from_secs(21));
    let told = delivery(&mesh, 1);
    assert!(mesh.nodes[1].core.stats().get(Counter::MailWithoutKey) > 0);
    assert_eq!(told["code"], "EXPIRED", "{told}");
    assert!(told["message"].as_str().unwrap().contains("key"), "{told}");
}
