//! Wrong clocks, clock jumps, clock skew between nodes, and suspended machines.

use std::time::Duration;

use p2p_node_core::effect::Verdict;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::Scope;
use p2p_node_wire::record::SignedRecord;
use serde_json::Value;

use crate::forged::{direct, frame, record, topic};
use crate::mesh::{CONNECT, FaultDecision, Mesh, START_MS, node_key};
use crate::verification::gossip;

const HOUR: Duration = Duration::from_secs(3600);
const WEEK_MS: i64 = 7 * 24 * 3_600_000;
/// Longer than the minimum time between two clock samples of a peer, and shorter than the interval
/// of `node-status`.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(11);

/// Returns a mesh of a node whose clock is `ahead_ms` ahead, and of this number of neighbours with
/// correct clocks.
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

fn assert_skew_reported(mesh: &Mesh, ahead_ms: i64) {
    let errors = skews(mesh, 0);
    assert_eq!(errors.len(), 1, "{ahead_ms} {errors:?}");
    assert_eq!(errors[0]["details"]["aheadMs"], ahead_ms);
    let which = if ahead_ms > 0 { "ahead" } else { "behind" };
    assert!(errors[0]["message"].as_str().unwrap().contains(which), "{errors:?}");
}

/// Sends node 0 a frame of each of these neighbours, dated by clocks that are `ahead_ms` ahead.
fn send_dated(mesh: &mut Mesh, numbers: &[u8], ahead_ms: i64, by_gossip: bool) {
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
            false => Input::MailRequestReceived { token, peer: from, frame: direct(data) },
        };
        mesh.input(0, input);
    }
}

#[test]
fn clock_skew_of_any_size_is_reported_after_two_admissions() {
    for off in [16_000, 45_000, 600_000, WEEK_MS, -16_000, -45_000, -600_000, -WEEK_MS] {
        let mesh = ahead(off, 1);
        assert!(skews(&mesh, 0).is_empty(), "a single peer may be wrong: {off}");
        assert_skew_reported(&ahead(off, 2), off);
        assert_skew_reported(&ahead(off, 4), off);
    }
}

#[test]
fn clock_skew_is_reported_after_frames_of_two_peers() {
    for by_gossip in [false, true] {
        for off in [16_000, 600_000, -600_000] {
            let mut mesh = ahead(0, 2);
            mesh.advance(SAMPLE_INTERVAL);
            send_dated(&mut mesh, &[2], -off, by_gossip);
            assert!(skews(&mesh, 0).is_empty());
            send_dated(&mut mesh, &[3], -off, by_gossip);
            assert_skew_reported(&mesh, off);
        }
    }
}

#[test]
fn small_skew_or_minority_of_peers_is_not_reported() {
    assert!(skews(&ahead(10_000, 6), 0).is_empty());
    let mut mesh = ahead(0, 6);
    mesh.advance(SAMPLE_INTERVAL);
    send_dated(&mut mesh, &[2, 3], 600_000, true);
    mesh.advance(SAMPLE_INTERVAL);
    // Each peer counts once, even if it sends several frames.
    for _ in 0..5 {
        send_dated(&mut mesh, &[2, 3], 600_000, false);
        mesh.advance(SAMPLE_INTERVAL);
    }
    assert!(skews(&mesh, 0).is_empty());
}

