//! Broadcasts on their way out. What cannot go, because nobody who subscribes is connected, is held and told.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use p2p_node_protocol::{Id, Priority};

use crate::input::{PublishOutcome, Token};
use crate::mail::outbound::outbox::share;
use crate::mail::outbound::stream::OutgoingMessage;
use crate::parent::send_lane::{NoRoom, Wait};
use p2p_node_wire::envelope::Batch;
use p2p_node_wire::envelope::limits::MAX_BATCH_MESSAGES;
use p2p_node_wire::message_id::{MessageIdPrefix, StreamNamespace, message_id, message_name};

/// Topics with broadcasts, or with streams that were used. Ours: as many as a node subscribes to.
pub const MAX_TOPICS: usize = 256;
/// Broadcasts of one topic that wait. Ours: with the bytes, a second of pauses at the pace of `delivery::pacing`.
pub const TOPIC_QUEUE_MESSAGES: usize = 1024;
/// … in bytes.
pub const TOPIC_QUEUE_BYTES: usize = 1 << 20;
/// How long a topic waits that nobody heard though somebody subscribes: gossipsub leaves out peers that it distrusts. Ours.
const UNHEARD_PAUSE: Duration = Duration::from_millis(250);
/// How long after its first broadcast a topic waits for subscribers that are known and not connected yet. Ours: a dial and its subscriptions take less
/// on a healthy network, and only what is published right after a start or a `subscribe` meets it.
const GATHER: Duration = Duration::from_secs(1);
/// How often it is looked who is missing. Ours; a subscription that comes ends the pause at once.
const GATHER_PAUSE: Duration = Duration::from_millis(50);
/// Most payload in a frame: 64 KiB less binding, signature and the frame's own fields. One larger message goes alone.
const TOPIC_BATCH_BYTES: usize = 60 << 10;

/// A broadcast that waits.
#[derive(Debug)]
pub struct Broadcast {
    /// Its stream, and its number there.
    stream: Bytes,
    seq: u64,
    draft: OutgoingMessage,
    give_up: Duration,
    /// Names it across the network.
    pub message_id: String,
    /// The id of the `send`.
    pub request_id: Option<Id>,
}

#[derive(Debug)]
struct Topic {
    /// By priority; only their names and numbers are used.
    streams: [Numbers; 3],
    queue: VecDeque<Broadcast>,
    bytes: usize,
    in_flight: Option<(Token, Vec<Broadcast>)>,
    /// No broadcast of the queue is given up before.
    earliest: Duration,
    /// When it may be tried again, after nobody heard it although somebody subscribes.
    not_before: Duration,
    /// Until when known subscribers that are missing are waited for; none yet: no broadcast was about to go.
    gathers_until: Option<Duration>,
}

impl Topic {
    fn new(origin: &StreamNamespace, incarnation: u64, name: &str) -> Self {
        Topic {
            streams: Numbers::new(origin, incarnation, name),
            queue: VecDeque::new(),
            bytes: 0,
            in_flight: None,
            earliest: Duration::MAX,
            not_before: Duration::ZERO,
            gathers_until: None,
        }
    }

    fn find_earliest(&mut self) {
        let give_ups = self.queue.iter().map(|broadcast| broadcast.give_up);
        self.earliest = give_ups.min().unwrap_or(Duration::MAX);
    }
}

#[derive(Debug)]
struct Numbers {
    stream: Bytes,
    name: MessageIdPrefix,
    next: u64,
}

impl Numbers {
    /// Those of the streams of a topic, by priority.
    fn new(origin: &StreamNamespace, incarnation: u64, topic: &str) -> [Numbers; 3] {
        [Priority::Low, Priority::Medium, Priority::High].map(|priority| {
            let stream = origin.stream(b"topic", incarnation, topic.as_bytes(), priority);
            let name = message_name(&origin.account, &stream);
            Numbers { stream: Bytes::copy_from_slice(&stream), name, next: 1 }
        })
    }
}

