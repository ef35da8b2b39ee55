//! The address scope: the addresses that a node may listen on, advertise and dial.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use multiaddr::{Multiaddr, Protocol};

/// The addresses that a node listens on, advertises and dials (`--address-scope`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressScope {
    /// This machine only.
    Loopback,
    /// This machine and networks that are not reachable from the internet: LAN, containers,
    /// overlays.
    #[default]
    Private,
    /// The internet.
    Public,
}

/// Error: the text is not the name of an address scope.
#[derive(Debug, thiserror::Error)]
#[error("the value must be loopback, private or public")]
pub struct UnknownScope;

impl AddressScope {
    /// Returns the default scope of a network: `dev` stays on this machine, `main` is on the
    /// internet, every other network is private.
    pub fn of_network(network: &str) -> Self {
        match network {
            "dev" => Self::Loopback,
            "main" => Self::Public,
            _ => Self::Private,
        }
    }

    /// Returns `true` if an address lies within the scope. The dialler checks a DNS name again
    /// after resolving it. The loopback scope permits no DNS names, because nothing is resolved
    /// there.
    pub fn permits(self, addr: &Multiaddr) -> bool {
        match addr.iter().next() {
            Some(Protocol::Ip4(ip)) => self.permits_ip(ip.into()),
            Some(Protocol::Ip6(ip)) => self.permits_ip(ip.into()),
            Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => {
                self != Self::Loopback
            }
            _ => false,
        }
    }

    fn permits_ip(self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match self {
            Self::Loopback => ip.is_loopback(),
            Self::Private => ip.is_loopback() || is_private(ip),
            Self::Public => is_global(ip),
        }
    }

    /// Returns the addresses of a peer that may be dialled. The loopback scope returns QUIC
    /// addresses only if there are no TCP addresses, because QUIC costs more and has no advantage
    /// there.
    pub fn select(self, addrs: impl IntoIterator<Item = Multiaddr>) -> Vec<Multiaddr> {
        let mut permitted: Vec<_> = addrs.into_iter().filter(|addr| self.permits(addr)).collect();
        if self == Self::Loopback && permitted.iter().any(is_tcp) {
            permitted.retain(is_tcp);
        }
        permitted
    }

    /// Returns those of a node's addresses that other nodes on its machine dial: the addresses of
    /// the loopback interface, or all within the scope if there are none.
    pub fn local(self, addrs: &[Multiaddr]) -> Vec<Multiaddr> {
        let permitted: Vec<_> = addrs.iter().filter(|addr| self.permits(addr)).cloned().collect();
        let is_loopback = |addr: &&Multiaddr| Self::Loopback.permits(addr);
        let loopback: Vec<_> = permitted.iter().filter(is_loopback).cloned().collect();
        if loopback.is_empty() { permitted } else { loopback }
    }

    /// Returns the interfaces to listen on. The first must exist; the others are optional.
    pub fn listen_ips(self) -> &'static [IpAddr] {
        match self {
            Self::Loopback => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
            Self::Private | Self::Public => {
                &[IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
            }
        }
    }

    /// Returns a warning for people if no other machine can reach a node that listens on these
    /// addresses, unless the scope is loopback.
    pub fn unreachability_warning(self, listening: &[Multiaddr]) -> Option<String> {
        let is_loopback = |addr: &Multiaddr| Self::Loopback.permits(addr);
        if self == Self::Loopback && !listening.is_empty() || !listening.iter().all(is_loopback) {
            return None;
        }
        let what =
            if listening.is_empty() { "no address yet" } else { "only addresses of this machine itself" };
        Some(format!(
            "the node listens on {what}: no other machine can reach it, though it can reach others; \
             is a network interface up? (address scope {self})"
        ))
    }
}

impl FromStr for AddressScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        match text {
            "loopback" => Ok(Self::Loopback),
            "private" => Ok(Self::Private),
            "public" => Ok(Self::Public),
            _ => Err(UnknownScope),
        }
    }
}

impl fmt::Display for AddressScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Public => "public",
        })
    }
}

fn is_tcp(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| matches!(part, Protocol::Tcp(_)))
}

