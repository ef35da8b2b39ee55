use super::*;
use crate::Core;
use crate::effect::{Effect, NetworkCommand};
use crate::input::Now;
use crate::lifecycle::Phase;
use crate::source::SourceEvent;
use crate::testing::{START, TestCore as _, core_with};

fn serving() -> Core {
    let mut core = core_with(|config| config.dns_seeds = true);
    core.cx.phase = Phase::Ready;
    core
}

fn seed(port: u16, peer: Option<PeerId>, is_bootstrap: bool) -> Seed {
    let addr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
    Seed { peer, addr, is_bootstrap }
}

/// Hands over the seeds and returns the dialled addresses.
fn dials(core: &mut Core, seeds: Vec<Seed>) -> Vec<Multiaddr> {
    core.peers.on_source(SourceEvent::Seeds(seeds), &mut core.cx);
    let dialled = |effect| match effect {
        Effect::Network(NetworkCommand::Dial { addrs, .. }) => Some(addrs[0].clone()),
        Effect::Network(NetworkCommand::DialAddr { addr }) => Some(addr),
        _ => None,
    };
    core.effects().into_iter().filter_map(dialled).collect()
}

#[test]
fn node_asks_for_seeds_at_start_and_while_it_has_few_connections() {
    let mut core = serving();
    let mut queries = 0;
    for secs in 0..=60 {
        core.cx.now = Now { mono: Instant::from_millis(secs * 1000), unix_ms: START.unix_ms };
        core.peers.query_seeds(&mut core.cx);
        let is_query = |effect: &Effect| matches!(effect, Effect::Source(SourceCommand::QueryDnsSeeds));
        queries += core.effects().iter().filter(|effect| is_query(effect)).count();
    }
    // At 0, 2, 6, 14 and 30 s, and perhaps at 60 s.
    assert!((5..=6).contains(&queries), "{queries}");
}

#[test]
fn some_seeds_are_dialled_and_bootstrap_nodes_come_first() {
    let mut core = serving();
    let mut seeds: Vec<Seed> = (0..20).map(|port| seed(port, None, false)).collect();
    seeds.push(seed(20, Some(PeerId::random()), true));
    let bootstrap = seeds[20].addr.clone();
    let dialled = dials(&mut core, seeds);
    assert_eq!((dialled.len(), &dialled[0]), (DIALS, &bootstrap));
}

#[test]
fn connected_seed_is_not_dialled_again() {
    let mut core = serving();
    let (named, nameless) = (seed(1, Some(PeerId::random()), false), seed(2, None, false));
    assert_eq!(dials(&mut core, vec![named.clone(), nameless.clone()]).len(), 2);
    let found = PeerId::random();
    for (peer, seed) in [(named.peer.expect("a peer"), &named), (found, &nameless)] {
        let Core { peers, local, directory, cx, .. } = &mut core;
        peers.on_connected(peer, true, local, directory, cx);
        peers.on_source(SourceEvent::Dialled { peer, addr: seed.addr.clone() }, cx);
    }
    assert!(dials(&mut core, vec![named, nameless.clone()]).is_empty());
    let Core { peers, directory, cx, .. } = &mut core;
    peers.on_disconnected(found, None, directory, cx);
    core.cx.now = Now { mono: Instant::from_millis(300_000), unix_ms: START.unix_ms };
    assert_eq!(dials(&mut core, vec![nameless.clone()]), [nameless.addr]);
}

#[test]
fn failed_queries_cause_one_warning_until_one_succeeds() {
    let mut core = serving();
    let fail = |core: &mut Core| {
        core.peers.on_source(SourceEvent::SeedsFailed { reason: "no server".to_owned() }, &mut core.cx);
        core.lines().len()
    };
    assert_eq!((fail(&mut core), fail(&mut core)), (1, 0));
    dials(&mut core, Vec::new());
    assert_eq!(fail(&mut core), 1);
}

#[test]
fn remembered_addresses_of_seeds_are_limited() {
    let mut core = serving();
    for port in 0..200 {
        dials(&mut core, vec![seed(port, None, false)]);
    }
    assert_eq!(core.peers.seeds.len(), MAX_SEED_PEERS);
}
