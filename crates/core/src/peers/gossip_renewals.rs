//! Renewal of connections on which libp2p has given up gossip.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Level};
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::peers::Peers;

/// Largest number of peers whose renewals the node remembers: our choice. Beyond it the node forgets those
/// renewed first, which may then be renewed once more: no number of peers keeps others from a renewal.
pub(crate) const MAX_RENEWED: usize = 256;
/// Renewals of one peer: one in ten minutes, our choice. A peer whose gossip stops again at once sends what
/// the node cannot read, and its mail must not suffer from new connections.
const RENEWALS: Quota =
    Quota { burst: 1, interval: Duration::from_secs(600), max_keys: MAX_RENEWED, at_limit: AtLimit::Forget };

/// The renewals of connections.
#[derive(Debug)]
pub(crate) struct GossipRenewals {
    /// The recent ones of each peer.
    recent: RateLimiter<PeerId>,
    /// When those are due that came too soon after another: libp2p reports a connection once. Only connected
    /// peers.
    waiting: BTreeMap<PeerId, Instant>,
}

impl Default for GossipRenewals {
    fn default() -> Self {
        GossipRenewals { recent: RateLimiter::new(RENEWALS), waiting: BTreeMap::new() }
    }
}

impl GossipRenewals {
    /// Returns the number of peers with recent renewals, and of those that wait for one.
    pub(crate) fn lens(&self) -> (usize, usize) {
        (self.recent.len(), self.waiting.len())
    }

    /// Returns when the next renewal that waits is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().min().copied()
    }

    /// Forgets the renewal of a peer that is no longer connected.
    pub(crate) fn on_disconnected(&mut self, peer: &PeerId) {
        self.waiting.remove(peer);
    }
}

impl Peers {
    /// Disconnects a peer with which libp2p has given up gossip, so that a new connection begins anew: now, or
    /// when the last renewal of this peer is long enough ago.
    pub(crate) fn renew_gossip(&mut self, peer: PeerId, cx: &mut Cx) {
        let now = cx.now.mono;
        if !self.is_connected(&peer) {
            return;
        }
        if !self.gossip_renewals.recent.admit(peer, now) {
            let wait = self.gossip_renewals.recent.wait(&peer, 1, now).unwrap_or_default();
            self.gossip_renewals.waiting.insert(peer, now + wait);
            return;
        }
        self.gossip_renewals.waiting.remove(&peer);
        cx.stats.count(Counter::GossipRenewed);
        let text = format!("disconnected {peer}: gossip on this connection has stopped; a new one renews it");
        cx.log(Level::Warn, "network", text);
        cx.network(NetworkCommand::Disconnect { peer });
        self.connect_soon(cx);
    }

    /// Makes the renewals that waited and are due.
    pub(crate) fn renew_waiting_gossip(&mut self, cx: &mut Cx) {
        let waiting = self.gossip_renewals.waiting.iter();
        let due: Vec<PeerId> = waiting.filter(|(_, at)| **at <= cx.now.mono).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.renew_gossip(peer, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Core;
    use crate::effect::Effect;
    use crate::peers::links::PeerReport;
    use crate::testing::core;

    fn disconnects(core: &Core) -> usize {
        let is_disconnect =
            |effect: &&Effect| matches!(effect, Effect::Network(NetworkCommand::Disconnect { .. }));
        core.cx.effects.iter().filter(is_disconnect).count()
    }

    fn connect(core: &mut Core, peer: PeerId) {
        let Core { peers, local, directory, cx, .. } = core;
        peers.on_connected(peer, true, local, directory, cx);
        cx.effects.clear();
    }

    /// Reports that gossip is disabled on the connection to a peer.
    fn report(core: &mut Core, peer: PeerId) {
        core.peers.on_peer_report(peer, PeerReport::GossipDisabled, &mut core.cx);
    }

    #[test]
    fn connection_without_gossip_is_renewed_and_again_after_ten_minutes() {
        let mut core = core();
        let peer = PeerId::random();
        let renewals = |core: &mut Core| {
            connect(core, peer);
            report(core, peer);
            disconnects(core)
        };
        assert_eq!((renewals(&mut core), renewals(&mut core)), (1, 0));
        // libp2p reports the connection only once.
        let due = core.cx.now.mono + Duration::from_secs(600);
        assert_eq!(core.peers.gossip_renewals.next_deadline(), Some(due));
        for (now, renewed) in [(due.saturating_sub(Duration::from_secs(1)), 0), (due, 1)] {
            core.cx.now.mono = now;
            core.peers.renew_waiting_gossip(&mut core.cx);
            assert_eq!(disconnects(&core), renewed);
        }
        assert_eq!(
            (core.cx.stats.get(Counter::GossipRenewed), core.peers.gossip_renewals.lens()),
            (2, (1, 0))
        );
    }

    #[test]
    fn renewal_that_waits_ends_with_its_connection() {
        let mut core = core();
        let peer = PeerId::random();
        connect(&mut core, peer);
        (0..2).for_each(|_| report(&mut core, peer));
        assert_eq!(core.peers.gossip_renewals.lens(), (1, 1));
        let Core { peers, directory, cx, .. } = &mut core;
        peers.on_disconnected(peer, None, directory, cx);
        assert_eq!((peers.gossip_renewals.lens(), peers.gossip_renewals.next_deadline()), ((1, 0), None));
    }

    #[test]
    fn more_peers_than_the_node_remembers_are_all_renewed() {
        let mut core = core();
        for _ in 0..=MAX_RENEWED {
            let peer = PeerId::random();
            connect(&mut core, peer);
            report(&mut core, peer);
            assert_eq!(disconnects(&core), 1);
            let Core { peers, directory, cx, .. } = &mut core;
            peers.on_disconnected(peer, None, directory, cx);
        }
        assert!(core.peers.gossip_renewals.lens().0 <= MAX_RENEWED);
    }
}
