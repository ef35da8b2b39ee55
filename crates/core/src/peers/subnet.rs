//! Subnets: parts of the Internet that one owner can fill with nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use crate::local::addresses::{ip_of, is_relayed, relay_of};

/// A /24 of IPv4 or a /48 of IPv6: the smallest parts that providers route, from py-libp2p's plan for the
/// diversity of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subnet([u8; 7]);

impl Subnet {
    /// Returns the subnet of an address. Loopback addresses have none, because all nodes of a machine
    /// share them. That of a relayed address is the relay's, so it has none either.
    pub(crate) fn of(addr: &Multiaddr) -> Option<Self> {
        let ip = ip_of(addr).filter(|_| !is_relayed(addr))?.to_canonical();
        if ip.is_loopback() {
            return None;
        }
        Some(Subnet(match ip {
            IpAddr::V4(ip) => {
                let [first, second, third, _] = ip.octets();
                [4, first, second, third, 0, 0, 0]
            }
            IpAddr::V6(ip) => {
                let [first, second, third, fourth, fifth, sixth, ..] = ip.octets();
                [6, first, second, third, fourth, fifth, sixth]
            }
        }))
    }

    /// Returns the subnets of addresses.
    pub(crate) fn of_all<'a>(addrs: impl IntoIterator<Item = &'a Multiaddr>) -> BTreeSet<Self> {
        addrs.into_iter().filter_map(Subnet::of).collect()
    }
}

/// Where a link comes from, as far as its owner cannot choose it freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A direct link from this subnet.
    Subnet(Subnet),
    /// A link through this relay.
    Relay(PeerId),
}

impl Origin {
    /// Returns the origin of a link to this address. Direct loopback links have none.
    pub(crate) fn of(addr: &Multiaddr) -> Option<Self> {
        relay_of(addr).map(Origin::Relay).or_else(|| Subnet::of(addr).map(Origin::Subnet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnet_is_24_bits_of_ipv4_and_48_of_ipv6_of_direct_addresses() {
        let subnet = |addr: &str| Subnet::of(&addr.parse().expect("an address"));
        assert_eq!(subnet("/ip4/192.0.2.1/tcp/1"), subnet("/ip4/192.0.2.9/udp/2/quic-v1"));
        assert_ne!(subnet("/ip4/192.0.2.1/tcp/1"), subnet("/ip4/192.0.3.1/tcp/1"));
        assert_eq!(subnet("/ip6/2001:db8:1:2::1/tcp/1"), subnet("/ip6/2001:db8:1:3::1/tcp/1"));
        assert_ne!(subnet("/ip6/2001:db8:1::1/tcp/1"), subnet("/ip6/2001:db8:2::1/tcp/1"));
        assert_eq!(subnet("/ip6/::ffff:192.0.2.1/tcp/1"), subnet("/ip4/192.0.2.7/tcp/1"));
        assert_eq!(subnet(&format!("/ip4/192.0.2.1/tcp/1/p2p/{}/p2p-circuit", PeerId::random())), None);
        assert!(
            ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/dns4/example.org/tcp/1"].map(subnet) == [None; 3]
        );
    }

    #[test]
    fn origin_is_the_subnet_or_the_relay() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let origin = |addr: &str| Origin::of(&addr.parse().expect("an address"));
        let subnet = Subnet::of(&"/ip4/192.0.2.1/tcp/1".parse().expect("an address")).expect("a subnet");
        assert_eq!(origin("/ip4/192.0.2.9/tcp/2"), Some(Origin::Subnet(subnet)));
        for addr in [
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}"),
            format!("/p2p/{relay}/p2p-circuit"),
        ] {
            assert_eq!(origin(&addr), Some(Origin::Relay(relay)));
        }
        assert_eq!(origin("/ip4/127.0.0.1/tcp/1"), None);
    }
}
