//! Floods of valid data, with limits on, in a small container: 64 descriptors and 256 MiB. The floods of
//! invalid data run in one as well, because each `Fixture` has one.
//!
//! Each flood has two halves of the same size, and the victim counts what arrives in each: a half that the
//! victim does not get, because it banned the attacker, shows nothing. Memory and descriptors must not grow in
//! the second half by what a leak of its data would take, and the parent gets an answer in both.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use crate::fixture::{Fixture, TOPIC, VICTIM};
use crate::flood::send_all;
use crate::forge::{Forger, topic};
use crate::peer::Hostile;

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

/// Runs both halves of a flood, which get the victim and the number of the half, and return how many bytes
/// arrived. Half of those of the second half is no growth: the allocator keeps some of what is freed.
async fn flood(fixture: &mut Fixture, mut half: impl AsyncFnMut(&mut Fixture, u64) -> usize) {
    half(fixture, 0).await;
    let (memory, descriptors) = ask(fixture);
    let kept = half(fixture, 1).await as u64 / 2;
    assert!(kept >= 1 << 20, "{kept} bytes are too few to show a leak");
    let (memory_after, descriptors_after) = ask(fixture);
    assert!(memory_after <= memory + kept, "{memory} bytes, then {memory_after}");
    assert!(
        descriptors_after <= descriptors + SOCKETS,
        "{descriptors} descriptors, then {descriptors_after}"
    );
    fixture.check_honest_traffic();
}

/// Returns the sum of these counters of the victim.
fn counted(fixture: &mut Fixture, names: &[&str]) -> u64 {
    let counters = fixture.victim.counters();
    names.iter().filter_map(|name| counters.get(*name)).sum()
}

fn limited(role: &str) -> Fixture {
    Fixture::with(role, &["--limits", "on"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn valid_mail_of_a_stranger_reaches_a_plateau() {
    const FRAMES: usize = 1_000;
    const SIZE: usize = 10_000;
    /// Frames of a half that may be within the limits, which rise with the time that it takes.
    const WITHIN: u64 = 150;
    const LIMITS: [&str; 3] = ["key_exchanges_over_limit", "mail_frames_over_limit", "mail_over_limit"];
    let mut fixture = limited("full");
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    let victim = Forger::new(VICTIM);
    let sender = Forger::new(0x40);
    let data = Bytes::from(format!("\"{}\"", "x".repeat(SIZE)));
    flood(&mut fixture, async |fixture, half| {
        let before = counted(fixture, &LIMITS);
        let frames = (0..FRAMES).map(|_| sender.frame(victim.scope(), data.clone(), |_| {}));
        assert_eq!(send_all(&mut hostile, &fixture.victim, frames).await, FRAMES, "each frame is answered");
        let refused = counted(fixture, &LIMITS) - before;
        assert!(refused >= FRAMES as u64 - WITHIN, "half {half}: {refused} of {FRAMES} refused");
        FRAMES * SIZE
    })
    .await;
}

/// The attacker forwards broadcasts of agents that it invents: no relay is to blame for what others wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn valid_broadcasts_of_strangers_reach_a_plateau() {
    const FRAMES: u64 = 1_000;
    /// Frames on the way at the same time.
    const BATCH: u64 = 50;
    const SIZE: usize = 20_000;
    /// What becomes of a frame: its broadcast reaches the parent or not, or the node does not forward it.
    const ENDS: [&str; 3] = ["broadcasts_received", "broadcasts_over_limit", "frames_over_limit"];
    let mut fixture = limited("full");
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    hostile.subscribed(&fixture.victim, TOPIC).await;
    let data = Bytes::from(format!("\"{}\"", "x".repeat(SIZE)));
    flood(&mut fixture, async |fixture, half| {
        let before = counted(fixture, &ENDS);
        for number in 1..=FRAMES {
            let author = Forger::fake(half * FRAMES + number);
            hostile.publish(TOPIC, author.frame(topic(TOPIC), data.clone(), |_| {})).await;
            if number % BATCH == 0 {
                let expected = before + number;
                fixture.victim.until("all frames arrived", |status| {
                    let counters = &status["counters"];
                    ENDS.iter().filter_map(|name| counters[name].as_u64()).sum::<u64>() == expected
                });
            }
        }
        FRAMES as usize * SIZE
    })
    .await;
    let dropped = counted(&mut fixture, &["frames_over_limit"]);
    assert!(dropped > FRAMES, "{dropped} of {} frames", 2 * FRAMES);
}

/// Returns a record with as long a list of capabilities as records may have.
fn of_size(forger: &Forger, seq: u64) -> Bytes {
    forger.record(|record| {
        record.seq += seq;
        record.capabilities = vec!["c".repeat(500)];
    })
}

/// Each attacker is banned a short time after its first excess, so each half has many, which are done before.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn records_put_into_the_dht_reach_a_plateau() {
    const PEERS: u64 = 28;
    /// Puts of each peer that the victim refuses.
    const REFUSED: u64 = 20;
    const BATCH: u64 = 20;
    /// Puts of each peer, at most: those that the victim accepts, and twice those that it refuses.
    const PUTS: u64 = 60 + 2 * REFUSED;
    const LIMIT: [&str; 1] = ["records_over_limit"];
    let mut fixture = limited("bootstrap");
    flood(&mut fixture, async |fixture, half| {
        let mut bytes = 0;
        for peer in 0..PEERS {
            let number = half * PEERS + peer;
            let mut hostile = Hostile::join(Forger::fake(number), &fixture.victim).await;
            hostile.served_by(&fixture.victim).await;
            let forger = Forger::fake(number);
            let (before, mut seq) = (counted(fixture, &LIMIT), 0);
            while counted(fixture, &LIMIT) < before + REFUSED {
                let counters = fixture.victim.counters();
                assert!(seq < PUTS, "half {half}: puts of {number} do not arrive, {counters:?}");
                let records: Vec<Bytes> = (seq..seq + BATCH).map(|seq| of_size(&forger, seq)).collect();
                seq += BATCH;
                bytes += records.iter().map(Bytes::len).sum::<usize>();
                hostile.put_all(forger.kad_key(), records).await;
            }
        }
        bytes
    })
    .await;
}
