use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::{Counter, Event, PROTOCOL_VERSION};

use p2p_node_wire::time::Instant;

use super::candidate::Candidate;
use crate::effect::{Effect, NetworkCommand};
use crate::input::Now;
use crate::lifecycle::Phase;
use crate::signal::Signal;
use crate::testing::{START, TestCore as _, core, core_with};
use crate::{Core, MAX_PEER_TOPICS};

fn candidate(peer: PeerId) -> Candidate {
    let addr: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
    Candidate::bootstrap(peer, addr)
}

#[test]
fn bootstrap_candidate_has_one_dial_at_a_time() {
    let mut core = core();
    let Core { peers, directory, cx, .. } = &mut core;
    let peer = PeerId::random();
    peers.add_candidate(candidate(peer), cx);
    peers.dial_bootstrap_peers(cx);
    peers.dial(candidate(peer), cx);
    let dials = |effect: &Effect| matches!(effect, Effect::Network(NetworkCommand::Dial { .. }));
    assert_eq!(cx.effects.iter().filter(|effect| dials(effect)).count(), 1);
    peers.on_dial_failed(peer, "refused", directory, cx);
    assert!(peers.table.next_redial().is_some_and(|next| next > cx.now.mono));
}

/// Returns when a core with this stagger and this seed dials its bootstrap peer, in ms after it is
/// ready.
fn joins_after(stagger_ms: u64, seed: u64) -> u64 {
    let mut core = core_with(|config| {
        config.connections.join_stagger = Duration::from_millis(stagger_ms);
        config.seed = seed;
        config.bootstraps = vec![(PeerId::random(), "/ip4/127.0.0.1/tcp/1".parse().expect("an address"))];
    });
    core.cx.phase = Phase::Ready;
    let dials = |effect: &Effect| matches!(effect, Effect::Network(NetworkCommand::Dial { .. }));
    for ms in 0..=stagger_ms {
        let now = Now { mono: Instant::from_millis(ms), ..START };
        core.handle_timeout(now);
        if core.effects().iter().any(dials) {
            return ms;
        }
        let (due, name) = core.next_timer().expect("a timer");
        assert!(due > now.mono, "the timer {name} would not wait");
    }
    panic!("the node never dials its bootstrap peer");
}

#[test]
fn nodes_dial_their_first_peers_at_different_times_within_the_join_stagger() {
    assert!((1..9).all(|seed| joins_after(0, seed) == 0));
    let waits: BTreeSet<u64> = (1..9).map(|seed| joins_after(1000, seed)).collect();
    assert!(waits.len() > 4 && waits.iter().all(|wait| *wait <= 1000), "{waits:?}");
}

#[test]
fn own_peer_id_is_not_a_candidate() {
    let mut core = core();
    let Core { peers, cx, .. } = &mut core;
    peers.add_candidate(candidate(cx.identity.peer), cx);
    assert!(peers.table.len() == 0);
}

#[test]
fn peer_without_record_emits_connected_and_disconnected_once() {
    let mut core = core();
    let Core { peers, local, directory, cx, .. } = &mut core;
    cx.replies.clients.parent.protocol_v1 = PROTOCOL_VERSION == 1;
    let peer = PeerId::random();
    peers.on_connected(peer, false, local, directory, cx);
    assert!(peers.is_connected(&peer));
    peers.on_disconnected(peer, None, directory, cx);
    assert!(!peers.is_connected(&peer));
    assert!(matches!(core.signals()[..], [Signal::PeerDisconnected { address: None, .. }]));
    let lines = core.lines();
    assert!(matches!(lines[..], [Event::PeerConnected(_), Event::PeerDisconnected(_)]), "{lines:?}");
}

#[test]
fn first_mail_subscription_of_connection_is_signalled_once() {
    let mut core = core();
    let Core { peers, local, directory, cx, .. } = &mut core;
    let peer = PeerId::random();
    peers.on_connected(peer, false, local, directory, cx);
    peers.table.connection_mut(&peer).expect("a connection").agent = Some(Address::ZERO);
    for _ in 0..2 {
        peers.on_subscribed(peer, crate::MESSAGES.to_owned(), local, directory, cx);
        peers.on_unsubscribed(&peer, crate::MESSAGES);
    }
    let firsts = |signal: &Signal| matches!(signal, Signal::Subscribed { first_mail_subscription: true, .. });
    assert_eq!(core.signals().iter().filter(|signal| firsts(signal)).count(), 1);
}

#[test]
fn peer_with_too_many_topics_keeps_node_topics_and_is_reported_once() {
    let mut core = core();
    let Core { peers, local, directory, cx, .. } = &mut core;
    let peer = PeerId::random();
    peers.on_connected(peer, false, local, directory, cx);
    peers.table.connection_mut(&peer).expect("a connection").agent = Some(Address::ZERO);
    for number in 0..MAX_PEER_TOPICS + 2 {
        peers.on_subscribed(peer, format!("{number}"), local, directory, cx);
    }
    peers.on_subscribed(peer, crate::MESSAGES.to_owned(), local, directory, cx);
    peers.on_subscribed(peer, "0".to_owned(), local, directory, cx);
    assert_eq!(peers.subscribers(crate::MESSAGES), 1);
    assert_eq!(peers.subscribers(&format!("{}", MAX_PEER_TOPICS - 1)), 1);
    assert_eq!(peers.subscribers(&format!("{MAX_PEER_TOPICS}")), 0);
    assert_eq!(cx.stats.get(Counter::TopicsOverLimit), 2);
    let warnings = core.lines().iter().filter(|event| matches!(event, Event::Log(_))).count();
    assert_eq!(warnings, 1);
}

#[test]
fn peers_awaiting_subscriptions_are_bounded() {
    let mut core = core();
    let Core { peers, cx, .. } = &mut core;
    for _ in 0..super::dialer::MAX_AWAITING_SUBSCRIPTIONS + 10 {
        peers.await_subscriptions(PeerId::random(), cx);
    }
    let usages = peers.usage();
    let awaited = usages.iter().find(|usage| usage.name == "peers with awaited subscriptions");
    assert!(awaited.is_some_and(|usage| usage.size == usage.limit), "{usages:?}");
}
