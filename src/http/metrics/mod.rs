//! The metrics of a node: its typed counters, what its snapshot says, the sizes of its collections, and
//! those of libp2p.
//!
//! No label has a value that a peer chooses, so the number of series does not grow with the network.

pub(super) mod document;
mod latency;
mod plain;

use std::fmt;

use crate::io::swarm::NETWORK_METRICS;
use p2p_node_core::snapshot::Snapshot;
use p2p_node_core::stats::Stats;
use p2p_node_core::stats::traffic::Traffic;
use p2p_node_core::usage::Usage;
use p2p_node_protocol::Counter;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::{ConstCounter, Counter as Count};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use document::table_of_metrics;
use latency::Latency;
pub use plain::plain_text;

/// Content type of [`encode`].
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of [`plain_text`].
pub const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The values of all metrics of the core at one time.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Version of this program.
    pub version: &'static str,
    /// `true` if the node is ready and does not close.
    pub is_ready: bool,
    /// The counters.
    pub stats: Stats,
    /// What the node knows and holds.
    pub snapshot: Snapshot,
    /// The collections with their limits.
    pub usage: Vec<Usage>,
}

/// Writes the metrics of a sample, and those of libp2p, in the OpenMetrics format.
///
/// # Errors
/// Fails only if the text cannot be written.
pub fn encode(sample: &Sample, network: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode_registry(&mut text, &registry(sample))?;
    let mut of_libp2p = String::new();
    encode_registry(&mut of_libp2p, network)?;
    keep_documented(&of_libp2p, &mut text);
    encode_eof(&mut text)?;
    Ok(text)
}

/// Appends the metrics of libp2p that are documented. Libp2p also registers some that the node does not
/// record, because peers choose their labels.
fn keep_documented(all: &str, out: &mut String) {
    let mut is_kept = false;
    for line in all.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            let name = head.split(' ').next().unwrap_or_default();
            is_kept = NETWORK_METRICS
                .iter()
                .any(|(known, ..)| known.strip_suffix("_total").unwrap_or(known) == name);
        }
        if is_kept {
            out.push_str(line);
            out.push('\n');
        }
    }
}

fn registry(sample: &Sample) -> Registry {
    let mut registry = Registry::with_prefix("p2p_node");
    let info = Info::new(vec![("version", sample.version)]);
    registry.register("build", "Version of the node", info);
    for &counter in Counter::ALL {
        let help = counter.doc().trim_end_matches('.');
        registry.register(counter.as_str(), help, ConstCounter::new(sample.stats.get(counter)));
    }
    let Snapshot { uptime, peers, relayed, servers, agents, topics, outbox, outbox_bytes, .. } =
        &sample.snapshot;
    let broadcasts = sample.snapshot.queued_broadcasts;
    let gauges = [
        ("ready", "1 if the node is ready, 0 before and while it closes", usize::from(sample.is_ready)),
        ("peers", "Connected peers", *peers),
        ("relayed_peers", "Connected peers that the node reaches only through a relay", *relayed),
        ("dht_servers", "Connected DHT servers", *servers),
        ("known_agents", "Agents of which the node has a record", *agents),
        ("subscribed_topics", "Topics to which the program of the node subscribed", *topics),
        ("outbox_messages", "Accepted messages that have not ended", *outbox),
        ("queued_broadcasts", "Broadcasts that wait for subscribers", broadcasts),
    ];
    for (name, help, value) in gauges {
        registry.register(name, help, ConstGauge::new(value as i64));
    }
    let bytes = ConstGauge::new(*outbox_bytes as i64);
    registry.register_with_unit(
        "outbox",
        "Bytes of accepted messages that have not ended",
        Unit::Bytes,
        bytes,
    );
    let uptime = ConstGauge::new(uptime.as_secs_f64());
    registry.register_with_unit("uptime", "Time since the node started", Unit::Seconds, uptime);
    let score = ConstGauge::new(sample.snapshot.health_score);
    registry.register("health_score", "Health score of the network, from 0 to 100", score);
    register_traffic(&mut registry, &sample.stats.traffic);
    register_usage(&mut registry, &sample.usage);
    registry
}

/// Registers latencies, and payload by protocol.
fn register_traffic(registry: &mut Registry, traffic: &Traffic) {
    let acks = Latency::of(traffic.acks());
    let help = "Time from the acceptance of a message to its delivery";
    registry.register_with_unit("delivery", help, Unit::Seconds, acks);
    let pings = Latency::of(traffic.pings());
    registry.register_with_unit("ping", "Round-trip time of pings to admitted peers", Unit::Seconds, pings);
    let bytes = Family::<Vec<(&'static str, String)>, Count<u64>>::default();
    for (protocol, count) in traffic.bandwidth() {
        for (direction, number) in [("in", count.in_bytes), ("out", count.out_bytes)] {
            let labels = vec![("direction", direction.to_owned()), ("protocol", protocol.clone())];
            bytes.get_or_create(&labels).inc_by(number);
        }
    }
    let help = "Payload of the protocols of the node, before the encryption of connections";
    registry.register_with_unit("payload", help, Unit::Bytes, bytes);
}

/// A gauge for each collection.
type Collections = Family<Vec<(&'static str, &'static str)>, Gauge>;

/// Registers the sizes of the collections. Their names are constants of the core.
fn register_usage(registry: &mut Registry, usage: &[Usage]) {
    let (sizes, limits) = (Collections::default(), Collections::default());
    for Usage { name, size, limit } in usage {
        let labels = vec![("collection", *name)];
        sizes.get_or_create(&labels).set(i64::try_from(*size).unwrap_or(i64::MAX));
        limits.get_or_create(&labels).set(i64::try_from(*limit).unwrap_or(i64::MAX));
    }
    registry.register("collection_size", "Size of a collection of the node, in items or bytes", sizes);
    registry.register("collection_limit", "Limit of the size of a collection", limits);
}

#[cfg(test)]
mod tests;