/// Checks for RFC 1918, 3927 and 6598 addresses in IPv4, and RFC 4193 and 4291 link-local addresses
/// in IPv6.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || is_shared(ip),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Checks that the address is neither private nor reserved in the IANA special-purpose registries.
fn is_global(ip: IpAddr) -> bool {
    if is_private(ip) || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, third, _] = ip.octets();
            let protocol_assignment = [first, second, third] == [192, 0, 0];
            let benchmarking = first == 198 && (second & 0xfe) == 18;
            !(ip.is_documentation() || first == 0 || first >= 240 || protocol_assignment || benchmarking)
        }
        IpAddr::V6(ip) => is_global_unicast(ip) && ip.segments()[..2] != [0x2001, 0x0db8],
    }
}

/// Checks for 100.64.0.0/10, which carriers use between NAT and customer (RFC 6598). Overlay
/// networks use it too.
fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && (second & 0xc0) == 64
}

/// Checks for 2000::/3, the only range of global unicast addresses that IANA has allocated.
fn is_global_unicast(ip: Ipv6Addr) -> bool {
    (ip.segments()[0] & 0xe000) == 0x2000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_network_has_private_scope() {
        assert_eq!(AddressScope::of_network("dev"), AddressScope::Loopback);
        assert_eq!(AddressScope::of_network("main"), AddressScope::Public);
        assert_eq!(AddressScope::of_network("mainly"), AddressScope::Private);
    }

    const ADDRS: [(&str, [bool; 3]); 22] = [
        // Columns: address, permitted in loopback, private, public.
        ("/ip4/127.0.0.1/tcp/1", [true, true, false]),
        ("/ip4/127.8.9.1/udp/1/quic-v1", [true, true, false]),
        ("/ip6/::1/tcp/1", [true, true, false]),
        ("/ip6/::ffff:127.0.0.1/tcp/1", [true, true, false]),
        ("/ip4/10.1.2.3/tcp/1", [false, true, false]),
        ("/ip4/172.31.0.1/tcp/1", [false, true, false]),
        ("/ip4/192.168.0.1/tcp/1", [false, true, false]),
        ("/ip6/::ffff:192.168.0.1/tcp/1", [false, true, false]),
        ("/ip4/169.254.0.1/tcp/1", [false, true, false]),
        ("/ip4/100.64.0.1/tcp/1", [false, true, false]),
        ("/ip6/fd00::1/tcp/1", [false, true, false]),
        ("/ip6/fe80::1/tcp/1", [false, true, false]),
        ("/dns4/node.example/tcp/1", [false, true, true]),
        ("/ip4/8.8.8.8/tcp/1", [false, false, true]),
        ("/ip6/2a00::1/tcp/1", [false, false, true]),
        ("/ip4/0.0.0.0/tcp/1", [false, false, false]),
        ("/ip4/224.0.0.1/tcp/1", [false, false, false]),
        ("/ip4/203.0.113.1/tcp/1", [false, false, false]),
        ("/ip4/255.255.255.255/tcp/1", [false, false, false]),
        ("/ip6/2001:db8::1/tcp/1", [false, false, false]),
        ("/memory/1", [false, false, false]),
        ("/unix/socket", [false, false, false]),
    ];

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn address_scope_permits_only_its_addresses() {
        for (text, permitted) in ADDRS {
            let scopes = [AddressScope::Loopback, AddressScope::Private, AddressScope::Public];
            assert_eq!(scopes.map(|scope| scope.permits(&addr(text))), permitted, "{text}");
        }
    }

    #[test]
    fn empty_multiaddr_is_not_permitted() {
        assert!(!AddressScope::Public.permits(&Multiaddr::empty()));
    }

    #[test]
    fn loopback_scope_selects_quic_only_without_tcp() {
        let tcp = addr("/ip4/127.0.0.1/tcp/1");
        let quic = addr("/ip4/127.0.0.1/udp/1/quic-v1");
        let both = [quic.clone(), tcp.clone()];
        assert_eq!(AddressScope::Private.select(both.clone()), both);
        assert_eq!(AddressScope::Loopback.select(both), [tcp]);
        assert_eq!(AddressScope::Loopback.select([quic.clone()]), [quic]);
    }

    #[test]
    fn address_scope_display_parses_to_same_scope() {
        for scope in [AddressScope::Loopback, AddressScope::Private, AddressScope::Public] {
            assert_eq!(scope.to_string().parse::<AddressScope>().unwrap(), scope);
        }
        assert!("lan".parse::<AddressScope>().is_err());
    }
}
