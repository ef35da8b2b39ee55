//! The size of the network, as far as the node knows.

use crate::directory::Directory;
use crate::peers::Peers;

impl Peers {
    /// Returns the number of agents in the network that nobody can invent: those that this node met, and
    /// those that a bootstrap peer said it met.
    pub(crate) fn met_agents(&self, directory: &Directory) -> usize {
        directory.records.met_len().max(self.finder.claimed_by_bootstrap)
    }

    /// Returns the number of agents in the network, as far as the node knows.
    pub(crate) fn network_size(&self, directory: &Directory) -> usize {
        directory.records.len().max(self.finder.claimed_agents)
    }
}
