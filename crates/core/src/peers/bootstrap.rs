//! Bootstrap peers: the nodes through which this node joins the network. This node dials them for
//! ever.

use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use p2p_node_wire::time::Instant;

use crate::backoff::{Backoff, BackoffPolicy, Jitter, Spread};

/// Largest number of bootstrap peers: our choice, 16 times the four of the first
/// sidecar's network.
pub const MAX_BOOTSTRAPS: usize = 64;
/// Largest number of addresses of each bootstrap peer: our choice, as many as a record has.
const MAX_ADDRS: usize = 8;
/// A connection that ends sooner counts as a failed dial, so that it is followed by a pause: a peer
/// that is full or has blocked us accepts the connection and closes it. Our choice: longer than the
/// two nodes need for their handshake.
pub const MIN_STABLE_CONNECTION: Duration = Duration::from_secs(10);
/// Longest part of an address that an error message quotes, in characters: our choice, a few lines
/// of a terminal.
const MAX_QUOTED: usize = 200;
/// Pauses between two dials: our choice. The node rejoins a network that comes back, and puts its
/// record there, within half a minute.
const PAUSES: BackoffPolicy = BackoffPolicy {
    start: Duration::from_millis(500),
    cap: Duration::from_secs(15),
    spread: Spread::Around,
    // A peer that connects and hangs up again and again fails in each pause.
    counts_during_pause: true,
};

/// The role of a peer as a bootstrap peer.
#[derive(Debug, Default)]
pub(crate) struct Bootstrap {
    addrs: Vec<Multiaddr>,
    /// Failed dials and short connections in a row.
    pub(super) backoff: Backoff,
}

impl Bootstrap {
    /// Adds an address. Returns `false` if the limit is reached.
    pub(super) fn add(&mut self, addr: Multiaddr) -> bool {
        if self.addrs.contains(&addr) {
            return true;
        }
        let has_capacity = self.addrs.len() < MAX_ADDRS;
        if has_capacity {
            self.addrs.push(addr);
        }
        has_capacity
    }

    pub(super) fn addrs(&self) -> &[Multiaddr] {
        &self.addrs
    }

    /// Records a failed dial. Returns `true` if it is the first failure in a row.
    pub(super) fn failed(&mut self, now: Instant, jitter: &mut Jitter) -> bool {
        self.failed_for(Duration::ZERO, now, jitter)
    }

    /// Works like [`Bootstrap::failed`]. `floor` is the shortest pause.
    fn failed_for(&mut self, floor: Duration, now: Instant, jitter: &mut Jitter) -> bool {
        let first = !self.backoff.is_failing();
        self.backoff.fail_by(&PAUSES, now, floor, jitter);
        first
    }

    /// Records the end of the connection. The node dials the peer again at once, or after a pause of at
    /// least this time.
    pub(super) fn disconnected(&mut self, pause: Option<Duration>, now: Instant, jitter: &mut Jitter) {
        match pause {
            Some(floor) => {
                self.failed_for(floor, now, jitter);
            }
            None => self.backoff.reset(),
        }
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

    #[test]
    fn bootstrap_address_without_peer_id_is_rejected() {
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
