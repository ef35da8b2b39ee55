//! What the node measured of messages: counts by priority, the rate, latencies, and bytes by protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_node_protocol::{Bandwidth, Latencies, Priority, PriorityCounts};
use p2p_node_wire::time::Instant;

use crate::effect::NetworkCommand;
use crate::input::Input;
use crate::stats::histogram::Histogram;
use crate::stats::rate_window::RateWindow;

/// Protocols whose payload the core counts, in the order of their counts.
const PROTOCOLS: [&str; 5] = ["admission", "dht", "find", "gossip", "mail"];
const ADMISSION: usize = 0;
const DHT: usize = 1;
const FIND: usize = 2;
const GOSSIP: usize = 3;
const MAIL: usize = 4;

/// Measurements since the process started. Its size is fixed.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    by_priority: PriorityCounts,
    recent: RateWindow,
    acks: Histogram,
    pings: Histogram,
    bytes: [Bandwidth; PROTOCOLS.len()],
}

impl Traffic {
    /// Returns the times from the acceptance of mail to its `delivered`.
    pub fn acks(&self) -> &Histogram {
        &self.acks
    }

    /// Returns the round trips of pings.
    pub fn pings(&self) -> &Histogram {
        &self.pings
    }

    /// Records a message or a broadcast that the node accepted from the parent.
    pub(crate) fn sent(&mut self, priority: Priority, now: Instant) {
        self.by_priority.of_mut(priority).sent += 1;
        self.recent.record(now);
    }

    /// Records a message or a broadcast that the node queued for the parent.
    pub(crate) fn received(&mut self, priority: Priority, now: Instant) {
        self.by_priority.of_mut(priority).received += 1;
        self.recent.record(now);
    }

    /// Records a message that ended as delivered. `after` is the time since the `send`, unless it came
    /// from an earlier process.
    pub(crate) fn delivered(&mut self, priority: Priority, after: Option<Duration>) {
        self.by_priority.of_mut(priority).delivered += 1;
        if let Some(after) = after {
            self.acks.record(after);
        }
    }

    /// Records the round trip of a ping.
    pub(crate) fn pinged(&mut self, round_trip: Duration) {
        self.pings.record(round_trip);
    }

    /// Counts the payload of what the network brought.
    pub(crate) fn count_input(&mut self, input: &Input) {
        let (protocol, bytes) = match input {
            Input::Gossip { data, .. } => (GOSSIP, data.len()),
            Input::MailRequestReceived { frame, .. } => (MAIL, frame.len()),
            Input::MailResponseReceived { outcome: Ok(body), .. } => (MAIL, body.len()),
            Input::AdmissionRequestReceived { body, .. } => (ADMISSION, body.len()),
            Input::AdmissionResponseReceived { outcome: Ok(body), .. } => (ADMISSION, body.len()),
            Input::FindRequestReceived { body, .. } => (FIND, body.len()),
            Input::FindResponseReceived { outcome: Ok(body), .. } => (FIND, body.len()),
            Input::RecordFound { value, .. } | Input::RecordOffered { value, .. } => (DHT, value.len()),
            _ => return,
        };
        self.bytes[protocol].in_bytes += bytes as u64;
    }

    /// Counts the payload of what the node gives to the network.
    pub(crate) fn count_effect(&mut self, effect: &NetworkCommand) {
        let (protocol, bytes) = match effect {
            NetworkCommand::Publish { data, .. } => (GOSSIP, data.len()),
            NetworkCommand::SendMail { frame, .. } => (MAIL, frame.len()),
            NetworkCommand::AnswerMail { body, .. } => (MAIL, body.len()),
            NetworkCommand::SendAdmission { body, .. } | NetworkCommand::AnswerAdmission { body, .. } => {
                (ADMISSION, body.len())
            }
            NetworkCommand::SendFind { body, .. } | NetworkCommand::AnswerFind { body, .. } => {
                (FIND, body.len())
            }
            NetworkCommand::PutRecord { value, .. } => (DHT, value.len()),
            _ => return,
        };
        self.bytes[protocol].out_bytes += bytes as u64;
    }

    /// Returns the counts by priority.
    pub fn by_priority(&self) -> PriorityCounts {
        self.by_priority
    }

    /// Returns the messages a second in both directions in the last minute.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        self.recent.rate(now)
    }

    /// Returns the latencies.
    pub fn latencies(&self) -> Latencies {
        Latencies { ack_ms: self.acks.percentiles(), ping_ms: self.pings.percentiles() }
    }

    /// Returns the bytes of payload by protocol.
    pub fn bandwidth(&self) -> BTreeMap<String, Bandwidth> {
        PROTOCOLS.into_iter().map(str::to_owned).zip(self.bytes).collect()
    }
}
