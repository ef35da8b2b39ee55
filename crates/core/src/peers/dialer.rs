//! The dialer: selects agents to connect to, in addition to the bootstrap peers. Gossip needs
//! enough connections to survive the loss of some, and a topic spreads only along a chain of
//! subscribers, so each topic needs connected subscribers.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Instant;

use crate::backoff::{Backoff, Jitter};
use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::gate::Gate;
use crate::peers::Peers;
use crate::peers::candidate::Candidate;
use crate::peers::limits::MAX_CONNECTIONS;
use crate::peers::score::Scoring;
use crate::peers::table::Connection;

/// Number of connected subscribers that each of our topics should have: the lower bound of a
/// gossipsub mesh, and two more.
pub(super) const TOPIC_PEERS: usize = 6;
/// Number of agents among which each dial takes the one with the best score: our choice. If all nodes
/// dialled the best of all, they would all dial the same few, and the network would fall into clusters.
/// So the draw stays random: the better half gets 7 of 8 dials, and every agent gets some.
const CHOICES: usize = 3;
/// Interval between two selections.
const PERIOD: Duration = Duration::from_secs(1);
/// Interval between two selections while the node has enough connections. What may change that
/// begins a selection soon. Our choice.
const QUIET_PERIOD: Duration = Duration::from_secs(10);
/// Delay of the selection after a new agent or a new subscription, so that one selection serves a
/// group of them. Our choice: not noticeable for a person.
const DIAL_DEBOUNCE: Duration = Duration::from_millis(20);
/// Shortest interval between two selections, so that a flood of records costs no more: our choice,
/// five a second.
const MIN_DIAL_INTERVAL: Duration = Duration::from_millis(200);
/// Time after its admission within which a node of our network announces its subscriptions. Our choice:
/// a node sends them when it connects, so this leaves much time.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(5);
/// Largest number of peers whose subscriptions the node awaits.
pub(crate) const MAX_AWAITING_SUBSCRIPTIONS: usize = MAX_CONNECTIONS;
/// Largest number of remembered unreachable agents: our choice, more than are dialled during the
/// longest pause (5 a second for 60 s).
pub(crate) const MAX_BACKOFFS: usize = 1024;

/// The time at which the node may dial an unreachable peer again.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    backoff: Backoff,
    /// Number of short connections in a row. A single one may have a harmless reason.
    short_connections: u32,
}

impl Pause {
    /// Returns `true` if the node may dial the peer.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.backoff.ready(now)
    }

    /// Returns the time at which the pause ends.
    pub(super) fn ends_at(&self) -> Instant {
        self.backoff.not_before()
    }

    /// Records a failed dial or, with the shortest pause after it, a short connection.
    pub(super) fn fail(&mut self, after_short: Option<Duration>, now: Instant, jitter: &mut Jitter) {
        self.short_connections = match after_short {
            // A peer that does not admit this node does so again.
            Some(floor) if floor > Duration::ZERO => self.short_connections.saturating_add(2),
            Some(_) => self.short_connections.saturating_add(1),
            None => 0,
        };
        self.backoff.fail(now, after_short.unwrap_or_default().max(PERIOD), jitter);
    }
}

/// The schedule of dials to agents' nodes.
#[derive(Debug, Default)]
pub(crate) struct Dialer {
    next: Instant,
    last: Instant,
    /// Start of the current period, and the number of dials in it.
    dials: (Instant, usize),
    /// Peers whose subscriptions the node awaits, with the deadline of each.
    awaiting_subscriptions: VecDeque<(Instant, PeerId)>,
}

impl Dialer {
    /// Returns the number of dials that the current period permits.
    fn budget(&mut self, dials_per_second: u32, now: Instant) -> usize {
        if now >= self.dials.0 + PERIOD {
            self.dials = (now, 0);
        }
        (dials_per_second as usize).saturating_sub(self.dials.1)
    }

    pub(crate) fn awaiting_subscriptions(&self) -> usize {
        self.awaiting_subscriptions.len()
    }
}

impl Peers {
    /// Returns `true` if a dial to this node failed, or its last connection was short, and the
    /// pause still lasts.
    pub(crate) fn is_unreachable(&self, peer: &PeerId, now: Instant) -> bool {
        self.table.pause(peer).is_some_and(|pause| !pause.is_over(now))
    }

