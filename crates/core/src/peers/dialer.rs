//! Whom we connect to beyond the bootstrap peers: enough agents that gossip does not hang on few, and those who share
//! our topics, for a topic is heard only along a chain of nodes that all subscribe to it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Counter;
use p2p_node_protocol::Role;

use crate::backoff::Backoff;
use crate::effect::NetworkCommand;
use crate::input::Now;
use crate::{Core, Peer};
use p2p_node_wire::record::SignedRecord;

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
/// However much is new, it is looked into no more often, so that a flood of records costs no more than this. Ours.
const LEAST_PAUSE: Duration = Duration::from_millis(200);
/// Subscriptions of a node of ours come within this after it has introduced itself. Ours: they are sent when it connects.
const TOPICS_WITHIN: Duration = Duration::from_secs(5);
/// Peers whose subscriptions are waited for. Ours: as many as a bootstrap node has connections.
pub(crate) const MAX_EXPECTED: usize = 1000;
/// Unreachable agents that are remembered. Ours: more than are dialled in the longest pause.
pub(crate) const MAX_BACKOFFS: usize = 1024;

/// When an agent's node that was not reached may be dialled again.
#[derive(Debug, Default)]
struct Pause {
    backoff: Backoff,
    /// How often in a row it let us in and hung up. Once may happen to anybody.
    hang_ups: u32,
}

/// When agents are dialled.
#[derive(Debug, Default)]
pub(crate) struct Dialer {
    next: Duration,
    last: Duration,
    /// Dials in the period that began then.
    dials: (Duration, usize),
    backoffs: BTreeMap<PeerId, Pause>,
    /// Peers whose subscriptions must have come by then.
    expected: VecDeque<(Duration, PeerId)>,
}

impl Dialer {
    /// Whether an agent's node could not be dialled, or hung up at once, a moment ago.
    pub(crate) fn is_unreachable(&self, peer: &PeerId, now: Duration) -> bool {
        self.backoffs.get(peer).is_some_and(|pause| !pause.backoff.ready(now))
    }

    /// When an agent's node may be dialled that lets us in and hangs up: whatever there is to be sent would be lost again.
    pub(crate) fn hung_up_until(&self, peer: &PeerId, now: Duration) -> Option<Duration> {
        let pause = self.backoffs.get(peer).filter(|pause| pause.hang_ups > 1)?;
        Some(pause.backoff.not_before()).filter(|until| *until > now)
    }

    /// Dials that are left in this period.
    fn budget(&mut self, now: Duration) -> usize {
        if now >= self.dials.0 + PERIOD {
            self.dials = (now, 0);
        }
        DIALS_PER_PERIOD.saturating_sub(self.dials.1)
    }

    pub(crate) fn expected(&self) -> usize {
        self.expected.len()
    }

    pub(crate) fn backoffs(&self) -> usize {
        self.backoffs.len()
    }
}

impl Core {
    /// A node of ours has introduced itself: it subscribes to the nodes' topics, and tells so at once.
    pub(crate) fn expect_topics(&mut self, peer: PeerId, now: Now) {
        if self.peers.dialer.expected.len() < MAX_EXPECTED {
            self.peers.dialer.expected.push_back((now.mono + TOPICS_WITHIN, peer));
        }
    }

    /// Ends connections through which no subscription came. A peer that saw it begin before it saw an earlier one end believes that
    /// it has told us already, and only a new connection makes gossipsub tell again.
    pub(crate) fn disconnect_unsubscribed_peers(&mut self, now: Now) {
        while let Some((due, peer)) = self.peers.dialer.expected.front().copied()
            && due <= now.mono
        {
            self.peers.dialer.expected.pop_front();
            let silent =
                |known: &Peer| known.topics.is_empty() && known.connected_at + TOPICS_WITHIN <= now.mono;
            if self.peers.connected.get(&peer).is_some_and(silent) {
                self.cx.stats.count(Counter::PeersWithoutTopics);
                self.network(NetworkCommand::Disconnect { peer });
            }
        }
    }

    pub(crate) fn silence_deadline(&self) -> Option<Duration> {
        self.peers.dialer.expected.front().map(|(due, _)| *due)
    }

