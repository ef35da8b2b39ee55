//! The network report: what the node knows of the network, in one document.

pub(crate) mod counts;
pub mod health;
pub(crate) mod line_room;
pub mod nodes;
mod status;

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;
use p2p_node_protocol::{
    Distribution, Edge, NetworkReport, Performance, RegistryState, ReportMetrics, ReportNode, Role,
    TopicReport, Topology,
};

use crate::Core;
use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::gossip::Gossip;
use crate::gossip::gossip_budget::MAX_RETAINED_BYTES;
use crate::gossip::node_status::{MAX_STATUS_PEERS, NodeStatus};
use crate::local::Local;
use crate::mail::Mail;
use crate::mail::outbound::outbox::OUTBOX_BYTES;
use crate::peers::Peers;
use line_room::LineRoom;
use nodes::Known;

/// Connection quality above which a connection counts as stable, from the TOS document.
const STABLE_QUALITY: f64 = 0.8;
/// Largest number of names in each part of the distribution: our choice. Peers choose the names.
pub(crate) const MAX_NAMES: usize = 64;

/// What this node tells of itself, without a report.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) status: NodeStatus,
    pub(crate) metrics: ReportMetrics,
}

/// The components that a report reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) local: &'a Local,
    pub(crate) gate: &'a Gate,
    pub(crate) directory: &'a Directory,
    pub(crate) peers: &'a Peers,
    pub(crate) gossip: &'a Gossip,
    pub(crate) mail: &'a Mail,
    pub(crate) cx: &'a Cx,
}

impl<'a> Sources<'a> {
    pub(crate) fn of(core: &'a Core) -> Self {
        let Core { local, gate, directory, peers, gossip, mail, cx, .. } = core;
        Sources { local, gate, directory, peers, gossip, mail, cx }
    }

