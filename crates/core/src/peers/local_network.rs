//! Candidates that mDNS finds in the local network.

use std::collections::VecDeque;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::peers::Peers;
use crate::peers::candidate::{Candidate, CandidateSource};

/// Largest number of candidates of the local network, as many as bootstrap peers. The oldest goes first.
pub(crate) const MAX_LOCAL_CANDIDATES: usize = 64;
/// Largest number of addresses of each candidate: our choice, as many as a record has.
const MAX_ADDRS: usize = 8;

/// Candidates of the local network, oldest first.
#[derive(Debug, Default)]
pub(crate) struct LocalNetwork {
    candidates: VecDeque<LocalCandidate>,
}

#[derive(Debug)]
struct LocalCandidate {
    peer: PeerId,
    addrs: Vec<Multiaddr>,
    /// `true` if the peer belongs to another network. All nodes of libp2p share one name in mDNS.
    is_foreign: bool,
}

impl LocalNetwork {
    /// Returns the number of candidates.
    pub(crate) fn len(&self) -> usize {
        self.candidates.len()
    }

    fn add(&mut self, peer: PeerId, mut addrs: Vec<Multiaddr>) {
        addrs.truncate(MAX_ADDRS);
        if let Some(known) = self.candidates.iter_mut().find(|known| known.peer == peer) {
            known.addrs = addrs;
            return;
        }
        if self.candidates.len() >= MAX_LOCAL_CANDIDATES {
            self.candidates.pop_front();
        }
        self.candidates.push_back(LocalCandidate { peer, addrs, is_foreign: false });
    }

    /// Records that a peer belongs to another network. Returns `false` for other peers than candidates.
    pub(crate) fn reject(&mut self, peer: &PeerId) -> bool {
        let known = self.candidates.iter_mut().find(|known| known.peer == *peer);
        known.map(|known| known.is_foreign = true).is_some()
    }
}

impl Peers {
    /// Handles a peer that mDNS found.
    pub(crate) fn on_peer_found(&mut self, peer: PeerId, addrs: Vec<Multiaddr>, cx: &Cx) {
        let addrs: Vec<Multiaddr> = addrs.into_iter().filter(|addr| cx.identity.may_dial(addr)).collect();
        if peer != cx.identity.peer && !addrs.is_empty() {
            self.local_network.add(peer, addrs);
        }
    }

    /// Dials candidates of the local network while the node has too few peers.
    pub(crate) fn dial_local_network(&mut self, cx: &mut Cx) {
        let now = cx.now.mono;
        let connections = self.table.connections_len() + self.table.pending_dials_len();
        let wanted = self.limits.min.saturating_sub(connections);
        let may_be_dialled = |known: &&LocalCandidate| {
            !known.is_foreign && self.table.is_down(&known.peer) && !self.is_unreachable(&known.peer, now)
        };
        let chosen: Vec<Candidate> = self
            .local_network
            .candidates
            .iter()
            .filter(may_be_dialled)
            .take(wanted)
            .map(|known| Candidate {
                peer: known.peer,
                addrs: known.addrs.clone(),
                source: CandidateSource::Mdns,
            })
            .collect();
        chosen.into_iter().for_each(|candidate| self.dial(candidate, cx));
    }

    /// Returns the time at which the pause of a candidate of the local network ends.
    pub(crate) fn local_network_deadline(&self) -> Option<Instant> {
        if self.table.connections_len() + self.table.pending_dials_len() >= self.limits.min {
            return None;
        }
        let down = self
            .local_network
            .candidates
            .iter()
            .filter(|known| !known.is_foreign && self.table.is_down(&known.peer));
        down.filter_map(|known| Some(self.table.pause(&known.peer)?.ends_at())).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use p2p_node_wire::time::Now;

    use super::*;
    use crate::Core;
    use crate::effect::{Effect, NetworkCommand};
    use crate::input::{AddressEvent, Input};
    use crate::lifecycle::Phase;
    use crate::peers::limits::MIN_PEERS;
    use crate::testing::{START, core};

    /// Reports a peer of the local network to a core that listens.
    fn found(core: &mut Core, peer: PeerId) {
        core.cx.phase = Phase::Ready;
        let addrs = ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"];
        let addrs = addrs.map(|addr| addr.parse().expect("an address")).to_vec();
        core.handle(Input::Addresses(AddressEvent::PeerFound { peer, addrs }), START);
    }

    /// Runs the timers and returns the dialled peers with the numbers of their addresses.
    fn dialled(core: &mut Core, now: Now) -> Vec<(PeerId, usize)> {
        core.handle_timeout(now);
        let dial = |effect| match effect {
            Effect::Network(NetworkCommand::Dial { peer, addrs }) => Some((peer, addrs.len())),
            _ => None,
        };
        std::iter::from_fn(|| core.poll_effect()).filter_map(dial).collect()
    }

    #[test]
    fn found_peer_is_dialled_at_addresses_of_the_scope_and_again_after_a_pause() {
        let (mut core, peer) = (core(), PeerId::random());
        found(&mut core, peer);
        assert_eq!(dialled(&mut core, START), [(peer, 1)]);
        core.handle(Input::DialFailed { peer, reason: "refused".to_owned() }, START);
        assert_eq!(dialled(&mut core, START), []);
        let due = core.peers.local_network_deadline().expect("the end of the pause");
        let after = due.saturating_since(START.mono);
        let now = Now { mono: due, unix_ms: START.unix_ms + after.as_millis() as u64 };
        assert_eq!(dialled(&mut core, now), [(peer, 1)]);
    }

    #[test]
    fn found_peer_of_another_network_is_disconnected_and_not_dialled_again() {
        let (mut core, peer) = (core(), PeerId::random());
        found(&mut core, peer);
        assert_eq!(dialled(&mut core, START).len(), 1);
        core.handle(Input::Connected { peer, dialer: true }, START);
        core.handle(Input::NetworkMismatch { peer, network: "other".to_owned() }, START);
        let closes = |effect| matches!(effect, Effect::Network(NetworkCommand::Disconnect { .. }));
        assert!(std::iter::from_fn(|| core.poll_effect()).any(closes));
        core.handle(Input::Disconnected { peer, reason: None }, START);
        let later = START.mono + Duration::from_secs(3600);
        assert_eq!(dialled(&mut core, Now { mono: later, unix_ms: START.unix_ms + 3_600_000 }), []);
    }

    #[test]
    fn candidates_of_the_local_network_and_dials_to_them_are_bounded() {
        let mut core = core();
        (0..2 * MAX_LOCAL_CANDIDATES).for_each(|_| found(&mut core, PeerId::random()));
        assert_eq!(core.peers.local_network.len(), MAX_LOCAL_CANDIDATES);
        assert_eq!(dialled(&mut core, START).len(), MIN_PEERS);
    }
}
