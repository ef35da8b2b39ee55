//! Hosts: what one owner of an IP address surely has as a whole.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use multiaddr::Multiaddr;

use crate::local::addresses::{ip_of, is_relayed};

/// An IPv4 address, or the /64 of an IPv6 address, which one host has as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(IpAddr);

impl Host {
    /// Returns the host of an IP address.
    pub fn of_ip(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Host(ip.into()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Host(Ipv6Addr::from([a, b, c, d, 0, 0, 0, 0]).into())
            }
        }
    }

    /// Returns the host at a direct address. A relayed address names the relay. All nodes of a machine
    /// share its loopback addresses, so they name nobody.
    pub fn of(addr: &Multiaddr) -> Option<Self> {
        let ip = ip_of(addr).filter(|ip| !ip.to_canonical().is_loopback() && !is_relayed(addr))?;
        Some(Self::of_ip(ip))
    }

    /// Returns the first IP address of the host.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "{ip}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;

    #[test]
    fn host_is_an_ipv4_address_or_the_64_bits_of_an_ipv6_address() {
        let host = |addr: &str| Host::of(&addr.parse().expect("an address"));
        assert_eq!(host("/ip4/192.0.2.1/tcp/1"), host("/ip4/192.0.2.1/udp/2/quic-v1"));
        assert_eq!(host("/ip4/192.0.2.1/tcp/1"), host("/ip6/::ffff:192.0.2.1/tcp/1"));
        assert_ne!(host("/ip4/192.0.2.1/tcp/1"), host("/ip4/192.0.2.2/tcp/1"));
        assert_eq!(host("/ip6/2001:db8:0:1::1/tcp/1"), host("/ip6/2001:db8:0:1:9::/tcp/1"));
        assert_ne!(host("/ip6/2001:db8:0:1::1/tcp/1"), host("/ip6/2001:db8:0:2::1/tcp/1"));
        let shown = |addr| host(addr).map(|host| host.to_string());
        assert_eq!(shown("/ip4/192.0.2.1/tcp/1").as_deref(), Some("192.0.2.1"));
        assert_eq!(shown("/ip6/2001:db8:0:1::1/tcp/1").as_deref(), Some("2001:db8:0:1::/64"));
    }

    #[test]
    fn relayed_loopback_and_named_addresses_name_no_host() {
        let relayed = format!("/ip4/192.0.2.1/tcp/1/p2p/{}/p2p-circuit", PeerId::random());
        for addr in [&relayed, "/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/dns4/example.org/tcp/1"] {
            assert_eq!(Host::of(&addr.parse().expect("an address")), None, "{addr}");
        }
    }
}
