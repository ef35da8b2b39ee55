//! The `send` commands of each client in a queue. Each client has the limits of `ready` for itself.

use std::collections::BTreeMap;

use p2p_node_wire::time::Instant;

use crate::budget::{Budget, Limit};
use crate::client_id::ClientId;
use crate::command_limits::{INFLIGHT, MAX_PAUSE};

/// The `send` commands of one client in the queue.
#[derive(Debug, Default)]
struct Load {
    sends: Budget,
    /// The time since which the node does not read the client's commands, because the client has
    /// too many `send` commands.
    over_since: Option<Instant>,
}

/// The `send` commands of each client in the queue.
#[derive(Debug, Default)]
pub(crate) struct ClientLoads(BTreeMap<ClientId, Load>);

impl ClientLoads {
    /// Adds a `send` with this size of `data`.
    pub(crate) fn add(&mut self, client: ClientId, bytes: usize) {
        self.0.entry(client).or_default().sends.add(bytes);
    }

    /// Removes a `send`, which must have been added.
    pub(crate) fn remove(&mut self, client: ClientId, bytes: usize) {
        if let Some(load) = self.0.get_mut(&client) {
            load.sends.remove(bytes);
            if load.sends.is_empty() {
                self.0.remove(&client);
            }
        }
    }

    /// Returns the number and the bytes of the `send` commands of a client.
    pub(crate) fn of(&self, client: ClientId) -> Budget {
        self.0.get(&client).map(|load| load.sends).unwrap_or_default()
    }

    /// Returns `true` if no `send` is in the queue.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns `true` if the client has more `send` commands in the queue than it may have
    /// unanswered.
    pub(crate) fn is_over(&self, client: ClientId) -> bool {
        self.exceeds(client, INFLIGHT)
    }

    /// Returns `true` if the `send` commands of the client exceed `limit`.
    pub(crate) fn exceeds(&self, client: ClientId, limit: Limit) -> bool {
        self.of(client).is_over(limit)
    }

    /// Returns the clients whose commands the node has not read for [`MAX_PAUSE`]. Their next pause
    /// begins now.
    pub(crate) fn end_pauses(&mut self, now: Instant) -> Vec<ClientId> {
        let mut ended = Vec::new();
        for (client, load) in &mut self.0 {
            if !load.sends.is_over(INFLIGHT) {
                load.over_since = None;
            } else if now >= *load.over_since.get_or_insert(now) + MAX_PAUSE {
                load.over_since = None;
                ended.push(*client);
            }
        }
        ended
    }

    /// Returns when the next pause ends.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.0.values().filter_map(|load| load.over_since).map(|since| since + MAX_PAUSE).min()
    }
}
