//! The broadcast queue: outgoing broadcasts. A broadcast without connected subscribers waits until
//! its deadline, then the node reports it as expired.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use p2p_node_protocol::Priority;
use p2p_node_wire::envelope::Batch;
use p2p_node_wire::envelope::limits::MAX_BATCH_MESSAGES;
use p2p_node_wire::message_id::{MessageIdPrefix, StreamNamespace, message_id, message_name};
use p2p_node_wire::time::Instant;

use crate::budget::{BudgetedQueue, Limit, Weigh};
use crate::capacity::{NoRoom, Wait, limit_for};
use crate::input::{PublishOutcome, Token};
use crate::outgoing::OutgoingMessage;

/// Largest number of topics with broadcasts or used streams: as many as a node may subscribe to.
pub const MAX_TOPICS: usize = 256;
/// Largest number of queued broadcasts of one topic: our choice. At the lowest rate of the
/// pacer, 1 MiB a second, the limit in bytes below is a second of broadcasts.
pub const TOPIC_QUEUE_MESSAGES: usize = 1024;
/// Largest total size of queued broadcasts of one topic, in bytes.
pub const TOPIC_QUEUE_BYTES: usize = 1 << 20;
const TOPIC_QUEUE: Limit = Limit { count: TOPIC_QUEUE_MESSAGES, bytes: TOPIC_QUEUE_BYTES };
/// Pause after a publication that reached no peer although one subscribes: gossipsub excludes peers
/// with a low score. Our choice.
const NO_PEERS_BACKOFF: Duration = Duration::from_millis(250);
/// Time after the first broadcast for which a topic waits for known subscribers that are not
/// connected yet. Our choice: on a healthy network a dial and the announcement of subscriptions
/// take less, and only broadcasts right after a start or a `subscribe` wait.
const SUBSCRIBER_WAIT: Duration = Duration::from_secs(1);
/// Interval between two checks for missing subscribers: our choice. A new subscription ends the
/// wait at once.
const SUBSCRIBER_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Largest payload of a frame, in bytes: 64 KiB less binding, signature and other fields of the
/// frame. A larger message travels alone.
const TOPIC_BATCH_BYTES: usize = 60 << 10;

/// A queued broadcast.
#[derive(Debug)]
pub struct Broadcast {
    /// Stream and sequence number of the broadcast.
    stream: Bytes,
    seq: u64,
    pub(crate) draft: OutgoingMessage,
    deadline: Instant,
    /// Message id, unique in the network.
    pub message_id: String,
}

impl Weigh for Broadcast {
    fn weight(&self) -> usize {
        self.draft.size()
    }
}

#[derive(Debug)]
struct Topic {
    /// Streams by priority, for the ids and sequence numbers only.
    streams: [SequenceCounter; 3],
    queue: BudgetedQueue<Broadcast>,
    in_flight: Option<(Token, Vec<Broadcast>)>,
    /// Earliest deadline of all queued broadcasts.
    next_expiry: Instant,
    /// Time of the next attempt, after a publication that reached no subscriber.
    not_before: Instant,
    /// Time until which the topic waits for missing subscribers. `None` before the first broadcast
    /// was ready to leave.
    subscribers_awaited_until: Option<Instant>,
}

impl Topic {
    fn new(origin: &StreamNamespace, incarnation: u64, name: &str) -> Self {
        Topic {
            streams: SequenceCounter::new(origin, incarnation, name),
            queue: BudgetedQueue::default(),
            in_flight: None,
            next_expiry: Instant::MAX,
            not_before: Instant::ZERO,
            subscribers_awaited_until: None,
        }
    }

    /// Computes the earliest deadline again.
    fn update_deadline(&mut self) {
        let deadlines = self.queue.iter().map(|broadcast| broadcast.deadline);
        self.next_expiry = deadlines.min().unwrap_or(Instant::MAX);
    }
}

/// The stream of a topic and priority, and the next sequence number in it.
#[derive(Debug)]
struct SequenceCounter {
    stream: Bytes,
    prefix: MessageIdPrefix,
    next: u64,
}

impl SequenceCounter {
    /// Creates the streams of a topic, one for each priority.
    fn new(origin: &StreamNamespace, incarnation: u64, topic: &str) -> [SequenceCounter; 3] {
        [Priority::Low, Priority::Medium, Priority::High].map(|priority| {
            let stream = origin.stream(b"topic", incarnation, topic.as_bytes(), priority);
            let prefix = message_name(&origin.account, &stream);
            SequenceCounter { stream: Bytes::copy_from_slice(&stream), prefix, next: 1 }
        })
    }
}

/// The queues of all topics.
#[derive(Debug)]
pub struct BroadcastQueue {
    origin: StreamNamespace,
    topics: BTreeMap<String, Topic>,
    incarnation: u64,
    /// The topic of the last frame.
    last_served: String,
}

