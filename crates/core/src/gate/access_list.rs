//! Whom the parent blocked or allowed.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use libp2p_identity::PeerId;

/// Agents and nodes that may have a standing. Ours: a block list of some thousand is one that nobody keeps by hand, and at 100
/// bytes each they are less than a megabyte.
pub const MAX_STANDINGS: usize = 4096;

/// Whom a standing is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An agent, whichever node it uses.
    Agent(Address),
    /// A node, whichever agent uses it.
    Node(PeerId),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Agent(address) => address.fmt(f),
            Subject::Node(peer) => peer.fmt(f),
        }
    }
}

/// What the parent said of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessRule {
    /// `block`.
    Blocked,
    /// `allow`.
    Allowed,
}

/// There is room for no more standings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_STANDINGS} agents and nodes are blocked or allowed, which is all that is kept")]
pub struct Full;

/// Everybody's standing.
#[derive(Debug, Default)]
pub struct AccessList(BTreeMap<Subject, AccessRule>);

impl AccessList {
    /// Those that an earlier process left; beyond [`MAX_STANDINGS`] the rest is left out.
    pub fn new(kept: impl IntoIterator<Item = (Subject, AccessRule)>) -> Self {
        AccessList(kept.into_iter().take(MAX_STANDINGS).collect())
    }

    /// Sets a standing, or takes it back; whether that changes anything.
    ///
    /// # Errors
    /// When there is room for no more.
    pub fn set(&mut self, subject: Subject, standing: Option<AccessRule>) -> Result<bool, Full> {
        let Some(standing) = standing else { return Ok(self.0.remove(&subject).is_some()) };
        if self.0.len() >= MAX_STANDINGS && !self.0.contains_key(&subject) {
            return Err(Full);
        }
        Ok(self.0.insert(subject, standing) != Some(standing))
    }

    /// The standing of an agent that speaks through a node: who blocked either wants to hear of neither.
    pub fn of(&self, agent: &Address, node: &PeerId) -> Option<AccessRule> {
        let standings = [self.0.get(&Subject::Agent(*agent)), self.0.get(&Subject::Node(*node))];
        // `Blocked` is the lesser.
        standings.into_iter().flatten().min().copied()
    }

    /// Everybody who has this standing.
    pub fn having(&self, standing: AccessRule) -> impl Iterator<Item = Subject> {
        self.0.iter().filter(move |(_, one)| **one == standing).map(|(subject, _)| *subject)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: u16) -> Address {
        let mut bytes = [0; 20];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Address::from(bytes)
    }

    #[test]
    fn a_block_of_the_agent_or_of_the_node_outweighs_what_is_allowed() {
        let (ann, node, other) = (agent(1), PeerId::random(), PeerId::random());
        let mut standings = AccessList::default();
        assert_eq!(standings.of(&ann, &node), None);
        assert_eq!(standings.set(Subject::Agent(ann), Some(AccessRule::Allowed)), Ok(true));
        assert_eq!(standings.set(Subject::Agent(ann), Some(AccessRule::Allowed)), Ok(false), "as it was");
        assert_eq!(standings.of(&ann, &node), Some(AccessRule::Allowed));
        assert_eq!(standings.set(Subject::Node(node), Some(AccessRule::Blocked)), Ok(true));
        assert_eq!(standings.of(&ann, &node), Some(AccessRule::Blocked));
        assert_eq!(standings.of(&ann, &other), Some(AccessRule::Allowed));
        assert_eq!(standings.set(Subject::Agent(ann), None), Ok(true));
        assert_eq!(standings.set(Subject::Agent(ann), None), Ok(false));
        assert_eq!(
            (standings.of(&ann, &other), standings.of(&ann, &node)),
            (None, Some(AccessRule::Blocked))
        );
    }

    #[test]
    fn beyond_the_bound_none_is_added_and_those_that_are_there_may_change() {
        let all =
            (0..MAX_STANDINGS as u16 + 1).map(|number| (Subject::Agent(agent(number)), AccessRule::Allowed));
        let mut standings = AccessList::new(all);
        assert_eq!((standings.len(), standings.is_empty()), (MAX_STANDINGS, false));
        let (first, new) = (Subject::Agent(agent(0)), Subject::Agent(agent(u16::MAX)));
        assert_eq!(standings.set(new, Some(AccessRule::Blocked)), Err(Full));
        assert_eq!(standings.set(first, Some(AccessRule::Blocked)), Ok(true));
        assert_eq!(standings.having(AccessRule::Blocked).collect::<Vec<_>>(), [first]);
        assert_eq!(standings.set(first, None), Ok(true));
        assert_eq!(standings.set(new, Some(AccessRule::Blocked)), Ok(true));
    }
}
