//! Honest agents in ordinary trouble, with limits and bans on: nobody blames anybody, and all mail is
//! delivered.
//!
//! The invariants check after each step that no reputation was ever lowered and nobody was banned.

use std::time::Instant;

use crate::fixtures;
use crate::report::Report;
use crate::run::run_world;
use crate::world::World;

/// Scenario that takes minutes.
const DAY: &str = "quiet_day";

/// Runs the honest scenarios for which `is_wanted` holds.
fn run(is_wanted: impl Fn(&str) -> bool) {
    let wanted: Vec<_> = fixtures::honest().into_iter().filter(|(name, _)| is_wanted(name)).collect();
    assert!(!wanted.is_empty());
    for (name, scenario) in wanted {
        assert!(scenario.is_honest(), "{name}");
        let began = Instant::now();
        let mut world = World::new(scenario);
        world.is_orderly = true;
        let outcome = run_world(world);
        println!("{name}: {} steps of {:?} in {:?}", outcome.steps, outcome.simulated, began.elapsed());
        println!("{}", outcome.report);
        assert_eq!(outcome.violation.map(|violation| violation.to_string()), None, "{name}");
        let Report { messages, delivered, expired, failed, refused, lost_in_crashes, .. } = outcome.report;
        assert_eq!([expired, failed, refused, lost_in_crashes], [0; 4], "{name}");
        // A sender that crashes at once may send again what was delivered, and say so again.
        assert!(delivered >= messages, "{name}: {delivered} of {messages} are delivered");
    }
}

#[test]
fn honest_agents_are_never_blamed_when_busy_parted_restarted_or_with_wrong_clocks() {
    run(|name| name != DAY);
}

#[test]
fn honest_agents_are_never_blamed_on_a_quiet_day() {
    run(|name| name == DAY);
}