#[test]
fn clock_skew_is_reported_after_two_recipients_refuse_frames() {
    let mut mesh = Mesh::new(0);
    // The node loses all other input that shows the clocks of its peers.
    mesh.faults = Box::new(|node, input| match input {
        Input::Gossip { topic, .. } if node == 0 && topic == "node-status" => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    mesh.add(1, Role::Bootstrap);
    for number in [2, 3] {
        let node = mesh.add(number, Role::Full);
        mesh.connect(node, 0);
    }
    mesh.advance(SAMPLE_INTERVAL);
    mesh.ahead_ms.insert(0, 45_000);
    mesh.settle();
    mesh.advance(Duration::from_secs(1));
    assert!(skews(&mesh, 0).is_empty());
    for to in [1, 2] {
        mesh.send(0, to, 7, r#","ttlMs":20000"#);
        mesh.settle();
    }
    assert_skew_reported(&mesh, 45_000);
}

/// Returns the only `delivery` of a node.
fn delivery(mesh: &Mesh, node: usize) -> &Value {
    let deliveries = mesh.lines(node, "delivery");
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    deliveries[0]
}

#[test]
fn message_expired_by_clock_skew_gives_the_skew() {
    for (off, route, which) in [
        (45_000, "auto", "45 s, and this machine is ahead"),
        (3_600_000, "direct", "3600 s, and this machine is ahead"),
        (-300_000, "auto", "300 s, and this machine is behind"),
    ] {
        let mut mesh = ahead(off, 1);
        mesh.send(0, 1, 7, &format!(r#","ttlMs":20000,"route":"{route}""#));
        mesh.settle();
        mesh.advance(Duration::from_secs(21));
        let delivery = delivery(&mesh, 0);
        let (state, code) = (&delivery["state"], &delivery["code"]);
        assert_eq!((state, code), (&"expired".into(), &"CLOCK_SKEW".into()), "{delivery}");
        assert!(delivery["message"].as_str().unwrap().contains(which), "{delivery}");
        assert!(mesh.received(1).is_empty());
    }
}

#[test]
fn message_to_recipient_with_clock_ahead_expires_with_clock_skew() {
    let mut mesh = ahead(45_000, 1);
    mesh.send(1, 0, 7, r#","ttlMs":20000"#);
    mesh.settle();
    mesh.advance(Duration::from_secs(5));
    // The recipient is still connected, and announces its record again.
    mesh.command(0, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    mesh.advance(Duration::from_secs(16));
    let delivery = delivery(&mesh, 1);
    assert_eq!(delivery["code"], "CLOCK_SKEW", "{delivery}");
    assert!(delivery["message"].as_str().unwrap().contains("this machine is behind"), "{delivery}");
}

#[test]
fn message_to_unknown_expires_with_clock_skew_if_skew_is_known() {
    let mut mesh = ahead(-300_000, 2);
    let unknown = crate::mesh::agent_key(99).address();
    mesh.command(0, &format!(r#"{{"type":"send","peerId":"{unknown}","data":1,"ttlMs":5000}}"#));
    mesh.advance(Duration::from_secs(6));
    assert_eq!(delivery(&mesh, 0)["code"], "CLOCK_SKEW");
    let mut mesh = ahead(20_000, 2);
    mesh.command(0, &format!(r#"{{"type":"send","peerId":"{unknown}","data":1,"ttlMs":5000}}"#));
    mesh.advance(Duration::from_secs(6));
    assert_eq!(delivery(&mesh, 0)["code"], "PEER_NOT_FOUND", "peers accept a skew of 20 s");
}

/// Sends a message and asserts that it is delivered within 5 s.
fn assert_mail_delivered(mesh: &mut Mesh, from: usize, to: usize, data: u64) {
    mesh.send(from, to, data, r#","ttlMs":60000"#);
    mesh.settle();
    mesh.advance(Duration::from_secs(5));
    assert_eq!(mesh.received(to).last(), Some(&data));
    let deliveries = mesh.lines(from, "delivery");
    assert_eq!(deliveries.last().unwrap()["state"], "delivered", "{deliveries:?}");
}

#[test]
fn node_sends_and_receives_after_clock_correction_of_a_week() {
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
            mesh.advance(HOUR);
            mesh.ahead_ms.remove(&node);
            mesh.settle();
            mesh.advance(Duration::from_secs(11));
            let data = number as u64 * 10;
            assert_mail_delivered(&mut mesh, 1, node, data);
            assert_mail_delivered(&mut mesh, node, 1, data + 1);
            assert_eq!(mesh.nodes[node].core.stats().get(Counter::ClockJumps), 1);
            assert_eq!(mesh.nodes[1].core.stats().get(Counter::MailWithoutKey), 0);
        }
    }
}

#[test]
fn node_sends_and_receives_after_clock_jumps_away_and_back() {
    for off in [-WEEK_MS, WEEK_MS] {
        let mut mesh = Mesh::new(3);
        mesh.connect(1, 0);
        mesh.connect(2, 0);
        assert_mail_delivered(&mut mesh, 1, 2, 1);
        mesh.ahead_ms.insert(2, off);
        mesh.settle();
        mesh.advance(HOUR);
        mesh.ahead_ms.remove(&2);
        mesh.settle();
        mesh.advance(Duration::from_secs(11));
        assert_mail_delivered(&mut mesh, 1, 2, 2);
        assert_mail_delivered(&mut mesh, 2, 1, 3);
    }
}

#[test]
fn suspended_node_receives_at_once_after_resume_and_its_ttls_have_run() {
    for hours in [1, 30, 24 * 8] {
        let mut mesh = Mesh::new(3);
        mesh.connect(1, 0);
        mesh.connect(2, 0);
        assert_mail_delivered(&mut mesh, 1, 2, 1);
        let key = |mesh: &Mesh| mesh.record_in_dht(2).record.kem.unwrap().id;
        let before = key(&mesh);
        let unknown = crate::mesh::agent_key(99).address();
        let command = format!(r#"{{"type":"send","peerId":"{unknown}","data":1,"ttlMs":1800000}}"#);
        mesh.command(2, &command);
        mesh.suspend(2);
        mesh.advance(HOUR * hours);
        mesh.wake(2);
        assert_eq!(delivery(&mesh, 2)["state"], "expired", "the TTL runs while the machine is suspended");
        mesh.connect(2, 0);
        mesh.advance(Duration::from_secs(1));
        assert_mail_delivered(&mut mesh, 1, 2, 2);
        assert_eq!(mesh.nodes[2].core.stats().get(Counter::ClockJumps), 0);
        assert_eq!(mesh.nodes[1].core.stats().get(Counter::MailWithoutKey), 0);
        assert_eq!(key(&mesh) == before, hours < 24, "keys rotate");
    }
}

#[test]
fn node_with_clock_ahead_receives_from_its_start() {
    for off in [1000, 5000, 25_000] {
        let mut mesh = Mesh::new(0);
        mesh.ahead_ms.insert(1, off);
        for number in 1..=3 {
            let role = if number == 1 { Role::Bootstrap } else { Role::Full };
            mesh.add(number, role);
        }
        mesh.connect(2, 0);
        mesh.connect(1, 0);
        mesh.command(1, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
        mesh.command(2, r#"{"type":"send","topic":"jobs","data":1}"#);
        mesh.send(2, 1, 2, r#","route":"gossip""#);
        mesh.settle();
        mesh.advance(Duration::from_millis(50));
        mesh.connect(1, 2);
        mesh.send(2, 1, 3, r#","route":"direct""#);
        mesh.settle();
        let mut received = mesh.received(1);
        received.sort_unstable();
        assert_eq!(received, [1, 2, 3], "{off}");
        assert_eq!(mesh.nodes[1].core.stats().get(Counter::FramesClockOutOfRange), 0);
    }
}

#[test]
fn frame_from_before_the_start_is_ignored_with_clock_ahead() {
    for off in [0, 25_000] {
        let mut mesh = Mesh::new(0);
        mesh.add(1, Role::Bootstrap);
        mesh.add(2, Role::Full);
        mesh.advance(Duration::from_secs(60));
        mesh.ahead_ms.insert(2, off);
        let node = mesh.add(3, Role::Full);
        mesh.connect(node, 0);
        mesh.command(node, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
        let dated = |before_ms: u64| {
            let created_at_ms = mesh.clock().unix_ms - before_ms;
            frame(2, topic(), before_ms, |body| body.created_at_ms = created_at_ms)
        };
        let (old, new) = (dated(1), dated(0));
        let gossip = |mesh: &mut Mesh, token, data| {
            let from = node_key(1).peer_id();
            mesh.input(node, Input::Gossip { token, from, topic: "jobs".to_owned(), data });
            *mesh.verdicts(node).last().unwrap()
        };
        assert_eq!(gossip(&mut mesh, 900_001, old), Verdict::Ignore, "{off}");
        assert_eq!(gossip(&mut mesh, 900_002, new), Verdict::Accept, "{off}");
    }
}

#[test]
fn short_lived_processes_with_clock_behind_deliver_at_once() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    for job in 0..40 {
        mesh.ahead_ms.insert(2 + job, -10_000);
        let node = mesh.add_with(9, Role::Full, CONNECT, |_| {});
        mesh.connect(node, 0);
        mesh.connect(node, 1);
        mesh.send(node, 1, job as u64, "");
        mesh.settle();
        mesh.advance(Duration::from_millis(250));
        assert_eq!(delivery(&mesh, node)["state"], "delivered", "job {job}");
        mesh.kill(node);
        mesh.advance(Duration::from_millis(250));
    }
    assert_eq!(mesh.received(1), (0..40).collect::<Vec<_>>());
    let stats = mesh.nodes[1].core.stats();
    assert_eq!((stats.get(Counter::FramesClockOutOfRange), stats.get(Counter::FramesReplayed)), (0, 0));
}

#[test]
fn message_to_agent_with_expired_kem_key_expires_with_the_reason() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    let mut known = SignedRecord::decode(record(9, 0, START_MS, &node_key(9))).unwrap().record;
    known.kem.as_mut().unwrap().not_after_ms = START_MS;
    let announced = known.sign(&node_key(9)).unwrap();
    gossip(&mut mesh, 900_001, "agent-announcements", announced);
    mesh.settle();
    let recipient = crate::mesh::agent_key(9).address();
    mesh.command(
        1,
        &format!(r#"{{"type":"send","peerId":"{recipient}","data":1,"route":"gossip","ttlMs":20000}}"#),
    );
    mesh.advance(Duration::from_secs(21));
    let delivery = delivery(&mesh, 1);
    assert!(mesh.nodes[1].core.stats().get(Counter::MailWithoutKey) > 0);
    assert_eq!(delivery["code"], "EXPIRED", "{delivery}");
    assert!(delivery["message"].as_str().unwrap().contains("key"), "{delivery}");
}
