//! Generates a scenario from a seed.

use std::time::Duration;

use p2p_node_protocol::{Priority, Route};

use crate::rng::Rng;
use crate::scenario::{Honesty, Links, Operation, Scenario};

/// A week, in ms: longer than the life of every record and key.
const WEEK_MS: i64 = 7 * 24 * 3_600_000;

/// Returns the scenario of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed).fork(1);
    let servers = 1 + rng.below(3);
    let nodes = servers + 2 + rng.below(9);
    let run = rng.between(Duration::from_secs(60), Duration::from_secs(240));
    let mut operations = vec![(Duration::from_secs(1), Operation::Traffic(100 + rng.below(1500) as u32))];
    let number = 3 + rng.below(20);
    for _ in 0..number {
        let at = round(rng.between(Duration::from_secs(2), run));
        let operation = operation(&mut rng, nodes, servers, at, run, &mut operations);
        operations.push((at, operation));
    }
    operations.sort_by_key(|(at, _)| *at);
    Scenario { seed, nodes, servers, links: links(&mut rng), run: round(run), operations }
}

fn round(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}

fn links(rng: &mut Rng) -> Links {
    let least = Duration::from_millis(rng.below(20) as u64);
    let most = least + Duration::from_millis(rng.below(150) as u64);
    let some = |rng: &mut Rng, most: usize| if rng.permille(500) { rng.below(most) as u32 } else { 0 };
    Links { least, most, loss: some(rng, 200), twice: some(rng, 50), late: some(rng, 200) }
}

/// Jumps of the wall clock, in ms.
const JUMPS_MS: [i64; 8] = [-WEEK_MS, -3_600_000, -600_000, -20_000, 20_000, 600_000, 3_600_000, WEEK_MS];

/// Returns a random operation, and adds the operation that reverts it.
fn operation(
    rng: &mut Rng,
    nodes: usize,
    servers: usize,
    at: Duration,
    run: Duration,
    operations: &mut Vec<(Duration, Operation)>,
) -> Operation {
    let node = rng.below(nodes);
    let later =
        |rng: &mut Rng| round((at + rng.between(Duration::from_secs(1), Duration::from_secs(90))).min(run));
    match rng.below(20) {
        0..=2 => {
            let start = start(rng, node, node >= servers);
            operations.push((later(rng), start));
            Operation::Crash(node)
        }
        3 => {
            operations.push((later(rng), Operation::Heal));
            let first = rng.below(nodes);
            Operation::Partition { first, last: first + rng.below(nodes - first) }
        }
        4 => Operation::Disconnect(node, rng.below(nodes)),
        5 => {
            operations.push((later(rng), Operation::ResumeReader(node)));
            Operation::PauseReader(node)
        }
        6 => {
            let honesty = if rng.permille(500) { Honesty::Silent } else { Honesty::Lying };
            Operation::Serve(rng.below(servers), honesty)
        }
        7 => Operation::Replay(1 + rng.below(100) as u32),
        8 => Operation::Clock(node, JUMPS_MS[rng.below(JUMPS_MS.len())]),
        9 => Operation::Pool(rng.below(300) as u32),
        10 => {
            let start = start(rng, node, false);
            operations.push((later(rng), start));
            Operation::Eof(node)
        }
        11 => Operation::Links(links(rng)),
        12 | 13 => {
            roll_back_later(rng, node, later, run, operations);
            Operation::Snapshot(node)
        }
        14 => {
            restarts(rng, node, at, run, operations);
            Operation::Traffic(1000 + rng.below(1500) as u32)
        }
        15 => Operation::Suspend(node, Duration::from_secs([5, 40, 130, 3600][rng.below(4)])),
        16 => {
            // A wrong clock that is corrected later.
            let by = if rng.permille(500) { WEEK_MS } else { -WEEK_MS };
            operations.push((later(rng), Operation::Clock(node, -by)));
            Operation::Clock(node, by)
        }
        _ => burst(rng, node, nodes),
    }
}

/// Schedules several restarts, during which some delivered messages are not acked.
fn restarts(
    rng: &mut Rng,
    node: usize,
    at: Duration,
    run: Duration,
    operations: &mut Vec<(Duration, Operation)>,
) {
    let mut then = at;
    for _ in 0..1 + rng.below(4) {
        then = round((then + rng.between(Duration::from_secs(1), Duration::from_secs(15))).min(run));
        let end = if rng.permille(500) { Operation::Eof(node) } else { Operation::Crash(node) };
        operations.push((then, end));
        let start = Operation::Start { node, same_store: true, new_addr: false };
        then = round((then + rng.between(Duration::from_secs(1), Duration::from_secs(8))).min(run));
        operations.push((then, start));
    }
}

fn burst(rng: &mut Rng, node: usize, nodes: usize) -> Operation {
    Operation::Burst {
        from: node,
        to: rng.below(nodes),
        count: 1 + rng.below(400) as u32,
        bytes: [10, 256, 5_000][rng.below(3)],
        priority: [Priority::Low, Priority::Medium, Priority::High][rng.below(3)],
        route: [Route::Auto, Route::Direct, Route::Gossip][rng.below(3)],
        ttl: Duration::from_secs([5, 30, 120][rng.below(3)]),
    }
}

/// Schedules a rollback of the store to the snapshot taken now. Some mail is sent in between.
fn roll_back_later(
    rng: &mut Rng,
    node: usize,
    later: impl Fn(&mut Rng) -> Duration,
    run: Duration,
    operations: &mut Vec<(Duration, Operation)>,
) {
    let back = later(rng);
    operations.push((back, Operation::Rollback(node)));
    let again = round((back + rng.between(Duration::ZERO, Duration::from_secs(5))).min(run));
    operations.push((again, Operation::Start { node, same_store: true, new_addr: false }));
}

/// Starts a node, perhaps with a new store, and on another address if it `may_move`.
fn start(rng: &mut Rng, node: usize, may_move: bool) -> Operation {
    Operation::Start { node, same_store: rng.permille(500), new_addr: may_move && rng.permille(500) }
}