/// Every topic.
#[derive(Debug)]
pub struct BroadcastQueue {
    origin: StreamNamespace,
    topics: BTreeMap<String, Topic>,
    incarnation: u64,
    /// The topic whose frame went last.
    served: String,
}

impl BroadcastQueue {
    /// No broadcasts.
    pub fn new(origin: StreamNamespace) -> Self {
        BroadcastQueue { origin, topics: BTreeMap::new(), incarnation: 0, served: String::new() }
    }

    /// Takes a broadcast, to be given up at `give_up` if nobody subscribes by then; returns its message id.
    ///
    /// # Errors
    /// When too much waits: the broadcast, and how long to wait for room if the topic is heard.
    pub fn accept(
        &mut self,
        name: &str,
        draft: OutgoingMessage,
        give_up: Duration,
    ) -> Result<String, Box<NoRoom>> {
        if let Some(wait) = self.wait_for(name, &draft) {
            return Err(Box::new(NoRoom { draft, wait }));
        }
        let topic = self.open(name);
        let numbers = &mut topic.streams[draft.priority as usize];
        let seq = numbers.next;
        numbers.next += 1;
        let message_id = message_id(&numbers.name, seq);
        let request_id = draft.request_id.clone();
        let stream = numbers.stream.clone();
        topic.bytes += draft.size();
        topic.earliest = topic.earliest.min(give_up);
        topic.queue.push_back(Broadcast {
            stream,
            seq,
            draft,
            give_up,
            message_id: message_id.clone(),
            request_id,
        });
        Ok(message_id)
    }

