use super::*;

const NOW: Instant = Instant::ZERO;

fn addr(text: &str) -> Multiaddr {
    text.parse().expect("an address")
}

/// Returns the addresses of a node on the internet behind NAT.
fn behind_nat(reachability: Reachability) -> Addresses {
    let mut addresses = Addresses::new(AddressScope::Public, reachability, Vec::new());
    addresses.set_listening(vec![addr("/ip4/192.168.1.2/tcp/1"), addr("/ip4/8.8.4.4/tcp/1")], NOW);
    addresses
}

#[test]
fn node_without_confirmed_address_needs_relays_after_the_wait() {
    let addresses = behind_nat(Reachability::Auto);
    assert!(!addresses.needs_relays(NOW) && !addresses.is_reachable());
    assert_eq!(addresses.unreachable_at(), Some(NOW + REACHABILITY_WAIT));
    assert!(addresses.needs_relays(NOW + REACHABILITY_WAIT));
    // Until the node knows better, its record has the addresses of its scope.
    assert_eq!(addresses.published(NOW), [addr("/ip4/8.8.4.4/tcp/1")]);
    assert_eq!(addresses.published(NOW + REACHABILITY_WAIT), []);
}

#[test]
fn confirmed_address_counts_while_an_interface_or_a_peer_has_its_ip() {
    let mut addresses = behind_nat(Reachability::Auto);
    let mapped = addr("/ip4/9.9.9.9/tcp/1");
    addresses.confirm(mapped.clone(), NOW);
    assert!(!addresses.is_reachable(), "no peer sees the node at this address");
    addresses.set_observed(["9.9.9.9".parse().expect("an IP address")].into(), NOW);
    assert!(addresses.is_reachable());
    assert_eq!(addresses.published(NOW).first(), Some(&mapped));
    assert_eq!(addresses.external(false), std::slice::from_ref(&mapped));
    addresses.set_observed(BTreeSet::new(), NOW);
    assert!(!addresses.is_reachable() && !addresses.published(NOW).contains(&mapped));
    assert_eq!(addresses.unreachable_at(), Some(NOW + REACHABILITY_WAIT));
}

#[test]
fn expired_address_is_not_published() {
    let mut addresses = behind_nat(Reachability::Auto);
    let own = addr("/ip4/8.8.4.4/udp/1/quic-v1");
    addresses.confirm(own.clone(), NOW);
    assert!(addresses.published(NOW).contains(&own));
    addresses.expire(&own, NOW);
    assert!(!addresses.published(NOW).contains(&own));
}

#[test]
fn address_outside_the_scope_is_not_confirmed() {
    let mut addresses = behind_nat(Reachability::Auto);
    addresses.confirm(addr("/ip4/192.168.1.2/tcp/1"), NOW);
    assert!(!addresses.is_reachable());
}

#[test]
fn only_addresses_through_the_relay_itself_are_published() {
    let (relay, other, me) = (PeerId::random(), PeerId::random(), PeerId::random());
    let mut addresses = behind_nat(Reachability::Unreachable);
    let through = |ip: &str, relay: &PeerId| addr(&format!("/ip4/{ip}/tcp/1/p2p/{relay}/p2p-circuit"));
    addresses.set_relayed(
        relay,
        vec![
            through("8.8.8.8", &relay).with(Protocol::P2p(me)),
            through("8.8.8.9", &other),
            through("10.0.0.1", &relay),
            addr("/ip4/8.8.8.8/tcp/2"),
        ],
    );
    assert_eq!(addresses.published(NOW), [through("8.8.8.8", &relay)]);
    addresses.remove_relay(&relay);
    assert_eq!(addresses.published(NOW), []);
}

#[test]
fn relayed_addresses_over_tcp_and_quic_are_published() {
    let relay = PeerId::random();
    let mut addresses = behind_nat(Reachability::Unreachable);
    let through = |socket: &str| addr(&format!("/ip4/8.8.8.8/{socket}/p2p/{relay}/p2p-circuit"));
    let all = ["tcp/1", "tcp/2", "udp/1/quic-v1"].map(through);
    addresses.set_relayed(relay, all.to_vec());
    assert_eq!(addresses.published(NOW), [all[0].clone(), all[2].clone()]);
}

#[test]
fn unreachable_node_of_a_private_network_keeps_its_local_addresses() {
    let mut addresses = Addresses::new(AddressScope::Private, Reachability::Auto, Vec::new());
    addresses.set_listening(vec![addr("/ip4/192.168.1.2/tcp/1")], NOW);
    assert_eq!(addresses.published(NOW + REACHABILITY_WAIT), [addr("/ip4/192.168.1.2/tcp/1")]);
}

#[test]
fn configured_address_makes_the_node_reachable() {
    let external = addr("/ip4/8.8.8.8/tcp/1");
    let mut addresses = Addresses::new(AddressScope::Public, Reachability::Auto, vec![external.clone()]);
    addresses.set_listening(vec![addr("/ip4/172.17.0.2/tcp/1")], NOW);
    assert!(addresses.is_reachable() && addresses.unreachable_at().is_none());
    assert_eq!(addresses.published(NOW), [external]);
}

#[test]
fn confirmed_and_observed_addresses_are_bounded_and_the_oldest_confirmed_one_goes_first() {
    let mut addresses = behind_nat(Reachability::Auto);
    let mapped = |port: usize| addr(&format!("/ip4/9.9.9.9/tcp/{}", 1000 + port));
    (0..=MAX_CONFIRMED).for_each(|port| addresses.confirm(mapped(port), NOW));
    let ip = |number: usize| IpAddr::from((0x0909_0909 + number as u32).to_be_bytes());
    addresses.set_observed((0..=MAX_OBSERVED).map(ip).collect(), NOW);
    assert_eq!(addresses.lens(), (MAX_CONFIRMED, MAX_OBSERVED));
    let external = addresses.external(false);
    assert!(!external.contains(&mapped(0)) && external.contains(&mapped(1)), "{external:?}");
}
