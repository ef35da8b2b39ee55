//! How many `Connect` steps the node answers: each answer costs a signature.

use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_wire::time::Instant;

use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::peers::subnet::Subnet;
use crate::usage::Usage;

/// `Connect` steps of one peer, also over several connections. Our choice: an honest peer sends one for
/// each connection, and a script may start a process ten times a second.
pub(super) const OF_PEER: Quota = quota(32, Duration::from_millis(100), 4_096);
/// `Connect` steps of all peers of one subnet, because PeerIds are free. Our choice: a tenth of what the node
/// answers to all, and the burst of an office whose nodes start together. Loopback peers have no subnet.
pub(super) const OF_SUBNET: Quota = quota(256, Duration::from_millis(50), 4_096);
/// `Connect` steps of all peers. Our choice: 200 a second cost a tenth of a processor, and 1,000 nodes may
/// join a bootstrap node at once.
const OF_ALL: Quota = quota(1_024, Duration::from_millis(5), 1);

const fn quota(burst: u32, interval: Duration, max_keys: usize) -> Quota {
    Quota { burst, interval, max_keys, at_limit: AtLimit::Forget }
}

/// The rates of `Connect` steps.
#[derive(Debug)]
pub(super) struct ConnectLimits {
    peers: RateLimiter<PeerId>,
    subnets: RateLimiter<Subnet>,
    all: RateLimiter<()>,
}

impl Default for ConnectLimits {
    fn default() -> Self {
        ConnectLimits {
            peers: RateLimiter::new(OF_PEER),
            subnets: RateLimiter::new(OF_SUBNET),
            all: RateLimiter::new(OF_ALL),
        }
    }
}

impl ConnectLimits {
    /// Returns `true` if the node may answer one more `Connect` of a peer, and counts it. What the peer or its
    /// subnets have too much of uses up nothing of what others share.
    pub(super) fn admit(
        &mut self,
        peer: PeerId,
        subnets: impl IntoIterator<Item = Subnet>,
        now: Instant,
    ) -> bool {
        self.peers.admit(peer, now)
            && subnets.into_iter().all(|subnet| self.subnets.admit(subnet, now))
            && self.all.admit((), now)
    }

    /// Returns the size of each collection, with its limit.
    pub(super) fn usage(&self) -> [Usage; 2] {
        [
            Usage { name: "peers with handshakes", size: self.peers.len(), limit: OF_PEER.max_keys },
            Usage { name: "subnets with handshakes", size: self.subnets.len(), limit: OF_SUBNET.max_keys },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_secs(1);

    fn subnet(third: u32) -> Subnet {
        let addr = format!("/ip4/10.{}.{}.1/tcp/1", third / 256, third % 256);
        Subnet::of(&addr.parse().expect("an address")).expect("a subnet")
    }

    /// Returns how many of these steps the limits admit.
    fn admitted(limits: &mut ConnectLimits, steps: impl Iterator<Item = (PeerId, Option<Subnet>)>) -> u32 {
        steps.map(|(peer, subnet)| u32::from(limits.admit(peer, subnet, NOW))).sum()
    }

    #[test]
    fn peer_and_subnet_use_up_their_own_quotas_only() {
        let mut limits = ConnectLimits::default();
        let peer = PeerId::random();
        assert_eq!(admitted(&mut limits, (0..100).map(|_| (peer, None))), OF_PEER.burst);
        let of_one = |_: u32| (PeerId::random(), Some(subnet(1)));
        assert_eq!(admitted(&mut limits, (0..2_000).map(of_one)), OF_SUBNET.burst);
        let newcomer = (PeerId::random(), Some(subnet(2)));
        assert_eq!(admitted(&mut limits, std::iter::once(newcomer)), 1);
        assert!(limits.admit(peer, None, NOW + OF_PEER.interval));
    }

    #[test]
    fn all_peers_share_a_quota() {
        let mut limits = ConnectLimits::default();
        assert_eq!(admitted(&mut limits, (0..2_000).map(|_| (PeerId::random(), None))), OF_ALL.burst);
    }

    #[test]
    fn tracked_peers_and_subnets_are_bounded() {
        let mut limits = ConnectLimits::default();
        for number in 0..5_000 {
            limits.admit(PeerId::random(), Some(subnet(number)), NOW);
        }
        for usage in limits.usage() {
            assert!(usage.size <= usage.limit && usage.size > 0, "{usage:?}");
        }
    }
}
