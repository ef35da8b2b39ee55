use p2p_node_protocol::Role;
use p2p_node_wire::identity::testing::{agent, binding};
use p2p_node_wire::identity::{Binding, NodeKey};
use p2p_node_wire::record::Record;

use super::*;
use crate::Core;
use crate::effect::Effect;
use crate::gate::address_scope::AddressScope;
use crate::input::Now;
use crate::peers::links::PeerReport;
use crate::testing::{START, TestCore as _, core_with};

fn node_key(number: usize) -> NodeKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    NodeKey::from_seed(seed)
}

/// Returns the record of another agent. The table does not verify signatures, so one key signs all.
fn record(number: usize, addrs: Vec<Multiaddr>) -> SignedRecord {
    let (node, account) = (node_key(number), agent());
    let binding =
        Binding { account: account.address(), peer_id: node.peer_id(), node_key: node.public(), ..binding() };
    let record = Record {
        network: "dev".to_owned(),
        binding: account.bind(binding).expect("a binding"),
        seq: 1,
        issued_at_ms: START.unix_ms,
        expires_at_ms: START.unix_ms + 24 * 3_600_000,
        addrs,
        kem: None,
        role: Role::Full,
        name: String::new(),
        capabilities: Vec::new(),
        topics: Vec::new(),
        topic_hashes: Vec::new(),
        claim: None,
    };
    let signed = SignedRecord::decode(record.sign(&node).expect("a signature")).expect("a record");
    let mut account = [0xAB; 20];
    account[..8].copy_from_slice(&number.to_le_bytes());
    let mut signed = signed;
    signed.record.binding.binding.account = account.into();
    signed
}

fn addr(text: &str) -> Multiaddr {
    text.parse().expect("an address")
}

/// A core in this scope that knows these records by hearsay.
fn knowing(scope: AddressScope, records: Vec<SignedRecord>) -> Core {
    let mut core = core_with(|config| config.scope = scope);
    for record in records {
        core.directory.records.insert(record, true, |_| false, START);
    }
    core
}

/// Returns `true` if a node that learns this many records, and met nobody, goes on to follow the
/// announcements.
fn follows(records: usize, limits_apply: bool) -> bool {
    let records = (0..records).map(|number| record(number, vec![addr("/ip4/10.0.0.1/tcp/1")]));
    let mut core = core_with(|config| config.limits_apply = limits_apply);
    for record in records {
        core.directory.records.insert(record, true, |_| false, START);
    }
    let Core { gossip, directory, peers, cx, .. } = &mut core;
    gossip.follows_announcements = true;
    gossip.follow_announcements(directory, peers, cx);
    gossip.follows_announcements
}

#[test]
fn node_follows_the_announcements_of_a_small_network_and_invented_agents_count_less() {
    let (follows_all, follows_some) = (|records| follows(records, false), |records| follows(records, true));
    assert_eq!((follows_all(32), follows_all(33)), (true, false));
    assert_eq!((follows_some(8 * 33 - 1), follows_some(8 * 33)), (true, false));
}

/// Selects peers at this time, lets each dial fail, and returns the addresses of the dials.
fn failed_dials(core: &mut Core, ms: u64) -> Vec<Multiaddr> {
    core.cx.now = Now { mono: Instant::from_millis(ms), unix_ms: START.unix_ms + ms };
    let Core { peers, directory, cx, .. } = core;
    peers.start_queued_dials(cx);
    peers.select_peers_to_dial(BTreeSet::new, directory, cx);
    let mut dialled = Vec::new();
    for effect in core.effects() {
        if let Effect::Network(NetworkCommand::Dial { peer, addrs }) = effect {
            dialled.extend(addrs);
            core.peers.on_dial_failed(peer, "refused", &core.directory, &mut core.cx);
        }
    }
    dialled
}

