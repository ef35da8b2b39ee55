use super::*;
use crate::Core;
use crate::effect::Effect;
use crate::peers::candidate::Candidate;
use crate::peers::links::PeerReport;
use crate::testing::{TestCore as _, core};

#[test]
fn dht_server_work_runs_at_once_then_once_per_interval() {
    let mut servers = DhtServers::default();
    servers.connected(Instant::ZERO);
    assert!(servers.poll_due(Instant::ZERO));
    assert_eq!(servers.next_deadline(), None);
    let mut last_round = 0;
    for tenth in 1..=100 {
        let now = Instant::from_millis(100 * tenth);
        servers.connected(now);
        last_round += usize::from(servers.poll_due(now));
    }
    assert_eq!(last_round, 2);
}

/// Returns new PeerIds in a bucket of the core's routing table.
fn in_bucket(core: &Core, bucket: u32, number: usize) -> Vec<PeerId> {
    let node = core.cx.identity.peer;
    let peers = std::iter::repeat_with(PeerId::random).filter(|peer| kad_bucket(&node, peer) == bucket);
    peers.take(number).collect()
}

fn address(third: usize, fourth: usize) -> Multiaddr {
    format!("/ip4/192.168.{third}.{fourth}/tcp/1").parse().expect("an address")
}

/// Connects a server from this address, which claims another one.
fn serve(core: &mut Core, peer: PeerId, remote: Multiaddr) {
    let Core { peers, local, directory, cx, .. } = core;
    peers.on_connected(peer, false, local, directory, cx);
    peers.on_peer_report(peer, PeerReport::LinkOpened { link: 1, dialer: false, remote }, cx);
    let claimed = PeerId::random().to_bytes()[5..7].to_vec();
    let claimed = address(usize::from(claimed[0]), usize::from(claimed[1]));
    peers.on_dht_mode(peer, true, vec![claimed], cx);
}

/// Returns the servers that entered the routing table, and those that left it.
fn changes(core: &mut Core) -> (Vec<PeerId>, Vec<PeerId>) {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for effect in core.effects() {
        match effect {
            Effect::Network(NetworkCommand::AddServer { peer, .. }) => added.push(peer),
            Effect::Network(NetworkCommand::RemoveServer { peer }) => removed.push(peer),
            _ => {}
        }
    }
    (added, removed)
}

#[test]
fn one_subnet_gets_two_places_in_a_bucket_whatever_its_servers_claim() {
    let mut core = core();
    let peers = in_bucket(&core, 1, 30);
    for (number, peer) in peers.iter().enumerate() {
        serve(&mut core, *peer, address(0, number));
    }
    assert_eq!(changes(&mut core), (peers[..2].to_vec(), Vec::new()));
    assert_eq!(core.cx.stats.get(Counter::ServersNotRouted), 28);
    let other_subnet = in_bucket(&core, 1, 1)[0];
    serve(&mut core, other_subnet, address(1, 1));
    let other_bucket = in_bucket(&core, 0, 1)[0];
    serve(&mut core, other_bucket, address(0, 40));
    assert_eq!(changes(&mut core).0, [other_subnet, other_bucket]);
    // A server that is gone leaves its place.
    core.peers.on_disconnected(peers[0], None, &core.directory, &mut core.cx);
    serve(&mut core, peers[5], address(0, 5));
    assert_eq!(changes(&mut core), (vec![peers[5]], vec![peers[0]]));
}

#[test]
fn loopback_and_bootstrap_servers_are_always_routed() {
    let mut core = core();
    let peers = in_bucket(&core, 0, 12);
    for peer in &peers[..6] {
        serve(&mut core, *peer, "/ip4/127.0.0.1/tcp/1".parse().expect("an address"));
    }
    for (number, peer) in peers[6..].iter().enumerate() {
        core.peers.add_candidate(Candidate::bootstrap(*peer, address(0, number)), &mut core.cx);
        serve(&mut core, *peer, address(0, number));
    }
    assert_eq!(changes(&mut core).0, peers);
}

#[test]
fn bucket_with_twenty_connected_servers_takes_no_other_and_a_client_leaves_it() {
    let mut core = core();
    let peers = in_bucket(&core, 0, MAX_IN_BUCKET + 1);
    for (number, peer) in peers.iter().enumerate() {
        serve(&mut core, *peer, address(number, 1));
    }
    assert_eq!(core.peers.dht_servers.len(), MAX_IN_BUCKET);
    core.peers.on_dht_mode(peers[0], false, Vec::new(), &mut core.cx);
    assert_eq!(changes(&mut core).1, [peers[0]]);
    core.peers.on_dht_mode(peers[MAX_IN_BUCKET], true, vec![address(99, 1)], &mut core.cx);
    assert_eq!(changes(&mut core).0, [peers[MAX_IN_BUCKET]]);
}

#[test]
fn routing_table_is_bounded_and_a_server_that_is_gone_makes_room() {
    let mut core = core();
    let peer = PeerId::random();
    for number in 0..MAX_ROUTED {
        let routed = Routed { bucket: (number / MAX_IN_BUCKET) as u32 + 100, subnets: BTreeSet::new() };
        core.peers.dht_servers.routed.insert(PeerId::random(), routed);
    }
    serve(&mut core, peer, address(0, 1));
    let (added, removed) = changes(&mut core);
    assert_eq!((added, removed.len(), core.peers.dht_servers.len()), (vec![peer], 1, MAX_ROUTED));
}
