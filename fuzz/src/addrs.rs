//! Addresses from the parent and from records.

use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_core::peers::bootstrap::parse_bootstrap;

const SCOPES: [AddressScope; 3] = [AddressScope::Loopback, AddressScope::Private, AddressScope::Public];

/// Longest error about a bootstrap peer. It quotes the beginning of the text, which may have 1 MiB.
const MAX_MESSAGE_CHARS: usize = 2000;

/// Text of bootstrap peers and binary addresses of records, one per line of the input.
pub fn bootstrap(bytes: &[u8]) {
    for part in bytes.split(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(part);
        match parse_bootstrap(&text) {
            Err(message) => assert!(message.chars().count() <= MAX_MESSAGE_CHARS, "{message}"),
            Ok((peer, addr)) => {
                assert_eq!(addr.iter().last(), Some(Protocol::P2p(peer)));
                assert_eq!(parse_bootstrap(&addr.to_string()), Ok((peer, addr)));
            }
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let parsed: Vec<Multiaddr> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let binary = Multiaddr::try_from(bytes.to_vec()).ok();
    let addrs: Vec<Multiaddr> = parsed.into_iter().chain(binary).collect();
    for addr in &addrs {
        check_scopes(addr);
    }
    for scope in SCOPES {
        let selected = scope.select(addrs.clone());
        assert!(selected.iter().all(|addr| scope.permits(addr) && addrs.contains(addr)));
        assert_eq!(selected.is_empty(), !addrs.iter().any(|addr| scope.permits(addr)));
    }
}

/// Checks the scopes that permit an address.
fn check_scopes(addr: &Multiaddr) {
    let [loopback, private, public] = SCOPES.map(|scope| scope.permits(addr));
    assert!(private || !loopback, "private permits every loopback address");
    let ip: IpAddr = match addr.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return assert!(!loopback, "only an IP address is certainly on this machine"),
    };
    assert!(!(private && public), "no address is private and public");
    let canonical = ip.to_canonical();
    assert_eq!(loopback, canonical.is_loopback());
    if public {
        assert!(!canonical.is_loopback() && !canonical.is_unspecified() && !canonical.is_multicast());
    }
}