#[test]
fn addresses_outside_of_the_scope_are_never_dialled() {
    let inside = |scope| match scope {
        AddressScope::Loopback => "/ip4/127.0.0.1/tcp/1",
        AddressScope::Private => "/ip4/10.1.2.3/tcp/1",
        AddressScope::Public => "/ip4/8.8.8.8/tcp/1",
    };
    let all = [
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/10.1.2.3/tcp/1",
        "/ip4/192.168.1.1/tcp/1",
        "/ip4/169.254.1.1/tcp/1",
        "/ip4/224.0.0.1/udp/1/quic-v1",
        "/ip4/8.8.8.8/tcp/1",
        "/ip6/fe80::1/tcp/1",
        "/ip6/::ffff:10.1.2.3/tcp/1",
    ];
    for scope in [AddressScope::Loopback, AddressScope::Private, AddressScope::Public] {
        let foreign = |number: usize| {
            let addrs = all.iter().map(|text| addr(text)).filter(|addr| !scope.permits(addr));
            record(number, addrs.collect())
        };
        let mixed = record(100, all.iter().map(|text| addr(text)).collect());
        let mail = Candidate::from(&mixed);
        let mut core = knowing(scope, (0..20).map(foreign).chain([mixed]).collect());
        let mut dialled: Vec<Multiaddr> =
            (0..60).flat_map(|second| failed_dials(&mut core, 1000 * second)).collect();
        core.peers.dial_for_mail(mail, &mut core.cx);
        for effect in core.effects() {
            if let Effect::Network(NetworkCommand::Dial { addrs, .. }) = effect {
                dialled.extend(addrs);
            }
        }
        assert!(dialled.iter().all(|addr| scope.permits(addr)), "{scope}: {dialled:?}");
        assert!(dialled.contains(&addr(inside(scope))), "{scope}: those inside are dialled");
    }
}

/// Returns the number of dials of an hour that lead to each of two subnets: one that the records of 200
/// invented agents name, and the subnet of one honest agent, which answers nobody either.
fn dials_of_an_hour(met: bool) -> (usize, usize) {
    let victim = |number: usize| record(number, vec![addr(&format!("/ip4/10.0.0.{}/tcp/1", number + 1))]);
    let honest = record(999, vec![addr("/ip4/10.9.9.9/tcp/1")]);
    let mut core = knowing(AddressScope::Private, (0..200).map(victim).chain([honest]).collect());
    if met {
        let met: Vec<_> = core.directory.records.iter(START.unix_ms).map(SignedRecord::address).collect();
        met.iter().for_each(|address| core.directory.records.meet(address));
    }
    let all = (0..3600).flat_map(|second| failed_dials(&mut core, 1000 * second)).collect::<Vec<_>>();
    let of = |prefix: &str| all.iter().filter(|addr| addr.to_string().starts_with(prefix)).count();
    (of("/ip4/10.0.0."), of("/ip4/10.9.9."))
}

#[test]
fn invented_agents_in_one_subnet_cause_few_dials() {
    let (of_victim, of_honest) = dials_of_an_hour(false);
    assert!(of_victim < 60, "{of_victim} dials to one subnet by hearsay");
    assert!(of_honest >= 5, "{of_honest} dials to another agent");
    let (of_met, _) = dials_of_an_hour(true);
    assert!(of_met > 200, "agents that the node met have pauses of their own: {of_met}");
}

#[test]
fn connection_to_a_subnet_ends_its_pause() {
    let records =
        (0..20).map(|number| record(number, vec![addr(&format!("/ip4/10.0.0.{}/tcp/1", number + 1))]));
    let mut core = knowing(AddressScope::Private, records.collect());
    let mut dialled = 0;
    for second in 0..4 {
        dialled += failed_dials(&mut core, 1000 * second).len();
    }
    assert!(core.peers.subnet_pauses.len() == 1 && dialled < 20);
    let (peer, remote) = (PeerId::random(), addr("/ip4/10.0.0.200/tcp/1"));
    let Core { peers, local, directory, cx, .. } = &mut core;
    peers.on_connected(peer, true, local, directory, cx);
    peers.on_peer_report(peer, PeerReport::LinkOpened { link: 1, dialer: true, remote }, cx);
    assert_eq!(core.peers.subnet_pauses.len(), 0);
}

#[test]
fn only_agents_that_the_node_met_set_the_interval_of_announcements() {
    let invented = (0..200).map(|number| record(number, vec![addr("/ip4/10.0.0.1/tcp/1")]));
    let mut core = knowing(AddressScope::Private, invented.collect());
    assert_eq!((core.directory.records.len(), core.peers.met_agents(&core.directory)), (200, 0));
    let first = core.directory.records.iter(START.unix_ms).next().map(SignedRecord::address);
    core.directory.records.meet(&first.expect("a record"));
    assert_eq!(core.peers.met_agents(&core.directory), 1);
}
