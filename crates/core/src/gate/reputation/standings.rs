//! The reputations that are not full, each with the time of its last change.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_node_wire::time::Instant;

use super::conduct::{Conduct, RULES, Rule};
use super::{Party, THRESHOLD};

/// Time in which half of what is missing to a full reputation comes back, as in Lighthouse
/// (`SCORE_HALFLIFE`).
pub(crate) const HALF_LIFE: Duration = Duration::from_secs(600);
/// Largest number of nodes, of agents and of hosts whose reputation is not full. Our choice: at 250
/// bytes each the three take 3 MiB. Every entry costs its peer a connection and a fault.
pub const MAX_STANDINGS: usize = 4096;
/// Part of a full table that one eviction removes, so that the search for the best known is rare.
const EVICTED_SHARE: usize = 8;
/// What is missing to a full reputation when the node forgets it: our choice, less than any penalty.
const NEGLIGIBLE: f64 = 0.01;
/// Reputation that good conduct earns back at most in this time, beside what time alone brings. Our
/// choice: one valid transaction in a minute. So nobody pays for a fault with many cheap good deeds.
const EARNED: (f64, Duration) = (0.02, Duration::from_secs(60));
/// Time after the end of a ban for which the next ban is longer: our choice, twice the longest ban.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// What is missing to the full reputation of a party.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standing {
    missing: f64,
    at: Instant,
    /// When each conduct last counted.
    counted: [Option<Instant>; RULES.len()],
    /// Good conduct counts from this time on.
    earns_from: Instant,
    /// Number of bans in a row, and the time until which they count.
    pub(super) bans: u32,
    bans_count_until: Instant,
}

impl Standing {
    fn full(now: Instant) -> Self {
        Standing {
            missing: 0.0,
            at: now,
            counted: [None; RULES.len()],
            earns_from: Instant::ZERO,
            bans: 0,
            bans_count_until: Instant::ZERO,
        }
    }

    /// Returns the standing of a party whose last ban ends: on the threshold.
    pub(super) fn after_ban(bans: u32, now: Instant) -> Self {
        let bans_count_until = now + REMEMBERED;
        Standing { missing: 1.0 - THRESHOLD, bans, bans_count_until, ..Standing::full(now) }
    }

    fn missing_at(&self, now: Instant) -> f64 {
        let half_lives = now.saturating_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.missing * 0.5_f64.powf(half_lives)
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        self.missing_at(now) < NEGLIGIBLE && self.bans_count_until <= now
    }

    fn apply(&mut self, rule: &Rule, share: f64, now: Instant) {
        let missing = self.missing_at(now);
        let change = rule.change * share;
        if change > 0.0 {
            if now < self.earns_from {
                return;
            }
            self.earns_from = now + EARNED.1.mul_f64(rule.change / EARNED.0);
        } else {
            let counted = &mut self.counted[rule.conduct as usize];
            if counted.is_some_and(|at| now < at + rule.spacing) {
                return;
            }
            *counted = Some(now);
        }
        (self.missing, self.at) = ((missing - change).clamp(0.0, 1.0), now);
        if self.bans_count_until <= now {
            self.bans = 0;
        }
    }
}

/// The reputations of one kind of party that are not full.
#[derive(Debug, Default)]
pub(super) struct Standings(BTreeMap<Party, Standing>);

impl Standings {
    /// Returns the reputation of a party, from 0 to 1.
    pub(super) fn score(&self, party: &Party, now: Instant) -> f64 {
        1.0 - self.0.get(party).map_or(0.0, |standing| standing.missing_at(now))
    }

    /// Changes the reputation of a party. Good conduct changes only one that is not full. Returns the
    /// new one.
    pub(super) fn apply(&mut self, party: Party, conduct: Conduct, share: f64, now: Instant) -> f64 {
        let rule = conduct.rule();
        if rule.change < 0.0 && !self.0.contains_key(&party) {
            self.evict(now);
            self.0.insert(party, Standing::full(now));
        }
        if let Some(standing) = self.0.get_mut(&party) {
            standing.apply(rule, share, now);
        }
        self.score(&party, now)
    }

    /// Removes and returns the standing of a party.
    pub(super) fn take(&mut self, party: &Party) -> Option<Standing> {
        self.0.remove(party)
    }

