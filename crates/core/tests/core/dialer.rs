//! Dials: the rate to a peer that accepts connections and closes them at once, and the addresses that records
//! name.

use std::time::Duration;

use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::record::{Record, SignedRecord};

use crate::forged::record;
use crate::mesh::{CONNECT, Mesh, node_key};

/// The node that hears of invented agents.
const NODE: usize = 1;
/// How long a peer ends every connection at once.
const TIME: Duration = Duration::from_secs(11);
/// Most dials in that time: the backoff doubles from half a second on.
const MAX_DIALS: u64 = 7;

/// Ends every connection between the two nodes at once, and returns how often the first node
/// dials.
fn count_dials(mesh: &mut Mesh) -> u64 {
    let until = mesh.now + TIME;
    let before = mesh.nodes[0].core.stats().get(Counter::Dials);
    while mesh.now < until {
        mesh.disconnect(0, 1);
        mesh.advance(Duration::from_millis(1));
    }
    mesh.nodes[0].core.stats().get(Counter::Dials) - before
}

/// Two agents that know each other.
fn pair() -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add(2, Role::Full);
    mesh.add(3, Role::Full);
    mesh.connect(0, 1);
    mesh.advance(Duration::from_secs(20));
    mesh
}

#[test]
fn message_to_peer_that_disconnects_dials_with_backoff() {
    for more in ["", r#","route":"direct""#, r#","route":"gossip""#] {
        let mut mesh = pair();
        for data in 0..3 {
            mesh.send(0, 1, data, &format!(r#"{more},"ttlMs":600000"#));
        }
        mesh.disconnect(0, 1);
        let dials = count_dials(&mut mesh);
        assert!((1..=MAX_DIALS).contains(&dials), "{dials} dials with {more}");
        mesh.advance(Duration::from_secs(120));
        assert!(mesh.received(1).len() >= 3, "the messages arrive when the connection lasts");
    }
}

#[test]
fn new_message_to_peer_that_disconnects_keeps_the_backoff() {
    let mut mesh = pair();
    let until = mesh.now + TIME;
    let before = mesh.nodes[0].core.stats().get(Counter::Dials);
    while mesh.now < until {
        mesh.disconnect(0, 1);
        mesh.send(0, 1, 1, r#","route":"direct","ttlMs":300"#);
        mesh.advance(Duration::from_millis(10));
    }
    let dials = mesh.nodes[0].core.stats().get(Counter::Dials) - before;
    assert!((1..=MAX_DIALS).contains(&dials), "{dials} dials");
}

#[test]
fn message_that_may_go_directly_is_dialled_for_beside_one_that_waits_for_an_ack_by_gossip() {
    let mut mesh = Mesh::new(0);
    for number in [2, 3] {
        mesh.add_with(number, Role::Full, CONNECT, |config| config.connections.min = 0);
    }
    mesh.connect(0, 1);
    mesh.advance(Duration::from_secs(20));
    mesh.disconnect(0, 1);
    // Nobody takes gossip, so this message stays.
    mesh.send(0, 1, 1, r#","route":"gossip","ttlMs":600000"#);
    mesh.advance(Duration::from_secs(120));
    assert_eq!(mesh.received(1), [0_u64; 0]);
    let before = mesh.nodes[0].core.stats().get(Counter::Dials);
    mesh.send(0, 1, 2, r#","priority":"high","ttlMs":600000"#);
    mesh.advance(Duration::from_secs(120));
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::Dials), before + 1);
    assert!(mesh.received(1).contains(&2), "{:?}", mesh.received(1));
}

#[test]
fn bootstrap_peer_that_disconnects_is_dialled_with_backoff() {
    let mut mesh = Mesh::new(0);
    let addr = "/ip4/127.0.0.1/tcp/1001".parse().unwrap();
    mesh.add_with(2, Role::Full, CONNECT, |config| config.bootstraps = vec![(node_key(3).peer_id(), addr)]);
    mesh.add(3, Role::Full);
    mesh.send(0, 1, 1, r#","ttlMs":600000"#);
    let dials = count_dials(&mut mesh);
    assert!((1..=MAX_DIALS).contains(&dials), "{dials} dials");
}

/// Largest number of addresses in a record.
const ADDRS: usize = 8;

/// Announces a record of an invented agent that names some of these addresses.
fn announce(mesh: &mut Mesh, number: u8, addrs: &[&str]) {
    let node = node_key(number);
    let some = addrs.iter().cycle().skip(usize::from(number)).take(ADDRS.min(addrs.len()));
    let addrs = some.map(|addr| addr.parse().expect("an address")).collect();
    let record =
        Record { addrs, ..SignedRecord::decode(record(number, 0, 1, &node)).expect("a record").record };
    let data = record.sign(&node).expect("a signature");
    let (token, from) = ((1 << 40) + u64::from(number), node_key(3).peer_id());
    mesh.input(NODE, Input::Gossip { token, from, topic: "agent-announcements".to_owned(), data });
}

#[test]
fn records_that_name_private_link_local_and_foreign_addresses_cause_no_dial() {
    const AGENTS: u8 = 100;
    let loopback = ["/ip4/127.0.0.1/tcp/22", "/ip6/::1/udp/22/quic-v1"];
    let private = ["/ip4/10.0.0.1/tcp/22", "/ip4/192.168.0.1/tcp/80", "/ip6/fd00::1/tcp/80"];
    let link_local = ["/ip4/169.254.169.254/tcp/80", "/ip6/fe80::1/tcp/80", "/ip6/::ffff:169.254.1.1/tcp/80"];
    let foreign = ["/ip4/8.8.8.8/tcp/53", "/ip6/2606:4700::1111/udp/53/quic-v1"];
    let nobody = ["/ip4/224.0.0.1/tcp/80", "/ip4/0.0.0.0/tcp/80", "/ip4/255.255.255.255/udp/9/quic-v1"];
    for (scope, outside, inside) in [
        (AddressScope::Loopback, [&private[..], &link_local, &foreign, &nobody].concat(), loopback[0]),
        (AddressScope::Private, [&foreign[..], &nobody].concat(), private[0]),
        (AddressScope::Public, [&loopback[..], &private, &link_local, &nobody].concat(), foreign[0]),
    ] {
        let mut mesh = Mesh::new(1);
        mesh.add_with(2, Role::Full, CONNECT, |config| config.scope = scope);
        for number in 0..AGENTS {
            announce(&mut mesh, 100 + number, &outside);
        }
        mesh.advance(Duration::from_secs(600));
        let stats = mesh.nodes[NODE].core.stats();
        assert_eq!(stats.get(Counter::RecordsAccepted), u64::from(AGENTS), "{scope}: the records are valid");
        assert_eq!(stats.get(Counter::Dials), 0, "{scope}");
        announce(&mut mesh, 99, &[&outside[..ADDRS.min(outside.len()) - 1], &[inside]].concat());
        mesh.advance(Duration::from_secs(60));
        assert!(mesh.nodes[NODE].core.stats().get(Counter::Dials) > 0, "{scope}: {inside} is dialled");
    }
}
