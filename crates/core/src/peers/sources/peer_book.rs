//! The peer book: peers to which this node was connected, in the data directory. A node that starts
//! again joins the network through them, also without bootstrap peers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::lifecycle::Phase;
use crate::peers::Peers;
use crate::peers::candidate::Candidate;
use crate::peers::sources::schedule::Schedule;
use crate::peers::table::Connection;
use crate::source::{KnownPeer, SourceCommand};

/// Largest number of peers in the book: our choice, 16 times the number of connections that a node
/// seeks.
pub(crate) const MAX_BOOK_PEERS: usize = 128;
/// Largest number of addresses of a peer in the book: our choice. A node has one or two addresses
/// for each of TCP and QUIC.
const MAX_ADDRS: usize = 4;
/// Largest number of peers of the book that the node dials at once, from the CHORUS node package (5
/// dials a second).
const DIALS: usize = 5;
/// Number of anchors, as in Bitcoin: two of the peers that this node dialled itself. Whoever surrounds the
/// node after a restart has to control these as well.
pub(crate) const ANCHORS: usize = 2;
/// Delay before the book is written, so that one write covers several connections: our choice.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// Shortest interval between two writes: our choice. The book changes slowly, and a flood of
/// connections costs no more.
const MIN_INTERVAL: Duration = Duration::from_secs(60);

/// The peers of the book, and when it is written.
#[derive(Debug, Default)]
pub(crate) struct PeerBook {
    peers: BTreeMap<PeerId, KnownPeer>,
    /// The anchors of the earlier process. The node dials them first and keeps them.
    anchors: BTreeSet<PeerId>,
    /// `true` when the node has dialled the anchors.
    has_dialled_anchors: bool,
    /// Set if there is a data directory.
    enabled: bool,
    dials: Schedule,
    write_at: Option<Instant>,
    written_at: Option<Instant>,
    /// `true` if the node ends and has written the book for the last time.
    is_final: bool,
}

impl PeerBook {
    /// Creates the book from its file. `None` means that there is no data directory.
    pub(crate) fn new(stored: Option<Vec<KnownPeer>>) -> Self {
        let enabled = stored.is_some();
        let mut book = PeerBook { enabled, ..PeerBook::default() };
        for peer in stored.unwrap_or_default() {
            book.peers.insert(peer.peer, peer);
        }
        book.trim();
        let anchors = book.peers.values().filter(|known| known.is_anchor).take(ANCHORS);
        book.anchors = anchors.map(|known| known.peer).collect();
        book
    }

    /// Returns `true` if the peer was an anchor when the node started.
    pub(crate) fn is_anchor(&self, peer: &PeerId) -> bool {
        self.anchors.contains(peer)
    }

    /// Returns the number of peers in the book.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Schedules a dial soon, because a connection ended.
    pub(crate) fn hasten(&mut self) {
        self.dials.hasten();
    }

    /// Removes a peer, because it belongs to another network.
    pub(crate) fn remove(&mut self, peer: &PeerId, now: Instant) {
        if self.peers.remove(peer).is_some() {
            self.changed(now);
        }
    }

    /// Schedules a write, because a peer connected or disconnected.
    pub(crate) fn changed(&mut self, now: Instant) {
        if !self.enabled {
            return;
        }
        let earliest = self.written_at.map_or(Instant::ZERO, |at| at + MIN_INTERVAL);
        self.write_at.get_or_insert((now + DEBOUNCE).max(earliest));
    }

    /// Records that a peer is or was connected. An address that worked comes first; without one, the
    /// book keeps those that it has.
    fn record(&mut self, peer: PeerId, worked: Option<Multiaddr>, addrs: &[Multiaddr], now_ms: u64) {
        let known = self.peers.entry(peer).or_insert_with(|| KnownPeer {
            peer,
            addrs: Vec::new(),
            last_seen_ms: now_ms,
            serves_dht: false,
            is_anchor: false,
        });
        known.last_seen_ms = now_ms;
        let mut all: Vec<Multiaddr> = worked.into_iter().collect();
        let older = if all.is_empty() && known.addrs.is_empty() { addrs } else { &known.addrs };
        for addr in older {
            if !all.contains(addr) {
                all.push(addr.clone());
            }
        }
        all.truncate(MAX_ADDRS);
        known.addrs = all;
        if known.addrs.is_empty() {
            self.peers.remove(&peer);
        }
        self.trim();
    }

    /// Removes the peers that were seen least recently, above the limit.
    fn trim(&mut self) {
        while self.peers.len() > MAX_BOOK_PEERS {
            let oldest = self.peers.values().min_by_key(|peer| peer.last_seen_ms).map(|peer| peer.peer);
            self.peers.retain(|peer, _| Some(*peer) != oldest);
        }
    }
}