    /// How long to wait for room for a broadcast, unless there is some.
    pub fn wait_for(&self, name: &str, draft: &OutgoingMessage) -> Option<Wait> {
        let Some(topic) = self.topics.get(name) else {
            let is_idle = |topic: &Topic| topic.queue.is_empty() && topic.in_flight.is_none();
            let full = self.topics.len() >= MAX_TOPICS && !self.topics.values().any(is_idle);
            return full.then_some(Wait::Shared(Duration::ZERO));
        };
        let of = |room| share(room, draft.priority);
        let full = topic.queue.len() >= of(TOPIC_QUEUE_MESSAGES)
            || topic.bytes + draft.size() > of(TOPIC_QUEUE_BYTES);
        // Frames leave at the pace of gossip, so that only the longest pause limits the wait.
        (!topic.queue.is_empty() && full).then_some(Wait::Shared(Duration::MAX))
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

    /// Broadcasts to come are numbered in the streams of this origin. Those that wait keep their names, which were told.
    pub fn renew(&mut self, origin: StreamNamespace) {
        self.origin = origin;
        for (name, topic) in &mut self.topics {
            self.incarnation += 1;
            topic.streams = Numbers::new(&self.origin, self.incarnation, name);
        }
    }

    /// Topics with broadcasts that could go out in a frame, and from when on; those after the one that was served last come
    /// first, so that none waits for ever behind its name.
    pub fn topics_with_work(&self) -> Vec<(String, Duration)> {
        let ready = |(_, topic): &(&String, &Topic)| !topic.queue.is_empty() && topic.in_flight.is_none();
        let after = (Bound::Excluded(&self.served), Bound::Unbounded);
        let up_to = (Bound::Unbounded, Bound::Included(&self.served));
        let in_turn = self.topics.range::<String, _>(after).chain(self.topics.range::<String, _>(up_to));
        in_turn.filter(ready).map(|(name, topic)| (name.clone(), topic.not_before)).collect()
    }

    /// Whether the broadcasts of a topic may still wait for known subscribers that are missing.
    pub fn may_gather(&mut self, name: &str, now: Duration) -> bool {
        let Some(topic) = self.topics.get_mut(name) else { return false };
        let until = *topic.gathers_until.get_or_insert(now + GATHER);
        // None is given up for that.
        now < until && now + GATHER_PAUSE < topic.earliest
    }

    /// Lets the broadcasts of a topic wait a moment for subscribers that are missing.
    pub fn gather(&mut self, name: &str, now: Duration) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.not_before = now + GATHER_PAUSE;
        }
    }

    /// Somebody who hears a topic has come: what nobody heard may be tried again.
    pub fn heard(&mut self, name: &str) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.not_before = Duration::ZERO;
        }
    }

    /// Puts the next batch of a topic into flight under `token`: high priority first, otherwise as accepted.
    pub fn next_frame(&mut self, name: &str, token: Token, now: Duration) -> Option<Batch> {
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
        topic.bytes -= bytes;
        if flight.is_empty() {
            return None;
        }
        topic.in_flight = Some((token, flight));
        self.served = name.to_owned();
        Some(batch)
    }

    /// How a frame went; returns the broadcasts that cannot go at all.
    pub fn published(&mut self, token: Token, outcome: PublishOutcome, now: Duration) -> Vec<Broadcast> {
        let in_flight =
            |topic: &&mut Topic| topic.in_flight.as_ref().is_some_and(|(flight, _)| *flight == token);
        let Some(topic) = self.topics.values_mut().find(in_flight) else { return Vec::new() };
        let Some((_, flight)) = topic.in_flight.take() else { return Vec::new() };
        match outcome {
            PublishOutcome::Sent | PublishOutcome::QueuesFull | PublishOutcome::Duplicate => Vec::new(),
            PublishOutcome::TooLarge => flight,
            PublishOutcome::NoPeers => {
                topic.not_before = now + UNHEARD_PAUSE;
                topic.bytes += flight.iter().map(|broadcast| broadcast.draft.size()).sum::<usize>();
                flight.into_iter().rev().for_each(|broadcast| topic.queue.push_front(broadcast));
                topic.find_earliest();
                Vec::new()
            }
        }
    }

    /// Takes out what was held long enough.
    pub fn expired(&mut self, now: Duration) -> Vec<Broadcast> {
        let mut expired = Vec::new();
        for topic in self.topics.values_mut() {
            if topic.earliest > now {
                continue;
            }
            // Those of high priority may stand before older ones.
            let (over, kept) =
                topic.queue.drain(..).partition::<Vec<_>, _>(|broadcast| broadcast.give_up <= now);
            topic.queue = kept.into();
            topic.find_earliest();
            topic.bytes -= over.iter().map(|broadcast| broadcast.draft.size()).sum::<usize>();
            expired.extend(over);
        }
        expired
    }

    /// Takes out those that wait and for which `dead` holds.
    pub fn remove_where(&mut self, dead: impl Fn(&Broadcast) -> bool) -> Vec<Broadcast> {
        let mut out = Vec::new();
        for topic in self.topics.values_mut() {
            let (taken, kept) = topic.queue.drain(..).partition::<Vec<_>, _>(&dead);
            topic.queue = kept.into();
            topic.find_earliest();
            topic.bytes -= taken.iter().map(|broadcast| broadcast.draft.size()).sum::<usize>();
            out.extend(taken);
        }
        out
    }

    /// Takes out everything, also what is in flight.
    pub fn drain_all(&mut self) -> Vec<Broadcast> {
        let mut drained = Vec::new();
        for topic in self.topics.values_mut() {
            topic.bytes = 0;
            drained.extend(topic.in_flight.take().into_iter().flat_map(|(_, flight)| flight));
            drained.extend(topic.queue.drain(..));
        }
        drained
    }

    /// When the first broadcast has been held long enough.
    pub fn next_deadline(&self) -> Option<Duration> {
        let waiting = self.topics.values().filter(|topic| !topic.queue.is_empty());
        waiting.map(|topic| topic.earliest).min()
    }

    /// Topics with broadcasts, or with streams that were used.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Broadcasts that wait.
    pub fn held(&self) -> usize {
        self.topics.values().map(|topic| topic.queue.len()).sum()
    }

    /// Whether none waits, and none is in flight.
    pub fn is_empty(&self) -> bool {
        self.topics.values().all(|topic| topic.queue.is_empty() && topic.in_flight.is_none())
    }
}

#[cfg(test)]
mod tests;
