//! The region file: bootstrap peers of a network by region. The node joins through its preferred
//! regions. If none of their peers can be reached, the node also dials those of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Level;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::peers::Peers;
use crate::peers::candidate::Candidate;
use crate::source::Regions;

/// Time without a connection to a preferred region after which the node dials the peers of the
/// others: our choice, several dials and much less than a person waits.
const FALLBACK_AFTER: Duration = Duration::from_secs(5);

/// The regions of the network, and the peers that the node dials for them.
#[derive(Debug, Default)]
pub(crate) struct RegionPeers {
    regions: Regions,
    /// Names of the preferred regions. Without any, all regions count.
    preferred: Vec<String>,
    /// Since when no peer of a preferred region is connected.
    alone_since: Option<Instant>,
    /// `true` while the node also dials the peers of other regions.
    uses_all: bool,
    /// The peers in the table because of the file, each with its addresses.
    dialled: BTreeMap<PeerId, Vec<Multiaddr>>,
}

impl RegionPeers {
    /// Returns the number of peers of all regions.
    pub(crate) fn len(&self) -> usize {
        self.regions.values().map(Vec::len).sum()
    }

    /// Returns the peers of the preferred regions, or of all of them.
    fn peers(&self, all: bool) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        let knows_preferred = self.preferred.iter().any(|name| self.regions.contains_key(name));
        let counts = |name: &String| all || !knows_preferred || self.preferred.contains(name);
        let mut peers: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
        for (_, entries) in self.regions.iter().filter(|(name, _)| counts(name)) {
            for (peer, addr) in entries {
                peers.entry(*peer).or_default().push(addr.clone());
            }
        }
        peers
    }

    /// Returns the region of each peer of the file.
    pub(crate) fn by_peer(&self) -> BTreeMap<PeerId, &str> {
        let entries =
            self.regions.iter().flat_map(|(name, peers)| peers.iter().map(move |entry| (name, entry)));
        entries.map(|(name, (peer, _))| (*peer, name.as_str())).collect()
    }

    /// Returns `true` if the file names this peer.
    pub(crate) fn names(&self, peer: &PeerId) -> bool {
        self.regions.values().flatten().any(|(named, _)| named == peer)
    }

    /// Returns the preferred regions that the file does not have.
    fn unknown(&self) -> Vec<&str> {
        let unknown = |name: &&String| !self.regions.contains_key(*name);
        self.preferred.iter().filter(unknown).map(String::as_str).collect()
    }
}

impl Peers {
    /// Sets the preferred regions.
    pub(crate) fn prefer_regions(&mut self, preferred: Vec<String>) {
        self.regions.preferred = preferred;
    }

    /// Takes over the content of the region file.
    pub(crate) fn on_regions(&mut self, regions: Regions, cx: &mut Cx) {
        self.regions.regions = regions;
        self.regions.alone_since = None;
        self.regions.uses_all = false;
        for name in self.regions.unknown() {
            let message = format!("the region file has no region `{name}`, which this node prefers");
            cx.log(Level::Warn, "discovery", message);
        }
        self.dial_regions(cx);
    }

    /// Returns the time at which the node dials the peers of other regions.
    pub(crate) fn region_deadline(&self) -> Option<Instant> {
        let waits = !self.regions.uses_all && self.regions.len() > 0;
        self.regions.alone_since.filter(|_| waits).map(|since| since + FALLBACK_AFTER)
    }

    /// Chooses between the preferred regions and all of them.
    pub(crate) fn poll_regions(&mut self, cx: &mut Cx) {
        if self.regions.len() == 0 {
            return;
        }
        let now = cx.now.mono;
        let is_near = self.regions.peers(false).keys().any(|peer| self.is_connected(peer));
        self.regions.alone_since = if is_near { None } else { self.regions.alone_since.or(Some(now)) };
        let alone = self.regions.alone_since.is_some_and(|since| since + FALLBACK_AFTER <= now);
        if alone != self.regions.uses_all {
            self.regions.uses_all = alone;
            self.dial_regions(cx);
        }
    }

    /// Makes the wanted peers bootstrap peers, and the others not. Bootstrap peers of the
    /// configuration stay. Connections stay open.
    fn dial_regions(&mut self, cx: &mut Cx) {
        let wanted = self.regions.peers(self.regions.uses_all);
        let dialled = std::mem::take(&mut self.regions.dialled);
        let gone = dialled.iter().filter(|(peer, addrs)| wanted.get(peer) != Some(addrs));
        let gone: BTreeSet<PeerId> = gone.map(|(peer, _)| *peer).collect();
        for peer in &gone {
            self.table.remove_bootstrap(*peer);
            self.forget_queued_dial(peer);
        }
        for (peer, addrs) in wanted {
            let is_new = !dialled.contains_key(&peer) || gone.contains(&peer);
            if is_new && self.table.is_bootstrap(&peer) {
                continue;
            }
            if is_new {
                for addr in addrs.clone() {
                    self.add_candidate(Candidate::bootstrap(peer, addr), cx);
                }
            }
            self.regions.dialled.insert(peer, addrs);
        }
    }
}

#[cfg(test)]
mod tests;
