//! Lookups of the agents that the node hears from. A node that does not follow the announcements
//! learns by them that an agent has revoked the key of its sender.

use std::time::Duration;

use alloy_primitives::Address;

use crate::cx::Cx;
use crate::directory::Directory;

/// Shortest interval between two lookups of an agent that the node hears from: the interval at which
/// an agent publishes its record.
const INTERVAL: Duration = Duration::from_secs(600);
/// Largest number of agents whose last lookup the node remembers: our choice, as many as lookups may
/// wait.
pub(crate) const MAX_CONFIRMED: usize = 1024;

impl Directory {
    /// Looks up an agent whose mail or broadcast the node accepted, unless the node did so recently or
    /// hears of every agent by announcements.
    pub(crate) fn on_heard(&mut self, agent: Address, cx: &mut Cx) {
        let now = cx.now.mono;
        if !self.is_partial || self.confirmed.get(&agent).is_some_and(|last| now < *last + INTERVAL) {
            return;
        }
        self.confirmed.insert(agent, now);
        self.confirmed.shrink_to(MAX_CONFIRMED);
        self.resolve(agent, cx);
    }
}
