//! Runs scenarios to their end, and shrinks failing ones.

use std::time::Duration;

use p2p_node_protocol::{Priority, Route};
use p2p_node_wire::time::Instant;

use crate::report::Report;
use crate::scenario::Scenario;
use crate::world::{InvariantViolation, World};

/// Time after the last fault until all nodes must reach each other again: the longest backoffs of the
/// core (dials 60 s, lookups 60 s), and time for what follows.
const RECOVERY_TIME: Duration = Duration::from_secs(150);
/// TTL of the final messages: a dial and a lookup, and one retry of each.
const PROBE_TTL: Duration = Duration::from_secs(60);
/// Longest TTL of a scenario, after which every delivery is reported.
const MAX_TTL: Duration = Duration::from_secs(130);

/// Result of a run.
pub struct Outcome {
    pub violation: Option<InvariantViolation>,
    pub report: Report,
    pub fingerprint: u64,
    pub steps: u64,
    pub simulated: Duration,
}

pub fn run(scenario: &Scenario) -> Outcome {
    run_world(World::new(scenario.clone()))
}

/// Runs a world that has just begun.
pub fn run_world(mut world: World) -> Outcome {
    let scenario = world.scenario.clone();
    world.run_until(Instant::after_start(scenario.run));
    world.heal_all();
    // Nodes whose stdin was closed have exited by then.
    world.run_until(Instant::after_start(scenario.run) + Duration::from_secs(10));
    world.start_all();
    world.run_until(Instant::after_start(scenario.run) + RECOVERY_TIME);
    world.probe(PROBE_TTL);
    world.run_until(world.now + PROBE_TTL.max(MAX_TTL) + Duration::from_secs(2));
    if world.violation.is_none() {
        world.check_final_invariants();
    }
    Outcome {
        violation: world.violation,
        report: world.report,
        fingerprint: world.trace.fingerprint(),
        steps: world.trace.steps,
        simulated: world.now.since_start(),
    }
}

impl World {
    /// Sends a message from every node to two others; all must arrive.
    fn probe(&mut self, ttl: Duration) {
        if self.violation.is_some() {
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

    pub fn is_final_probe(&self, serial: u64, node: usize) -> bool {
        self.probes.contains(&(node, serial))
    }
}

/// Removes operations while the scenario still violates the same invariant, larger chunks first, and
/// returns the smallest scenario found.
pub fn shrink(failing: &Scenario, violation: &InvariantViolation, max_runs: usize) -> Scenario {
    let mut best = failing.clone();
    let mut left = max_runs;
    let mut chunk = best.operations.len().div_ceil(2);
    while chunk > 0 && left > 0 {
        let mut from = 0;
        while from < best.operations.len() && left > 0 {
            left -= 1;
            let mut smaller = best.clone();
            let to = (from + chunk).min(smaller.operations.len());
            smaller.operations.drain(from..to);
            let fails = run(&smaller).violation.is_some_and(|found| found.invariant == violation.invariant);
            if fails { best = smaller } else { from += chunk }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    best
}
