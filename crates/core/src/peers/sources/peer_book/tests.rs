use super::*;
use crate::Core;
use crate::effect::{Effect, NetworkCommand};
use crate::input::Now;
use crate::lifecycle::Phase;
use crate::source::SourceEvent;
use crate::testing::{START, TestCore as _, core_with};

fn known(number: u64) -> KnownPeer {
    let addr = format!("/ip4/127.0.0.1/tcp/{}", 1000 + number).parse().expect("an address");
    KnownPeer { peer: PeerId::random(), addrs: vec![addr], last_seen_ms: number, serves_dht: false }
}

fn serving(book: Option<Vec<KnownPeer>>) -> Core {
    let mut core = core_with(|config| config.peer_book = book);
    core.cx.phase = Phase::Ready;
    core
}

fn poll(core: &mut Core, secs: u64) -> Vec<Effect> {
    core.cx.now = Now { mono: Instant::from_millis(secs * 1000), unix_ms: START.unix_ms + secs * 1000 };
    core.peers.poll_book(&core.directory, &mut core.cx);
    core.effects()
}

fn dials(effects: &[Effect]) -> Vec<PeerId> {
    let dial = |effect: &Effect| match effect {
        Effect::Network(NetworkCommand::Dial { peer, .. }) => Some(*peer),
        _ => None,
    };
    effects.iter().filter_map(dial).collect()
}

fn written(effects: Vec<Effect>) -> Option<Vec<KnownPeer>> {
    effects.into_iter().find_map(|effect| match effect {
        Effect::Source(SourceCommand::WritePeerBook(peers)) => Some(peers),
        _ => None,
    })
}

#[test]
fn node_dials_servers_and_latest_peers_of_its_book_at_start() {
    let mut peers: Vec<KnownPeer> = (0..20).map(known).collect();
    peers[3].serves_dht = true;
    let mut core = serving(Some(peers.clone()));
    let expected: Vec<PeerId> = [3, 19, 18, 17, 16].map(|index: usize| peers[index].peer).to_vec();
    assert_eq!(dials(&poll(&mut core, 0)), expected);
    // If these fail, others follow.
    for peer in &expected {
        let Core { peers, directory, cx, .. } = &mut core;
        peers.on_dial_failed(*peer, "refused", directory, cx);
    }
    let expected: Vec<PeerId> = [15, 14, 13, 12, 11].map(|index: usize| peers[index].peer).to_vec();
    assert_eq!(dials(&poll(&mut core, 3)), expected);
}

#[test]
fn dialled_address_is_written_once_a_minute_and_only_with_data_directory() {
    for (book, enabled) in [(Some(Vec::new()), true), (None, false)] {
        let mut core = serving(book);
        let peer = known(1);
        let mut writes = Vec::new();
        for secs in 0..100 {
            let effects = poll(&mut core, secs);
            writes.extend(written(effects));
            let event = SourceEvent::Dialled { peer: peer.peer, addr: peer.addrs[0].clone() };
            core.peers.on_source(event, &mut core.cx);
        }
        assert_eq!(writes.len(), if enabled { 2 } else { 0 });
        assert!(writes.iter().all(|peers| peers[0].addrs == peer.addrs && peers.len() == 1));
    }
}

#[test]
fn node_that_ends_writes_changes_of_the_last_minute_once() {
    let mut core = serving(Some(Vec::new()));
    let dialled = |core: &mut Core| {
        let peer = known(1);
        let event = SourceEvent::Dialled { peer: peer.peer, addr: peer.addrs[0].clone() };
        core.peers.on_source(event, &mut core.cx);
    };
    dialled(&mut core);
    assert!(written(poll(&mut core, 1)).is_some());
    dialled(&mut core);
    assert!(written(poll(&mut core, 3)).is_none());
    core.cx.phase = Phase::Closing { reason: "signal", shutdown: None, deadline: Instant::from_millis(9000) };
    assert_eq!(written(poll(&mut core, 4)).map(|peers| peers.len()), Some(2));
    dialled(&mut core);
    assert!(written(poll(&mut core, 5)).is_none());
}

#[test]
fn address_that_worked_comes_first_and_older_ones_stay() {
    let mut book = PeerBook::new(Some(Vec::new()));
    let peer = PeerId::random();
    let addr = |port: u64| known(port).addrs.remove(0);
    for port in 0..6 {
        book.record(peer, Some(addr(port)), &[], port);
    }
    assert_eq!(book.peers[&peer].addrs, [5, 4, 3, 2].map(addr));
    // The addresses of its record do not replace those that worked.
    book.record(peer, None, &[addr(9)], 9);
    assert_eq!(book.peers[&peer].addrs, [5, 4, 3, 2].map(addr));
    let inbound = PeerId::random();
    book.record(inbound, None, &[addr(9)], 9);
    assert_eq!(book.peers[&inbound].addrs, [addr(9)]);
    book.record(PeerId::random(), None, &[], 9);
    assert_eq!(book.len(), 2, "a peer without addresses is of no use");
}

#[test]
fn full_book_replaces_the_peer_seen_least_recently() {
    let peers: Vec<KnownPeer> = (0..200).map(known).collect();
    let book = PeerBook::new(Some(peers.clone()));
    assert_eq!(book.len(), MAX_BOOK_PEERS);
    assert!(!book.peers.contains_key(&peers[71].peer) && book.peers.contains_key(&peers[72].peer));
}

#[test]
fn peer_of_another_network_leaves_the_book() {
    let peer = known(1);
    let mut core = serving(Some(vec![peer.clone()]));
    core.peers.on_network_mismatch(peer.peer, "other", &mut core.cx);
    core.effects();
    assert!(dials(&poll(&mut core, 0)).is_empty());
    assert_eq!(written(poll(&mut core, 2)), Some(Vec::new()));
}