impl Peers {
    /// Records a peer that this node dialled with success.
    pub(crate) fn on_dialled(&mut self, peer: PeerId, addr: Multiaddr, cx: &Cx) {
        if self.book.enabled {
            self.book.record(peer, Some(addr), &[], cx.now.unix_ms);
            self.book.changed(cx.now.mono);
        }
    }

    /// Returns the time of the next dial or write.
    pub(crate) fn next_book_deadline(&self) -> Option<Instant> {
        let dial = (self.has_few() && self.book.len() > 0).then(|| self.book.dials.next());
        self.book.write_at.into_iter().chain(dial).min()
    }

    /// Dials peers of the book while the node has few connections, and writes the book when that is
    /// due.
    pub(crate) fn poll_book(&mut self, directory: &Directory, cx: &mut Cx) {
        if !self.book.enabled {
            return;
        }
        if self.has_few() && self.book.len() > 0 && self.book.dials.poll(cx.now.mono, &mut cx.jitter) {
            self.dial_book(cx);
        }
        // A node that ends does not wait for the interval.
        let ends = !self.book.is_final && matches!(cx.phase, Phase::Closing { .. });
        if self.book.write_at.is_some_and(|at| ends || at <= cx.now.mono) {
            self.book.is_final |= ends;
            self.write_book(directory, cx);
        }
    }

    /// Dials the anchors, once and before all other peers.
    pub(crate) fn dial_anchors(&mut self, cx: &mut Cx) {
        if std::mem::replace(&mut self.book.has_dialled_anchors, true) {
            return;
        }
        let anchors = self.book.anchors.iter().filter_map(|peer| self.book.peers.get(peer));
        let candidates: Vec<Candidate> = anchors.map(Candidate::from).collect();
        candidates.into_iter().for_each(|candidate| self.dial(candidate, cx));
    }

    /// Returns the peers to which this node is connected by its own dial, those that are connected longest:
    /// the anchors of the next process. Bootstrap peers are dialled in any case.
    fn next_anchors(&self) -> BTreeSet<PeerId> {
        let dialled = |peer: &PeerId, known: &Connection| {
            known.links.has_direct_outbound() && !self.table.is_bootstrap(peer) && known.closing.is_none()
        };
        let dialled = self.table.connections().filter(|(peer, known)| dialled(peer, known));
        let mut dialled: Vec<_> = dialled.map(|(peer, known)| (known.connected_at, *peer)).collect();
        dialled.sort_unstable();
        dialled.into_iter().take(ANCHORS).map(|(_, peer)| peer).collect()
    }

    /// Dials peers of the book: DHT servers first, then those that were seen last. Peers that could
    /// not be dialled come after all others.
    fn dial_book(&mut self, cx: &mut Cx) {
        let now = cx.now.mono;
        let may_be_dialled = |peer: &&KnownPeer| {
            peer.peer != cx.identity.peer
                && self.table.is_down(&peer.peer)
                && !self.is_unreachable(&peer.peer, now)
        };
        let mut peers: Vec<&KnownPeer> = self.book.peers.values().filter(may_be_dialled).collect();
        let has_failed = |peer: &KnownPeer| self.table.pause(&peer.peer).is_some();
        peers.sort_by_key(|peer| (has_failed(peer), !peer.serves_dht, u64::MAX - peer.last_seen_ms));
        let chosen = peers.into_iter().take(DIALS).map(Candidate::from);
        for candidate in chosen.collect::<Vec<_>>() {
            self.dial(candidate, cx);
        }
    }

    /// Records the admitted peers and writes the book. A peer that connected to this node is
    /// recorded with the addresses of its record.
    fn write_book(&mut self, directory: &Directory, cx: &mut Cx) {
        let admitted: Vec<PeerId> = self.table.admitted().collect();
        for peer in admitted {
            let record = directory.records.by_peer(&peer, cx.now.unix_ms);
            let addrs = record.map_or(&[][..], |record| &record.record.addrs);
            self.book.record(peer, None, addrs, cx.now.unix_ms);
            let serves_dht = self.table.is_dht_server(&peer);
            if let Some(known) = self.book.peers.get_mut(&peer) {
                known.serves_dht = serves_dht;
            }
        }
        // A node that lost all its peers keeps the anchors that it had.
        let anchors = self.next_anchors();
        if !anchors.is_empty() {
            for known in self.book.peers.values_mut() {
                known.is_anchor = anchors.contains(&known.peer);
            }
        }
        self.book.write_at = None;
        self.book.written_at = Some(cx.now.mono);
        cx.source(SourceCommand::WritePeerBook(self.book.peers.values().cloned().collect()));
    }
}

#[cfg(test)]
mod tests;