    /// Somebody new is known, or something new is wanted.
    pub(crate) fn connect_soon(&mut self, now: Now) {
        let soon = (now.mono + SOON).max(self.peers.dialer.last + LEAST_PAUSE);
        self.peers.dialer.next = self.peers.dialer.next.min(soon);
    }

    pub(crate) fn connecting_deadline(&self) -> Option<Duration> {
        (self.local.identity.role != Role::Bootstrap
            && self.directory.records.len() > self.peers.connected.len())
        .then_some(self.peers.dialer.next)
    }

    /// An agent's node could not be dialled, or let us in and hung up.
    pub(crate) fn note_unreachable(&mut self, peer: PeerId, hung_up: bool, now: Now) {
        if self.peers.dialer.backoffs.len() >= MAX_BACKOFFS {
            self.peers.dialer.backoffs.retain(|_, pause| !pause.backoff.ready(now.mono));
        }
        if self.peers.dialer.backoffs.len() < MAX_BACKOFFS {
            let pause = self.peers.dialer.backoffs.entry(peer).or_default();
            pause.hang_ups = if hung_up { pause.hang_ups.saturating_add(1) } else { 0 };
            pause.backoff.fail(now.mono, PERIOD, &mut self.cx.jitter);
        }
    }

    /// An agent's node was reached for a while, or is somewhere else now.
    pub(crate) fn note_reachable(&mut self, peer: &PeerId) {
        self.peers.dialer.backoffs.remove(peer);
    }

    /// Whether known agents that subscribe to a topic are not connected, though they may be, and fewer are than the topic should have.
    pub(crate) fn misses_subscribers(&self, topic: &str, now: Now) -> bool {
        let hears =
            |peer: &PeerId| self.peers.connected.get(peer).is_some_and(|known| known.topics.contains(topic));
        let is_missing = |record: &&SignedRecord| {
            let peer = record.peer_id();
            let reachable =
                !record.record.addrs.is_empty() && !self.peers.dialer.is_unreachable(&peer, now.mono);
            record.record.topics.iter().any(|theirs| theirs == topic) && reachable && !hears(&peer)
        };
        self.subscribers(topic) < TOPIC_PEERS
            && self.directory.records.iter(now.unix_ms).any(|record| is_missing(&record))
    }

    /// Dials agents that are missing. Bootstrap nodes wait for those who come.
    pub(crate) fn select_peers_to_dial(&mut self, now: Now) {
        if self.local.identity.role == Role::Bootstrap || now.mono < self.peers.dialer.next {
            return;
        }
        self.peers.dialer.next = now.mono + PERIOD;
        self.peers.dialer.last = now.mono;
        let mut lacking = self.gossip.subscribed.clone();
        lacking.extend(self.gossip.broadcasts.topics_with_work().into_iter().map(|(topic, _)| topic));
        lacking.retain(|topic| self.subscribers(topic) < TOPIC_PEERS);
        let few = self.peers.connected.len() < MIN_PEERS;
        let budget = self.peers.dialer.budget(now.mono);
        if !few && lacking.is_empty() || budget == 0 {
            return;
        }
        let backoffs = &self.peers.dialer.backoffs;
        let may_be_dialled = |record: &SignedRecord| {
            let peer = record.peer_id();
            let free = !self.peers.connected.contains_key(&peer) && !self.peers.dialing.contains(&peer);
            let ready = backoffs.get(&peer).is_none_or(|pause| pause.backoff.ready(now.mono));
            free && ready && !record.record.addrs.is_empty()
        };
        let is_wanted =
            |record: &SignedRecord| few || record.record.topics.iter().any(|topic| lacking.contains(topic));
        let agents = self
            .directory
            .records
            .iter(now.unix_ms)
            .filter(|record| may_be_dialled(record) && is_wanted(record));
        let mut agents: Vec<&SignedRecord> = agents.collect();
        let mut chosen: Vec<(PeerId, Vec<Multiaddr>)> = Vec::new();
        // The directory is ordered by address; everybody dialling its head would leave the tail alone.
        for _ in 0..budget.min(agents.len()) {
            let agent = agents.swap_remove(self.cx.jitter.below(agents.len()));
            chosen.push((agent.peer_id(), agent.record.addrs.clone()));
        }
        self.peers.dialer.dials.1 += chosen.len();
        for (peer, addrs) in chosen {
            self.dial(peer, addrs);
        }
    }
}
