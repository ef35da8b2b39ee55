//! Floods of limited size: memory stays within the limits in the code, and honest messages arrive.

use bytes::Bytes;
use p2p_node_core::MAX_PEER_TOPICS;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::Input;
use p2p_node_core::mail::inbound::inbox::inbox_limits::REORDER_BYTES;
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::Message;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Real, TOPIC, VICTIM};
use crate::forge::{Forger, SIGNATURE, corrupt, messages, stream, topic};
use crate::peer::Hostile;

const MIB: u64 = 1 << 20;

/// Sends all frames with a bounded number in flight, and returns how many were answered.
pub async fn send_all(hostile: &mut Hostile, real: &Real, frames: impl Iterator<Item = Bytes>) -> usize {
    const MAX_IN_FLIGHT: usize = 64;
    let (mut in_flight, mut answered) = (0, 0);
    let mut frames = frames.fuse();
    loop {
        while in_flight < MAX_IN_FLIGHT
            && let Some(frame) = frames.next()
        {
            let frame = hostile.seal(real, frame).await.slice(SIGNATURE..);
            hostile.node.apply(NetworkCommand::SendMail { token: 0, peer: real.peer(), frame }).await;
            in_flight += 1;
        }
        if in_flight == 0 {
            return answered;
        }
        let outcome = hostile.node.mail_response().await.1;
        answered += usize::from(outcome.is_ok());
        in_flight -= 1;
    }
}

fn grown(real: &Real, before: u64) -> u64 {
    real.memory().saturating_sub(before) / MIB
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_with_a_permanent_gap_use_bounded_memory() {
    // Frames of 128 KiB, in each of which only a message of one byte waits.
    const FRAMES: u8 = 250;
    let mut fixture = Fixture::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    let before = fixture.victim.memory();
    let padding = Bytes::from(format!("\"{}", "x".repeat(128 << 10)));
    let sender = Forger::new(0x40);
    let frames = (0..FRAMES).map(|number| {
        sender.frame(victim.scope(), padding.clone(), |body| {
            let buffered = Message {
                stream: stream(2),
                seq: 1000 + u64::from(number),
                base_seq: 1000,
                data: Bytes::from_static(b"1"),
                ..Message::default()
            };
            messages(body).push(buffered);
        })
    });
    assert_eq!(send_all(&mut hostile, &fixture.victim, frames).await, usize::from(FRAMES));
    let grown = grown(&fixture.victim, before);
    assert!(grown < 16, "{grown} MiB for {FRAMES} buffered bytes");
    fixture.assert_no_events(&["message"]);
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn reorder_buffers_of_many_streams_are_bounded_together() {
    // 150 % of the limit.
    const SIZE: usize = 256 << 10;
    let number = (REORDER_BYTES / SIZE * 3 / 2) as u8;
    let mut fixture = Fixture::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    let before = fixture.victim.memory();
    let sender = Forger::new(0x40);
    let data = Bytes::from(vec![b'1'; SIZE]);
    let frames = (0..number).map(|number| {
        sender.frame(victim.scope(), data.clone(), |body| {
            let message = &mut messages(body)[0];
            (message.stream, message.seq, message.base_seq) = (stream(number), 10, 10);
        })
    });
    send_all(&mut hostile, &fixture.victim, frames).await;
    let grown = grown(&fixture.victim, before);
    let bound = REORDER_BYTES as u64 / MIB;
    assert!(grown < bound + 24, "{grown} MiB with a limit of {bound} MiB");
    fixture.assert_no_events(&["message"]);
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn flood_of_forged_frames_uses_bounded_memory_and_delays_no_honest_mail() {
    const FRAMES: u64 = 1500;
    let mut fixture = Fixture::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    hostile.subscribed(&fixture.victim, TOPIC).await;
    let before = fixture.victim.memory();
    // Each frame has its own binding, so that each goes through the crypto pool.
    let sender = Forger::new(0x40);
    let unbound = |number: u64| {
        sender.frame(victim.scope(), vec![b'1'; 8 << 10], |body| {
            let mut binding = sender.stolen_binding(&victim);
            binding.binding.not_after -= number;
            body.binding = binding.encode();
        })
    };
    for first in (0..FRAMES).step_by(100) {
        for _ in 0..100 {
            let noise = corrupt(&sender.frame(topic(TOPIC), "1", |_| {}), 3);
            hostile
                .node
                .apply(NetworkCommand::Publish { token: 0, topic: TOPIC.to_owned(), data: noise })
                .await;
        }
        let frames = (first..first + 100).map(unbound);
        assert_eq!(send_all(&mut hostile, &fixture.victim, frames).await, 100);
        fixture.check_honest_traffic();
    }
    let counters = fixture.victim.counters();
    let refused =
        counters["frames_binding_forged"] + counters.get("crypto_pool_full").copied().unwrap_or_default();
    assert!(refused > FRAMES / 2, "{counters:?}");
    assert!(!hostile.node.has(|input| matches!(input, Input::Disconnected { .. })));
    let grown = grown(&fixture.victim, before);
    assert!(grown < 32, "{grown} MiB");
    fixture.assert_no_events(&["message", "error"]);
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn flood_of_fake_agents_and_topics_hides_no_honest_agent() {
    // The fake agents are valid: an agent costs only a key.
    const AGENTS: u64 = 600;
    const TOPICS: usize = 300;
    let mut fixture = Fixture::new("bootstrap");
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    hostile.served_by(&fixture.victim).await;
    let before = fixture.victim.memory();
    let long = "t".repeat(100);
    let topics = (0..TOPICS).map(|number| NetworkCommand::Subscribe { topic: format!("{long}{number}") });
    hostile.node.apply_all(topics.collect()).await;
    for number in 0..AGENTS {
        let fake = Forger::fake(number);
        let record = fake.record(|record| record.capabilities = vec!["c".repeat(500)]);
        hostile.publish("agent-announcements", record.clone()).await;
        if number % 100 == 0 {
            assert!(hostile.put(fake.kad_key(), record).await);
            fixture.check_honest_traffic();
        }
    }
    fixture.check_honest_traffic();
    let status = fixture.victim.status();
    assert!(status["agents"].as_u64() > Some(AGENTS / 2), "{status}");
    assert_eq!(status["peers"], 2, "{status}");
    let grown = grown(&fixture.victim, before);
    assert!(grown < 24, "{grown} MiB");
    // The honest agent is still found.
    let honest = fixture.honest.address();
    let answer = fixture.victim.request(json!({"type":"discover","address":honest}));
    assert_eq!(answer["count"], 1, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn peer_with_too_many_topics_is_reported_and_harms_nobody() {
    // Above the limit of the core, and below that of gossipsub.
    const TOPICS: usize = 700;
    let mut fixture = Fixture::new("full");
    let mut hostile = Hostile::start(Forger::new(0x40), Role::Full).await;
    for number in 0..TOPICS {
        hostile.node.apply(NetworkCommand::Subscribe { topic: format!("many-{number}") }).await;
    }
    hostile.connect(&fixture.victim).await;
    let over = (TOPICS - MAX_PEER_TOPICS) as u64;
    fixture.victim.until_counted("topics_over_limit", over);
    let warning = |event: &Value| event["type"] == "log" && event["message"].to_string().contains("topics");
    fixture.victim.child.expect("a warning", warning);
    fixture.check_honest_traffic();
}
