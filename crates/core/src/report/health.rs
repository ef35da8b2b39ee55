//! The health score of the TOS document: how well the network serves this node, with the causes.

use p2p_node_protocol::{HealthCause, HealthPenalty};

/// Number of active peers below which each missing one costs points, from the TOS document.
pub const ENOUGH_PEERS: usize = 10;
/// Points that each missing peer costs, from the TOS document.
const POINTS_PER_PEER: f64 = 5.0;
/// Latency in ms above which the score falls, from the TOS document.
const HIGH_LATENCY_MS: f64 = 1000.0;
/// Milliseconds above [`HIGH_LATENCY_MS`] that cost a point, from the TOS document.
const MS_PER_POINT: f64 = 100.0;
/// Most points that latency costs, from the TOS document.
const MOST_FOR_LATENCY: f64 = 30.0;
/// Share of the active nodes below which consensus has too few, from the TOS document.
const ENOUGH_PARTICIPATION: f64 = 0.5;
/// Points that a participation of 0 would cost for each whole, from the TOS document.
const POINTS_OF_PARTICIPATION: f64 = 40.0;
/// Share of dropped messages above which the score falls, from the TOS document.
const HIGH_DROP_RATE: f64 = 0.05;
/// Points for each whole above [`HIGH_DROP_RATE`], from the TOS document.
const POINTS_OF_DROPS: f64 = 500.0;
/// Most points that drops cost, from the TOS document.
const MOST_FOR_DROPS: f64 = 25.0;
/// Highest score, from the TOS document.
const BEST: f64 = 100.0;

/// What the health score depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// Number of peers that the node heard of in the last 5 minutes.
    pub active_peers: usize,
    /// Mean round trip time to them in ms, if there is one.
    pub latency_ms: Option<f64>,
    /// Share of them that take part in consensus; `None` if the network has no consensus.
    pub participation: Option<f64>,
    /// Share of the messages that were dropped.
    pub drop_rate: f64,
}

/// Returns the score from 0 to 100 and what lowers it.
pub fn score(observed: &Observed) -> (f64, Vec<HealthPenalty>) {
    let causes: Vec<HealthPenalty> =
        [few_peers(observed), high_latency(observed), low_participation(observed), drops(observed)]
            .into_iter()
            .flatten()
            .collect();
    let lost: f64 = causes.iter().map(|cause| cause.penalty).sum();
    ((BEST - lost).clamp(0.0, BEST), causes)
}

fn few_peers(observed: &Observed) -> Option<HealthPenalty> {
    let active = observed.active_peers;
    let missing = ENOUGH_PEERS.checked_sub(active).filter(|missing| *missing > 0)?;
    Some(HealthPenalty {
        cause: HealthCause::FewPeers,
        penalty: missing as f64 * POINTS_PER_PEER,
        value: active as f64,
        text: format!("The node knows {active} active peers; a healthy network has at least {ENOUGH_PEERS}."),
    })
}

fn high_latency(observed: &Observed) -> Option<HealthPenalty> {
    let latency = observed.latency_ms.filter(|latency| *latency > HIGH_LATENCY_MS)?;
    Some(HealthPenalty {
        cause: HealthCause::HighLatency,
        penalty: ((latency - HIGH_LATENCY_MS) / MS_PER_POINT).min(MOST_FOR_LATENCY),
        value: latency,
        text: format!("A round trip to a peer takes {latency:.0} ms on average; more than 1 s is slow."),
    })
}

fn low_participation(observed: &Observed) -> Option<HealthPenalty> {
    let share = observed.participation.filter(|share| *share < ENOUGH_PARTICIPATION)?;
    let percent = share * 100.0;
    Some(HealthPenalty {
        cause: HealthCause::LowParticipation,
        penalty: (ENOUGH_PARTICIPATION - share) * POINTS_OF_PARTICIPATION,
        value: share,
        text: format!("{percent:.0} % of the active peers take part in consensus; at least half should."),
    })
}

