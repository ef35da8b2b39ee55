//! The address rules: IP addresses and networks that the operator blocked or allowed.
//!
//! The node neither dials nor accepts connections of a blocked address. An allowed address has no
//! limits of connections by address, and no ban as a host. Of several networks with an address the
//! smallest decides; a block outweighs an allowance of the same network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use multiaddr::Multiaddr;

use crate::gate::access_list::AccessRule;
use crate::local::addresses::{ip_of, is_relayed};

/// Largest number of networks with a rule of one kind. Our choice: as many as agents and nodes.
pub const MAX_ADDRESS_RULES: usize = 4096;

/// The rules of all networks.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    rules: BTreeMap<IpNet, AccessRule>,
    /// Prefix lengths of the networks, longest first.
    lengths: Vec<u8>,
}

impl AddressRules {
    /// Creates the rules. Of each list, networks beyond [`MAX_ADDRESS_RULES`] have no effect; the
    /// configuration refuses them.
    pub fn new(allowed: &[IpNet], blocked: &[IpNet]) -> Self {
        let mut rules = BTreeMap::new();
        // The blocked networks come last, so they replace the allowed ones.
        for (networks, rule) in [(allowed, AccessRule::Allowed), (blocked, AccessRule::Blocked)] {
            rules.extend(networks.iter().take(MAX_ADDRESS_RULES).map(|network| (network.trunc(), rule)));
        }
        let lengths: BTreeSet<u8> = rules.keys().map(IpNet::prefix_len).collect();
        AddressRules { rules, lengths: lengths.into_iter().rev().collect() }
    }

    /// Returns the rule for an IP address.
    pub fn of_ip(&self, ip: IpAddr) -> Option<AccessRule> {
        let ip = ip.to_canonical();
        // A length above 32 makes no network of an IPv4 address.
        let networks = self.lengths.iter().filter_map(|length| IpNet::new(ip, *length).ok());
        networks.map(|network| network.trunc()).find_map(|network| self.rules.get(&network).copied())
    }

    /// Returns `true` if the node must not connect to an address. A relayed address is that of the
    /// relay. A host name has no rule; the transport checks what it resolves to.
    pub fn blocks(&self, addr: &Multiaddr) -> bool {
        ip_of(addr).is_some_and(|ip| self.of_ip(ip) == Some(AccessRule::Blocked))
    }

    /// Returns `true` if the limits by address do not apply to a connection. The address of a relayed
    /// connection says nothing about the peer.
    pub fn allows(&self, addr: &Multiaddr) -> bool {
        ip_of(addr).is_some_and(|ip| !is_relayed(addr) && self.of_ip(ip) == Some(AccessRule::Allowed))
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a network")).collect()
    }

    fn rule(rules: &AddressRules, ip: &str) -> Option<AccessRule> {
        rules.of_ip(ip.parse().expect("an IP address"))
    }

    #[test]
    fn smallest_network_decides_and_a_block_outweighs_an_allowance_of_the_same() {
        let allowed = networks(&["192.0.2.7/32", "198.51.100.0/24", "2001:db8:1::/48", "203.0.113.0/24"]);
        let blocked = networks(&["192.0.2.0/24", "198.51.0.0/16", "203.0.113.99/24", "2001:db8::/32"]);
        let rules = AddressRules::new(&allowed, &blocked);
        let (allowed, blocked) = (Some(AccessRule::Allowed), Some(AccessRule::Blocked));
        for (ip, expected) in [
            ("192.0.2.7", allowed),
            ("192.0.2.8", blocked),
            ("198.51.100.1", allowed),
            ("198.51.1.1", blocked),
            ("203.0.113.1", blocked),
            ("192.0.3.1", None),
            ("::ffff:192.0.2.8", blocked),
            ("2001:db8:1::5", allowed),
            ("2001:db8:2::5", blocked),
            ("2001:db9::1", None),
        ] {
            assert_eq!(rule(&rules, ip), expected, "{ip}");
        }
    }

    #[test]
    fn all_addresses_but_some_can_be_blocked() {
        let rules = AddressRules::new(&networks(&["10.0.0.0/8"]), &networks(&["0.0.0.0/0", "::/0"]));
        assert_eq!(rule(&rules, "10.1.2.3"), Some(AccessRule::Allowed));
        assert_eq!(rule(&rules, "192.0.2.1"), Some(AccessRule::Blocked));
        assert_eq!(rule(&rules, "2001:db8::1"), Some(AccessRule::Blocked));
    }

    #[test]
    fn relayed_address_is_blocked_with_its_relay_and_never_allowed() {
        let rules = AddressRules::new(&networks(&["198.51.100.0/24"]), &networks(&["192.0.2.0/24"]));
        let addr = |text: &str| text.parse::<Multiaddr>().expect("an address");
        let through = |relay: &str| addr(&format!("/ip4/{relay}/tcp/1/p2p/{}/p2p-circuit", PeerId::random()));
        assert!(rules.blocks(&addr("/ip4/192.0.2.1/udp/1/quic-v1")) && rules.blocks(&through("192.0.2.1")));
        assert!(rules.allows(&addr("/ip4/198.51.100.1/tcp/1")) && !rules.allows(&through("198.51.100.1")));
        assert!(
            !rules.blocks(&addr("/dns4/example.org/tcp/1"))
                && !rules.allows(&addr("/dns4/example.org/tcp/1"))
        );
    }

    #[test]
    fn networks_above_the_limit_have_no_effect() {
        let ip = |number: usize| IpAddr::from((0x0a00_0000 + number as u32).to_be_bytes());
        let all: Vec<IpNet> = (0..=MAX_ADDRESS_RULES).map(|number| ip(number).into()).collect();
        let rules = AddressRules::new(&[], &all);
        assert_eq!(rules.of_ip(ip(MAX_ADDRESS_RULES - 1)), Some(AccessRule::Blocked));
        assert_eq!(rules.of_ip(ip(MAX_ADDRESS_RULES)), None);
    }
}