    /// Sets the standing of a party.
    pub(super) fn set(&mut self, party: Party, standing: Standing, now: Instant) {
        self.evict(now);
        self.0.insert(party, standing);
    }

    /// Makes room for one more: removes what can be forgotten, or else those of the best reputation.
    fn evict(&mut self, now: Instant) {
        if self.0.len() < MAX_STANDINGS {
            return;
        }
        self.0.retain(|_, standing| !standing.is_forgettable(now));
        if self.0.len() <= MAX_STANDINGS - MAX_STANDINGS / EVICTED_SHARE {
            return;
        }
        let mut order: Vec<(f64, Party)> =
            self.0.iter().map(|(party, standing)| (standing.missing_at(now), *party)).collect();
        order.sort_by(|one, other| one.0.total_cmp(&other.0));
        for (_, party) in order.into_iter().take(MAX_STANDINGS / EVICTED_SHARE) {
            self.0.remove(&party);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;

    fn is(score: f64, expected: f64) -> bool {
        (score - expected).abs() < 1e-9
    }

    fn node() -> Party {
        Party::Node(PeerId::random())
    }

    #[test]
    fn reputation_falls_by_the_rule_and_halves_its_distance_in_the_half_life() {
        let (mut standings, node, now) = (Standings::default(), node(), Instant::from_secs(10));
        assert!(is(standings.score(&node, now), 1.0), "an unknown party has the full reputation");
        assert!(is(standings.apply(node, Conduct::InvalidMail, 1.0, now), 0.8));
        assert!(is(standings.apply(node, Conduct::InvalidMail, 0.25, now), 0.75));
        assert!(is(standings.score(&node, now + HALF_LIFE), 0.875));
        assert!(is(standings.score(&node, now + 2 * HALF_LIFE), 0.9375));
        for _ in 0..10 {
            standings.apply(node, Conduct::InvalidMail, 1.0, now);
        }
        assert!(is(standings.score(&node, now), 0.0), "never below 0");
    }

    #[test]
    fn good_conduct_earns_at_most_one_valid_transaction_a_minute_and_no_credit() {
        let (mut standings, node, now) = (Standings::default(), node(), Instant::from_secs(10));
        assert!(is(standings.apply(node, Conduct::MailAccepted, 1.0, now), 1.0));
        assert_eq!(standings.len(), 0, "good conduct takes no room");
        standings.apply(node, Conduct::InvalidMail, 1.0, now);
        for _ in 0..100 {
            standings.apply(node, Conduct::MailAccepted, 1.0, now);
        }
        assert!(is(standings.score(&node, now), 0.82));
        let later = now + EARNED.1;
        let recovered = standings.score(&node, later);
        assert!(is(standings.apply(node, Conduct::RecordFound, 1.0, later), recovered + 0.01));
        assert!(is(standings.apply(node, Conduct::RecordFound, 1.0, later), recovered + 0.01));
    }

    #[test]
    fn reuse_of_numbers_alone_never_reaches_the_threshold() {
        let (mut standings, node, now) = (Standings::default(), node(), Instant::from_secs(10));
        for _ in 0..100 {
            standings.apply(node, Conduct::ReusedNumber, 1.0, now);
        }
        assert!(is(standings.score(&node, now), 0.7), "it counts once in a while");
        let scores = (10..10_000_u64)
            .map(|second| standings.apply(node, Conduct::ReusedNumber, 1.0, Instant::from_secs(second)));
        assert!(scores.fold(1.0, f64::min) > THRESHOLD);
    }

    #[test]
    fn full_table_evicts_the_best_known() {
        let (mut standings, now) = (Standings::default(), Instant::from_secs(10));
        let bad = node();
        for _ in 0..3 {
            standings.apply(bad, Conduct::InvalidMail, 1.0, now);
        }
        for _ in 0..2 * MAX_STANDINGS {
            standings.apply(node(), Conduct::InvalidMail, 1.0, now);
            assert!(standings.len() <= MAX_STANDINGS);
        }
        assert!(is(standings.score(&bad, now), 0.4), "the worst known stays");
        standings.apply(node(), Conduct::InvalidMail, 1.0, now + 20 * HALF_LIFE);
        assert!(standings.len() <= MAX_STANDINGS, "{}", standings.len());
    }
}
