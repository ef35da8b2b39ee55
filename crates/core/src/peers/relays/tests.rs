use p2p_node_wire::time::Now;

use super::*;
use crate::Core;
use crate::effect::Effect;
use crate::gate::address_scope::AddressScope;
use crate::input::Input;
use crate::local::addresses::{REACHABILITY_WAIT, Reachability};
use crate::testing::{START, core_with};

fn at(after: Duration) -> Now {
    Now { mono: START.mono + after, unix_ms: START.unix_ms + after.as_millis() as u64 }
}

fn address(text: &str) -> Multiaddr {
    text.parse().expect("an address")
}

/// Returns a core that listens behind NAT, with connected peers that offer to relay.
fn unreachable_core(offers: &[PeerId]) -> Core {
    let mut core = core_with(|config| {
        config.scope = AddressScope::Private;
        config.reachability = Reachability::Auto;
    });
    let Core { local, cx, .. } = &mut core;
    local.set_addrs(vec![address("/ip4/192.168.1.2/tcp/1")], cx);
    cx.phase = crate::Phase::Ready;
    for relay in offers {
        core.handle(Input::Connected { peer: *relay, dialer: true }, START);
        let addrs = vec![address("/ip4/10.0.0.1/tcp/1")];
        core.handle(Input::Addresses(AddressEvent::RelayOffered { relay: *relay, addrs }), START);
    }
    core
}

/// Runs the timers and returns the relays that the core asks.
fn asked(core: &mut Core, now: Now) -> Vec<PeerId> {
    core.handle_timeout(now);
    let asked = |effect| match effect {
        Effect::Network(NetworkCommand::ReserveRelay { relay, .. }) => Some(relay),
        _ => None,
    };
    std::iter::from_fn(|| core.poll_effect()).filter_map(asked).collect()
}

fn reserved(core: &mut Core, relay: PeerId, now: Now) {
    let addrs = vec![address(&format!("/ip4/10.0.0.1/tcp/1/p2p/{relay}/p2p-circuit"))];
    core.handle(Input::Addresses(AddressEvent::Reserved { relay, addrs }), now);
}

fn ended(core: &mut Core, relay: PeerId, now: Now) {
    let event = AddressEvent::ReservationEnded { relay, reason: "full".to_owned() };
    core.handle(Input::Addresses(event), now);
}

#[test]
fn unreachable_node_reserves_at_two_relays_after_the_wait() {
    let relays = [PeerId::random(), PeerId::random(), PeerId::random()];
    let mut core = unreachable_core(&relays);
    assert_eq!(asked(&mut core, START), []);
    let asked_relays = asked(&mut core, at(REACHABILITY_WAIT));
    assert_eq!(asked_relays.len(), MAX_RELAYS);
    for relay in &asked_relays {
        reserved(&mut core, *relay, at(REACHABILITY_WAIT));
    }
    let published = core.local.addresses.published(at(REACHABILITY_WAIT).mono);
    assert_eq!(published.iter().filter(|addr| crate::local::addresses::is_relayed(addr)).count(), MAX_RELAYS);
    assert_eq!(asked(&mut core, at(2 * REACHABILITY_WAIT)), []);
}

#[test]
fn ended_reservation_is_replaced_and_its_relay_asked_again_after_a_pause() {
    let relay = PeerId::random();
    let mut core = unreachable_core(&[relay]);
    assert_eq!(asked(&mut core, at(REACHABILITY_WAIT)), [relay]);
    reserved(&mut core, relay, at(REACHABILITY_WAIT));
    ended(&mut core, relay, at(REACHABILITY_WAIT));
    assert!(core.local.addresses.published(at(REACHABILITY_WAIT).mono).len() == 1, "the relay is gone");
    assert_eq!(asked(&mut core, at(REACHABILITY_WAIT)), []);
    let due = core.peers.relays_deadline(&core.local, &core.cx).expect("the end of the pause");
    let after_pause = at(due.saturating_since(START.mono));
    assert_eq!(asked(&mut core, after_pause), [relay]);
    let second = unreachable_core(&[relay]);
    assert!(second.peers.relays_deadline(&second.local, &second.cx).is_some());
}

#[test]
fn pauses_of_a_relay_that_refuses_grow() {
    let relay = PeerId::random();
    let mut core = unreachable_core(&[relay]);
    let mut now = at(REACHABILITY_WAIT);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        assert_eq!(asked(&mut core, now), [relay]);
        ended(&mut core, relay, now);
        let due = core.peers.relays_deadline(&core.local, &core.cx).expect("the end of the pause");
        pauses.push(due.saturating_since(now.mono));
        now = at(due.saturating_since(START.mono));
    }
    assert!(pauses[0] < 2 * PAUSES.start && pauses[9] > PAUSES.cap / 2, "{pauses:?}");
}

#[test]
fn reachable_node_asks_no_relay() {
    let relay = PeerId::random();
    let mut core = unreachable_core(&[relay]);
    let confirmed = AddressEvent::Confirmed(address("/ip4/192.168.1.2/tcp/1"));
    core.handle(Input::Addresses(confirmed), START);
    assert_eq!(asked(&mut core, at(REACHABILITY_WAIT)), []);
}

#[test]
fn relayed_addresses_are_withdrawn_once_the_node_is_reachable() {
    let relay = PeerId::random();
    let mut core = unreachable_core(&[relay]);
    asked(&mut core, at(REACHABILITY_WAIT));
    reserved(&mut core, relay, at(REACHABILITY_WAIT));
    let own = address("/ip4/192.168.1.2/tcp/1");
    core.handle(Input::Addresses(AddressEvent::Confirmed(own.clone())), at(REACHABILITY_WAIT));
    assert_eq!(core.local.addresses.published(at(REACHABILITY_WAIT).mono), [own]);
}

#[test]
fn relay_that_disconnected_is_not_asked() {
    let relay = PeerId::random();
    let mut core = unreachable_core(&[relay]);
    core.handle(Input::Addresses(AddressEvent::RelayWithdrawn { relay }), START);
    assert_eq!(asked(&mut core, at(REACHABILITY_WAIT)), []);
}

#[test]
fn reservation_that_the_node_did_not_request_is_ignored() {
    let relay = PeerId::random();
    let mut core = unreachable_core(&[relay]);
    reserved(&mut core, relay, START);
    assert_eq!(core.peers.relays.lens().1, 0);
    assert_eq!(core.local.addresses.published(START.mono).len(), 1);
}

#[test]
fn number_of_offers_is_bounded() {
    let many: Vec<PeerId> = (0..MAX_OFFERS + 10).map(|_| PeerId::random()).collect();
    let core = unreachable_core(&many);
    assert_eq!(core.peers.relays.lens().0, MAX_OFFERS);
}

#[test]
fn pauses_of_relays_are_bounded_and_those_that_ended_make_room() {
    let mut core = core_with(|_| {});
    for _ in 0..MAX_RELAY_PAUSES + 10 {
        core.peers.relays.pause(PeerId::random(), &mut core.cx);
    }
    assert_eq!(core.peers.relays.lens().2, MAX_RELAY_PAUSES);
    core.cx.now.mono += PAUSES.cap;
    core.peers.relays.pause(PeerId::random(), &mut core.cx);
    assert_eq!(core.peers.relays.lens().2, 1);
}
