//! What the node observed of peers, also of earlier connections: uptime and round trip time.

use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::time::Instant;

use crate::peers::dialer::MAX_BACKOFFS;
use crate::peers::limits::MAX_CONNECTIONS;
use crate::peers::score::DEFAULT_UPTIME;

/// Largest number of peers whose history the node remembers: the connected ones, and as many as there
/// are pauses.
pub(crate) const MAX_HISTORIES: usize = MAX_CONNECTIONS + MAX_BACKOFFS;
/// Weight of the assumption about a peer that the node does not know, as if observed for this long: our
/// choice. A peer that has just connected ranks little above an unknown one.
const ASSUMED: Duration = Duration::from_secs(600);
/// Weight of a new measurement of the round trip time, from TCP's estimate (RFC 6298).
const NEW_SAMPLE: f64 = 1.0 / 8.0;

/// What the node observed of a peer.
///
/// The uptime is a share of the time in which the node could tell: while connected, the peer was up;
/// from a failed dial until the next connection it was down. While the node has no reason to connect,
/// it cannot tell, and the time does not count. So the share is at most 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct History {
    up: Duration,
    down: Duration,
    /// The present state and its start. `None` while the node cannot tell.
    since: Option<(bool, Instant)>,
    latency: Option<Duration>,
    /// When a connection last began or ended.
    seen_at: Option<Instant>,
}

impl History {
    fn change(&mut self, is_up: Option<bool>, now: Instant) {
        if let Some((was_up, since)) = self.since {
            let total = if was_up { &mut self.up } else { &mut self.down };
            *total = total.saturating_add(now.saturating_since(since));
        }
        self.since = is_up.map(|is_up| (is_up, now));
    }

    /// Returns the share of the observed time in which the peer was up, from 0 to 1.
    pub(crate) fn uptime(&self, now: Instant) -> f64 {
        let mut totals = *self;
        totals.change(None, now);
        let (up, down, assumed) = (totals.up.as_secs_f64(), totals.down.as_secs_f64(), ASSUMED.as_secs_f64());
        (up + DEFAULT_UPTIME * assumed) / (up + down + assumed)
    }

    /// Returns the share of the observed time in which the peer was up, without an assumption: 1 for a peer
    /// that the node has not observed.
    pub(crate) fn quality(&self, now: Instant) -> f64 {
        let mut totals = *self;
        totals.change(None, now);
        let (up, down) = (totals.up.as_secs_f64(), totals.down.as_secs_f64());
        if up + down > 0.0 { up / (up + down) } else { 1.0 }
    }

    /// Returns when a connection last began or ended.
    pub(crate) fn seen_at(&self) -> Option<Instant> {
        self.seen_at
    }

    /// Returns `true` if the last dial failed and no connection followed.
    pub(crate) fn is_down(&self) -> bool {
        self.since.is_some_and(|(is_up, _)| !is_up)
    }

    /// Returns the smoothed round trip time.
    pub(crate) fn latency(&self) -> Option<Duration> {
        self.latency
    }
}

/// The histories of peers. At its limit, that of the peer with the oldest event goes first.
#[derive(Debug, Default)]
pub(crate) struct Histories(LruMap<PeerId, History>);

impl Histories {
    fn touch(&mut self, peer: &PeerId) -> &mut History {
        if !self.0.contains_key(peer) {
            self.0.shrink_to(MAX_HISTORIES - 1);
        }
        self.0.touch_or_default(peer)
    }

    /// Records a connection.
    pub(crate) fn connected(&mut self, peer: &PeerId, now: Instant) {
        let history = self.touch(peer);
        history.change(Some(true), now);
        history.seen_at = Some(now);
    }

    /// Records the end of a connection.
    pub(crate) fn disconnected(&mut self, peer: &PeerId, now: Instant) {
        let history = self.touch(peer);
        history.change(None, now);
        history.seen_at = Some(now);
    }

    /// Records a failed dial.
    pub(crate) fn dial_failed(&mut self, peer: &PeerId, now: Instant) {
        let history = self.touch(peer);
        if history.since.is_none() {
            history.change(Some(false), now);
        }
    }

    /// Records a round trip time.
    pub(crate) fn measured(&mut self, peer: &PeerId, round_trip: Duration) {
        let latency = &mut self.touch(peer).latency;
        *latency = Some(match *latency {
            Some(known) => known.mul_f64(1.0 - NEW_SAMPLE) + round_trip.mul_f64(NEW_SAMPLE),
            None => round_trip,
        });
    }

    /// Returns the history of a peer.
    pub(crate) fn get(&self, peer: &PeerId) -> Option<&History> {
        self.0.get(peer)
    }

    /// Returns all histories, in the order of PeerIds.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerId, &History)> {
        self.0.range(..)
    }

    /// Returns the number of histories.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_counts_connections_and_the_time_after_failed_dials() {
        let (mut histories, peer, hour) = (Histories::default(), PeerId::random(), Duration::from_secs(3600));
        let uptime = |histories: &Histories, now| histories.get(&peer).expect("a history").uptime(now);
        histories.connected(&peer, Instant::ZERO);
        assert!((uptime(&histories, Instant::ZERO) - DEFAULT_UPTIME).abs() < 1e-9);
        let after = Instant::after_start(100 * hour);
        assert!(uptime(&histories, after) > 0.99);
        histories.disconnected(&peer, after);
        let later = after + 100 * hour;
        assert!(uptime(&histories, later) > 0.99, "the time without a connection does not count");
        histories.dial_failed(&peer, later);
        histories.dial_failed(&peer, later + 50 * hour);
        let end = later + 100 * hour;
        assert!((uptime(&histories, end) - 0.5).abs() < 0.01, "a failed dial begins the downtime");
        histories.connected(&peer, end);
        assert!(uptime(&histories, end + 100 * hour) > 0.6);
    }

    #[test]
    fn failed_dial_while_connected_is_no_downtime() {
        let (mut histories, peer) = (Histories::default(), PeerId::random());
        histories.connected(&peer, Instant::ZERO);
        histories.dial_failed(&peer, Instant::ZERO);
        assert!(histories.get(&peer).expect("a history").uptime(Instant::from_secs(3600)) > 0.9);
    }

    #[test]
    fn round_trip_time_is_smoothed() {
        let (mut histories, peer) = (Histories::default(), PeerId::random());
        histories.measured(&peer, Duration::from_millis(80));
        histories.measured(&peer, Duration::from_millis(160));
        assert_eq!(histories.get(&peer).and_then(History::latency), Some(Duration::from_millis(90)));
    }

    #[test]
    fn histories_are_bounded_and_the_oldest_goes_first() {
        let mut histories = Histories::default();
        let first = PeerId::random();
        histories.connected(&first, Instant::ZERO);
        (0..MAX_HISTORIES).for_each(|_| histories.connected(&PeerId::random(), Instant::ZERO));
        assert_eq!(histories.len(), MAX_HISTORIES);
        assert!(histories.get(&first).is_none());
    }
}