impl BroadcastQueue {
    /// Creates an empty queue.
    pub fn new(origin: StreamNamespace) -> Self {
        BroadcastQueue { origin, topics: BTreeMap::new(), incarnation: 0, last_served: String::new() }
    }

    /// Queues a broadcast, which expires at `deadline` if the topic has no subscribers by then.
    /// Returns its message id.
    ///
    /// # Errors
    /// Fails when the queue is full. Returns the broadcast, and how long it may wait for capacity.
    pub fn accept(
        &mut self,
        name: &str,
        draft: OutgoingMessage,
        deadline: Instant,
    ) -> Result<String, Box<NoRoom>> {
        if let Some(wait) = self.wait_for(name, &draft) {
            return Err(Box::new(NoRoom { draft, wait }));
        }
        let topic = self.open(name);
        let counter = &mut topic.streams[draft.priority as usize];
        let seq = counter.next;
        counter.next += 1;
        let message_id = message_id(&counter.prefix, seq);
        let stream = counter.stream.clone();
        topic.next_expiry = topic.next_expiry.min(deadline);
        topic.queue.push(Broadcast { stream, seq, draft, deadline, message_id: message_id.clone() });
        Ok(message_id)
    }

    /// Returns how long a broadcast may wait for capacity, or `None` if there is capacity.
    pub fn wait_for(&self, name: &str, draft: &OutgoingMessage) -> Option<Wait> {
        let Some(topic) = self.topics.get(name) else {
            let is_idle = |topic: &Topic| topic.queue.is_empty() && topic.in_flight.is_none();
            let full = self.topics.len() >= MAX_TOPICS && !self.topics.values().any(is_idle);
            return full.then_some(Wait::Shared(Instant::ZERO));
        };
        let full = !topic.queue.budget().fits(draft.size(), limit_for(TOPIC_QUEUE, draft.priority));
        // Frames leave at the rate of the pacer, so only the longest pause limits the wait.
        (!topic.queue.is_empty() && full).then_some(Wait::Shared(Instant::MAX))
    }

    fn open(&mut self, name: &str) -> &mut Topic {
        if !self.topics.contains_key(name) {
            if self.topics.len() >= MAX_TOPICS {
                self.topics.retain(|_, topic| !topic.queue.is_empty() || topic.in_flight.is_some());
            }
            self.incarnation += 1;
        }
        let (origin, incarnation) = (&self.origin, self.incarnation);
        self.topics.entry(name.to_owned()).or_insert_with(|| Topic::new(origin, incarnation, name))
    }

    /// Numbers later broadcasts in the streams of this namespace. Queued broadcasts keep their ids,
    /// which the parent knows already.
    pub fn renew(&mut self, origin: StreamNamespace) {
        self.origin = origin;
        for (name, topic) in &mut self.topics {
            self.incarnation += 1;
            topic.streams = SequenceCounter::new(&self.origin, self.incarnation, name);
        }
    }

    /// Returns the topics with broadcasts that may leave, and the earliest time of each. The order
    /// starts after the last served topic, so that all topics are served in rotation.
    pub fn topics_with_work(&self) -> Vec<(String, Instant)> {
        let ready = |(_, topic): &(&String, &Topic)| !topic.queue.is_empty() && topic.in_flight.is_none();
        let after = (Bound::Excluded(&self.last_served), Bound::Unbounded);
        let up_to = (Bound::Unbounded, Bound::Included(&self.last_served));
        let in_rotation = self.topics.range::<String, _>(after).chain(self.topics.range::<String, _>(up_to));
        in_rotation.filter(ready).map(|(name, topic)| (name.clone(), topic.not_before)).collect()
    }

    /// Returns `true` if the broadcasts of a topic may still wait for known subscribers that are
    /// not connected.
    pub fn may_await_subscribers(&mut self, name: &str, now: Instant) -> bool {
        let Some(topic) = self.topics.get_mut(name) else { return false };
        let until = *topic.subscribers_awaited_until.get_or_insert(now + SUBSCRIBER_WAIT);
        // No broadcast expires because of this wait.
        now < until && now + SUBSCRIBER_CHECK_INTERVAL < topic.next_expiry
    }

