//! Deterministic simulation of many cores with one clock and one seed. `scenario` defines the
//! events and `invariants` the properties that every run must have.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "tests fail by panicking, and print their duration"
)]

mod acks;
mod disk;
mod effects;
mod fixtures;
mod generate;
mod honest;
mod invariants;
mod large;
mod liars;
mod links;
mod node;
mod operations;
mod parent;
mod report;
mod rng;
mod run;
mod scenario;
mod trace;
mod traffic;
mod world;

use std::time::{Duration, Instant};

use report::Report;
use run::{run, shrink};
use scenario::Scenario;
use world::InvariantViolation;

/// Number of seeds in a run of the tests. CI runs 100.
const SEEDS: u64 = 12;
/// Maximum number of runs to shrink a failing scenario.
const MAX_SHRINK_RUNS: usize = 60;

/// Reads a number from the environment, which sets the seeds and sizes of long runs.
fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Summary of many runs.
#[derive(Default)]
struct Total {
    report: Report,
    steps: u64,
    /// Combines all runs, independent of their order.
    fingerprint: u64,
    simulated: Duration,
    failures: Vec<(Scenario, InvariantViolation)>,
}

impl Total {
    fn run(&mut self, scenario: Scenario) {
        let outcome = run(&scenario);
        self.report.add(&outcome.report);
        self.steps += outcome.steps;
        self.fingerprint ^= outcome.fingerprint;
        self.simulated += outcome.simulated;
        self.failures.extend(outcome.violation.map(|violation| (scenario, violation)));
    }

    fn add(&mut self, other: Total) {
        self.report.add(&other.report);
        self.steps += other.steps;
        self.fingerprint ^= other.fingerprint;
        self.simulated += other.simulated;
        self.failures.extend(other.failures);
    }

    /// Prints how to reproduce each failure, and the first failure after shrinking.
    fn assert_no_failures(self) -> Total {
        let Some((scenario, violation)) = self.failures.first() else { return self };
        for (scenario, violation) in &self.failures {
            println!("replay with `just sim SEED={}`: {violation}", scenario.seed);
        }
        let small = shrink(scenario, violation, MAX_SHRINK_RUNS);
        let again = run(&small).violation.unwrap_or_else(|| violation.clone());
        panic!("{} scenarios fail\n\nthe first one, shrunk: {again}\n{small}", self.failures.len());
    }
}

#[test]
fn seeds() {
    let (first, number) = match std::env::var("SEED") {
        Ok(seed) => (seed.parse().expect("SEED is a number"), 1),
        Err(_) => (env_number("FIRST_SEED", 1), env_number("SEEDS", SEEDS)),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let began = Instant::now();
    let mut total = Total::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    let mut total = Total::default();
                    let seeds = (first..first + number).skip(worker as usize);
                    seeds.step_by(threads as usize).for_each(|seed| total.run(generate::scenario(seed)));
                    total
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| total.add(worker.join().expect("no panic")));
    });
    let hours = total.simulated.as_secs_f64() / 3600.0;
    let pace = hours / began.elapsed().as_secs_f64();
    println!("{number} seeds, {} steps, {hours:.1} simulated hours, {pace:.2} hours a second", total.steps);
    println!("fingerprint {:016x}\n{}", total.fingerprint, total.report);
    total.assert_no_failures();
}

/// Runs every scenario of `fixtures/scenarios` and compares the report with `report.txt`, which
/// `UPDATE_FIXTURES=1` writes.
#[test]
fn kept_scenarios_match_the_recorded_report() {
    let mut total = Total::default();
    let mut lines = String::new();
    for (name, scenario) in fixtures::all() {
        let mut one = Total::default();
        one.run(scenario);
        lines += &format!("{name}: {}\n", one.report.summary());
        total.add(one);
    }
    println!("{lines}\nfingerprint {:016x}\n{}", total.fingerprint, total.report);
    total.assert_no_failures();
    fixtures::compare(&lines);
}

/// Runs the scenario in the file that `SCENARIO` names.
#[test]
#[ignore = "runs the scenario that SCENARIO names"]
fn scenario_of_a_file() {
    let path = std::env::var("SCENARIO").expect("SCENARIO names a file");
    let text = std::fs::read_to_string(path).expect("a readable file");
    let began = Instant::now();
    let mut total = Total::default();
    total.run(text.parse().expect("a scenario"));
    println!("{} steps in {:?}\n{}", total.steps, began.elapsed(), total.report);
    total.assert_no_failures();
}

#[test]
fn same_seed_gives_the_same_trace() {
    let scenario = generate::scenario(7);
    let (one, other) = (run(&scenario), run(&scenario));
    assert_eq!((one.fingerprint, one.steps), (other.fingerprint, other.steps));
    assert_ne!(one.fingerprint, run(&generate::scenario(8)).fingerprint);
}

#[test]
fn scenario_text_round_trip() {
    for seed in 0..200 {
        let scenario = generate::scenario(seed);
        assert_eq!(scenario.to_string().parse::<Scenario>().unwrap(), scenario);
    }
    for bad in
        ["", "seed x", "seed 1\nnodes 3 servers 1\nlinks 1ms to 2ms loss 0 twice 0 late 0\nrun 5ms\n1ms fly"]
    {
        assert!(bad.parse::<Scenario>().is_err(), "{bad:?}");
    }
}
