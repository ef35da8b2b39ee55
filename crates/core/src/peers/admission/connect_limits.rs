//! How many `Connect` steps the node answers: each answer costs a signature.

use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_wire::time::Instant;

use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::peers::subnet::Origin;
use crate::usage::Usage;

/// `Connect` steps of one peer, also over several connections. Our choice: an honest peer sends one for
/// each connection, and a script may start a process ten times a second.
pub(super) const OF_PEER: Quota = quota(32, Duration::from_millis(100), 4_096);
/// `Connect` steps of all peers of one subnet or behind one relay, because PeerIds are free. Our choice: a
/// tenth of the rate of all and a quarter of its burst, for an office whose nodes start together. Loopback
/// peers have no subnet.
pub(super) const OF_ORIGIN: Quota = quota(256, Duration::from_millis(50), 4_096);
/// `Connect` steps of all peers that the node does not know. Our choice: 1,000 nodes may join a bootstrap node
/// at once, and each step costs one signature and a few hashes.
const OF_ALL: Quota = quota(1_024, Duration::from_millis(5), 1);
/// `Connect` steps of all peers that the node knows, so that strangers do not keep them out. Our choice: the
/// same, because a fleet may have as many nodes.
const OF_KNOWN: Quota = OF_ALL;

const fn quota(burst: u32, interval: Duration, max_keys: usize) -> Quota {
    Quota { burst, interval, max_keys, at_limit: AtLimit::Forget }
}

/// The rates of `Connect` steps.
#[derive(Debug)]
pub(super) struct ConnectLimits {
    peers: RateLimiter<PeerId>,
    origins: RateLimiter<Origin>,
    all: RateLimiter<()>,
    known: RateLimiter<()>,
}

impl Default for ConnectLimits {
    fn default() -> Self {
        ConnectLimits {
            peers: RateLimiter::new(OF_PEER),
            origins: RateLimiter::new(OF_ORIGIN),
            all: RateLimiter::new(OF_ALL),
            known: RateLimiter::new(OF_KNOWN),
        }
    }
}

impl ConnectLimits {
    /// Returns `true` if the node may answer one more `Connect` of a peer, and counts it. What the peer or its
    /// origins have too much of uses up nothing of what others share. The transport proves the PeerId, so the
    /// node knows a peer before the handshake.
    pub(super) fn admit(
        &mut self,
        peer: PeerId,
        is_known: bool,
        origins: impl IntoIterator<Item = Origin>,
        now: Instant,
    ) -> bool {
        if !self.peers.admit(peer, now) {
            return false;
        }
        is_known && self.known.admit((), now)
            || origins.into_iter().all(|origin| self.origins.admit(origin, now)) && self.all.admit((), now)
    }

    /// Returns the size of each collection, with its limit.
    pub(super) fn usage(&self) -> [Usage; 2] {
        [
            Usage { name: "peers with handshakes", size: self.peers.len(), limit: OF_PEER.max_keys },
            Usage { name: "origins of handshakes", size: self.origins.len(), limit: OF_ORIGIN.max_keys },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::subnet::Subnet;

    const NOW: Instant = Instant::from_secs(1);

    fn subnet(third: u32) -> Origin {
        let addr = format!("/ip4/10.{}.{}.1/tcp/1", third / 256, third % 256);
        Origin::Subnet(Subnet::of(&addr.parse().expect("an address")).expect("a subnet"))
    }

    /// Returns how many of the steps of strangers the limits admit.
    fn admitted(limits: &mut ConnectLimits, steps: impl Iterator<Item = (PeerId, Option<Origin>)>) -> u32 {
        steps.map(|(peer, origin)| u32::from(limits.admit(peer, false, origin, NOW))).sum()
    }

    #[test]
    fn peer_and_origin_use_up_their_own_quotas_only() {
        let mut limits = ConnectLimits::default();
        let peer = PeerId::random();
        assert_eq!(admitted(&mut limits, (0..100).map(|_| (peer, None))), OF_PEER.burst);
        for origin in [subnet(1), Origin::Relay(PeerId::random())] {
            let of_one = |_: u32| (PeerId::random(), Some(origin));
            assert_eq!(admitted(&mut limits, (0..2_000).map(of_one)), OF_ORIGIN.burst);
        }
        let newcomers = [subnet(2), Origin::Relay(PeerId::random())];
        assert_eq!(
            admitted(&mut limits, newcomers.into_iter().map(|origin| (PeerId::random(), Some(origin)))),
            2
        );
        assert!(limits.admit(peer, false, None, NOW + OF_PEER.interval));
    }

    #[test]
    fn strangers_share_a_quota_and_keep_no_known_peer_out() {
        let mut limits = ConnectLimits::default();
        assert_eq!(admitted(&mut limits, (0..2_000).map(|_| (PeerId::random(), None))), OF_ALL.burst);
        let known = (0..2_000).map(|_| u32::from(limits.admit(PeerId::random(), true, [subnet(1)], NOW)));
        assert_eq!(known.sum::<u32>(), OF_KNOWN.burst);
    }

    #[test]
    fn known_peers_may_also_use_the_quota_of_all() {
        let mut limits = ConnectLimits::default();
        let known = (0..4_000).map(|_| u32::from(limits.admit(PeerId::random(), true, None, NOW)));
        assert_eq!(known.sum::<u32>(), OF_KNOWN.burst + OF_ALL.burst);
    }

    #[test]
    fn tracked_peers_and_origins_are_bounded() {
        let mut limits = ConnectLimits::default();
        let mut most = [0; 2];
        for number in 0..5_000 {
            limits.admit(PeerId::random(), false, Some(subnet(number)), NOW);
            let sizes = limits.usage().map(|usage| usage.size);
            most = [most[0].max(sizes[0]), most[1].max(sizes[1])];
        }
        assert_eq!(most, limits.usage().map(|usage| usage.limit));
    }
}
