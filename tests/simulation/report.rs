//! Summary of a run in numbers, to compare it with earlier runs.

use std::collections::BTreeMap;
use std::fmt;

use p2p_node_core::usage::Usage;

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub messages: u64,
    pub received: u64,
    pub delivered: u64,
    pub expired: u64,
    pub failed: u64,
    pub refused: u64,
    pub lost_in_crashes: u64,
    pub again_after_crash: u64,
    pub acks: u64,
    pub broadcasts_received: u64,
    pub dropped: u64,
    pub frames: u64,
    pub published: u64,
    pub hops: u64,
    pub crashes: u64,
    pub exits: u64,
    /// Answers of lying DHT servers.
    pub lies: u64,
    /// From `send` to the recipient's parent, in ms.
    pub latencies: Vec<u32>,
    /// Largest usage of each collection in any node.
    most: BTreeMap<&'static str, Usage>,
}

impl Report {
    pub fn record_usage(&mut self, usage: Usage) {
        let most = self.most.entry(usage.name).or_insert(usage);
        most.size = most.size.max(usage.size);
    }

    pub fn add(&mut self, other: &Report) {
        let pairs = [
            (&mut self.messages, other.messages),
            (&mut self.received, other.received),
            (&mut self.delivered, other.delivered),
            (&mut self.expired, other.expired),
            (&mut self.failed, other.failed),
            (&mut self.refused, other.refused),
            (&mut self.lost_in_crashes, other.lost_in_crashes),
            (&mut self.again_after_crash, other.again_after_crash),
            (&mut self.acks, other.acks),
            (&mut self.broadcasts_received, other.broadcasts_received),
            (&mut self.dropped, other.dropped),
            (&mut self.frames, other.frames),
            (&mut self.published, other.published),
            (&mut self.hops, other.hops),
            (&mut self.crashes, other.crashes),
            (&mut self.exits, other.exits),
            (&mut self.lies, other.lies),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        self.latencies.extend(&other.latencies);
        other.most.values().for_each(|usage| self.record_usage(*usage));
    }

    /// Returns the numbers by which two runs are compared.
    pub fn summary(&self) -> String {
        format!(
            "mails {} delivered {} expired {} failed {} refused {} lost {} acks {} broadcasts {} p50 {} p99 {} frames {} hops {}",
            self.messages,
            self.delivered,
            self.expired,
            self.failed,
            self.refused,
            self.lost_in_crashes,
            self.acks,
            self.broadcasts_received,
            self.percentile(50),
            self.percentile(99),
            self.frames,
            self.hops,
        )
    }

    fn percentile(&self, of_hundred: usize) -> u32 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) * of_hundred / 100).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.delivered + self.expired + self.failed;
        let share = self.delivered as f64 * 100.0 / ended.max(1) as f64;
        writeln!(f, "mails {} delivered {} ({share:.2} % of the completed)", self.messages, self.delivered)?;
        writeln!(
            f,
            "expired {} failed {} refused {} acked by parents {}",
            self.expired, self.failed, self.refused, self.acks
        )?;
        writeln!(
            f,
            "crashes {} mails lost in crashes {} mails redelivered after crashes {}",
            self.crashes, self.lost_in_crashes, self.again_after_crash
        )?;
        let (median, tail) = (self.percentile(50), self.percentile(99));
        writeln!(f, "latency ms p50 {median} p99 {tail}")?;
        let hops = self.hops as f64 / self.published.max(1) as f64;
        writeln!(f, "frames of mail {} published {} hops each {hops:.1}", self.frames, self.published)?;
        writeln!(f, "broadcasts received {} dropped {}", self.broadcasts_received, self.dropped)?;
        for Usage { name, size, limit } in self.most.values().filter(|usage| usage.size > 0) {
            writeln!(f, "max {name} {size} of {limit}")?;
        }
        Ok(())
    }
}
