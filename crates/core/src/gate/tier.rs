//! The tiers of agents: how much of this node an agent may use.

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_wire::lru_map::LruMap;

use crate::gate::Gate;
use crate::gate::access_list::AccessRule;

/// Largest number of agents that the node remembers as mailed: our choice, as many as the directory
/// has records. Each takes some 150 bytes. At the limit the node forgets the agent whose first
/// message to an empty outbox is the oldest. Only the parent adds agents, so no peer can fill it.
pub const MAX_MAILED: usize = 10_000;

/// How much of this node an agent may use. A higher tier may use more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The node knows nothing of the agent but its keys, which cost nothing.
    Stranger,
    /// The parent sent mail to the agent, or the registry names it.
    Known,
    /// The parent allowed the agent or its node, or the node has no limits.
    Allowed,
}

impl From<Tier> for p2p_node_protocol::Tier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Stranger => p2p_node_protocol::Tier::Stranger,
            Tier::Known => p2p_node_protocol::Tier::Known,
            Tier::Allowed => p2p_node_protocol::Tier::Allowed,
        }
    }
}

/// What the tiers depend on, beside the access list.
#[derive(Debug)]
pub(crate) struct Tiers {
    /// `false` if everyone counts as allowed.
    limits_apply: bool,
    /// Agents to whom the parent sent mail.
    mailed: LruMap<Address, ()>,
    /// Agents that sent mail to the parent, so that they know this agent.
    correspondents: LruMap<Address, ()>,
    last_correspondent: Option<Address>,
}

impl Tiers {
    /// Creates the tiers of a node whose outbox has mail for these agents.
    pub(crate) fn new(limits_apply: bool, mailed: impl Iterator<Item = Address>) -> Self {
        let mut tiers = Tiers {
            limits_apply,
            mailed: LruMap::default(),
            correspondents: LruMap::default(),
            last_correspondent: None,
        };
        mailed.for_each(|agent| tiers.on_mailed(agent));
        tiers
    }

    /// Remembers that the parent sent mail to an agent.
    pub(crate) fn on_mailed(&mut self, agent: Address) {
        self.mailed.insert(agent, ());
        self.mailed.shrink_to(MAX_MAILED);
    }

    /// Remembers that an agent sent mail to the parent. Many messages in a row have one sender.
    pub(crate) fn on_mail_from(&mut self, agent: Address) {
        if self.last_correspondent.replace(agent) != Some(agent) {
            self.correspondents.insert(agent, ());
            self.correspondents.shrink_to(MAX_MAILED);
        }
    }

    /// Returns the number of agents that the node remembers as correspondents.
    pub(crate) fn correspondents(&self) -> usize {
        self.correspondents.len()
    }

    /// Returns `true` if the parent sent mail to the agent.
    pub(crate) fn is_mailed(&self, agent: &Address) -> bool {
        self.mailed.contains_key(agent)
    }

    /// Returns the number of agents that the node remembers as mailed.
    pub(crate) fn mailed(&self) -> usize {
        self.mailed.len()
    }
}

impl Gate {
    /// Returns the tier that this agent probably has at a peer: at one that it allows, it is taken to be
    /// allowed, and one that sent mail knows it.
    pub(crate) fn tier_at(&self, agent: Option<&Address>, node: &PeerId) -> Tier {
        match self.access_list.of_peer(agent, node) {
            Some(AccessRule::Allowed) => Tier::Allowed,
            _ if agent.is_some_and(|agent| self.tiers.correspondents.contains_key(agent)) => Tier::Known,
            _ => Tier::Stranger,
        }
    }

    /// Returns the tier of a peer whose agent `agent` looks up. Without limits there is no lookup.
    pub(crate) fn tier_of_peer(&self, peer: &PeerId, agent: impl FnOnce() -> Option<Address>) -> Tier {
        if !self.tiers.limits_apply && self.access_list.is_empty() {
            return Tier::Allowed;
        }
        self.tier(agent().as_ref(), peer)
    }

    /// Returns `true` for an agent that this node mailed, or that the registry names.
    fn is_known(&self, agent: &Address) -> bool {
        self.tiers.mailed.contains_key(agent) || self.registry.names(agent)
    }

    /// Returns the tier of an agent that speaks by this node. `agent` is `None` if the node has no
    /// record of the peer.
    pub(crate) fn tier(&self, agent: Option<&Address>, node: &PeerId) -> Tier {
        match self.access_list.of_peer(agent, node) {
            Some(AccessRule::Blocked) => Tier::Stranger,
            Some(AccessRule::Allowed) => Tier::Allowed,
            None if !self.tiers.limits_apply => Tier::Allowed,
            None if agent.is_some_and(|agent| self.is_known(agent)) => Tier::Known,
            None => Tier::Stranger,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::access_list::Subject;
    use crate::testing::core_with;

    fn agent(number: u16) -> Address {
        let mut bytes = [0; 20];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Address::from(bytes)
    }

    #[test]
    fn tier_follows_access_rules_mail_and_the_setting() {
        let (ann, node) = (agent(1), PeerId::random());
        let mut gate = core_with(|config| config.limits_apply = true).gate;
        assert_eq!((gate.tier(Some(&ann), &node), gate.tier(None, &node)), (Tier::Stranger, Tier::Stranger));
        gate.tiers.on_mailed(ann);
        assert_eq!(
            (gate.tier(Some(&ann), &node), gate.tier(Some(&agent(2)), &node)),
            (Tier::Known, Tier::Stranger)
        );
        gate.access_list.set(Subject::Node(node), Some(AccessRule::Allowed)).unwrap();
        assert_eq!(
            (gate.tier(Some(&agent(2)), &node), gate.tier(None, &node)),
            (Tier::Allowed, Tier::Allowed)
        );
        gate.access_list.set(Subject::Agent(ann), Some(AccessRule::Blocked)).unwrap();
        assert_eq!(gate.tier(Some(&ann), &node), Tier::Stranger, "a block outweighs everything");
        let mut without_limits = core_with(|config| config.limits_apply = false).gate;
        assert_eq!(without_limits.tier(Some(&ann), &node), Tier::Allowed);
        without_limits.access_list.set(Subject::Agent(ann), Some(AccessRule::Blocked)).unwrap();
        assert_eq!(without_limits.tier(Some(&ann), &node), Tier::Stranger);
    }

    #[test]
    fn mailed_agents_beyond_the_limit_push_out_the_oldest() {
        let mut tiers = Tiers::new(true, (0..MAX_MAILED as u16).map(agent));
        tiers.on_mailed(agent(0));
        tiers.on_mailed(agent(u16::MAX));
        assert_eq!(tiers.mailed(), MAX_MAILED);
        let is_known = |number| tiers.mailed.contains_key(&agent(number));
        assert_eq!((is_known(0), is_known(1), is_known(2), is_known(u16::MAX)), (true, false, true, true));
    }
}
