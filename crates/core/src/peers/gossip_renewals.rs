//! Renewal of connections on which libp2p has given up gossip.

use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Level};
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::peers::Peers;

/// Largest number of peers whose renewals the node remembers: our choice. Those of further peers wait.
pub(crate) const MAX_RENEWED: usize = 256;
/// Renewals of one peer: one in ten minutes, our choice. A peer whose gossip stops again at once sends what
/// the node cannot read, and its mail must not suffer from new connections.
const RENEWALS: Quota =
    Quota { burst: 1, interval: Duration::from_secs(600), max_keys: MAX_RENEWED, at_limit: AtLimit::Refuse };

/// The recent renewals of each peer.
#[derive(Debug)]
pub(crate) struct GossipRenewals(RateLimiter<PeerId>);

impl Default for GossipRenewals {
    fn default() -> Self {
        GossipRenewals(RateLimiter::new(RENEWALS))
    }
}

impl GossipRenewals {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn admit(&mut self, peer: PeerId, now: Instant) -> bool {
        self.0.admit(peer, now)
    }
}

impl Peers {
    /// Disconnects a peer with which libp2p has given up gossip: a new connection begins anew.
    pub(crate) fn renew_gossip(&mut self, peer: PeerId, cx: &mut Cx) {
        if !self.is_connected(&peer) || !self.gossip_renewals.admit(peer, cx.now.mono) {
            return;
        }
        cx.stats.count(Counter::GossipRenewed);
        let text = format!("disconnected {peer}: gossip on this connection has stopped; a new one renews it");
        cx.log(Level::Warn, "network", text);
        cx.network(NetworkCommand::Disconnect { peer });
        self.connect_soon(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Core;
    use crate::effect::Effect;
    use crate::peers::links::PeerReport;
    use crate::testing::{TestCore as _, core};

    fn disconnects(core: &mut Core) -> usize {
        let is_disconnect =
            |effect: &&Effect| matches!(effect, Effect::Network(NetworkCommand::Disconnect { .. }));
        core.effects().iter().filter(is_disconnect).count()
    }

    #[test]
    fn connection_without_gossip_is_renewed_and_not_again_for_ten_minutes() {
        let mut core = core();
        let peer = PeerId::random();
        let report = |core: &mut Core, later: Duration| {
            let Core { peers, local, directory, cx, .. } = core;
            cx.now.mono += later;
            peers.on_connected(peer, true, local, directory, cx);
            cx.effects.clear();
            peers.on_peer_report(peer, PeerReport::GossipDisabled, cx);
            disconnects(core)
        };
        let later = [0, 1, 500, 100].map(Duration::from_secs);
        assert_eq!(later.map(|later| report(&mut core, later)), [1, 0, 0, 1]);
        assert_eq!((core.cx.stats.get(Counter::GossipRenewed), core.peers.gossip_renewals.len()), (2, 1));
    }
}