    /// Delays the broadcasts of a topic, to wait for missing subscribers.
    pub fn await_subscribers(&mut self, name: &str, now: Instant) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.not_before = now + SUBSCRIBER_CHECK_INTERVAL;
        }
    }

    /// Ends the delay of a topic, because a peer subscribed to the topic.
    pub fn on_subscriber(&mut self, name: &str) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.not_before = Instant::ZERO;
        }
    }

    /// Puts the next batch of a topic in flight under `token`: high priority first, the others in
    /// the order of acceptance.
    pub fn next_frame(&mut self, name: &str, token: Token, now: Instant) -> Option<Batch> {
        let topic = self.topics.get_mut(name).filter(|topic| topic.in_flight.is_none())?;
        let has_high = topic.queue.iter().any(|broadcast| broadcast.draft.priority == Priority::High);
        let mut batch = Batch::default();
        let (mut flight, mut bytes, mut index) = (Vec::new(), 0, 0);
        while let Some(broadcast) = topic.queue.get(index) {
            if has_high && broadcast.draft.priority != Priority::High {
                index += 1;
                continue;
            }
            let size = broadcast.draft.size();
            if !flight.is_empty() && bytes + size > TOPIC_BATCH_BYTES || flight.len() >= MAX_BATCH_MESSAGES {
                break;
            }
            let Some(broadcast) = topic.queue.remove(index) else { break };
            bytes += size;
            batch.messages.push(broadcast.draft.encode(&broadcast.stream, broadcast.seq, 0, None, now));
            flight.push(broadcast);
        }
        if flight.is_empty() {
            return None;
        }
        topic.in_flight = Some((token, flight));
        self.last_served = name.to_owned();
        Some(batch)
    }

    /// Returns the broadcasts of a publication.
    pub fn in_flight(&self, token: Token) -> &[Broadcast] {
        let flights = self.topics.values().filter_map(|topic| topic.in_flight.as_ref());
        flights
            .filter(|(flight, _)| *flight == token)
            .map(|(_, flight)| flight.as_slice())
            .next()
            .unwrap_or_default()
    }

    /// Handles the outcome of a publication. Returns the broadcasts that the node does not send
    /// again.
    pub fn published(&mut self, token: Token, outcome: PublishOutcome, now: Instant) -> Vec<Broadcast> {
        let in_flight =
            |topic: &&mut Topic| topic.in_flight.as_ref().is_some_and(|(flight, _)| *flight == token);
        let Some(topic) = self.topics.values_mut().find(in_flight) else { return Vec::new() };
        let Some((_, flight)) = topic.in_flight.take() else { return Vec::new() };
        match outcome {
            PublishOutcome::Sent | PublishOutcome::QueuesFull | PublishOutcome::Duplicate => Vec::new(),
            PublishOutcome::TooLarge => flight,
            PublishOutcome::NoPeers => {
                topic.not_before = now + NO_PEERS_BACKOFF;
                flight.into_iter().rev().for_each(|broadcast| topic.queue.push_first(broadcast));
                topic.update_deadline();
                Vec::new()
            }
        }
    }

    /// Removes and returns expired broadcasts.
    pub fn expired(&mut self, now: Instant) -> Vec<Broadcast> {
        let mut expired = Vec::new();
        for topic in self.topics.values_mut() {
            if topic.next_expiry > now {
                continue;
            }
            // High-priority broadcasts may precede older ones, so the whole queue is searched.
            expired.extend(topic.queue.remove_where(|broadcast| broadcast.deadline <= now));
            topic.update_deadline();
        }
        expired
    }

    /// Removes and returns the queued broadcasts for which `should_remove` returns `true`.
    pub fn remove_where(&mut self, should_remove: impl Fn(&Broadcast) -> bool) -> Vec<Broadcast> {
        let mut out = Vec::new();
        for topic in self.topics.values_mut() {
            out.extend(topic.queue.remove_where(&should_remove));
            topic.update_deadline();
        }
        out
    }

    /// Returns `true` if there is a broadcast for which `is_meant` returns `true`.
    pub(crate) fn has(&self, is_meant: impl Fn(&OutgoingMessage) -> bool) -> bool {
        let of_topic = |topic: &Topic| {
            let in_flight = topic.in_flight.iter().flat_map(|(_, broadcasts)| broadcasts);
            topic.queue.iter().chain(in_flight).any(|broadcast| is_meant(&broadcast.draft))
        };
        self.topics.values().any(of_topic)
    }

    /// Removes and returns all broadcasts, including those in flight.
    pub fn drain_all(&mut self) -> Vec<Broadcast> {
        let mut drained = Vec::new();
        for topic in self.topics.values_mut() {
            drained.extend(topic.in_flight.take().into_iter().flat_map(|(_, flight)| flight));
            drained.extend(topic.queue.take());
        }
        drained
    }

    /// Returns the time at which the next broadcast expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.topics.values().filter(|topic| !topic.queue.is_empty());
        waiting.map(|topic| topic.next_expiry).min()
    }

    /// Returns the number of topics with broadcasts or used streams.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Returns the number of queued broadcasts.
    pub fn queued(&self) -> usize {
        self.topics.values().map(|topic| topic.queue.len()).sum()
    }

    /// Returns `true` if no broadcast is queued or in flight.
    pub fn is_empty(&self) -> bool {
        self.topics.values().all(|topic| topic.queue.is_empty() && topic.in_flight.is_none())
    }
}

#[cfg(test)]
mod tests;
