//! The trimmer: closes connections when the node has too many, those of the least value first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, KeptFor, Level};
use p2p_node_wire::time::Instant;
use serde_json::json;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::gate::Gate;
use crate::gate::access_list::AccessRule;
use crate::peers::Peers;
use crate::peers::dialer::{MAX_BACKOFFS, TOPIC_PEERS};
use crate::peers::score::Scoring;
use crate::peers::table::Connection;

/// Share of the surplus above the low watermark that one check closes: our choice, a quarter. If all
/// nodes of a network trimmed at the same time down to the low watermark, a connection would stay only
/// if neither end chose it, and many nodes would lose nearly all. In small steps each node sees what
/// the others have closed.
const STEP: usize = 4;
/// Interval of the checks while the node has too many connections. Our choice: each check sees what
/// the last one of the peers has closed.
const INTERVAL: Duration = Duration::from_secs(10);
/// Time for which the dialer does not select a trimmed peer, and for which the peer gets no grace when
/// it returns: our choice, 30 checks. Without grace the new connection is short, so the pauses between
/// the dials of the peer grow.
const PAUSE: Duration = Duration::from_secs(300);
/// Largest number of remembered trimmed peers, as many as pauses.
pub(crate) const MAX_TRIMMED: usize = MAX_BACKOFFS;
/// Number of connected subscribers without which gossip on a topic cannot repair its mesh: the lower
/// bound of our gossipsub mesh.
const MESH_LOW: usize = 4;
/// Number of DHT servers that the node keeps, the oldest ones: our choice, as many peers as the node
/// seeks.
const SERVERS: usize = 8;
/// Scores that differ by less count as equal; then the time since the last use decides. Our choice:
/// less than the bonus of a sought capability.
const SCORE_STEP: f64 = 8.0;

/// What the components above need connections for.
pub(crate) trait Needs {
    /// Returns the topics that need connected subscribers.
    fn topics(&self) -> BTreeSet<String>;
    /// Returns `true` if messages to this agent wait or are in flight, or messages from it wait for an
    /// acknowledgement.
    fn has_mail(&self, agent: &Address) -> bool;
}

/// When the trimmer checked last, and whom it trimmed.
#[derive(Debug, Default)]
pub(crate) struct Trimmer {
    last: Option<Instant>,
    /// `true` from the high watermark down to the low one.
    is_active: bool,
    /// The trimmed peers, with the end of the pause of each.
    trimmed: BTreeMap<PeerId, Instant>,
}

impl Trimmer {
    /// Returns `true` if the node trimmed the peer a short time ago.
    pub(crate) fn is_trimmed(&self, peer: &PeerId, now: Instant) -> bool {
        self.trimmed.get(peer).is_some_and(|until| now < *until)
    }

    /// Forgets that the node trimmed a peer, because it needs the peer now.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.trimmed.remove(peer);
    }

    /// Returns the number of remembered trimmed peers.
    pub(crate) fn len(&self) -> usize {
        self.trimmed.len()
    }

    /// Remembers a trimmed peer. At the limit, the one whose pause ends first goes.
    fn remember(&mut self, peer: PeerId, now: Instant) {
        if self.trimmed.len() >= MAX_TRIMMED
            && let Some(first) = self.trimmed.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer)
        {
            self.trimmed.remove(&first);
        }
        self.trimmed.insert(peer, now + PAUSE);
    }
}

/// The reasons for which the node keeps connections, at one time.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    peers: &'a Peers,
    gate: &'a Gate,
    directory: &'a Directory,
    /// The topics of this agent, with the number of connected subscribers of each.
    subscribers: BTreeMap<&'a String, usize>,
    servers: BTreeSet<PeerId>,
}

impl<'a> Kept<'a> {
    /// Prepares the reasons. `topics` are those of this agent.
    pub(crate) fn new(
        peers: &'a Peers,
        topics: &'a BTreeSet<String>,
        gate: &'a Gate,
        directory: &'a Directory,
    ) -> Self {
        let mut subscribers: BTreeMap<&String, usize> = topics.iter().map(|topic| (topic, 0)).collect();
        let mut servers: Vec<(Instant, PeerId)> = Vec::new();
        for (peer, connection) in peers.table.connections().filter(|(_, known)| known.agent.is_some()) {
            for topic in &connection.topics {
                if let Some(number) = subscribers.get_mut(topic) {
                    *number += 1;
                }
            }
            if peers.table.is_dht_server(peer) {
                servers.push((connection.connected_at, *peer));
            }
        }
        servers.sort_unstable();
        let servers = servers.into_iter().take(SERVERS).map(|(_, peer)| peer).collect();
        Kept { peers, gate, directory, subscribers, servers }
    }

    /// Returns `true` if one of the topics would lack subscribers without the peer.
    fn has_thin_topic(&self, connection: &Connection) -> bool {
        let wanted = self.peers.wanted_subscribers();
        let is_thin = |topic| self.subscribers.get(topic).is_some_and(|number| *number <= wanted);
        connection.agent.is_some() && connection.topics.iter().any(is_thin)
    }

    /// Counts a peer no more, because the node closes its connection.
    fn remove(&mut self, connection: &Connection) {
        if connection.agent.is_none() {
            return;
        }
        for topic in &connection.topics {
            if let Some(number) = self.subscribers.get_mut(topic) {
                *number -= 1;
            }
        }
    }

