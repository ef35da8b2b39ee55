//! The table of all metrics in `docs/metrics.md`.

use p2p_node_core::snapshot::Snapshot;
use p2p_node_core::stats::Stats;
use p2p_node_core::usage::Usage;

use super::{Sample, registry};
use crate::io::swarm::NETWORK_METRICS;

/// Returns the table of metrics, one line each, with its head.
pub fn table_of_metrics() -> String {
    let mut table = String::from("| metric | type | meaning |\n|---|---|---|\n");
    let mut text = String::new();
    let written = prometheus_client::encoding::text::encode_registry(&mut text, &registry(&empty()));
    debug_assert!(written.is_ok(), "a string takes any text");
    let own = super::plain_text(&text);
    let mut help = "";
    for line in own.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|text| text.split_once(' '))
        {
            table.push_str(&format!("| `{name}` | {kind} | {help} |\n"));
        }
    }
    for (name, kind, meaning) in NETWORK_METRICS {
        table.push_str(&format!("| `{name}` | {kind} | {meaning}. |\n"));
    }
    table
}

/// A sample of a node that has done nothing.
pub(in crate::http) fn empty() -> Sample {
    Sample {
        version: "",
        is_ready: false,
        stats: Stats::default(),
        snapshot: Snapshot::default(),
        usage: vec![Usage { name: "", size: 0, limit: 0 }],
    }
}
