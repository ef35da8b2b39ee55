use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::time::Instant;

use super::*;
use crate::Core;
use crate::effect::Effect;
use crate::gate::address_rules::AddressRules;
use crate::gate::address_scope::AddressScope;
use crate::testing::{core, core_with};

const LIMITS: (usize, u64) = (10, 5);

fn candidate(source: CandidateSource) -> Candidate {
    Candidate {
        peer: PeerId::random(),
        addrs: vec!["/ip4/127.0.0.1/tcp/1".parse().expect("an address")],
        source,
    }
}

/// Requests dials of one source and returns the peers.
fn dial(core: &mut Core, number: usize) -> Vec<PeerId> {
    let candidates: Vec<Candidate> = (0..number).map(|_| candidate(CandidateSource::PeerBook)).collect();
    let peers = candidates.iter().map(|candidate| candidate.peer).collect();
    candidates.into_iter().for_each(|candidate| core.peers.dial(candidate, &mut core.cx));
    peers
}

fn dial_for_mail(core: &mut Core, candidate: Candidate) -> PeerId {
    let peer = candidate.peer;
    core.peers.dial_for_mail(candidate, &mut core.cx);
    peer
}

/// Returns the peers whose dials began since the last call.
fn begun(core: &mut Core) -> Vec<PeerId> {
    core.peers.start_queued_dials(&mut core.cx);
    let dial = |effect| match effect {
        Effect::Network(NetworkCommand::Dial { peer, .. }) => Some(peer),
        _ => None,
    };
    std::iter::from_fn(|| core.poll_effect()).filter_map(dial).collect()
}

/// Ends dials with a failure.
fn fail(core: &mut Core, peers: &[PeerId]) {
    for peer in peers {
        core.peers.on_dial_failed(*peer, "refused", &core.directory, &mut core.cx);
    }
}

fn advance(core: &mut Core, time: Duration) {
    core.cx.now.mono += time;
}

#[test]
fn dials_begin_at_once_up_to_the_limit_and_the_others_follow_when_these_end() {
    let mut core = core();
    let peers = dial(&mut core, 25);
    let first = begun(&mut core);
    assert_eq!(first, peers[..LIMITS.0], "the first dials never wait");
    assert_eq!(core.peers.dial_queue.len(), 15);
    assert_eq!(core.peers.dial_queue_deadline(), None, "the end of a dial makes room");
    advance(&mut core, Duration::from_secs(60));
    assert_eq!(begun(&mut core), []);
    fail(&mut core, &first);
    assert_eq!(begun(&mut core), peers[10..20]);
    assert_eq!(core.cx.stats.get(Counter::DialsQueued), 15);
}

#[test]
fn dials_of_a_long_time_keep_the_rate() {
    let mut core = core();
    let (mut waiting, start) = (dial(&mut core, 200).len(), core.cx.now.mono);
    while waiting > 0 {
        let peers = begun(&mut core);
        waiting -= peers.len();
        fail(&mut core, &peers);
        if let Some(at) = core.peers.dial_queue_deadline() {
            assert!(at > core.cx.now.mono, "a queue that may not move now");
            core.cx.now.mono = at;
        }
    }
    let taken = core.cx.now.mono - start;
    assert_eq!(taken, Duration::from_secs((200 - LIMITS.0 as u64) / LIMITS.1));
}

#[test]
fn dials_for_mail_come_first_and_keep_no_rate() {
    let mut core = core();
    let others = dial(&mut core, 20);
    assert_eq!(begun(&mut core).len(), LIMITS.0);
    let mail: Vec<PeerId> =
        (0..300).map(|_| dial_for_mail(&mut core, candidate(CandidateSource::Record))).collect();
    let first = begun(&mut core);
    assert_eq!(first, mail[..LIMITS.0], "mail may use as many dials again");
    fail(&mut core, &others[..LIMITS.0]);
    fail(&mut core, &first);
    let mut begun_mail = first.len();
    while begun_mail < mail.len() {
        let peers = begun(&mut core);
        assert_eq!(peers, mail[begun_mail..begun_mail + peers.len()], "no other dial comes before");
        assert!((1..=2 * LIMITS.0).contains(&peers.len()));
        begun_mail += peers.len();
        fail(&mut core, &peers);
    }
    advance(&mut core, Duration::from_secs(1));
    assert_eq!(begun(&mut core).first(), others.get(LIMITS.0), "then the others continue");
}

#[test]
fn dial_that_waits_becomes_urgent_when_mail_needs_it() {
    let mut core = core();
    dial(&mut core, 40);
    begun(&mut core);
    let wanted = candidate(CandidateSource::PeerBook);
    core.peers.dial(wanted.clone(), &mut core.cx);
    assert_eq!(begun(&mut core), []);
    dial_for_mail(&mut core, wanted.clone());
    assert_eq!(begun(&mut core), [wanted.peer]);
    assert_eq!(core.peers.dial_queue.len(), 30, "the peer waits no more");
}

#[test]
fn peer_that_connects_meanwhile_is_not_dialled() {
    let mut core = core();
    let peers = dial(&mut core, 11);
    let first = begun(&mut core);
    let Core { peers: component, local, directory, cx, .. } = &mut core;
    component.on_connected(peers[10], false, local, directory, cx);
    assert_eq!(component.dial_queue.len(), 0);
    fail(&mut core, &first);
    advance(&mut core, Duration::from_secs(10));
    assert_eq!(begun(&mut core), []);
}

