//! Latencies as histograms of Prometheus.

use std::time::Duration;

use p2p_node_core::stats::histogram::Histogram;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Bounds of the buckets, in ms. Our choice: from a message on one machine to one whose recipient was away
/// for minutes.
const BOUNDS_MS: [u64; 14] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000, 600_000];

/// The durations that the node has measured.
#[derive(Debug)]
pub(super) struct Latency {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

impl Latency {
    /// Returns the durations of a histogram.
    pub(super) fn of(histogram: &Histogram) -> Self {
        let bounds = BOUNDS_MS.map(Duration::from_millis);
        let counts = histogram.between(&bounds);
        let mut buckets: Vec<_> = bounds.iter().map(Duration::as_secs_f64).zip(counts).collect();
        let within: u64 = buckets.iter().map(|(_, count)| count).sum();
        buckets.push((f64::MAX, histogram.count() - within));
        Latency { sum: histogram.sum().as_secs_f64(), count: histogram.count(), buckets }
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_histogram::<NoLabelSet>(self.sum, self.count, &self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
