//! Deterministic simulation: many cores, one clock, one seed. See `scenario` for what may happen and `lines` for what
//! must hold whatever happens.

mod carry;
mod deeds;
mod generate;
mod lines;
mod links;
mod node;
mod parent;
mod report;
mod rng;
mod run;
mod scenario;
mod trace;
mod traffic;
mod world;

use std::fmt::Write as _;

use report::Report;
use run::{Outcome, run, shrink};
use scenario::Scenario;

/// Seeds that every run of the tests tries.
const SEEDS: u64 = 100;
/// Runs that may be spent on making a failing scenario smaller.
const SHRINKING: usize = 60;

/// A number from the environment: seeds and sizes of long runs are given there.
fn wanted(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs a scenario; if it fails, says how to see it again, and what is left of it when it is made small.
fn hold(scenario: &Scenario) -> Outcome {
    let outcome = run(scenario);
    let Some(broken) = &outcome.broken else { return outcome };
    let small = shrink(scenario, broken, SHRINKING);
    let again = run(&small).broken.unwrap_or_else(|| broken.clone());
    panic!("{broken}\n\nreplay with `just sim SEED={}`\n\nsmaller, it breaks so: {again}\n{small}", scenario.seed);
}

#[test]
fn seeds() {
    let (first, number) = match std::env::var("SEED") {
        Ok(seed) => (seed.parse().expect("SEED is a number"), 1),
        Err(_) => (wanted("FIRST_SEED", 1), wanted("SEEDS", SEEDS)),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut totals: Vec<(Report, u64, f64)> = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    let (mut report, mut steps, mut simulated) = (Report::default(), 0, 0.0);
                    for seed in (first..first + number).skip(worker as usize).step_by(threads as usize) {
                        let outcome = hold(&generate::scenario(seed));
                        report.add(&outcome.report);
                        steps += outcome.steps;
                        simulated += outcome.simulated.as_secs_f64();
                    }
                    (report, steps, simulated)
                })
            })
            .collect();
        for worker in workers {
            match worker.join() {
                Ok(total) => totals.push(total),
                Err(failure) => std::panic::resume_unwind(failure),
            }
        }
    });
    let mut report = Report::default();
    let (mut steps, mut simulated) = (0, 0.0);
    for (part, more_steps, more_time) in totals {
        report.add(&part);
        steps += more_steps;
        simulated += more_time;
    }
    let mut text = String::new();
    writeln!(text, "{number} seeds, {steps} steps, {:.1} simulated hours", simulated / 3600.0).unwrap();
    println!("{text}{report}");
}

#[test]
fn the_same_seed_leads_to_the_same_trace() {
    let scenario = generate::scenario(7);
    let (one, other) = (run(&scenario), run(&scenario));
    assert_eq!((one.fingerprint, one.steps), (other.fingerprint, other.steps));
    assert_ne!(one.fingerprint, run(&generate::scenario(8)).fingerprint);
}

#[test]
fn scenarios_are_read_as_they_are_written() {
    for seed in 0..200 {
        let scenario = generate::scenario(seed);
        assert_eq!(scenario.to_string().parse::<Scenario>().unwrap(), scenario);
    }
    for bad in ["", "seed x", "seed 1\nnodes 3 servers 1\nlinks 1ms to 2ms loss 0 twice 0 late 0\nrun 5ms\n1ms fly"] {
        assert!(bad.parse::<Scenario>().is_err(), "{bad:?}");
    }
}
