//! The dialer: selects agents to connect to, in addition to the bootstrap peers. Gossip needs
//! enough connections to survive the loss of some, and a topic spreads only along a chain of
//! subscribers, so each topic needs connected subscribers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Instant;

use crate::backoff::Backoff;
use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::lifecycle::Peer;
use crate::peers::Peers;
use crate::peers::candidate::Candidate;

/// Number of connections that an agent's node seeks, from the TOS document (minimum number of
/// peers).
const MIN_PEERS: usize = 8;
/// Number of connected subscribers that each of our topics should have: the lower bound of a
/// gossipsub mesh, and two more.
const TOPIC_PEERS: usize = 6;
/// Largest number of dials in one period, from the CHORUS node package (5 dials a second).
const DIALS_PER_PERIOD: usize = 5;
/// Interval between two selections.
const PERIOD: Duration = Duration::from_secs(1);
/// Delay of the selection after a new agent or a new subscription, so that one selection serves a
/// group of them. Our choice: not noticeable for a person.
const SOON: Duration = Duration::from_millis(20);
/// Shortest interval between two selections, so that a flood of records costs no more: our choice,
/// five a second.
const LEAST_PAUSE: Duration = Duration::from_millis(200);
/// Time after its hello within which a node of our network announces its subscriptions. Our choice:
/// a node sends them when it connects, so this leaves much time.
const TOPICS_WITHIN: Duration = Duration::from_secs(5);
/// Largest number of peers whose subscriptions the node awaits: the connections of a bootstrap
/// node.
pub(crate) const MAX_EXPECTED: usize = 1000;
/// Largest number of remembered unreachable agents: our choice, more than are dialled during the
/// longest pause (5 a second for 60 s).
pub(crate) const MAX_BACKOFFS: usize = 1024;

/// The time at which an unreachable node may be dialled again.
#[derive(Debug, Default)]
struct Pause {
    backoff: Backoff,
    /// Number of short connections in a row. A single one may have a harmless reason.
    hang_ups: u32,
}

/// The schedule of dials to agents' nodes.
#[derive(Debug, Default)]
pub(crate) struct Dialer {
    next: Instant,
    last: Instant,
    /// Start of the current period, and the number of dials in it.
    dials: (Instant, usize),
    backoffs: BTreeMap<PeerId, Pause>,
    /// Peers whose subscriptions the node awaits, with the deadline of each.
    expected: VecDeque<(Instant, PeerId)>,
}

impl Dialer {
    /// Returns `true` if a dial to this node failed, or its last connection was short, and the
    /// pause still lasts.
    pub(crate) fn is_unreachable(&self, peer: &PeerId, now: Instant) -> bool {
        self.backoffs.get(peer).is_some_and(|pause| !pause.backoff.ready(now))
    }

    /// Returns the end of the pause for a node with several short connections in a row. Frames sent
    /// to such a node would be lost again.
    pub(crate) fn hung_up_until(&self, peer: &PeerId, now: Instant) -> Option<Instant> {
        let pause = self.backoffs.get(peer).filter(|pause| pause.hang_ups > 1)?;
        Some(pause.backoff.not_before()).filter(|until| *until > now)
    }

