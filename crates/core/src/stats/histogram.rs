//! A histogram of durations with buckets of growing width, for percentiles.

use std::time::Duration;

use p2p_node_protocol::Percentiles;

/// Number of buckets for each power of two, as a power of two: a percentile is at most an eighth too
/// high. Our choice: people read one digit.
const SUB_BITS: u32 = 3;
const SUB_BUCKETS: usize = 1 << SUB_BITS;
/// Largest power of two of microseconds with buckets of its own: 2^33 µs are 2.4 hours. Our choice,
/// longer than any answer that a person waits for. Longer durations count into the last bucket.
const MAX_POWER: u32 = 33;
/// Number of buckets.
const BUCKETS: usize = (MAX_POWER - SUB_BITS + 2) as usize * SUB_BUCKETS;

/// Counts of durations in buckets. Its size is fixed, and recording allocates nothing.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    sum: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: Box::new([0; BUCKETS]), count: 0, sum: Duration::ZERO }
    }
}

impl Histogram {
    /// Records a duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(micros)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the sum of all durations.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Returns the numbers of durations between each of these bounds, in ascending order, and the one before. A
    /// duration counts by the end of its bucket. Longer durations than the last bound are not among them.
    pub fn between(&self, bounds: &[Duration]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len()];
        for (index, bucket) in self.buckets.iter().enumerate() {
            let end = Duration::from_micros(end_of(index));
            if let Some(at) = bounds.iter().position(|bound| end <= *bound) {
                counts[at] += bucket;
            }
        }
        counts
    }

    /// Returns the duration that a share of all durations does not exceed, rounded up to the end of its
    /// bucket. Returns `None` without durations.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut below = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            below += bucket;
            if below >= rank {
                return Some(Duration::from_micros(end_of(index)));
            }
        }
        None
    }

    /// Returns the percentiles that reports show.
    pub fn percentiles(&self) -> Percentiles {
        let ms = |share| self.quantile(share).map(|duration| duration.as_micros() as f64 / 1000.0);
        Percentiles { p50: ms(0.5), p95: ms(0.95), p99: ms(0.99), count: self.count }
    }
}

/// Returns the bucket of a duration.
fn bucket_of(micros: u64) -> usize {
    if micros < SUB_BUCKETS as u64 {
        return micros as usize;
    }
    let power = micros.ilog2();
    let within = (micros >> (power - SUB_BITS)) as usize - SUB_BUCKETS;
    (((power - SUB_BITS + 1) as usize) * SUB_BUCKETS + within).min(BUCKETS - 1)
}

/// Returns the longest duration of a bucket, in microseconds.
fn end_of(index: usize) -> u64 {
    let (row, within) = (index / SUB_BUCKETS, (index % SUB_BUCKETS) as u64);
    match row {
        0 => within,
        _ => ((SUB_BUCKETS as u64 + within + 1) << (row - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the exact quantile of sorted durations.
    fn exact(sorted: &[u64], share: f64) -> u64 {
        let rank = ((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
        sorted[rank - 1]
    }

    proptest! {
        #[test]
        fn quantile_is_at_most_an_eighth_above_the_exact_one(
            mut micros in prop::collection::vec((0..34_u32, any::<u64>()).prop_map(|(bits, value)| value % (1 << bits)), 1..300),
            share in 0.0..=1.0_f64,
        ) {
            let mut histogram = Histogram::default();
            micros.iter().for_each(|micros| histogram.record(Duration::from_micros(*micros)));
            micros.sort_unstable();
            for share in [share, 0.5, 0.95, 0.99] {
                let (exact, got) = (exact(&micros, share), histogram.quantile(share).expect("durations").as_micros() as u64);
                prop_assert!(got >= exact, "{got} is below {exact}");
                prop_assert!(got <= exact + exact / 8, "{got} is far above {exact}");
            }
            prop_assert_eq!(histogram.count(), micros.len() as u64);
        }
    }

    #[test]
    fn empty_histogram_has_no_percentiles() {
        assert_eq!(Histogram::default().percentiles(), Percentiles::default());
    }

    #[test]
    fn longest_duration_counts_into_the_last_bucket() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        histogram.record(Duration::from_secs(1));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_micros(end_of(BUCKETS - 1))));
        assert!(histogram.quantile(1.0) > Some(Duration::from_secs(2 * 3600)));
        assert!(histogram.quantile(0.5) < Some(Duration::from_millis(1125)));
    }

    #[test]
    fn durations_count_below_the_first_bound_that_their_bucket_does_not_exceed() {
        let mut histogram = Histogram::default();
        [1, 900, 3_000, 70_000, 9_000_000]
            .into_iter()
            .for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let bounds = [1, 10, 100].map(Duration::from_millis);
        assert_eq!(histogram.between(&bounds), [2, 1, 1]);
        assert_eq!((histogram.count(), histogram.sum()), (5, Duration::from_micros(9_073_901)));
    }
}
