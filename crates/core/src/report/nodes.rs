//! The nodes that this node knows, for a report.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::{BindingState, ReportNode, Role};
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Instant;

use crate::gossip::network_view::{STATUS_LIFE, StatusRow};
use crate::peers::history::History;
use crate::peers::table::Connection;
use crate::report::Sources;

/// Time for which a node counts as active after the last sign of it, in ms: 5 minutes, from the TOS
/// document.
pub(crate) const ACTIVE_MS: u64 = 5 * 60 * 1000;
/// Longest time for which a report shows a node after the last sign of it, and the default: an hour, from
/// the TOS document, which keeps the messages of peers so long.
pub const MAX_KNOWN: Duration = STATUS_LIFE;
/// Shortest such time. Our choice: statuses and lookups of short-lived nodes still overlap.
pub const MIN_KNOWN: Duration = Duration::from_secs(10);
/// Capability of the nodes that take part in consensus, from the TOS document.
const CONSENSUS: &str = "consensus";

/// What the node knows of another one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known<'a> {
    pub(crate) record: Option<&'a SignedRecord>,
    pub(crate) connection: Option<&'a Connection>,
    pub(crate) history: Option<&'a History>,
    pub(crate) status: Option<&'a StatusRow>,
    pub(crate) last_seen_ms: u64,
}

impl<'a> Known<'a> {
    /// Returns `true` if the node is up, as far as this node can tell: a connection says more than a
    /// record or a status.
    pub(crate) fn is_active(&self, now_ms: u64) -> bool {
        let is_recent = self.last_seen_ms.saturating_add(ACTIVE_MS) > now_ms;
        self.connection.is_some() || is_recent && !self.history.is_some_and(History::is_down)
    }

    pub(crate) fn latency_ms(&self) -> Option<f64> {
        self.history.and_then(History::latency).map(|latency| latency.as_micros() as f64 / 1000.0)
    }

    /// Returns the role that its record says, or else its status.
    pub(crate) fn role(&self) -> Role {
        let of_record = self.record.map(|record| record.record.role);
        of_record.or(self.status.map(|row| row.status.role)).unwrap_or_default()
    }

    pub(crate) fn version(&self) -> Option<&'a str> {
        self.status.map(|row| row.status.version.as_str()).filter(|version| !version.is_empty())
    }

    pub(crate) fn capabilities(&self) -> &[String] {
        self.record.map(|record| &record.record.capabilities[..]).unwrap_or_default()
    }

    pub(crate) fn has_consensus(&self) -> bool {
        has_consensus(self.capabilities())
    }
}

/// Returns `true` if the capabilities say that a node takes part in consensus.
pub(crate) fn has_consensus(capabilities: &[String]) -> bool {
    capabilities.iter().any(|capability| capability == CONSENSUS)
}

/// Returns the other nodes that this node heard of a short time ago, by PeerId.
pub(crate) fn known<'a>(sources: &Sources<'a>) -> BTreeMap<PeerId, Known<'a>> {
    let now_ms = sources.cx.now.unix_ms;
    let mut nodes: BTreeMap<PeerId, Known<'a>> = BTreeMap::new();
    for record in sources.directory.records.iter(now_ms) {
        let seen_ms = record.record.issued_at_ms.min(now_ms);
        let node = nodes.entry(record.peer_id()).or_default();
        node.record = Some(record);
        node.last_seen_ms = node.last_seen_ms.max(seen_ms);
    }
    for (peer, connection) in sources.peers.table.connections() {
        let node = nodes.entry(*peer).or_default();
        node.connection = Some(connection);
        node.last_seen_ms = now_ms;
    }
    for (peer, row) in sources.gossip.view.rows(sources.cx.now) {
        let node = nodes.entry(*peer).or_default();
        node.status = Some(row);
        node.last_seen_ms = node.last_seen_ms.max(ms_ago(row.last_at.mono, sources));
    }
    for (peer, history) in sources.peers.histories.iter() {
        if let Some(seen_at) = history.seen_at() {
            let node = nodes.entry(*peer).or_default();
            node.last_seen_ms = node.last_seen_ms.max(ms_ago(seen_at, sources));
        }
    }
    nodes.remove(&sources.cx.identity.peer);
    let known_ms = sources.cx.identity.forget_nodes_after.as_millis() as u64;
    nodes.retain(|_, node| node.last_seen_ms.saturating_add(known_ms) > now_ms);
    for (peer, node) in &mut nodes {
        node.history = sources.peers.histories.get(peer);
    }
    nodes
}

/// Returns a past time by the wall clock of now, in ms since 1970.
fn ms_ago(at: Instant, sources: &Sources<'_>) -> u64 {
    let now = sources.cx.now;
    now.unix_ms.saturating_sub(now.mono.saturating_since(at).as_millis() as u64)
}

/// Returns a node as the report shows it.
pub(crate) fn describe(
    peer: &PeerId,
    node: &Known<'_>,
    region: Option<&str>,
    sources: &Sources<'_>,
) -> ReportNode {
    let now = sources.cx.now;
    let agent = node.record.map(SignedRecord::address).or(node.connection.and_then(|one| one.agent));
    let prior = sources.gate.registry.prior(agent.as_ref());
    let record = node.record.map(|record| &record.record);
    let status = node.status.map(|row| &row.status);
    let name = record.map(|record| &record.name).or(status.map(|status| &status.name));
    let first = node.connection.map(|connection| connection.connected_at).into_iter();
    let first_at = first.chain(node.status.map(|row| row.first_at.mono)).min();
    ReportNode {
        peer_id: peer.to_string(),
        address: agent.map(|agent| agent.to_string()),
        name: name.cloned().filter(|name| !name.is_empty()),
        role: node.role(),
        version: node.version().map(str::to_owned),
        capabilities: node.capabilities().to_vec(),
        region: region.map(str::to_owned),
        is_self: false,
        is_connected: node.connection.is_some(),
        is_active: node.is_active(now.unix_ms),
        first_seen_ms: first_at.map(|at| ms_ago(at, sources)),
        last_seen_ms: node.last_seen_ms,
        latency_ms: node.latency_ms(),
        health_score: status.map(|status| status.health),
        reputation: Some(sources.gate.reputations.of_peer(agent, peer, prior, now.mono)),
        peers: status.map(|status| usize::try_from(status.peers).unwrap_or(usize::MAX)),
        uptime_ms: status.map(|status| status.uptime_ms),
        binding: Some(if agent.is_some() { BindingState::Proven } else { BindingState::Unproven }),
        addrs: record.into_iter().flat_map(|record| &record.addrs).map(ToString::to_string).collect(),
    }
}

/// Returns this node as the report shows it.
pub(crate) fn describe_self(health: f64, sources: &Sources<'_>) -> ReportNode {
    let Sources { local, peers, cx, .. } = sources;
    let now = cx.now;
    ReportNode {
        peer_id: cx.identity.peer_text.clone(),
        address: Some(cx.identity.address_text.clone()),
        name: Some(cx.identity.name.clone()).filter(|name| !name.is_empty()),
        role: cx.identity.role,
        version: Some(cx.identity.version.clone()),
        capabilities: sources.own_capabilities().to_vec(),
        is_self: true,
        is_active: true,
        first_seen_ms: Some(cx.identity.started_ms),
        last_seen_ms: now.unix_ms,
        health_score: Some(health),
        peers: Some(peers.table.connections_len()),
        uptime_ms: Some(now.mono.since_start().as_millis() as u64),
        binding: Some(BindingState::Proven),
        addrs: local.addresses.published(now.mono).iter().map(ToString::to_string).collect(),
        ..ReportNode::default()
    }
}
