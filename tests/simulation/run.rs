//! Runs scenarios to their end, and shrinks failing ones.

use std::time::Duration;

use p2p_node_protocol::{Priority, Route};
use p2p_node_wire::time::Instant;

use crate::report::Report;
use crate::scenario::Scenario;
use crate::world::{InvariantViolation, World};

/// After all that was done, so long until the network must have found together again: the longest
/// pauses of the core (dials 60 s, lookups 60 s) and what they lead to.
const FIND_TOGETHER: Duration = Duration::from_secs(150);
/// How long the mail of a world at rest may take: a dial and a lookup, and one more of each.
const PROBE: Duration = Duration::from_secs(60);
/// Longest ttl of a scenario; by then everything was told.
const LONGEST_TTL: Duration = Duration::from_secs(130);

/// What a run came to.
pub struct Outcome {
    pub broken: Option<InvariantViolation>,
    pub report: Report,
    pub fingerprint: u64,
    pub steps: u64,
    pub simulated: Duration,
}

pub fn run(scenario: &Scenario) -> Outcome {
    let mut world = World::new(scenario.clone());
    world.run_until(Instant::after_start(scenario.run));
    world.heal_all();
    // Nodes that were told to end have ended by then.
    world.run_until(Instant::after_start(scenario.run) + Duration::from_secs(10));
    world.start_all();
    world.run_until(Instant::after_start(scenario.run) + FIND_TOGETHER);
    world.probe(PROBE);
    world.run_until(world.now + PROBE.max(LONGEST_TTL) + Duration::from_secs(2));
    if world.broken.is_none() {
        world.look_at_rest();
    }
    Outcome {
        broken: world.broken,
        report: world.report,
        fingerprint: world.trace.fingerprint(),
        steps: world.trace.steps,
        simulated: world.now.since_start(),
    }
}

impl World {
    /// Has every node mail the next and one further on: that must arrive now.
    fn probe(&mut self, ttl: Duration) {
        if self.broken.is_some() {
            return;
        }
        let number = self.nodes.len();
        for node in 0..number {
            for to in [(node + 1) % number, (node + number / 2) % number] {
                if to != node {
                    self.probes.insert((node, self.nodes[node].parent.next_serial()));
                    self.mail(node, to, 10, Priority::Medium, Route::Auto, ttl);
                }
            }
            self.step(node);
        }
    }

    pub fn resting_probe(&self, serial: u64, node: usize) -> bool {
        self.probes.contains(&(node, serial))
    }
}

/// The smallest scenario found that still breaks the same invariant: parts of its operations are
/// left out, larger ones first.
pub fn shrink(failing: &Scenario, broken: &InvariantViolation, tries: usize) -> Scenario {
    let mut best = failing.clone();
    let mut left = tries;
    let mut part = best.operations.len().div_ceil(2);
    while part > 0 && left > 0 {
        let mut from = 0;
        while from < best.operations.len() && left > 0 {
            left -= 1;
            let mut smaller = best.clone();
            let to = (from + part).min(smaller.operations.len());
            smaller.operations.drain(from..to);
            let fails = run(&smaller).broken.is_some_and(|found| found.invariant == broken.invariant);
            if fails { best = smaller } else { from += part }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    best
}
