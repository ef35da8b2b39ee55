use p2p_node_protocol::KeptFor;

use super::*;
use crate::Core;
use crate::effect::{Effect, NetworkCommand};
use crate::input::Now;
use crate::lifecycle::Phase;
use crate::peers::links::PeerReport;
use crate::peers::trimmer::Kept;
use crate::source::SourceEvent;
use crate::testing::{START, TestCore as _, core_with};

fn known(number: u64) -> KnownPeer {
    let addr = format!("/ip4/127.0.0.1/tcp/{}", 1000 + number).parse().expect("an address");
    KnownPeer {
        peer: PeerId::random(),
        addrs: vec![addr],
        last_seen_ms: number,
        serves_dht: false,
        is_anchor: false,
    }
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

/// Connects a peer, by a dial of this node or of the peer.
fn connect(core: &mut Core, peer: PeerId, dialer: bool, secs: u64) {
    core.cx.now.mono = Instant::from_secs(secs);
    let remote: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
    let Core { peers, local, directory, cx, .. } = core;
    peers.on_connected(peer, dialer, local, directory, cx);
    peers.on_peer_report(peer, PeerReport::LinkOpened { link: secs, dialer, remote: remote.clone() }, cx);
    peers.on_source(SourceEvent::Dialled { peer, addr: remote }, cx);
}

#[test]
fn two_longest_dialled_connections_are_the_anchors_of_the_next_process() {
    let mut core = serving(Some(Vec::new()));
    let peers: Vec<PeerId> = (0..5).map(|_| PeerId::random()).collect();
    for (number, peer) in peers.iter().enumerate() {
        connect(&mut core, *peer, number != 1, number as u64);
    }
    let book = written(poll(&mut core, 100)).expect("a book");
    let mut anchors: Vec<PeerId> =
        book.iter().filter(|known| known.is_anchor).map(|known| known.peer).collect();
    anchors.sort();
    let mut expected = vec![peers[0], peers[2]];
    expected.sort();
    assert_eq!(anchors, expected, "the second peer dialled this node");

    // The next process dials them before its bootstrap peers and the rest of the book, and keeps them.
    let entry = (PeerId::random(), "/ip4/127.0.0.1/tcp/9".parse().expect("an address"));
    let mut next = core_with(|config| {
        config.peer_book = Some(book);
        config.bootstraps = vec![entry.clone()];
    });
    next.cx.phase = Phase::Ready;
    next.peers.poll_sources(&next.directory, &mut next.cx);
    let mut order = dials(&next.effects());
    assert_eq!(order.len(), 6);
    assert_eq!(order[2], entry.0);
    order[..2].sort();
    assert_eq!(order[..2], expected);
    for peer in &peers {
        connect(&mut next, *peer, true, 1);
    }
    let topics = BTreeSet::new();
    let kept = Kept::new(&next.peers, &topics, &next.gate, &next.directory);
    let is_anchor = |peer: &PeerId| {
        let connection = next.peers.table.connection(peer).expect("connected");
        kept.reasons(peer, connection, |_| false, next.cx.now).contains(&KeptFor::Anchor)
    };
    assert_eq!(peers.iter().filter(|peer| is_anchor(peer)).count(), 2);
    assert!(expected.iter().all(is_anchor));
}

#[test]
fn node_that_lost_all_its_peers_keeps_its_anchors() {
    let mut book: Vec<KnownPeer> = (0..3).map(known).collect();
    book[1].is_anchor = true;
    let mut core = serving(Some(book.clone()));
    let Core { peers, directory, cx, .. } = &mut core;
    peers.book.changed(cx.now.mono);
    peers.on_dial_failed(book[1].peer, "refused", directory, cx);
    let written = written(poll(&mut core, 100)).expect("a book");
    let anchors: Vec<PeerId> =
        written.iter().filter(|known| known.is_anchor).map(|known| known.peer).collect();
    assert_eq!(anchors, [book[1].peer]);
}
