//! Broadcasts on their way out. What cannot go, because nobody who subscribes is connected, is held and told.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use p2p_node_protocol::{Id, Priority};

use super::outbox::Full;
use super::stream::{Draft, Stream};
use crate::core::envelope::Batch;
use crate::core::envelope::limits::MAX_BATCH_MESSAGES;
use crate::core::input::{PublishOutcome, Token};

/// Topics with broadcasts, or with streams that were used. Ours: as many as a node subscribes to.
pub const MAX_TOPICS: usize = 256;
/// Broadcasts of one topic that wait. Ours: with the bytes, a second of pauses at the pace of `delivery::pacing`.
pub const TOPIC_QUEUE_MESSAGES: usize = 1024;
/// … in bytes.
pub const TOPIC_QUEUE_BYTES: usize = 1 << 20;
/// How long a topic waits that nobody heard though somebody subscribes: gossipsub leaves out peers that it distrusts. Ours.
const UNHEARD_PAUSE: Duration = Duration::from_millis(250);
/// Most payload in a frame: 64 KiB less binding, signature and the frame's own fields. One larger message goes alone.
const TOPIC_BATCH_BYTES: usize = 60 << 10;

/// A broadcast that waits.
#[derive(Debug)]
pub struct Broadcast {
    /// Its number in its stream.
    seq: u64,
    draft: Draft,
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
}

impl Topic {
    fn find_earliest(&mut self) {
        let give_ups = self.queue.iter().map(|broadcast| broadcast.give_up);
        self.earliest = give_ups.min().unwrap_or(Duration::MAX);
    }
}

#[derive(Debug)]
struct Numbers {
    id: Bytes,
    hex: String,
    next: u64,
}

/// Every topic.
#[derive(Debug)]
pub struct Topics {
    database: [u8; 16],
    topics: BTreeMap<String, Topic>,
    incarnation: u64,
    /// The topic whose frame went last.
    served: String,
}

impl Topics {
    /// No broadcasts; `database` as for the outbox.
    pub fn new(database: [u8; 16]) -> Self {
        Topics { database, topics: BTreeMap::new(), incarnation: 0, served: String::new() }
    }