fn drops(observed: &Observed) -> Option<HealthPenalty> {
    let rate = Some(observed.drop_rate).filter(|rate| *rate > HIGH_DROP_RATE)?;
    let percent = rate * 100.0;
    Some(HealthPenalty {
        cause: HealthCause::MessageDrops,
        penalty: ((rate - HIGH_DROP_RATE) * POINTS_OF_DROPS).min(MOST_FOR_DROPS),
        value: rate,
        text: format!("{percent:.1} % of the messages were dropped; up to 5 % is normal."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Observed =
        Observed { active_peers: 10, latency_ms: Some(1000.0), participation: Some(0.5), drop_rate: 0.05 };

    /// Computes the score as `updateNetworkHealth` of the TOS document does, line by line.
    fn of_the_document(observed: &Observed) -> f64 {
        let mut health = 100.0;
        let active = observed.active_peers as f64;
        if active < 10.0 {
            health -= (10.0 - active) * 5.0;
        }
        let latency = observed.latency_ms.unwrap_or(0.0);
        if latency > 1000.0 {
            health -= f64::min(30.0, (latency - 1000.0) / 100.0);
        }
        if let Some(participation) = observed.participation
            && participation < 0.5
        {
            health -= (0.5 - participation) * 40.0;
        }
        if observed.drop_rate > 0.05 {
            health -= f64::min(25.0, (observed.drop_rate - 0.05) * 500.0);
        }
        health.clamp(0.0, 100.0)
    }

    #[test]
    fn each_cause_costs_what_the_source_document_says() {
        use HealthCause::{FewPeers, HighLatency, LowParticipation, MessageDrops};
        let table: &[(&str, Observed, f64, &[HealthCause])] = &[
            ("nothing is wrong", WELL, 100.0, &[]),
            ("no peers", Observed { active_peers: 0, ..WELL }, 50.0, &[FewPeers]),
            ("nine peers", Observed { active_peers: 9, ..WELL }, 95.0, &[FewPeers]),
            ("many peers", Observed { active_peers: 1000, ..WELL }, 100.0, &[]),
            ("unknown latency", Observed { latency_ms: None, ..WELL }, 100.0, &[]),
            ("1.5 s", Observed { latency_ms: Some(1500.0), ..WELL }, 95.0, &[HighLatency]),
            ("4 s", Observed { latency_ms: Some(4000.0), ..WELL }, 70.0, &[HighLatency]),
            ("a minute", Observed { latency_ms: Some(60_000.0), ..WELL }, 70.0, &[HighLatency]),
            ("a quarter votes", Observed { participation: Some(0.25), ..WELL }, 90.0, &[LowParticipation]),
            ("nobody votes", Observed { participation: Some(0.0), ..WELL }, 80.0, &[LowParticipation]),
            ("no consensus", Observed { participation: None, ..WELL }, 100.0, &[]),
            ("6 % dropped", Observed { drop_rate: 0.06, ..WELL }, 95.0, &[MessageDrops]),
            ("10 % dropped", Observed { drop_rate: 0.1, ..WELL }, 75.0, &[MessageDrops]),
            ("all dropped", Observed { drop_rate: 1.0, ..WELL }, 75.0, &[MessageDrops]),
            (
                "peers and latency",
                Observed { active_peers: 5, latency_ms: Some(2000.0), ..WELL },
                65.0,
                &[FewPeers, HighLatency],
            ),
            (
                "everything, which would be below 0",
                Observed {
                    active_peers: 0,
                    latency_ms: Some(9000.0),
                    participation: Some(0.0),
                    drop_rate: 1.0,
                },
                0.0,
                &[FewPeers, HighLatency, LowParticipation, MessageDrops],
            ),
        ];
        for (name, observed, expected, causes) in table {
            let (health, penalties) = score(observed);
            assert!((health - expected).abs() < 1e-9, "{name}: {health} is not {expected}");
            assert!((health - of_the_document(observed)).abs() < 1e-9, "{name}");
            assert_eq!(penalties.iter().map(|one| one.cause).collect::<Vec<_>>(), *causes, "{name}");
        }
    }

    #[test]
    fn penalties_and_score_add_up_to_100_above_0() {
        let (health, penalties) = score(&Observed {
            active_peers: 3,
            latency_ms: Some(1100.0),
            participation: Some(0.4),
            drop_rate: 0.07,
        });
        let lost: f64 = penalties.iter().map(|one| one.penalty).sum();
        assert!((health + lost - 100.0).abs() < 1e-9);
        assert!(penalties.iter().all(|one| one.text.ends_with('.') && one.penalty > 0.0));
    }
}
