//! Local rendezvous: nodes of one user on one machine find each other through a directory. Each
//! node publishes itself there. A new node dials some of the others, and a lookup also asks the
//! directory, so that mail between any two of them needs no bootstrap node.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::Counter;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::peers::Peers;
use crate::peers::candidate::{Candidate, CandidateSource};
use crate::signal::Signal;
use crate::source::{LocalNode, SourceCommand};

/// Time for which a node takes no sample while it dials a bootstrap peer or is connected to one, because it
/// gets the connections that it seeks through the bootstrap peer. Our choice: 300 nodes that start at once on
/// 2 cores are all ready in this time. Lookups ask the directory at once.
const HEAD_START: Duration = Duration::from_secs(5);

impl Peers {
    /// Returns the time of the next sample.
    pub(crate) fn next_sample(&self, cx: &Cx) -> Option<Instant> {
        let head_start = if self.table.has_bootstrap_in_touch() { HEAD_START } else { Duration::ZERO };
        let first = self.join_at.map_or(Instant::ZERO, |join_at| join_at + head_start);
        (cx.identity.rendezvous && self.has_few()).then(|| self.samples.next().max(first))
    }

    /// Takes a sample of the rendezvous directory, if one is due: half of the connections that the node
    /// lacks. The other local nodes take samples as well, so each dial gives two nodes a connection, and
    /// a network that starts at once sets up half as many connections.
    pub(crate) fn sample_local_nodes(&mut self, cx: &mut Cx) {
        let is_due = self.next_sample(cx).is_some_and(|due| due <= cx.now.mono);
        if is_due && self.samples.poll(cx.now.mono, &mut cx.jitter) {
            let seed = cx.jitter.seed();
            let connections = self.table.connections_len() + self.table.pending_dials_len();
            let max = self.limits.min.saturating_sub(connections).div_ceil(2).max(1);
            cx.source(SourceCommand::SampleLocalNodes { seed, max });
        }
    }

    /// Dials local nodes, even those to which a dial failed: their addresses may be new.
    pub(crate) fn on_local_nodes(&mut self, nodes: Vec<LocalNode>, cx: &mut Cx) {
        if !cx.is_serving() {
            return;
        }
        for LocalNode { peer, addrs, .. } in nodes {
            if peer != cx.identity.peer && self.table.is_down(&peer) {
                cx.stats.count(Counter::LocalNodesDialled);
                self.dial(Candidate { peer, addrs, source: CandidateSource::Rendezvous }, cx);
            }
        }
    }
}

/// Reports agents whose nodes appeared, for messages that wait for them.
pub(crate) fn on_agents_added(agents: Vec<Address>, cx: &mut Cx) {
    for agent in agents {
        cx.signal(Signal::AgentSighted(agent));
    }
}

#[cfg(test)]
mod tests;
