//! Bootstrap peers: the nodes through which this node joins the network. It dials them for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use p2p_node_wire::time::Instant;

use crate::backoff::Jitter;
use crate::peers::candidate::{Candidate, CandidateSource};

/// Largest number of bootstrap peers: our choice, 16 times the four of the first
/// sidecar's network.
pub const MAX_BOOTSTRAPS: usize = 64;
/// Largest number of addresses of each bootstrap peer: our choice, as many as a record has.
const MAX_ADDRS: usize = 8;
/// First pause between two dials: our choice.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A connection that ends sooner counts as a failed dial, so that it is followed by a pause: a peer
/// that is full or has blocked us accepts the connection and closes it. Our choice: longer than the
/// two nodes need to exchange hellos.
pub const STABLE: Duration = Duration::from_secs(10);
/// Longest part of an address that an error message quotes, in characters: our choice, a few lines
/// of a terminal.
const MAX_QUOTED: usize = 200;
/// Longest pause between two dials: our choice. The node rejoins a network that comes back within
/// half a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Bootstrap {
    addrs: Vec<Multiaddr>,
    /// Number of failed dials and short connections in a row.
    failures: u32,
    connected_at: Option<Instant>,
    /// Time of the next dial. `None` while the node dials the peer or is connected.
    next: Option<Instant>,
}

impl Bootstrap {
    fn pause(&mut self, now: Instant, jitter: &mut Jitter) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now + jitter.around(pause));
    }
}

/// All bootstrap peers.
#[derive(Debug, Default)]
pub struct Bootstraps {
    peers: BTreeMap<PeerId, Bootstrap>,
}

impl Bootstraps {
    /// Adds an address of a bootstrap peer. Returns `false` if a limit is reached.
    pub fn add(&mut self, peer: PeerId, addr: Multiaddr) -> bool {
        if self.peers.len() >= MAX_BOOTSTRAPS && !self.peers.contains_key(&peer) {
            return false;
        }
        let bootstrap = self
            .peers
            .entry(peer)
            .or_insert_with(|| Bootstrap { next: Some(Instant::ZERO), ..Bootstrap::default() });
        if bootstrap.addrs.contains(&addr) {
            return true;
        }
        let room = bootstrap.addrs.len() < MAX_ADDRS;
        if room {
            bootstrap.addrs.push(addr);
        }
        room
    }

    /// Removes a peer. Returns `true` if it was a bootstrap peer.
    pub fn remove(&mut self, peer: &PeerId) -> bool {
        self.peers.remove(peer).is_some()
    }

    /// Returns the peers to dial now, and marks them as being dialled.
    pub(crate) fn due(&mut self, now: Instant, connected: impl Fn(&PeerId) -> bool) -> Vec<Candidate> {
        let mut due = Vec::new();
        for (peer, bootstrap) in &mut self.peers {
            if bootstrap.next.is_some_and(|next| next <= now) {
                bootstrap.next = None;
                if !connected(peer) {
                    let (addrs, source) = (bootstrap.addrs.clone(), CandidateSource::Bootstrap);
                    due.push(Candidate { peer: *peer, addrs, source });
                }
            }
        }
        due
    }

    /// Records a failed dial. Returns the number of failures in a row, or `None` if the peer is not
    /// a bootstrap peer.
    pub fn failed(&mut self, peer: &PeerId, now: Instant, jitter: &mut Jitter) -> Option<u32> {
        let bootstrap = self.peers.get_mut(peer)?;
        bootstrap.pause(now, jitter);
        Some(bootstrap.failures)
    }

    /// Records that the peer is connected.
    pub fn connected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(bootstrap) = self.peers.get_mut(peer) {
            bootstrap.connected_at = Some(now);
            bootstrap.next = None;
        }
    }

    /// Records that the connection ended. The peer is dialled again at once, or after a pause if
    /// the connection was shorter than [`STABLE`].
    pub fn lost(&mut self, peer: &PeerId, now: Instant, jitter: &mut Jitter) {
        let Some(bootstrap) = self.peers.get_mut(peer) else { return };
        if bootstrap.connected_at.take().is_some_and(|since| now.saturating_since(since) < STABLE) {
            bootstrap.pause(now, jitter);
        } else {
            bootstrap.failures = 0;
            bootstrap.next = Some(now);
        }
    }

    /// Returns the number of bootstrap peers.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Returns `true` if there are no bootstrap peers.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Returns the time of the next dial.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(|bootstrap| bootstrap.next).min()
    }
}