    /// Returns the capabilities of this agent.
    pub(crate) fn own_capabilities(&self) -> &'a [String] {
        self.local.record.current().map(|record| &record.record.capabilities[..]).unwrap_or_default()
    }

    /// Returns the report. Its line, with the type and the id of an answer, has at most `max_line` bytes:
    /// what does not fit is left out, and `complete` is `false`.
    pub(crate) fn report(self, max_line: usize) -> NetworkReport {
        let known = nodes::known(&self);
        let metrics = self.metrics(&known);
        let health = metrics.health_score;
        let mut report = NetworkReport {
            time_ms: self.cx.now.unix_ms,
            performance: self.performance(&known, &metrics),
            metrics,
            topology: Topology { complete: true, ..Topology::default() },
            messages: counts::messages(self.cx),
            latency: self.cx.stats.traffic.latencies(),
            bandwidth: self.cx.stats.traffic.bandwidth(),
            load: self.load(),
            bans: self.gate.reputations.lens()[3],
            registry: self.registry(),
            ..NetworkReport::default()
        };
        let mut room = LineRoom::after(&report, max_line);
        report.limits_hit = room.map(counts::limits_hit(self.cx));
        report.topics = room.list(self.topics());
        report.distribution = self.distribution(&known, &mut room);
        report.topology = self.topology(known, health, &mut room);
        report
    }

    /// Returns the health score of the network, from 0 to 100.
    pub(crate) fn health_score(&self) -> f64 {
        self.metrics(&nodes::known(self)).health_score
    }

    /// Returns the metrics, which are those of the TOS document.
    pub(crate) fn metrics(&self, known: &BTreeMap<PeerId, Known<'a>>) -> ReportMetrics {
        let now_ms = self.cx.now.unix_ms;
        let active: Vec<&Known<'_>> = known.values().filter(|node| node.is_active(now_ms)).collect();
        let latencies: Vec<f64> = active.iter().filter_map(|node| node.latency_ms()).collect();
        let latency = latencies.iter().sum::<f64>() / latencies.len() as f64;
        let has_consensus =
            nodes::has_consensus(self.own_capabilities()) || known.values().any(Known::has_consensus);
        let votes = active.iter().filter(|node| node.has_consensus()).count();
        let observed = health::Observed {
            active_peers: active.len(),
            latency_ms: Some(latency).filter(|_| !latencies.is_empty()),
            participation: has_consensus.then(|| votes as f64 / active.len().max(1) as f64),
            drop_rate: counts::drop_rate(&counts::messages(self.cx)),
        };
        let (health_score, causes) = health::score(&observed);
        ReportMetrics {
            total_peers: known.len(),
            active_peers: observed.active_peers,
            latency_ms: observed.latency_ms,
            message_rate: self.cx.stats.traffic.rate(self.cx.now.mono),
            consensus_participation: observed.participation,
            health_score,
            causes,
        }
    }

    fn performance(&self, known: &BTreeMap<PeerId, Known<'a>>, metrics: &ReportMetrics) -> Performance {
        let now = self.cx.now;
        let active = metrics.active_peers;
        let share = |number: f64| if active == 0 { 0.0 } else { number / active as f64 };
        let quality = |node: &&Known<'_>| node.history.map_or(1.0, |history| history.quality(now.mono));
        let stable = known.values().filter(|node| node.is_active(now.unix_ms));
        let stable = stable.filter(|node| quality(node) > STABLE_QUALITY).count();
        Performance {
            network_efficiency: share(metrics.message_rate),
            consensus_health: metrics.consensus_participation,
            connection_stability: share(stable as f64),
            message_success_rate: 1.0 - counts::drop_rate(&counts::messages(self.cx)),
        }
    }

    /// Returns the largest share that is in use of what the node has a limit for.
    pub(crate) fn load(&self) -> f64 {
        let share = |used: usize, of: usize| used as f64 / of.max(1) as f64;
        let connections = share(self.peers.table.connections_len(), self.peers.limits.max);
        let outbox = share(self.mail.outbox.bytes(), OUTBOX_BYTES);
        let gossip = share(self.gossip.budget.bytes(), MAX_RETAINED_BYTES);
        connections.max(outbox).max(gossip).min(1.0)
    }

    /// Returns the state of the registry, if the configuration names one.
    pub(crate) fn registry(&self) -> Option<RegistryState> {
        self.gate.registry.state()
    }

    /// Returns the topics: those of the parent's subscriptions, and those with broadcasts.
    pub(crate) fn topics(&self) -> Vec<TopicReport> {
        let traffic = &self.gossip.traffic;
        let of_topic = |topic: String| {
            let counts = traffic.of(&topic);
            TopicReport {
                mesh_peers: traffic.mesh(&topic),
                subscribers: self.peers.subscribers(&topic),
                received: counts.map_or(0, |counts| counts.received),
                sent: counts.map_or(0, |counts| counts.sent),
                rate: counts.map_or(0.0, |counts| counts.rate(self.cx.now.mono)),
                topic,
            }
        };
        self.gossip.topics().into_iter().map(of_topic).collect()
    }

    /// Returns the numbers of nodes by what they are, as far as there is room.
    pub(crate) fn distribution(
        &self,
        known: &BTreeMap<PeerId, Known<'a>>,
        room: &mut LineRoom,
    ) -> Distribution {
        let own_role = role_name(self.cx.identity.role).to_owned();
        let roles = known.values().map(|node| role_name(node.role()).to_owned()).chain([own_role]);
        let capabilities = known.values().flat_map(|node| node.capabilities().iter());
        let capabilities = capabilities.chain(self.own_capabilities()).cloned();
        let own_version = self.cx.identity.version.clone();
        let versions = known.values().filter_map(Known::version).map(str::to_owned).chain([own_version]);
        let regions = self.peers.regions.by_peer();
        let regions = known.keys().filter_map(|peer| regions.get(peer)).map(|region| (*region).to_owned());
        Distribution {
            by_role: room.map(most_frequent(roles)),
            by_capability: room.map(most_frequent(capabilities)),
            by_version: room.map(most_frequent(versions)),
            by_region: room.map(most_frequent(regions)),
        }
    }

    /// Returns what this node tells of itself.
    pub(crate) fn summary(self) -> Summary {
        let metrics = self.metrics(&nodes::known(&self));
        Summary { status: self.own_status(&metrics), metrics }
    }

    /// Returns what this node says of itself to others.
    fn own_status(&self, metrics: &ReportMetrics) -> NodeStatus {
        let Sources { peers, cx, .. } = self;
        let messages = counts::messages(cx);
        let (servers, others): (Vec<PeerId>, Vec<PeerId>) =
            peers.table.admitted().partition(|peer| peers.table.is_dht_server(peer));
        NodeStatus {
            name: cx.identity.name.clone(),
            role: cx.identity.role,
            version: cx.identity.version.clone(),
            uptime_ms: cx.now.mono.since_start().as_millis() as u64,
            peers: peers.table.connections_len() as u64,
            health: metrics.health_score,
            sent: messages.sent,
            received: messages.received,
            delivered: messages.delivered,
            dropped: messages.dropped,
            connected: servers.into_iter().chain(others).take(MAX_STATUS_PEERS).collect(),
        }
    }

    fn topology(self, known: BTreeMap<PeerId, Known<'a>>, health: f64, room: &mut LineRoom) -> Topology {
        let regions = self.peers.regions.by_peer();
        let mut others: Vec<(PeerId, Known<'a>)> = known.into_iter().collect();
        others.sort_by_key(|(_, node)| (node.connection.is_none(), std::cmp::Reverse(node.last_seen_ms)));
        let mut topology = Topology { complete: true, ..Topology::default() };
        let own = nodes::describe_self(health, &self);
        topology.complete &= room.push(&mut topology.nodes, own);
        for (peer, node) in &others {
            let node: ReportNode = nodes::describe(peer, node, regions.get(peer).copied(), &self);
            if !room.push(&mut topology.nodes, node) {
                topology.complete = false;
                break;
            }
        }
        let shown = &others[..topology.nodes.len().saturating_sub(1)];
        for edge in self.edges(shown) {
            if !room.push(&mut topology.edges, edge) {
                topology.complete = false;
                break;
            }
        }
        topology
    }
}

