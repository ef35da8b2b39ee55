//! The size of the network, as far as the node knows.

use std::time::Duration;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::peers::Peers;
use crate::peers::finder::Purpose;
use crate::peers::finder::query::Query;

/// Shortest interval between two questions for the size of the network: our choice. A network that starts
/// grows by some agents in this time.
const SIZE_INTERVAL: Duration = Duration::from_secs(5);

impl Peers {
    /// Returns the number of agents in the network that nobody can invent: those that this node met, and
    /// those that a bootstrap peer said it met.
    pub(crate) fn met_agents(&self, directory: &Directory) -> usize {
        directory.records.met_len().max(self.finder.claimed_by_bootstrap)
    }

    /// Asks a connected bootstrap peer how many agents it met, unless the node asked a short time ago.
    pub(crate) fn ask_network_size(&mut self, cx: &mut Cx) {
        let now = cx.now.mono;
        if now < self.finder.size_due {
            return;
        }
        let mut servers = self.table.connected_servers();
        let Some(peer) = servers.find(|peer| self.table.is_bootstrap(peer)) else { return };
        drop(servers);
        self.finder.size_due = now + SIZE_INTERVAL;
        self.ask(peer, Purpose::Connections, &Query::default(), None, 1, cx);
    }
}
