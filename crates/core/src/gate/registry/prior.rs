//! What the registry's reputation of an agent takes from the one that this node keeps: a prior, which the
//! node's own evidence outweighs with time.

use alloy_primitives::Address;

use super::Registry;

/// Reputation in a registry from which on it takes nothing: our choice, the middle of 0 to 100, which a new
/// agent has. Better ones earn no credit, as this node's own reputations do not.
const NEUTRAL: u64 = 50;
/// Most that the registry takes, with a reputation of 0. Our choice: the agent is far from a ban (0.6 of 1), and
/// three faults less than another one's bring it there.
const MOST: f64 = 0.4;
/// Number of accepted mails after which the registry counts half: our choice.
const HALF_AFTER: f64 = 8.0;

impl Registry {
    /// Returns what is missing to the full reputation of an agent by the word of the registry, from 0 to 0.4:
    /// `0.4 · (50 − reputation) / 50 · 8 / (8 + accepted mails)`. A registry that is off says nothing.
    pub(crate) fn prior(&self, agent: Option<&Address>) -> f64 {
        let Some((reputation, mails)) = agent.and_then(|agent| self.cache.reputation(agent)) else {
            return 0.0;
        };
        let below = NEUTRAL.saturating_sub(reputation) as f64 / NEUTRAL as f64;
        MOST * below * HALF_AFTER / (HALF_AFTER + f64::from(mails))
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_wire::time::Instant;

    use super::*;
    use crate::chain::{AgentInfo, AgentQuery};
    use crate::gate::registry::{RegistryConfig, RegistryPolicy};

    const ANN: Address = Address::repeat_byte(1);

    fn prior(reputation: Option<u64>, is_active: bool, mails: u32) -> f64 {
        let config = RegistryConfig { policy: RegistryPolicy::Warn, ..RegistryConfig::default() };
        let mut registry = Registry::new(Some(config));
        let now = Instant::from_secs(1_000);
        registry.look_up(&ANN, true, now);
        registry.cache.begin_read(|agent| Some(AgentQuery { agent: *agent, id: None }), now);
        let info = AgentInfo { is_active, reputation, ..AgentInfo::default() };
        registry.cache.on_read(&[(ANN, Some(info))], now);
        (0..mails).for_each(|_| registry.cache.count_mail(&ANN));
        registry.prior(Some(&ANN))
    }

    #[test]
    fn low_reputation_in_the_registry_takes_a_part_that_own_evidence_outweighs() {
        let is = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        is(prior(Some(0), true, 0), 0.4);
        is(prior(Some(25), true, 0), 0.2);
        is(prior(Some(0), true, 8), 0.2);
        is(prior(Some(0), true, 792), 0.004);
        for nothing in [prior(Some(50), true, 0), prior(Some(u64::MAX), true, 0), prior(None, true, 0)] {
            is(nothing, 0.0);
        }
        is(prior(Some(0), false, 0), 0.0);
        is(Registry::new(None).prior(None), 0.0);
    }
}
