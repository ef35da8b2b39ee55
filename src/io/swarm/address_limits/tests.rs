use p2p_node_core::gate::address_rules::AddressRules;
use p2p_node_core::gate::host::Host;

use super::*;

const PLACES: Places = Places { pending: 64, established: 150, of_address: 3, exempts_loopback: false };

struct Remote {
    limits: AddressLimits,
    last: usize,
}

impl Remote {
    fn new(places: Places) -> Self {
        Self::with_rules(places, AddressRules::default())
    }

    fn with_rules(places: Places, rules: AddressRules) -> Self {
        Remote { limits: AddressLimits::new(places, RefusedHosts::new(rules.into())), last: 0 }
    }

    /// Begins a handshake. Returns `None` if it is refused.
    fn begin(&mut self, remote: &str) -> Option<ConnectionId> {
        self.last += 1;
        let connection = ConnectionId::new_unchecked(self.last);
        let (local, remote) = ("/ip4/10.0.0.1/tcp/1".parse().unwrap(), remote.parse().unwrap());
        let begun = self.limits.handle_pending_inbound_connection(connection, &local, &remote);
        begun.is_ok().then_some(connection)
    }

    /// Connects as often as the limits permit, at most 1,000 times.
    fn connect_all(&mut self, remote: impl Fn(u32) -> String) -> Vec<ConnectionId> {
        let connections = (0..1000).filter_map(|number| {
            let connection = self.begin(&remote(number))?;
            self.limits.on_established(connection);
            Some(connection)
        });
        connections.collect()
    }
}

#[test]
fn silent_host_leaves_places_for_handshakes_of_others() {
    let mut host = Remote::new(PLACES);
    let silent = (0..1000).filter(|_| host.begin("/ip4/192.0.2.1/tcp/5").is_some()).count();
    assert_eq!(silent, 13, "a quarter of the free places");
    assert!(host.begin("/ip4/192.0.2.2/tcp/5").is_some());
    assert!(host.begin("/ip6/2001:db8::1/udp/5/quic-v1").is_some());
    let neighbours = (0..1000)
        .filter(|number| host.begin(&format!("/ip4/192.0.2.{}/tcp/5", 3 + number % 250)).is_some())
        .count();
    assert!(14 + neighbours <= 33, "a prefix takes half: {neighbours}");
    assert!(host.begin("/ip4/198.51.100.1/tcp/5").is_some());
}

#[test]
fn one_address_never_takes_all_connections_and_always_gets_some() {
    let mut host = Remote::new(PLACES);
    let first = host.connect_all(|_| "/ip4/192.0.2.1/tcp/5".to_owned());
    assert_eq!(first.len(), 16, "an eighth of the free places");
    host.connect_all(|number| format!("/ip4/203.0.{}.1/tcp/5", number % 250));
    assert_eq!(host.limits.all.established, 16 + 250 * 3, "three each");
    for connection in first {
        host.limits.on_ended(connection);
    }
    assert_eq!(host.connect_all(|_| "/ip4/192.0.2.1/tcp/5".to_owned()).len(), 3, "as long as it is full");
}

#[test]
fn hosts_of_one_ipv6_network_share_their_limits() {
    let mut host = Remote::new(PLACES);
    let of_host = host.connect_all(|number| format!("/ip6/2001:db8:0:1::{number:x}/tcp/5"));
    assert_eq!(of_host.len(), 16, "a /64 is one host");
    let of_prefix = host.connect_all(|number| format!("/ip6/2001:db8:0:{number:x}::1/tcp/5"));
    assert!(of_host.len() + of_prefix.len() <= 50, "a /48 takes half of the free places");
    assert_eq!(host.connect_all(|_| "/ip6/2001:db9::1/tcp/5".to_owned()).len(), 11);
}

#[test]
fn banned_host_is_refused_until_its_ban_ends() {
    let mut host = Remote::new(PLACES);
    let banned = Host::of_ip([192, 0, 2, 1].into());
    host.limits.refused.ban(banned);
    assert!(host.begin("/ip4/192.0.2.1/tcp/5").is_none());
    assert!(host.limits.check_rules(&"/ip4/192.0.2.1/udp/5/quic-v1".parse().unwrap()).is_err());
    assert!(host.begin("/ip4/192.0.2.2/tcp/5").is_some());
    host.limits.refused.unban(&banned);
    assert!(host.begin("/ip4/192.0.2.1/tcp/5").is_some());
}

fn rules(allowed: &str, blocked: &str) -> AddressRules {
    AddressRules::new(&[allowed.parse().unwrap()], &[blocked.parse().unwrap()])
}

#[test]
fn allowed_address_has_neither_limit_nor_ban_and_costs_its_neighbours_nothing() {
    let mut host = Remote::with_rules(PLACES, rules("192.0.2.1/32", "192.0.2.128/25"));
    host.limits.refused.ban(Host::of_ip([192, 0, 2, 1].into()));
    assert_eq!(host.connect_all(|_| "/ip4/192.0.2.1/tcp/5".to_owned()).len(), 1000);
    assert_eq!(host.limits.all.established, 1000, "they take places");
    assert_eq!(host.connect_all(|_| "/ip4/192.0.2.2/tcp/5".to_owned()).len(), 3, "nothing is free");
}

#[test]
fn blocked_address_is_refused_in_both_directions_also_in_the_loopback_scope() {
    let blocked: AddressRules = rules("192.0.2.1/32", "127.0.0.2/31");
    let mut host = Remote::with_rules(Places { exempts_loopback: true, ..PLACES }, blocked);
    assert!(host.begin("/ip4/127.0.0.2/tcp/5").is_none() && host.begin("/ip4/127.0.0.1/tcp/5").is_some());
    assert!(host.limits.check_rules(&"/ip4/127.0.0.3/tcp/5".parse().unwrap()).is_err());
    assert!(host.limits.connections.is_empty());
}

#[test]
fn counts_end_with_their_connections() {
    let mut host = Remote::new(PLACES);
    let pending = host.begin("/ip4/192.0.2.1/tcp/5").unwrap();
    let all = host.connect_all(|_| "/ip4/192.0.2.1/tcp/5".to_owned());
    for connection in all.into_iter().chain([pending, pending]) {
        host.limits.on_ended(connection);
    }
    assert!(host.limits.blocks.is_empty() && host.limits.connections.is_empty());
    assert_eq!((host.limits.all.pending, host.limits.all.established), (0, 0));
}

#[test]
fn relayed_connections_and_those_of_the_loopback_scope_are_exempt() {
    let mut host = Remote::new(Places { exempts_loopback: true, ..PLACES });
    assert_eq!(host.connect_all(|_| "/ip4/127.0.0.1/tcp/5".to_owned()).len(), 1000);
    let relayed = "/ip4/192.0.2.1/tcp/5/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit";
    assert_eq!(host.connect_all(|_| relayed.to_owned()).len(), 1000);
    assert_eq!(Remote::new(PLACES).connect_all(|_| "/ip4/127.0.0.1/tcp/5".to_owned()).len(), 16);
}
