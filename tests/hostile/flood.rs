//! Floods of limited size: memory stays within the limits in the code, and honest messages arrive.

use bytes::Bytes;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::Input;
use p2p_node_core::mail::inbound::inbox::inbox_limits::HELD_BYTES;
use p2p_node_wire::envelope::Message;
use serde_json::json;

use crate::forge::{Forger, bent, messages, stream, topic};
use crate::peer::Hostile;
use crate::scene::{Real, Scene, TOPIC, VICTIM};

const MIB: u64 = 1 << 20;

/// Sends all of it with as much on its way at once as a connection carries; how much was answered.
async fn mail_all(hostile: &mut Hostile, real: &Real, frames: impl Iterator<Item = Bytes>) -> usize {
    const AT_ONCE: usize = 64;
    let (mut on_the_way, mut answered) = (0, 0);
    let mut frames = frames.fuse();
    loop {
        while on_the_way < AT_ONCE
            && let Some(frame) = frames.next()
        {
            let frame = hostile.seal(real, frame).await;
            hostile.node.apply(NetworkCommand::SendMail { token: 0, peer: real.peer(), frame }).await;
            on_the_way += 1;
        }
        if on_the_way == 0 {
            return answered;
        }
        let outcome = hostile.node.mail_answered().await.1;
        answered += usize::from(outcome.is_ok());
        on_the_way -= 1;
    }
}

fn grown(real: &Real, before: u64) -> u64 {
    real.memory().saturating_sub(before) / MIB
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mail_that_waits_for_what_never_comes_is_bounded_with_all_that_it_keeps() {
    // Frames of 128 KiB whose only message that waits is a byte long.
    const FRAMES: u8 = 250;
    let mut scene = Scene::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    let before = scene.victim.memory();
    let padding = Bytes::from(format!("\"{}", "x".repeat(128 << 10)));
    let sender = Forger::new(0x40);
    let frames = (0..FRAMES).map(|number| {
        sender.frame(victim.scope(), padding.clone(), |body| {
            let waits = Message {
                stream: stream(2),
                seq: 1000 + u64::from(number),
                base_seq: 1000,
                data: Bytes::from_static(b"1"),
                ..Message::default()
            };
            messages(body).push(waits);
        })
    });
    assert_eq!(mail_all(&mut hostile, &scene.victim, frames).await, usize::from(FRAMES));
    let grown = grown(&scene.victim, before);
    assert!(grown < 16, "{grown} MiB for {FRAMES} bytes that wait");
    scene.nothing_said(&["message"]);
    scene.still_honest();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_waits_on_many_streams_is_bounded_in_all() {
    // Half as much again as may wait.
    const SIZE: usize = 256 << 10;
    let number = (HELD_BYTES / SIZE * 3 / 2) as u8;
    let mut scene = Scene::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    let before = scene.victim.memory();
    let sender = Forger::new(0x40);
    let data = Bytes::from(vec![b'1'; SIZE]);
    let frames = (0..number).map(|number| {
        sender.frame(victim.scope(), data.clone(), |body| {
            let message = &mut messages(body)[0];
            (message.stream, message.seq, message.base_seq) = (stream(number), 10, 10);
        })
    });
    mail_all(&mut hostile, &scene.victim, frames).await;
    let grown = grown(&scene.victim, before);
    let bound = HELD_BYTES as u64 / MIB;
    assert!(grown < bound + 24, "{grown} MiB where {bound} may wait");
    scene.nothing_said(&["message"]);
    scene.still_honest();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_forgeries_costs_neither_memory_nor_honest_mail() {
    const FRAMES: u64 = 1500;
    let mut scene = Scene::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    hostile.subscribed(&scene.victim, TOPIC).await;
    let before = scene.victim.memory();
    // Each under a binding of its own, so that each has to go through the crypto pool.
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
            let noise = bent(&sender.frame(topic(TOPIC), "1", |_| {}), 3);
            hostile
                .node
                .apply(NetworkCommand::Publish { token: 0, topic: TOPIC.to_owned(), data: noise })
                .await;
        }
        let frames = (first..first + 100).map(unbound);
        assert_eq!(mail_all(&mut hostile, &scene.victim, frames).await, 100);
        scene.still_honest();
    }
    let counters = scene.victim.counters();
    let refused = counters["frames_unbound"] + counters.get("crypto_pool_full").copied().unwrap_or_default();
    assert!(refused > FRAMES / 2, "{counters:?}");
    assert!(!hostile.node.has(|input| matches!(input, Input::Disconnected { .. })));
    let grown = grown(&scene.victim, before);
    assert!(grown < 32, "{grown} MiB");
    scene.nothing_said(&["message", "error"]);
    scene.still_honest();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_invented_agents_and_topics_drowns_nobody() {
    // Each is genuine: an agent costs no more than a key.
    const AGENTS: u64 = 600;
    const TOPICS: usize = 300;
    let mut scene = Scene::new("bootstrap");
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    hostile.served_by(&scene.victim).await;
    let before = scene.victim.memory();
    let long = "t".repeat(100);
    let topics = (0..TOPICS).map(|number| NetworkCommand::Subscribe { topic: format!("{long}{number}") });
    hostile.node.apply_all(topics.collect()).await;
    for number in 0..AGENTS {
        let invented = Forger::invented(number);
        let record = invented.record(|record| record.capabilities = vec!["c".repeat(500)]);
        hostile.publish("agent-announcements", record.clone()).await;
        if number % 100 == 0 {
            assert!(hostile.put(invented.kad_key(), record).await);
            scene.still_honest();
        }
    }
    scene.still_honest();
    let status = scene.victim.status();
    assert!(status["agents"].as_u64() > Some(AGENTS / 2), "{status}");
    assert_eq!(status["peers"], 2, "{status}");
    let grown = grown(&scene.victim, before);
    assert!(grown < 24, "{grown} MiB");
    // Who was there before is still found.
    let honest = scene.honest.address();
    let answer = scene.victim.ask(json!({"type":"discover","address":honest}));
    assert_eq!(answer["count"], 1, "{answer}");
}