    /// Returns the end of the pause for a node with several short connections in a row. Frames sent
    /// to such a node would be lost again.
    pub(crate) fn short_connections_until(&self, peer: &PeerId, now: Instant) -> Option<Instant> {
        let pause = self.table.pause(peer).filter(|pause| pause.short_connections > 1)?;
        Some(pause.backoff.not_before()).filter(|until| *until > now)
    }

    /// Starts to await the subscriptions of a node that this node has admitted. Every node subscribes to
    /// the node topics at once.
    pub(crate) fn await_subscriptions(&mut self, peer: PeerId, cx: &Cx) {
        let awaiting = &mut self.dialer.awaiting_subscriptions;
        let is_awaited = awaiting.iter().any(|(_, awaited)| *awaited == peer);
        if !is_awaited && awaiting.len() < MAX_AWAITING_SUBSCRIPTIONS {
            awaiting.push_back((cx.now.mono + SUBSCRIBE_WITHIN, peer));
        }
    }

    /// Disconnects peers that announced no subscriptions. If a peer notices the new connection
    /// before the end of an earlier one, its gossipsub assumes that the subscriptions are
    /// announced. Only another new connection makes gossipsub announce them again.
    pub(crate) fn disconnect_unsubscribed_peers(&mut self, cx: &mut Cx) {
        let now = cx.now;
        while let Some((due, peer)) = self.dialer.awaiting_subscriptions.front().copied()
            && due <= now.mono
        {
            self.dialer.awaiting_subscriptions.pop_front();
            let silent = |known: &&Connection| known.topics.is_empty();
            match self.table.connection(&peer).filter(silent).map(|known| known.connected_at) {
                Some(connected_at) if connected_at + SUBSCRIBE_WITHIN <= now.mono => {
                    cx.stats.count(Counter::PeersWithoutTopics);
                    cx.network(NetworkCommand::Disconnect { peer });
                }
                // A new connection began meanwhile.
                Some(_) => self.await_subscriptions(peer, cx),
                None => {}
            }
        }
    }

    pub(crate) fn subscriptions_deadline(&self) -> Option<Instant> {
        self.dialer.awaiting_subscriptions.front().map(|(due, _)| *due)
    }

    /// Schedules a selection soon, because a new agent or a new subscription may need a connection.
    pub(crate) fn connect_soon(&mut self, cx: &Cx) {
        let now = cx.now;
        let soon = (now.mono + DIAL_DEBOUNCE).max(self.dialer.last + MIN_DIAL_INTERVAL);
        self.dialer.next = self.dialer.next.min(soon);
    }

    pub(crate) fn selection_deadline(&self, directory: &Directory, cx: &Cx) -> Option<Instant> {
        (cx.identity.role != Role::Bootstrap && directory.records.len() > self.table.connections_len())
            .then_some(self.dialer.next)
    }

    /// Schedules a selection after the directory stored a record, because the node may dial its
    /// agent. Answers the peers that asked for the agent.
    pub(crate) fn on_record(
        &mut self,
        record: &SignedRecord,
        has_new_content: bool,
        gate: &Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        self.answer_forwarded(&record.address(), directory, cx);
        self.refuse_banned_agent(record.peer_id(), &record.address(), gate, cx);
        if has_new_content {
            self.table.end_pause(record.peer_id());
        }
        self.connect_soon(cx);
    }

