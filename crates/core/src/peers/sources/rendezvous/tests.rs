use libp2p_identity::PeerId;

use super::*;
use crate::Core;
use crate::effect::{Effect, NetworkCommand};
use crate::input::Now;
use crate::lifecycle::Phase;
use crate::peers::limits::MIN_PEERS;
use crate::source::SourceEvent;
use crate::testing::{START, TestCore as _, core_with};

fn serving(rendezvous: bool) -> Core {
    let mut core = core_with(|config| config.rendezvous = rendezvous);
    core.cx.phase = Phase::Ready;
    core
}

fn node(peer: PeerId) -> LocalNode {
    let addr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
    LocalNode { agent: Address::repeat_byte(9), peer, addrs: vec![addr] }
}

/// Returns the number of samples that the core asks for at this time.
fn samples(core: &mut Core, secs: u64) -> usize {
    core.cx.now = Now { mono: Instant::from_millis(secs * 1000), unix_ms: START.unix_ms };
    core.peers.sample_local_nodes(&mut core.cx);
    let is_sample =
        |effect: &Effect| matches!(effect, Effect::Source(SourceCommand::SampleLocalNodes { .. }));
    core.effects().iter().filter(|effect| is_sample(effect)).count()
}

fn dials(core: &mut Core) -> Vec<PeerId> {
    let dial = |effect| match effect {
        Effect::Network(NetworkCommand::Dial { peer, .. }) => Some(peer),
        _ => None,
    };
    core.effects().into_iter().filter_map(dial).collect()
}

#[test]
fn node_with_few_connections_samples_directory_with_growing_intervals() {
    let mut core = serving(true);
    let taken: usize = (0..=600).map(|secs| samples(&mut core, secs)).sum();
    // 2, 4, 8, 16, 32 and then 60 s apart.
    assert!((14..=16).contains(&taken), "{taken}");
    assert_eq!((0..60).map(|secs| samples(&mut serving(false), secs)).sum::<usize>(), 0);
}

#[test]
fn node_with_enough_connections_takes_no_sample_until_one_ends() {
    let mut core = serving(true);
    let peers: Vec<PeerId> = (0..MIN_PEERS).map(|_| PeerId::random()).collect();
    let Core { peers: table, local, directory, cx, .. } = &mut core;
    for peer in &peers {
        table.on_connected(*peer, false, local, directory, cx);
    }
    assert_eq!((0..600).map(|secs| samples(&mut core, secs)).sum::<usize>(), 0);
    let Core { peers: table, directory, cx, .. } = &mut core;
    table.on_disconnected(peers[0], None, directory, cx);
    assert_eq!(samples(&mut core, 600), 1);
    assert_eq!(samples(&mut core, 601), 0, "at most one sample in two seconds");
}

#[test]
fn sample_is_half_of_the_connections_that_the_node_lacks() {
    let mut core = serving(true);
    for (connected, expected) in [(0, MIN_PEERS / 2), (3, 3), (4, 1)] {
        for _ in 0..connected {
            let Core { peers, local, directory, cx, .. } = &mut core;
            peers.on_connected(PeerId::random(), false, local, directory, cx);
        }
        core.effects();
        core.peers.samples.hasten();
        core.cx.now.mono += std::time::Duration::from_secs(60);
        core.peers.sample_local_nodes(&mut core.cx);
        let sample = |effect| match effect {
            Effect::Source(SourceCommand::SampleLocalNodes { max, .. }) => Some(max),
            _ => None,
        };
        let samples: Vec<usize> = core.effects().into_iter().filter_map(sample).collect();
        assert_eq!(samples, [expected]);
    }
}

#[test]
fn node_takes_its_first_sample_after_a_head_start_of_its_bootstrap_peers() {
    for (fails_after, first) in [(u64::MAX, 5), (2, 2)] {
        let mut core = serving(true);
        let (peer, addr) = (PeerId::random(), "/ip4/127.0.0.1/tcp/1".parse().expect("an address"));
        core.peers.add_candidate(Candidate::bootstrap(peer, addr), &mut core.cx);
        core.peers.handle_timeout(&mut core.local, &mut core.gate, &core.directory, &mut core.cx);
        assert_eq!(dials(&mut core), [peer]);
        let taken = |secs: &u64| {
            if *secs == fails_after {
                let Core { peers, directory, cx, .. } = &mut core;
                peers.on_dial_failed(peer, "refused", directory, cx);
            }
            samples(&mut core, *secs) > 0
        };
        assert_eq!((0..10).find(taken), Some(first));
    }
}

#[test]
fn local_node_is_dialled_once_although_an_earlier_dial_failed() {
    let mut core = serving(true);
    let peer = PeerId::random();
    core.peers.record_dial_failure(peer, None, &mut core.cx);
    for _ in 0..2 {
        core.peers.on_source(SourceEvent::LocalNodes(vec![node(peer)]), &mut core.cx);
    }
    assert_eq!(dials(&mut core), [peer]);
    let own = node(core.cx.identity.peer);
    core.peers.on_source(SourceEvent::LocalNodes(vec![own]), &mut core.cx);
    assert!(dials(&mut core).is_empty());
}

#[test]
fn node_publishes_its_loopback_addresses_and_no_other() {
    for (rendezvous, expected) in [(true, 1), (false, 0)] {
        let mut core = core_with(|config| {
            config.rendezvous = rendezvous;
            config.scope = crate::gate::address_scope::AddressScope::Private;
        });
        let addrs = ["/ip4/10.0.0.1/tcp/7", "/ip4/127.0.0.1/tcp/7"].map(|addr| addr.parse().expect("one"));
        core.local.set_addrs(addrs.to_vec(), &mut core.cx);
        let published: Vec<_> = core
            .effects()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Source(SourceCommand::PublishLocalNode(node)) => Some(node.addrs),
                _ => None,
            })
            .collect();
        assert_eq!(published, vec![vec![addrs[1].clone()]; expected]);
    }
}

#[test]
fn lookup_of_agent_also_asks_directory() {
    let mut core = serving(true);
    let agent = Address::repeat_byte(9);
    assert!(core.directory.resolve(agent, &mut core.cx));
    let finds = |effect: &Effect| matches!(effect, Effect::Source(SourceCommand::FindLocalAgent { agent: found, .. }) if *found == agent);
    assert_eq!(core.effects().iter().filter(|effect| finds(effect)).count(), 1);
    // The node knows where it is itself.
    let own = core.cx.identity.address;
    core.directory.resolve(own, &mut core.cx);
    assert!(!core.effects().iter().any(|effect| matches!(effect, Effect::Source(_))));
}
