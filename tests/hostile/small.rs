//! Floods of valid data, with limits on, in a small container: 64 descriptors and 256 MiB. The floods of
//! invalid data run in one as well, because each `Fixture` has one.
//!
//! Each flood has two halves of the same size. Memory and descriptors must not grow in the second one, and
//! the parent gets an answer in both.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use crate::fixture::{Fixture, TOPIC, VICTIM};
use crate::flood::send_all;
use crate::forge::{Forger, topic};
use crate::peer::Hostile;

/// Growth of memory in the second half that is none: the allocator keeps some of what is freed.
const KEPT: u64 = 8 << 20;
/// Sockets that may come and go meanwhile.
const SOCKETS: usize = 4;
/// Longest time for the answer to a command.
const ANSWER: Duration = Duration::from_secs(2);

/// Asks the victim as its parent does. Returns its memory and the number of its descriptors.
fn ask(fixture: &mut Fixture) -> (u64, usize) {
    for command in ["status", "peers"] {
        let asked = Instant::now();
        let answer = fixture.victim.request(json!({"type":command}));
        assert_eq!(answer["type"], "result", "{answer}");
        assert!(asked.elapsed() < ANSWER, "{command} took {:?}", asked.elapsed());
    }
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", fixture.victim.child.id())).unwrap();
    (fixture.victim.memory(), descriptors.count())
}

/// Runs both halves of a flood, which get the victim, the attacker and the number of the half.
async fn flood(
    fixture: &mut Fixture,
    hostile: &mut Hostile,
    mut half: impl AsyncFnMut(&mut Fixture, &mut Hostile, u64),
) {
    half(fixture, hostile, 0).await;
    let (memory, descriptors) = ask(fixture);
    half(fixture, hostile, 1).await;
    let (memory_after, descriptors_after) = ask(fixture);
    assert!(memory_after <= memory + KEPT, "{memory} bytes, then {memory_after}");
    assert!(
        descriptors_after <= descriptors + SOCKETS,
        "{descriptors} descriptors, then {descriptors_after}"
    );
    fixture.check_honest_traffic();
}

/// Returns how much the limits of the victim held back. How much depends on the time that the flood takes.
fn over_limit(fixture: &mut Fixture) -> u64 {
    let counters = fixture.victim.counters();
    let held_back: BTreeMap<_, _> =
        counters.iter().filter(|(name, _)| name.ends_with("_over_limit")).collect();
    assert!(!held_back.is_empty(), "{counters:?}");
    held_back.into_values().sum()
}

async fn limited(role: &str) -> (Fixture, Hostile) {
    let fixture = Fixture::with(role, &["--limits", "on"]);
    let hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    (fixture, hostile)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn valid_mail_of_a_stranger_reaches_a_plateau() {
    const FRAMES: usize = 1_000;
    let (mut fixture, mut hostile) = limited("full").await;
    let victim = Forger::new(VICTIM);
    let sender = Forger::new(0x40);
    let data = Bytes::from(format!("\"{}\"", "x".repeat(10_000)));
    flood(&mut fixture, &mut hostile, async |fixture, hostile, _| {
        let frames = (0..FRAMES).map(|_| sender.frame(victim.scope(), data.clone(), |_| {}));
        assert_eq!(send_all(hostile, &fixture.victim, frames).await, FRAMES, "each frame is answered");
    })
    .await;
    let refused = over_limit(&mut fixture);
    assert!(refused > 0, "{refused} of {} frames", 2 * FRAMES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn valid_broadcasts_of_a_stranger_reach_a_plateau() {
    const FRAMES: usize = 2_000;
    let (mut fixture, mut hostile) = limited("full").await;
    hostile.subscribed(&fixture.victim, TOPIC).await;
    let sender = Forger::new(0x40);
    let data = Bytes::from(format!("\"{}\"", "x".repeat(1_000)));
    flood(&mut fixture, &mut hostile, async |_, hostile, _| {
        for _ in 0..FRAMES {
            hostile.publish(TOPIC, sender.frame(topic(TOPIC), data.clone(), |_| {})).await;
        }
    })
    .await;
    let dropped = over_limit(&mut fixture);
    assert!(dropped > 0, "{dropped} of {} broadcasts", 2 * FRAMES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn records_put_into_the_dht_reach_a_plateau() {
    const PUTS: u64 = 500;
    let (mut fixture, mut hostile) = limited("bootstrap").await;
    hostile.served_by(&fixture.victim).await;
    let forger = Forger::new(0x40);
    flood(&mut fixture, &mut hostile, async |_, hostile, half| {
        for number in 0..PUTS {
            let record = forger.record(|record| record.seq += half * PUTS + number);
            hostile.put(forger.kad_key(), record).await;
        }
    })
    .await;
    let refused = over_limit(&mut fixture);
    assert!(refused > 0, "{refused} of {} puts", 2 * PUTS);
}