    /// Returns the addresses of a record that the dialer may dial now. Of an agent that this node never met, somebody else may have chosen the addresses, so those in a subnet in
    /// which dials failed have to wait.
    fn dialable<'a>(
        &'a self,
        record: &'a SignedRecord,
        directory: &Directory,
        cx: &Cx,
    ) -> impl Iterator<Item = &'a Multiaddr> {
        let (identity, now) = (&cx.identity, cx.now.mono);
        let is_met = directory.records.is_met(&record.address());
        let permits = move |addr: &Multiaddr| is_met || self.subnet_pauses.permits(addr, now);
        record.record.addrs.iter().filter(move |addr| identity.may_dial(addr) && permits(addr))
    }

    /// Records a failed dial to the addresses of an agent that this node never met.
    pub(super) fn record_failed_hearsay(&mut self, peer: &PeerId, directory: &Directory, cx: &mut Cx) {
        let Some(record) = directory.records.by_peer(peer, cx.now.unix_ms) else { return };
        if !directory.records.is_met(&record.address()) {
            let dialled = record.record.addrs.iter().filter(|addr| cx.identity.may_dial(addr));
            self.subnet_pauses.failed(dialled, cx.now.mono, &mut cx.jitter);
        }
    }

    /// Records a failed dial to an agent's node or, with the shortest pause after it, a short connection.
    pub(crate) fn record_dial_failure(&mut self, peer: PeerId, after_short: Option<Duration>, cx: &mut Cx) {
        let now = cx.now.mono;
        self.table.update_pause(peer, now, |pause| pause.fail(after_short, now, &mut cx.jitter));
    }

    /// Returns `true` if a topic has fewer connected subscribers than it should have, and known
    /// subscribers may still be dialled.
    pub(crate) fn lacks_subscribers(&self, topic: &str, directory: &Directory, cx: &Cx) -> bool {
        let now = cx.now;
        let subscribes =
            |peer: &PeerId| self.table.connection(peer).is_some_and(|known| known.topics.contains(topic));
        let is_missing = |record: &&SignedRecord| {
            let peer = record.peer_id();
            let reachable = self.dialable(record, directory, cx).next().is_some()
                && !self.is_unreachable(&peer, now.mono);
            record.record.has_topic(topic) && reachable && !subscribes(&peer)
        };
        self.subscribers(topic) < self.wanted_subscribers()
            && directory.records.iter(now.unix_ms).any(|record| is_missing(&record))
    }

    /// Selects agents and dials them, when a selection is due. `topics` returns the topics that
    /// need connected subscribers. A bootstrap node does not dial agents; they connect to it.
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
        let own_topics = lacking.clone();
        lacking.retain(|topic| self.subscribers(topic) < self.wanted_subscribers());
        let missing = self.limits.min.saturating_sub(self.table.connections_len());
        let few = missing > 0;
        if !few && lacking.is_empty() {
            self.dialer.next = now.mono + QUIET_PERIOD;
            return;
        }
        let mut budget = self.dialer.budget(self.limits.dials_per_second, now.mono);
        if lacking.is_empty() {
            // The others dial as well, so each dial saves another node one.
            budget = budget.min(missing.div_ceil(2).saturating_sub(self.table.pending_dials_len()).max(1));
        }
        let may_be_dialled = |record: &SignedRecord| {
            let peer = record.peer_id();
            let ready = self.table.is_down(&peer)
                && !self.is_unreachable(&peer, now.mono)
                && (few || !self.trimmer.is_trimmed(&peer, now.mono));
            ready && self.dialable(record, directory, cx).next().is_some()
        };
        let is_wanted = |record: &SignedRecord| {
            few || record.record.topics.iter().any(|topic| lacking.contains(topic))
                || !record.record.topic_hashes.is_empty()
                    && lacking.iter().any(|topic| record.record.has_topic(topic))
        };
        let agents =
            directory.records.iter(now.unix_ms).filter(|record| may_be_dialled(record) && is_wanted(record));
        let mut agents: Vec<&SignedRecord> = agents.collect();
        let mut chosen: Vec<Candidate> = Vec::new();
        let scoring = Scoring::new(self, &own_topics, now);
        for _ in 0..budget.min(agents.len()) {
            let record = draw(&mut agents, &scoring, &mut cx.jitter);
            let addrs = self.dialable(record, directory, cx).cloned().collect();
            chosen.push(Candidate { addrs, ..Candidate::from(record) });
        }
        self.dialer.dials.1 += chosen.len();
        for candidate in chosen {
            self.dial(candidate, cx);
        }
    }
}

/// Draws an agent at random and looks at others at equal distances from it. Removes the one with the best
/// score, of equal ones the drawn one. The directory is ordered by address, so the others are random too.
fn draw<'a>(
    agents: &mut Vec<&'a SignedRecord>,
    scoring: &Scoring<'_>,
    jitter: &mut Jitter,
) -> &'a SignedRecord {
    let drawn = jitter.index(agents.len());
    let (mut best, mut best_score) = (drawn, scoring.of_candidate(agents[drawn]));
    for choice in 1..CHOICES {
        let other = (drawn + choice * agents.len() / CHOICES) % agents.len();
        let score = scoring.of_candidate(agents[other]);
        if score > best_score {
            (best, best_score) = (other, score);
        }
    }
    agents.swap_remove(best)
}

#[cfg(test)]
mod tests;
