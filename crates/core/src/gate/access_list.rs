//! The access list: agents and nodes that the parent blocked or allowed.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use libp2p_identity::PeerId;

/// Largest number of access rules: our choice. At 100 bytes each they take less than 1 MiB, and a
/// list of some thousand is more than a person maintains.
pub const MAX_ACCESS_RULES: usize = 4096;

/// The subject of an access rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An agent, on any node.
    Agent(Address),
    /// A node, for any agent.
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

/// The rule for a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessRule {
    /// Set by `block`.
    Blocked,
    /// Set by `allow`.
    Allowed,
}

/// Error: the access list is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access list is full ({MAX_ACCESS_RULES} agents and nodes): remove one with `unblock` first")]
pub struct Full;

/// The access rules of all subjects.
#[derive(Debug, Default)]
pub struct AccessList(BTreeMap<Subject, AccessRule>);

impl AccessList {
    /// Restores the rules of an earlier process. Drops rules beyond [`MAX_ACCESS_RULES`].
    pub fn new(persisted: impl IntoIterator<Item = (Subject, AccessRule)>) -> Self {
        AccessList(persisted.into_iter().take(MAX_ACCESS_RULES).collect())
    }

    /// Sets or removes a rule. Returns `true` if that changes the list.
    ///
    /// # Errors
    /// Fails when the list is full.
    pub fn set(&mut self, subject: Subject, rule: Option<AccessRule>) -> Result<bool, Full> {
        let Some(rule) = rule else { return Ok(self.0.remove(&subject).is_some()) };
        if self.0.len() >= MAX_ACCESS_RULES && !self.0.contains_key(&subject) {
            return Err(Full);
        }
        Ok(self.0.insert(subject, rule) != Some(rule))
    }

    /// Returns the rule for an agent on a node. `Blocked` wins, so a block of either one applies.
    pub fn of(&self, agent: &Address, node: &PeerId) -> Option<AccessRule> {
        self.of_peer(Some(agent), node)
    }

    /// Returns the rule for a node and its agent, if the agent is known.
    pub fn of_peer(&self, agent: Option<&Address>, node: &PeerId) -> Option<AccessRule> {
        let of_agent = agent.and_then(|agent| self.0.get(&Subject::Agent(*agent)));
        // `Blocked` is the smaller value.
        [of_agent, self.0.get(&Subject::Node(*node))].into_iter().flatten().min().copied()
    }

    /// Returns all subjects with this rule.
    pub fn with_rule(&self, rule: AccessRule) -> impl Iterator<Item = Subject> {
        self.0.iter().filter(move |(_, one)| **one == rule).map(|(subject, _)| *subject)
    }

    /// Returns the number of rules.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no rules.
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
    fn block_of_agent_or_node_overrides_allow() {
        let (ann, node, other) = (agent(1), PeerId::random(), PeerId::random());
        let mut access_rules = AccessList::default();
        assert_eq!(access_rules.of(&ann, &node), None);
        assert_eq!(access_rules.set(Subject::Agent(ann), Some(AccessRule::Allowed)), Ok(true));
        assert_eq!(
            access_rules.set(Subject::Agent(ann), Some(AccessRule::Allowed)),
            Ok(false),
            "the rule is the same"
        );
        assert_eq!(access_rules.of(&ann, &node), Some(AccessRule::Allowed));
        assert_eq!(access_rules.set(Subject::Node(node), Some(AccessRule::Blocked)), Ok(true));
        assert_eq!(access_rules.of(&ann, &node), Some(AccessRule::Blocked));
        assert_eq!(access_rules.of(&ann, &other), Some(AccessRule::Allowed));
        assert_eq!(access_rules.set(Subject::Agent(ann), None), Ok(true));
        assert_eq!(access_rules.set(Subject::Agent(ann), None), Ok(false));
        assert_eq!(
            (access_rules.of(&ann, &other), access_rules.of(&ann, &node)),
            (None, Some(AccessRule::Blocked))
        );
    }

    #[test]
    fn full_access_list_rejects_new_subjects_and_changes_existing_rules() {
        let all = (0..MAX_ACCESS_RULES as u16 + 1)
            .map(|number| (Subject::Agent(agent(number)), AccessRule::Allowed));
        let mut access_rules = AccessList::new(all);
        assert_eq!((access_rules.len(), access_rules.is_empty()), (MAX_ACCESS_RULES, false));
        let (first, new) = (Subject::Agent(agent(0)), Subject::Agent(agent(u16::MAX)));
        assert_eq!(access_rules.set(new, Some(AccessRule::Blocked)), Err(Full));
        assert_eq!(access_rules.set(first, Some(AccessRule::Blocked)), Ok(true));
        assert_eq!(access_rules.with_rule(AccessRule::Blocked).collect::<Vec<_>>(), [first]);
        assert_eq!(access_rules.set(first, None), Ok(true));
        assert_eq!(access_rules.set(new, Some(AccessRule::Blocked)), Ok(true));
    }
}