    /// Returns the number of dials that the current period permits.
    fn budget(&mut self, now: Instant) -> usize {
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

impl Peers {
    /// Expects subscriptions from a node of our network that sent its hello. Every node subscribes
    /// to the nodes' topics at once.
    pub(crate) fn expect_topics(&mut self, peer: PeerId, cx: &Cx) {
        let now = cx.now;
        if self.dialer.expected.len() < MAX_EXPECTED {
            self.dialer.expected.push_back((now.mono + TOPICS_WITHIN, peer));
        }
    }

    /// Disconnects peers that announced no subscriptions. A peer that saw this connection begin
    /// before it saw an earlier one end assumes that it has announced them already. Only a new
    /// connection makes its gossipsub announce them again.
    pub(crate) fn disconnect_unsubscribed_peers(&mut self, cx: &mut Cx) {
        let now = cx.now;
        while let Some((due, peer)) = self.dialer.expected.front().copied()
            && due <= now.mono
        {
            self.dialer.expected.pop_front();
            let silent =
                |known: &Peer| known.topics.is_empty() && known.connected_at + TOPICS_WITHIN <= now.mono;
            if self.connected.get(&peer).is_some_and(silent) {
                cx.stats.count(Counter::PeersWithoutTopics);
                cx.network(NetworkCommand::Disconnect { peer });
            }
        }
    }

    pub(crate) fn silence_deadline(&self) -> Option<Instant> {
        self.dialer.expected.front().map(|(due, _)| *due)
    }

    /// Schedules a selection soon, because a new agent or a new subscription may need a connection.
    pub(crate) fn connect_soon(&mut self, cx: &Cx) {
        let now = cx.now;
        let soon = (now.mono + SOON).max(self.dialer.last + LEAST_PAUSE);
        self.dialer.next = self.dialer.next.min(soon);
    }

    pub(crate) fn connecting_deadline(&self, directory: &Directory, cx: &Cx) -> Option<Instant> {
        (cx.identity.role != Role::Bootstrap && directory.records.len() > self.connected.len())
            .then_some(self.dialer.next)
    }

    /// Takes note of a stored record: its agent may be dialled.
    pub(crate) fn on_record(&mut self, record: &SignedRecord, is_news: bool, cx: &Cx) {
        if is_news {
            self.note_reachable(&record.peer_id());
        }
        self.connect_soon(cx);
    }

    /// Records a failed dial to an agent's node, or a short connection.
    pub(crate) fn note_unreachable(&mut self, peer: PeerId, hung_up: bool, cx: &mut Cx) {
        let now = cx.now;
        if self.dialer.backoffs.len() >= MAX_BACKOFFS {
            self.dialer.backoffs.retain(|_, pause| !pause.backoff.ready(now.mono));
        }
        if self.dialer.backoffs.len() < MAX_BACKOFFS {
            let pause = self.dialer.backoffs.entry(peer).or_default();
            pause.hang_ups = if hung_up { pause.hang_ups.saturating_add(1) } else { 0 };
            pause.backoff.fail(now.mono, PERIOD, &mut cx.jitter);
        }
    }

    /// Ends the pause for an agent's node, after a long connection or because the agent moved.
    pub(crate) fn note_reachable(&mut self, peer: &PeerId) {
        self.dialer.backoffs.remove(peer);
    }

    /// Returns `true` if a topic has fewer connected subscribers than it should have, and known
    /// subscribers may still be dialled.
    pub(crate) fn misses_subscribers(&self, topic: &str, directory: &Directory, cx: &Cx) -> bool {
        let now = cx.now;
        let hears =
            |peer: &PeerId| self.connected.get(peer).is_some_and(|known| known.topics.contains(topic));
        let is_missing = |record: &&SignedRecord| {
            let peer = record.peer_id();
            let reachable = !record.record.addrs.is_empty() && !self.dialer.is_unreachable(&peer, now.mono);
            record.record.topics.iter().any(|theirs| theirs == topic) && reachable && !hears(&peer)
        };
        self.subscribers(topic) < TOPIC_PEERS
            && directory.records.iter(now.unix_ms).any(|record| is_missing(&record))
    }

    /// Selects agents and dials them, when it is time. `topics` returns the topics that need
    /// connected subscribers. A bootstrap node does not dial agents; they connect to it.
    pub(crate) fn select_peers_to_dial(
        &mut self,
        topics: impl FnOnce() -> BTreeSet<String>,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        if cx.identity.role == Role::Bootstrap || now.mono < self.dialer.next {
            return;
        }
        self.dialer.next = now.mono + PERIOD;
        self.dialer.last = now.mono;
        let mut lacking = topics();
        lacking.retain(|topic| self.subscribers(topic) < TOPIC_PEERS);
        let few = self.connected.len() < MIN_PEERS;
        let budget = self.dialer.budget(now.mono);
        if !few && lacking.is_empty() || budget == 0 {
            return;
        }
        let backoffs = &self.dialer.backoffs;
        let may_be_dialled = |record: &SignedRecord| {
            let peer = record.peer_id();
            let free = !self.connected.contains_key(&peer) && !self.dialing.contains(&peer);
            let ready = backoffs.get(&peer).is_none_or(|pause| pause.backoff.ready(now.mono));
            free && ready && !record.record.addrs.is_empty()
        };
        let is_wanted =
            |record: &SignedRecord| few || record.record.topics.iter().any(|topic| lacking.contains(topic));
        let agents =
            directory.records.iter(now.unix_ms).filter(|record| may_be_dialled(record) && is_wanted(record));
        let mut agents: Vec<&SignedRecord> = agents.collect();
        let mut chosen: Vec<Candidate> = Vec::new();
        // The directory is ordered by address. A random choice spreads the connections over all
        // agents.
        for _ in 0..budget.min(agents.len()) {
            let agent = agents.swap_remove(cx.jitter.below(agents.len()));
            chosen.push(Candidate::from(agent));
        }
        self.dialer.dials.1 += chosen.len();
        for candidate in chosen {
            self.dial(candidate, cx);
        }
    }
}
