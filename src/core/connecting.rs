//! Whom we connect to beyond the bootstrap peers: enough agents that gossip does not hang on few, and those who share
//! our topics, for a topic is heard only along a chain of nodes that all subscribe to it.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use p2p_node_protocol::Role;

use super::Core;
use super::input::Now;
use super::policy::retry::Backoff;

/// Connections that an agent's node seeks (TOS: least number of peers).
const MIN_PEERS: usize = 8;
/// Connected subscribers that each of our topics should have (gossipsub: the lower bound of a mesh, and two more).
const TOPIC_PEERS: usize = 6;
/// Dials for this reason in one period (CHORUS: dials per second).
const DIALS_PER_PERIOD: usize = 5;
/// How often it is looked into.
const PERIOD: Duration = Duration::from_secs(1);
/// After an agent became known or a topic ours, it is looked into so soon.
const SOON: Duration = Duration::from_millis(20);
/// Unreachable agents that are remembered. Ours: more than are dialled in the longest pause.
pub(super) const MAX_BACKOFFS: usize = 1024;

/// When agents are dialled.
#[derive(Debug, Default)]
pub(super) struct Connecting {
    next: Duration,
    backoffs: BTreeMap<PeerId, Backoff>,
}

impl Connecting {
    pub(super) fn backoffs(&self) -> usize {
        self.backoffs.len()
    }
}

impl Core {
    /// Somebody new is known, or something new is wanted.
    pub(super) fn connect_soon(&mut self, now: Now) {
        self.connecting.next = self.connecting.next.min(now.mono + SOON);
    }

    pub(super) fn connecting_deadline(&self) -> Option<Duration> {
        (self.me.role != Role::Bootstrap && self.book.len() > self.peers.len())
            .then_some(self.connecting.next)
    }

    /// An agent's node could not be dialled.
    pub(super) fn note_unreachable(&mut self, peer: PeerId, now: Now) {
        if self.connecting.backoffs.len() >= MAX_BACKOFFS {
            self.connecting.backoffs.retain(|_, backoff| !backoff.ready(now.mono));
        }
        if self.connecting.backoffs.len() < MAX_BACKOFFS {
            let backoff = self.connecting.backoffs.entry(peer).or_default();
            backoff.fail(now.mono, PERIOD, &mut self.jitter);
        }
    }

    /// An agent's node was reached, or is somewhere else now.
    pub(super) fn note_reachable(&mut self, peer: &PeerId) {
        self.connecting.backoffs.remove(peer);
    }

    /// Dials agents that are missing. Bootstrap nodes wait for those who come.
    pub(super) fn keep_connected(&mut self, now: Now) {
        if self.me.role == Role::Bootstrap || now.mono < self.connecting.next {
            return;
        }
        self.connecting.next = now.mono + PERIOD;
        let mut lacking: Vec<String> = self.subscribed.iter().cloned().collect();
        lacking.extend(self.topics.topics_with_work().into_iter().map(|(topic, _)| topic));
        lacking.retain(|topic| self.subscribers(topic) < TOPIC_PEERS);
        let few = self.peers.len() < MIN_PEERS;
        if !few && lacking.is_empty() {
            return;
        }
        let mut wanted: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
        for record in self.book.iter(now.unix_ms) {
            let peer = record.peer_id();
            let shares_topic = lacking.iter().any(|topic| record.record.topics.contains(topic));
            let free = !self.peers.contains_key(&peer) && !self.dialing.contains(&peer);
            let ready = self.connecting.backoffs.get(&peer).is_none_or(|backoff| backoff.ready(now.mono));
            if (few || shares_topic) && free && ready && !record.record.addrs.is_empty() {
                wanted.push((peer, record.record.addrs.clone()));
            }
        }
        // The directory is ordered by address; everybody dialling its head would leave the tail alone.
        for _ in 0..DIALS_PER_PERIOD.min(wanted.len()) {
            let index = self.jitter.below(wanted.len());
            let (peer, addrs) = wanted.swap_remove(index);
            self.dial(peer, addrs);
        }
    }
}
