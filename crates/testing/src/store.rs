//! The stores of nodes, and the part of them that survives a crash.

use std::collections::{BTreeMap, VecDeque};

use alloy_primitives::Address;
use p2p_node_core::gate::access_list::{AccessRule, Subject};
use p2p_node_core::gate::reputation::{Party, PersistedBan};
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::mail::inbound::receive_window::StreamCheckpoint;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_wire::message_id::StreamId;

/// A change that a core requests.
#[derive(Clone, Debug)]
pub enum Change {
    /// Persists a highest (generation, seq).
    HighestSeen(HighestSeen),
    /// Persists or deletes an access rule, under the number of the write.
    AccessRule(u64, Subject, Option<AccessRule>),
    /// Persists or deletes a ban.
    Ban(Party, Option<PersistedBan>),
    /// Persists a message, under the number of the write.
    Message(u64, Box<PersistedMessage>),
    /// Persists a checkpoint, under the number of the write.
    Checkpoint(u64, Box<StreamCheckpoint>),
    /// Deletes a checkpoint.
    DeleteCheckpoint(Address, StreamId),
    /// Deletes a message.
    DeleteMessage(StreamId, u64),
}

impl Change {
    /// Returns the number under which the core expects an answer.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        match self {
            Change::Message(number, _) | Change::Checkpoint(number, _) | Change::AccessRule(number, ..) => {
                Some(*number)
            }
            _ => None,
        }
    }
}

/// A store: the persisted rows, and the pending changes. The core does not wait for highest pairs
/// and bans, so the store persists them at once.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// Messages.
    pub messages: BTreeMap<(StreamId, u64), PersistedMessage>,
    /// Checkpoints of inbound streams.
    pub checkpoints: BTreeMap<(Address, StreamId), StreamCheckpoint>,
    /// Highest (generation, seq) of each agent.
    pub highest_seen: BTreeMap<Address, HighestSeen>,
    /// Access rules, in the order in which they were set.
    pub access_rules: Vec<(Subject, AccessRule)>,
    /// Bans.
    pub bans: BTreeMap<Party, PersistedBan>,
    pending: VecDeque<Change>,
}

impl Store {
    /// Requests a change.
    pub fn request(&mut self, change: Change) {
        match change {
            Change::HighestSeen(_) | Change::Ban(..) => self.apply(change),
            _ => self.pending.push_back(change),
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::HighestSeen(row) => {
                // A highest pair never decreases.
                let known = self.highest_seen.get(&row.address).map(HighestSeen::order);
                if known.is_none_or(|known| known < row.order()) {
                    self.highest_seen.insert(row.address, row);
                }
            }
            Change::AccessRule(_, subject, rule) => {
                self.access_rules.retain(|(other, _)| *other != subject);
                self.access_rules.extend(rule.map(|rule| (subject, rule)));
            }
            Change::Ban(party, None) => drop(self.bans.remove(&party)),
            Change::Ban(party, Some(ban)) => drop(self.bans.insert(party, ban)),
            Change::Message(_, mail) => drop(self.messages.insert((mail.stream, mail.seq), *mail)),
            Change::Checkpoint(_, row) => drop(self.checkpoints.insert((row.sender, row.stream), *row)),
            Change::DeleteCheckpoint(sender, stream) => drop(self.checkpoints.remove(&(sender, stream))),
            Change::DeleteMessage(stream, seq) => drop(self.messages.remove(&(stream, seq))),
        }
    }

    /// Persists every change up to a number.
    pub fn commit(&mut self, through: u64) {
        let is_due = |change: &Change| change.number().is_some_and(|number| number <= through);
        while self.pending.iter().any(is_due) {
            let Some(change) = self.pending.pop_front() else { return };
            self.apply(change);
        }
    }

    /// Drops every write up to a number.
    pub fn refuse(&mut self, through: u64) {
        self.pending.retain(|change| change.number().is_none_or(|number| number > through));
    }

    /// Persists the deletions that precede all pending writes.
    pub fn commit_deletions(&mut self) {
        while let Some(change) = self.pending.pop_front_if(|change| change.number().is_none()) {
            self.apply(change);
        }
    }

    /// Ends the process after this many of the pending changes were persisted.
    pub fn end(&mut self, arrived: usize) {
        for change in std::mem::take(&mut self.pending).into_iter().take(arrived) {
            self.apply(change);
        }
    }

    /// Returns the pending changes, in order.
    #[must_use]
    pub fn pending(&self) -> &VecDeque<Change> {
        &self.pending
    }

    /// Deletes everything and returns the number of deleted messages.
    pub fn clear(&mut self) -> usize {
        std::mem::take(self).messages.len()
    }

    /// Copies the persisted rows.
    #[must_use]
    pub fn copy(&self) -> Store {
        Store { pending: VecDeque::new(), ..self.clone() }
    }

    /// Returns the number of messages that another store lacks.
    #[must_use]
    pub fn missing_in(&self, other: &Store) -> usize {
        self.messages.keys().filter(|name| !other.messages.contains_key(name)).count()
    }
}