/// Parses the address of a bootstrap peer: a multiaddr that ends in `/p2p/` and the PeerId.
///
/// # Errors
/// Returns an explanation for people.
pub fn parse_bootstrap(text: &str) -> Result<(PeerId, Multiaddr), String> {
    let quoted = || -> String { text.chars().take(MAX_QUOTED).collect() };
    let addr: Multiaddr = text.parse().map_err(|error: multiaddr::Error| {
        // The parser's message may quote the address as well.
        let reason: String = error.to_string().chars().take(MAX_QUOTED).collect();
        format!("bootstrap peer {:?} is not a multiaddr: {reason}", quoted())
    })?;
    match addr.iter().last() {
        Some(Protocol::P2p(peer)) if addr.iter().nth(1).is_some() => Ok((peer, addr)),
        Some(Protocol::P2p(_)) => Err(format!(
            "bootstrap peer {:?} must begin with a network address, such as /ip4/…/tcp/…",
            quoted()
        )),
        _ => Err(format!("bootstrap peer {:?} must end in /p2p/ and its PeerId", quoted())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn they_are_dialled_for_ever_with_growing_pauses() {
        let (mut bootstraps, mut jitter, peer) = (Bootstraps::default(), Jitter::new(1), PeerId::random());
        assert!(bootstraps.add(peer, addr(1)));
        let mut now = Instant::ZERO;
        for attempt in 1..100 {
            assert_eq!(bootstraps.due(now, |_| false).len(), 1);
            assert!(bootstraps.due(now, |_| false).is_empty(), "it is being dialled");
            assert_eq!(bootstraps.failed(&peer, now, &mut jitter), Some(attempt));
            let next = bootstraps.next_deadline().unwrap();
            assert!(next > now && next - now <= LONGEST_PAUSE.mul_f64(1.1));
            now = next;
        }
        bootstraps.connected(&peer, now);
        assert_eq!(bootstraps.next_deadline(), None);
        now += STABLE;
        bootstraps.lost(&peer, now, &mut jitter);
        assert_eq!(bootstraps.due(now, |_| false).len(), 1);
        assert_eq!(bootstraps.failed(&peer, now, &mut jitter), Some(1), "a good connection starts it anew");
    }

    #[test]
    fn one_that_hangs_up_at_once_is_not_dialled_without_a_pause() {
        let (mut bootstraps, mut jitter, peer) = (Bootstraps::default(), Jitter::new(1), PeerId::random());
        bootstraps.add(peer, addr(1));
        let mut now = Instant::ZERO;
        for _ in 0..30 {
            assert_eq!(bootstraps.due(now, |_| false).len(), 1);
            bootstraps.connected(&peer, now);
            bootstraps.lost(&peer, now, &mut jitter);
            now = bootstraps.next_deadline().unwrap();
        }
        assert!(now > Instant::from_secs(600), "thirty dials in {now:?}");
    }

    #[test]
    fn one_that_is_connected_by_then_is_not_dialled() {
        let (mut bootstraps, peer) = (Bootstraps::default(), PeerId::random());
        bootstraps.add(peer, addr(1));
        assert!(bootstraps.due(Instant::ZERO, |connected| *connected == peer).is_empty());
        assert_eq!(bootstraps.next_deadline(), None);
    }

    #[test]
    fn peers_and_addresses_are_bounded() {
        let mut bootstraps = Bootstraps::default();
        let peer = PeerId::random();
        for port in 0..MAX_ADDRS as u16 {
            assert!(bootstraps.add(peer, addr(port)));
        }
        assert!(!bootstraps.add(peer, addr(999)));
        for _ in 1..MAX_BOOTSTRAPS {
            assert!(bootstraps.add(PeerId::random(), addr(1)));
        }
        assert!(!bootstraps.add(PeerId::random(), addr(1)));
    }

    #[test]
    fn an_address_must_name_its_peer() {
        let peer = PeerId::random();
        assert_eq!(parse_bootstrap(&format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}")).unwrap().0, peer);
        assert!(parse_bootstrap("/ip4/127.0.0.1/tcp/1").unwrap_err().contains("/p2p/"));
        assert!(parse_bootstrap("127.0.0.1:1").unwrap_err().contains("not a multiaddr"));
        assert!(parse_bootstrap(&format!("/p2p/{peer}")).unwrap_err().contains("a network address"));
        for long in [
            "x".repeat(1 << 20),
            format!("/{}", "x".repeat(1 << 20)),
            format!("/ip4/{}", "x".repeat(1 << 20)),
        ] {
            assert!(parse_bootstrap(&long).unwrap_err().len() < 600);
        }
    }
}