    /// Returns the reasons for which the node keeps a connection.
    pub(crate) fn reasons(
        &self,
        peer: &PeerId,
        connection: &Connection,
        has_mail: impl Fn(&Address) -> bool,
        now: crate::input::Now,
    ) -> Vec<KeptFor> {
        let agent = self.directory.records.by_peer(peer, now.unix_ms).map(|record| record.address());
        let allowed =
            || self.gate.access_list.of(&agent.unwrap_or_default(), peer) == Some(AccessRule::Allowed);
        let grace = self.peers.limits.grace;
        let is_young =
            || connection.connected_at + grace > now.mono && !self.peers.trimmer.is_trimmed(peer, now.mono);
        let checks: [(KeptFor, &dyn Fn() -> bool); 9] = [
            (KeptFor::Bootstrap, &|| self.peers.table.is_bootstrap(peer)),
            (KeptFor::Anchor, &|| self.peers.book.is_anchor(peer)),
            (KeptFor::Relay, &|| self.peers.relays.uses(peer)),
            (KeptFor::Reservation, &|| connection.reservations > 0),
            (KeptFor::Server, &|| self.servers.contains(peer)),
            (KeptFor::Mail, &|| agent.is_some_and(|agent| has_mail(&agent))),
            (KeptFor::Topic, &|| self.has_thin_topic(connection)),
            (KeptFor::Allowed, &allowed),
            (KeptFor::Young, &is_young),
        ];
        checks.iter().filter(|(_, applies)| applies()).map(|(reason, _)| *reason).collect()
    }
}

impl Peers {
    /// Returns the number of connected subscribers that each of our topics should have. From the
    /// target on, the node is content with what gossip cannot do without.
    pub(crate) fn wanted_subscribers(&self) -> usize {
        if self.table.connections_len() >= self.limits.target { MESH_LOW } else { TOPIC_PEERS }
    }

    /// Makes a peer that returns soon after it was trimmed the first of its score to go, until it uses
    /// the connection. Otherwise the node would trim others for it.
    pub(crate) fn rank_returned(&mut self, peer: &PeerId, now: Instant) {
        if self.trimmer.is_trimmed(peer, now)
            && let Some(connection) = self.table.connection_mut(peer)
        {
            connection.used_at = Instant::ZERO;
        }
    }

    /// Returns the time of the next check, while the node has too many connections.
    pub(crate) fn trim_deadline(&self) -> Option<Instant> {
        let connections = self.table.connections_len();
        let has_many = connections > self.limits.high_watermark
            || self.trimmer.is_active && connections > self.limits.low_watermark;
        has_many.then(|| self.trimmer.last.map_or(Instant::ZERO, |last| last + INTERVAL))
    }

    /// Closes some connections, if a check is due: from the high watermark down to the low one. Keeps
    /// those for which there is a reason.
    pub(crate) fn trim_connections(
        &mut self,
        needs: &dyn Needs,
        gate: &Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        if self.trim_deadline().is_none_or(|due| now.mono < due) {
            return;
        }
        let topics = needs.topics();
        let chosen = self.choose_to_trim(needs, &topics, gate, directory, cx);
        let (before, limits) = (self.table.connections_len(), self.limits);
        self.trimmer.last = Some(now.mono);
        // If all that are left have a reason to stay, the node is content below the high watermark.
        self.trimmer.is_active = before > limits.high_watermark || !chosen.is_empty();
        self.trimmer.trimmed.retain(|_, until| *until > now.mono);
        for (peer, score) in &chosen {
            self.trimmer.remember(*peer, now.mono);
            if let Some(connection) = self.table.connection_mut(peer) {
                connection.closing = Some(format!(
                    "trimmed: the node had {before} connections, more than its high watermark {}, and this one had \
                     the score {score:.0} and no reason to be kept",
                    limits.high_watermark
                ));
            }
            cx.stats.count(Counter::ConnectionsTrimmed);
            cx.network(NetworkCommand::Disconnect { peer: *peer });
        }
        if !chosen.is_empty() {
            let message = format!("trimmed {} of {before} connections", chosen.len());
            cx.log_with(
                Level::Info,
                "network",
                message,
                json!({ "trimmed": chosen.len(), "connections": before }),
            );
        }
    }

    /// Returns the peers to trim, with their scores, those of the least value first.
    fn choose_to_trim(
        &self,
        needs: &dyn Needs,
        topics: &BTreeSet<String>,
        gate: &Gate,
        directory: &Directory,
        cx: &Cx,
    ) -> Vec<(PeerId, f64)> {
        let scoring = Scoring::new(self, topics, cx.now);
        let mut kept = Kept::new(self, topics, gate, directory);
        let is_free = |peer: &PeerId, connection: &Connection| {
            kept.reasons(peer, connection, |agent| needs.has_mail(agent), cx.now).is_empty()
        };
        let mut free: Vec<(u32, Instant, f64, PeerId)> = Vec::new();
        for (peer, connection) in self.table.connections() {
            if is_free(peer, connection) {
                let score = scoring.of_connected(peer, connection, directory);
                free.push(((score / SCORE_STEP) as u32, connection.used_at, score, *peer));
            }
        }
        free.sort_unstable_by_key(|(step, used_at, _, peer)| (*step, *used_at, *peer));
        let surplus = self.table.connections_len().saturating_sub(self.limits.low_watermark).div_ceil(STEP);
        let mut chosen = Vec::new();
        for (_, _, score, peer) in free {
            let Some(connection) = self.table.connection(&peer) else { continue };
            if chosen.len() >= surplus {
                break;
            }
            // Each closed connection leaves its topics with fewer subscribers.
            if !kept.has_thin_topic(connection) {
                kept.remove(connection);
                chosen.push((peer, score));
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests;
