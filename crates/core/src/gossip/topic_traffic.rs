//! The broadcasts of each topic of this node, and the sizes of the meshes.

use std::collections::BTreeMap;

use p2p_node_wire::time::Instant;

use crate::MAX_SUBSCRIPTIONS;
use crate::gossip::broadcast_queue::MAX_TOPICS;
use crate::stats::rate_window::RateWindow;

/// Largest number of topics with counts: those of the subscriptions of the parent, and those with queued
/// broadcasts.
pub const MAX_COUNTED_TOPICS: usize = MAX_SUBSCRIPTIONS + MAX_TOPICS;

/// The broadcasts of a topic.
#[derive(Debug, Default)]
pub(crate) struct TopicCounts {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    recent: RateWindow,
    latest: Instant,
}

impl TopicCounts {
    /// Returns the broadcasts a second in both directions in the last minute.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        self.recent.rate(now)
    }
}

/// The broadcasts by topic. At its limit, the topic with the oldest broadcast goes first.
#[derive(Debug, Default)]
pub(crate) struct TopicTraffic {
    topics: BTreeMap<String, TopicCounts>,
    meshes: BTreeMap<String, usize>,
}

impl TopicTraffic {
    /// Counts a broadcast of a topic. Allocates only for a new topic.
    fn count(&mut self, topic: &str, now: Instant, add: impl Fn(&mut TopicCounts)) {
        if let Some(counts) = self.topics.get_mut(topic) {
            counts.latest = now;
            counts.recent.record(now);
            return add(counts);
        }
        if self.topics.len() >= MAX_COUNTED_TOPICS
            && let Some((quiet, _)) = self.topics.iter().min_by_key(|(_, counts)| counts.latest)
        {
            let quiet = quiet.clone();
            self.topics.remove(&quiet);
        }
        let mut counts = TopicCounts { latest: now, ..TopicCounts::default() };
        counts.recent.record(now);
        add(&mut counts);
        self.topics.insert(topic.to_owned(), counts);
    }

    /// Records a broadcast that the node queued for the parent.
    pub(crate) fn received(&mut self, topic: &str, now: Instant) {
        self.count(topic, now, |counts| counts.received += 1);
    }

    /// Records a broadcast that the node accepted from the parent.
    pub(crate) fn sent(&mut self, topic: &str, now: Instant) {
        self.count(topic, now, |counts| counts.sent += 1);
    }

    /// Takes over the sizes of the meshes, at most one for each topic that the node subscribes to.
    pub(crate) fn set_meshes(&mut self, meshes: Vec<(String, usize)>) {
        self.meshes = meshes.into_iter().take(MAX_COUNTED_TOPICS).collect();
    }

    /// Returns the counts of a topic.
    pub(crate) fn of(&self, topic: &str) -> Option<&TopicCounts> {
        self.topics.get(topic)
    }

    /// Returns the number of peers in the mesh of a topic.
    pub(crate) fn mesh(&self, topic: &str) -> usize {
        self.meshes.get(topic).copied().unwrap_or_default()
    }

    /// Returns the numbers of counted topics and of meshes.
    pub(crate) fn lens(&self) -> (usize, usize) {
        (self.topics.len(), self.meshes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quietest_topic_goes_when_there_are_too_many() {
        let mut traffic = TopicTraffic::default();
        for number in 0..MAX_COUNTED_TOPICS as u64 {
            traffic.received(&number.to_string(), Instant::from_secs(number));
        }
        traffic.sent("0", Instant::from_secs(9999));
        traffic.received("new", Instant::from_secs(9999));
        assert_eq!(traffic.lens().0, MAX_COUNTED_TOPICS);
        let counts = traffic.of("0").expect("counts");
        assert_eq!((counts.received, counts.sent), (1, 1));
        assert!(traffic.of("1").is_none() && traffic.of("new").is_some());
        traffic.set_meshes((0..2 * MAX_COUNTED_TOPICS).map(|number| (number.to_string(), number)).collect());
        assert_eq!((traffic.lens().1, traffic.mesh("7"), traffic.mesh("none")), (MAX_COUNTED_TOPICS, 7, 0));
    }
}
