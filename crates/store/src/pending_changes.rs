//! The changes that wait for the thread of the store. Only the latest change of each key is kept.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use p2p_node_core::gate::access_list::{AccessRule, Subject};
use p2p_node_core::gate::reputation::{Party, PersistedBan};
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::mail::inbound::receive_window::StreamCheckpoint;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_wire::message_id::StreamId;

use super::file::Changes;

/// Changes to write, and the request to exit.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    pub(super) highest_seen: BTreeMap<Address, HighestSeen>,
    /// Changed access rules; `None` deletes a rule.
    pub(super) access_rules: BTreeMap<Subject, Option<AccessRule>>,
    /// Changed bans; `None` deletes a ban.
    pub(super) bans: BTreeMap<Party, Option<PersistedBan>>,
    /// New messages, in the order in which the core accepted them.
    pub(super) messages: Vec<PersistedMessage>,
    pub(super) checkpoints: BTreeMap<(Address, StreamId), Option<StreamCheckpoint>>,
    /// Number of the last message, checkpoint or access rule, and whether the core waits for it.
    pub(super) last_persisted: u64,
    pub(super) is_awaited: bool,
    pub(super) deleted: Vec<(StreamId, u64)>,
    pub(super) closing: bool,
}

impl PendingChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.highest_seen.is_empty()
            && self.access_rules.is_empty()
            && self.bans.is_empty()
            && self.messages.is_empty()
            && self.checkpoints.is_empty()
            && self.deleted.is_empty()
    }

    /// Returns `true` if the core waits for a change to be persisted.
    pub(super) fn is_urgent(&self) -> bool {
        self.closing || self.is_awaited
    }

    pub(super) fn take(&mut self) -> Changes {
        Changes {
            highest_seen: std::mem::take(&mut self.highest_seen).into_values().collect(),
            access_rules: std::mem::take(&mut self.access_rules).into_iter().collect(),
            bans: std::mem::take(&mut self.bans).into_iter().collect(),
            messages: std::mem::take(&mut self.messages),
            checkpoints: std::mem::take(&mut self.checkpoints).into_iter().collect(),
            deleted: std::mem::take(&mut self.deleted),
        }
    }

    /// Requeues changes that were not written, except those replaced since and those whose failure
    /// was reported to the core.
    pub(super) fn requeue(&mut self, changes: Changes) {
        self.deleted.splice(..0, changes.deleted);
        for row in changes.highest_seen {
            self.highest_seen.entry(row.address).or_insert(row);
        }
        for (party, ban) in changes.bans {
            self.bans.entry(party).or_insert(ban);
        }
        for (stream, _) in changes.checkpoints.into_iter().filter(|(_, row)| row.is_none()) {
            self.checkpoints.entry(stream).or_insert(None);
        }
    }
}
