//! DNS seeds: names whose TXT records list peers. The node asks for them at its start and while it
//! has few connections.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::peers::Peers;
use crate::peers::candidate::{Candidate, CandidateSource};
use crate::peers::sources::schedule::Schedule;
use crate::source::{Seed, SourceCommand};

/// Largest number of seeds that the node dials at once, from the CHORUS node package (5 dials a
/// second).
const DIALS: usize = 5;
/// Largest number of addresses of seeds whose PeerId the node remembers: our choice, as many as
/// there can be bootstrap peers.
pub(crate) const MAX_SEED_PEERS: usize = 64;

/// The schedule of queries, and the PeerIds behind the addresses of seeds.
#[derive(Debug, Default)]
pub(crate) struct DnsSeeds {
    queries: Schedule,
    /// Set after the first failure, so that the parent gets one warning.
    failed: bool,
    /// The peers behind addresses that a seed named without a PeerId. `None` until a dial succeeds.
    peers: BTreeMap<Multiaddr, Option<PeerId>>,
}

impl DnsSeeds {
    /// Returns the number of remembered addresses.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Asks soon, because a connection ended.
    pub(crate) fn hasten(&mut self) {
        self.queries.hasten();
    }

    /// Records which peer a dialled address has led to.
    pub(crate) fn on_dialled(&mut self, peer: PeerId, addr: &Multiaddr) {
        if let Some(known) = self.peers.get_mut(addr) {
            *known = Some(peer);
        }
    }
}

impl Peers {
    /// Returns the time of the next query.
    pub(crate) fn next_seed_query(&self, cx: &Cx) -> Option<Instant> {
        (cx.identity.dns_seeds && self.has_few()).then(|| self.seeds.queries.next())
    }

    /// Asks for the DNS seeds, if a query is due.
    pub(crate) fn query_seeds(&mut self, cx: &mut Cx) {
        if self.next_seed_query(cx).is_some() && self.seeds.queries.poll(cx.now.mono, &mut cx.jitter) {
            cx.source(SourceCommand::QueryDnsSeeds);
        }
    }

    /// Dials some of the seeds: bootstrap nodes first, and otherwise chosen at random.
    pub(crate) fn on_seeds(&mut self, mut seeds: Vec<Seed>, cx: &mut Cx) {
        if !cx.is_serving() {
            return;
        }
        self.seeds.failed = false;
        // The order of the answers is that of the name server, which may give each node the same.
        for end in (1..seeds.len()).rev() {
            seeds.swap(end, cx.jitter.index(end + 1));
        }
        seeds.sort_by_key(|seed| !seed.is_bootstrap);
        let mut dials = 0;
        for seed in seeds {
            if dials == DIALS {
                return;
            }
            dials += usize::from(self.dial_seed(seed, cx));
        }
    }

    /// Dials a seed, unless the node is connected to it. Returns `true` for a dial.
    fn dial_seed(&mut self, seed: Seed, cx: &mut Cx) -> bool {
        let Seed { peer, addr, .. } = seed;
        let known = peer.or_else(|| self.seeds.peers.get(&addr).copied().flatten());
        let is_wanted = known.is_none_or(|peer| {
            let is_unreachable = self.is_unreachable(&peer, cx.now.mono);
            peer != cx.identity.peer && self.table.is_down(&peer) && !is_unreachable
        });
        if !is_wanted {
            return false;
        }
        if let Some(peer) = peer {
            self.dial(Candidate { peer, addrs: vec![addr], source: CandidateSource::DnsSeed }, cx);
        } else {
            // The address may have another peer by now, so the dial names none.
            if self.seeds.peers.len() >= MAX_SEED_PEERS {
                self.seeds.peers.pop_first();
            }
            self.seeds.peers.insert(addr.clone(), known);
            self.dial_addr(addr, cx);
        }
        true
    }

    /// Tells the parent that no seed can be resolved, once until a query succeeds.
    pub(crate) fn on_seeds_failed(&mut self, reason: String, cx: &mut Cx) {
        if !std::mem::replace(&mut self.seeds.failed, true) {
            cx.log(p2p_node_protocol::Level::Warn, "discovery", reason);
        }
    }
}

#[cfg(test)]
mod tests;