impl Sources<'_> {
    /// Returns the connections between nodes of the report: those of this node, and those that the statuses
    /// of others name. A connection is there if one end names it.
    fn edges(&self, shown: &[(PeerId, Known<'_>)]) -> BTreeSet<Edge> {
        let own = self.cx.identity.peer;
        let names: BTreeSet<PeerId> = shown.iter().map(|(peer, _)| *peer).chain([own]).collect();
        let mut edges = BTreeSet::new();
        for (peer, node) in shown {
            edges.extend(node.connection.map(|_| edge(own, *peer)));
            let named = node.status.iter().flat_map(|row| &row.status.connected);
            // This node knows its own connections better.
            let named = named.filter(|other| *other != peer && **other != own && names.contains(other));
            edges.extend(named.map(|other| edge(*peer, *other)));
        }
        edges
    }
}

/// Returns the connection of two nodes, with the smaller PeerId first.
fn edge(one: PeerId, other: PeerId) -> Edge {
    let (source, target) = (one.min(other), one.max(other));
    Edge { source: source.to_string(), target: target.to_string() }
}

/// Returns the name of a role, as JSON has it.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Bootstrap => "bootstrap",
        Role::Light => "light",
        Role::Full | Role::Unknown => "full",
    }
}

/// Counts names, and keeps the [`MAX_NAMES`] most frequent ones.
fn most_frequent(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    if counts.len() <= MAX_NAMES {
        return counts;
    }
    let mut by_count: Vec<(String, usize)> = counts.into_iter().collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    by_count.truncate(MAX_NAMES);
    by_count.into_iter().collect()
}

#[cfg(test)]
mod tests;
