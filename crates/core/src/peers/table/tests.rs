use std::time::Duration;

use crate::peers::bootstrap::MIN_STABLE_CONNECTION;
use crate::peers::table::*;

/// Longest pause between two dials of a bootstrap peer, with its spread.
const LONGEST_PAUSE: Duration = Duration::from_secs(33);

fn addr(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

/// Starts the dial that is due. Returns `true` if there was one.
fn redial(table: &mut PeerTable, now: Instant) -> bool {
    table.redial_due(now).is_some_and(|(peer, _)| table.start_dial(peer))
}

#[test]
fn bootstrap_peer_is_redialled_with_growing_pauses() {
    let (mut table, mut jitter, peer) = (PeerTable::default(), Jitter::new(1), PeerId::random());
    assert!(table.add_bootstrap(peer, addr(1)));
    let mut now = Instant::ZERO;
    for attempt in 0..100 {
        assert!(redial(&mut table, now));
        assert!(!redial(&mut table, now), "the node is dialling the peer");
        assert_eq!(table.dial_failed(peer, now, &mut jitter), attempt == 0);
        let next = table.next_redial().unwrap();
        assert!(next > now && next - now <= LONGEST_PAUSE);
        now = next;
    }
    table.connected(peer, now);
    assert_eq!(table.next_redial(), None);
    now += MIN_STABLE_CONNECTION;
    assert_eq!(table.disconnected(peer, now, &mut jitter), None);
    assert!(redial(&mut table, now));
    assert!(table.dial_failed(peer, now, &mut jitter), "a long connection resets the backoff");
}

#[test]
fn bootstrap_peer_with_short_connections_is_redialled_after_pause() {
    let (mut table, mut jitter, peer) = (PeerTable::default(), Jitter::new(1), PeerId::random());
    table.add_bootstrap(peer, addr(1));
    let mut now = Instant::ZERO;
    for _ in 0..30 {
        assert!(redial(&mut table, now));
        table.connected(peer, now);
        assert_eq!(table.disconnected(peer, now, &mut jitter), Some(Duration::ZERO));
        now = table.next_redial().unwrap();
    }
    assert!(now > Instant::from_secs(350), "thirty dials in {now:?}");
}

#[test]
fn connected_bootstrap_peer_is_not_dialled() {
    let (mut table, peer) = (PeerTable::default(), PeerId::random());
    table.connected(peer, Instant::ZERO);
    assert!(table.add_bootstrap(peer, addr(1)));
    assert!(!redial(&mut table, Instant::ZERO));
    assert!(!table.start_dial(peer));
    assert_eq!(table.next_redial(), None);
}

#[test]
fn bootstrap_peers_and_addresses_are_limited() {
    let (mut table, peer) = (PeerTable::default(), PeerId::random());
    for port in 0..8 {
        assert!(table.add_bootstrap(peer, addr(port)));
    }
    assert!(!table.add_bootstrap(peer, addr(999)));
    for _ in 1..MAX_BOOTSTRAPS {
        assert!(table.add_bootstrap(PeerId::random(), addr(1)));
    }
    assert!(!table.add_bootstrap(PeerId::random(), addr(1)));
    assert_eq!((table.bootstraps_len(), table.len()), (MAX_BOOTSTRAPS, MAX_BOOTSTRAPS));
}

#[test]
fn dial_pauses_are_limited_and_ended_pauses_removed() {
    let (mut table, mut jitter) = (PeerTable::default(), Jitter::new(1));
    let mut fail = |table: &mut PeerTable, now: Instant| {
        let peer = PeerId::random();
        table.update_pause(peer, now, |pause| pause.fail(None, now, &mut jitter));
        table.pause(&peer).is_some()
    };
    for _ in 0..MAX_BACKOFFS {
        assert!(fail(&mut table, Instant::ZERO));
    }
    assert!(!fail(&mut table, Instant::ZERO), "all pauses still last");
    assert!(fail(&mut table, Instant::from_secs(3600)));
    assert_eq!((table.pauses_len(), table.len()), (1, 1));
}

#[test]
fn peer_entry_without_content_is_removed() {
    let (mut table, mut jitter, peer) = (PeerTable::default(), Jitter::new(1), PeerId::random());
    assert!(table.start_dial(peer));
    assert_eq!((table.dialing_len(), table.is_down(&peer)), (1, false));
    table.connected(peer, Instant::ZERO);
    assert!(table.set_serves_dht(peer, true) && !table.set_serves_dht(peer, true));
    assert_eq!((table.dialing_len(), table.connections_len(), table.servers_len()), (0, 1, 1));
    table.disconnected(peer, Instant::from_secs(60), &mut jitter);
    assert_eq!((table.len(), table.connections_len(), table.servers_len()), (0, 0, 0));
}

#[test]
fn banned_peer_is_not_dialled_until_its_ban_ends() {
    let (mut table, peer) = (PeerTable::default(), PeerId::random());
    table.set_banned(peer, true);
    assert!(table.add_bootstrap(peer, addr(1)));
    assert!(!table.is_down(&peer) && !table.start_dial(peer));
    assert_eq!((table.redial_due(Instant::ZERO), table.next_redial()), (None, None));
    table.queue_dial(peer, DialKind::Mail);
    assert_eq!(table.queued_kind(&peer), None);
    table.set_banned(peer, false);
    assert!(table.is_down(&peer) && redial(&mut table, Instant::ZERO));
}
