//! The network report: what the node knows of the network, in one document.

pub(crate) mod counts;
pub mod health;
pub(crate) mod line_room;
pub(crate) mod nodes;

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use p2p_node_protocol::{
    Distribution, Edge, NetworkReport, Performance, RegistryState, ReportMetrics, ReportNode, Role,
    TopicReport, Topology,
};

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::gossip::Gossip;
use crate::gossip::gossip_budget::MAX_RETAINED_BYTES;
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
        let of_topic = |topic: String| TopicReport {
            subscribers: self.peers.subscribers(&topic),
            topic,
            ..TopicReport::default()
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
        let regions = self.peers.regions.by_peer();
        let regions = known.keys().filter_map(|peer| regions.get(peer)).map(|region| (*region).to_owned());
        Distribution {
            by_role: room.map(most_frequent(roles)),
            by_capability: room.map(most_frequent(capabilities)),
            by_version: room.map(most_frequent([self.cx.identity.version.clone()].into_iter())),
            by_region: room.map(most_frequent(regions)),
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
        for (peer, _) in
            others.iter().take(topology.nodes.len()).filter(|(_, node)| node.connection.is_some())
        {
            let edge = edge(self.cx.identity.peer, *peer);
            topology.complete &= room.push(&mut topology.edges, edge);
        }
        topology
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