    /// Takes a broadcast, to be given up at `give_up` if nobody subscribes by then; returns its message id.
    ///
    /// # Errors
    /// When too much waits.
    pub fn accept(&mut self, name: &str, draft: Draft, give_up: Duration) -> Result<String, Full> {
        if !self.topics.contains_key(name) {
            if self.topics.len() >= MAX_TOPICS {
                self.topics.retain(|_, topic| !topic.queue.is_empty() || topic.in_flight.is_some());
            }
            if self.topics.len() >= MAX_TOPICS {
                return Err(Full);
            }
            self.incarnation += 1;
            let numbers = |priority| {
                let stream =
                    Stream::new(&self.database, b"topic", self.incarnation, name.as_bytes(), priority);
                Numbers { id: stream.id().clone(), hex: hex::encode(stream.id()), next: 1 }
            };
            let topic = Topic {
                streams: [numbers(Priority::Low), numbers(Priority::Medium), numbers(Priority::High)],
                queue: VecDeque::new(),
                bytes: 0,
                in_flight: None,
                earliest: Duration::MAX,
                not_before: Duration::ZERO,
            };
            self.topics.insert(name.to_owned(), topic);
        }
        let Some(topic) = self.topics.get_mut(name) else { return Err(Full) };
        let size = draft.size();
        if !topic.queue.is_empty()
            && (topic.queue.len() >= TOPIC_QUEUE_MESSAGES || topic.bytes + size > TOPIC_QUEUE_BYTES)
        {
            return Err(Full);
        }
        let numbers = &mut topic.streams[draft.priority as usize];
        let seq = numbers.next;
        numbers.next += 1;
        let message_id = format!("{}-{seq}", numbers.hex);
        let request_id = draft.request_id.clone();
        topic.bytes += size;
        topic.earliest = topic.earliest.min(give_up);
        topic.queue.push_back(Broadcast { seq, draft, give_up, message_id: message_id.clone(), request_id });
        Ok(message_id)
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
            let stream = &topic.streams[broadcast.draft.priority as usize].id;
            batch.messages.push(broadcast.draft.encode(stream, broadcast.seq, 0, now));
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

    /// Whether so much of a topic waits, whatever for, that stdin should pause.
    pub fn congested(&self, name: &str) -> bool {
        self.topics.get(name).is_some_and(|topic| {
            topic.queue.len() >= TOPIC_QUEUE_MESSAGES / 2 || topic.bytes >= TOPIC_QUEUE_BYTES / 2
        })
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
mod tests {
    use super::*;
    use crate::core::envelope::Encoding;
    use p2p_node_protocol::Route;

    const HOLD: Duration = Duration::from_secs(10);

    fn draft(priority: Priority, size: usize) -> Draft {
        Draft {
            data: Bytes::from(vec![b'1'; size]),
            encoding: Encoding::Json,
            kind: String::new(),
            priority,
            sent_at_ms: 0,
            expires: Duration::from_secs(60),
            reply_to: String::new(),
            conversation: String::new(),
            route: Route::Auto,
            request_id: None,
        }
    }

    fn accept(topics: &mut Topics, priority: Priority, size: usize) -> Result<String, Full> {
        topics.accept("jobs", draft(priority, size), HOLD)
    }

    #[test]
    fn high_priority_leaves_first_and_one_frame_at_a_time() {
        let mut topics = Topics::new([1; 16]);
        accept(&mut topics, Priority::Low, 1).unwrap();
        accept(&mut topics, Priority::High, 2).unwrap();
        let batch = topics.next_frame("jobs", 1, Duration::ZERO).unwrap();
        assert_eq!(batch.messages.iter().map(|message| message.data.len()).collect::<Vec<_>>(), [2]);
        assert!(topics.next_frame("jobs", 2, Duration::ZERO).is_none(), "one is in flight");
        assert!(topics.published(1, PublishOutcome::Sent, Duration::ZERO).is_empty());
        assert_eq!(topics.next_frame("jobs", 3, Duration::ZERO).unwrap().messages.len(), 1);
    }

    #[test]
    fn what_nobody_heard_goes_back_and_is_given_up_in_the_end() {
        let mut topics = Topics::new([1; 16]);
        let first = accept(&mut topics, Priority::Medium, 1).unwrap();
        accept(&mut topics, Priority::Medium, 1).unwrap();
        topics.next_frame("jobs", 1, Duration::ZERO).unwrap();
        topics.published(1, PublishOutcome::NoPeers, Duration::ZERO);
        assert_eq!(topics.held(), 2);
        assert_eq!(topics.next_deadline(), Some(HOLD));
        assert!(topics.expired(HOLD - Duration::from_millis(1)).is_empty());
        let expired = topics.expired(HOLD);
        assert_eq!((expired.len(), &expired[0].message_id), (2, &first));
        assert!(topics.is_empty());
    }

    #[test]
    fn topics_take_turns_and_one_that_nobody_hears_pauses() {
        let mut topics = Topics::new([1; 16]);
        for name in ["a", "b", "c"] {
            topics.accept(name, draft(Priority::Medium, 1), HOLD).unwrap();
            topics.accept(name, draft(Priority::Medium, 1), HOLD).unwrap();
        }
        let names = |topics: &Topics| -> Vec<String> {
            topics.topics_with_work().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&topics), ["a", "b", "c"]);
        topics.next_frame("a", 1, Duration::ZERO).unwrap();
        assert_eq!(names(&topics), ["b", "c"]);
        topics.published(1, PublishOutcome::NoPeers, Duration::ZERO);
        assert_eq!(names(&topics), ["b", "c", "a"], "its turn is over");
        assert_eq!(topics.topics_with_work()[2].1, UNHEARD_PAUSE);
        topics.heard("a");
        assert_eq!(topics.topics_with_work()[2].1, Duration::ZERO);
    }

    #[test]
    fn what_is_in_flight_is_not_forgotten_at_the_end() {
        let mut topics = Topics::new([1; 16]);
        accept(&mut topics, Priority::Medium, 1).unwrap();
        topics.next_frame("jobs", 1, Duration::ZERO).unwrap();
        assert!(!topics.is_empty());
        assert_eq!(topics.drain_all().len(), 1);
        assert!(topics.is_empty());
    }

    #[test]
    fn each_is_given_up_in_its_time_whatever_stands_before_it() {
        let mut topics = Topics::new([1; 16]);
        accept(&mut topics, Priority::Medium, 1).unwrap();
        topics.accept("jobs", draft(Priority::High, 1), HOLD * 2).unwrap();
        topics.next_frame("jobs", 1, Duration::ZERO).unwrap();
        topics.published(1, PublishOutcome::NoPeers, Duration::ZERO);
        assert_eq!(topics.next_deadline(), Some(HOLD));
        assert_eq!(topics.expired(HOLD).len(), 1, "the older of lower priority");
        assert_eq!(topics.next_deadline(), Some(HOLD * 2));
    }

    #[test]
    fn a_frame_closes_at_its_limit_and_takes_one_larger_message_alone() {
        let mut topics = Topics::new([1; 16]);
        for _ in 0..3 {
            accept(&mut topics, Priority::Medium, 25 << 10).unwrap();
        }
        accept(&mut topics, Priority::Medium, 61 << 10).unwrap();
        let mut frames = Vec::new();
        for token in 1.. {
            let Some(batch) = topics.next_frame("jobs", token, Duration::ZERO) else { break };
            frames.push(batch.messages.len());
            topics.published(token, PublishOutcome::Sent, Duration::ZERO);
        }
        assert_eq!(frames, [2, 1, 1]);
    }

    #[test]
    fn topics_and_their_queues_are_bounded() {
        let mut topics = Topics::new([1; 16]);
        for _ in 0..TOPIC_QUEUE_MESSAGES {
            accept(&mut topics, Priority::Medium, 1).unwrap();
        }
        assert!(topics.congested("jobs"));
        assert_eq!(accept(&mut topics, Priority::High, 1), Err(Full));
        for index in 1..MAX_TOPICS {
            topics.accept(&index.to_string(), draft(Priority::Low, TOPIC_QUEUE_BYTES), HOLD).unwrap();
        }
        assert_eq!(topics.accept("one more", draft(Priority::Low, 1), HOLD), Err(Full));
        assert_eq!(topics.accept("1", draft(Priority::Low, 1), HOLD), Err(Full));
        topics.expired(HOLD);
        assert!(
            topics.accept("one more", draft(Priority::Low, 1), HOLD).is_ok(),
            "topics without work make room"
        );
    }

    #[test]
    fn what_is_too_large_for_the_network_comes_back() {
        let mut topics = Topics::new([1; 16]);
        accept(&mut topics, Priority::Medium, 1).unwrap();
        topics.next_frame("jobs", 1, Duration::ZERO).unwrap();
        assert_eq!(topics.published(1, PublishOutcome::TooLarge, Duration::ZERO).len(), 1);
        assert!(topics.is_empty());
    }
}
