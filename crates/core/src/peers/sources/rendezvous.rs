//! Local rendezvous: nodes of one user on one machine find each other through a directory. Each
//! node publishes itself there. A new node dials some of the others, and a lookup also asks the
//! directory, so that mail between any two of them needs no bootstrap node.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::Counter;
use p2p_node_wire::time::Instant;

use crate::backoff::Jitter;
use crate::cx::Cx;
use crate::peers::Peers;
use crate::peers::candidate::{Candidate, CandidateSource};
use crate::peers::dialer::MIN_PEERS;
use crate::signal::Signal;
use crate::source::{LocalNode, SourceCommand};

/// Shortest interval between two samples: our choice. A node that lost its peers finds others
/// within seconds.
const MIN_INTERVAL: Duration = Duration::from_secs(2);
/// Longest interval between two samples: our choice, as long as that of Kademlia's walks.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// The schedule of samples of the rendezvous directory. The node takes a sample at its start, and
/// further ones while it has few connections.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    next: Instant,
    last: Option<Instant>,
    interval: Duration,
}

impl Default for Rendezvous {
    fn default() -> Self {
        Rendezvous { next: Instant::ZERO, last: None, interval: MIN_INTERVAL }
    }
}

impl Rendezvous {
    /// Schedules a sample soon, because a connection ended.
    pub(crate) fn on_disconnected(&mut self) {
        self.interval = MIN_INTERVAL;
        self.next = self.next.min(self.last.map_or(Instant::ZERO, |last| last + MIN_INTERVAL));
    }

    /// Records a sample. The intervals grow, because a machine with few nodes stays so.
    fn sampled(&mut self, now: Instant, jitter: &mut Jitter) {
        self.last = Some(now);
        self.next = now + jitter.spread(self.interval);
        self.interval = (self.interval * 2).min(MAX_INTERVAL);
    }
}

impl Peers {
    /// Returns the time of the next sample.
    pub(crate) fn next_sample(&self, cx: &Cx) -> Option<Instant> {
        let wants_peers = cx.identity.rendezvous && self.table.connections_len() < MIN_PEERS;
        wants_peers.then_some(self.rendezvous.next)
    }

    /// Takes a sample of the rendezvous directory, if one is due.
    pub(crate) fn sample_local_nodes(&mut self, cx: &mut Cx) {
        let now = cx.now.mono;
        if self.next_sample(cx).is_some_and(|at| at <= now) {
            self.rendezvous.sampled(now, &mut cx.jitter);
            let seed = cx.jitter.seed();
            cx.source(SourceCommand::SampleLocalNodes { seed, max: MIN_PEERS });
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