#[test]
fn queue_is_bounded_and_a_bootstrap_peer_always_finds_room() {
    let mut core = core();
    dial(&mut core, 1000);
    assert_eq!(core.peers.dial_queue.len(), MAX_WAITING[2]);
    assert_eq!(core.cx.stats.get(Counter::DialsDropped), 1000 - 10 - MAX_WAITING[2] as u64);
    for _ in 0..2000 {
        dial_for_mail(&mut core, candidate(CandidateSource::Record));
    }
    for _ in 0..MAX_BOOTSTRAPS {
        let candidate = candidate(CandidateSource::Bootstrap);
        core.peers.add_candidate(candidate, &mut core.cx);
    }
    core.peers.dial_bootstrap_peers(&mut core.cx);
    assert_eq!(core.peers.table.next_redial(), None, "every bootstrap peer waits");
    assert_eq!(core.peers.dial_queue.len(), MAX_QUEUED);
}

#[test]
fn address_of_a_seed_waits_as_other_dials_do() {
    let mut core = core();
    dial(&mut core, 10);
    let addr: Multiaddr = "/ip4/127.0.0.1/tcp/7".parse().expect("an address");
    core.peers.dial_addr(addr.clone(), &mut core.cx);
    let first = begun(&mut core);
    assert_eq!(core.peers.dial_queue.len(), 1);
    fail(&mut core, &first);
    core.cx.now.mono = Instant::from_secs(1);
    core.peers.start_queued_dials(&mut core.cx);
    let dials = |effect| matches!(effect, Effect::Network(NetworkCommand::DialAddr { addr: dialled }) if dialled == addr);
    assert!(std::iter::from_fn(|| core.poll_effect()).any(dials));
}

/// Addresses that anybody can write into a record: of this machine, of private networks, of links, of
/// carriers, of nobody, and of hosts that never heard of us.
const NAMED: [&str; 18] = [
    "/ip4/127.0.0.1/tcp/22",
    "/ip6/::1/tcp/22",
    "/ip4/10.0.0.1/tcp/5432",
    "/ip4/172.16.0.1/tcp/80",
    "/ip4/192.168.0.1/udp/53/quic-v1",
    "/ip4/169.254.169.254/tcp/80",
    "/ip4/100.64.0.1/tcp/80",
    "/ip6/fd00::1/tcp/80",
    "/ip6/fe80::1/tcp/80",
    "/ip6/::ffff:10.0.0.1/tcp/80",
    "/ip6/::ffff:8.8.8.8/tcp/80",
    "/ip4/0.0.0.0/tcp/80",
    "/ip4/224.0.0.1/tcp/80",
    "/ip4/192.0.2.1/tcp/80",
    "/ip4/8.8.8.8/tcp/53",
    "/ip4/1.1.1.1/tcp/53",
    "/ip6/2606:4700::1111/tcp/53",
    "/dns4/example.org/tcp/80",
];

/// Returns the addresses of all dials since the last call.
fn dialled(core: &mut Core) -> Vec<String> {
    core.peers.start_queued_dials(&mut core.cx);
    let addrs = |effect| match effect {
        Effect::Network(NetworkCommand::Dial { addrs, .. }) => addrs,
        Effect::Network(NetworkCommand::DialAddr { addr }) => vec![addr],
        _ => Vec::new(),
    };
    std::iter::from_fn(|| core.poll_effect()).flat_map(addrs).map(|addr| addr.to_string()).collect()
}

#[test]
fn no_address_that_is_outside_of_the_scope_or_blocked_leaves_the_core_whoever_named_it() {
    let networks = ["8.8.8.0/24", "10.0.0.0/8"].map(|network| network.parse().expect("a network"));
    let rules = AddressRules::new(&[], &networks);
    for (scope, expected) in [
        (AddressScope::Loopback, &NAMED[..2]),
        (AddressScope::Private, &[&NAMED[..2], &NAMED[3..9], &NAMED[17..]].concat()),
        (AddressScope::Public, &NAMED[15..]),
    ] {
        let addrs: Vec<Multiaddr> = NAMED.iter().map(|addr| addr.parse().expect("an address")).collect();
        let mut core = core_with(|config| {
            config.scope = scope;
            config.address_rules = rules.clone().into();
            config.connections.concurrent_dials = 16;
            config.connections.dials_per_second = 1000;
        });
        let sources = [
            CandidateSource::Bootstrap,
            CandidateSource::Record,
            CandidateSource::Rendezvous,
            CandidateSource::PeerBook,
            CandidateSource::DnsSeed,
            CandidateSource::Mdns,
        ];
        for source in sources {
            let named = Candidate { addrs: addrs.clone(), ..candidate(source) };
            core.peers.dial(named.clone(), &mut core.cx);
            assert_eq!(dialled(&mut core), expected, "{scope}: {source:?}");
            core.peers.dial_for_mail(Candidate { peer: PeerId::random(), ..named }, &mut core.cx);
            assert_eq!(dialled(&mut core), expected, "{scope}: mail");
        }
        addrs.into_iter().for_each(|addr| core.peers.dial_addr(addr, &mut core.cx));
        assert_eq!(dialled(&mut core), expected, "{scope}: an address without a node");
    }
}
